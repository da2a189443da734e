"""One worker process as its parent sees it: started, spoken with, watched, ended.

The parent is a search's own process (`symnas.workers.pool`), or a Ray actor on some machine, which
gets this module by value (`symnas.workers.supervisor`). So nothing here may import symnas, and
messages are plain data: an import of symnas is an import of torch, for a process that only waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

_EXIT_SECONDS = 1.0
_LOOK_SECONDS = 1.0  # how often a silent worker is looked at
_MEMORY_SECONDS = 0.1


class WorkerProcess:
    """A started worker; the process has its own session, so that its children end with it.

    The child is a fresh interpreter that runs `symnas.workers.main`: `__main__` of this process
    is never imported again, and no state is inherited by a fork.

    Args:
        setup: what the child is told first: `path`, `argv`, `payload`, `device`, `threads`;
            and where it starts: `cwd`, by default here.
        threads: for the numeric libraries that read it from the environment.
    """

    def __init__(self, setup: dict[str, Any], threads: int) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(setup["path"])}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(threads)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "symnas.workers.main", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=setup.get("cwd"),
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())
        with contextlib.suppress(OSError):  # died at once: told by `ended`
            self.connection.send({**setup, "pythonpath": os.environ.get("PYTHONPATH")})
        self.ready = False
        self.number: int | None = None  # of the trial that it evaluates
        self.trials = 0  # that it was given so far
        self.reports: list[tuple[float, float]] = []
        self.since = 0.0  # time.monotonic() of the assignment
        self.began = 0.0  # time.time() of it

    @property
    def idle(self) -> bool:
        """Whether it waits for a trial."""
        return self.ready and self.number is None

    def assign(self, assignment: tuple[Any, ...], row: tuple[int, ...]) -> None:
        """Gives it a trial: the fields of an `Assignment`, the first of which is the number."""
        self.number, self.reports = assignment[0], []
        self.trials += 1
        self.since, self.began = time.monotonic(), time.time()
        with contextlib.suppress(OSError):
            self.connection.send((assignment, row))

    def seconds(self) -> float:
        """How long its trial has been running."""
        return time.monotonic() - self.since

    def ended(self) -> str | None:
        """Why the process is gone, or None while it lives."""
        code = self._process.poll()
        if code is None:
            return None
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"the process of the trial was ended by {name}{hint}"
        return f"the process of the trial ended itself with exit code {code}"

    @property
    def killed(self) -> bool:
        """Whether a signal has ended it."""
        code = self._process.poll()
        return code is not None and code < 0

    def memory(self) -> int:
        """Resident bytes of the process and its children."""
        import psutil

        total = 0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for member in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += member.memory_info().rss
        return total

    def over(self, timeout: float | None, memory: int | None) -> tuple[str, bool] | None:
        """Which limit its trial breaks, or None.

        Args:
            timeout: seconds.
            memory: resident bytes.

        Returns:
            Why, and whether an earlier trial of the process can be the cause, which has left
            memory behind: then a fresh process tells.
        """
        if timeout is not None and self.seconds() > timeout:
            return f"timeout: no result after {timeout:g} s", False
        if memory is not None and (used := self.memory()) > memory:
            why = f"memory: {used / 1e9:.2f} GB used, {memory / 1e9:.2f} GB allowed"
            return why, self.trials > 1
        return None

    def patience(self, timeout: float | None, memory: int | None) -> float:
        """Seconds until it must be looked at although it says nothing."""
        patience = _LOOK_SECONDS if memory is None else _MEMORY_SECONDS
        if timeout is None or self.number is None:
            return patience
        return min(patience, max(0.0, timeout - self.seconds()) + 0.001)

    def why_silent(self) -> str:
        """Why it closed its connection; it is given the moment that dying takes."""
        deadline = time.monotonic() + _LOOK_SECONDS
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.ended() or "the process of the trial closed its connection"

    def close(self) -> None:
        """Tells it to end, by closing the connection; `kill` makes sure."""
        self.connection.close()

    def wait(self) -> None:
        """Waits a moment until it has ended, then makes it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Ends the process and its children now."""
        self.connection.close()
        self.end()

    def end(self) -> None:
        """Ends them and leaves the connection open, for another thread may be listening."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
