"""Bayesian optimisation: what it proposes, for one objective and for several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas.searching.problem import Problem

ONE = (sn.Objective("score", "maximize"),)


def planted(columns: int = 8) -> sn.Space:
    return sn.Space([sn.oneof([0, 1, 2, 3]) for _ in range(columns)])


def score(row: Any) -> float:
    """Best where neighbours differ by one, and large values come first: `(columns,)`."""
    row = np.asarray(row)
    return float(row[0] + 0.5 * row[1] - np.abs(np.abs(np.diff(row)) - 1).sum())


def searched(problem: Problem, trials: int, algorithm: Any, evaluate: Any = score) -> np.ndarray:
    run = algorithm.start(problem)
    rows = []
    for _ in range(trials):
        row = run.ask(1)
        run.tell(row, np.array([np.atleast_1d(evaluate(row[0]))]))
        rows.append(row[0])
    return np.array(rows)


@pytest.mark.parametrize("columns", [6, 12])  # one is looked at as a whole, of the other a pool
def test_it_finds_better_architectures_than_chance(columns: int) -> None:
    found, chance = [], []
    for seed in range(2):
        for algorithm, best in ((alg.BayesianOptimization(), found), (alg.RandomSearch(), chance)):
            rows = searched(Problem(planted(columns), ONE, seed=seed), 40, algorithm)
            assert len(np.unique(rows, axis=0)) == 40
            best.append(max(map(score, rows)))
    assert min(found) > max(chance)


@pytest.mark.parametrize("columns, at", [(5, 17), (12, 14)])
def test_a_search_goes_on_as_if_it_had_never_stopped(columns: int, at: int) -> None:
    space = planted(columns)
    whole = searched(Problem(space, ONE, seed=3), 22, alg.BayesianOptimization())
    problem = Problem(space, ONE, seed=3)
    run = alg.BayesianOptimization().start(problem)
    for row in whole[:at]:
        run.tell(problem.propose(row[None]), np.array([[score(row)]]))
    for row in whole[at:]:
        asked = run.ask(1)
        assert np.array_equal(asked[0], row)
        run.tell(asked, np.array([[score(row)]]))


def test_what_waits_changes_what_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    def four() -> np.ndarray:
        problem = Problem(planted(6), ONE, seed=1)
        run = alg.BayesianOptimization().start(problem)
        first = run.ask(20)
        run.tell(first, np.array([[score(row)] for row in first]))
        return run.ask(4)

    aware = four()
    monkeypatch.setattr(Problem, "latest", lambda self, n: np.empty((0, 6), np.int32))
    unaware = four()
    assert np.array_equal(aware[0], unaware[0]) and not np.array_equal(aware, unaware)
    apart = [np.mean([(a != b).sum() for a in rows for b in rows]) for rows in (aware, unaware)]
    assert apart[0] >= apart[1]


def test_failures_are_avoided() -> None:
    fails = lambda row: np.nan if row[0] == 3 else score(row)  # noqa: E731
    rows = searched(Problem(planted(6), ONE, seed=2), 45, alg.BayesianOptimization(), fails)
    assert (rows[25:, 0] == 3).mean() < 0.2


def test_limits_are_kept() -> None:
    widths = [4, 8, 16, 32]
    names = [sn.oneof(widths, name=name) for name in "abc"]
    space = sn.Space(
        sn.nn.Sequential(
            sn.nn.Linear(8, names[0]),
            sn.nn.Linear(sn.tied("a"), names[1]),
            sn.nn.Linear(sn.tied("b"), names[2]),
        ),
        input=(8,),
    )
    limit = sn.Constraints.of(cm.Parameters() <= 400).bind(space)
    problem = Problem(space, ONE, limit, seed=0)
    rows = searched(problem, 14, alg.BayesianOptimization(initial=5), lambda row: row.sum())
    assert limit.mask(rows).all()
    every = np.concatenate(list(space.enumerate()))
    assert max(row.sum() for row in rows) == every[limit.mask(every)].sum(axis=1).max()


def test_two_objectives_and_a_known_cost() -> None:
    width = [8, 16, 24, 32, 48, 64]
    space = sn.Space(
        sn.nn.Sequential(
            sn.nn.Linear(4, sn.oneof(width, name="a")),
            sn.nn.Linear(sn.tied("a"), sn.oneof(width, name="b")),
            sn.nn.Linear(sn.tied("b"), 2),
        ),
        input=(4,),
    )
    parameters = cm.Parameters()
    objectives = (
        sn.Objective("score", "maximize"),
        sn.Objective("parameters", "minimize", parameters),
    )
    bound = parameters.bind(space)

    def both(row: Any) -> list[float]:
        return [float(np.sqrt(row[0] + 1) + 0.3 * row[1]), -float(bound(row[None])[0])]

    problem = Problem(space, objectives, seed=0, costs={bound.name: bound})
    rows = searched(problem, 22, alg.BayesianOptimization(initial=6), both)
    every = np.concatenate(list(space.enumerate()))
    values = np.array([both(row) for row in every])
    front = {
        tuple(row) for row, v in zip(every, values, strict=True)
        if not ((values >= v).all(axis=1) & (values > v).any(axis=1)).any()
    }  # fmt: skip
    met = len(front & {tuple(row) for row in rows}) / len(front)
    assert met >= 0.7


def test_three_objectives() -> None:
    objectives = tuple(sn.Objective(name, "maximize") for name in "abc")
    evaluate = lambda row: [row[0], row[1], 3.0 - row[0] - row[1] + row[2]]  # noqa: E731
    rows = searched(
        Problem(planted(4), objectives, seed=0), 30, alg.BayesianOptimization(), evaluate
    )
    assert (rows[15:, 2] == 3).mean() > 0.6  # which only helps


def test_everything_is_found_in_the_end() -> None:
    problem = Problem(sn.Space([sn.oneof([0, 1, 2]), sn.oneof([0, 1, 2])]), ONE, seed=0)
    run = alg.BayesianOptimization(initial=3).start(problem)
    count = 0
    while len(row := run.ask(1)):
        run.tell(row, np.array([[float(row.sum())]]))
        count += 1
    assert count == 9 and problem.exhausted


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"initial.*at least 2"):
        alg.BayesianOptimization(initial=1)
