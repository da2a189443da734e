"""A linear fit to the mean relative error itself, which a few bad samples do not move.

Times waver by more than noise: a clock that is throttled for a while makes a share of all samples a
third slower, whatever the network. Least squares go between the two; what most samples say is found
by the sum of absolute values, here by reweighted least squares (E. Schlossmacher, "An iterative
technique for absolute deviations curve fitting", JASA 1973).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from symnas.costs.learned.linear import Linear, folds

Floats = NDArray[np.float64]

# Strengths of the ridge penalty to choose from, strongest first.
PENALTIES = (10.0, 1.0, 0.1)
# How strong it is on what holds for several decisions together, for one, and for pairs of them.
SHARED, OWN, PAIR = 3e-4, 1.0, 3.0
# Relative errors below this count as squares; rounds of reweighting at first, and when continued.
SMALL = 0.01
ROUNDS, MORE = 10, 5


def fitted(features: Floats, costs: Floats, levels: Floats, seed: int = 0) -> Linear:
    """`weights @ features + bias` with the least mean relative error, as far as penalties let it.

    Args:
        features: `(n, m)`.
        costs: `(n,)`, positive.
        levels: `(m,)`, how strongly each weight is penalised, relative to others.
        seed: of the folds by which the strength of the penalties is chosen.

    >>> import numpy as np
    >>> x = np.arange(12.0)[:, None]
    >>> costs = 3 + 2 * x[:, 0]
    >>> costs[5] *= 2
    >>> linear = fitted(x, costs, np.array([SHARED]))
    >>> bool(abs(linear(x[:3]) - [3, 5, 7]).max() < 0.1)
    True
    """
    return crossed(features, costs, levels, seed)[0]


def crossed(
    features: Floats, costs: Floats, levels: Floats, seed: int = 0
) -> tuple[Linear, Floats]:
    """As `fitted`, with the cross-validated predictions `(n,)`.

    Those have seen their own samples only in the choice among three strengths of the penalty.
    """
    design = _Design(features, levels)
    predicted = np.empty((len(PENALTIES), len(costs)))
    for held in folds(len(costs), seed):
        kept = np.setdiff1d(np.arange(len(costs)), held)
        for i, solution in enumerate(design.solutions(kept, costs, PENALTIES)):
            predicted[i, held] = design.x[held] @ solution
    best = int(np.abs(predicted / costs - 1).mean(axis=1).argmin())
    solutions = design.solutions(np.arange(len(costs)), costs, PENALTIES[: best + 1])
    return design.linear(solutions[-1]), predicted[best]


class _Design:
    """Features without those that never vary or say the same as another, scaled to at most 1."""

    def __init__(self, features: Floats, levels: Floats) -> None:
        n, self.m = features.shape
        scale = np.abs(features).max(axis=0, initial=0.0)
        varies = np.flatnonzero(features.std(axis=0) > 1e-9)
        # Of two that are equal the one stays that is penalised less.
        order = varies[np.argsort(levels[varies], kind="stable")]
        scaled = (features[:, order] / scale[order]).T.round(9)
        _, first = np.unique(scaled, axis=0, return_index=True)
        self.kept = order[np.sort(first)]
        self.scale = scale[self.kept]
        self.x = np.hstack([features[:, self.kept] / self.scale, np.ones((n, 1))])
        self.levels = np.append(levels[self.kept], 0.0)

    def solutions(
        self, rows: NDArray[np.intp], costs: Floats, penalties: Sequence[float]
    ) -> list[Floats]:
        """The weights and the bias for each penalty; each continues from the one before."""
        scale = float(np.median(costs[rows]))
        x, y = self.x[rows], costs[rows] / scale
        weights = 1 / y**2
        solutions: list[Floats] = []
        for penalty in penalties:
            for _ in range(MORE if solutions else ROUNDS):
                # In proportion to a typical sample's weight: a few tiny costs have enormous ones.
                added = np.median(weights) * (penalty * self.levels + 1e-7)
                solution = _ridge(x, y, weights, added)
                error = np.abs(x @ solution / y - 1)
                weights = 1 / (y**2 * np.maximum(error / SMALL, 1.0))
            solutions.append(solution * scale)
        return solutions

    def linear(self, solution: Floats) -> Linear:
        weights = np.zeros(self.m)
        weights[self.kept] = solution[:-1] / self.scale
        return Linear(weights, float(solution[-1]))


def _ridge(x: Floats, y: Floats, weights: Floats, penalties: Floats) -> Floats:
    """The least squares with a weight for each row and a penalty for each column."""
    n, m = x.shape
    if m <= n:
        weighted = x.T * weights
        gram = weighted @ x
        gram[np.diag_indices(m)] += penalties
        return np.asarray(np.linalg.solve(gram, weighted @ y))
    spread = x / penalties
    gram = spread @ x.T
    gram[np.diag_indices(n)] += 1 / weights
    return np.asarray(spread.T @ np.linalg.solve(gram, y))
