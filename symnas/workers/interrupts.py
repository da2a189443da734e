"""Ctrl-C, noticed also where the exception that it raises is lost."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interrupts:
    """Remembers that SIGINT came, until `close`; in the main thread only.

    What it raises is lost where it comes while a destructor or a callback of C code runs, of which
    Ray has many: Python prints it and goes on.

    >>> interrupts = Interrupts()
    >>> try:
    ...     signal.raise_signal(signal.SIGINT)
    ... except KeyboardInterrupt:
    ...     pass  # lost
    >>> try:
    ...     interrupts.check()
    ... except KeyboardInterrupt:
    ...     print("noticed")
    noticed
    >>> interrupts.check()
    >>> interrupts.close()
    """

    def __init__(self) -> None:
        self._came = False
        self._before = signal.getsignal(signal.SIGINT)
        # Who ignores Ctrl-C, or leaves it to the system, has reasons.
        self._own = threading.current_thread() is threading.main_thread() and callable(self._before)
        if self._own:
            signal.signal(signal.SIGINT, self._note)

    def check(self) -> None:
        """Raises the KeyboardInterrupt of a SIGINT that came since the last check."""
        if self._came:
            self._came = False
            raise KeyboardInterrupt

    def close(self) -> None:
        """Leaves SIGINT to who had it before."""
        if self._own and signal.getsignal(signal.SIGINT) == self._note:
            signal.signal(signal.SIGINT, self._before)
        self._own = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        assert callable(self._before)
        self._before(number, frame)
