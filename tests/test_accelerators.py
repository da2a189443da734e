"""Edge accelerators as choices: formulas by hand and by loops, joint spaces, and ZigZag."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from symnas.cost_models.edge import EdgeArea, EdgeEnergy, EdgeLatency
from symnas.spaces.accelerators import accelerator_of, edge_accelerator, with_accelerator

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas.costs.accelerators import hardware
from symnas.costs.accelerators.edge import (
    BITS,
    DATAFLOWS,
    SUM_BITS,
    Edge,
    Work,
    array_cycles,
    buffer_bits,
    memory_bits,
    memory_pj,
)

needs_zigzag = pytest.mark.skipif(
    not hardware.installed(), reason="ZigZag is not installed: pip install 'symnas[accelerators]'"
)


def pointwise():
    """100 positions, 24 filters, sums over 16 numbers: 1,600 inputs, 384 weights, 2,400 outputs."""
    return sn.Architecture(sn.nn.Conv2d(16, 24, 1, bias=False), input=(16, 10, 10))


# Formulas ---------------------------------------------------------------------------------------


def test_area_by_hand():
    edge = Edge(rows=2, columns=4, local_bytes=4, buffer_kb=1, bandwidth=1e9)
    parts = edge.areas_mm2
    # Eight times a multiplier (282), an adder (137), and 32 + 8 + 24 flip-flops of 4.522.
    assert parts["array"] == pytest.approx(8 * (282 + 137 + 64 * 4.522) * 1e-6)
    assert parts["buffer"] == pytest.approx(8192 * 0.692e-6)
    assert parts["port"] == pytest.approx(0.3)
    assert edge.area_mm2 == pytest.approx(0.31133613, rel=1e-6)
    assert EdgeArea(2, 4, 4, 1, 1e9)(pointwise()) == edge.area_mm2


@pytest.mark.parametrize(
    ("size", "dataflow", "cycles"),
    [
        (8, "weight", 2 * 3 * 100),  # 16 sums on 8 rows, 24 filters on 8 columns
        (16, "weight", 1 * 2 * 100),
        (8, "output", 13 * 3 * 16),  # 100 positions on 8 rows
        (16, "output", 7 * 2 * 16),
        (8, "input", 2 * 13 * 24),
    ],
)
def test_latency_of_a_layer_by_hand(size, dataflow, cycles):
    options = {"rows": size, "columns": size, "dataflow": dataflow}
    # 5 nanoseconds a cycle, and memory that never holds up; then 4,384 bytes at a byte a nanosecond.
    assert EdgeLatency(**options, bandwidth=1e15)(pointwise()) == pytest.approx(cycles * 5e-6)
    slow = EdgeLatency(**options, bandwidth=1e9, activations="memory")
    assert slow(pointwise()) == pytest.approx(4384e-6)
    # Only the weights, where 4,000 bytes of activations fit.
    kept = EdgeLatency(**options, bandwidth=1e8, buffer_kb=4)
    assert kept(pointwise()) == pytest.approx(max(3840e-6, cycles * 5e-6))
    tight = EdgeLatency(**options, bandwidth=1e8, buffer_kb=3)
    assert tight(pointwise()) == pytest.approx(43840e-6)


def test_energy_of_a_layer_by_hand():
    net = sn.Architecture(sn.nn.Linear(1600, 160, bias=False), input=(1600,))
    macs = 256_000
    # 64 weights at each of 16 x 16 multipliers, best along rows: inputs come for each 16 of 160
    # filters, and sums are in two parts of 1,024 numbers, of which one passes twice.
    buffer = 8 * macs + 10 * 8 * 1600 + 160 * (8 + 48)
    memory = 8 * macs
    operation = 0.3 + 8 * memory_pj(1) + 8 * memory_pj(64) + 48 * memory_pj(3)
    energy = macs * operation + (buffer + memory) * memory_pj(128 * 1024) + memory * 1300 / 64
    assert EdgeEnergy()(net) == pytest.approx(float(energy) * 1e-6)
    # Between 32 KB (20 pJ for 64 bits) and 1 MB (100 pJ): a factor 5 in size 32.
    assert float(memory_pj(128 * 1024)) == pytest.approx(20 / 64 * 4 ** (np.log(5) / np.log(32)))


def chunks(n, size):
    return [min(size, n - start) for start in range(0, n, size)]


def cycles_of_loops(m, n, q, edge):
    """One group's, filling the array again and again."""
    along = {"weight": (q, n, m), "output": (m, n, q), "input": (q, m, n)}[edge.dataflow]
    fills = itertools.product(chunks(along[0], edge.rows), chunks(along[1], edge.columns))
    return sum(along[2] for _ in fills)


