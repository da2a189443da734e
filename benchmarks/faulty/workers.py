"""SIGKILL of the processes that evaluate trials: on this machine, and on a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil

import symnas as sn
from faulty.subject import Subject, gone
from faulty.tally import Setup, Skipped, Tally

_SIZE = 2
_ENDLESS = 10**6  # retries


def processes(setup: Setup) -> list[Tally]:
    """A worker process is killed, sometimes while it starts; its trial is tried again."""
    tally = Tally("worker process killed, retries=1000000")
    _search(setup, tally, sn.Workers(n=_SIZE, retries=_ENDLESS), _is_worker)
    tally.sees = (
        "nothing; with retries=0 the trial is recorded as failed: the process of the trial was "
        "ended by SIGKILL (out of memory?)"
    )
    return [tally]


def ray_actors(setup: Setup) -> list[Tally]:
    """The actor of a Ray cluster that looks after a worker is killed."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise Skipped(f"Ray cannot be imported: {error}") from None
    tally = Tally("Ray worker killed")
    _search(setup, tally, sn.Workers("ray", n=_SIZE, cpus=0), _is_actor)
    tally.sees = "nothing: its trial begins again on another worker, three times at most"
    return [tally]


def _is_worker(process: psutil.Process) -> bool:
    return "symnas.workers.main" in process.cmdline()


def _is_actor(process: psutil.Process) -> bool:
    return " ".join(process.cmdline()).startswith("ray::Supervisor")


def _search(
    setup: Setup, tally: Tally, workers: sn.Workers, wanted: Callable[[psutil.Process], bool]
) -> None:
    rng = setup.rng()
    given: dict[str, Any] = {"workers": workers}
    if workers.place is not None:
        os.environ.pop("RAY_ADDRESS", None)
    subject = Subject(setup, tally, str(setup.folder / "s.db"), trials=100_000,
                      seconds=0.05, given=given)  # fmt: skip
    driver = subject.start()
    for index in range(setup.rounds):
        if index % 3 < 2:  # the third is hit with the second's successor, while that one starts
            subject.wait(driver, rng.randint(1, 10))
        time.sleep(rng.uniform(0.0, subject.seconds))
        known = {process for _, process in subject.begun()}
        victims = _descendants(driver, wanted)
        if not victims:
            continue
        rng.choice(victims).kill()
        killed = time.monotonic()
        tally.injected += 1
        if index % 3 != 1 and _wait_for_new(subject, driver, known):
            tally.recoveries.append(time.monotonic() - killed)
        subject.look()
        setup.tick(1.0)
    os.kill(driver, signal.SIGINT)  # Ctrl-C: it has far more trials before it than are compared
    subject.finish(driver)
    subject.look()
    subject.trials, subject.given = len(subject.known) + 10, {}
    subject.finish()
    subject.look()
    subject.compare()


def _descendants(driver: int, wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if wanted(process):
                found.append(process)
    return found


def _wait_for_new(subject: Subject, driver: int, known: set[int]) -> bool:
    """Waits until a process that is not known has begun a trial."""
    while not gone(driver):
        if {process for _, process in subject.begun()} - known:
            return True
        time.sleep(0.01)
    return False
