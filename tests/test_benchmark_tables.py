"""Tables: looking up, costs, tasks, surrogates, and the reader of NAS-Bench-201."""

from __future__ import annotations

import os
import time
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from benchmark_tables import grid, grid_space

import symnas as sn
from symnas import algorithms as alg
from symnas.benchmark import Column, Modelled, Tabulated, readers
from symnas.benchmark.index import RowIndex
from symnas.errors import TrialFailed
from symnas.predictors.base import Fitted, Predictor
from symnas.tasks.trial import TrialContext

DATA = Path(os.environ.get("SYMNAS_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not (DATA / "nasbench201" / "accuracy_12_epochs.csv.gz").exists(),
    reason=f"nasbench201 is not in {DATA}; name the folder in SYMNAS_DATA",
)


@pytest.mark.parametrize("sides", [(3, 4), (50,) * 6, (90,) * 12])
def test_rows_are_found_however_large_the_space(sides):
    """Dense numbers, sorted 64-bit numbers, and keys give the same as comparing rows."""
    space = grid_space(sides)
    rows = np.unique(space.sample(40, 1), axis=0)
    asked = np.concatenate([rows[::-1], space.sample(40, 2)])
    expected = [next((i for i, r in enumerate(rows) if (r == a).all()), -1) for a in asked]
    assert RowIndex(space, rows).find(asked).tolist() == expected


def test_what_can_be_no_row_is_unknown():
    table = grid()
    assert np.isnan(table.values("score", [[-1, 0], [4, 0], [-2, 1], [0, 99]])).all()


def test_inactive_decisions_are_looked_up():
    space = sn.Space(sn.oneof([1, sn.nn.Linear(2, sn.oneof([4, 8]))]))
    rows = np.concatenate(list(space.enumerate()))
    table = Tabulated("conditional", space, [Column("a", "maximize")], rows, {"a": [1, 2, 3]})
    assert table.values("a", rows[::-1]).tolist() == [3, 2, 1]
    with pytest.raises(ValueError, match="is a metric: only costs are known before training"):
        table.cost("a")


def test_budgets():
    table = grid(budgets=(1.0, 2.0))
    assert table.values("score", [[3, 1]]).tolist() == [31]
    assert table.values("score", [[3, 1]], 1.0).tolist() == [15.5]
    assert table.look_up([[3, 1]], 1.0)["ms"].tolist() == [4]
    with pytest.raises(ValueError, match=r"`budget` \(3.0\) is none of those of grid: 1, 2"):
        table.look_up([[3, 1]], 3.0)


def test_names_end_in_a_device():
    columns = [Column("latency:a", "minimize", "ms", "cost"), Column("energy:b", "minimize")]
    table = Tabulated("t", grid_space((2,)), columns, [[0]], {"latency:a": [1], "energy:b": [2]})
    assert table.column("a").name == "latency:a"
    assert str(table.cost("a") <= 2) == "latency:a <= 2 ms"
    with pytest.raises(ValueError, match="no column 'latensy:a'; it has latency:a"):
        table.column("latensy:a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [[0], [7]]}, r"`rows\[1\]` \(\[7\]\) of t is no row"),
        ({"rows": [[1], [1]]}, r"`rows\[0\]` and `rows\[1\]` of t are the same"),
        ({"rows": np.empty((0, 1)), "results": {"a": []}}, "are empty"),
        ({"results": {"a": [1, 2, 3]}}, r"`results\['a'\]` of t has shape \(3,\)"),
        ({"results": {"b": [1, 2]}}, r"only one has \['a', 'b'\]"),
        ({"budgets": (2, 1)}, "must rise"),
        ({"columns": [Column("a", "maximize")] * 2}, "'a' is there twice"),
    ],
)
def test_malformed_tables_are_refused(change, message):
    arguments = {
        "name": "t", "space": grid_space((2,)), "columns": [Column("a", "maximize")],
        "rows": [[0], [1]], "results": {"a": [1, 2]},
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Tabulated(**(arguments | change))


def test_costs_as_constraints():
    table = grid()
    study = sn.search(
        table.space, alg.RandomSearch(), table.task(), maximize="score", trials=20,
        subject_to=[table.cost("ms") <= 2], progress=False,
    )  # fmt: skip
    assert len(study.trials) == 6  # all there are: d0 + d1 <= 2
    assert max(t.metrics["score"] for t in study.trials) == 20
    assert {t.costs["ms"] for t in study.trials} == {0, 1, 2}


def test_expected_costs_are_exact_and_differentiable():
    table = grid()
    bound = table.cost("ms").bind(table.space)
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    mean = bound.expected({"d0": torch.softmax(logits, 0)})
    mean.backward()
    assert float(mean.detach()) == pytest.approx(3.0)  # 1.5 + 1.5
    # d/dlogit_i of sum p_i i is p_i (i - 1.5)
    assert logits.grad.tolist() == pytest.approx([0.25 * (i - 1.5) for i in range(4)])
    assert bound.range()[:2] == (0.0, 6.0)
    assert bound.range().exact


def test_a_wider_space_keeps_the_table():
    table = grid()
    wide = table.space.with_task({"lr": sn.oneof([0.1, 0.2])})
    rows = wide.sample(5, 1)
    columns = [wide.columns.index(c) for c in table.space.columns]
    assert table.cost("ms").bind(wide)(rows).tolist() == rows[:, columns].sum(axis=1).tolist()
    other = grid_space((5, 5))
    with pytest.raises(ValueError, match="lacks decisions"):
        table.cost("ms").bind(other)


def test_the_task_tells_what_it_does_not_know():
    space = grid_space((3,))
    table = Tabulated("t", space, [Column("a", "maximize")], [[0]], {"a": [1]})
    with pytest.raises(TrialFailed, match="the table t does not know"):
        table.task()(space.decode([1]), TrialContext())


def test_digests_tell_numbers_apart():
    table, other = grid(), grid()
    assert table.digest() == other.digest()
    changed = grid(budgets=(1, 2))
    assert table.digest() != changed.digest()
    assert table.cost("ms") == other.cost("ms") != changed.cost("ms")


@attrs.frozen
class Linear(Predictor):
    """Least squares on the rows themselves."""

    def fit(self, space, rows, values, seed=0):
        return LinearFit(np.linalg.lstsq(_with_one(rows), values, rcond=None)[0])


@attrs.frozen(eq=False)
class LinearFit(Fitted):
    weights: np.ndarray

    def predict(self, rows):
        return _with_one(rows) @ self.weights


def _with_one(rows):
    return np.column_stack([rows, np.ones(len(rows))])


def test_a_model_predicts_what_is_unknown_and_tells_its_error():
    whole = grid((6, 6), budgets=(1, 2))
    known = np.arange(0, 36, 2)
    rng = np.random.default_rng(1)
    results = {name: array[known] for name, array in whole.results.items()}
    results["hours"] = rng.normal(size=len(known))  # nothing to be learned
    part = Tabulated("part", whole.space, whole.columns, whole.rows[known], results, (1, 2))
    model = Modelled.fit(part, Linear(), seed=1)
    for budget in (1, 2, None):
        truth = whole.look_up(whole.rows, budget)
        found = model.look_up(whole.rows, budget)
        assert found["score"] == pytest.approx(truth["score"])  # linear, so exact where unknown
        assert found["ms"] == pytest.approx(truth["ms"])
    assert model.held["score", 1].rmse == pytest.approx(0, abs=1e-9)
    assert model.held["ms", -1].tau > 0.95  # but for rounding
    assert model.held["hours", -1].tau < 0.6
    assert len(model.everything()) == 36
    again = Modelled.fit(part, Linear(), columns=["score"], seed=1)
    assert set(again.columns) == {"score"}
    assert model.digest() != again.digest() != part.digest()


@needs_data
def test_nasbench201():
    table = readers.nasbench201(DATA / "nasbench201", "cifar10", (12, 200))
    from symnas.spaces.nasbench201 import from_string

    cell = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    row = np.array([from_string(cell)])
    found = table.look_up(row)
    assert (found["test_accuracy"][0], found["parameters"][0]) == (86.18, 0.135156)
    assert np.isnan(found["val_accuracy"][0])  # known after 12 epochs only
    assert table.look_up(row, 12)["val_accuracy"][0] == 63.364
    assert found["latency:raspi4"][0] == 10.48198
    assert len(table.everything()) == table.space.size == 15_625
    assert np.isfinite(table.values("test_accuracy", table.everything())).all()
    with pytest.raises(ValueError, match="must be one of cifar10"):
        readers.nasbench201(DATA / "nasbench201", "mnist")
    with pytest.raises(FileNotFoundError, match="accuracy_12_epochs"):
        readers.nasbench201(DATA)


@needs_data
def test_looking_up_is_much_faster_than_row_by_row():
    table = readers.nasbench201(DATA / "nasbench201")
    rows = table.space.sample(100_000, 1)
    began = time.perf_counter()
    many = table.values("val_accuracy", rows)
    together = time.perf_counter() - began
    by_row = {tuple(r): i for i, r in enumerate(table.rows.tolist())}
    began = time.perf_counter()
    one = [table.results["val_accuracy"][by_row[tuple(r)]] for r in rows.tolist()]
    assert many.tolist() == one
    assert together < time.perf_counter() - began
