"""Energy: loop nests, ZigZag's numbers against its own pipeline, the cache, and measured joules."""

from __future__ import annotations

import importlib.util
import json
import math
import types

import pytest
import torch
from symnas.cost_models import measured_energy as measured
from symnas.cost_models.energy import Cycles, Energy

import symnas as sn
from symnas.costs.accelerators import hardware, mapper
from symnas.costs.accelerators.nests import Nest, Untranslated, nests_of
from symnas.costs.accelerators.traffic import traffic_of
from symnas.costs.model import CostFailed
from symnas.costs.pieces import Operation, flops_of, macs_of
from symnas.costs.record import pieces_of
from symnas.errors import MissingExtra

needs_zigzag = pytest.mark.skipif(
    not hardware.installed(), reason="ZigZag is not installed: pip install 'symnas[accelerators]'"
)
SMALL = {"lpf_limit": 3, "spatial_mappings": 1}  # a layer takes a fraction of a second


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMNAS_CACHE", str(tmp_path / "cache"))


def net(*layers, shape=(4, 6, 6)):
    return sn.Architecture(sn.nn.Sequential(*layers), input=shape)


def nests(architecture):
    pieces = [piece for _, piece in pieces_of(architecture)]
    return [nest for piece in pieces for op in piece.operations for nest in nests_of(op)]


LAYERS = {
    "strided": net(sn.nn.Conv2d(4, 6, 3, stride=2, padding=1)),
    "rectangular": net(sn.nn.Conv2d(4, 6, (1, 3), padding=(0, 1), dilation=(1, 2))),
    "pointwise": net(sn.nn.Conv2d(4, 6, 1)),
    "depthwise": net(sn.nn.Conv2d(4, 4, 3, groups=4, padding="same")),
    "grouped": net(sn.nn.Conv2d(4, 8, 3, groups=2)),
    "transposed": net(sn.nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)),
    "one axis": net(sn.nn.Conv1d(4, 6, 3), shape=(4, 9)),
    "three axes": net(sn.nn.Conv3d(2, 3, (1, 2, 3)), shape=(2, 4, 4, 4)),
    "linear": net(sn.nn.Linear(8, 5), shape=(8,)),
    "rows": net(sn.nn.Linear(8, 5), shape=(7, 8)),
    "attention": net(sn.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), shape=(5, 8)),
}


# Loops ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_loops_multiply_as_often_as_torch_counts(name):
    architecture = LAYERS[name]
    macs = sum(macs_of(piece) for _, piece in pieces_of(architecture))
    assert macs > 0
    assert sum(nest.macs for nest in nests(architecture)) == macs
    for nest in nests(architecture):
        layer = nest.as_zigzag(8, 16)
        assert math.prod(layer["loop_sizes"]) == nest.macs
        assert layer == json.loads(json.dumps(layer))  # plain data


def test_kinds_of_layers_are_told_apart():
    kinds = {name: nests(LAYERS[name])[0].kind for name in LAYERS}
    assert kinds["strided"] == kinds["one axis"] == "convolution"
    assert (kinds["pointwise"], kinds["depthwise"], kinds["grouped"], kinds["linear"]) == (
        "pointwise", "depthwise", "grouped", "matmul"
    )  # fmt: skip


def test_a_transposed_convolution_has_the_loops_of_the_one_it_undoes():
    (down,) = nests(net(sn.nn.Conv2d(6, 4, 2, stride=2), shape=(6, 8, 8)))
    (up,) = nests(net(sn.nn.ConvTranspose2d(4, 6, 2, stride=2), shape=(4, 4, 4)))
    assert up == down


def test_fused_attention_is_two_products():
    query, key = (torch.empty(2, 4, length, 8, device="meta") for length in (5, 7))
    attention = torch.ops.aten._scaled_dot_product_flash_attention.default
    operation = Operation(attention, (query, key, key), {}, (query,))
    scores, values = nests_of(operation)
    assert (scores.groups, scores.positions, scores.inputs, scores.outputs) == (8, (5,), 8, 7)
    assert 2 * (scores.macs + values.macs) == flops_of(operation)


def test_what_multiplies_in_another_way_is_named():
    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.both = torch.nn.Bilinear(4, 4, 3)

        def forward(self, x):
            return self.both(x, x)

    with pytest.raises(Untranslated, match="_trilinear"):
        nests(sn.Architecture(sn.spec(Pair), input=(4,)))


def test_weights_and_activations_are_moved_once_each():
    (_, piece), *_ = pieces_of(net(sn.nn.Linear(8, 5), shape=(7, 8)))
    moved = [traffic_of(op, piece.parameters, bits=8) for op in piece.operations]
    product = next(t for t in moved if t.weights >= 8 * 5 * 8)
    assert product.reads == 7 * 8 * 8 and product.writes == 7 * 5 * 8


# ZigZag -----------------------------------------------------------------------------------------


