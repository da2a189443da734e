"""From probabilities to networks: the likeliest that keep the constraints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.independent import Independent

if TYPE_CHECKING:
    from symnas.searching.problem import Problem

Rows = NDArray[np.int32]

# How much more likely than chance the likeliest is made, step by step, and rows drawn at each.
SHARPNESS = (1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
DRAWN = 512
# As many times as many are drawn where few of the likely rows may be feasible.
MORE = 4
# Rounds of changing one decision after the other.
ROUNDS = 20


def likeliest(problem: Problem, probabilities: Mapping[str, Any], n: int) -> Rows:
    """The likeliest feasible rows under independent probabilities of decisions, best first.

    Each active decision counts by how likely its value is beside the likeliest one. So the row that
    takes the likeliest value everywhere comes first, if it is feasible, whatever the number of its
    active decisions: by the plain product of probabilities the shallowest networks would, as each
    decision more is a factor below 1.

    Rows are drawn given the constraints (exactly so where costs are tables), from probabilities
    that are sharpened more and more, and then improved by changes of single decisions. So the
    relaxed solution is projected onto what is allowed: no row that breaks a limit is returned.

    Args:
        problem: the space and the constraints.
        probabilities: of the values of each decision, by id; uniform where there are none.
        n: at most so many rows.

    >>> import symnas as sn
    >>> space = sn.Space([sn.oneof([1, 2, 3], name="a"), sn.oneof([5, 7], name="b")])
    >>> likely = {"[0]": torch.tensor([0.1, 0.2, 0.7]), "[1]": torch.tensor([0.6, 0.4])}
    >>> likeliest(sn.Problem(space), likely, 2).tolist()
    [[2, 0], [2, 1]]
    """
    space = problem.space
    known = {id_: torch.as_tensor(p).detach().double() for id_, p in probabilities.items()}
    found: dict[bytes, list[int]] = {}
    for step, sharpness in enumerate(SHARPNESS):
        sharp = {id_: _sharpened(p, sharpness) for id_, p in known.items()}
        for row in _drawn(problem, sharp, step).tolist():
            found.setdefault(space.key_of(row), row)
    told = Independent(space, known)
    rows = np.array(list(found.values()), np.int32).reshape(-1, len(space))
    scores = _scores(told, rows)
    best = rows[np.argsort(-scores, kind="stable")[: max(n, 8)]]
    best = np.concatenate([_climbed(problem, told, best[:1]), best]) if len(best) else best
    unique: dict[bytes, list[int]] = {}
    for row in best.tolist():
        unique.setdefault(space.key_of(row), row)
    rows = np.array(list(unique.values()), np.int32).reshape(-1, len(space))
    return rows[np.argsort(-_scores(told, rows), kind="stable")[:n]]


def _sharpened(p: torch.Tensor, sharpness: float) -> torch.Tensor:
    # A little of everything: a limit may allow nothing else than what is unlikely.
    sharp = torch.softmax(sharpness * torch.log(p.clamp_min(1e-12)), 0)
    return 0.999 * sharp + 0.001 / len(p)


def _drawn(problem: Problem, probabilities: dict[str, torch.Tensor], step: int) -> Rows:
    seed = (problem.seed, 71, step)
    if problem.constraints is None:
        rng = np.random.default_rng(seed)
        rows = Independent(problem.space, probabilities).sample(DRAWN, rng)
        return rows[problem.space.is_valid(rows)]
    if step == 0 or problem.constraints.feasible is not None:
        return problem.constraints.sample_feasible(DRAWN, seed, probabilities)
    # Without tables rows are drawn and rejected, without end where the likeliest are infeasible.
    rng = np.random.default_rng(seed)
    rows = np.unique(Independent(problem.space, probabilities).sample(MORE * DRAWN, rng), axis=0)
    rows = rows[problem.constraints.mask(rows)]
    return rows[problem.space.is_valid(rows)]


def _scores(told: Independent, rows: Rows) -> NDArray[np.float64]:
    if not len(rows):
        return np.empty(0)
    scores: NDArray[np.float64] = told.log_probability(rows).detach().numpy().copy()
    for column, p in told.given.items():
        scores -= (rows[:, column] >= 0) * float(p.max().log())
    return scores


def _climbed(problem: Problem, told: Independent, rows: Rows) -> Rows:
    """The row after changes of single decisions that make it likelier, while there are any."""
    best, score = rows, _scores(told, rows)[0]
    for _ in range(ROUNDS):
        near = problem.space.neighbors(best[0])
        scores = _scores(told, near)
        better = np.argsort(-scores, kind="stable")[: int((scores > score).sum())]
        allowed = better[problem.feasible(near[better])] if len(better) else better
        if not len(allowed):
            return best
        best, score = near[allowed[0]][None], scores[allowed[0]]
    return best
