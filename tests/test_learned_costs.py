"""Learned costs: from samples to costs, their errors, expectations, and other devices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesRegressor
from symnas.spaces import Stage, mobilenet, nasbench201

import symnas as sn
from symnas import cost_models as cm
from symnas.costs.learned.features import effects

SPACE = mobilenet([Stage([8, 12], [1, 2], 2, (3, 5), (3, 6), (False,)), Stage([16], [1, 2])], 8, 16)
MACS = cm.Macs().bind(SPACE)


def samples(n, seed=0, factor=1.0):
    rows = SPACE.sample(n, seed)
    noise = np.random.default_rng(seed).normal(1.0, 0.01, n)
    return rows, factor * (0.2 + 1e-6 * MACS(rows)) * noise


def truth(rows):
    return 0.2 + 1e-6 * MACS(rows)


@pytest.mark.parametrize("regressor", ["table", "mlp", "linear", ExtraTreesRegressor(50)])
def test_unseen_costs_are_predicted_about_as_well_as_told(regressor):
    rows, costs = samples(300)
    bound = cm.Learned.of_rows(SPACE, rows, costs, regressor=regressor).bind(SPACE)
    unseen = SPACE.sample(500, seed=9)
    error = float(np.mean(np.abs(bound(unseen) / truth(unseen) - 1)))
    assert bound.error.n == 300 and not bound.error.exact_kind
    assert error < 0.1 and error < 2 * bound.error.mean_relative
    assert bound.error.rank > 0.8
    safe = bound.upper(0.9)(unseen)
    assert (truth(unseen) <= safe).mean() > 0.8
    assert np.array_equal(
        cm.Learned.of_rows(SPACE, rows, costs, regressor=regressor, seed=0).bind(SPACE)(unseen),
        bound(unseen),
    ) or not isinstance(regressor, str)


def test_a_learned_table_is_used_as_any_table():
    rows, costs = samples(300)
    model = cm.Learned.of_rows(SPACE, rows, costs, regressor="table")
    bound = model.bind(SPACE)
    limit = float(np.quantile(bound(rows), 0.05))
    constraints = sn.Constraints.of(model <= limit).bind(SPACE)
    assert bound.table is not None and constraints.exact
    assert (bound(constraints.sample_feasible(100)) <= limit).all()


@pytest.mark.parametrize("regressor", ["mlp", "linear"])
def test_expected_is_the_cost_at_one_hot_probabilities_and_has_a_gradient(regressor):
    rows, costs = samples(200)
    bound = cm.Learned.of_rows(SPACE, rows, costs, regressor=regressor).bind(SPACE)
    for row in rows[:5]:
        hot = {
            d.id: torch.nn.functional.one_hot(torch.tensor(max(int(v), 0)), d.size).double()
            for d, v in zip(SPACE.decisions, row, strict=True)
        }
        assert float(bound.expected(hot)) == pytest.approx(bound(row[None])[0], rel=1e-9)
    first = SPACE.decisions[0]
    logits = torch.randn(first.size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: bound.expected({first.id: torch.softmax(x, 0)}), (logits,), atol=1e-5
    )


def test_a_device_is_adapted_from_others():
    known = []
    for k, width in enumerate((1.0, 3.0)):
        rows, costs = samples(300, seed=k, factor=width)
        name = f"device_{k}"
        known.append(cm.Learned.of_rows(SPACE, rows, costs, regressor="linear", name=name))
    rows, costs = samples(10, seed=5, factor=2.0)
    pairs = [(SPACE.decode(row), cost) for row, cost in zip(rows, costs, strict=True)]
    unseen = SPACE.sample(500, seed=9)
    adapted = cm.Learned.adapt(known, pairs, device="new").bind(SPACE)
    alone = cm.Learned(pairs, "linear").bind(SPACE)
    errors = [
        np.mean(np.abs(bound(unseen) / (2.0 * truth(unseen)) - 1)) for bound in (adapted, alone)
    ]
    assert errors[0] < 0.1 and errors[0] < errors[1]


def test_dead_branches_are_found():
    space = nasbench201(channels=4, cells=1, canonical=False)
    # The second has a convolution beside the first's, which leads nowhere; the third leads nowhere.
    rows = np.array([[0, 0, 0, 3, 0, 0], [3, 0, 0, 3, 0, 0], [3, 0, 0, 0, 0, 0]], np.int32)
    drawn = space.sample(400, seed=1)
    told = effects(space, drawn)
    assert 0.5 < told.connected.mean() < 1.0
    costs = np.where(told.connected, 5.0 + (drawn == 3).sum(axis=1), 0.01)
    bound = cm.Learned.of_rows(space, drawn, costs, regressor="linear").bind(space)
    assert bound(rows) == pytest.approx([6.0, 7.0, 0.01], rel=0.05)
    blind = cm.Learned.of_rows(space, drawn, costs, regressor="linear", features=None).bind(space)
    assert bound.error.mean_relative < 0.1 * blind.error.mean_relative


def test_own_features_take_the_place_of_those_that_are_found():
    rows, _ = samples(60)
    costs = 1.0 + (rows.sum(axis=1) % 3)

    def remainder(space, rows):
        return np.eye(3)[rows.sum(axis=1) % 3]

    told = cm.Learned.of_rows(SPACE, rows, costs, regressor="linear", features=remainder)
    assert told.bind(SPACE).error.mean_relative < 0.02
    with pytest.raises(ValueError, match="`features` gave an array of shape"):
        wrong = cm.Learned.of_rows(SPACE, rows, costs, features=lambda space, rows: np.ones(3))
        wrong.bind(SPACE)


def test_mistakes_are_named_and_samples_identify_the_model():
    rows, costs = samples(20)
    with pytest.raises(sn.DeclarationError, match="at least 5"):
        cm.Learned.of_rows(SPACE, rows[:3], costs[:3])
    with pytest.raises(sn.DeclarationError, match=r"samples\[1\].*positive"):
        cm.Learned.of_rows(SPACE, rows, np.where(np.arange(20) == 1, 0.0, costs))
    with pytest.raises(sn.DeclarationError, match="regressor"):
        cm.Learned.of_rows(SPACE, rows, costs, regressor="forest")
    with pytest.raises(sn.DeclarationError, match="features"):
        cm.Learned.of_rows(SPACE, rows, costs, regressor="table", features=lambda space, rows: rows)
    one, same = (cm.Learned.of_rows(SPACE, rows, costs) for _ in range(2))
    other = cm.Learned.of_rows(SPACE, rows, 2 * costs)
    assert one == same and hash(one) == hash(same) and one != other
    assert one.describe() == same.describe() != other.describe()
