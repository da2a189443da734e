"""Local search: evaluate the neighbours of the current architecture, move to a better one.

White, Nolen and Savani 2020, "Exploring the Loss Landscape in Neural Architecture Search"
(arXiv 2005.02960), Algorithm 1 in section 3. For several objectives, Paquete, Chiarandini and
Stützle 2004, "Pareto Local Optimum Sets in the Biobjective Traveling Salesman Problem" (LNEMS 535).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching import pareto
from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import at_least, one_of
from symnas.searching.problem import Problem
from symnas.searching.sequential import SequentialRun, first_scores


@attrs.frozen
class LocalSearch(Algorithm):
    """Hill climbing over neighbours in random order, restarted at random at local optima.

    Neighbours of an architecture are those that differ from it in one decision. None is
    evaluated twice: what was met on an earlier climb counts with its stored score. While the
    last neighbours are being evaluated, idle workers get the neighbours of the best one so far.

    With several objectives, neighbours of all architectures are evaluated that none dominates
    (Pareto local search), then ones further away. In large spaces `NSGA2` finds more.

    Args:
        initial_samples: each climb begins at the best of this many random architectures.
        move: "best" evaluates the whole neighbourhood and moves to the best neighbour, if it is
            better; "first" moves as soon as a neighbour is better (`query_until_lower` in the
            paper's code), which suits spaces with hundreds of neighbours. With several
            objectives, "best" goes on with what was found first of all that none dominates,
            "first" with what was found last.

    Raises:
        ValueError: `initial_samples` is below 1, or `move` is another word.

    >>> from symnas import algorithms as alg
    >>> alg.LocalSearch(move="best")
    LocalSearch(initial_samples=10, move='best')
    """

    many_objectives: ClassVar[bool] = True

    initial_samples: int = attrs.field(default=10, validator=at_least(1))
    move: str = attrs.field(default="first", validator=one_of(("best", "first")), kw_only=True)

    def start(self, problem: Problem) -> Run:
        several = len(problem.objectives) > 1
        return _Front(self, problem) if several else _Climb(self, problem)


@attrs.frozen(eq=False)
class _Point:
    row: NDArray[np.int32]  # (columns,)
    key: bytes
    score: float


class _Climb(SequentialRun):
    """Where the climb stands follows from what was told alone, never from what was asked."""

    def __init__(self, algorithm: LocalSearch, problem: Problem) -> None:
        super().__init__(problem)
        self._algorithm = algorithm
        self._scores: dict[bytes, float] = {}  # of everything told
        self._centre: _Point | None = None  # None while a climb's initial samples come in
        self._samples = 0
        self._best: _Point | None = None  # of the initial samples, then of the neighbours
        self._waiting: set[bytes] = set()  # neighbours of the centre without a score
        # What is left to propose: only a cache, as a row that was proposed never is fresh again.
        self._around: dict[bytes, Iterator[NDArray[np.int32]]] = {}

    def next(self) -> NDArray[np.int32]:
        centre, best = self._centre, self._best
        if centre is not None:
            places = [centre]
            if best is not None and best.score > centre.score:
                places.append(best)  # where the climb will most likely go next
            for place in places:
                for row in self._neighbors_of(place):
                    if self.problem.fresh(row)[0]:
                        return row
        return self.problem.sample(1, (self.problem.count,))

    def _neighbors_of(self, place: _Point) -> Iterator[NDArray[np.int32]]:
        """The neighbours one by one, `(1, columns)` each, in an order that is fixed by place."""
        if place.key not in self._around:
            self._around[place.key] = _neighbors(self.problem, place.row, place.key)
        return self._around[place.key]

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        first = first_scores(scores)
        for row, key, score in zip(rows, self.problem.space.keys(rows), first, strict=True):
            self._scores[key] = float(score)
            self._step(_Point(row.copy(), key, float(score)))

    def _step(self, point: _Point) -> None:
        if self._centre is None:
            self._samples += 1
            self._keep(point)
            # A climb from an architecture that failed would be a walk through its failing kin.
            enough = self._samples >= self._algorithm.initial_samples
            if enough and self._best is not None and self._best.score > -np.inf:
                self._move()
        elif point.key in self._waiting:
            self._waiting.discard(point.key)
            self._keep(point)
            if not self._waiting or self._may_move():
                self._move()

    def _keep(self, point: _Point) -> None:
        if self._best is None or point.score > self._best.score:
            self._best = point

    def _may_move(self) -> bool:
        """Whether the best so far is a reason to move before all neighbours are known."""
        if self._algorithm.move == "best" or self._centre is None or self._best is None:
            return False
        return self._best.score > self._centre.score

    def _move(self) -> None:
        """Moves to the best, on through known neighbourhoods, or gives up at a local optimum."""
        while True:
            best, centre = self._best, self._centre
            self._best = None
            self._around.clear()
            if best is None or (centre is not None and best.score <= centre.score):
                self._centre = None
                self._samples = 0
                self._waiting.clear()
                return
            self._centre = best
            rows = self.problem.space.neighbors(best.row)
            rows = rows[self.problem.feasible(rows)]
            self._waiting = set()
            for row, key in zip(rows, self.problem.space.keys(rows), strict=True):
                if key in self._scores:
                    self._keep(_Point(row, key, self._scores[key]))
                elif key != best.key:
                    self._waiting.add(key)
            if self._waiting and not self._may_move():
                return


class _Front(SequentialRun):
    """What none dominates follows from what was told, what is left around it from the proposals."""

    def __init__(self, algorithm: LocalSearch, problem: Problem) -> None:
        super().__init__(problem)
        self._algorithm = algorithm
        self._rows = np.empty((0, len(problem.space.columns)), np.int32)  # in order of being told
        self._scores = np.empty((0, len(problem.objectives)))
        self._around: dict[bytes, Iterator[NDArray[np.int32]]] = {}  # only a cache, as above

    def next(self) -> NDArray[np.int32]:
        problem, count = self.problem, self.problem.count
        if count < self._algorithm.initial_samples or not len(self._rows):
            return problem.sample(1, (count,))
        places = list(zip(self._rows, problem.space.keys(self._rows), strict=True))
        for place, key in places if self._algorithm.move == "best" else reversed(places):
            if key not in self._around:
                self._around[key] = _neighbors(problem, place, key)
            for row in self._around[key]:
                if problem.fresh(row)[0]:
                    return row
        self._around = {key: self._around[key] for _, key in places}
        some = np.random.default_rng((problem.seed, count)).integers(len(self._rows), size=1)
        further = problem.mutate(self._rows[some], (count,))
        return further if len(further) else problem.sample(1, (count,))

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        scores = np.concatenate([self._scores, scores])
        keep = pareto.nondominated(scores)
        self._scores, self._rows = scores[keep], np.concatenate([self._rows, rows])[keep]


def _neighbors(problem: Problem, row: NDArray[np.int32], key: bytes) -> Iterator[NDArray[np.int32]]:
    """The neighbours of a row one by one, `(1, columns)` each, in an order fixed by its key."""
    rows = problem.space.neighbors(row)
    # A row that is in two neighbourhoods must not come at the same place in both.
    digest = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
    order = np.random.default_rng((problem.seed, digest)).permutation(len(rows))
    return (rows[i : i + 1] for i in order)
