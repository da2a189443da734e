"""One worker process as its parent sees it: started, spoken with, watched, ended."""

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

from symnas.errors import SymnasError
from symnas.searching.evaluation import Assignment

_EXIT_SECONDS = 1.0


class WorkerProcess:
    """A started worker; the process has its own session, so that its children end with it.

    The child is a fresh interpreter that runs `symnas.workers.main`: `__main__` of this process
    is never imported again, and no state is inherited by a fork.

    Args:
        setup: what the child is told first: `path`, `argv`, `payload`, `device`, `threads`.
        threads: for the numeric libraries that read it from the environment.
    """

    def __init__(self, setup: dict[str, Any], threads: int) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(threads)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "symnas.workers.main", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())
        with contextlib.suppress(OSError):  # died at once: told by `ended`
            self.connection.send({**setup, "pythonpath": os.environ.get("PYTHONPATH")})
        self.ready = False
        self.assignment: Assignment | None = None
        self.reports: list[tuple[float, float]] = []
        self.since = 0.0  # time.monotonic() of the assignment
        self.began = 0.0  # time.time() of it

    @property
    def idle(self) -> bool:
        """Whether it waits for a trial."""
        return self.ready and self.assignment is None

    def assign(self, assignment: Assignment, row: tuple[int, ...]) -> None:
        """Gives it a trial."""
        self.assignment, self.reports = assignment, []
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
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def refuse_start(self, why: str) -> SymnasError:
        """The error for a worker that never became ready."""
        return SymnasError(
            f"A worker process could not start: {why}. Define the task, and the classes of the "
            "space, in modules that a fresh Python process can import; or evaluate in this "
            "process with workers=1."
        )
