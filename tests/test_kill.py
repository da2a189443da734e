"""A search that is killed again and again loses, repeats and changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILL = Path(__file__).parent.parent / "benchmarks" / "kill.py"


@pytest.mark.parametrize(("kills", "workers"), [(15, 1), (3, 2)])
def test_kills_lose_repeat_and_change_nothing(kills: int, workers: int) -> None:
    command = [sys.executable, str(KILL), "--kills", str(kills), "--workers", str(workers)]
    run = subprocess.run(command, capture_output=True, text=True)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    counts = dict(part.split() for part in run.stdout.strip().split(", "))
    assert int(counts["kills"]) >= kills // 2  # the others came when it had finished
    assert [counts[name] for name in ("lost", "repeated", "differing")] == ["0", "0", "0"]
