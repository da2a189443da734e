"""From probabilities to networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import symnas as sn
from symnas import cost_models as cm
from symnas.oneshot.derive import likeliest


def deep() -> sn.Space:
    block = sn.nn.Linear(8, 8, bias=sn.oneof([True, False]))
    return sn.Space(sn.nn.Sequential(sn.repeat(block, sn.oneof([1, 2, 3, 4]))), input=(8,))


def probabilities(space: sn.Space, depth: list[float], bias: float) -> dict[str, torch.Tensor]:
    return {d.id: torch.tensor(depth if d.size == 4 else [bias, 1 - bias]) for d in space.decisions}


@pytest.mark.parametrize("bias", [0.51, 0.99])
def test_each_decision_takes_its_likeliest_value_however_deep_the_network(bias: float) -> None:
    space = deep()
    likely = probabilities(space, [0.24, 0.25, 0.26, 0.25], bias)
    row = likeliest(sn.Problem(space), likely, 1)[0]
    depth = next(c for c, d in enumerate(space.decisions) if d.size == 4)
    assert row[depth] == 2 and (row[np.arange(len(row)) != depth] <= 0).all()


def test_the_nearest_feasible_network_is_derived() -> None:
    space = deep()
    likely = probabilities(space, [0.1, 0.2, 0.3, 0.4], 0.9)
    limit = sn.Constraints.of(cm.Parameters() <= 2 * 72 + 71).bind(space)  # two blocks, not three
    problem = sn.Problem(space, constraints=limit)
    rows = likeliest(problem, likely, 3)
    assert limit.mask(rows).all()
    depth = next(c for c, d in enumerate(space.decisions) if d.size == 4)
    # With three blocks without biases 192 parameters: three times a ninth is less likely than 2/4.
    assert rows[0, depth] == 1 and (rows[0][np.arange(rows.shape[1]) != depth] <= 0).all()
