"""What a task is told about the trial that it evaluates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
from torch import nn

from symnas.tasks.weights import save_weights


def _ignore(step: int, value: float) -> None:
    """Reports of an evaluation by hand go nowhere."""


@attrs.frozen
class TrialContext:
    """The circumstances of one evaluation; the defaults serve evaluations by hand.

    Attributes:
        number: index of the trial in its study, from 0.
        seed: everything random in the evaluation follows from it.
        budget: how much to spend, in the task's own unit (epochs for `sn.Task`); None is all.
        device: where to compute (`"cuda:1"`), or None where the task may choose.
        path: a folder of the trial's own for files, or None where nothing may be written.
        report: `report(step, value)` tells an intermediate result.

    >>> TrialContext(seed=3, budget=2).seed
    3
    """

    number: int = 0
    seed: int = 0
    budget: float | None = None
    device: str | None = None
    path: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    report: Callable[[int, float], None] = _ignore

    def save(self, model: nn.Module) -> None:
        """Keeps the weights of `model` as `weights.pt` in the trial's folder, if it has one."""
        if self.path is not None:
            save_weights(model, self.path / "weights.pt")
