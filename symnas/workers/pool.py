"""Evaluation in several processes, with limits that are enforced from outside."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

import attrs

from symnas.errors import SymnasError
from symnas.searching.evaluation import Assignment, Outcome
from symnas.workers.payload import pack
from symnas.workers.process import WorkerProcess
from symnas.workers.settings import Workers

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.searchspace.space import Space

Row = tuple[int, ...]

_LOOK_SECONDS = 1.0  # how often is looked while no worker runs
_STILLBORN = 3  # workers in a row that may be killed before they are ready


class Pool:
    """Worker processes, started when there is work for them and replaced when they are lost.

    Args:
        workers: how many, and their limits.
        task: the task, sent to each worker once.
        metrics: names that the task must measure.
        space: what the rows of trials stand for.
        device: where tasks train; by default the GPUs in turn, or the CPU.

    Raises:
        SymnasError: the task or the space cannot be sent to another process.
    """

    def __init__(
        self,
        workers: Workers,
        task: Any,
        metrics: tuple[str, ...],
        space: Space,
        device: str | None = None,
    ) -> None:
        self._settings = workers
        self._payload = pack(task, metrics, space)
        self._device = device
        self._threads = workers.threads_each
        self._processes: list[WorkerProcess | None] = [None] * (workers.n or 1)
        self._waiting: deque[tuple[Assignment, Row]] = deque()
        self._sent: dict[int, tuple[Assignment, Row]] = {}  # the running trials by number
        self._failures: dict[int, int] = {}
        self._stillborn = 0  # workers in a row that were killed before they were ready

    def submit(self, assignment: Assignment, architecture: Architecture) -> None:
        """Takes a trial to be evaluated as soon as a worker is free."""
        assert architecture.row is not None
        self._waiting.append((assignment, architecture.row))
        self._assign()

    def collect(self, seconds: float | None = None) -> list[tuple[int, Outcome]]:
        """Waits until trials have ended, no longer than `seconds`: their numbers and how."""
        finished: list[tuple[int, Outcome]] = []
        until = math.inf if seconds is None else time.monotonic() + seconds
        while not finished:
            self._assign()
            alive = {process.connection: process for process in self._processes if process}
            patience = min(self._patience(), max(0.0, until - time.monotonic()))
            for connection in wait(list(alive), patience):
                finished += self._listen(alive[connection])  # type: ignore[index]
            finished += self._look()
            if time.monotonic() >= until:
                break
        return finished

    def close(self, *, kill: bool = False) -> None:
        """Ends the workers; with `kill` without waiting for what they do."""
        processes = [process for process in self._processes if process]
        for process in processes:
            process.close()
        for process in processes:
            process.kill() if kill or not process.idle else process.wait()
        self._processes = [None] * len(self._processes)
        self._waiting.clear()

    def _assign(self) -> None:
        starting = sum(1 for p in self._processes if p and not p.ready)
        for index, process in enumerate(self._processes):
            if process is None and starting < len(self._waiting):
                self._processes[index] = self._start(index)
                starting += 1
            elif process and process.idle and self._waiting:
                assignment, row = self._waiting.popleft()
                self._sent[assignment.number] = (assignment, row)
                process.assign(attrs.astuple(assignment), row)

    def _start(self, index: int) -> WorkerProcess:
        setup = {
            "path": list(sys.path),
            "argv": list(sys.argv),
            "payload": self._payload,
            "threads": self._threads,
            "device": self._device or _device(index),
        }
        return WorkerProcess(setup, self._threads)

    def _listen(self, process: WorkerProcess) -> list[tuple[int, Outcome]]:
        try:
            kind, content = process.connection.recv()
        except (EOFError, OSError):
            return self._lost(process, "")
        if kind == "ready":
            process.ready, self._stillborn = True, 0
        elif kind == "broken":
            raise _refuse_start(content)
        elif kind == "report":
            process.reports.append(content)
        else:
            return self._ended(process, Outcome(*content))
        return []

    def _look(self) -> list[tuple[int, Outcome]]:
        """Ends what is over its limits; notices who died without closing the connection."""
        finished: list[tuple[int, Outcome]] = []
        timeout, memory = self._settings.timeout, self._settings.memory
        for process in [p for p in self._processes if p]:
            if process.connection.closed or process.connection.poll():
                continue  # has something to say first
            if process.ended():
                finished += self._lost(process, "")
            elif process.number is not None and (over := process.over(timeout, memory)):
                why, inherited = over
                finished += self._afresh(process) if inherited else self._lost(process, why)
        return finished

    def _afresh(self, process: WorkerProcess) -> list[tuple[int, Outcome]]:
        """Begins the process's trial again in a new one: it is not known to be at fault."""
        assert process.number is not None
        self._waiting.appendleft(self._sent.pop(process.number))
        process.kill()
        self._processes[self._processes.index(process)] = None
        return []

    def _lost(self, process: WorkerProcess, why: str) -> list[tuple[int, Outcome]]:
        why = why or process.why_silent()
        killed = process.killed
        process.kill()
        self._processes[self._processes.index(process)] = None
        if not process.ready:
            self._stillborn += 1
            if not killed or self._stillborn > _STILLBORN:
                raise _refuse_start(why)
            return []  # by somebody, or for want of memory: another one is started
        if process.number is None:
            return []  # between trials: nothing is lost, another one takes its place
        return self._ended(process, Outcome(None, why, process.began, process.seconds()))

    def _ended(self, process: WorkerProcess, outcome: Outcome) -> list[tuple[int, Outcome]]:
        number, process.number = process.number, None
        assert number is not None
        sent = self._sent.pop(number)
        if outcome.reason is not None:
            failures = self._failures.pop(number, 0) + 1
            if failures <= self._settings.retries:
                self._failures[number] = failures
                self._waiting.appendleft(sent)
                return []
        self._failures.pop(number, None)
        return [(number, attrs.evolve(outcome, reports=tuple(process.reports)))]

    def _patience(self) -> float:
        """Seconds to wait for messages before the workers are looked at."""
        timeout, memory = self._settings.timeout, self._settings.memory
        alive = [process for process in self._processes if process]
        return min((p.patience(timeout, memory) for p in alive), default=_LOOK_SECONDS)


def _refuse_start(why: str) -> SymnasError:
    """The error for a worker that never became ready."""
    return SymnasError(
        f"A worker process could not start: {why}. Define the task, and the classes of the "
        "space, in modules that a fresh Python process can import; or evaluate in this "
        "process with workers=1."
    )


def _device(index: int) -> str:
    import torch

    return f"cuda:{index % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
