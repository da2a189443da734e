"""What a Ray actor runs: it keeps one worker process beside it, and enforces the limits there.

Ray gets this module and `symnas.workers.process` by value, so an actor imports neither symnas nor
torch: it needs a few MB, and only the process that evaluates needs more.
"""

from __future__ import annotations

import os
import sys
import threading
from multiprocessing.connection import wait
from typing import Any

from symnas.workers.process import WorkerProcess


class Supervisor:
    """Evaluates one trial after the other in a process of this machine, and replaces that process.

    Args:
        setup: `argv`, `device`, `threads` of the process; `path` and `cwd` of the search, used as
            far as they exist on this machine.
        payload: the packed task and space.
        timeout, memory, retries: limits of a trial, as in `sn.Workers`.
    """

    def __init__(
        self,
        setup: dict[str, Any],
        payload: bytes,
        timeout: float | None,
        memory: int | None,
        retries: int,
    ) -> None:
        here = [] if setup["own_folder"] else [setup["cwd"]]
        cwd = next((folder for folder in here if os.path.isdir(folder)), os.getcwd())
        path = _merged(sys.path, setup["path"], setup["hidden"])
        self._setup = {**setup, "path": path, "cwd": cwd, "payload": payload}
        self._timeout, self._memory, self._attempts = timeout, memory, 1 + retries
        self._process: WorkerProcess | None = None
        self._stopping = False
        self._starting = threading.Lock()

    def start(self) -> str | None:
        """Starts the process; returns why it cannot start, or None."""
        with self._starting:
            if self._stopping:
                return "the search is over"
            process = self._process = WorkerProcess(self._setup, self._setup["threads"])
        try:
            kind, why = process.connection.recv()
        except (EOFError, OSError):
            kind, why = "broken", process.why_silent()
        if kind == "broken":
            self._end()
            return str(why)
        process.ready = True
        return None

    def evaluate(
        self, assignment: tuple[Any, ...], row: tuple[int, ...]
    ) -> tuple[str, Any, Any, bool]:
        """Evaluates a trial, given by the fields of an `Assignment`.

        Returns:
            "done", the fields of an `Outcome`, what was reported, and whether the trial has kept
            files here; or "broken" and why no process can be started.
        """
        outcome: tuple[Any, ...] = ()
        reports: list[tuple[float, float]] = []
        failures = 0
        while failures < self._attempts:
            if self._process is None and (why := self.start()):
                return "broken", why, [], False
            assert self._process is not None
            reports = []
            ended = self._once(self._process, assignment, row, reports)
            if ended is None:  # for what an earlier trial has left behind: again, afresh
                continue
            outcome = ended
            if outcome[1] is None:
                break
            failures += 1
        return "done", outcome, reports, os.path.isdir(assignment[2])

    def stop(self) -> None:
        """Ends the process and what it has started, also in the middle of a trial."""
        with self._starting:
            self._stopping = True
            if self._process is not None:
                self._process.end()

    def _once(
        self,
        process: WorkerProcess,
        assignment: tuple[Any, ...],
        row: tuple[int, ...],
        reports: list[tuple[float, float]],
    ) -> tuple[Any, ...] | None:
        process.assign(assignment, row)
        while True:
            wait([process.connection], process.patience(self._timeout, self._memory))
            if process.connection.poll():
                try:
                    kind, content = process.connection.recv()
                except (EOFError, OSError):
                    why: str | None = process.why_silent()
                else:
                    if kind == "done":
                        process.number = None
                        return tuple(content)
                    reports.append(content)
                    continue
            else:
                why = process.ended()
                if not why and (over := process.over(self._timeout, self._memory)):
                    why, inherited = over
                    if inherited:
                        self._end()
                        return None
            if why:
                seconds = process.seconds()
                self._end()
                return (None, why, process.began, seconds)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
        self._process = None


def _merged(ours: list[str], theirs: list[str], hidden: list[str]) -> list[str]:
    """The path of imports here, then what the search had beyond it; without Ray's own folders."""
    made = [entry or os.getcwd() for entry in ours]
    made = [entry for entry in made if not entry.startswith(tuple(hidden))]
    return list(dict.fromkeys([*made, *(e for e in theirs if os.path.exists(e))]))
