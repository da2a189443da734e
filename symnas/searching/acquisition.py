"""How much is to be expected of evaluating an architecture, by what a model says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr, logsumexp, ndtr

Floats = NDArray[np.float64]

# Of the quadrature over what a result may exceed the best by.
POINTS = 32

_LOG_2PI = float(np.log(2 * np.pi))


def log_expected_improvement(mean: Any, deviation: Any, best: Any) -> Floats:
    """The logarithm of the expected amount by which a normal result exceeds `best`, `(n,)`.

    Exact where the improvement itself would be 0 to all digits; arrays are broadcast. (Mockus 1975;
    Ament et al. 2023, "Unexpected Improvements to Expected Improvement", equation 9.)

    >>> log_expected_improvement(0.0, 1.0, [0.0, 50.0]).round(2).tolist()
    [-0.92, -1258.74]
    """
    mean, deviation, best = (np.asarray(a, np.float64) for a in (mean, deviation, best))
    z = (mean - best) / deviation
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        near = np.log(z * ndtr(z) + np.exp(-0.5 * (z * z + _LOG_2PI)))
        tail = 1 + z * np.sqrt(np.pi / 2) * erfcx(-z / np.sqrt(2))
        # Far out two terms cancel; what is left is 1 / (z^2 + 3).
        tail = np.where(z < -50, -np.log(z * z + 3), np.log(np.maximum(tail, 1e-300)))
        far = -0.5 * (z * z + _LOG_2PI) + tail
    return np.asarray(np.where(z > -1, near, far) + np.log(deviation))


def log_expected_scalarization(
    means: Floats,
    deviations: Floats,
    weights: Floats,
    best: float,
    top: float,
    scores: Sequence[Callable[[Floats], Floats]],
) -> Floats:
    """The logarithm of the expected growth of hypervolume in one direction, `(n,)`.

    In the direction of `weights`, values `v` of several objectives reach as far as the smallest
    `t = v_i / weights_i`; the mean of `t^objectives` over all directions is proportional to the
    hypervolume above 0. So proposals for random directions make it grow, and the extremes of an
    objective get no more than their share of them. (Zhang and Golovin 2020, "Random Hypervolume
    Scalarizations for Provable Multi-Objective Black Box Optimization", arXiv 2006.04655, Lemma 5.)
    Objectives are taken to be independent: `t` is exceeded by the product of their probabilities,
    which is integrated by quadrature. `O(n * objectives)`.

    Args:
        means, deviations: of normal scores, `(n, objectives)`.
        weights: `(objectives,)`, of Euclidean length 1.
        best: the largest `t` so far.
        top: a `t` beyond which nothing is expected.
        scores: for each objective, the scores of its values, `(k,)` to `(k,)`; increasing.

    >>> means, deviations = np.array([[2.0, 3.0], [2.0, 0.5]]), np.full((2, 2), 0.1)
    >>> same = [lambda values: values] * 2
    >>> found = log_expected_scalarization(means, deviations, np.sqrt([0.5, 0.5]), 1.0, 9.0, same)
    >>> np.exp(found).round(1)  # about 2^2 / 0.5 - 1; the other is worse than what is known
    array([7., 0.])
    """
    objectives = means.shape[1]
    points, shares = np.polynomial.legendre.leggauss(POINTS)
    t = best + (top - best) * (points + 1) / 2
    total = np.log(shares * (top - best) / 2 * objectives * t ** (objectives - 1))[:, None]
    for i, score in enumerate(scores):
        total = total + log_ndtr((means[:, i] - score(weights[i] * t)[:, None]) / deviations[:, i])
    return np.asarray(logsumexp(total, axis=0), np.float64)
