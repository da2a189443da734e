"""`Crew`: who evaluates the trials of a search; `Alone`: this process and its workers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import attrs

from symnas.searching.evaluation import Assignment, Outcome
from symnas.searching.journal import Entry, Journal

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture


class Workplace(Protocol):
    """Where trials are evaluated: `symnas.workers.inline` or `symnas.workers.pool`."""

    def submit(self, assignment: Assignment, architecture: Architecture) -> None:
        """Takes a trial."""

    def collect(self, seconds: float | None = None) -> list[tuple[int, Outcome]]:
        """Waits until trials have ended: their numbers and how.

        Args:
            seconds: how long to wait; then nothing may have ended. As long as it takes, if None,
                and where trials are evaluated here.
        """


class Crew(Protocol):
    """Who evaluates the trials of a search, and writes down how they ended."""

    @property
    def free(self) -> bool:
        """Whether another trial can be taken on."""

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """What is held while a trial is proposed, so that nobody else proposes meanwhile."""

    def evaluate(self, entry: Entry, architecture: Architecture) -> None:
        """Sees to it that an open trial is evaluated."""

    def finished(self) -> list[Entry]:
        """Waits for trials to end, and returns those that have; none, after some time."""

    def busy(self, *, late: bool) -> bool:
        """Whether there is anything to wait for when no more is proposed.

        Args:
            late: whether no trial may begin any more.
        """


@attrs.define
class Alone:
    """One process with its workplace: all trials are its own.

    Attributes:
        journal: where trials are written.
        workplace: where they are evaluated.
    """

    journal: Journal
    workplace: Workplace
    _open: int = attrs.field(default=0, init=False)

    @property
    def free(self) -> bool:
        """Always: the workplace lets wait what it cannot evaluate yet."""
        return True

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """Nothing: nobody else proposes."""
        return contextlib.nullcontext()

    def evaluate(self, entry: Entry, architecture: Architecture) -> None:
        """Hands a trial to the workplace."""
        self.workplace.submit(entry.assignment, architecture)
        self._open += 1

    def finished(self) -> list[Entry]:
        """Waits until trials have ended, and writes how."""
        entries = [self.journal.finish(*ended) for ended in self.workplace.collect()]
        self._open -= len(entries)
        return [entry for entry in entries if entry is not None]

    def busy(self, *, late: bool) -> bool:
        """Whether trials are open."""
        return self._open > 0
