"""`sn.sample`: architectures one by one, for people who write their own loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from symnas.errors import SymnasError
from symnas.searching.algorithm import Algorithm
from symnas.searching.setting import Setting
from symnas.searchspace.space import Space

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture


class Feedback:
    """Takes the result of one sampled architecture: called with it, or told to `skip`.

    `budget` is what to evaluate the architecture at, None but for algorithms of several fidelities.
    """

    def __init__(
        self, setting: Setting, costs: Mapping[str, float], budget: float | None = None
    ) -> None:
        self._setting = setting
        self._costs = costs
        self.budget = budget
        self.scores: list[float] | None = None

    def __call__(self, result: float | Mapping[str, float]) -> None:
        """Gives the result.

        Args:
            result: the value of the one objective, or a dict with all of them by name; in the
                objectives' own directions. NaN is a failure.

        Raises:
            ValueError: an objective is missing, or this architecture has had its feedback.
        """
        names = self._setting.metrics
        if not isinstance(result, Mapping):
            if len(names) != 1:
                raise ValueError(
                    f"feedback({result!r}): give a dict with {', '.join(names) or 'no metric'}."
                )
            result = {names[0]: result}
        missing = [name for name in names if name not in result]
        if missing:
            raise ValueError(
                f"feedback({dict(result)!r}): the objective {missing[0]!r} is missing."
            )
        values = {name: float(result[name]) for name in names}
        if all(math.isfinite(value) for value in values.values()):
            self._give(self._setting.judge(values, self._costs)[0])
        else:
            self.skip("not finite")

    def skip(self, reason: str = "") -> None:
        """Says that there is no result: the algorithm takes the architecture for a failure."""
        self._give(self._setting.failure)

    def _give(self, scores: list[float]) -> None:
        if self.scores is not None:
            raise ValueError("This architecture has had its feedback; each takes it once.")
        self.scores = scores


def sample(
    space: Space,
    algorithm: Algorithm,
    *,
    trials: int | None = None,
    maximize: Any = None,
    minimize: Any = None,
    subject_to: Any = (),
    reward: Any = None,
    initial: Sequence[Any] = (),
    seed: int = 0,
) -> Iterator[tuple[Architecture, Feedback]]:
    """Yields architectures, each with a function that takes its result.

    Nothing is recorded and nothing is left over after a `break`. Calls nest as loops do.

    Args:
        space: what is searched.
        algorithm: what proposes architectures.
        trials: how many; by default until the space is exhausted.
        maximize, minimize: as for `sn.search`; by default the feedback is a score to maximize.
        subject_to: constraints.
        reward: as for `sn.search`.
        initial: architectures, programs or rows to yield first.
        seed: everything random follows from it.

    Raises:
        TypeError, ValueError: an argument is not what it must be (at the call).
        Infeasible: no architecture meets the constraints (at the call).
        SymnasError: an architecture was given no feedback (when the next one is asked for).

    >>> import symnas as sn
    >>> from symnas import algorithms as alg
    >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16, 32])))
    >>> widths = []
    >>> for architecture, feedback in sn.sample(space, alg.RandomSearch(), trials=3):
    ...     widths.append(architecture.build().out_features)
    ...     feedback(widths[-1])
    >>> sorted(widths)
    [8, 16, 32]
    """
    if trials is not None and (not isinstance(trials, int) or trials < 1):
        raise ValueError(f"`trials` ({trials!r}) must be an integer of at least 1.")
    if maximize is None and minimize is None:
        maximize = "score"
    setting = Setting.of(
        space, algorithm, maximize=maximize, minimize=minimize, subject_to=subject_to,
        reward=reward, initial=initial, seed=seed,
    )  # fmt: skip
    return _sampled(setting, trials)


def _sampled(setting: Setting, trials: int | None) -> Iterator[tuple[Architecture, Feedback]]:
    problem = setting.problem()
    run = setting.algorithm.start(problem)
    for number in itertools.count():
        if trials is not None and number >= trials:
            return
        if number < len(setting.initial):
            rows = problem.propose(setting.initial[number : number + 1])
        else:
            rows = run.ask(1)
        if not len(rows):
            return
        budget = next(reversed(problem.budgets_of(rows[0])), None)
        feedback = Feedback(setting, setting.costs_of(rows), budget)
        yield setting.space.decode(rows[0]), feedback
        if feedback.scores is None:
            raise SymnasError(
                "The architecture was given no feedback, and the next one may depend on it. Call "
                "feedback(score) in each round, or feedback.skip(reason) where there is no score."
            )
        run.tell(rows, np.array([feedback.scores]))
