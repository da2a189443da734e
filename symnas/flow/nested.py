"""`sn.flow.nested`: for each candidate of an outer search, an inner one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.flow.flow import Flow
from symnas.flow.reach import inner_of, outer_of, outer_problem
from symnas.flow.run import Child, FlowRun
from symnas.flow.stage import Stage
from symnas.flow.subproblem import seed_at
from symnas.flow.tree import tree
from symnas.oneshot.algorithm import OneShot
from symnas.searching import pareto
from symnas.searching.problem import Problem
from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Scores = NDArray[np.float64]

# The part of the range of the first candidate's scores by which the reference point is worse.
MARGIN = 0.1


def nested(
    *levels: Stage,
    carry_weights: bool = False,
    value: Callable[[Scores], float] | None = None,
) -> Nested:
    """For each candidate of the outer search, an inner search of all that it leaves open.

    A trial is an architecture that the innermost search proposes. When those of a candidate have
    ended, the outer search is told their best score. Candidates that leave nothing feasible are
    never proposed. With several numbers of inner trials, `(4, 16)`, each candidate gets the first;
    of those that had it, the best 4/16 go on to the next (the rule of ASHA, Li et al. 2020,
    arXiv:1810.05934, over candidates instead of epochs), and all are judged by the first.

    Args:
        levels: from the outermost, `algorithm.over(decisions, trials=n)`. One of them may name no
            decisions: it has those that the others leave.
        carry_weights: whether the supernet of a one-shot inner search begins with the weights of
            the candidate before; else with those that the seed gives.
        value: of a candidate, from the scores `(n, objectives)` of its trials without failures; by
            default the best score, or with several objectives the hypervolume, whose reference
            point is a little worse than the worst scores of the first candidate.

    Raises:
        TypeError, ValueError: a level is none, or says for how many trials neither by itself nor by
            its algorithm.

    >>> import symnas as sn
    >>> from symnas import algorithms as alg
    >>> space = sn.Space([sn.oneof([1, 2, 3], group="hardware"), sn.oneof([4, 5, 6])])
    >>> flow = sn.flow.nested(alg.RandomSearch().over("hardware", trials=2),
    ...                       alg.RandomSearch().over("model", trials=3))
    >>> print(flow)
    nested
    ├── RandomSearch() over hardware, 2 trials
    └── RandomSearch() over model, 3 trials
    >>> study = sn.search(space, flow, lambda a: sum(a.build()), maximize="sum", progress=False)
    >>> len(study.trials), len({t.choices["[0]"] for t in study.trials})
    (6, 2)
    """
    for index, level in enumerate(levels):
        if not isinstance(level, Stage):
            raise TypeError(
                f"nested: level {index} ({level!r:.60}) must say what it searches, as "
                "alg.RandomSearch().over('hardware', trials=40)."
            )
    if len(levels) < 2:
        raise ValueError(f"nested: there must be at least 2 levels; {len(levels)} given.")
    outer, *inner = levels
    if len(inner) > 1:
        within = nested(*inner, carry_weights=carry_weights, value=value)
        return Nested(outer, Stage(within, (), None), carry_weights, value)
    return Nested(outer, inner[0], carry_weights, value)


@attrs.frozen
class Nested(Flow):
    """What `sn.flow.nested` returns: an algorithm."""

    outer: Stage = attrs.field()
    inner: Stage = attrs.field()
    carry_weights: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    value: Callable[[Scores], float] | None = None

    @outer.validator
    def _check_outer(self, attribute: Any, stage: Stage) -> None:
        if isinstance(stage.algorithm, OneShot | Flow) or stage.algorithm.budgets:
            raise ValueError(
                f"nested: {stage.algorithm!r:.60} cannot be the outer search, whose candidates are no "
                "networks: take one that proposes rows, at one budget, such as "
                "alg.RegularizedEvolution()."
            )
        if isinstance(stage.trials, tuple):
            raise ValueError(
                f"nested: trials={stage.trials} is for the inner search, which may go on; the outer "
                "one has one number of candidates."
            )

    @inner.validator
    def _check_inner(self, attribute: Any, stage: Stage) -> None:
        if stage.endless:
            raise ValueError(
                f"nested: say how many trials each inner search has: "
                f"{stage.algorithm!r:.60}.over(..., trials=20)."
            )

    @property
    def endless(self) -> bool:
        return self.outer.endless

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.outer, self.inner

    def start(self, problem: Problem) -> NestedRun:
        return NestedRun(self, problem)

    def check(self, problem: Problem) -> None:
        _, inner = self.columns(problem.space)
        part = outer_of(problem.space, inner)
        self.outer.algorithm.check(Problem(part, problem.objectives[:1]))
        self.inner.algorithm.check(problem)

    def columns(self, space: Space) -> tuple[set[int], set[int]]:
        """The columns of the outer and of the inner decisions.

        Raises:
            ValueError: a level has none, one belongs to both, or some to none.
        """
        everything = set(range(len(space)))
        outer, inner = self.outer.columns(space), self._inner_columns(space)
        if outer is None and inner is None:
            raise ValueError("nested: only one level may leave open which decisions it has.")
        outer = everything - (inner or set()) if outer is None else outer
        inner = everything - outer if inner is None else inner
        for stage, own in ((self.outer, outer), (self.inner, inner)):
            if not own:
                raise ValueError(
                    f"nested: {stage.algorithm!r:.60} would have nothing to search: no decision is "
                    "left for it."
                )
        if both := outer & inner:
            named = ", ".join(space.columns[c] for c in sorted(both)[:3])
            raise ValueError(f"nested: two levels have the same decisions: {named}.")
        if left := everything - outer - inner:
            named = ", ".join(space.columns[c] for c in sorted(left)[:3])
            raise ValueError(
                f"nested: no level has {named}{', ...' if len(left) > 3 else ''}. Let one level name "
                "no decisions: it has all that the others leave."
            )
        return outer, inner

    def _inner_columns(self, space: Space) -> set[int] | None:
        inner = self.inner.algorithm
        if self.inner.decisions or not isinstance(inner, Nested):
            return self.inner.columns(space)
        parts = [inner.outer.columns(space), inner._inner_columns(space)]
        return None if any(p is None for p in parts) else set().union(*parts)  # type: ignore[arg-type]

    def __str__(self) -> str:
        levels = [self.outer, self.inner]
        while isinstance(last := levels[-1].algorithm, Nested) and not levels[-1].decisions:
            levels[-1:] = [last.outer, last.inner]
        return tree("nested" + (", weights carried" if self.carry_weights else ""), levels)


class NestedRun(FlowRun):
    """What is searched next follows from what the candidates have been told."""

    def __init__(self, flow: Nested, problem: Problem) -> None:
        super().__init__(problem)
        self._flow = flow
        self._columns, inner = flow.columns(problem.space)
        self._at = sorted(self._columns)
        self._part = outer_of(problem.space, inner)
        seed = seed_at(problem, 0)
        self._outer_problem = outer_problem(problem, self._part, self._columns, seed)
        self._outer = flow.outer.algorithm.start(self._outer_problem)
        self._candidates: list[_Candidate] = []
        self._index: dict[tuple[int, ...], int] = {}
        self._reported = 0
        self._reference: Scores | None = None
        trials = flow.inner.trials
        if isinstance(flow.inner.algorithm, OneShot) and trials is None:
            trials = 1
        self._rungs: tuple[int | None, ...] = trials if isinstance(trials, tuple) else (trials,)

    def next(self) -> Rows:
        none = np.empty((0, len(self.problem.space)), np.int32)
        while True:
            for candidate in self._candidates:
                search = candidate.search
                if search.done:
                    continue
                rows = search.ask()
                if len(rows):
                    self.stage = search.place
                    return rows
                if search.open:
                    return none
            self._settle()
            if self._promote() or self._begin():
                continue
            return none

    def tell(self, rows: Rows, scores: Scores) -> None:
        for row, told in zip(np.asarray(rows, np.int32), scores, strict=True):
            at = self._index.get(tuple(row[self._at].tolist()))
            if at is None or not self._candidates[at].search.tell(row, told):
                self.others.append((row, told))
        self._settle()

    def replay(self, rows: Rows, stage: str) -> None:
        place, _, rest = stage.partition(".")
        at = int(place)
        new = at == len(self._candidates)
        later = new or self._candidates[at].search.done
        # Those that would have been asked before it, had they not come to their end.
        for candidate in self._candidates if later else self._candidates[:at]:
            candidate.search.ended |= not candidate.search.done
        self._settle()
        if new:
            outer = self._outer_problem.propose(self._part.lower(self._first(rows)))
            self._outer.replay(outer, "")
            self._add(outer)
        candidate = self._candidates[at]
        while candidate.search.done:
            self._grow(candidate)
        candidate.search.replay(rows, rest, self.budget_of(rows[0]))
        self.stage = stage

    # Candidates -------------------------------------------------------------------------------

    def _first(self, rows: Rows) -> Rows:
        """A row with the inner decisions at their first values, as rows of the outer part lift."""
        fixed = [-1] * len(self.problem.space)
        for c in self._at:
            fixed[c] = int(rows[0, c])
        own = [fixed[c] for c in self._part.free]
        return self._part.lift([own])

    def _begin(self) -> bool:
        """Takes up another candidate, if the outer search proposes one."""
        trials = self._flow.outer.trials
        if isinstance(trials, int) and len(self._candidates) >= trials:
            return False
        rows = self._outer.ask(1)
        if len(rows):
            self._add(rows)
        return bool(len(rows))

    def _add(self, outer: Rows) -> None:
        number = len(self._candidates)
        row = self._part.lift(outer)[0]
        part = inner_of(self.problem.space, self._columns, row)
        before = str(number - 1) if self._flow.carry_weights and number else None
        seed = seed_at(self.problem, 1, number)
        search = self.child(
            str(number), part, self._flow.inner.algorithm, self._rungs[0], seed, before
        )
        self._candidates.append(_Candidate(outer, search))
        self._index[tuple(row[self._at].tolist())] = number
        for known, told in self.others:
            search.remember(known[None], told[None])

    def _settle(self) -> None:
        """Judges candidates that had their trials; tells the outer search, in their order."""
        for candidate in self._candidates:
            search = candidate.search
            if candidate.rung not in candidate.values and search.done and not search.open:
                candidate.values[candidate.rung] = self._value(search)
        while self._reported < len(self._candidates):
            candidate = self._candidates[self._reported]
            if 0 not in candidate.values:
                return
            self._outer.tell(candidate.outer, np.array([[candidate.values[0]]]))
            self._reported += 1

    def _value(self, search: Child) -> float:
        scores = np.array(search.scores, float).reshape(len(search.scores), -1)
        scores = scores[np.isfinite(scores).all(axis=1)]
        if not len(scores):
            return float("nan")
        if self._flow.value is not None:
            return float(self._flow.value(scores))
        if scores.shape[1] == 1:
            return float(scores.max())
        if self._reference is None:
            low, high = scores.min(axis=0), scores.max(axis=0)
            self._reference = low - MARGIN * np.where(high > low, high - low, np.abs(low) + 1.0)
        return pareto.hypervolume(scores, self._reference.tolist())

    # Growing budgets --------------------------------------------------------------------------

    def _promote(self) -> bool:
        """Has one of the best of those that had one budget go on to the next, if there is one."""
        for rung in reversed(range(len(self._rungs) - 1)):
            low, high = self._rungs[rung], self._rungs[rung + 1]
            assert low is not None and high is not None
            had = [c for c in self._candidates if rung in c.values]
            had.sort(key=lambda c: -np.nan_to_num(c.values[rung], nan=-np.inf))
            for candidate in had[: int(len(had) * low / high)]:
                if candidate.rung == rung and not candidate.search.ended:
                    self._grow(candidate)
                    return True
        return False

    def _grow(self, candidate: _Candidate) -> None:
        candidate.rung += 1
        candidate.search.trials = self._rungs[candidate.rung]


@attrs.define(eq=False)
class _Candidate:
    """An outer row with its inner search; `values` are what it came to, by rung."""

    outer: Rows
    search: Child
    rung: int = 0
    values: dict[int, float] = attrs.field(factory=dict)
