"""A progress bar in a terminal; elsewhere a line in the log now and then."""

from __future__ import annotations

import functools
import logging
import time
from types import TracebackType
from typing import Any

_LOG = logging.getLogger("symnas")
_LINE_SECONDS = 10.0


class Bar:
    """Shows how many of several things are done; nothing where there is nothing to do.

    Args:
        what: is done, in the plural.
        total: how many.
    """

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self._bar: Any = None
        self._said = time.monotonic()

    def __enter__(self) -> Bar:
        if self.total:
            from rich import console, progress

            screen = console.Console(stderr=True, highlight=False)
            if screen.is_terminal:
                # No thread of its own: it would be timed too.
                self._bar = progress.Progress(
                    progress.BarColumn(bar_width=24),
                    progress.TextColumn("{task.description}", markup=False),
                    progress.TimeRemainingColumn(),
                    console=screen,
                    auto_refresh=False,
                    transient=True,
                )
                self._bar.add_task(self.status(), total=self.total)
                self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, n: int = 1) -> None:
        """So many more are done."""
        self.done += n
        if self._bar is not None:
            self._bar.update(0, description=self.status(), completed=self.done, refresh=True)
        elif time.monotonic() - self._said > _LINE_SECONDS:
            self._said = time.monotonic()
            _LOG.info(self.status())

    def status(self) -> str:
        """Like "timing operations: 120 of 297"."""
        return f"{self.what}: {self.done} of {self.total}"


@functools.cache
def say(text: str) -> None:
    """One line for people, once a process: in a terminal, and in the log."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        console.print(text, markup=False, soft_wrap=True)
    _LOG.info(text)
