"""The conformance suite of cost models: run it on your own."""

from __future__ import annotations

import json
import math

import numpy as np
import torch

from symnas.costs.constraints import Constraint
from symnas.costs.model import CostModel
from symnas.searchspace.space import Space


def check_cost_model(model: CostModel, space: Space, samples: int = 3, noise: float = 0.0) -> None:
    """Asserts what every cost model must hold to, on random architectures of a space.

    Args:
        model: what is checked.
        space: with an `input`.
        samples: how many architectures.
        noise: how far two measurements of one architecture may lie apart, relatively.
    """
    assert model.name and isinstance(model.name, str), "a cost model needs a name"
    assert isinstance(model.unit, str), "a cost model needs a unit"
    json.dumps(model.describe())
    rows = space.sample(samples, seed=11)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    bound = model.bind(space)
    costs = bound(rows)
    assert torch.equal(before, torch.random.get_rng_state()), "measuring moved torch's generator"
    assert costs.shape == (samples,) and costs.dtype == np.float64
    for row, cost in zip(rows, costs, strict=True):
        assert math.isfinite(cost) and cost >= 0, f"{cost} must be finite and not negative"
        again = model.measure(space.decode(row))
        slack = noise * max(abs(again), abs(cost))
        assert abs(again - cost) <= slack, f"{model.name}: {again} and {cost} of one architecture"
    assert (bound(rows) == costs).all(), "a bound cost must remember"
    constraint = model <= float(np.median(costs))
    assert isinstance(constraint, Constraint)
    assert (constraint.meets(costs) == (costs <= np.median(costs))).all()
