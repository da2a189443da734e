"""Spaces and tasks of the tests of searches; a module of its own, so that workers can import it."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import torch

import symnas as sn


@sn.symbolize
class Layer(torch.nn.Linear):
    """A linear layer with an argument that a task can read."""

    def __init__(self, width: int, scale: float = 1.0) -> None:
        super().__init__(width, width)
        self.scale = scale


def space(layers: int = 4, scales: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)) -> sn.Space:
    """`len(scales) ** layers` architectures."""
    made = [Layer(2, scale=sn.oneof(list(scales))) for _ in range(layers)]
    return sn.Space(sn.nn.Sequential(*made), input=(2,))


def total(architecture: sn.Architecture) -> float:
    """The sum of the row: known for every architecture."""
    assert architecture.row is not None
    return float(sum(architecture.row))


def noisy(architecture: sn.Architecture, trial: Any) -> dict[str, float]:
    """Two metrics, with noise from the trial's seed."""
    value = total(architecture)
    return {"score": value + float(torch.rand(())), "size": value}


def uneven(architecture: sn.Architecture, trial: Any) -> dict[str, float]:
    """`noisy`, finished out of order."""
    time.sleep(0.03 if trial.number % 3 == 0 else 0.0)
    return noisy(architecture, trial)


def trains(architecture: sn.Architecture, trial: Any) -> float:
    """Reports twice and keeps its weights."""
    model = architecture.build()
    trial.report(1, 0.25)
    trial.report(2, 0.5)
    trial.save(model)
    return total(architecture)


def misbehaves(architecture: sn.Architecture, trial: Any) -> Any:
    """Each trial fails in another way, but those from 7 on."""
    match trial.number:
        case 0:
            raise ValueError("too wide")
        case 1:
            os._exit(3)
        case 2:
            os.kill(os.getpid(), signal.SIGKILL)
        case 3:
            time.sleep(60)
        case 4:
            return float("nan")
        case 5:
            return {"other": 1.0}
        case 6:
            hoard = []
            while True:
                hoard.append(bytearray(os.urandom(1 << 20)) * 32)
                trial.report(len(hoard), 0.0)
    return total(architecture)


def reluctant(architecture: sn.Architecture, trial: Any) -> float:
    """Fails at the first attempt of each trial."""
    mark = trial.path / "tried"
    if not mark.exists():
        mark.touch()
        raise RuntimeError("not yet")
    return total(architecture)


def trajectory(study: sn.Study) -> list[tuple[Any, ...]]:
    """What must be equal when two searches are the same."""
    return [(t.number, t.state, t.row, t.scores, t.seed) for t in study.trials]