@needs_zigzag
@pytest.mark.parametrize("objective", ["energy", "latency", "edp"])
def test_numbers_are_those_of_zigzags_own_pipeline(objective, tmp_path, monkeypatch):
    import yaml
    from zigzag.api import get_hardware_performance_zigzag

    monkeypatch.chdir(tmp_path)
    (nest,) = nests(LAYERS["pointwise"])
    edge = hardware.load("edge_tpu_like")
    (tmp_path / "hardware.yaml").write_text(yaml.safe_dump(edge.data, sort_keys=False))
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(edge.mapping, sort_keys=False))
    expected = get_hardware_performance_zigzag(
        [nest.as_zigzag(8, 16)],
        "hardware.yaml",
        "mapping.yaml",
        opt={"edp": "EDP"}.get(objective, objective),
        dump_folder=str(tmp_path / "out"),
        lpf_limit=3,
        nb_spatial_mappings_generated=1,
        loma_show_progress_bar=False,
    )[:2]
    found = mapper.Mapper(edge, lpf_limit=3, spatial_mappings=1).map([nest])
    assert found[nest][objective] == pytest.approx(expected)


@needs_zigzag
def test_every_kind_of_layer_finds_a_place(capfd):
    distinct = dict.fromkeys(nest for name in LAYERS for nest in nests(LAYERS[name]))
    tpu = mapper.Mapper(hardware.load("tpu_like"), lpf_limit=3, spatial_mappings=1)
    found = tpu.map(distinct)
    assert set(found) == set(distinct)
    assert all(pair > (0, 0) for best in found.values() for pair in best.values())
    assert capfd.readouterr() == ("", "")  # ZigZag is silent


@needs_zigzag
def test_energy_and_cycles_share_one_run(monkeypatch):
    architecture = LAYERS["pointwise"]
    energy, cycles = Energy("edge_tpu_like", **SMALL), Cycles("edge_tpu_like", **SMALL)
    first = energy(architecture)

    def refuse(*args):
        raise AssertionError("it was mapped again")

    monkeypatch.setattr(mapper, "_Process", refuse)
    (nest,) = nests(architecture)
    picojoules, count = mapper.Mapper(hardware.load("edge_tpu_like"), 3, 1).map([nest])[nest]["edp"]
    assert first == energy(architecture) == pytest.approx(picojoules * 1e-6)
    assert cycles(architecture) == count
    with pytest.raises(CostFailed, match="again"):
        Energy("edge_tpu_like", lpf_limit=4, spatial_mappings=1)(architecture)


@needs_zigzag
def test_the_objective_is_the_best_of_its_kind():
    layer = LAYERS["strided"]
    best = {
        objective: (
            Energy("eyeriss_like", objective=objective, **SMALL)(layer),
            Cycles("eyeriss_like", objective=objective, **SMALL)(layer),
        )
        for objective in ("energy", "latency", "edp")
    }
    assert best["energy"][0] == min(energy for energy, _ in best.values())
    assert best["latency"][1] == min(cycles for _, cycles in best.values())
    assert math.prod(best["edp"]) <= min(map(math.prod, best.values())) * (1 + 1e-9)


@needs_zigzag
def test_bound_to_a_space_it_is_an_exact_table():
    width = sn.oneof([2, 4])
    space = sn.Space(
        sn.nn.Sequential(sn.nn.Conv2d(3, width, 1), sn.nn.ReLU(), sn.nn.Conv2d(width, 3, 1)),
        input=(3, 4, 4),
    )
    model = Energy("tpu_like", **SMALL)
    bound = model.bind(space)
    rows = space.sample(8, 0)
    assert bound.table is not None and "0 wrong" in str(bound.error)
    assert bound(rows).tolist() == pytest.approx([model(space.decode(row)) for row in rows])


@needs_zigzag
def test_elementwise_layers_are_free_or_a_trip_to_the_outermost_memory():
    relu = net(sn.nn.ReLU())  # 144 numbers of 8 bits in, and as many out, 64 bits an access
    assert Energy("eyeriss_like")(relu) == 0
    assert Energy("eyeriss_like", elementwise="memory")(relu) == pytest.approx(36 * 1000 * 1e-6)
    assert Cycles("eyeriss_like", elementwise="memory")(relu) == 36


@needs_zigzag
def test_a_description_of_ones_own_counts_and_so_does_its_content(tmp_path):
    import yaml

    data = hardware.load("tpu_like").data
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    layer = LAYERS["pointwise"]
    before = Energy(path, **SMALL), Energy(path, **SMALL)(layer)
    assert before[0].device == "mine"
    name = before[0].device_name
    data["memories"]["dram"]["r_cost"] *= 2
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    assert Energy(path, **SMALL)(layer) > before[1]
    assert before[0].device_name != name


@needs_zigzag
def test_the_order_of_memories_counts():
    tpu = hardware.load("tpu_like")
    turned = dict(reversed(tpu.data["memories"].items()))
    other = hardware.Hardware(tpu.name, {**tpu.data, "memories": turned}, tpu.mapping)
    assert other.digest != tpu.digest


