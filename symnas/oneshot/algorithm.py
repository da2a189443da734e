"""The contract of a one-shot algorithm: a run that trains a supernet, then proposes."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import at_least, one_of

if TYPE_CHECKING:
    from symnas.oneshot.workshop import Workshop
    from symnas.searching.problem import Problem

Rows = NDArray[np.int32]


@attrs.frozen(kw_only=True)
class OneShot(Algorithm):
    """A search algorithm that trains a supernet, and then proposes networks from it, best first.

    A subclass is a frozen attrs class with one method, `start`, which returns an `OneShotRun`. The
    trials of a search are networks that it proposes: each is trained alone by the task, the first
    of them is the result. With `retrain=False` they are measured with the shared weights instead.

    Args:
        epochs: passes over the training data.
        sharing: of weights, see `sn.Supernet`.
        retrain: whether proposed networks are trained alone.
    """

    epochs: int = attrs.field(default=20, validator=at_least(1))
    sharing: str = attrs.field(default="entangled", validator=one_of(("entangled", "separate")))
    retrain: bool = True

    @abc.abstractmethod
    def start(self, problem: Problem) -> OneShotRun:
        """A run on a problem, from its beginning."""


class OneShotRun(Run):
    """One run of a one-shot algorithm on one problem.

    It is first given a `Workshop`: the task's data and optimizer, and the supernet. Then it is
    asked for one epoch after the other, and at last for networks. All that an epoch needs from
    earlier ones is in `state`: what is random in an epoch comes from the seed and its number.

    Args:
        algorithm: the value with the hyper-parameters.
        problem: what is solved.
    """

    def __init__(self, algorithm: OneShot, problem: Problem) -> None:
        self.algorithm, self.problem = algorithm, problem
        self._train: Callable[[], Any] | None = None
        self._derive: Callable[[int], Rows] = self.derive
        self._close: Callable[[bool], Any] | None = None
        self._ranked: Rows | None = None

    @abc.abstractmethod
    def begin(self, workshop: Workshop) -> None:
        """Prepares the training: optimizers, policies. `workshop.net` has its initial weights."""

    @abc.abstractmethod
    def epoch(self, number: int) -> dict[str, float]:
        """Trains for one epoch; returns what is to be shown and recorded of it."""

    @abc.abstractmethod
    def derive(self, n: int) -> Rows:
        """Up to `n` different feasible networks, the best first: `(n, columns)`."""

    def state(self) -> dict[str, Any]:
        """What later epochs and `derive` need besides the supernet: tensors, numbers, dicts."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Takes up what `state` gave, after `begin`."""

    def notes(self) -> dict[str, float]:
        """What is to be recorded of the result, such as its relaxed cost."""
        return {}

    def train_with(
        self,
        train: Callable[[], Any],
        derive: Callable[[int], Rows] | None = None,
        close: Callable[[bool], Any] | None = None,
    ) -> None:
        """Says how the supernet is trained, which is done when networks are first asked for.

        Args:
            train: does it.
            derive: calls `derive`, with whatever may help it; default: only the first.
            close: ends what is left of it, see `close`.
        """
        self._train, self._derive, self._close = train, derive or self.derive, close

    def close(self, *, kill: bool = False) -> None:
        """Says that nothing more is asked for; with `kill`, after an error."""
        if self._close is not None:
            self._close(kill)

    def train(self) -> None:
        """Trains the supernet, if that was not done yet."""
        if self._train is not None:
            self._train()
            self._train = None

    def ask(self, n: int) -> Rows:
        """The next networks; trains the supernet before the first."""
        self.train()
        fresh = self._fresh()
        if len(fresh) < n:
            # Some of what is derived may have been proposed by an earlier run.
            self._ranked = self._derive(2 * (self.problem.count + n))
            fresh = self._fresh()
        return self.problem.propose(fresh[:n])

    def _fresh(self) -> Rows:
        if self._ranked is None:
            return np.empty((0, len(self.problem.space)), np.int32)
        return self._ranked[self.problem.fresh(self._ranked)]

    def tell(self, rows: Rows, scores: NDArray[np.float64]) -> None:
        """Results of networks that were trained alone change nothing any more."""
