"""Any PyGlove algorithm: a `pg.DNAGenerator` proposes, symnas keeps its proposals new and feasible.

Peng et al. 2020, "PyGlove: Symbolic Programming for Automated Machine Learning"
(arXiv 2101.08809), section 3.3.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

import attrs
import numpy as np
import pyglove as pg
from numpy.typing import NDArray

from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import at_least
from symnas.searching.problem import Problem
from symnas.searching.sequential import SequentialRun

# Copies that are kept; a caller who asks for more at once waits for one to be run again.
_REPLICAS = 16


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


@attrs.frozen(eq=False)
class _Proposal:
    row: NDArray[np.int32]  # (1, columns)
    key: bytes
    dna: pg.DNA


class _Generated(SequentialRun):
    """Runs copies of the generator over what was told, one for each number of open trials.

    A generator's state depends on which results it knew at each proposal, while a continued
    search knows only what was told. So a proposal with p open trials is by definition that of a
    generator that always had p open. A search has the same number open all along, hence one
    copy, which only ever goes forward.
    """

    def __init__(self, algorithm: PyGlove, problem: Problem) -> None:
        super().__init__(problem)
        self._algorithm = algorithm
        self._history: list[_Result] = []
        self._replicas: dict[int, _Replica] = {}  # by open trials, the last used at the end

    def next(self) -> NDArray[np.int32]:
        count = self.problem.count
        replica = self._replica(count - len(self._history))
        proposal = replica.propose(count, self._history)
        if proposal is not None and self.problem.fresh(proposal.row)[0]:
            return proposal.row
        for earlier in replica.open():  # made when another row, a given one say, was evaluated
            if self.problem.fresh(earlier.row)[0]:
                return earlier.row
        others = self.problem.sample(1, (count,))
        if proposal is not None or not len(others):
            return others  # its row is open already; or nothing is left at all
        if replica.gave_up:
            warnings.warn(
                f"PyGlove: {type(self._algorithm.generator).__name__} proposed only architectures "
                f"that are known or infeasible, {self._algorithm.max_attempts} in a row, so the "
                "search ends. Raise `max_attempts` if you expect it to find others.",
                stacklevel=3,
            )
        return others[:0]

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        keys = self.problem.space.keys(rows)
        for row, key, score in zip(rows, keys, scores, strict=True):
            self._history.append(_Result(row.copy(), key, tuple(float(s) for s in score)))

    def _replica(self, lag: int) -> _Replica:
        found = self._replicas.pop(lag, None)
        if found is None:
            for other, replica in self._replicas.items():
                if replica.serves(lag):
                    found = self._replicas.pop(other)
                    found.lag = lag
                    break
            else:
                found = _Replica(self._algorithm, self.problem, lag)
        self._replicas[lag] = found
        if len(self._replicas) > _REPLICAS:
            self._replicas.pop(next(iter(self._replicas)))
        return found


@attrs.frozen(eq=False)
class _Result:
    row: NDArray[np.int32]  # (columns,)
    key: bytes
    score: tuple[float, ...]


class _Replica:
    """A copy of the generator that makes proposal j knowing the results up to j - lag - 1."""

    def __init__(self, algorithm: PyGlove, problem: Problem, lag: int) -> None:
        self.lag = lag
        self.gave_up = False
        self._problem = problem
        self._max_attempts = algorithm.max_attempts
        self._generator = algorithm.generator.clone(deep=True)
        self._generator.setup(problem.space.dna_spec())
        self._proposals: list[_Proposal | None] = []
        self._open: dict[bytes, _Proposal] = {}
        self._scores: dict[bytes, tuple[float, ...]] = {}
        self._fed = 0

    def serves(self, lag: int) -> bool:
        """Whether it would be in the same state with another lag."""
        return self._fed == 0 and len(self._proposals) <= min(self.lag, lag) + 1

    def open(self) -> list[_Proposal]:
        """What it has proposed and was not fed."""
        return list(self._open.values())

    def propose(self, number: int, history: list[_Result]) -> _Proposal | None:
        """Proposal `number`, or None if the generator ended or gives nothing new."""
        while len(self._proposals) <= number:
            while self._fed < len(self._proposals) - self.lag:
                self._feed_result(history[self._fed])
            proposal = self._new()
            if proposal is not None:
                self._open[proposal.key] = proposal
            self._proposals.append(proposal)
        return self._proposals[number]

    def _new(self) -> _Proposal | None:
        space = self._problem.space
        for _ in range(self._max_attempts):
            try:
                dna = self._generator.propose()
            except StopIteration:
                self.gave_up = False
                return None
            row = np.asarray(space.from_dna(dna), np.int32).reshape(1, -1)
            key = space.keys(row)[0]
            if key in self._scores:
                self._feed(dna, self._scores[key])
            elif key not in self._open and self._problem.feasible(row)[0]:
                return _Proposal(row, key, dna)
        self.gave_up = True
        return None

    def _feed_result(self, result: _Result) -> None:
        instead = self._proposals[self._fed]
        own = self._open.pop(result.key, None)
        if own is not None:
            self._feed(own.dna, result.score)
        elif instead is not None:
            # Generators keep notes with what they propose, and miss them in what others do: so
            # a stranger comes with the notes of the proposal whose turn it took.
            dna = self._problem.space.to_dna(result.row)
            dna.metadata.update(instead.dna.metadata)
            self._feed(dna, result.score)
        self._scores[result.key] = result.score
        self._proposals[self._fed] = None
        self._fed += 1

    def _feed(self, dna: pg.DNA, score: tuple[float, ...]) -> None:
        if all(math.isfinite(s) for s in score):
            several = self._generator.multi_objective
            self._generator.feedback(dna, score if several else score[0])
