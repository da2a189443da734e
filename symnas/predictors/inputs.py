"""What predictors may be told of an architecture besides its structure.

Signals are numbers that are known, or cheap to measure, before an architecture is trained: costs,
scores of an untrained network, or the first points of a learning curve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from symnas.costs.model import CostModel

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.searchspace.space import Space

# A cost model, or a function of an architecture that gives a number or several.
Signal: TypeAlias = "CostModel | Callable[[Architecture], float | Sequence[float]]"


def as_signals(given: Any) -> tuple[Signal, ...]:
    """One signal, or several, as a tuple.

    Raises:
        TypeError: something else is given.
    """
    signals = tuple(given) if isinstance(given, Iterable) else (given,)
    for signal in signals:
        if not isinstance(signal, CostModel) and not callable(signal):
            raise TypeError(
                f"`inputs` has {signal!r}; each must be a cost model, or a function that gives a "
                "number, or several, for an architecture."
            )
    return signals


class Inputs:
    """Signals of rows, scaled to mean 0 and deviation 1 among those that a predictor is fitted to.

    A cost model is asked for all rows at once, and a function for one after another: as dear as it
    is, times the rows.

    Args:
        signals: cost models and functions.
        space: of the rows.
        rows: that a predictor is fitted to, `(n, columns)`.
    """

    def __init__(self, signals: Sequence[Signal], space: Space, rows: NDArray[np.int32]) -> None:
        self._space = space
        self._signals = [s.bind(space) if isinstance(s, CostModel) else s for s in signals]
        self._costs = [isinstance(s, CostModel) for s in signals]
        self._mean, self._scale = np.zeros(0), np.ones(0)
        if self._signals:
            known = self._raw(rows)
            deviation = known.std(axis=0)
            self._mean, self._scale = known.mean(axis=0), np.where(deviation > 0, deviation, 1.0)

    def __call__(self, rows: NDArray[np.int32]) -> NDArray[np.float64]:
        """`(n, signals)`; without columns where there are no signals."""
        if not self._signals:
            return np.zeros((len(rows), 0))
        return (self._raw(rows) - self._mean) / self._scale

    def _raw(self, rows: NDArray[np.int32]) -> NDArray[np.float64]:
        parts = []
        decoded: list[Any] | None = None
        for signal, is_cost in zip(self._signals, self._costs, strict=True):
            if is_cost:
                values = np.asarray(signal(rows), np.float64).reshape(len(rows), 1)  # type: ignore[arg-type]
            else:
                if decoded is None:
                    decoded = [self._space.decode(row) for row in rows]
                values = np.array([np.ravel(signal(a)) for a in decoded], np.float64)
            if not np.isfinite(values).all():
                raise ValueError(f"`inputs`: {signal!r} gave a value that is not finite.")
            parts.append(values)
        return np.concatenate(parts, axis=1)