def bits_of_loops(m, n, q, dataflow, rows, columns):
    """What passes between the buffer and an array of that size, for one group."""
    bits = BITS * m * n  # the finished sums
    if dataflow == "output":
        for block in itertools.product(chunks(m, rows), chunks(n, columns)):
            bits += BITS * q * (block[1] + block[0])  # both operands move
        return bits
    across, moving = (n, m) if dataflow == "weight" else (m, n)
    for block in chunks(across, columns):
        for part, height in enumerate(chunks(q, rows)):
            bits += BITS * height * (block + moving)  # what stays comes once; the other moves by
            if part:  # sums so far are written, and read again
                bits += 2 * SUM_BITS * moving * block
    return bits


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_cycles_and_buffer_traffic_are_those_of_loops(dataflow):
    rng = np.random.default_rng(0)
    for _ in range(60):
        m, n, q = (int(v) for v in rng.integers(1, 60, 3))
        rows, columns, local = (int(v) for v in rng.integers(3, 9, 3))
        edge = Edge(rows, columns, local, dataflow=dataflow)
        work = Work(*np.array([[m], [n], [q], [1]], float))
        cycles = cycles_of_loops(m, n, q, edge)
        assert array_cycles(work, edge) == cycles
        assert cycles * rows * columns >= work.macs  # never better than the peak
        kept = 8 * local // (SUM_BITS if dataflow == "output" else BITS)
        ways = [(kept * rows, columns), (rows, kept * columns)]
        assert buffer_bits(work, edge) == min(
            bits_of_loops(m, n, q, dataflow, *way) for way in ways
        )


def test_groups_share_columns_but_not_sums():
    depthwise = Work(*np.array([[100.0], [1.0], [9.0], [24.0]]))
    assert array_cycles(depthwise, Edge(8, 8)) == 2 * 3 * 100
    assert array_cycles(depthwise, Edge(8, 8, dataflow="output")) == 13 * 3 * 9
    assert array_cycles(depthwise, Edge(8, 8, dataflow="input")) == 2 * 13 * 24


def test_external_memory_by_hand():
    edge = Edge(buffer_kb=1)
    assert memory_bits(0, 800, 8192, edge, keep=True) == 800
    assert memory_bits(0, 800, 8193, edge, keep=True) == 8993
    assert memory_bits(0, 800, 8192, edge, keep=False) == 8992
    # At least 2 MACs / sqrt(1024) numbers of 8 bits.
    assert memory_bits(32_000, 800, 8192, edge, keep=False) == 2 * 32_000 / 32 * 8


