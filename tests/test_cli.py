"""The command line: what it shows, and what it says of mistakes."""

from __future__ import annotations

import subprocess
import sys

import pytest

SPACE = """
import symnas as sn

@sn.space(input=(1, 8, 8))
def tiny():
    width = sn.oneof([4, 8], name="width")
    return sn.nn.Sequential(sn.nn.Flatten(), sn.nn.Linear(64, width), sn.nn.ReLU(),
                            sn.nn.Linear(width, 10))

def score(architecture):
    return float(architecture["width"])
"""


def symnas(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "symnas.commands.app", *arguments], cwd=folder, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(SPACE)
    return tmp_path


def test_help_teaches(folder):
    text = symnas(folder, "--help").stdout
    assert all(command in text for command in ("demo", "search", "show", "report", "list"))
    assert "Example" in symnas(folder, "search", "--help").stdout


@pytest.mark.parametrize(
    ("kind", "name"), [("algorithms", "evolution"), ("spaces", "nasbench201"), ("costs", "latency")]
)
def test_list(folder, kind, name):
    lines = symnas(folder, "list", kind).stdout.splitlines()
    assert any(line.startswith(name) and len(line) > len(name) + 5 for line in lines)


def test_show(folder):
    text = symnas(folder, "show", "mine:tiny", "--cost", "macs").stdout
    assert "2 architectures" in text
    assert "args[1].out_features" in text
    assert "macs: smallest" in text


def test_search_then_report(folder):
    arguments = (
        "search", "mine:tiny", "--task", "digits", "--epochs", "1", "--algorithm", "random",
        "--subject-to", "macs<=400", "--trials", "3", "--study", "s.db",
    )  # fmt: skip
    done = symnas(folder, *arguments)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    again = symnas(folder, *arguments)
    assert again.returncode == 0, again.stderr
    assert symnas(folder, "report", "s.db", "-o", "r.html").returncode == 0
    assert (folder / "r.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nothing"), "No space is named 'nothing'. Known:"),
        (("show", "nowhere:space"), "No module named 'nowhere'"),
        (("show", "mine:other"), "mine has no 'other'"),
        (("list", "colours"), "must be one of: algorithms"),
        (("report", "absent.db"), "no study at `absent.db`"),
        (("search", "mine:tiny", "--task", "mine:score", "--maximize", "x", "--subject-to", "macs<2x"),
         "must be COST<=NUMBER"),
        (("search", "mine:tiny", "--task", "mine:score", "--maximize", "x", "--subject-to", "macs_ms<=2"),
         "the unit of macs is MACs"),
        (("search", "mine:tiny", "--task", "mine:score", "--maximize", "x", "--subject-to", "macs<=2"),
         "macs <= 2"),
        (("search", "mine:tiny", "--task", "mine:score", "--algorithm", "evolution:population_size=0"),
         "population_size"),
        (("search", "mine:tiny", "--task", "mnist6k"), "must be MODULE:TASK, or one of"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_are_one_line(folder, arguments, message):
    done = symnas(folder, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
