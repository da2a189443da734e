"""Worker processes: what a trial does to its process must not reach the search."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from search_examples import misbehaves, reluctant, space, trains

import symnas as sn
from symnas import algorithms as alg


def search(task: Any, workers: Any, **options: Any) -> sn.Study:
    defaults: dict[str, Any] = {"maximize": "score", "trials": 10, "progress": False}
    return sn.search(space(), alg.RandomSearch(), task, workers=workers, **(defaults | options))


def test_a_trial_may_do_anything_and_only_fails() -> None:
    study = search(misbehaves, sn.Workers(n=2, timeout=15.0, memory="1GB"), trials=12)
    reasons = {trial.number: trial.reason or "" for trial in study.failed}
    assert sorted(reasons) == list(range(7))
    assert reasons[0].startswith("ValueError: too wide")
    assert "exit code 3" in reasons[1]
    assert "SIGKILL" in reasons[2]
    assert reasons[3] == "timeout: no result after 15 s"
    assert "nan" in reasons[4]
    assert "no metric 'score'" in reasons[5]
    assert reasons[6].startswith("memory: ") and "1.00 GB allowed" in reasons[6]
    assert study.failed[6].reports[0] == (1.0, 0.0)  # what was reported before the end is kept
    assert [t.metrics["score"] for t in study.trials[7:]] == [sum(t.row) for t in study.trials[7:]]


def test_workers_return_what_the_task_reports_and_keeps(tmp_path: Path) -> None:
    study = search(trains, 2, study=tmp_path / "s.db", trials=3)
    assert study.best.reports == ((1.0, 0.25), (2.0, 0.5))
    assert study.best.model()[0].scale == float(study.best.choices["args[0].scale"])


@pytest.mark.parametrize("limits", [{}, {"timeout": 60}])
def test_a_failed_trial_is_tried_again_as_often_as_allowed(limits: dict[str, Any]) -> None:
    workers = sn.Workers(retries=1, **limits)
    assert workers.inline == (not limits)
    assert not search(reluctant, workers, trials=3).failed
    assert len(search(reluctant, sn.Workers(**limits), trials=3).failed) == 3


def test_a_task_that_cannot_be_sent_is_refused_before_the_first_trial() -> None:
    lock = threading.Lock()
    with pytest.raises(sn.SymnasError, match="cannot be sent to worker processes"):
        search(lambda architecture: lock.locked(), 2)


SCRIPT = """
import os, sys, time
import torch
import symnas as sn
from symnas import algorithms as alg

print("imported", flush=True)

@sn.symbolize
class Block(torch.nn.Linear):
    def __init__(self, width):
        super().__init__(width, width)

def task(architecture):
    print("pid", os.getpid(), flush=True)
    time.sleep(float(sys.argv[1]))
    return architecture.build().in_features

# No `if __name__ == "__main__"`: workers never import this file.
study = sn.search(sn.Space(Block(sn.oneof([1, 2, 3, 4]))), alg.RandomSearch(), task,
                  maximize="score", workers=2, progress=False)
print("best", study.best.metrics["score"])
"""


def start(tmp_path: Path, seconds: float) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    command = [sys.executable, str(path), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    with start(tmp_path, 0.0) as script:
        output, _ = script.communicate(timeout=60)
    assert output.count("imported") == 1
    assert "best 4.0" in output


def test_workers_die_with_a_killed_search(tmp_path: Path) -> None:
    with start(tmp_path, 60.0) as script:
        assert script.stdout is not None
        pids: set[int] = set()
        while len(pids) < 2:
            line = script.stdout.readline()
            if line.startswith("pid"):
                pids.add(int(line.split()[1]))
        os.kill(script.pid, signal.SIGKILL)
        script.wait()
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_worker_is_a_clean_process_with_its_share_of_threads() -> None:
    def task(architecture: sn.Architecture) -> dict[str, float]:
        import torch

        return {"score": 0.0, "threads": torch.get_num_threads(), "pid": os.getpid()}

    study = search(task, sn.Workers(n=2, threads=1), trials=4)
    assert all(t.metrics["threads"] == 1 for t in study.trials)
    assert os.getpid() not in {t.metrics["pid"] for t in study.trials}


def test_memory_is_read_with_its_unit() -> None:
    assert sn.Workers(memory="8GB").memory == 8 * 10**9
    assert sn.Workers(memory="0.5 GiB").memory == 2**29
    assert sn.Workers(memory=1000).memory == 1000
    for wrong in ("8", "GB", "8 apples", 0, -1.5):
        with pytest.raises(ValueError, match="`memory`"):
            sn.Workers(memory=wrong)
