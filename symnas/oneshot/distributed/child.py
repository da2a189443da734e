"""A helper of a training as the process that leads it sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Any

from symnas.errors import SymnasError

# How long one that has been lost may take to say why, and one that is dismissed to end.
GRACE = 30.0  # seconds


class Child:
    """A helper as its leader sees it."""

    def __init__(self, setup: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(setup["path"])}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(setup["threads"])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "symnas.oneshot.distributed.helper", str(theirs.fileno())],
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
