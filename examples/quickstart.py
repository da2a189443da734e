"""Declare a space, search it, use what was found: the twenty lines of the README, run."""

from torch import nn

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas import data


@sn.symbolize  # an ordinary nn.Module class
class Block(nn.Module):
    def __init__(self, channels, kernel_size=3, expansion=2):
        super().__init__()
        inner = channels * expansion
        self.body = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, inner, kernel_size, padding=kernel_size // 2, groups=inner),
            nn.BatchNorm2d(inner), nn.ReLU(), nn.Conv2d(inner, channels, 1),
        )  # fmt: skip

    def forward(self, x):
        return x + self.body(x)


@sn.space(input=(1, 8, 8))  # a function that returns a program with choices
def tiny(classes=10):
    width = sn.oneof([8, 16, 24], name="width")
    return sn.nn.Sequential(
        sn.nn.Conv2d(1, width, 3, padding=1),
        sn.repeat(
            lambda i: Block(width, kernel_size=sn.oneof([3, 5]), expansion=sn.oneof([1, 2, 3])),
            times=sn.intv(1, 4),
        ),
        sn.nn.AdaptiveAvgPool2d(2),
        sn.nn.Flatten(),
        sn.nn.Linear(width * 4, classes),
    )


if __name__ == "__main__":
    digits = data.digits()
    task = sn.Task(digits.train, test=digits.test, epochs=3, lr=1e-2, schedule="onecycle")
    study = sn.search(
        tiny(),
        alg.RegularizedEvolution(population_size=4, tournament_size=2),  # the line that swaps
        task,
        maximize="accuracy",
        subject_to=[cm.Macs() <= 200_000],
        trials=10,
    )
    best = study.best
    print(best.architecture.choices)
    print(f"validation accuracy {best.metrics['accuracy']:.3f}, {best.costs['macs']:,.0f} MACs")

    model = best.architecture.build()  # an ordinary nn.Module, with fresh weights
    task.fit(model, epochs=10)
    print(f"test accuracy {task.test(model)['accuracy']:.3f} after 10 epochs")
