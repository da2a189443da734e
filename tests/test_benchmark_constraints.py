"""The benchmark of wasted evaluations, on made-up tables: what it counts and what it compares."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from symnas.spaces.nasbench201 import to_string

import symnas as sn

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "constraints.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_constraints", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def limit(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory):
    """A tenth of the cells: latencies are whole numbers of 0.1 ms, so that many lie on the limit."""
    data = tmp_path_factory.mktemp("data")
    (data / "nasbench201").mkdir()
    random = np.random.default_rng(0)
    made = random.random((5, 6))
    latency, accuracy = [], []
    for row in np.ndindex((5,) * 6):
        name = to_string(row)
        steps = np.rint(10 * made[list(row), range(6)]).sum()
        latency.append([name, float(steps) / 10])
        accuracy.append([name, 50 + 3 * steps / 10 + random.random(), 40 + random.random()])
    for file, header, records in zip(
        bench.FILES,
        (["arch", "phone"], ["arch", "cifar10_val", "cifar10_test"]),
        (latency, accuracy),
        strict=True,
    ):
        with gzip.open(data / "nasbench201" / file, "wt", newline="") as out:
            csv.writer(out).writerows([header, *records])
    return bench.Limit(str(data), "phone", 10.0)


def test_the_table_keeps_the_cells_that_measuring_keeps(bench, limit) -> None:
    space = bench.search_space()
    rows = np.concatenate(list(space.enumerate()))
    for percentile in (5.0, 10.0, 20.0, 40.0):  # sums are rounded up at some, and down at others
        other = bench.Limit(limit.data, limit.device, percentile)
        kept = bench.constraints(other, "table").mask(rows)
        assert np.array_equal(kept, other.within[tuple(rows.T)])
        assert (bench.table(limit.data, "phone")[other.within] > other.ms * (1 - 1e-6)).any()
    model = bench.Latency(limit.data, "phone")
    for row in rows[:: len(rows) // 20]:
        assert model(space.decode(row)) == bench.table(limit.data, "phone")[tuple(row)]


def test_the_loop_makes_the_trials_of_search(bench, limit) -> None:
    accuracy = bench.table(limit.data, "cifar10_val")
    for name, algorithm in bench.OURS.items():
        study = sn.search(
            bench.search_space(),
            algorithm,
            lambda architecture: float(accuracy[tuple(architecture.row)]),
            maximize="accuracy",
            subject_to=bench.LatencyTable(limit.data, "phone") <= limit.ms,
            trials=40,
            seed=3,
            progress=False,
        )
        evaluated, _ = bench.ours(name, "table", limit, seed=3, trials=40)
        assert evaluated == [tuple(trial.architecture.row) for trial in study.trials]


@pytest.mark.parametrize("way", ["measured", "table"])
def test_symnas_evaluates_nothing_infeasible(bench, limit, way) -> None:
    for name in bench.OURS:
        outcome = bench.search(f"symnas {name}, {way}", limit, seed=1, trials=60)
        assert (outcome.evaluations, outcome.infeasible) == (60, 0)


def test_skipping_leaves_the_course_of_tpe_as_it_is(bench, limit) -> None:
    pytest.importorskip("optuna")
    soft, _ = bench.theirs("TPE", False, limit, seed=1, trials=100)
    feasible = [row for row in soft if limit.within[row]]
    assert 0 < len(feasible) < len(soft)
    skipping, _ = bench.theirs("TPE", True, limit, seed=1, trials=len(feasible) + 5)
    assert skipping[: len(feasible)] == feasible


def test_skipping_evaluates_nothing_infeasible(bench, limit) -> None:
    pytest.importorskip("optuna")
    evaluated, latencies = bench.theirs("NSGA-II", True, limit, seed=1, trials=40)
    assert all(limit.within[row] for row in evaluated)
    assert latencies > len(set(evaluated))


def test_only_cells_within_the_limit_count(bench, limit) -> None:
    accuracy = bench.table(limit.data, "cifar10_val")
    cells, keeps = sorted(np.ndindex(accuracy.shape), key=lambda row: accuracy[row]), limit.within
    within = [row for row in cells if keeps[row]]
    assert not keeps[cells[-1]]  # the best of all is too slow
    found = bench.judged(limit, [cells[-1], within[-2]], 2, 0.0)
    assert (found.infeasible, found.nothing) == (1, False)
    assert found.regret == accuracy[within[-1]] - accuracy[within[-2]]
    nothing = bench.judged(limit, [cells[-1]], 1, 0.0)
    assert nothing.nothing
    assert nothing.regret == accuracy[within[-1]] - accuracy[within[0]]
