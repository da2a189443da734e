"""Faults in running searches: nothing is lost, repeated or changed, and what is wrong is said.

Each family of `benchmarks/faults.py` runs once, small; that of Ray is in `test_ray.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import postgres  # noqa: F401 - which lets the folder of the faults be imported
import psutil
import pytest
from faulty import clocks, disks, drivers, files, objectives, servers, workers
from faulty.tally import Fault, Setup, Skipped, Tally
from search_examples import space, total, trajectory

import symnas as sn
from symnas import algorithms as alg
from symnas.workers.process import WorkerProcess


def injected(fault: Fault, folder: Path, rounds: int = 1, **given: Any) -> list[Tally]:
    """What the fault did, which must be as it is expected."""
    try:
        tallies = fault(Setup(rounds, folder, **given))
    except Skipped as why:
        pytest.skip(str(why))
    for tally in tallies:
        print(tally.cells())
        assert tally.good, tally
    return tallies


# --- each family ------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"algorithm": "halving"}])
def test_a_killed_driver_continues(tmp_path: Path, given: dict[str, Any]) -> None:
    (tally,) = injected(drivers.driver, tmp_path, rounds=6, **given)
    assert tally.injected >= 3  # the others came when it had finished


def test_other_drivers_go_on_without_a_killed_one(tmp_path: Path) -> None:
    (tally,) = injected(drivers.drivers_sqlite, tmp_path, rounds=3)
    assert tally.injected >= 2


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    (tally,) = injected(workers.processes, tmp_path)
    assert tally.injected == 1


def test_a_killed_server_is_named_and_the_search_continues(tmp_path: Path) -> None:
    for tally in injected(servers.server_killed, tmp_path):
        assert tally.injected == 1
        assert "StorageError: " in tally.sees
        assert "The same call continues" in tally.sees and "symnas:***@" in tally.sees


def test_a_full_disk_is_named_and_the_search_continues(tmp_path: Path) -> None:
    (tally,) = injected(disks.disk_full, tmp_path, rounds=3)
    assert tally.injected == 3
    assert f"The disk of `{tmp_path / 'disk' / 's.db'}` is full" in tally.sees
    assert f"Free space in `{tmp_path / 'disk'}`" in tally.sees


def test_a_limit_on_files_is_named_and_the_search_continues(tmp_path: Path) -> None:
    (tally,) = injected(disks.file_limit, tmp_path, rounds=2)
    assert tally.injected == 2
    assert f"`{tmp_path / 's.db'}` could not be read or written: disk I/O error" in tally.sees


def test_damaged_files_are_told_and_rescued(tmp_path: Path) -> None:
    cut, overwritten, inverted, emptied = injected(files.damaged, tmp_path)
    for tally in (cut, overwritten, inverted):
        if "told 1 of 1" in tally.sees:
            assert "is damaged: " in tally.sees and "sn.Study.rescue(" in tally.sees
    assert "told 1 of 1" in cut.sees and "told 1 of 1" in overwritten.sees
    assert "is an empty file" in emptied.sees


def test_a_lost_log_changes_nothing_else(tmp_path: Path) -> None:
    cut, removed = injected(files.log_lost, tmp_path)
    assert cut.injected == removed.injected == 1


def test_clocks_that_jump_change_nothing(tmp_path: Path) -> None:
    (tally,) = injected(clocks.clock, tmp_path)
    assert tally.injected > 2


def test_tasks_that_misbehave_fail_alone(tmp_path: Path) -> None:
    elsewhere = {"hangs", "leaks memory", "calls os._exit"}  # in test_workers.py: they take long
    kinds = tuple(kind for kind in objectives.KINDS if kind not in elsewhere)
    tallies = injected(lambda setup: objectives.objectives(setup, kinds), tmp_path)
    assert all(tally.injected == 1 for tally in tallies[:-1])


# --- single laws ------------------------------------------------------------------------------


def search(task: Any, trials: int = 6, **given: Any) -> sn.Study:
    return sn.search(
        space(), alg.RandomSearch(), task, maximize="score", trials=trials, progress=False, **given
    )


def test_a_child_that_a_task_forks_does_not_search_on(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def task(architecture: sn.Architecture) -> float:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            with log.open("a") as file:
                file.write("x")
        return total(architecture)

    assert trajectory(search(task)) == trajectory(search(total))
    assert log.read_text() == "x" * 6


def test_an_exception_that_is_no_error_fails_a_trial() -> None:
    def task(architecture: sn.Architecture, trial: Any) -> float:
        if trial.number == 2:
            raise asyncio.CancelledError("by the task")
        return total(architecture)

    (failed,) = search(task).failed
    assert failed.number == 2 and failed.reason is not None
    assert failed.reason.startswith("CancelledError: by the task")


def test_what_earlier_trials_left_in_memory_fails_no_later_one() -> None:
    kept = []

    def task(architecture: sn.Architecture, trial: Any) -> float:
        kept.append(bytearray(b"x") * (1 << 28))
        time.sleep(0.3)  # while it is looked at
        return total(architecture)

    limit = psutil.Process().memory_info().rss + (1 << 29) + (1 << 28)
    study = search(task, trials=6, workers=sn.Workers(memory=limit))
    assert not study.failed
    assert trajectory(study) == trajectory(search(total))


def test_a_worker_killed_while_it_starts_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[WorkerProcess] = []
    begin = WorkerProcess.__init__

    def start(self: WorkerProcess, *given: Any) -> None:
        begin(self, *given)
        started.append(self)
        if len(started) <= 2:
            os.killpg(self._process.pid, signal.SIGKILL)

    monkeypatch.setattr(WorkerProcess, "__init__", start)
    assert trajectory(search(total, workers=sn.Workers(threads=1))) == trajectory(search(total))
    assert len(started) == 3


def test_a_worker_that_is_always_killed_while_it_starts_ends_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = WorkerProcess.__init__

    def start(self: WorkerProcess, *given: Any) -> None:
        begin(self, *given)
        os.killpg(self._process.pid, signal.SIGKILL)

    monkeypatch.setattr(WorkerProcess, "__init__", start)
    with pytest.raises(sn.SymnasError, match=r"could not start: .* SIGKILL"):
        search(total, workers=sn.Workers(threads=1))


def test_trials_that_were_not_rescued_begin_again(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    whole = trajectory(search(total, trials=12, study=path))
    with sqlite3.connect(path) as connection:
        connection.execute("delete from trials where number in (0, 3, 4, 11)")
    connection.close()
    assert trajectory(search(total, trials=12, study=path)) == whole


def test_rescue_leaves_out_what_is_not_sound(tmp_path: Path) -> None:
    path, to = tmp_path / "s.db", tmp_path / "rescued.db"
    whole = trajectory(search(total, trials=12, study=path))
    with sqlite3.connect(path) as connection:
        connection.execute("update trials set scores = '[0.5' where number = 2")
        connection.execute("update trials set state = 'dofe' where number = 5")
    connection.close()
    for read in (
        lambda: sn.Study.open(path).trials,
        lambda: sn.Study.open(path).best,
        lambda: search(total, trials=12, study=path),
    ):
        with pytest.raises(sn.StorageError, match=r"s\.db` is damaged: (.|\n)*sn\.Study\.rescue"):
            read()
    rescued = sn.Study.rescue(path, to)
    assert trajectory(rescued) == [entry for entry in whole if entry[0] not in (2, 5)]
    assert trajectory(search(total, trials=12, study=to)) == whole
    with pytest.raises(FileExistsError, match="`to`"):
        sn.Study.rescue(path, to)
    with pytest.raises(FileNotFoundError):
        sn.Study.rescue(tmp_path / "none.db", tmp_path / "new.db")


def test_an_emptied_study_is_not_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    search(total, study=path)
    path.write_bytes(b"")
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    with pytest.raises(sn.StorageError, match="is an empty file"):
        search(total, study=path)
    fresh = tmp_path / "new.db"  # an empty file by itself is a place for a study
    fresh.touch()
    assert len(search(total, study=fresh)) == 6
