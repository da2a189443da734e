"""`sn.flow.sequence`: one search after the other, each from the best that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.errors import Infeasible
from symnas.flow.flow import Flow
from symnas.flow.run import Child, FlowRun
from symnas.flow.stage import Stage
from symnas.flow.subproblem import seed_at
from symnas.flow.tree import tree
from symnas.oneshot.algorithm import OneShot
from symnas.searching.problem import Problem
from symnas.searchspace.parts import Part, restrict
from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Scores = NDArray[np.float64]

# `shrink(space, rows, scores)` says which candidates are kept, as for `space.restrict`: by id, labels
# or values. Scores are `(n, objectives)`, larger is better, without failures.
Shrink = Callable[[Space, Rows, Scores], Mapping[str, Sequence[Any]]]


def sequence(*stages: Stage | Shrink, start: Any = None) -> InSequence:
    """One search after the other. Each searches its own decisions; all others are as in the best
    architecture so far, which every stage is told with all other results that lie in its part.

    A stage that names no decisions searches all of them. So architecture first and hyper-parameters
    second is `sequence(a.over("model", trials=90), b.over("task", trials=10))`, and a third stage
    `c.over(trials=50)` refines all together. A decision that the best architecture lacks (of a layer
    that it does not have) is searched by a stage that may add it.

    Args:
        stages: `algorithm.over(...)`, `sn.flow.refine(...)`, or what narrows the space without
            trials, such as `sn.flow.Efficient(latency)`. Only the last may be without a number of
            trials: it goes on as long as the search.
        start: the architecture (or program) whose values undecided decisions have in the first
            stage; by default a random one that is feasible.

    Raises:
        TypeError, ValueError: a stage is none, or says for how many trials neither by itself nor by
            its algorithm.

    >>> import symnas as sn
    >>> from symnas import algorithms as alg
    >>> space = sn.Space([sn.oneof([1, 2, 3], name="a"), sn.oneof([4, 5, 6], name="b")])
    >>> flow = sn.flow.sequence(alg.RandomSearch().over("a", trials=3),
    ...                         alg.RandomSearch().over("b", trials=2))
    >>> print(flow)
    sequence
    ├── RandomSearch() over a, 3 trials
    └── RandomSearch() over b, 2 trials
    >>> study = sn.search(space, flow, lambda a: sum(a.build()), maximize="sum", progress=False)
    >>> study.best.metrics  # 5 trials for 9 architectures
    {'sum': 9.0}
    """
    parts: list[Stage | _Narrowing] = []
    for index, stage in enumerate(stages):
        if isinstance(stage, Stage):
            parts.append(stage)
        elif callable(stage) and not isinstance(stage, type):
            parts.append(_Narrowing(stage))
        else:
            raise TypeError(
                f"sequence: stage {index} ({stage!r:.60}) must say what it searches, as "
                "alg.RandomSearch().over('model', trials=40)."
            )
    return InSequence(tuple(parts), start)


@attrs.frozen
class _Narrowing:
    """A step without trials."""

    shrink: Shrink

    def __str__(self) -> str:
        return f"shrink by {self.shrink}"


@attrs.frozen
class InSequence(Flow):
    """What `sn.flow.sequence` returns: an algorithm."""

    steps: tuple[Stage | _Narrowing, ...] = attrs.field()
    start_from: Any = attrs.field(default=None, eq=False)

    @steps.validator
    def _check(self, attribute: Any, steps: tuple[Any, ...]) -> None:
        searches = [step for step in steps if isinstance(step, Stage)]
        if not searches:
            raise ValueError("sequence: there must be at least one stage that searches.")
        for step in searches:
            if isinstance(step.trials, tuple):
                raise ValueError(
                    f"sequence: trials={step.trials}: several numbers are for the inner search of a "
                    "nested flow."
                )
            if step.endless and step is not steps[-1]:
                raise ValueError(
                    f"sequence: say for how many trials: {step.algorithm!r:.60}.over(..., trials=50). "
                    "Only the last stage may go on as long as the search."
                )

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(step for step in self.steps if isinstance(step, Stage))

    @property
    def endless(self) -> bool:
        last = self.steps[-1]
        return isinstance(last, Stage) and last.endless

    def start(self, problem: Problem) -> SequenceRun:
        return SequenceRun(self, problem)

    def check(self, problem: Problem) -> None:
        for stage in self.stages:
            columns = stage.columns(problem.space)
            if columns is not None and not columns:
                raise ValueError(
                    f"sequence: {stage.algorithm!r:.60} would have nothing to search: no decision is "
                    f"of {', '.join(stage.decisions)}."
                )
            if not isinstance(stage.algorithm, Flow):
                stage.algorithm.check(problem)
        if self.start_from is not None:
            self._start_row(problem.space)

    def _start_row(self, space: Space) -> Rows:
        try:
            return np.asarray(space.encode(self.start_from), np.int32)
        except ValueError as error:
            raise ValueError(f"sequence: `start`: {error}") from error

    def __str__(self) -> str:
        return tree("sequence", self.steps)


class SequenceRun(FlowRun):
    """A stage begins when all results of the one before are known."""

    def __init__(self, flow: InSequence, problem: Problem) -> None:
        super().__init__(problem)
        self._flow = flow
        self._index = 0
        self._search: Child | None = None
        self._kept: dict[int, tuple[int, ...]] = {}  # by column, what narrowing has left
        self._rows: list[Rows] = []
        self._scores: list[Scores] = []

    def next(self) -> Rows:
        none = np.empty((0, len(self.problem.space)), np.int32)
        while self._narrow_or_begin():
            assert self._search is not None
            rows = self._search.ask()
            if len(rows):
                self.stage = self._search.place
                return rows
            if self._search.open:
                return none
            self._finish()
        return none

    def tell(self, rows: Rows, scores: Scores) -> None:
        for row, told in zip(np.asarray(rows, np.int32), scores, strict=True):
            self._rows.append(row.copy())
            self._scores.append(np.array(told, float))
            if self._search is not None:
                self._search.tell(row, told)

    def replay(self, rows: Rows, stage: str) -> None:
        place, _, rest = stage.partition(".")
        while self._index < int(place):
            self._finish()
        self._narrow_or_begin()
        assert self._search is not None
        self._search.replay(rows, rest, self.budget_of(rows[0]))
        self.stage = stage

    # Stages -----------------------------------------------------------------------------------

    def _narrow_or_begin(self) -> bool:
        """Has the current stage's search begun; False where there is none left."""
        if self._search is not None:
            return True
        while self._index < len(self._flow.steps):
            step = self._flow.steps[self._index]
            if isinstance(step, Stage):
                self._search = self._begun(step)
                return True
            self._narrow(step.shrink)
            self._index += 1
        return False

    def _finish(self) -> None:
        step = self._flow.steps[self._index]
        if step.shrink is not None:
            self._narrow(step.shrink)
        self._index += 1
        self._search = None

    def _begun(self, stage: Stage) -> Child:
        space = self.problem.space
        columns = stage.columns(space)
        kept = dict(self._kept)
        if columns is not None:
            best = self._best()
            others = (c for c in range(len(space)) if c not in columns and best[c] >= 0)
            kept |= {c: (int(best[c]),) for c in others}
        trials = stage.trials
        if isinstance(stage.algorithm, OneShot) and trials is None:
            trials = 1
        assert not isinstance(trials, tuple)
        search = self.child(
            str(self._index),
            Part.of(space, kept),
            stage.algorithm,
            trials,
            seed_at(self.problem, self._index),
        )
        self._check_possible(stage, search)
        alone = isinstance(stage.algorithm, OneShot | Flow) or stage.algorithm.budgets
        if self._rows and not alone:
            search.remember(np.array(self._rows), np.array(self._scores))
        return search

    def _check_possible(self, stage: Stage, search: Child) -> None:
        """Refuses a stage to which the decisions that it does not search leave nothing feasible."""
        constraints = search.problem.constraints
        if constraints is None:
            return
        known = "`start`" if self._flow.start_from is not None else "the first architecture"
        others = "the best architecture so far" if self._rows else known
        try:
            constraints.check_possible(seed=search.problem.seed)
        except Infeasible as error:
            raise Infeasible(
                f"sequence: stage {self._index} ({stage}) has nothing feasible to search"
                f"{f', with all other decisions as in {others}' if stage.decisions else ''}: {error} "
                "Start from an architecture that leaves room for the stage, or keep more candidates."
            ) from error

    def _best(self) -> Rows:
        """The best row so far; of several objectives the one nearest to the best of each."""
        rows, scores = self._finite()
        if not len(rows):
            return self._first()
        low, high = scores.min(axis=0), scores.max(axis=0)
        scaled = (scores - low) / np.where(high > low, high - low, 1.0)
        found: Rows = rows[np.argmin(((1.0 - scaled) ** 2).sum(axis=1))]
        return found

    def _first(self) -> Rows:
        if self._flow.start_from is not None:
            return self._flow._start_row(self.problem.space)
        sampled = self.problem.sample(1, (seed_at(self.problem, 0), 1))
        if not len(sampled):
            raise ValueError("sequence: no feasible architecture was found to start from.")
        row: Rows = sampled[0]
        return row

    def _finite(self) -> tuple[Rows, Scores]:
        width = len(self.problem.space)
        rows = np.array(self._rows, np.int32).reshape(-1, width)
        scores = np.array(self._scores, float).reshape(len(rows), len(self.problem.objectives))
        good = np.isfinite(scores).all(axis=1)
        return rows[good], scores[good]

    def _narrow(self, shrink: Shrink) -> None:
        """Leaves out candidates of the decisions; each decision keeps at least one."""
        space = self.problem.space
        part = restrict(space, dict(shrink(space, *self._finite())))
        for column, kept in enumerate(part.kept):
            if kept is not None:
                left = tuple(v for v in kept if v in self._kept.get(column, kept))
                self._kept[column] = left or kept
