"""Evaluation on a Ray cluster: one actor a worker, kept from trial to trial.

Why actors, and not a Ray task for each trial: the task and the space reach an actor once, torch is
imported once, and an actor can be killed without harm to others. Why the actor only supervises a
process beside it (`symnas.workers.supervisor`): a trial that hangs, hoards memory or ends its
process is then told by the machine it runs on, with the same reasons as local processes give, and
exactly. What Ray reports as a lost actor is therefore never a trial's doing but a lost worker or
node, and is not counted among the `retries` of trials that fail.

An actor has one trial at a time, and the next when its result is here: never more than `n` trials
are with Ray, the others wait in this process. A search that is killed takes its actors with it:
they belong to its connection.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import sys
import time
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from symnas.errors import SymnasError
from symnas.searching.evaluation import Assignment, Outcome
from symnas.workers.payload import pack
from symnas.workers.ray_cluster import Cluster, needs_of

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.searchspace.space import Space

Job = tuple[Assignment, tuple[int, ...]]

LOSSES = 3  # how often a trial is begun again because its worker was lost
_LOOK_SECONDS = 1.0  # so that Ctrl-C is noticed
_STOP_SECONDS = 5.0
_BUSY_SECONDS = 60.0  # without a worker, before that is said


@attrs.define(eq=False)
class _Worker:
    """An actor and what it does."""

    actor: Any
    ready: bool = False
    job: Job | None = None
    since: float = 0.0  # time.monotonic() of the job
    began: float = 0.0  # time.time() of it


class RayPool:
    """Actors on a Ray cluster, started when there is work for them and replaced when lost.

    Args:
        cluster: where, and what each worker needs and may use.
        task: the task, sent to each worker once.
        metrics: names that the task must measure.
        space: what the rows of trials stand for.

    Raises:
        SymnasError: the task or the space cannot be sent to another process.
    """

    def __init__(self, cluster: Cluster, task: Any, metrics: tuple[str, ...], space: Space) -> None:
        packed = pack(task, metrics, space)
        self._cluster, self._ray, self._n = cluster, cluster.ray, cluster.n
        self._payload = self._ray.put(packed)
        self._class = _actor_class(cluster)
        self._workers: list[_Worker] = []
        self._calls: dict[Any, _Worker] = {}  # reference of a running call -> who answers
        self._waiting: deque[Job] = deque()
        self._losses: dict[int, int] = {}
        self._stillborn = 0  # workers lost in a row before they began
        self._idle_since = time.monotonic()
        self._told: set[str] = set()

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
            calls = list(self._calls)
            patience = min(_LOOK_SECONDS, max(0.0, until - time.monotonic()))
            ready, _ = self._ray.wait(calls, num_returns=1, timeout=patience)
            if ready:  # whoever else has ended by now
                ready, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
            for call in ready:
                finished += self._hear(call, self._calls.pop(call))
            self._watch_start()
            if time.monotonic() >= until:
                break
        return finished

    def close(self, *, kill: bool = False) -> None:
        """Ends the actors, their processes, and what those have started."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            stopping = [w.actor.stop.remote() for w in self._workers if w.ready]
            if stopping:
                self._ray.wait(stopping, num_returns=len(stopping), timeout=_STOP_SECONDS)
        for worker in self._workers:
            self._kill(worker)
        self._workers, self._calls = [], {}
        self._waiting.clear()
        self._payload = None

    def _assign(self) -> None:
        starting = sum(1 for worker in self._workers if not worker.ready)
        while len(self._workers) < self._n and starting < len(self._waiting):
            self._start()
            starting += 1
        for worker in self._workers:
            if worker.ready and worker.job is None and self._waiting:
                worker.job = self._waiting.popleft()
                worker.since, worker.began = time.monotonic(), time.time()
                assignment, row = worker.job
                call = worker.actor.evaluate.remote(attrs.astuple(assignment), row)
                self._calls[call] = worker

    def _start(self) -> None:
        settings = self._cluster.settings
        setup = {
            "path": list(sys.path),
            "argv": list(sys.argv),
            "cwd": os.getcwd(),
            "own_folder": "working_dir" in (settings.runtime_env or {}),
            "hidden": [os.path.dirname(str(self._ray.__file__))],
            "threads": settings.threads_each,
            "device": "cuda" if settings.gpus else "cpu",
        }
        limits = (settings.timeout, settings.memory, settings.retries)
        worker = _Worker(self._class.remote(setup, self._payload, *limits))
        self._workers.append(worker)
        self._calls[worker.actor.start.remote()] = worker

    def _hear(self, call: Any, worker: _Worker) -> list[tuple[int, Outcome]]:
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(call)
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            raise self._refuse_start(str(error)) from error
        except errors.RayError as error:
            return self._lost(worker, _last_line(error))
        if not worker.ready:
            if answer is not None:
                raise self._refuse_start(answer)
            worker.ready, self._stillborn = True, 0
            return []
        kind, content, reports, kept = answer
        if kind == "broken":
            raise self._refuse_start(content)
        assert worker.job is not None
        (assignment, _), worker.job = worker.job, None
        if kept and not os.path.isdir(assignment.folder):
            self._warn(
                f"Trials keep files in {os.path.dirname(assignment.folder)} on the nodes of the "
                "Ray cluster, and this machine does not see them. Put the study on a file system "
                "that the nodes share."
            )
        self._losses.pop(assignment.number, None)
        outcome = attrs.evolve(Outcome(*content), reports=tuple(map(tuple, reports)))
        return [(assignment.number, outcome)]

    def _lost(self, worker: _Worker, why: str) -> list[tuple[int, Outcome]]:
        """A worker or its node is gone: its trial begins again, so often and no oftener."""
        self._workers.remove(worker)
        self._kill(worker)
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn > LOSSES:
                raise self._refuse_start(f"{self._stillborn} in a row were lost, last: {why}")
            return []
        assert worker.job is not None
        number = worker.job[0].number
        losses = self._losses[number] = self._losses.get(number, 0) + 1
        if losses <= LOSSES:
            self._waiting.appendleft(worker.job)
            return []
        del self._losses[number]
        reason = f"lost {losses} times together with its worker, last: {why}"
        return [(number, Outcome(None, reason, worker.began, time.monotonic() - worker.since))]

    def _kill(self, worker: _Worker) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(worker.actor)

    def _watch_start(self) -> None:
        """Says so when the cluster has had no free place for a while."""
        now = time.monotonic()
        if any(worker.ready for worker in self._workers):
            self._idle_since = now
        elif now - self._idle_since > _BUSY_SECONDS:
            needs = ", ".join(f"{k} {v:g}" for k, v in needs_of(self._cluster.settings).items())
            free = self._ray.available_resources()
            left = ", ".join(f"{k} {v:g}" for k, v in free.items() if k in ("CPU", "GPU", "memory"))
            self._warn(
                f"No worker has started for {_BUSY_SECONDS:g} s on the Ray cluster "
                f"{self._cluster.address}: each takes {needs}, and {left or 'nothing'} is free. "
                "Still waiting."
            )

    def _warn(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def _refuse_start(self, why: str) -> SymnasError:
        return SymnasError(
            f"A worker could not start on the Ray cluster {self._cluster.address}: {why}. Its nodes "
            "need symnas and the modules of the task and the space: installed, on a shared file "
            "system, or sent with sn.Workers(..., runtime_env={'working_dir': '.'})."
        )


def _actor_class(cluster: Cluster) -> Any:
    """`Supervisor` as an actor class, which travels by value."""
    cloudpickle: Any = importlib.import_module("ray.cloudpickle")
    from symnas.workers import process, supervisor

    for module in (process, supervisor):
        cloudpickle.register_pickle_by_value(module)
    settings, needs = cluster.settings, needs_of(cluster.settings)
    options: dict[str, Any] = {
        "num_cpus": settings.cpus_each,
        "num_gpus": settings.gpus or 0,
        "max_restarts": 0,  # what is lost is counted here
        "max_task_retries": 0,
        "max_concurrency": 2,  # so that `stop` is heard during a trial
    }
    if "memory" in needs:
        options["memory"] = int(needs["memory"])
    return cluster.ray.remote(**options)(supervisor.Supervisor)


def _last_line(error: BaseException) -> str:
    """What Ray says in the end: the lines before name the actor."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__
