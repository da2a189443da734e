"""Coarse-to-fine selection of networks with shared weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symnas.costs.independent import Independent
from symnas.searching.problem import Problem

if TYPE_CHECKING:
    from symnas.oneshot.workshop import Workshop
    from symnas.searchspace.decision import Decision
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]

# Relative positions of values in a skeleton, and how many skeletons are looked at.
POSITIONS = (0.0, 0.5, 1.0)
SKELETONS = 1024


def skeletons(space: Space, n: int, rng: np.random.Generator) -> Rows:
    """Up to `n` distinct rows in which all decisions with the same candidates are set alike.

    Each group of such decisions takes its lowest, its middle, or its highest values: numbers by
    their size, others by their order. Floats are drawn, and picks of a `manyof`, which must differ.

    Args:
        space: whose rows.
        n: at most so many, drawn without repetition.
        rng: the generator.

    >>> import symnas as sn
    >>> width = lambda: sn.oneof([2, 4, 6, 8, 10])
    >>> space = sn.Space(sn.nn.Sequential(sn.nn.Conv2d(2, width(), 1), sn.nn.LazyConv2d(width(), 1)))
    >>> sorted(skeletons(space, 10, np.random.default_rng(0)).tolist())
    [[0, 0], [2, 2], [4, 4]]
    """
    groups: dict[object, list[int]] = {}
    ruled = {column for rule in space._compiled.rules for column in rule.columns}
    for column, decision in enumerate(space.decisions):
        if decision.kind != "float" and decision.size > 1 and column not in ruled:
            groups.setdefault(decision.labels, []).append(column)
    count = len(POSITIONS) ** len(groups)
    if count <= n:
        numbers = list(range(count))
    else:
        numbers = sorted({int(v) for v in rng.integers(min(count, 2**62), size=n)})
    found: dict[bytes, list[int]] = {}
    for number in numbers:
        arrays = {}
        for columns in groups.values():
            number, place = divmod(number, len(POSITIONS))
            for column in columns:
                arrays[column] = _at(space.decisions[column], POSITIONS[place])
        row = Independent(space, arrays=arrays).sample(1, rng)[0].tolist()
        found.setdefault(space.key_of(row), row)
    return np.array(list(found.values()), np.int32).reshape(-1, len(space))


def _at(decision: Decision, position: float) -> NDArray[np.float64]:
    """All probability on the value at a relative position."""
    order = list(range(decision.size))
    if decision.kind == "ordinal":
        order.sort(key=lambda value: decision.candidates[value])
    chosen = np.zeros(decision.size)
    chosen[order[round(position * (decision.size - 1))]] = 1.0
    return chosen


def coarse_to_fine(
    workshop: Workshop, coarse: int, fine: int, parents: int, first: Rows | None = None
) -> Rows:
    """The feasible networks that are best with shared weights, the best first: `(n, columns)`.

    First `coarse` networks are measured: those of `first`, skeletons as far as there are feasible
    ones (up to half of the number), and random ones. Then `fine` mutations, each time one of each
    of the best so many. None is measured twice.

    Args:
        workshop: with a trained supernet.
        coarse, fine: numbers of networks.
        parents: how many of the best are mutated in one round.
        first: networks that are measured in any case, where they are feasible.
    """
    given = workshop.problem
    problem = Problem(given.space, given.objectives, given.constraints, given.seed)
    rows = np.empty((0, len(given.space)), np.int32)
    scores = np.empty(0)

    def measure(chosen: Rows) -> None:
        nonlocal rows, scores
        rows = np.concatenate([rows, problem.propose(chosen)])
        scores = np.append(scores, workshop.qualities(chosen))

    if first is not None:
        measure(first[problem.fresh(first)][:coarse])
    rng = workshop.rng(51)
    grid = skeletons(given.space, SKELETONS, rng)
    grid = grid[rng.permutation(len(grid))]
    grid = grid[problem.fresh(grid)] if len(grid) else grid
    measure(grid[: max(0, (coarse + 1) // 2 - len(rows))])
    measure(problem.sample(coarse - len(rows), (52,)))
    done, turn = len(rows), 0
    while (left := done + fine - len(rows)) > 0 and len(rows):
        best = rows[np.argsort(-scores, kind="stable")[: min(parents, left)]]
        mutants = problem.mutate(best, (53, turn))
        if not len(mutants):
            break
        measure(mutants)
        turn += 1
    return rows[np.argsort(-scores, kind="stable")]
