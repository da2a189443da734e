"""A task that needs a nonlinearity, spaces, and runs of differentiable one-shot algorithms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import symnas as sn
from symnas.oneshot.training import CHECKPOINT, Training, supernet_of
from symnas.oneshot.workshop import Workshop
from symnas.searching.objectives import Objective
from symnas.searching.problem import Problem

CPU = torch.device("cpu")
# The value of `plain()`'s decisions that can solve the task; it cannot be solved without any.
RELU = 2


def quadrants(n: int = 600) -> tuple[Tensor, Tensor]:
    """Points whose class is the sign of a product, which nothing linear tells."""
    x = torch.rand(n, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return x, (x[:, 0] * x[:, 1] > 0).long()


def task(n: int = 600, **options: Any) -> sn.Task:
    return sn.Task(quadrants(n), **({"epochs": 2, "lr": 0.02, "batch_size": 20} | options))


def plain() -> sn.Space:
    """Two places; their candidates are linear, nothing, and a ReLU."""
    made: list[Any] = [sn.nn.Linear(3, 16)]
    for size in (16, 2):
        kinds = [
            sn.nn.Identity(),
            sn.nn.Threshold(100.0, 0.0),
            sn.nn.ReLU(),
            sn.nn.Hardtanh(-99, 99),
        ]
        made += [sn.oneof(kinds), sn.nn.Linear(16, size)]
    return sn.Space(sn.nn.Sequential(*made), input=(3,))


def mixed() -> sn.Space:
    """Widths, modules with and without weights, a choice within one, depth, and dropout."""
    width = sn.oneof([4, 8, 16], name="width")
    inner = sn.nn.Sequential(
        sn.nn.Linear(8, sn.oneof([4, 8], name="inner")), sn.nn.Linear(sn.tied("inner"), 8)
    )
    return sn.Space(
        sn.nn.Sequential(
            sn.nn.Linear(3, width), sn.nn.ReLU(), sn.nn.BatchNorm1d(sn.tied("width")), sn.nn.Dropout(0.1),
            sn.nn.Linear(sn.tied("width"), 8),
            sn.oneof([sn.nn.Identity(), sn.nn.Linear(8, 8), inner]),
            sn.oneof([sn.nn.ReLU(), sn.nn.Linear(8, 8)]),
            sn.repeat(lambda i: sn.nn.Linear(8, 8), sn.oneof([1, 2], name="depth")),
            sn.nn.Linear(8, 2),
        ),
        input=(3,),
    )  # fmt: skip


def bound(space: sn.Space, constraints: list[Any] | None = None, **options: Any) -> Problem:
    found = sn.Constraints.of(constraints).bind(space) if constraints else None
    costs = {cost.name: cost for cost in found.costs} if found is not None else {}
    return Problem(
        space, [Objective("accuracy", "maximize")], found, costs=costs, **({"seed": 0} | options)
    )


def begun(algorithm: Any, problem: Problem, given: sn.Task, double: bool = False) -> Any:
    """A run before its first epoch."""
    net = supernet_of(problem, algorithm, CPU)
    run = algorithm.start(problem)
    torch.manual_seed(1)
    run.begin(Workshop(given, net.double() if double else net, problem, algorithm.epochs, CPU))
    return run


def trained(algorithm: Any, problem: Problem, given: sn.Task, folder: Path, kill: int = 0) -> Any:
    """A run after its training; with `kill`, one that is killed after so many epochs and begun anew."""

    class Killed(Exception):
        pass

    def show(done: int, epochs: int, told: dict[str, float]) -> None:
        if done == kill:
            raise Killed

    run = algorithm.start(problem)
    try:
        Training(run, given, folder, show)()
    except Killed:
        return trained(algorithm, problem, given, folder)
    return run


def same_after_a_kill(algorithm: Any, folder: Path) -> None:
    """Checks that a run of three epochs that is killed after one ends like one that is not."""
    import symnas.cost_models as cm

    problem = bound(mixed(), [cm.Macs() <= 300])
    saved = []
    for name, kill in (("whole", 0), ("killed", 1)):
        run = trained(algorithm, problem, task(160), folder / name, kill)
        checkpoint = torch.load(folder / name / CHECKPOINT, weights_only=True)
        for told in checkpoint["history"]:
            del told["seconds"]
        saved.append((checkpoint, run.derive(3).tolist(), run.notes()))
    assert len(saved[0][0]["history"]) == 3
    assert _equal(saved[0], saved[1])


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def meets_targets(algorithm: Any, folder: Path) -> list[dict[str, float]]:
    """Checks limits from tight to loose; returns what the runs note."""
    import symnas.cost_models as cm

    space = mixed()
    macs = cm.Macs().bind(space)
    low, high = macs.range()[:2]
    notes = []
    for share in (0.0, 0.3, 1.0):
        limit = low + share * (high - low)
        problem = bound(space, [cm.Macs() <= limit])
        run = trained(algorithm, problem, task(160), folder / f"{share}")
        rows = run.derive(4)
        assert len(rows) and (macs(rows) <= limit).all()
        told = run.notes()
        assert told["target macs"] == limit
        assert told["discrete macs"] == macs(rows[:1])[0]
        assert low <= told["relaxed macs"] <= high
        notes.append(told)
    return notes


def nonlinear(algorithm: Any, folder: Path, seeds: tuple[int, ...] = (0, 1, 3)) -> int:
    """In how many of twice as many places as seeds the ReLU is found; by chance, a fourth."""
    return sum(
        int(
            (
                trained(algorithm, bound(plain(), seed=seed), task(), folder / f"{seed}").derive(1)
                == RELU
            ).sum()
        )
        for seed in seeds
    )
