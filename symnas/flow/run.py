"""What runs of flows share: searches within them, and how they are continued and trained."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.flow.subproblem import Subproblem
from symnas.oneshot.algorithm import OneShotRun
from symnas.searching.algorithm import Run
from symnas.searching.problem import Problem
from symnas.searchspace.parts import Part

Rows = NDArray[np.int32]
Scores = NDArray[np.float64]

# `equip(run, stage, before)`: has a one-shot run train its supernet when it is first asked; the
# weights begin as those that the stage `before` left, if it is not None.
Equip = Callable[[OneShotRun, str, "str | None"], None]


@attrs.define(eq=False)
class Child:
    """One search within a flow, on a part of the space.

    Attributes:
        stage: its place in the flow, as text.
        problem: its part of the whole problem.
        run: of its algorithm.
        trials: how many it may propose; None: as many as there are.
        asked: how many it has proposed.
        ended: whether it proposes no more, before its trials are used up.
        rows, scores: what it was told of its own proposals; rows of the part.
    """

    stage: str
    problem: Subproblem
    run: Run
    trials: int | None
    asked: int = 0
    ended: bool = False
    rows: list[Rows] = attrs.field(factory=list)
    scores: list[Scores] = attrs.field(factory=list)
    _pending: list[bytes] = attrs.field(factory=list)

    @property
    def open(self) -> int:
        """How many of its proposals have no result yet."""
        return len(self._pending)

    @property
    def done(self) -> bool:
        """Whether it has proposed all that it may."""
        return self.ended or (self.trials is not None and self.asked >= self.trials)

    @property
    def place(self) -> str:
        """Where its latest proposal was made, within it where it is a flow."""
        return f"{self.stage}.{self.run.stage}" if self.run.stage else self.stage

    def ask(self) -> Rows:
        """The next proposal, as a row of the whole space `(1, columns)`, or none `(0, columns)`.

        None means that it is done, if nothing is open; else that it needs a result first.
        """
        part = self.problem.part
        if self.done:
            return np.empty((0, len(part.parent)), np.int32)
        rows = self.run.ask(1)
        if not len(rows):
            self.ended = not self.open
            return np.empty((0, len(part.parent)), np.int32)
        lifted = part.lift(rows)
        self._expect(lifted)
        return lifted

    def replay(self, rows: Rows, stage: str, budget: float | None) -> None:
        """Takes note of a proposal that it made in an earlier process; rows of the whole space."""
        own = self.problem.note(self.problem.part.lower(rows), budget)
        self.run.replay(own, stage)
        self._expect(rows)

    def tell(self, row: Rows, scores: Scores) -> bool:
        """The result of a row `(columns,)` of the whole space; False if it is none of its own."""
        key = row.tobytes()
        if key not in self._pending:
            return False
        self._pending.remove(key)
        own = self.problem.part.lower(row[None])
        self.rows.append(own[0])
        self.scores.append(scores)
        self.run.tell(own, scores[None])
        return True

    def remember(self, rows: Rows, scores: Scores) -> None:
        """Tells results of other searches, as far as they lie in its part of the space."""
        part = self.problem.part
        for row, told in zip(rows, scores, strict=True):
            own = part._lowered(row.tolist())
            if own is not None and part.is_row(own):
                self.run.tell(self.problem.note([own]), told[None])

    def _expect(self, rows: Rows) -> None:
        self.asked += 1
        self._pending.append(np.ascontiguousarray(rows[0], np.int32).tobytes())


class FlowRun(Run):
    """A run of a flow. Which of its searches made a proposal is its `stage`.

    Args:
        problem: what is solved.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.stage = ""
        self._equip: Equip | None = None
        # Results of what no search of the flow has proposed: initial architectures.
        self.others: list[tuple[Rows, Scores]] = []

    def equip(self, equip: Equip) -> None:
        """Says how one-shot runs within the flow are to be trained; to be called at the beginning."""
        self._equip = equip

    def ask(self, n: int) -> Rows:
        found = [np.empty((0, len(self.problem.space)), np.int32)]
        while len(found) <= n and len(rows := self.next()):
            found.append(rows)
        return np.concatenate(found)

    @abc.abstractmethod
    def next(self) -> Rows:
        """The next proposal, `(1, columns)`; none, `(0, columns)`, where a result is needed first."""

    def child(
        self,
        stage: str,
        part: Part,
        algorithm: Any,
        trials: int | None,
        seed: int,
        before: str | None = None,
    ) -> Child:
        """A search on a part of the space; `before` is the stage whose weights it takes over."""
        problem = Subproblem(self.problem, part, seed)
        run = algorithm.start(problem)
        if self._equip is not None:
            equip = self._equip
            if isinstance(run, OneShotRun):
                equip(run, stage, before)
            elif isinstance(run, FlowRun):
                run.equip(
                    lambda inner, at, earlier: equip(
                        inner,
                        f"{stage}.{at}",
                        (None if before is None else f"{before}.{at}")
                        if earlier is None
                        else f"{stage}.{earlier}",
                    )
                )
        return Child(stage, problem, run, trials)

    def budget_of(self, row: Rows) -> float | None:
        """The latest budget at which a row of the whole space was proposed."""
        return next(reversed(self.problem.budgets_of(row)), None)
