"""Hypervolume on tables that cannot list their architectures, and the script that compares it."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmark_tables import Scripted, grid_space

from symnas.benchmark import Below, Column, Tabulated, compare
from symnas.benchmark.driving import Setup, problem_of
from symnas.benchmark.optimum import extremes
from symnas.benchmark.writing import markdown

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "hypervolume.py"
DATA = Path(os.environ.get("SYMNAS_DATA", Path(__file__).parents[2] / "shared" / "data"))
OBJECTIVES = ("gain", "loss")


class Unlisted(Tabulated):
    def everything(self):
        return None


def table(kind=Tabulated, unknown=()):
    """`gain` and `loss` rise with both decisions: from 0 to 40 and from 1 to 17."""
    space = grid_space((5, 5))
    rows = np.concatenate(list(space.enumerate()))
    gain = 10.0 * rows[:, 0]
    gain[[row in unknown for row in map(tuple, rows.tolist())]] = np.nan
    columns = [Column("gain", "maximize"), Column("loss", "minimize", kind="cost")]
    loss = 1.0 + rows[:, 0] + 3 * rows[:, 1]
    return kind("hills", space, columns, rows, {"gain": gain, "loss": loss})


def compared(scripts, kind=Unlisted, **options):
    contenders = {name: Scripted(rows) for name, rows in scripts.items()}
    evaluations = max(len(rows) for rows in scripts.values())
    return compare(
        contenders, table(kind), seeds=1, evaluations=evaluations, objectives=OBJECTIVES,
        progress=False, **options,
    )  # fmt: skip


def test_the_box_does_not_depend_on_who_takes_part():
    # Neither sees an end of either objective but for a gain of 0.
    scripts = {"a": [[0, 1], [2, 1]], "b": [[1, 2], [3, 3]]}
    boxes = []
    for part in (scripts, {"a": scripts["a"]}):
        yardstick = compared(part).yardsticks["hills"]
        assert not yardstick.known
        boxes.append((yardstick.worst.tolist(), yardstick.best.tolist()))
    whole = compared(scripts, Tabulated).yardsticks["hills"]
    assert boxes == [(whole.worst.tolist(), whole.best.tolist())] * 2
    assert boxes[0] == ([0, -17], [40, -1])


def test_regret_is_to_the_front_of_all_that_was_found():
    found = compared({"a": [[0, 0], [2, 1]], "b": [[1, 2], [3, 3]]})
    # In the box: gain / 40, (17 - loss) / 16. a: (0, 1), (0.5, 11 / 16); b: (0.25, 9 / 16),
    # (0.75, 4 / 16). All together: up to 0.5 the height is 11 / 16, up to 0.75 it is 4 / 16.
    top = 0.5 * 11 / 16 + 0.25 * 4 / 16
    assert found.yardsticks["hills"].top == pytest.approx(top)
    assert found.regrets("a", "hills", [1, 2])[0] == pytest.approx([top, top - 0.5 * 11 / 16])
    b = [0.25 * 9 / 16, 0.25 * 9 / 16 + 0.5 * 4 / 16]
    assert found.regrets("b", "hills", [1, 2])[0] == pytest.approx(top - np.array(b))


def test_extremes_keep_limits_and_do_without_what_is_unknown():
    def ends(kind_of_table, **options):
        setup = Setup(OBJECTIVES, 1, **options)
        low, high = extremes(kind_of_table, OBJECTIVES, problem_of(kind_of_table, setup, 0))
        return low.tolist(), high.tolist()

    assert ends(table(Unlisted)) == ([0, -17], [40, -1])
    # At a loss of at most 4: (3, 0) is the best gain.
    assert ends(table(Unlisted), limits=(Below("loss", limit=4),)) == ([0, -4], [30, -1])
    best = [(4, i) for i in range(5)]
    assert ends(table(Unlisted, best)) == ([0, -17], [30, -1])


def test_the_box_is_told():
    found = compared({"a": [[0, 0], [2, 1]], "b": [[1, 2]]})
    text = markdown(found)
    assert "gain from 0 to 40, loss from 17 to 1 (as local searches and these found them)" in text
    assert "The front of all that was found has 0.34375 of it." in text
    listed = markdown(compared({"a": [[0, 0]]}, Tabulated))
    # The whole front: (d0, 0) has gain d0 / 4 and height 1 - d0 / 16.
    top = sum(0.25 * (1 - d0 / 16) for d0 in (1, 2, 3, 4))
    assert f"The true front has {top:.5g} of it." in listed


@pytest.mark.skipif(
    not (DATA / "nasbench201" / "latency_ms.csv.gz").exists(),
    reason=f"nasbench201 is not in {DATA}; name the folder in SYMNAS_DATA",
)
def test_the_script(tmp_path, monkeypatch, capsys):
    command = [
        str(SCRIPT), "--data", str(DATA), "--tables", "nasbench201", "--seeds", "2",
        "--evaluations", "55", "--algorithms", "NSGA2", "RandomSearch", "--out", str(tmp_path),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    output = capsys.readouterr().out
    assert "% of the true front's" in " ".join(output.split())
    assert (tmp_path / "nasbench201" / "regret_nasbench201.png").stat().st_size > 1000
    summary = pd.read_csv(tmp_path / "nasbench201" / "summary.csv")
    assert summary["evaluations"].tolist() == [50, 55] * 2
    # What is printed is the share of the front's hypervolume that is not missing.
    text = (tmp_path / "nasbench201" / "summary.md").read_text()
    top = float(text.partition("The true front has ")[2].split()[0])
    printed = [float(number) for number in re.findall(r"(\d+\.\d+) ±", output)]
    assert printed == pytest.approx(100 * (1 - summary["mean"] / top).to_numpy(), abs=0.02)
