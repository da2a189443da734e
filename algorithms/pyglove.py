"""Any PyGlove algorithm: a `pg.DNAGenerator` proposes, symnas keeps its proposals new and feasible.

Peng et al. 2020, "PyGlove: Symbolic Programming for Automated Machine Learning"
(arXiv 2101.08809), section 3.3.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np
import pyglove as pg
from numpy.typing import NDArray

from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import at_least
from symnas.searching.problem import Problem
from symnas.searching.sequential import SequentialRun


def _copy(generator: Any) -> Any:
    if not isinstance(generator, pg.DNAGenerator):
        raise TypeError(
            f"PyGlove: the value of `generator` ({generator!r}) must be a pg.DNAGenerator, "
            "such as pg.evolution.regularized_evolution() or pg.geno.Random(seed=1)."
        )
    while isinstance(generator, pg.geno.Deduping):
        generator = generator.generator  # here nothing is proposed twice in any case
    return generator.clone(deep=True)


@attrs.frozen
class PyGlove(Algorithm):
    """Searches with a `pg.DNAGenerator`, which is copied and never changed.

    What the generator proposes a second time is not evaluated again: it is fed the stored score
    and asked on. Infeasible proposals are skipped, and neither they nor failed trials are fed
    back, as with `trial.skip()` in `pg.sample`. A generator that ends, or that proposes nothing
    new `max_attempts` times in a row, ends the search.

    A search is continued by running the generator again over the told history. That repeats it
    only if the generator is seeded wholly: `regularized_evolution(seed=1)` leaves its default
    mutator unseeded, so pass the mutator too, as below.

    Args:
        generator: any generator; `pg.geno.Deduping` is taken off, being implied. A generator of
            several objectives is fed tuples of scores, all maximised.
        max_attempts: how many proposals in a row may be known or infeasible.

    Raises:
        TypeError: `generator` is not a `pg.DNAGenerator`.
        ValueError: `max_attempts` is below 1; or, at the start of a search, the search has
            several objectives and the generator takes one.

    >>> import pyglove as pg
    >>> from symnas import algorithms as alg
    >>> alg.PyGlove(pg.evolution.regularized_evolution(
    ...     pg.evolution.mutators.Uniform(seed=1), population_size=20, seed=1)).max_attempts
    1000
    """

    many_objectives: ClassVar[bool] = True

    generator: pg.DNAGenerator = attrs.field(converter=_copy)
    max_attempts: int = attrs.field(default=1000, validator=at_least(1), kw_only=True)

    def start(self, problem: Problem) -> Run:
        self.check(problem)
        return _Generated(self, problem)

    def check(self, problem: Problem) -> None:
        if len(problem.objectives) > 1 and not self.generator.multi_objective:
            raise ValueError(
                f"PyGlove: the search has {len(problem.objectives)} objectives, but `generator` "
                f"({type(self.generator).__name__}) takes one. Use a generator whose "
                "`multi_objective` is true, such as pg.evolution.nsga2(), or one objective."
            )


class _Generated(SequentialRun):
    """Keeps the generator at the state that follows from what was told.

    The generator moves on by one proposal for each trial told; what it has proposed and nobody
    has evaluated comes next. While all of that waits for scores, more is proposed by a second
    generator, brought to the same state and run on without feedback: the first one cannot be
    rewound, and what was asked must leave no trace in it, because only what was told is known
    when a search is continued.
    """

    def __init__(self, algorithm: PyGlove, problem: Problem) -> None:
        super().__init__(problem)
        self._algorithm = algorithm
        self._history: list[tuple[NDArray[np.int32], tuple[float, ...]]] = []
        self._main = _Replica(algorithm, problem)
        self._branch: _Replica | None = None

    def next(self) -> NDArray[np.int32]:
        head = self._main.head()
        for proposal in self._main.open():
            if self.problem.fresh(proposal.row)[0]:
                return proposal.row
        last = self._main
        if head is not None:
            last = self._branch = self._branch or self._replay()
            proposal = last.propose(lambda row, key: bool(self.problem.fresh(row)[0]))
            if proposal is not None:
                return proposal.row
        if last.gave_up and len(self.problem.sample(1, (self.problem.count,))):
            warnings.warn(
                f"PyGlove: {type(self._algorithm.generator).__name__} proposed only architectures "
                f"that are known or infeasible, {self._algorithm.max_attempts} in a row, so the "
                "search ends. Raise `max_attempts` if you expect it to find others.",
                stacklevel=2,
            )
        return np.empty((0, len(self.problem.space.columns)), np.int32)

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        self._branch = None
        for row, score in zip(rows, scores, strict=True):
            told = (row[None].copy(), tuple(float(s) for s in score))
            self._main.tell(*told)
            self._history.append(told)

    def _replay(self) -> _Replica:
        replica = _Replica(self._algorithm, self.problem)
        for row, score in self._history:
            replica.tell(row, score)
        replica.head()
        return replica


@attrs.frozen(eq=False)
class _Proposal:
    row: NDArray[np.int32]  # (1, columns)
    key: bytes
    dna: pg.DNA


class _Replica:
    """A copy of the generator, fed with what is told."""

    def __init__(self, algorithm: PyGlove, problem: Problem) -> None:
        self.gave_up = False
        self._problem = problem
        self._max_attempts = algorithm.max_attempts
        self._generator = algorithm.generator.clone(deep=True)
        self._generator.setup(problem.space.dna_spec())
        self._told: dict[bytes, tuple[float, ...]] = {}
        self._open: dict[bytes, _Proposal] = {}
        self._head: _Proposal | None = None
        self._looked = False

    def open(self) -> list[_Proposal]:
        """What the generator has proposed, at this and earlier states, and was not told."""
        return list(self._open.values())

    def head(self) -> _Proposal | None:
        """The proposal of this state, or None if the generator has no other."""
        if not self._looked:
            self._looked = True
            self._head = None
            if not self._problem.exhausted:
                self._head = self.propose(
                    lambda row, key: key not in self._told and bool(self._problem.feasible(row)[0])
                )
            if self._head is not None:
                self._open[self._head.key] = self._head
        return self._head

    def propose(self, accept: Callable[[NDArray[np.int32], bytes], bool]) -> _Proposal | None:
        """The next proposal that is accepted; what was told before is fed its score again."""
        self.gave_up = False
        space = self._problem.space
        for _ in range(self._max_attempts):
            try:
                dna = self._generator.propose()
            except StopIteration:
                return None
            row = np.asarray(space.from_dna(dna), np.int32).reshape(1, -1)
            key = space.keys(row)[0]
            if accept(row, key):
                return _Proposal(row, key, dna)
            if key in self._told:
                self._feed(dna, self._told[key])
        self.gave_up = True
        return None

    def tell(self, row: NDArray[np.int32], score: tuple[float, ...]) -> None:
        """Feeds one result, `row` `(1, columns)`, whoever proposed it."""
        self.head()  # so that what was asked and what is replayed take the same steps
        key = self._problem.space.keys(row)[0]
        proposal = self._open.pop(key, None)
        self._told[key] = score
        self._feed(self._problem.space.to_dna(row[0]) if proposal is None else proposal.dna, score)
        self._looked = False

    def _feed(self, dna: pg.DNA, score: tuple[float, ...]) -> None:
        if all(math.isfinite(s) for s in score):
            several = self._generator.multi_objective
            self._generator.feedback(dna, score if several else score[0])
