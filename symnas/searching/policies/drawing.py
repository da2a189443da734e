"""Drawing feasible rows from a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.errors import Infeasible
from symnas.searching.policies.factorised import Factorised
from symnas.searching.policies.policy import Policy

if TYPE_CHECKING:
    from symnas.searching.problem import Problem

Rows = NDArray[np.int32]
Seed = tuple[int, ...]

# Blocks of rows drawn until enough are feasible, and their least size; where a cost has to be
# measured only what is needed is drawn.
BLOCKS, BLOCK, DEAR_BLOCKS = 16, 256, 4


def draw(problem: Problem, policy: Policy, n: int, seed: Seed) -> Rows:
    """`n` feasible rows of a policy, with repetitions, whatever was proposed before.

    Where the decisions are independent and limits are on tables, rows are drawn exactly from the
    policy given feasibility. Otherwise what is infeasible is drawn again; where thousands of rows
    are not enough, feasible ones that are uniform over decisions take the place of the rest.
    """
    constraints = problem.constraints
    if constraints is None and problem.space.valid is None:
        return policy.sample(n, seed)
    tables = constraints is not None and constraints.feasible is not None
    if tables and isinstance(policy, Factorised) and policy.independent:
        return _given(problem, policy, n, seed)
    return _rejected(problem, policy, n, seed)


def _given(problem: Problem, policy: Factorised, n: int, seed: Seed) -> Rows:
    assert problem.constraints is not None
    with torch.no_grad():
        probabilities = policy.probabilities()
    try:
        rows = problem.constraints.sample_feasible(n, seed, probabilities)
    except Infeasible:  # the policy is so sure of what is infeasible that numbers are too small
        rows = np.empty((0, len(problem.space)), np.int32)
    return _filled(problem, rows, n, seed)


def _rejected(problem: Problem, policy: Policy, n: int, seed: Seed) -> Rows:
    dear = problem.constraints is not None and problem.constraints.dear
    found, count = [np.empty((0, len(problem.space)), np.int32)], 0
    for block in range(DEAR_BLOCKS if dear else BLOCKS):
        rows = policy.sample(n if dear else max(n, BLOCK), (*seed, block))
        kept = rows[problem.feasible(rows)]
        found.append(kept)
        count += len(kept)
        if count >= n:
            break
    return _filled(problem, np.concatenate(found)[:n], n, seed)


def _filled(problem: Problem, rows: Rows, n: int, seed: Seed) -> Rows:
    missing = n - len(rows)
    if not missing:
        return rows
    seed = (*seed, BLOCKS)
    if problem.constraints is not None:
        more = problem.constraints.sample_feasible(missing, seed)
    else:
        more = problem.space.sample(BLOCKS * max(missing, BLOCK), seed)
        more = more[problem.space.is_valid(more)][:missing]
    return np.concatenate([rows, more])
