"""Cost models: known networks, laws of constraints, messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import symnas as sn
from symnas import cost_models as cm
from symnas.cost_models import latency as latency_module
from symnas.testing.costs import check_cost_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMNAS_CACHE", str(tmp_path))


def space(**options):
    width = sn.oneof([4, 8, 16])
    program = sn.nn.Sequential(
        sn.nn.Conv2d(1, width, sn.oneof([1, 3])), sn.nn.ReLU(), sn.nn.AdaptiveAvgPool2d(1),
        sn.nn.Flatten(), sn.nn.Linear(width, 3),
    )  # fmt: skip
    return sn.Space(program, input=(1, 8, 8), **options)


class Activations(sn.CostModel):
    name, unit = "activations", "elements"

    def layer(self, module, inputs, outputs):
        return sum(t.numel() for t in outputs)


@pytest.mark.parametrize(
    ("model", "noise"),
    [(cm.Parameters(), 0), (cm.Macs(), 0), (Activations(), 0),
     (cm.Latency(seconds=0.02), 0), (cm.Latency(runtime="onnxruntime", seconds=0.02), 0)],
    ids=lambda m: getattr(m, "name", ""),
)  # fmt: skip
def test_conformance(model, noise):
    check_cost_model(model, space(), noise=noise)


def test_known_network():
    row = [1, 1]  # width 8, kernel 3: 6 x 6 outputs
    assert cm.Parameters().bind(space())([row])[0] == 8 * 9 + 8 + 8 * 3 + 3
    assert cm.Macs().bind(space())([row])[0] == 36 * 8 * 9 + 8 * 3
    assert Activations().bind(space())([row])[0] == 2 * 8 * 36 + 8 + 8 + 3


def test_shared_parameters_count_once():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Linear(4, 4)
            self.b = self.a

    assert cm.Parameters().measure(sn.Architecture(sn.spec(Tied))) == 20


def test_mask_agrees_with_the_costs():
    s = space()
    rows = np.concatenate(list(s.enumerate()))
    bound = sn.Constraints.of(
        [cm.Macs() <= 1000, cm.Parameters() >= 30, lambda a: a.choices["args[0].kernel_size"] == "1"]
    ).bind(s)
    macs, parameters = cm.Macs().bind(s)(rows), cm.Parameters().bind(s)(rows)
    assert (bound.mask(rows) == ((macs <= 1000) & (parameters >= 30) & (rows[:, 1] == 0))).all()
    assert 0 < bound.mask(rows).sum() < len(rows)
    low, high = bound.feasible_fraction(200, seed=1)
    assert low < bound.mask(rows).mean() < high


def test_range_is_that_of_the_space():
    s = space()
    rows = np.concatenate(list(s.enumerate()))
    bound = cm.Macs().bind(s)
    low, high, low_row, high_row = bound.range()
    assert (low, high) == (bound(rows).min(), bound(rows).max())
    assert bound([low_row, high_row]).tolist() == [low, high]


def test_impossible_constraints_are_refused_with_the_nearest_value():
    bound = sn.Constraints.of([cm.Parameters() <= 5]).bind(space())
    with pytest.raises(sn.Infeasible, match=r"parameters <= 5 .*smallest found.* 23 parameters"):
        bound.check_possible(space())
    never = sn.Constraints.of([lambda architecture: False]).bind(space())
    with pytest.raises(sn.Infeasible, match="None of"):
        never.check_possible(space())
    sn.Constraints.of([cm.Parameters() <= 24]).bind(space()).check_possible(space())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: 1 <= cm.Macs() <= 2, "Write two"),
        (lambda: cm.Macs() <= "2", "compared with a number"),
        (lambda: sn.Constraints.of([cm.Macs()]), "must be a comparison"),
        (lambda: sn.Constraints.of([lambda a: 1]).bind(space()).mask([[0, 0]]), "True or False"),
        (lambda: cm.Macs().measure(sn.Architecture(sn.nn.Linear(1, 1))), "input="),
        (lambda: cm.Macs().measure(sn.Architecture(sn.nn.Linear(1, 1), input=(3,))), "cannot be run"),
        (lambda: type("Bad", (sn.CostModel,), {}), "neither of"),
        (lambda: sn.Constraints.of([cm.Macs(name="a") <= 1, cm.Parameters(name="a") <= 1]), "named"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_metric_constraints():
    limit = sn.metric("memory_mb") <= 500
    assert limit.violated({"memory_mb": 400}) is None
    assert "breaks" in limit.violated({"memory_mb": 600})
    assert "no metric" in limit.violated({})
    assert "breaks" in limit.violated({"memory_mb": float("nan")})


def test_latency_is_kept_on_disk_and_a_torn_line_is_passed_over(tmp_path):
    architecture = space().decode([0, 0])
    first = cm.Latency(seconds=0.02).measure(architecture)
    file = latency_module.cache_file()
    file.write_text(file.read_text() + '{"key": "half a li')
    latency_module._readings.clear()
    assert cm.Latency(seconds=0.02).measure(architecture) == first
    other = cm.Latency(seconds=0.02, batch=4)
    value = other.measure(architecture)
    latency_module._readings.clear()
    assert other.measure(architecture) == value
    assert cm.Latency(seconds=0.02).noise(architecture) >= 0


def test_latency_sees_a_larger_network():
    small = sn.Architecture(sn.nn.Linear(8, 8), input=(8,))
    large = sn.Architecture(sn.nn.Linear(4096, 4096), input=(4096,))
    latency = cm.Latency(seconds=0.05)
    assert latency.measure(large) > 3 * latency.measure(small)
