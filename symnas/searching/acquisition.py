"""How much is to be expected of evaluating an architecture, by what a model says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr, ndtri
from scipy.stats import qmc

Floats = NDArray[np.float64]

_LOG_2PI = float(np.log(2 * np.pi))


def expected_improvement(mean: Any, deviation: Any, best: Any) -> Floats:
    """The expected amount by which a normal result exceeds `best`; arrays are broadcast.

    Mockus 1975; Jones, Schonlau and Welch 1998, "Efficient Global Optimization", equation 15.

    >>> expected_improvement(0.0, 1.0, [0.0, 1.0]).round(4)
    array([0.3989, 0.0833])
    """
    mean, deviation, best = (np.asarray(a, np.float64) for a in (mean, deviation, best))
    z = (mean - best) / deviation
    return np.asarray(deviation * (z * ndtr(z) + np.exp(-0.5 * (z * z + _LOG_2PI))))


def log_expected_improvement(mean: Any, deviation: Any, best: Any) -> Floats:
    """Its logarithm, exact where the improvement itself would be 0 to all digits.

    Ament et al. 2023, "Unexpected Improvements to Expected Improvement", equation 9.

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


def expected_hypervolume(
    means: Floats, deviations: Floats, front: Floats, reference: Floats
) -> Floats:
    """The expected growth of the hypervolume of two objectives, exactly: `(n,)`.

    Both are independent and normal, larger is better. The growth is a sum over the strips between
    the points of the front, of a part of one objective times a part of the other. (In the form of
    Yang et al. 2019, "Multi-Objective Bayesian Global Optimization using expected hypervolume
    improvement gradient", Section 4; `O(n * front)`.)

    Args:
        means, deviations: `(n, 2)`.
        front: results so far, `(m, 2)`; dominated ones may be among them.
        reference: the point that all results shall exceed, `(2,)`.

    >>> expected_hypervolume(np.array([[2.0, 2.0]]), np.full((1, 2), 1e-9), np.array([[1.0, 1.0]]),
    ...                      np.zeros(2)).round(6)
    array([3.])
    """
    front = np.maximum(np.asarray(front, np.float64).reshape(-1, 2), reference)
    front = front[np.lexsort((front[:, 1], front[:, 0]))]
    # From the right, the second objective only grows: what does not exceed it is dominated.
    highest = np.maximum.accumulate(front[::-1, 1])[::-1]
    kept = front[:, 1] > np.append(highest[1:], -np.inf)
    front = front[kept]
    left = np.concatenate([[reference[0]], front[:, 0]])
    floor = np.concatenate([front[:, 1], [reference[1]]])
    beyond = expected_improvement(means[:, :1], deviations[:, :1], left)  # (n, strips)
    width = beyond - np.concatenate([beyond[:, 1:], np.zeros((len(means), 1))], axis=1)
    height = expected_improvement(means[:, 1:], deviations[:, 1:], floor)
    return np.asarray((width * height).sum(axis=1))


def expected_chebyshev(
    means: Floats, deviations: Floats, known: Floats, weights: Floats, draws: int = 64
) -> Floats:
    """The expected improvement of a weighted Chebyshev distance from the best of everything: `(n,)`.

    For any number of objectives, independent and normal; estimated by quasi-random draws. With other
    weights each time, all of a Pareto front is approached (Knowles 2006, "ParEGO", equation 2,
    without its augmenting sum).

    Args:
        means, deviations: `(n, objectives)`.
        known: results so far, `(m, objectives)`.
        weights: `(objectives,)`, with a sum of 1.
        draws: a power of two.
    """
    ideal = known.max(axis=0)
    best = (-(weights * (ideal - known)).max(axis=1)).max()
    uniform = qmc.Sobol(means.shape[1], seed=0).random(draws)
    total = np.zeros(len(means))
    for normal in ndtri(np.clip(uniform, 1e-9, 1 - 1e-9)):
        value = -(weights * (ideal - means - deviations * normal)).max(axis=1)
        total += np.maximum(value - best, 0)
    return total / draws
