"""The benchmark of networks for tables, on made-up results: what it keeps and what it compares."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from symnas.spaces.tabular import tabular

import symnas as sn

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "tabular.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_tabular", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def known(bench):
    """Larger networks are better, by what one training says and by what they are worth."""
    space = tabular(4, classes=2, widths=(2, 4, 6, 8))
    rows = np.concatenate(list(space.enumerate()))
    worth = np.repeat((rows.sum(axis=1) / 20 + 0.4)[:, None], 2, axis=1)
    parameters = bench.cm.Parameters().bind(space)(rows)
    results = {"validation": worth, "test": worth, "seconds": worth}
    return bench.Known(space, rows, parameters, results, float(np.quantile(parameters, 0.2)))


def test_a_stopped_table_goes_on_and_trains_nothing_twice(bench, tmp_path):
    space = tabular(3, classes=2, widths=(2, 3), layers=2)
    x = torch.randn(40, 3)
    task = sn.Task((x, (x[:, 0] > 0).long()), test=(x, (x[:, 1] > 0).long()), epochs=1)
    first = bench.tabulated(space, task, tmp_path)
    assert {name: array.shape for name, array in first.items()} == {
        "validation": (4, 2), "test": (4, 2), "seconds": (4, 2)
    }  # fmt: skip
    (file,) = tmp_path.iterdir()
    whole = file.read_text().splitlines()
    assert len(whole) == 8
    file.write_text("\n".join(whole[:4]) + "\n" + whole[4][:-3])  # killed while it wrote
    again = bench.tabulated(space, task, tmp_path)
    for name in ("validation", "test"):
        assert np.array_equal(first[name], again[name])
    assert np.array_equal(first["seconds"][:, 0], again["seconds"][:, 0])  # these were kept


def test_searches_within_the_limit_find_its_best(bench, known):
    count = int(known.feasible.sum())
    for name, setting in bench.settings(known).items():
        found = bench.searched(known, setting, [count], seed=1)
        if "absolute" in name:
            assert found.within < 1
        else:
            assert found.within == 1
            assert known.regret[found.best[count]] == 0


def test_what_a_policy_holds_for_best(bench, known):
    likely = {identity: torch.tensor([0.1, 0.1, 0.1, 0.7]) for identity in known.space.columns}
    likeliest, projected = bench.choices(known, likely)
    assert known.rows[likeliest].tolist() == [3, 3, 3] and not known.feasible[likeliest]
    assert known.feasible[projected]
    most = (known.rows[known.feasible] == 3).sum(axis=1).max()
    assert (known.rows[projected] == 3).sum() == most


def test_means_and_errors(bench):
    assert bench.mean([1.0, 3.0, None]) == "2.00 ± 1.00"
    assert bench.mean([None]) == "none"
