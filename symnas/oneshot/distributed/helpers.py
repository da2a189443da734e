"""The other processes of a training: those of this machine are started, watched, and ended."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import cloudpickle
import torch
from torch import distributed

from symnas.errors import SymnasError
from symnas.oneshot.distributed.child import GRACE, Child
from symnas.oneshot.distributed.peers import joined, left
from symnas.oneshot.distributed.team import Lost
from symnas.workers.payload import callables_of
from symnas.workers.settings import cores

if TYPE_CHECKING:
    from symnas.oneshot.algorithm import OneShot
    from symnas.searching.problem import Problem
    from symnas.tasks.task import Task


@attrs.frozen
class Work:
    """What a helper trains. It goes through cloudpickle, from this process to its own children only."""

    task: Task
    algorithm: OneShot
    problem: Problem
    callables: tuple[Callable[..., Any], ...]


class Helpers:
    """The processes that train together with this one, which leads them.

    Each is a fresh interpreter that runs `symnas.oneshot.distributed.helper`. When the leader is
    gone, their next collective fails, which ends them.

    Args:
        task: `replicas` says how many processes there are, with this one.
        algorithm, problem: what is trained.

    Raises:
        SymnasError: they cannot be started.
    """

    def __init__(self, task: Task, algorithm: OneShot, problem: Problem) -> None:
        if distributed.is_initialized():
            raise SymnasError(
                f"`replicas` ({task.replicas}): this process has a process group of torch.distributed "
                'already. If torchrun started it, give replicas="torchrun".'
            )
        callables = tuple(callables_of(problem.space.program))
        work = _packed(Work(task, algorithm, problem, callables))
        size = int(task.replicas)
        self._children: list[Child] = []
        self._stack = ExitStack()
        try:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="symnas-"))
            threads = max(1, min(torch.get_num_threads(), cores() // size))
            self._stack.callback(torch.set_num_threads, torch.get_num_threads())
            file = str(Path(folder) / "group")
            setup = {
                "path": sys.path, "argv": sys.argv, "pythonpath": os.environ.get("PYTHONPATH"),
                "work": work, "threads": threads, "size": size, "file": file,
            }  # fmt: skip
            for rank in range(1, size):
                self._children.append(Child({**setup, "rank": rank}))
            self._stack.callback(self._end)
            for child in self._children:
                child.wait_until_ready()
            torch.set_num_threads(threads)
            self.team = joined(task, 0, size, file)
            self._stack.callback(left)
        except BaseException:
            self.kill()
            raise

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Says which process was lost, where one is; ends all others with any error."""
        try:
            yield
        except Lost as error:
            why = self._why_lost()
            self.kill()
            raise SymnasError(
                f"{why or error} The supernet is saved after each epoch: the same call continues."
            ) from error
        except BaseException:
            self.kill()
            raise

    def dismiss(self) -> None:
        """Ends all, which nothing more is asked of."""
        if not self.team.closed:
            with self.watched():
                self.team.dismiss()
            self._stack.close()

    def kill(self) -> None:
        """Ends all at once."""
        if hasattr(self, "team"):
            self.team.closed = True
        for child in self._children:
            child.kill()
        self._stack.close()

    def _why_lost(self) -> str | None:
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            for rank, child in enumerate(self._children, 1):
                why = child.ended()
                if why is not None:
                    return f"Process {rank} of the training {why}."
            time.sleep(0.01)
        return None

    def _end(self) -> None:
        for child in self._children:
            child.wait()


def _packed(work: Work) -> bytes:
    try:
        return bytes(cloudpickle.dumps(work))
    except Exception as error:
        raise SymnasError(
            f"`replicas`: the task and space cannot be sent to another process: "
            f"{type(error).__name__}: {error}. They may not hold open files, locks, connections or "
            'running threads. Processes of torchrun make them themselves: replicas="torchrun".'
        ) from error
