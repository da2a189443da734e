"""Latency added up from operations: pieces run alone, timed side by side, fitted to networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import symnas as sn
from symnas import cost_models as cm
from symnas.costs.bound_measured import MeasuredCost
from symnas.costs.pieces import macs_of
from symnas.costs.profiling import onnx_piece
from symnas.costs.profiling.calibration import Sums, fitted, left_out
from symnas.costs.profiling.fusion import Fusion
from symnas.costs.profiling.kept import Item, Memory, kept_times
from symnas.costs.profiling.loop import Effort, Probe, timed
from symnas.costs.profiling.prices import Profiler
from symnas.costs.profiling.real import real_input, torch_call
from symnas.costs.record import pieces_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMNAS_CACHE", str(tmp_path))


def pieces(*layers, input=(3, 8, 8)):
    net = sn.Architecture(sn.nn.Sequential(*layers), input=input)
    return [piece for _, piece in pieces_of(net)]


def spec_of(cls, *args):
    return sn.spec(sn.register(cls), *args)


# Timing side by side ------------------------------------------------------------------------------


class World:
    """Time that passes only by calls; while it is busy, all calls take three times as long."""

    def __init__(self, busy=lambda now: False):
        self.now, self.busy, self.order = 0.0, busy, []

    def call(self, name, seconds):
        def run():
            self.order.append(name)
            self.now += seconds * (3 if self.busy(self.now) else 1)

        return run

    def time(self, probes, **effort):
        return timed(probes, Effort(**effort), clock=lambda: self.now)


def test_what_runs_on_the_machine_for_a_while_changes_no_time():
    world = World(busy=lambda now: 0.1 < now < 0.25)
    names = {f"{i}": 0.001 * (1 + i) for i in range(5)}
    found = world.time({name: Probe(world.call(name, s)) for name, s in names.items()})
    assert found == pytest.approx({name: 1e3 * s for name, s in names.items()})


def test_probes_take_turns_in_changing_order():
    world = World()
    world.time({name: Probe(world.call(name, 0.001)) for name in "abcdef"})
    rounds = ["".join(world.order[i : i + 6]) for i in range(18, len(world.order), 6)]
    assert len(rounds) == 8 and len(set(rounds)) > 4
    assert all(sorted(each) == list("abcdef") for each in rounds)


def test_a_baseline_is_subtracted_and_nothing_is_negative():
    world = World()
    probe = Probe(world.call("x", 0.009), baseline=world.call("y", 0.001), factor=0.25)
    less = Probe(world.call("x", 0.001), baseline=world.call("y", 0.002))
    assert world.time({"a": probe, "b": less}) == pytest.approx({"a": 2.0, "b": 0.0})


def test_long_calls_get_few_rounds():
    world = World()
    world.time({"a": Probe(world.call("a", 1.0))})
    assert len(world.order) == 3 + 3


def test_times_are_kept_by_key():
    cache, made = Memory(), []

    def item(key):
        return Item(lambda: made.append(key) or Probe(lambda: None))

    first = kept_times({"a": item("a"), "b": item("b")}, cache, "tests")
    second = kept_times({"b": item("b"), "c": item("c")}, cache, "tests")
    assert made == ["a", "b", "c"] and second["b"] == first["b"]


# Pieces made real ---------------------------------------------------------------------------------


def test_a_layer_runs_on_its_batch_in_evaluation_mode():
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append((tuple(x.shape), x.device.type, self.training))
            return x * 2

    (piece,) = pieces(spec_of(Watch), input=(3, 5))
    seen.clear()
    call, factor = torch_call(piece, batch=4, device="cpu")
    call()
    assert set(seen) == {((4, 3, 5), "cpu", False)} and factor == 1


def test_what_has_no_batch_in_front_counts_once_for_each_example():
    class Fold(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return self.inner(x.reshape(-1, 4))

    piece = next(p for p in pieces(spec_of(Fold), input=(6, 4)) if p.kind == "Linear")
    assert torch_call(piece, batch=8, device="cpu")[1] == 8
    assert torch_call(piece, batch=1, device="cpu")[1] == 1


@pytest.mark.parametrize("kind", ["Hardswish", "SiLU", "ReLU6", "LeakyReLU", "Mish", "ELU"])
def test_operations_in_place_never_reach_denormal_numbers(kind):
    x = real_input(torch.empty(1, 64, device="meta"), 2, "cpu")
    function = getattr(nn, kind)(inplace=True)
    for _ in range(2000):
        function(x)
    assert x.shape == (2, 64) and x.isfinite().all() and x.abs().min() > 1e-3


def test_strides_of_transposed_weights_are_kept():
    weight = torch.empty(3, 7, device="meta").t()
    assert real_input(weight, 1, "cpu").stride() == weight.stride()


def test_a_layer_that_wants_more_than_tensors_runs_by_its_operations():
    class Power(nn.Module):
        def forward(self, x, exponent):
            return x.pow(exponent)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Power()

        def forward(self, x):
            return self.inner(x, 3)

    (piece,) = pieces(spec_of(Outer), input=(5,))
    assert piece.kind == "Power"
    torch_call(piece, batch=2, device="cpu")[0]()


def test_what_cannot_run_alone_is_told_with_the_remedy():
    class Picky(nn.Module):
        def forward(self, x):
            if x.device.type != "meta":
                raise ValueError("not today")
            return x.view(-1)

    space = sn.Space(
        sn.nn.Sequential(spec_of(Picky), sn.nn.Linear(5, sn.oneof([2, 3]))), input=(5,)
    )
    with pytest.raises(sn.SymnasError, match=r"Picky.*cannot be run alone.*by='network'"):
        cm.Latency(networks=1, seconds=0.02).bind(space)


# onnxruntime --------------------------------------------------------------------------------------


def test_copies_of_a_piece_all_compute_the_same():
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    (piece,) = pieces(sn.nn.Conv2d(3, 4, 3))
    model, inputs, _ = onnx_piece.exported(piece, 2)
    several = onnx_piece.repeated(model, 3)
    session = onnx_piece.session_of(several, 1)
    outputs = session.run(None, {session.get_inputs()[0].name: inputs[0].numpy()})
    assert len(outputs) == 3 and all(np.array_equal(o, outputs[0]) for o in outputs)
    nodes = [len(onnx.load_model_from_string(m).graph.node) for m in (model, several)]
    assert nodes[1] == 3 * nodes[0]


def test_only_what_directly_follows_is_fused():
    run = pieces(
        sn.nn.ReLU(), sn.nn.Conv2d(3, 3, 1), sn.nn.Identity(), sn.nn.BatchNorm2d(3),
        sn.nn.Sigmoid(), sn.nn.Sigmoid(), sn.nn.Conv2d(3, 3, 1), sn.nn.Hardswish(),
        sn.nn.BatchNorm2d(3), sn.nn.Flatten(), sn.nn.Linear(192, 8), sn.nn.Tanh(),
    )  # fmt: skip
    shares = {}
    fusion = Fusion([run])
    for piece in run:
        shares.setdefault(piece.kind, fusion.share(piece))
    assert shares == {
        "ReLU": 0.0, "Conv2d": 0.0, "Identity": 0.0, "BatchNorm2d": 0.5, "Sigmoid": 0.5,
        "Hardswish": 0.0, "Flatten": 0.0, "Linear": 0.0, "Tanh": 1.0,
    }  # fmt: skip


def test_fused_operations_cost_nothing():
    pytest.importorskip("onnxruntime")
    run = pieces(sn.nn.Conv2d(3, 8, 3), sn.nn.BatchNorm2d(8), sn.nn.ReLU(), input=(3, 32, 32))
    conv, norm, relu = cm.Latency("onnxruntime").price(run)
    assert conv > 0 and norm == relu == 0
    assert min(cm.Latency("torch").price(run)) > 0


def test_attention_is_timed_in_onnxruntime_itself(caplog):
    pytest.importorskip("onnxruntime")

    class Attend(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    run = pieces(spec_of(Attend), sn.nn.ReLU(), input=(2, 16, 8))
    with caplog.at_level("INFO", logger="symnas"):
        times = Profiler("onnxruntime").times(run, Memory())
    assert times[0] > 0 and len(times) == len(run)


# Fitting ------------------------------------------------------------------------------------------

KINDS = ("Conv2d", "add", "ReLU")


def sums(n=20, seed=0):
    return Sums(KINDS, np.random.default_rng(seed).uniform(1, 5, (n, 3)))


def test_factors_by_kind_and_a_constant_are_found():
    found = sums()
    truth = found.values @ [1.5, 3.0, 0.5] + 2.0
    unseen = sums(seed=1)
    there = unseen.values @ [1.5, 3.0, 0.5] + 2.0
    one_factor = unseen.values.sum(axis=1) * np.median(truth / found.values.sum(axis=1))
    error = np.abs(fitted(found, truth)(unseen) / there - 1).mean()
    assert error < 0.04 and error < np.abs(one_factor / there - 1).mean() / 3
    assert left_out(found, truth).mean_relative < 0.04


def test_no_factor_is_negative():
    found = sums()
    fit = fitted(found, found.values @ [2.0, -0.5, 1.0])
    assert min(fit.factors.values()) >= 0 and fit.constant >= 0


@pytest.mark.parametrize("outlier", [20.0, 1e-4])
def test_a_disturbed_or_an_all_but_empty_network_does_not_spoil_the_fit(outlier):
    found = sums()
    truth = 2 * found.values.sum(axis=1)
    measured = truth.copy()
    measured[3] *= outlier
    predicted = fitted(found, measured)(found)
    assert np.abs(predicted / truth - 1).max() < 0.05


def test_few_networks_still_give_a_factor_or_a_constant():
    found = sums(2)
    total = found.values.sum(axis=1)
    assert np.allclose(fitted(found, 3 * total)(found), 3 * total)
    assert np.allclose(fitted(found, total + 7)(found), total + 7)
    assert left_out(sums(1), np.ones(1)).n == 0


# Binding ------------------------------------------------------------------------------------------


def space():
    width = sn.oneof([4, 8, 12], name="width")
    return sn.Space(
        sn.nn.Sequential(
            sn.nn.Conv2d(3, width, sn.oneof([1, 3, 5], name="kernel")),
            sn.nn.ReLU(),
            sn.nn.Conv2d(width, sn.oneof([4, 6], name="out"), 1),
        ),
        input=(3, 8, 8),
    )


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_where_times_add_up_the_table_is_exact(runtime, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(
        Profiler, "times", lambda self, found, cache: [1e-6 * macs_of(p) for p in found]
    )
    monkeypatch.setattr(
        cm.Latency, "networks_ms",
        lambda self, nets: np.array([3e-6 * cm.Macs()(a) for a in nets]),
    )  # fmt: skip
    here = space()
    bound = cm.Latency(runtime).bind(here)
    rows = here.sample(10, seed=5)
    assert np.allclose(bound(rows), 3e-6 * cm.Macs().bind(here)(rows), rtol=1e-6)
    assert bound.table is not None and bound.error.n == 18 and bound.error.mean_relative < 1e-6


def test_each_distinct_operation_is_timed_once_on_a_machine(monkeypatch):
    timed_now = []
    probe = Profiler._probe
    monkeypatch.setattr(
        Profiler, "_probe", lambda self, p: timed_now.append(p.key) or probe(self, p)
    )
    here, latency = space(), cm.Latency(networks=3, seconds=0.02)
    first = latency.bind(here)
    assert len(timed_now) == len(set(timed_now)) == 9 + 9 + 18
    again = cm.Latency(networks=3, seconds=0.02).bind(space())
    assert len(timed_now) == 36
    rows = here.sample(5)
    assert np.array_equal(first(rows), again(rows))


def test_by_network_measures_each_architecture():
    bound = cm.Latency(by="network", seconds=0.02, repeats=3).bind(space())
    assert isinstance(bound, MeasuredCost) and bound.table is None


def test_larger_networks_are_predicted_to_take_longer():
    width = sn.oneof([16, 1024], name="width")
    here = sn.Space(
        sn.nn.Sequential(sn.nn.Linear(64, width), sn.nn.Linear(width, 1024)), input=(64,)
    )
    for runtime in ("torch", "onnxruntime"):
        small, large = cm.Latency(runtime, networks=2, seconds=0.05).bind(here)([[0], [1]])
        assert 0 < small < large
