"""`symnas benchmark`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from symnas.commands.app import app
from symnas.commands.find import UsageError

DATA = Path(os.environ.get("SYMNAS_DATA", Path(__file__).parents[2] / "shared" / "data"))

SPACE = """
import symnas as sn

@sn.space
def tiny():
    return [sn.oneof([1, 2, 3], name="a"), sn.oneof([1, 2, 3], name="b")]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine", None)
    (tmp_path / "mine.py").write_text(SPACE)
    rows = [f"{a},{b},{10 * a + b},{a + b}" for a in (1, 2, 3) for b in (1, 2, 3)]
    head = "a,b,score;maximize;%,ms;minimize;ms;cost"
    (tmp_path / "table.csv").write_text("\n".join([head, *rows]))
    return tmp_path


ARGUMENTS = [
    "--tables", "table.csv", "--space", "mine:tiny", "--algorithms", "random", "LocalSearch:move=best",
    "--seeds", "2", "--evaluations", "6", "--below", "ms:0.7", "--out", "results",
]  # fmt: skip


def test_the_command(folder):
    done = subprocess.run(
        [sys.executable, "-m", "symnas.commands.app", "benchmark", *ARGUMENTS], cwd=folder,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "LocalSearch:move=best" in done.stdout
    assert "ms<=5" in done.stdout  # the sums are 2 3 3 4 4 4 5 5 6: seven of nine are allowed
    assert (folder / "results" / "ranks.png").exists()
    cells = list((folder / "results" / "cells").iterdir())
    assert len(cells) == 4
    stamps = [cell.stat().st_mtime_ns for cell in cells]
    again = CliRunner().invoke(app, ["benchmark", *ARGUMENTS, "--no-progress"])
    assert again.exit_code == 0
    assert [cell.stat().st_mtime_ns for cell in cells] == stamps


def test_simulated_workers_on_the_command_line(folder):
    arguments = ["--simulate", "3", "--seconds", "ms", "--checkpoints", "2", "5.5"]
    done = CliRunner().invoke(app, ["benchmark", *ARGUMENTS, *arguments])
    assert done.exit_code == 0, done.output
    assert "5.5 s" in done.output
    refused = CliRunner().invoke(app, ["benchmark", *ARGUMENTS, "--seconds", "ms"])
    assert "--seconds is for --simulate" in str(refused.exception)


OWN = ["--tables", "table.csv", "--space", "mine:tiny"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tables", "none.csv", "--algorithms", "random"], "must be one of .*nasbench201"),
        (["--tables", "table.csv", "--algorithms", "random"], "say of which space"),
        (["--tables", "nasbench201", "--algorithms", "random"], "say where its files are"),
        ([*OWN, "--algorithms", "best"], "no algorithm is named 'best'"),
        ([*OWN, "--algorithms", "LocalSearch:moves=1"], "unexpected keyword argument 'moves'"),
        ([*OWN, "--algorithms", "peer:best"], "must be one of optuna-random"),
    ],
)
def test_mistakes_on_the_command_line(folder, arguments, message):
    done = CliRunner().invoke(app, ["benchmark", *arguments])
    assert isinstance(done.exception, UsageError | ValueError)
    assert re.search(message, str(done.exception))


def test_help_teaches():
    text = " ".join(CliRunner().invoke(app, ["benchmark", "--help"]).output.split())
    assert "Example: symnas benchmark --tables nasbench201" in text


@pytest.mark.skipif(
    not (DATA / "nasbench201" / "latency_ms.csv.gz").exists(),
    reason=f"nasbench201 is not in {DATA}; name the folder in SYMNAS_DATA",
)
def test_a_published_table(folder):
    arguments = ["--tables", "nasbench201:epochs=200,dataset=cifar100", "--data", str(DATA)]
    more = ["--algorithms", "random", "--seeds", "1", "--evaluations", "5", "--no-progress"]
    done = CliRunner().invoke(app, ["benchmark", *arguments, *more, "--below", "raspi4:0.1"])
    assert done.exit_code == 0, done.output
    output = " ".join(done.output.split())
    assert "nasbench201 cifar100: maximize test_accuracy, subject to latency:raspi4<=" in output
