"""`Together`: several processes that share one search through its study.

Each of these drivers runs the whole search loop: asked and told the same, in the same order, their
runs go through the same states. What differs is who does the work. A proposal is made by a driver
that has a worker free, in its turn; it writes it under its own number, and evaluates it. The others
read it, and wait for its result in the study. If a driver dies, the next that has a worker free
takes its open trials over and repeats them with the same seeds.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import attrs

from symnas.searching.crew import Workplace
from symnas.searching.journal import Entry, Journal
from symnas.studies.driver import Driver

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture

# Between two looks at what other drivers have written: doubled from the first to the last.
_FIRST_SECONDS, _LAST_SECONDS = 0.01, 0.5


@attrs.define
class Together:
    """One of several drivers.

    Attributes:
        journal: where all of them write.
        workplace: where this one evaluates.
        workers: how many trials it evaluates at once.
        driver: how it knows of the others.
    """

    journal: Journal
    workplace: Workplace
    workers: int
    driver: Driver
    _mine: dict[int, tuple[Entry, Architecture]] = attrs.field(factory=dict, init=False)
    _others: dict[int, tuple[Entry, Architecture]] = attrs.field(factory=dict, init=False)
    _leaving: bool = attrs.field(default=False, init=False)
    _pause: float = attrs.field(default=_FIRST_SECONDS, init=False)

    @property
    def free(self) -> bool:
        """Whether a worker is free."""
        return len(self._mine) < self.workers

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """Other drivers wait: they would propose the same."""
        return self.driver.turn()

    def evaluate(self, entry: Entry, architecture: Architecture) -> None:
        """Evaluates a trial that is this driver's; waits for that of another one."""
        if entry.driver == self.driver.id:
            self._mine[entry.number] = (entry, architecture)
            self.workplace.submit(entry.assignment, architecture)
        else:
            self._others[entry.number] = (entry, architecture)

    def finished(self) -> list[Entry]:
        """Waits for trials to end, here or elsewhere, for half a second at most if elsewhere."""
        ended = self._evaluated() + self._read()
        self._pause = _FIRST_SECONDS if ended else min(2 * self._pause, _LAST_SECONDS)
        return ended

    def busy(self, *, late: bool) -> bool:
        """Whether trials are open; when it is late, trials of this driver."""
        self._leaving = late
        return bool(self._mine or (self._others and not late))

    def _evaluated(self) -> list[Entry]:
        """What has ended here, after a pause for something to end."""
        if not self._mine:
            time.sleep(self._pause)
            return []
        ended = []
        for number, outcome in self.workplace.collect(self._pause if self._others else None):
            taken = self._mine.pop(number)
            entry = self.journal.finish(number, outcome)
            if entry is None:  # we were taken for dead; the result of who took it over counts
                self._others[number] = taken
            else:
                ended.append(entry)
        return ended

    def _read(self) -> list[Entry]:
        """What has ended elsewhere; trials of dead drivers are taken over."""
        if not self._others:
            return []
        ended = []
        dead: dict[int | None, bool] = {}
        for entry in self.journal.again(self._others):
            if entry.scores is not None:
                del self._others[entry.number]
                ended.append(entry)
                continue
            if not self.free or self._leaving:
                continue
            if entry.driver not in dead:
                dead[entry.driver] = not self.driver.alive(entry.driver)
            if dead[entry.driver] and self.journal.claim(entry):
                _, architecture = self._others.pop(entry.number)
                self.evaluate(attrs.evolve(entry, driver=self.driver.id), architecture)
        return ended
