"""The MnasNet-like space, and Accel-NASBench as a table and as a surrogate."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from symnas.spaces.mnasnet import WIDTHS, mnasnet

import symnas as sn
from symnas import cost_models as cm
from symnas.benchmark.additive import Additive, Priced
from symnas.benchmark.boosting import Boosting
from symnas.benchmark.optimum import optimum
from symnas.benchmark.table import Column, Tabulated
from symnas.predictors.base import held_out
from symnas.testing.costs import check_cost_model

reader = importlib.import_module("symnas.benchmark.readers.accel_nasbench")

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SYMNAS_DATA", ROOT.parent / "shared" / "data"))
FILE = DATA / "accel_nasbench" / "results.csv.gz"
needs_data = pytest.mark.skipif(not FILE.is_file(), reason=f"there is no file {FILE}")

# EfficientNet-B0 in the order of the decisions: layers, kernel, expansion, squeeze of each block.
B0 = [(1, 3, 1), (2, 3, 6), (2, 5, 6), (3, 3, 6), (3, 5, 6), (4, 5, 6), (1, 3, 6)]


def row_of(space, blocks, squeeze=True):
    chosen = {}
    for b, (layers, kernel, expansion) in enumerate(blocks):
        chosen |= {f"layers {b}": layers, f"kernel {b}": kernel, f"expansion {b}": expansion}
        chosen[f"squeeze {b}"] = squeeze
    return np.array([d.labels.index(str(chosen[d.name])) for d in space.decisions], np.int32)


# The space -------------------------------------------------------------------------------------


def test_efficientnet_b0_is_in_the_space():
    space = mnasnet()
    architecture = space.decode(row_of(space, B0))
    # As widely published: 5.29 million parameters, 0.39 billion multiply-adds.
    parameters = sum(p.numel() for p in architecture.build().parameters())
    assert parameters == 5_288_548
    assert cm.Macs()(architecture) / 1e9 == pytest.approx(0.386, abs=0.001)


def test_a_block_by_hand():
    space = mnasnet(10, 32)
    small = row_of(space, [(1, 3, 1)] * 7, squeeze=False)
    large = small.copy()
    names = [d.name for d in space.decisions]
    large[names.index("squeeze 1")] = 1
    large[names.index("expansion 1")] = 1  # 4
    large[names.index("layers 1")] = 1  # 2
    parameters = [sum(p.numel() for p in space.decode(r).build().parameters()) for r in (small, large)]  # fmt: skip
    depthwise = 16 * 9 + 2 * 16 + 16 * 24 + 2 * 24

    def block(width, squeezed):
        inside = 4 * width
        excite = 2 * inside * squeezed + squeezed + inside
        return width * inside + 2 * inside + inside * 9 + 2 * inside + excite + inside * 24 + 48

    assert parameters[1] - parameters[0] == block(16, 4) + block(24, 6) - depthwise


def test_strides_and_widths_of_blocks():
    space = mnasnet(10, 64)
    network = space.decode(row_of(space, B0)).build().eval()
    shapes = []
    for layer in list(network)[1:8]:
        layer.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[1:])))
    network(torch.randn(1, 3, 64, 64))
    sides = np.array([32, 16, 8, 4, 4, 2, 2])
    assert shapes == [(w, s, s) for w, s in zip(WIDTHS, sides, strict=True)]


def test_mistakes():
    with pytest.raises(ValueError, match=r"`classes` \(0\) must be at least 1"):
        mnasnet(0)
    with pytest.raises(ValueError, match=r"`leaves` \(1\) at least 2"):
        Boosting(leaves=1)
    with pytest.raises(ValueError, match=r"`strength` \(0\) must be positive"):
        Additive(strength=0)
    with pytest.raises(ValueError, match="must name each decision once"):
        Additive([["a", "b"], ["a"]])


# Sums, and the best row ------------------------------------------------------------------------


def tiny():
    """Two blocks of two decisions that depend on one another, and one decision alone."""
    return sn.Space({n: sn.oneof([1, 2, 3]) for n in "abcde"})


def truth(rows):
    a, b, c, d, e = rows.T
    return 5 + 2.0 * a * b + (c == d) * 3 - e


def test_additive_finds_exact_sums():
    space = tiny()
    rows = space.sample(120, 1)
    groups = [["b", "a"], ["c", "d"]]
    fitted = Additive(groups).fit(space, rows, truth(rows))
    everything = np.concatenate(list(space.enumerate()))
    assert np.abs(fitted.predict(everything) - truth(everything)).max() < 1e-5
    # Without groups, there is no such sum.
    alone = held_out(Additive(), space, rows, truth(rows))
    assert held_out(Additive(groups), space, rows, truth(rows)).rmse < 1e-4 < 1 < alone.rmse


def test_additive_is_ridge_regression():
    from sklearn.linear_model import Ridge

    space = tiny()
    rows = space.sample(30, 2)
    values = truth(rows) + np.random.default_rng(0).normal(size=30)
    ones = space.features(rows).astype(float)
    other = Ridge(2.0, fit_intercept=False).fit(ones, values - values.mean())
    found = Additive(strength=2.0).fit(space, rows, values).predict(rows)
    assert np.allclose(found, other.predict(ones) + values.mean(), atol=1e-6)


def test_additive_knows_inactive_decisions():
    inner = sn.nn.Linear(4, 4, bias=sn.oneof([True, False], name="bias"))
    space = sn.Space(sn.oneof([sn.nn.Identity(), inner], name="layer"))
    rows = np.array([[0, -1], [1, 0], [1, 1]])
    fitted = Additive().fit(space, rows, [1.0, 5.0, 4.0])
    assert fitted.predict(rows) == pytest.approx([1, 5, 4], abs=1e-4)


def test_additive_refuses_what_has_no_table():
    space = sn.Space([sn.floatv(0.0, 1.0, name="x"), sn.oneof([1, 2], name="y")])
    with pytest.raises(ValueError, match="too many values for a table"):
        Additive().fit(space, space.sample(5), np.arange(5))
    with pytest.raises(ValueError, match="no decision 'z'"):
        Additive([["z"]]).fit(tiny(), tiny().sample(5), np.arange(5))


def table_of(space, rows):
    columns = [Column("value", "minimize", "ms", "cost")]
    return Tabulated("tiny", space, columns, rows, {"value": truth(rows)})


def priced():
    space = tiny()
    rows = np.unique(space.sample(150, 1), axis=0)
    predictor = Additive([["a", "b"], ["c", "d"]])
    return Priced.fit_each(table_of(space, rows), {"value": predictor})


def test_additive_columns_are_exact_costs():
    table = priced()
    cost = table.cost("value")
    check_cost_model(cost, table.space)
    bound = cost.bind(table.space)
    everything = np.concatenate(list(table.space.enumerate()))
    assert bound.range()[:2] == pytest.approx((truth(everything).min(), truth(everything).max()))
    assert bound.range().exact
    assert float(bound.expected()) == pytest.approx(truth(everything).mean())
    assert bound.error.n == len(table.held["value", -1].truth)
    line = table.errors().loc["value"]
    assert line["r2"] == pytest.approx(1) and line["tau"] > 0.9  # of ties, rounding decides


def test_additive_costs_hold_in_other_spaces():
    table = priced()
    # The same decisions, in another order, among others.
    other = sn.Space({n: sn.oneof([1, 2, 3]) for n in ("e", "d", "more", "b", "c", "a")})
    assert other.columns == ("e", "d", "more", "b", "c", "a")
    rows = other.sample(50, 3)
    bound = table.cost("value").bind(other)
    assert bound(rows) == pytest.approx(truth(rows[:, [5, 3, 4, 1, 0]]), abs=1e-4)
    architecture = other.decode(rows[0])
    assert table.cost("value")(architecture) == bound(rows[:1])[0]
    with pytest.raises(ValueError, match="lacks decisions"):
        table.cost("value").bind(sn.Space({n: sn.oneof([1, 2, 3]) for n in "abcd"}))


class Unlisted(Tabulated):
    def everything(self):
        return None


def test_optimum():
    space = tiny()
    everything = np.concatenate(list(space.enumerate()))
    columns = [Column("value", "minimize", "ms", "cost"), Column("gain", "maximize", "ms")]
    results = {"value": truth(everything), "gain": -truth(everything)}
    for kind in (Tabulated, Unlisted):
        table = kind("tiny", space, columns, everything, results)
        row, value = optimum(table, "value")
        assert value == truth(everything).min() == truth(row[None])[0]
        assert optimum(table, "gain")[1] == -value
    with pytest.raises(ValueError, match=r"`starts` \(0\) must be at least 1"):
        optimum(table, "value", starts=0)
    unknown = {name: np.full(len(everything), np.nan) for name in results}
    for kind in (Tabulated, Unlisted):
        with pytest.raises(ValueError, match="no result in the column 'value'"):
            optimum(kind("tiny", space, columns, everything, unknown), "value")


def test_optimum_keeps_to_valid_rows():
    space = sn.Space(
        {n: sn.oneof([1, 2, 3], name=n) for n in "abcde"},
        valid=lambda architecture: architecture["e"] < 3,
    )
    everything = np.concatenate(list(space.enumerate()))
    table = Unlisted(
        "tiny", space, [Column("value", "minimize")], everything, {"value": truth(everything)}
    )
    row, value = optimum(table, "value")
    assert space.is_valid(row[None]).all()
    assert value == truth(everything[space.is_valid(everything)]).min()


# The published table ---------------------------------------------------------------------------


def test_mistakes_in_files(tmp_path):
    file = tmp_path / "results.csv"
    with pytest.raises(FileNotFoundError):
        reader.accel_nasbench_measured(file, space=mnasnet(10, 32))
    names = [f"block{b}_{short}" for b in range(7) for short in ("e", "k", "l", "se")]
    line = dict.fromkeys(names, 1) | {f"block{b}_k": 3 for b in range(7)}
    line |= {f"block{b}_se": False for b in range(7)} | {"val_top1": 50.0, "params": 2.0}
    pd.DataFrame([line]).drop(columns="block3_k").to_csv(file)
    with pytest.raises(ValueError, match=r"'block3_k'.* missing"):
        reader.accel_nasbench_measured(file, space=mnasnet(10, 32))
    pd.DataFrame([line, line | {"block3_k": 7}]).to_csv(file)
    with pytest.raises(ValueError, match="`block3_k` has '7'; the space has 3, 5"):
        reader.accel_nasbench_measured(file, space=mnasnet(10, 32))
    pd.DataFrame([line, line | {"val_top1": 52.0}]).to_csv(file)
    table = reader.accel_nasbench_measured(file, space=mnasnet(10, 32))
    assert table.look_up(table.rows)["val_top1"].tolist() == [51.0]  # the mean of two


@functools.cache
def measured():
    return reader.accel_nasbench_measured(FILE, space=mnasnet())


@needs_data
def test_rows_of_the_published_table():
    table, space = measured(), measured().space
    assert len(table.rows) == 5_125
    # Line 0 of the file, which is there twice with other accuracies, and line 1000.
    twice = [(1, 3, 6), (2, 5, 4), (3, 3, 6), (3, 5, 6), (2, 5, 6), (2, 3, 1), (2, 3, 1)]
    once = [(1, 5, 1), (3, 5, 6), (1, 3, 4), (1, 3, 1), (3, 5, 6), (3, 5, 6), (3, 5, 1)]
    rows = [row_of(space, twice, squeeze=False), row_of(space, once)]
    for b in (0, 1):
        rows[1][[d.name for d in space.decisions].index(f"squeeze {b}")] = 0
    found = table.look_up(rows)
    assert found["val_top1"].tolist() == pytest.approx([(59.368 + 59.248) / 2, 62.074])
    assert found["parameters"].tolist() == [2.50116, 4.13186]
    assert found["train_seconds"][1] == 1956.65935 and found["latency:zcu102"][1] == 6.32185
    assert found["time:a100"][1] == pytest.approx(1000 / 9509.3615)


@needs_data
def test_programs_have_the_published_parameters_and_macs():
    table, space = measured(), measured().space
    rows = table.rows[::1500]
    published = table.look_up(rows)
    for i, row in enumerate(rows):
        architecture = space.decode(row)
        network = architecture.build()
        parameters = sum(p.numel() for p in network.parameters())
        assert parameters == pytest.approx(published["parameters"][i] * 1e6, abs=5)
        # Published MACs count four for each output of a batch norm, and what goes into and comes
        # out of poolings.
        extra = 0

        def count(module, inputs, output):
            nonlocal extra
            if isinstance(module, torch.nn.BatchNorm2d):
                extra += 4 * output.numel()
            elif isinstance(module, torch.nn.AdaptiveAvgPool2d):
                extra += inputs[0].numel() + output.numel()

        for module in network.modules():
            module.register_forward_hook(count)
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, 224, 224))
        macs = cm.Macs()(architecture) + extra
        assert macs == pytest.approx(published["macs"][i] * 1e6, abs=10)


@needs_data
def test_surrogate_of_costs_is_nearly_exact():
    columns = ["macs", "parameters", "latency:zcu102", "time:a100"]
    table = reader.accel_nasbench(FILE, columns=columns, space=mnasnet(10, 32))
    errors = table.errors()
    assert (errors.loc[["macs", "parameters"], "relative"] < 1e-6).all()
    assert (errors["tau"] > 0.99).all()
    assert table.everything() is None
    limit = table.cost("latency:zcu102") <= 3
    low, high = table.cost("latency:zcu102").bind(table.space).range()[:2]
    assert low < 3 < high and str(limit) == "latency:zcu102 <= 3 ms"


@needs_data
def test_surrogate_of_accuracy():
    # Fewer trees, and fewer rows to fit them to, than by default: tau is 0.915 there.
    options = {"columns": ["val_top1"], "folds": 2, "predictor": Boosting(trees=150, rate=0.2)}
    space = mnasnet(10, 32)
    table = reader.accel_nasbench(FILE, space=space, **options)
    assert 0.85 < table.errors().loc["val_top1", "tau"] < 0.92
    row, value = optimum(table, "val_top1", starts=4)
    assert value > 67.052  # the best that was trained
    around = table.values("val_top1", space.neighbors(row))
    assert value == table.values("val_top1", row[None])[0] and (around <= value).all()
    twin = reader.accel_nasbench(FILE, space=space, **options)
    rows = space.sample(50, 1)
    assert twin.digest() == table.digest()
    assert np.array_equal(twin.values("val_top1", rows), table.values("val_top1", rows))
