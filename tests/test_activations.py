"""Activation memory: what a network holds, by hand on small ones, and as tables of spaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from symnas.spaces import Stage, mobilenet
from torch import nn

import symnas as sn
from symnas import cost_models as cm


@sn.symbolize
class Branches(nn.Module):
    """Two branches of which the first waits for the second."""

    def __init__(self, width, inner):
        super().__init__()
        self.left = nn.Linear(width, inner)
        self.right = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))
        self.back = nn.Linear(inner, width)

    def forward(self, x):
        left = self.left(x)
        return self.back(left) + self.right(x)


@sn.symbolize
class Keeper(nn.Module):
    """Holds all that it has made until the end."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def forward(self, x):
        kept = [x * i for i in range(self.n)]
        return sum(kept)


def peak(program, shape):
    return cm.PeakActivations()(sn.Architecture(program, input=shape)) / 4  # of float32


def test_peaks_by_hand():
    assert peak(sn.nn.Sequential(sn.nn.Linear(4, 8), sn.nn.Linear(8, 2)), (4,)) == 4 + 8 + 2
    # In place: nothing is made. Not in place: input, layer's output, and activation.
    assert peak(sn.nn.Sequential(sn.nn.Linear(4, 8), sn.nn.ReLU(inplace=True)), (4,)) == 4 + 8
    assert peak(sn.nn.Sequential(sn.nn.Linear(4, 8), sn.nn.ReLU()), (4,)) == 4 + 8 + 8
    # A view makes nothing.
    assert peak(sn.nn.Sequential(sn.nn.Flatten(), sn.nn.Linear(4, 2)), (2, 2)) == 4 + 2
    # x and left stay while the inner 16 and their ReLU are there; later the sum needs x, two, one.
    assert peak(sn.spec(Branches, 4, 16), (4,)) == 4 + 4 + 16 + 16 + 16
    # The input, five products, and two partial sums at the end.
    assert peak(sn.spec(Keeper, 5), (10,)) == 10 + 5 * 10 + 2 * 10


def spaces():
    width, inner = sn.oneof([4, 8, 32]), sn.oneof([2, 64])
    yield (
        "branches",
        sn.Space(
            sn.nn.Sequential(
                sn.nn.Linear(6, width),
                sn.oneof([Branches(width, inner), sn.nn.Identity(), Keeper(sn.oneof([1, 9]))]),
                sn.nn.Linear(width, sn.oneof([1, 300])),
            ),
            input=(6,),
        ),
    )
    stages = [Stage([8, 12], [1, 2], 2, (3, 5), (3, 6), (False,)), Stage([16], [1, 2])]
    yield "mobile", mobilenet(stages, 8, 16, resolution=[16, 24])


@pytest.mark.parametrize(("name", "space"), spaces())
@pytest.mark.parametrize("model", [cm.Activations(), cm.PeakActivations()], ids=lambda m: m.name)
def test_bound_costs_are_those_of_the_networks(name, space, model):
    bound = model.bind(space)
    assert not bound.note and bound.error.wrong == 0
    rows = space.sample(40, seed=3)
    assert bound(rows).tolist() == [model(space.decode(row)) for row in rows]


@pytest.mark.parametrize(("name", "space"), spaces())
def test_peaks_follow_exactly_from_tables(name, space):
    bound = cm.PeakActivations().bind(space)
    rows = np.concatenate(list(space.enumerate()))
    sizes = np.array([d.size for d in space.decisions])
    shares = np.prod(np.where(rows >= 0, 1.0 / sizes, 1.0), axis=1)
    costs = bound(rows)
    found = bound.range()
    assert found.exact and (found.low, found.high) == (costs.min(), costs.max())
    assert float(bound.expected()) == pytest.approx((shares * costs).sum())
    limit = float(np.quantile(costs, 0.3))
    constraints = sn.Constraints.of(bound.model <= limit).bind(space)
    lower, upper = constraints.feasible_fraction()
    assert lower == upper == pytest.approx(shares[costs <= limit].sum())
    drawn = constraints.sample_feasible(200, seed=1)
    assert len(drawn) == 200 and constraints.mask(drawn).all()


def test_the_expected_peak_has_a_gradient():
    space = dict(spaces())["branches"]
    bound = cm.PeakActivations().bind(space)
    first = space.columns[0]
    logits = torch.zeros(space.decisions[0].size, dtype=torch.float64, requires_grad=True)

    def expected(values):
        return bound.expected({first: torch.softmax(values, 0)})

    assert torch.autograd.gradcheck(expected, (logits,))


def test_an_impossible_peak_is_refused_with_the_smallest():
    space = dict(spaces())["branches"]
    bound = cm.PeakActivations().bind(space)
    constraints = sn.Constraints.of(bound.model <= 1).bind(space)
    with pytest.raises(sn.Infeasible, match=f"is {bound.range().low:.0f} bytes"):
        constraints.check_possible()
