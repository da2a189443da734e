"""The FBNet space, and latencies of its networks."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from symnas.spaces.fbnet import (
    DEPTHS,
    OPERATIONS,
    STRIDES,
    WIDTHS,
    FBNetBlock,
    Layer,
    fbnet,
    without_skips,
)

from symnas import cost_models as cm
from symnas.testing.costs import check_cost_model

reader = importlib.import_module("symnas.benchmark.readers.fbnet")

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SYMNAS_DATA", ROOT.parent / "shared" / "data"))
FILE = DATA / "fbnet" / "latency_ms.csv.gz"
needs_data = pytest.mark.skipif(not FILE.is_file(), reason=f"there is no file {FILE}")

# FBNet-C, as the paper's Figure 4 draws it.
FBNET_C = [
    *["k3_e1"],
    *["k3_e6", "skip", "k3_e1", "k3_e1"],
    *["k5_e6", "k5_e3", "k5_e6", "k3_e6"],
    *["k5_e6", "k5_e3", "k5_e6", "k5_e6"],
    *["k5_e6", "k5_e6", "k5_e6", "k5_e3"],
    *["k5_e6", "k5_e6", "k5_e6", "k5_e6"],
    *["k3_e6"],
]


def row(operations):
    return np.array([OPERATIONS.index(o) for o in operations], np.int32)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_fbnet_c_has_its_published_size():
    architecture = fbnet(head=1984).decode(row(FBNET_C))
    # Table 3: 5.5 million parameters, 375 million multiply-adds (without the batch norms' own).
    assert parameters(architecture.build()) == 5_572_200
    assert cm.Macs()(architecture) / 1e6 == pytest.approx(385, abs=1)


def test_shapes_of_layers():
    network = fbnet(10, 64).decode(row(FBNET_C)).build().eval()
    shapes = []
    for layer in list(network)[1:23]:
        layer.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[1:])))
    network(torch.randn(1, 3, 64, 64))
    side, expected = 32, []
    for width, depth, stride in zip(WIDTHS, DEPTHS, STRIDES, strict=True):
        side //= stride
        expected += [(width, side, side)] * depth
    assert shapes == expected


def test_grouped_blocks_shuffle_and_others_do_not():
    shuffled = FBNetBlock(6, 6, 3, 1, groups=2).shuffle
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert shuffled(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert torch.equal(FBNetBlock(6, 6, 3, 1).shuffle(x), x)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        # 1x1, depthwise, 1x1 without biases, and a batch norm of two numbers a channel after each.
        ("k3_e1", 8 * 8 + 16 + 8 * 9 + 16 + 8 * 8 + 16),
        ("k3_e1_g2", 8 * 4 + 16 + 8 * 9 + 16 + 8 * 4 + 16),
        ("k5_e3", 8 * 24 + 48 + 24 * 25 + 48 + 24 * 8 + 16),
        ("k5_e6", 8 * 48 + 96 + 48 * 25 + 96 + 48 * 8 + 16),
        ("skip", 0),
    ],
)
def test_parameters_of_layers_by_hand(operation, expected):
    layer = Layer(operation, 8, 8)
    assert parameters(layer) == expected
    x = torch.randn(2, 8, 5, 5)
    y = layer.eval()(x)
    assert y.shape == x.shape
    if operation == "skip":
        assert torch.equal(y, x)


def test_blocks_add_their_input_where_shapes_allow():
    for stride, width, residual in ((1, 8, True), (2, 8, False), (1, 16, False)):
        block = FBNetBlock(8, width, 3, 3, stride=stride).eval()
        torch.nn.init.zeros_(block.project[1].weight)
        x = torch.randn(1, 8, 4, 4)
        y = block(x)
        assert torch.equal(y, x) if residual else not y.any()
    assert parameters(Layer("skip", 8, 16, 2)) == 8 * 16 + 32


def test_skipped_layers_that_do_nothing_do_not_count():
    space = fbnet(10, 32)
    base = ["k3_e1"] * 22
    one, two, other = list(base), list(base), list(base)
    one[2], two[4], other[1] = "skip", "skip", "skip"  # layer 2 changes the shape
    keys = space.keys(np.array([row(one), row(two), row(other), row(base)]))
    assert keys[0] == keys[1] and len(set(keys)) == 3
    assert len(set(fbnet(10, 32, canonical=False).keys(np.array([row(one), row(two)])))) == 2
    stages = without_skips(space.decode(row(["skip"] * 22)))
    assert [len(stage) for stage in stages] == [0, 1, 1, 1, 1, 1, 1]
    fixed = space.fix({space.columns[0]: "k3_e1"})
    rows = [fixed.encode(space.decode(row(r)).program) for r in (one, two, other)]
    assert len(set(fixed.keys(np.array(rows)))) == 2


def test_equal_networks_compute_the_same():
    space = fbnet(10, 32)
    one, two = ["k3_e1"] * 22, ["k3_e1"] * 22
    one[2], two[4] = "skip", "skip"
    a, b = (space.decode(row(r)).build().eval() for r in (one, two))
    b.load_state_dict(dict(zip(b.state_dict(), a.state_dict().values(), strict=True)))
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(a(x), b(x))


def test_mistakes():
    with pytest.raises(ValueError, match=r"`head` \(0\) must be at least 1"):
        fbnet(head=0)
    with pytest.raises(ValueError, match=r"`operation` \('k7_e1'\) must be one of k3_e1"):
        Layer("k7_e1", 8, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arch\n" + "-".join(["0"] * 22), "must have a column 'arch', and one for each device"),
        ("arch,x\n0-1-2,1.0", "'0-1-2' must be 22 numbers from 0 to 8"),
        ("arch,x\n" + "-".join(["9"] * 22) + ",1.0", "must be 22 numbers from 0 to 8"),
        ("arch,x\n" + ("-".join(["8"] * 22) + ",1.0\n") * 2, "are the same"),
    ],
)
def test_mistakes_in_files(tmp_path, text, message):
    file = tmp_path / "latency.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        reader.fbnet_measured(file, space=fbnet(10, 32))


@needs_data
def test_rows_of_the_published_table():
    space = fbnet(10, 32)
    table = reader.fbnet_measured(FILE, space=space)
    assert len(table.rows) == 5_000 and len(table.columns) == 20
    first = [7, 8, 1, 8, 4, 8, 8, 8, 7, 4, 1, 4, 7, 3, 2, 7, 3, 2, 4, 2, 4, 5]
    assert table.rows[0].tolist() == first
    assert table.values("pixel3", [first])[0] == 17.55775
    assert table.values("samsung_s7", [first])[0] == 100.0


@needs_data
def test_latency_is_a_sum_over_layers():
    space = fbnet(10, 32)
    table = reader.fbnet(FILE, devices=["pixel3", "titan_rtx_1", "samsung_s7"], space=space)
    errors = table.errors()
    assert errors.loc["latency:pixel3", "relative"] < 1e-5
    assert errors.loc["latency:titan_rtx_1", "tau"] > 0.95
    assert errors.loc["latency:samsung_s7", "tau"] < 0.6  # noisy: said, not hidden
    cost = table.cost("pixel3")
    check_cost_model(cost, space)
    bound = cost.bind(space)
    measured = reader.fbnet_measured(FILE, space=space)
    assert bound(measured.rows) == pytest.approx(measured.values("pixel3", measured.rows), abs=1e-3)
    low, high, row_low, row_high, _, exact = bound.range()
    assert exact and low < measured.results["latency:pixel3"].min()
    assert bound([row_low, row_high]).tolist() == pytest.approx([low, high])
    with pytest.raises(ValueError, match="no column 'pixel9'"):
        reader.fbnet(FILE, devices=["pixel9"], space=space)