@needs_zigzag
@pytest.mark.parametrize(
    ("text", "message"),
    [("name: x", "memories"), ("{", "YAML"), (None, "cannot be read")],
)
def test_what_is_no_description_is_refused_at_once(text, message, tmp_path):
    path = tmp_path / "wrong.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Energy(path)


@needs_zigzag
def test_a_mapping_of_ones_own_counts_and_needs_a_default(tmp_path):
    path = tmp_path / "mapping.yaml"
    links = "memory_operand_links: {O: O, W: I2, I: I1}"
    path.write_text(
        f"- {{name: default, spatial_mapping: {{D1: ['K, 1'], D2: ['C, 1']}}, {links}}}"
    )
    narrow = Cycles("tpu_like", mapping=path, **SMALL)(LAYERS["pointwise"])
    assert narrow > Cycles("tpu_like", **SMALL)(LAYERS["pointwise"])
    path.write_text("- {name: depthwise}")
    with pytest.raises(ValueError, match="default"):
        Cycles("tpu_like", mapping=path)


@needs_zigzag
def test_an_unknown_accelerator_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="edge_tpu_like, eyeriss_like"):
        Energy("eyeris")


@needs_zigzag
def test_a_layer_that_does_not_fit_is_named():
    with pytest.raises(mapper.MappingFailed, match=r"pointwise.*edge_tpu_like.*bits=32"):
        Energy("edge_tpu_like", bits=32, **SMALL)(LAYERS["pointwise"])


@needs_zigzag
def test_a_process_that_ends_is_told(monkeypatch):
    monkeypatch.setattr(mapper.sys, "executable", "/bin/false")
    with pytest.raises(mapper.MappingFailed, match="has ended"):
        Energy("tpu_like", **SMALL)(LAYERS["pointwise"])


def test_without_zigzag_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"symnas\[accelerators\]"):
        Energy("eyeriss_like")(LAYERS["pointwise"])


def test_workers_change_nothing_but_the_time():
    assert Energy("tpu_like", workers=1) == Energy("tpu_like", workers=8)
    assert Nest(4, 2, (3,)).key == Nest(outputs=4, inputs=2, positions=(3,)).key


# Measured ---------------------------------------------------------------------------------------


class Counter:
    """A monitor of a device that takes so many joules a call, counted in steps."""

    def __init__(self, joules=2.0, calls_seen=0):
        self.now = self.calls = self.begun = 0
        self.joules, self.calls_seen, self.open = joules, calls_seen, False

    def call(self):
        self.now += 0.01
        self.calls += 1

    def begin_window(self, key):
        assert not self.open
        self.open, self.begun = True, self.calls

    def end_window(self, key):
        self.open = False
        counted = self.calls - self.begun
        joules = self.joules * counted if counted >= self.calls_seen else 0.0
        return types.SimpleNamespace(gpu_energy={0: joules / 2}, cpu_energy=None,
                                     dram_energy={0: joules / 2})  # fmt: skip

    def measure(self, **options):
        return measured.count_joules(self.call, self, clock=lambda: self.now, **options)


def test_joules_are_those_of_one_call():
    counter = Counter()
    found = counter.measure(seconds=0.1, windows=3, warmup=5)
    assert found.joules == pytest.approx(2.0) and found.noise == pytest.approx(0.0)
    assert found.calls == counter.calls - 5


def test_a_slow_counter_gets_longer_windows_and_a_dead_one_an_error():
    assert Counter(calls_seen=25).measure(seconds=0.1).joules == pytest.approx(2.0)
    with pytest.raises(CostFailed, match="did not move"):
        Counter(joules=0.0).measure(seconds=0.1)


def test_a_window_is_closed_when_a_call_fails():
    counter = Counter()

    def fail():
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        measured.count_joules(fail, counter, warmup=0)
    assert not counter.open


def test_a_measurement_is_made_once(monkeypatch):
    monkeypatch.setattr(measured, "monitor_of", lambda device: Counter(calls_seen=0))
    monkeypatch.setattr(measured, "version", lambda name: "0")
    made = []
    count = measured.count_joules

    def counted(*args, **options):
        made.append(1)
        return measured.Joules(3.5, 0.0, 1) if args else count(*args, **options)

    monkeypatch.setattr(measured, "count_joules", counted)
    model = measured.MeasuredEnergy(seconds=0.01)
    layer = net(sn.nn.Linear(4, 4), shape=(4,))
    assert model(layer) == model(layer) == 3.5 and len(made) == 1


def test_a_machine_without_counters_says_what_is_missing():
    pytest.importorskip("zeus.monitor.energy", reason="Zeus is not installed")
    try:
        measured.monitor_of("cpu")
    except CostFailed as error:
        assert "RAPL" in str(error) and "cm.EnergyTable" in str(error)
        space = sn.Space(sn.nn.Linear(4, sn.oneof([2, 3])), input=(4,))
        with pytest.raises(CostFailed, match="RAPL"):
            measured.MeasuredEnergy().bind(space)
    else:
        pytest.skip("this machine has counters")


def test_a_device_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'cpu' or 'cuda'"):
        measured.MeasuredEnergy("tpu")
