"""An algorithm of symnas as a `pg.DNAGenerator`, for `pg.sample` and everything built on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyglove as pg

from symnas.errors import DeclarationError
from symnas.searching.algorithm import Algorithm
from symnas.searching.objectives import Objective
from symnas.searching.problem import Problem
from symnas.searchspace.space import Space


def as_dna_generator(algorithm: Algorithm, seed: int = 0) -> pg.DNAGenerator:
    """A generator for `pg.sample` that asks `algorithm`, and proposes nothing twice.

    It ends when every architecture was proposed. A trial that `pg.sample` skips is one that the
    algorithm never hears of. Rewards are maximised; a NaN is a failed trial.

    Args:
        algorithm: any multi-trial algorithm; the generator takes several objectives if it does.
        seed: what all randomness comes from.

    Raises:
        TypeError: `algorithm` is not an algorithm.
        ValueError: the algorithm evaluates at several budgets, which PyGlove has no place for.
        DeclarationError: when sampling begins, the space has a custom decision of PyGlove.

    >>> import pyglove as pg
    >>> from symnas import algorithms as alg
    >>> space = pg.Dict(x=pg.oneof([1, 2, 3]), y=pg.oneof(["a", "b"]))
    >>> generator = as_dna_generator(alg.RandomSearch(), seed=1)
    >>> found = []
    >>> for example, feedback in pg.sample(space, generator, 10):
    ...     found.append((example.x, example.y))
    ...     feedback(float(example.x))
    >>> len(found), len(set(found))
    (6, 6)
    """
    if not isinstance(algorithm, Algorithm):
        raise TypeError(
            f"The value of `algorithm` ({algorithm!r}) must be an algorithm of symnas, such as "
            "alg.RandomSearch()."
        )
    if algorithm.budgets:
        raise ValueError(
            f"The value of `algorithm` ({algorithm!r}) evaluates at several budgets, and pg.sample "
            "tells none. Use sn.sample: feedback.budget is the budget of an architecture."
        )
    return AlgorithmGenerator(algorithm=algorithm, seed=seed)


@pg.members(
    [
        ("algorithm", pg.typing.Object(Algorithm), "The algorithm that proposes."),
        ("seed", pg.typing.Int(min_value=0, default=0), "What all randomness comes from."),
    ]
)
class AlgorithmGenerator(pg.DNAGenerator):  # type: ignore[misc]
    """Asks an algorithm in the space that a DNASpec describes. Made by `as_dna_generator`."""

    @property
    def multi_objective(self) -> bool:
        return bool(self.algorithm.many_objectives)

    def _setup(self) -> None:
        self._space = Space(_program_of(self.dna_spec))
        # PyGlove does not say how many objectives there are before the first reward.
        self._problem = Problem(self._space, [Objective("reward", "maximize")], seed=self.seed)
        self._run = self.algorithm.start(self._problem)

    def _propose(self) -> pg.DNA:
        rows = self._run.ask(1)
        if not len(rows):
            raise StopIteration
        return pg.DNA.from_numbers(self._space.to_dna(rows[0]).to_numbers(), self.dna_spec)

    def _feedback(self, dna: pg.DNA, reward: float | tuple[float, ...]) -> None:
        scores = reward if isinstance(reward, tuple) else (reward,)
        row = np.asarray(self._space.from_dna(dna), np.int32)[None]
        self._run.tell(row, np.array([scores], np.float64))

    def _replay(self, trial_id: int, dna: pg.DNA, reward: Any) -> None:
        self._problem.propose(np.asarray(self._space.from_dna(dna), np.int32)[None])
        super()._replay(trial_id, dna, reward)


def _program_of(spec: Any) -> Any:
    """A program with the decisions of a DNASpec, in its order, so that their DNA is the same."""
    if spec.is_space:
        return [_program_of(element) for element in spec.elements]
    if spec.is_numerical:
        return pg.floatv(spec.min_value, spec.max_value, scale=spec.scale, name=spec.name)
    if not spec.is_categorical:
        raise DeclarationError(
            f"The space has a custom decision of PyGlove ({spec.id}), which is known to the code "
            "that declares it alone; algorithms of symnas need categorical and float decisions."
        )
    values = spec.literal_values
    if values is None or len(set(values)) < len(values):
        values = [f"{i}" for i in range(len(spec.candidates))]
    candidates = [
        value if candidate.is_constant else [value, *_program_of(candidate)]
        for value, candidate in zip(values, spec.candidates, strict=True)
    ]
    if spec.num_choices == 1:
        return pg.oneof(candidates, name=spec.name)
    return pg.manyof(
        spec.num_choices,
        candidates,
        distinct=spec.distinct,
        sorted=spec.sorted,
        name=spec.name,
    )
