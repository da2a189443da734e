"""The other processes of a training: those of this machine are started, watched, and ended."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import cloudpickle
import torch
from torch import distributed

from symnas.errors import SymnasError
from symnas.oneshot.distributed import Lost, Team
from symnas.workers.payload import callables_of
from symnas.workers.settings import cores

if TYPE_CHECKING:
    from symnas.oneshot.algorithm import OneShot
    from symnas.searching.problem import Problem
    from symnas.tasks.task import Task

# How long a process that is there may leave others without an answer. One that is gone is seen at once.
SILENCE = timedelta(hours=1)
# How long one that has been lost may take to say why, and one that is dismissed to end.
GRACE = 30.0  # seconds


@attrs.frozen
class Work:
    """What a helper trains. It goes through cloudpickle, from this process to its own children only."""

    task: Task
    algorithm: OneShot
    problem: Problem
    callables: tuple[Callable[..., Any], ...]


class Helpers:
    """The processes that train together with this one, which leads them.

    Each is a fresh interpreter that runs `symnas.oneshot.helper`. When the leader is gone, their next
    collective fails, which ends them.

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
        self._children: list[_Child] = []
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
                self._children.append(_Child({**setup, "rank": rank}))
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


class Peers:
    """The processes that torchrun has started, all of which make the same call.

    They stay together after a training, for the next. When one is lost, torchrun ends the others.

    Args:
        task: what is trained.

    Raises:
        SymnasError: torchrun has not started this process.
    """

    def __init__(self, task: Task) -> None:
        if not distributed.is_torchelastic_launched() and not distributed.is_initialized():
            raise SymnasError(
                'replicas="torchrun": torchrun has not started this process. Start it so ("torchrun '
                '--nproc-per-node 2 search.py"), or give a number of processes of this machine.'
            )
        device = device_of(task, int(os.environ.get("LOCAL_RANK", "0")))
        if not distributed.is_initialized():
            local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
            own = device.type == "cuda" and local <= torch.cuda.device_count()
            distributed.init_process_group(backend_of(device, own), timeout=SILENCE)
            atexit.register(left)
        self.team = Team(device)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Says what to do when a process was lost."""
        try:
            yield
        except BaseException as error:
            self.team.closed = True
            if not isinstance(error, Lost):
                raise
            raise SymnasError(
                f"{error} The supernet is saved after each epoch: the same call of torchrun continues."
            ) from error

    def dismiss(self) -> None:
        """Lets the others go on after their call."""
        if not self.team.closed:
            with self.watched():
                self.team.dismiss()

    def kill(self) -> None:
        """Leaves the others to torchrun."""
        self.team.closed = True


def leads() -> bool:
    """Whether this process leads those that torchrun has started with it, or there are none."""
    return int(os.environ.get("RANK", "0")) == 0


class _Child:
    """A helper as its leader sees it."""

    def __init__(self, setup: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(setup["path"])}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(setup["threads"])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "symnas.oneshot.helper", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        self._connection = Connection(ours.detach())
        with contextlib.suppress(OSError):  # died at once: told by `ended`
            self._connection.send(setup)
        self._told: str | None = None

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Waits until it has all that it needs."""
        try:
            ready, told = self._connection.recv()
        except (EOFError, OSError):
            ready, told = False, None
        if not ready:
            self._told = told
            self.wait()
            raise SymnasError(f"A process of the training {self.ended() or 'did not start'}.")

    def ended(self) -> str | None:
        """How it ended, or None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        with contextlib.suppress(EOFError, OSError):
            while self._told is None and self._connection.poll():
                self._told = self._connection.recv()[1]
        if self._told is not None:
            return f"failed: {self._told}"
        if code < 0:
            name = signal.Signals(-code).name
            return f"was ended by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
        return f"ended itself with exit code {code}"

    def wait(self) -> None:
        """Waits a moment until it has ended, then makes it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self.kill()

    def kill(self) -> None:
        """Ends the process and its children now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def joined(task: Task, rank: int, size: int, file: str) -> Team:
    """The team of processes of this machine, once all have come."""
    device = device_of(task, rank)
    own = device.type == "cuda" and size <= torch.cuda.device_count()
    distributed.init_process_group(
        backend_of(device, own),
        store=distributed.FileStore(file, size),  # type: ignore[attr-defined]
        rank=rank,
        world_size=size,
        timeout=SILENCE,
    )
    return Team(device)


def device_of(task: Task, place: int) -> torch.device:
    """Where a process trains: the task's device; of several GPUs, the one of its place."""
    device = task._device()
    if device.type != "cuda":
        return device
    if device.index is None:
        device = torch.device("cuda", place % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def backend_of(device: torch.device, own: bool) -> str:
    """NCCL for tensors on GPUs, which it wants one of for each process; gloo for all others."""
    return "cpu:gloo,cuda:nccl" if own else "gloo"


def left() -> None:
    """Leaves the team."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _packed(work: Work) -> bytes:
    try:
        return bytes(cloudpickle.dumps(work))
    except Exception as error:
        raise SymnasError(
            f"`replicas`: the task and space cannot be sent to another process: "
            f"{type(error).__name__}: {error}. They may not hold open files, locks, connections or "
            'running threads. Processes of torchrun make them themselves: replicas="torchrun".'
        ) from error
