"""Random programs: a supernet runs every network of them as the network by itself would run."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from supernet_equality import Programs, largest_difference, rows_of, scramble

import symnas as sn


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from(["entangled", "entangled", "separate"]))
def test_random_programs(data, sharing):
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(0)
        space = Programs(lambda options: data.draw(st.sampled_from(options))).space()
        net = sn.Supernet(space, sharing)
        scramble(net)
        x = torch.randn(3, *space.input)
        for row in rows_of(space, 3):
            assert largest_difference(net, row, x) < 1e-10
    finally:
        torch.set_default_dtype(torch.float32)
