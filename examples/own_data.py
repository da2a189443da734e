"""Searching on data of one's own: a torch Dataset, and a table of numbers.

    python examples/own_data.py

Takes about ten seconds on one core.
"""

import torch
from torch.utils.data import Dataset

import symnas as sn
from symnas import algorithms as alg
from symnas import data


class Rings(Dataset):
    """Points in the plane; the class says which of three rings a point is from."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(3, (count,), generator=generator)
        angle = 6.2832 * torch.rand(count, generator=generator)
        radius = 1 + self.labels + 0.2 * torch.randn(count, generator=generator)
        self.points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.points[index], self.labels[index]


@sn.space
def perceptron(inputs, outputs):
    """One to three hidden layers of one width."""
    width = sn.oneof([8, 16, 32], name="width")
    activation = sn.oneof([sn.nn.ReLU(), sn.nn.Tanh(), sn.nn.SiLU()], name="activation")
    return sn.nn.Sequential(
        sn.nn.Linear(inputs, width),
        sn.repeat(
            lambda i: sn.nn.Sequential(activation, sn.nn.Linear(width, width)),
            times=sn.intv(1, 3),
        ),
        activation,
        sn.nn.Linear(width, outputs),
    )


def rings(trials=6):
    """Classification of a Dataset; the learning rate is searched along with the network."""
    task = sn.Task(
        Rings(1000, seed=0),
        test=Rings(500, seed=1),
        epochs=8,
        lr=sn.floatv(1e-3, 3e-2, scale="log"),
    )
    study = sn.search(
        perceptron(inputs=2, outputs=3),
        alg.RandomSearch(),
        task,
        maximize="accuracy",
        trials=trials,
        progress=False,
    )
    best = study.best
    print(f"rings: validation accuracy {best.metrics['accuracy']:.3f}, {dict(best.choices)}")

    # Trained once more, for longer, on all that is not for the test.
    final = task.with_arguments(best.architecture.task)
    model = best.architecture.build()
    final.fit(model, epochs=30, include_validation=True)
    accuracy = final.test(model)["accuracy"]
    print(f"rings: test accuracy {accuracy:.3f}")
    return accuracy


def diabetes(trials=6):
    """Regression on a table: targets are real numbers, the measure is R squared."""
    table = data.table("diabetes")
    task = sn.Task(table.train, test=table.test, epochs=15, lr=3e-3, weight_decay=0.1)
    study = sn.search(
        perceptron(inputs=10, outputs=1),
        alg.RandomSearch(),
        task,
        maximize="r2",
        trials=trials,
        progress=False,
    )
    model = study.best.architecture.build()
    task.fit(model, include_validation=True)
    r2 = task.test(model)["r2"]
    print(f"diabetes: test R2 {r2:.3f}")
    return r2


if __name__ == "__main__":
    rings()
    diabetes()
