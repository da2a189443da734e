"""Results as normal scores: only their order counts, and few bad ones do no harm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from scipy.stats import norm, rankdata

Floats = NDArray[np.float64]


class Ranks:
    """What turns results into the normal scores of their ranks, and scores back into results.

    Accuracies have a long tail of networks that do not learn. A Gaussian process that has to
    explain it says little about the best. (Such scores are used for this in Salinas, Shen and
    Perrone 2020, "A Quantile-Based Approach for Hyperparameter Transfer Learning", Section 3.1.)

    Args:
        values: known results, `(n,)`.

    Attributes:
        scores: of the known results, `(n,)`; equal results have equal scores.

    >>> ranks = Ranks(np.array([3.0, 90.0, 91.0]))
    >>> ranks.scores.round(2)
    array([-0.97,  0.  ,  0.97])
    >>> ranks.result(np.array([0.0, 0.97])).round(1)
    array([90., 91.])
    """

    def __init__(self, values: Floats) -> None:
        self.scores = np.asarray(norm.ppf((rankdata(values) - 0.5) / len(values)), np.float64)
        self._values, at = np.unique(values, return_index=True)
        self._known = self.scores[at]

    def result(self, scores: Floats) -> Floats:
        """The results that have these scores: between known ones by lines, which go on beyond."""
        if len(self._known) == 1:
            return np.full(len(scores), self._values[0])
        return np.asarray(make_interp_spline(self._known, self._values, k=1)(scores), np.float64)
