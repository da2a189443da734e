"""`Accuracy`: how far predicted costs are from true ones, on architectures not used before."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

# Two numbers that differ by less than this, relative to the larger, are the same: sums of floats.
SAME = 1e-6


def _array(values: Any) -> NDArray[np.float64]:
    return np.atleast_1d(np.asarray(values, np.float64))


@attrs.frozen(eq=False)
class Accuracy:
    """Predictions against the truth, on held-out architectures.

    Attributes:
        predicted: `(n,)`.
        measured: `(n,)`, the truth.
        exact_kind: whether the prediction follows from shapes, so that any difference is a mistake
            rather than noise.

    >>> print(Accuracy([1.0, 2.0, 4.0], [1.0, 2.2, 4.0]))
    mean relative error 3.0% (largest 9.1%), rank correlation 1.00, on 3 held-out architectures
    >>> print(Accuracy([1.0, 2.0], [1.0, 2.0], exact_kind=True))
    0 wrong of 2 held-out architectures
    """

    predicted: NDArray[np.float64] = attrs.field(converter=_array)
    measured: NDArray[np.float64] = attrs.field(converter=_array)
    exact_kind: bool = False

    def __attrs_post_init__(self) -> None:
        if self.predicted.shape != self.measured.shape or self.predicted.ndim != 1:
            raise ValueError(
                f"`predicted` {self.predicted.shape} and `measured` {self.measured.shape} must be "
                "(n,), one number an architecture."
            )

    @property
    def n(self) -> int:
        """How many architectures were held out."""
        return len(self.predicted)

    @property
    def relative(self) -> NDArray[np.float64]:
        """The relative error of each prediction: `|predicted - measured| / |measured|`, `(n,)`."""
        scale = np.where(self.measured == 0, 1.0, np.abs(self.measured))
        relative: NDArray[np.float64] = np.abs(self.predicted - self.measured) / scale
        return relative

    @property
    def wrong(self) -> int:
        """How many predictions differ from the truth at all."""
        return int((self.relative > SAME).sum())

    @property
    def mean_relative(self) -> float:
        """The mean relative error; NaN if nothing was held out."""
        return float(self.relative.mean()) if self.n else math.nan

    @property
    def largest_relative(self) -> float:
        """The largest relative error; NaN if nothing was held out."""
        return float(self.relative.max()) if self.n else math.nan

    @property
    def rank(self) -> float:
        """Spearman's rank correlation; NaN where one side is constant."""
        a, b = _ranks(self.predicted), _ranks(self.measured)
        if self.n < 2 or not a.std() or not b.std():
            return math.nan
        return float(np.corrcoef(a, b)[0, 1])

    def quantile(self, q: float) -> float:
        """A factor `f` with `truth <= f * prediction` for a share `q` of architectures.

        From the held-out ratios with the correction of split conformal prediction for their finite
        number (J. Lei et al., "Distribution-free predictive inference for regression", JASA 2018,
        Section 2.2); the largest ratio where there are too few for `q`.

        Raises:
            ValueError: `q` is not between 0 and 1, or nothing was held out.

        >>> Accuracy([1.0] * 99, [1.0] * 90 + [1.2] * 9).quantile(0.95)
        1.2
        """
        if not 0 < q < 1:
            raise ValueError(f"`q` ({q}) must be between 0 and 1, such as 0.95.")
        if not self.n or (self.predicted <= 0).any():
            raise ValueError(
                "A safety factor needs held-out architectures with positive predictions; there are "
                f"{self.n}."
            )
        if self.exact_kind and not self.wrong:
            return 1.0
        ratios = np.sort(self.measured / self.predicted)
        return float(ratios[min(self.n, math.ceil((self.n + 1) * q)) - 1])

    def __str__(self) -> str:
        if self.n == 0:
            return "nothing held out"
        where = f"{self.n} held-out architectures"
        if self.exact_kind:
            return f"{self.wrong} wrong of {where}"
        return (
            f"mean relative error {self.mean_relative:.1%} (largest {self.largest_relative:.1%}), "
            f"rank correlation {self.rank:.2f}, on {where}"
        )


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2.0)[inverse]
    return ranks
