"""A cost of one's own: the memory that a small device needs for activations.

python examples/own_cost.py       # some seconds on two cores
"""

from __future__ import annotations

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm


class ActivationBytes(sn.CostModel):
    """All that the layers write for one example, kept in 8 bits."""

    unit = "bytes"

    def layer(self, module, inputs, outputs):
        return sum(output.numel() for output in outputs)


@sn.space(input=(1, 28, 28))
def tiny(nn=sn.nn):
    width = sn.oneof([4, 8, 16, 32], name="width")
    conv = nn.Conv2d(1, width, sn.oneof([3, 5, 7]), stride=sn.oneof([1, 2]))
    return nn.Sequential(
        conv, nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(width * 16, 10)
    )


def main(trials: int = 10) -> sn.Study:
    memory, parameters = ActivationBytes(), cm.Parameters()
    space = tiny()
    print(space.summary(costs=[memory, parameters]), "\n")
    study = sn.search(
        space,
        alg.RandomSearch(),
        lambda architecture: {"width": architecture["width"]},  # stands for an accuracy
        maximize="width",
        minimize=[parameters],
        subject_to=[memory <= 10_000],
        trials=trials,
        progress=False,
    )
    for trial in study.trials:
        assert trial.costs["activation_bytes"] <= 10_000
    print(f"{len(study.trials)} trials, each within 10,000 bytes of activations")
    return study


if __name__ == "__main__":
    main()
