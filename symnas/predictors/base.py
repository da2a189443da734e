"""The contract of predictors: what is fitted to known results, and then asked of other rows."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]


class Predictor(abc.ABC):
    """A way to predict results of architectures: a frozen value with its settings."""

    @abc.abstractmethod
    def fit(self, space: Space, rows: Any, values: Any, seed: int = 0) -> Fitted:
        """What is learned from known results.

        Args:
            space: of the rows.
            rows: `(n, columns)`, distinct or not.
            values: their results, `(n,)`, all finite.
            seed: of whatever is random; the same seed fits the same.

        Raises:
            ValueError: there are no rows, or the values are not one finite number for each.
        """


class Fitted(abc.ABC):
    """What a predictor has learned."""

    @abc.abstractmethod
    def predict(self, rows: Any) -> Floats:
        """The expected results of `rows`, `(n,)`."""

    def uncertain(self, rows: Any) -> tuple[Floats, Floats]:
        """The expected results and their standard deviations, `(n,)` each.

        Raises:
            NotImplementedError: predictors of this kind do not say how sure they are.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say how sure it is. Take sn.predictors.GaussianProcess() "
            "or an ensemble, such as a random forest."
        )


@attrs.frozen(eq=False)
class Held:
    """Predictions of results that the predictor was not fitted to.

    Attributes:
        predicted, truth: `(n,)` each.
    """

    predicted: Floats
    truth: Floats

    @property
    def tau(self) -> float:
        """Kendall's rank correlation."""
        from scipy.stats import kendalltau

        return float(kendalltau(self.predicted, self.truth).statistic)

    @property
    def rho(self) -> float:
        """Spearman's rank correlation."""
        from scipy.stats import spearmanr

        return float(spearmanr(self.predicted, self.truth).statistic)

    @property
    def rmse(self) -> float:
        """The root of the mean squared error, in the unit of the results."""
        return float(np.sqrt(np.mean((self.predicted - self.truth) ** 2)))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Predictions over results, with the line of those that are right."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")[1]
        ax.scatter(self.truth, self.predicted, s=14, alpha=0.6, linewidths=0)
        ends = [float(self.truth.min()), float(self.truth.max())]
        ax.plot(ends, ends, color="0.5", linewidth=1)
        ax.set(xlabel="result", ylabel="predicted", title=f"Kendall's τ {self.tau:.2f}")
        return ax


def held_out(
    predictor: Predictor, space: Space, rows: Any, values: Any, folds: int = 5, seed: int = 0
) -> Held:
    """Predictions of each result by the predictor as it was fitted to the other folds.

    Args:
        predictor: what is tested.
        space: of the rows.
        rows: `(n, columns)`.
        values: their results, `(n,)`.
        folds: parts that are held out in turn; `n` leaves out one after another.
        seed: of the parts, and of the predictor.

    Raises:
        ValueError: there are fewer than two folds, or fewer rows than folds.

    >>> import symnas as sn
    >>> space = sn.Space([sn.oneof([1, 2, 3, 4, 5]), sn.oneof([1, 2, 3, 4, 5])])
    >>> rows = space.sample(60, 1)
    >>> held = held_out(sn.predictors.GaussianProcess(), space, rows, rows.sum(axis=1))
    >>> held.tau > 0.7
    True
    """
    rows, values = checked(space, rows, values)
    if not 2 <= folds <= len(rows):
        raise ValueError(f"`folds` ({folds}) must be from 2 to the number of rows ({len(rows)}).")
    order = np.random.default_rng(seed).permutation(len(rows))
    predicted = np.empty(len(rows))
    for part in np.array_split(order, folds):
        others = np.setdiff1d(order, part)
        predicted[part] = predictor.fit(space, rows[others], values[others], seed).predict(
            rows[part]
        )
    return Held(predicted, values)


def checked(space: Space, rows: Any, values: Any) -> tuple[Rows, Floats]:
    """Rows and values as arrays that fit one another.

    Raises:
        ValueError: they do not.
    """
    rows = np.ascontiguousarray(rows, np.int32)
    values = np.asarray(values, np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(space) or not len(rows):
        raise ValueError(
            f"`rows` of shape {rows.shape} must be (n, {len(space)}), one row an architecture."
        )
    if values.shape != (len(rows),) or not np.isfinite(values).all():
        raise ValueError(
            f"`values` must be one finite number for each of {len(rows)} rows; its shape is "
            f"{values.shape}, and {int((~np.isfinite(values)).sum())} are not finite."
        )
    return rows, values
