"""The search loop: ask, evaluate, tell, in an order that no kill and no worker can change.

Proposal `i` is asked for when exactly the results up to `i - ahead` have been told, whichever
trials happen to have finished by then; with budgets, `Order` says which come first. Every proposal
is written before it is evaluated and every result before it is told. So a search that is killed and
called again goes through the same states: recorded proposals are replayed instead of asked for,
recorded results instead of measured. That is also how several processes share a search: each goes
through the states, and takes from the record what others have proposed and measured.
"""

from __future__ import annotations

import time

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching.algorithm import Run
from symnas.searching.crew import Crew
from symnas.searching.journal import Journal
from symnas.searching.order import Order
from symnas.searching.problem import Problem
from symnas.searching.progress import Progress


@attrs.define
class Limits:
    """When to propose no more: the total number of trials, and the seconds of this call."""

    trials: int | None
    seconds: float | None
    _start: float = attrs.field(factory=time.monotonic, init=False)

    def reached(self, number: int) -> str | None:
        """Why trial `number` is not to be begun, or None."""
        if self.trials is not None and number >= self.trials:
            return f"all {self.trials} trials are done"
        return self.lateness if self.late else None

    @property
    def lateness(self) -> str:
        """Why nothing is begun when it is late."""
        return f"{self.seconds:g} seconds are over"

    @property
    def late(self) -> bool:
        """Whether the seconds are over."""
        return self.seconds is not None and time.monotonic() - self._start >= self.seconds


class _Late(Exception):
    """The seconds are over, and only other drivers' trials are open."""


@attrs.define
class Loop:
    """One search in progress.

    Attributes:
        problem: what is solved.
        run: the algorithm's run on it.
        journal: where trials are written, and read back from when the search is continued.
        crew: who evaluates them.
        progress: whom to tell about it.
        ahead: how many proposals may be open when the next is asked for.
        initial: rows `(n, columns)` to propose before the algorithm's own.
    """

    problem: Problem
    run: Run
    journal: Journal
    crew: Crew
    progress: Progress
    ahead: int
    initial: NDArray[np.int32]
    told: int = 0
    _limits: Limits = attrs.field(factory=lambda: Limits(None, None), init=False)
    _open: dict[int, NDArray[np.int32]] = attrs.field(factory=dict, init=False)
    _results: dict[int, list[float]] = attrs.field(factory=dict, init=False)
    _order: Order = attrs.field(factory=Order, init=False)

    def __call__(self, limits: Limits) -> str:
        """Searches until a limit is reached or nothing is left; returns which it was."""
        self._limits = limits
        try:
            return self._search()
        except _Late:
            return limits.lateness

    def _search(self) -> str:
        number = 0
        while True:
            while len(self._order) >= self.ahead:
                self._tell_next()
            ending = self._limits.reached(number)
            if ending is None and not self._replay(number):
                if not self.crew.free:
                    self._collect()
                    continue
                with self.crew.turn():
                    if not (self._replay(number) or self._propose(number)):
                        ending = self._nothing_left(number)
            if ending is not None:
                while self.crew.busy(late=self._limits.late):
                    self._collect()
                while len(self._order) and not self._limits.late:
                    self._tell_next()
                return ending
            number += 1

    def _replay(self, number: int) -> bool:
        """Goes through a recorded proposal again, if there is one of that number."""
        entry = self.journal.recorded(number)
        if entry is None:
            return False
        while self.told < entry.told:
            self._tell_next()
        row = self.problem.propose(entry.row, entry.assignment.budget)[0]
        if number >= len(self.initial):
            self.run.replay(entry.row, entry.assignment.stage)
        self._begin(number, row, entry.assignment.budget)
        if entry.scores is not None:
            self._results[number] = entry.scores
            self.progress.finished(entry)
        else:
            self.progress.began(entry)
            self.crew.evaluate(entry, self.problem.space.decode(entry.row[0]))
        return True

    def _propose(self, number: int) -> bool:
        """Asks for a proposal, records it and begins to evaluate it, if there is one."""
        rows = self._ask(number)
        while not len(rows) and self.told < number:  # it may need a result that is still open
            self._tell_next()
            rows = self._ask(number)
        if not len(rows):
            return False
        budget = next(reversed(self.problem.budgets_of(rows[0])), None)
        self._begin(number, rows[0], budget)
        architecture = self.problem.space.decode(rows[0])
        stage = self.run.stage if number >= len(self.initial) else ""
        entry = self.journal.begin(
            number, rows, architecture, told=self.told, budget=budget, stage=stage
        )
        if entry.scores is not None:  # another search of the study has evaluated it
            self._results[number] = entry.scores
            self.progress.finished(entry)
        else:
            self.progress.began(entry)
            self.crew.evaluate(entry, architecture)
        return True

    def _ask(self, number: int) -> NDArray[np.int32]:
        if number < len(self.initial):
            return self.problem.propose(self.initial[number : number + 1])
        return self.run.ask(1)

    def _begin(self, number: int, row: NDArray[np.int32], budget: float | None) -> None:
        self._open[number] = row
        self._order.begin(number, budget)

    def _tell_next(self) -> None:
        """Tells the next result in order, waiting for it if it is open."""
        number = self._order.next()
        while number not in self._results:
            self._collect()
        row, scores = self._open.pop(number), self._results.pop(number)
        self.run.tell(row[None], np.array([scores]))
        self.told += 1

    def _collect(self) -> None:
        """Waits for results, of whichever trials; not for those of others when it is late."""
        if self._limits.late and not self.crew.busy(late=True):
            raise _Late
        for entry in self.crew.finished():
            assert entry.scores is not None
            self._results[entry.number] = entry.scores
            self.progress.finished(entry)

    def _nothing_left(self, number: int) -> str:
        if self.problem.exhausted:
            count = number if self.problem.budget is None else self.problem.count
            return f"space exhausted: all {count} architectures that can be proposed have been"
        return f"the algorithm proposed nothing more after {number} trials"
