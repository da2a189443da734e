"""Costs and constraints on parts of spaces: the same numbers as on the whole, and as exact."""

from __future__ import annotations

import numpy as np
import pytest
from symnas.spaces import Stage, mobilenet

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm

WHOLE = mobilenet([Stage([8, 12], [1, 2], 2, (3, 5), (3, 6), (False,)), Stage([16], [1, 2])], 8, 16)

PARTS = {
    "restricted": lambda: WHOLE.restrict({"**.kernel_size": [3]}),
    "fixed": lambda: WHOLE.fix({"width 0": 12, "expansion 0.0": 3}),
    "a decision that is not always active": lambda: WHOLE.fix({"kernel 0.1": 5}),
    "depth, so that others are always active": lambda: WHOLE.fix({"depth 0": 2}),
    "a part of a part": lambda: WHOLE.fix({"depth 1": 2}).restrict({"kernel 1.1": [5, 7]}),
    "joined with a task's": lambda: WHOLE.fix({"depth 0": 1}).with_task({"lr": sn.floatv(0.1, 1)}),
}


def lifted(part, rows):
    while part is not WHOLE and hasattr(part, "parent"):
        rows, part = part.lift(rows), part.parent
    return rows[:, : len(WHOLE)]


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("model", [cm.Macs(), cm.PeakActivations()], ids=lambda m: m.name)
def test_costs_are_those_of_the_whole(name, model):
    part = PARTS[name]()
    bound = model.bind(part)
    rows = part.sample(300, seed=1)
    costs = bound(rows)
    assert np.array_equal(costs, model.bind(WHOLE)(lifted(part, rows)))
    found = bound.range()
    assert found.exact and found.low <= costs.min() and costs.max() <= found.high
    constraints = sn.Constraints.of(model <= float(np.quantile(costs, 0.2))).bind(part)
    assert constraints.exact
    lower, upper = constraints.feasible_fraction()
    share = constraints.mask(part.sample(20_000, seed=2)).mean()
    assert lower - 0.015 < share < upper + 0.015
    assert constraints.mask(constraints.sample_feasible(100)).all()


def test_around_an_architecture_rows_are_checked():
    part = WHOLE.around(WHOLE.decode(WHOLE.sample(1, seed=3)[0]), changes=2)
    model = cm.Macs()
    bound = model.bind(part)
    rows = part.sample(200, seed=1)
    assert np.array_equal(bound(rows), model.bind(WHOLE)(part.lift(rows)))
    limit = float(np.quantile(bound(rows), 0.3))
    study = sn.search(
        part,
        alg.RegularizedEvolution(population_size=4, tournament_size=2),
        lambda architecture: 1.0,
        maximize="score",
        subject_to=[model <= limit],
        trials=12,
        progress=False,
    )
    assert len(study.trials) == 12
    assert all(trial.costs["macs"] <= limit for trial in study.trials)
