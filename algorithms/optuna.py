"""Any sampler of Optuna: it proposes, symnas keeps its proposals new and feasible.

Akiba, Sano, Yanase, Ohta and Koyama 2019, "Optuna: A Next-generation Hyperparameter Optimization
Framework" (arXiv 1907.10902), section 2: define-by-run; through Optuna's ask-and-tell interface.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import at_least
from symnas.searching.problem import Problem
from symnas.searching.replicas import Replicas
from symnas.searching.samplers import Sampler
from symnas.searching.sequential import SequentialRun
from symnas.searching.suggesting import Suggesting


def _frozen(sampler: Any) -> Sampler:
    return Sampler.of(sampler)


@attrs.frozen
class Optuna(Algorithm):
    """Searches with a sampler of Optuna, which is copied and never changed, nor its seed used.

    Decisions are Optuna's parameters, by id; those that are inactive are not suggested. With
    several objectives the sampler is told all scores, maximised.

    What the sampler proposes a second time is not evaluated again: it is told the stored score
    and asked on. Infeasible proposals are told as pruned, failed trials as failed. After
    `max_attempts` such proposals in a row, a mutation of the last one is evaluated instead, or a
    random architecture; the sampler is told of it as of one of its own.

    A search is continued by asking the sampler again over the told history, which takes as long
    as it took to propose.

    Args:
        sampler: any of `optuna.samplers`; None is `TPESampler()`.
        max_attempts: how many proposals in a row may be known or infeasible.

    Raises:
        MissingExtra: Optuna is not installed.
        TypeError: `sampler` is no sampler.
        ValueError: `max_attempts` is below 1.

    >>> import optuna
    >>> from symnas import algorithms as alg
    >>> alg.Optuna(optuna.samplers.NSGAIISampler(population_size=20))
    Optuna(sampler=NSGAIISampler(population_size=20), max_attempts=10)
    """

    many_objectives: ClassVar[bool] = True

    sampler: Sampler = attrs.field(default=None, converter=_frozen)
    max_attempts: int = attrs.field(default=10, validator=at_least(1), kw_only=True)

    def start(self, problem: Problem) -> Run:
        return _Sampled(self, problem)


@attrs.frozen(eq=False)
class _Proposal:
    trial: Any  # optuna.Trial
    row: NDArray[np.int32]  # (1, columns)
    key: bytes


@attrs.frozen(eq=False)
class _Result:
    row: NDArray[np.int32]  # (columns,)
    key: bytes
    scores: tuple[float, ...]


class _Sampled(SequentialRun):
    """Asks copies of the sampler over what was told: see `symnas.searching.replicas`."""

    def __init__(self, algorithm: Optuna, problem: Problem) -> None:
        super().__init__(problem)
        self._history: list[_Result] = []
        self._replicas = Replicas(lambda lag: _Replica(algorithm, problem, lag))

    def next(self) -> NDArray[np.int32]:
        problem, count = self.problem, self.problem.count
        row = self._replicas.of(count - len(self._history)).propose(count, self._history).row
        if problem.fresh(row)[0]:
            return row
        near = problem.mutate(row, (count,))
        return near if len(near) else problem.sample(1, (count,))

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        keys = self.problem.space.keys(rows)
        for row, key, score in zip(rows, keys, scores, strict=True):
            self._history.append(_Result(row.copy(), key, tuple(score.tolist())))


class _Replica:
    """A copy of the sampler, with a study in memory."""

    def __init__(self, algorithm: Optuna, problem: Problem, lag: int) -> None:
        self.lag = lag
        self._problem = problem
        self._max_attempts = algorithm.max_attempts
        self._study = _study(algorithm.sampler.seeded(problem.seed), len(problem.objectives))
        self._suggesting = Suggesting(problem.space)
        self._proposals: list[_Proposal] = []
        self._open: dict[bytes, _Proposal] = {}
        self._scores: dict[bytes, tuple[float, ...]] = {}
        self._running: set[int] = set()  # numbers of trials that nothing was told of
        self._fed = 0

    def serves(self, lag: int) -> bool:
        return self._fed == 0 and len(self._proposals) <= min(self.lag, lag) + 1

    def propose(self, number: int, history: list[_Result]) -> _Proposal:
        """Proposal `number`: the last attempt, if none was new and feasible."""
        while len(self._proposals) <= number:
            while self._fed < len(self._proposals) - self.lag:
                self._feed(history[self._fed])
            self._proposals.append(self._new())
        return self._proposals[number]

    def _new(self) -> _Proposal:
        for _ in range(self._max_attempts - 1):
            proposal = self._asked()
            if proposal.key in self._scores:
                self._tell(proposal.trial, self._scores[proposal.key])
            elif proposal.key in self._open:
                self._tell(proposal.trial, ())
            elif self._problem.feasible(proposal.row)[0]:
                break
            else:
                self._study.tell(proposal.trial, state=_states().PRUNED)
        else:
            proposal = self._asked()
        self._open.setdefault(proposal.key, proposal)
        self._running.add(proposal.trial.number)
        return proposal

    def _asked(self) -> _Proposal:
        trial = self._study.ask()
        row = np.array([self._suggesting.row(trial)], np.int32)
        return _Proposal(trial, row, self._problem.space.keys(row)[0])

    def _feed(self, result: _Result) -> None:
        turn = self._proposals[self._fed]
        own = self._open.pop(result.key, None)
        if own is not None:
            self._tell(own.trial, result.scores)
        else:
            self._add(result, turn)
        if turn.trial.number in self._running:  # another architecture was evaluated in its place
            self._tell(turn.trial, ())
            if self._open.get(turn.key) is turn:
                del self._open[turn.key]
        self._scores[result.key] = result.scores
        self._fed += 1

    def _add(self, result: _Result, turn: _Proposal) -> None:
        """Tells of a trial that the sampler did not propose."""
        from optuna.trial import create_trial

        # Samplers keep notes with their trials, such as the generation, and pass over trials that
        # have none: so a stranger gets the notes of the proposal whose turn it took.
        notes = self._study.get_trials(deepcopy=False)[turn.trial.number].system_attrs
        params, distributions = self._suggesting.parameters(result.row.tolist())
        fine = _are_finite(result.scores)
        self._study.add_trial(
            create_trial(
                state=_states().COMPLETE if fine else _states().FAIL,
                values=list(result.scores) if fine else None,
                params=params,
                distributions=distributions,
                system_attrs=dict(notes),
            )
        )

    def _tell(self, trial: Any, scores: tuple[float, ...]) -> None:
        """Tells scores; none, or not finite ones, are a failure."""
        self._running.discard(trial.number)
        if scores and _are_finite(scores):
            self._study.tell(trial, list(scores))
        else:
            self._study.tell(trial, state=_states().FAIL)


def _are_finite(scores: tuple[float, ...]) -> bool:
    return all(math.isfinite(score) for score in scores)


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState


def _study(sampler: Any, objectives: int) -> Any:
    """A study in memory, made without a word."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(),
            sampler=sampler,
            pruner=optuna.pruners.NopPruner(),
            directions=["maximize"] * max(1, objectives),
        )
    finally:
        optuna.logging.set_verbosity(verbosity)
    # Samplers that have gone through all they have may stop a study; a search ends by itself.
    study.stop = lambda: None  # type: ignore[method-assign]
    return study
