"""Comparisons that are called again: nothing repeated, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from benchmark_tables import counted, grid

from symnas import algorithms as alg
from symnas.benchmark import compare

ALGORITHMS = {
    "random": alg.RandomSearch(),
    "evolution": alg.RegularizedEvolution(population_size=6, tournament_size=3),
    "local": alg.LocalSearch(),
}


def test_nothing_is_repeated(tmp_path, monkeypatch):
    done = counted(monkeypatch)
    options = {"evaluations": 10, "progress": False, "folder": tmp_path}
    first = compare(ALGORITHMS, grid((6, 6)), seeds=2, **options)
    assert len(done) == 6
    again = compare(ALGORITHMS, grid((6, 6)), seeds=2, **options)
    assert len(done) == 6
    pd.testing.assert_frame_equal(first.frame(), again.frame())
    compare(ALGORITHMS, grid((6, 6)), seeds=3, **options)
    assert [seed for _, seed in done[6:]] == [2, 2, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"evaluations": 11},
        {"subject_to": "ms<=8"},
        {"objectives": "ms"},
        {"tables": grid((6, 6), budgets=(1, 2))},
        {"algorithms": {"a": alg.RegularizedEvolution(population_size=7, tournament_size=3)}},
    ],
)
def test_changed_settings_are_other_cells(tmp_path, monkeypatch, change):
    done = counted(monkeypatch)
    options = {
        "algorithms": {"a": alg.RegularizedEvolution(population_size=6, tournament_size=3)},
        "tables": grid((6, 6)), "seeds": 1, "evaluations": 10, "progress": False,
    }  # fmt: skip
    compare(**options, folder=tmp_path)
    compare(**(options | change), folder=tmp_path)
    assert len(done) == 2


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
import attrs
from benchmark_tables import grid
from symnas import algorithms as alg
from symnas.benchmark import compare, pool

def drive(table, contender, setup, seed, inner=pool.drive):
    print("begin", seed, flush=True)
    time.sleep(0.0 if seed < 3 else 60)
    return inner(table, contender, setup, seed)

pool.drive = drive
compare({{"random": alg.RandomSearch()}}, grid((6, 6)), seeds=6, evaluations=10, folder={folder!r},
        progress=False)
"""


def test_a_killed_comparison_goes_on(tmp_path, monkeypatch):
    """Nothing repeated of what was done, nothing lost, and no half file is taken for a whole."""
    tests = str(Path(__file__).parent)
    script = SLOW.format(tests=tests, folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "begin 3" not in process.stdout.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    cells = sorted((tmp_path / "cells").iterdir())
    assert len(cells) == 3
    (tmp_path / "cells" / (cells[0].name + ".part")).write_text("half")
    stamps = [cell.stat().st_mtime_ns for cell in cells]
    done = counted(monkeypatch)
    random = {"random": alg.RandomSearch()}
    options = {"seeds": 6, "evaluations": 10, "progress": False}
    found = compare(random, grid((6, 6)), folder=tmp_path, **options)
    assert [seed for _, seed in done] == [3, 4, 5]
    assert [cell.stat().st_mtime_ns for cell in cells] == stamps
    pd.testing.assert_frame_equal(found.frame(), compare(random, grid((6, 6)), **options).frame())


def test_malformed_cells_are_named(tmp_path):
    options = {"seeds": 1, "evaluations": 3, "progress": False, "folder": tmp_path}
    compare({"random": alg.RandomSearch()}, grid(), **options)
    (cell,) = (tmp_path / "cells").iterdir()
    cell.write_text(json.dumps(json.loads(cell.read_text()) | {"spent": [1]}))
    with pytest.raises(ValueError, match=rf"{cell.name} is no whole result.*delete it"):
        compare({"random": alg.RandomSearch()}, grid(), **options)


def test_recovery_is_quick(tmp_path):
    """Reading what is done takes much less than doing it."""
    options = {"seeds": 3, "evaluations": 60, "progress": False, "folder": tmp_path}
    times = []
    for _ in range(2):
        began = time.perf_counter()
        compare(ALGORITHMS, grid((12, 12)), **options)
        times.append(time.perf_counter() - began)
    assert times[1] < times[0]