def test_bad_values_are_named():
    for options, message in [
        ({"rows": 0}, "rows.*at least 1"),
        ({"local_bytes": 2}, "local_bytes.*at least 3"),
        ({"bandwidth": 0.0}, "bandwidth.*above 0"),
        ({"dataflow": "row"}, "dataflow.*weight"),
        ({"rows": sn.oneof([4, -4])}, "rows.*at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            EdgeLatency(**options)
    with pytest.raises(ValueError, match=r"rows.*at least 1"):
        edge_accelerator(rows=[8, 0])
    with pytest.raises(TypeError, match=r"dataflow.*list"):
        edge_accelerator(dataflow="weight")
    with pytest.raises(ValueError, match=r"options.*edge_accelerator"):
        with_accelerator(sn.Space(sn.nn.Linear(2, sn.oneof([2, 3]))), {"rows": 4})
    with pytest.raises(ValueError, match="with_accelerator"):
        accelerator_of(pointwise())


# Joint spaces -----------------------------------------------------------------------------------


def networks():
    width = sn.oneof([8, 20], name="width")
    return sn.Space(
        sn.nn.Sequential(
            sn.nn.Conv2d(3, width, 3, padding=1), sn.nn.BatchNorm2d(width), sn.nn.ReLU(),
            sn.repeat(
                lambda i: sn.nn.Conv2d(width, width, sn.oneof([1, 3]), padding="same", groups=width),
                times=sn.intv(0, 1),
            ),
            sn.nn.Flatten(), sn.nn.LazyLinear(10),
        ),
        input=(3, 9, 9),
    )  # fmt: skip


def joint():
    options = edge_accelerator(
        rows=[4, 16], columns=[4, 8], local_bytes=[8], buffer_kb=[1, 64], bandwidth=[1e8, 1e9],
        dataflow=["weight", "output"],
    )  # fmt: skip
    return with_accelerator(networks(), options), options


def test_every_cost_of_every_pair():
    space, options = joint()
    assert {d.name: d.group for d in space.decisions if d.group} == dict.fromkeys(
        ["array rows", "array columns", "buffer kb", "bandwidth", "dataflow"], "hardware"
    )
    rows = np.concatenate(list(space.enumerate()))
    assert len(rows) == 32 * 6
    latency, energy, area = EdgeLatency(**options), EdgeEnergy(**options), EdgeArea(**options)
    edp = (energy * latency).named("edp")
    found = {m.name: m.bind(space)(rows) for m in (latency, energy, area, edp)}
    assert found["edp"] == pytest.approx(found["energy"] * found["latency"])
    for i in range(0, len(rows), 11):
        architecture = space.decode(rows[i])
        edge = accelerator_of(architecture)
        assert edge.rows == architecture["array rows"]
        alone = sn.Architecture(architecture.program, input=(3, 9, 9))
        fixed = {name: getattr(edge, name) for name in options}
        assert found["area"][i] == pytest.approx(edge.area_mm2)
        assert found["latency"][i] == pytest.approx(EdgeLatency(**fixed)(alone))
        assert found["energy"][i] == pytest.approx(EdgeEnergy(**fixed)(alone))
        assert latency(architecture) == pytest.approx(found["latency"][i])
    # Tables, so that limits on them are exact.
    assert area.bind(space).range().exact and latency.bind(space).range().exact
    assert found["area"].min() == pytest.approx(area.bind(space).range().low)


def test_the_parts_of_a_joint_space():
    space, options = joint()
    machines, nets = space.split("hardware")
    assert machines.size == 32 and nets.size == networks().size == 6
    rows = space.join(machines, machines.sample(5, 1), nets, nets.sample(5, 2))
    assert all(space.is_row(row) for row in rows)
    # One machine, all networks: what a search of networks for given hardware is.
    fixed = space.fix({name: getattr(Edge(16, 8, 8, 64, 1e9), o) for name, o in FIXED.items()})
    alone = EdgeLatency(16, 8, 8, 64, 1e9).bind(networks())
    every = np.concatenate(list(fixed.enumerate()))
    assert EdgeLatency(**options).bind(fixed)(every) == pytest.approx(alone(every))


FIXED = {
    "array rows": "rows", "array columns": "columns", "buffer kb": "buffer_kb",
    "bandwidth": "bandwidth", "dataflow": "dataflow",
}  # fmt: skip


def test_a_search_keeps_the_budget_and_the_decisions():
    space, options = joint()
    latency, energy, area = EdgeLatency(**options), EdgeEnergy(**options), EdgeArea(**options)
    edp = (energy * latency).named("edp")
    study = sn.search(
        space, alg.NSGA2(population_size=8), lambda a: float(a["width"]), maximize="width",
        minimize=[edp], subject_to=[area <= 0.2], trials=25, progress=False,
    )  # fmt: skip
    assert len(study.trials) == 25
    for trial in study.trials:
        assert accelerator_of(trial.architecture).area_mm2 == pytest.approx(trial.costs["area"])
        assert trial.costs["area"] <= 0.2
        # The same decisions, though not every cost takes part.
        assert set(trial.architecture.choices) <= set(space.columns)
        again = sn.Architecture.from_json(trial.architecture.to_json())
        assert accelerator_of(again) == accelerator_of(trial.architecture)
    # Every pair within the budget, by enumeration: none has a smaller product.
    rows = np.concatenate(list(space.enumerate()))
    inside = area.bind(space)(rows) <= 0.2
    assert 0 < inside.sum() < len(rows)
    best = min(t.costs["edp"] for t in study.trials)
    assert best >= edp.bind(space)(rows)[inside].min() * (1 - 1e-12)


def test_choices_that_are_not_joined_are_an_error():
    space, options = joint()
    with pytest.raises(sn.DeclarationError, match="with_hardware"):
        EdgeArea(rows=sn.oneof([4, 16])).bind(space)
    with pytest.raises(sn.DeclarationError, match="with_hardware"):
        EdgeArea(**options).bind(networks())
    with pytest.raises(sn.DeclarationError, match="'array rows'"):
        EdgeArea(**edge_accelerator()).bind(space)  # other candidates under the same name


# ZigZag -----------------------------------------------------------------------------------------


@needs_zigzag
def test_zigzag_on_smaller_and_larger_arrays(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMNAS_CACHE", str(tmp_path))
    net = sn.Architecture(sn.nn.Conv2d(16, 16, 1, bias=False), input=(16, 4, 4))
    times, energies = [], []
    for size in (4, 16):
        # 128 bits a cycle from memory, of which tensors of 2,048 bits are a multiple.
        options = {"rows": size, "columns": size, "dataflow": "output", "bandwidth": 3.2e9}
        mapped = {**options, "by": "zigzag", "lpf_limit": 3, "workers": 1}
        times.append(EdgeLatency(**mapped)(net))
        energies.append(EdgeEnergy(**mapped)(net))
        plain = {**options, "activations": "memory"}
        # Loading and writing back take time that the roofline hides.
        assert EdgeLatency(**plain)(net) <= times[-1] <= 3 * EdgeLatency(**plain)(net)
        # Two ways of counting accesses, with the same energies.
        assert energies[-1] == pytest.approx(EdgeEnergy(**plain)(net), rel=0.1)
        # The same description through the accelerator models there were.
        same = cm.Cycles(Edge(**options), lpf_limit=3, bits=BITS, partial_bits=SUM_BITS)
        assert same(net) * 5e-6 == pytest.approx(times[-1])
    assert times[0] > 2 * times[1]  # sixteen times the multipliers, and the same memory
    assert energies[0] > energies[1]  # operands serve more multipliers at once


@needs_zigzag
def test_descriptions_are_valid_and_differ():
    from zigzag.parser.accelerator_validator import AcceleratorValidator

    made = [Edge(rows, 8, dataflow=flow).hardware() for rows in (4, 8) for flow in DATAFLOWS]
    assert len({each.digest for each in made}) == 6
    for each in made:
        validator = AcceleratorValidator(each.data)
        assert validator.validate(), validator.validator.errors


def test_zigzag_over_a_joint_space_is_measured_when_asked():
    space, options = joint()
    bound = EdgeLatency(**options, by="zigzag").bind(space)
    assert bound.table is None and "mapped when asked" in bound.note and bound.measured == 0
