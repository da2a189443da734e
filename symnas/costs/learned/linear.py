"""Fitting costs to samples: ridge regression, regressors of others, and folds of samples.

All fit the relative error, which is what people ask of a latency: each sample is weighted by the
inverse square of its cost, and no prediction is below nine tenths of the smallest sample.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Predict = Callable[[Floats], Floats]

# Strengths of the ridge penalty that cross-validation chooses from, relative to the samples' own.
PENALTIES = np.logspace(-6, 2, 17)
FOLDS = 5
# No prediction is below this share of the smallest sample.
LEAST = 0.9


@attrs.frozen(eq=False)
class Linear:
    """`weights @ features + bias`, fitted by ridge regression to relative errors.

    The penalty is chosen by leave-one-out cross-validation, in closed form (A. Hoerl and
    R. Kennard, "Ridge regression", Technometrics 1970; G. Golub et al., "Generalized
    cross-validation", Technometrics 1979, Section 2).

    Attributes:
        weights: `(features,)`.
        bias: added to each prediction.
    """

    weights: Floats
    bias: float

    def __call__(self, features: Floats) -> Floats:
        return features @ self.weights + self.bias

    @classmethod
    def fitted(cls, features: Floats, costs: Floats) -> Linear:
        """Fits `features` `(n, m)` to positive `costs` `(n,)`; cubic in the smaller of n and m."""
        share = 1.0 / costs
        center = np.average(features, axis=0, weights=share**2)
        spread = features.std(axis=0)
        spread[spread < 1e-9] = np.inf  # what never varies tells nothing
        # Each equation is divided by its cost: squares are then those of relative errors.
        design = (
            np.hstack([(features - center) / spread, np.ones((len(costs), 1))]) * share[:, None]
        )
        target = np.ones(len(costs))
        base, rest = design[:, -1:], design[:, :-1]
        # The bias is not penalised: everything is taken orthogonal to it.
        project = base / (base**2).sum()
        rest_free = rest - base @ (project.T @ rest)
        target_free = target - base[:, 0] * (project[:, 0] @ target)
        left, values, right = np.linalg.svd(rest_free, full_matrices=False)
        scale = float(values[0] ** 2) if len(values) and values[0] > 0 else 1.0
        coordinates = left.T @ target_free
        best, chosen = np.inf, PENALTIES[-1] * scale
        leverage_of_bias = base[:, 0] ** 2 / (base**2).sum()
        for penalty in PENALTIES * scale:
            shrink = values**2 / (values**2 + penalty)
            residual = target_free - left @ (shrink * coordinates)
            leverage = (left**2) @ shrink + leverage_of_bias
            error = float(np.abs(residual / np.maximum(1e-9, 1 - leverage)).mean())
            if error < best:
                best, chosen = error, penalty
        solution = right.T @ (values / (values**2 + chosen) * coordinates)
        bias = float(project[:, 0] @ (target - rest @ solution))
        weights = solution / spread
        return cls(weights, bias - float(weights @ center))


def foreign(regressor: Any, features: Floats, costs: Floats) -> Predict:
    """Fits a copy of a regressor with `fit` and `predict`, such as scikit-learn's, to log costs."""
    model = copy.deepcopy(regressor)
    model.fit(features, np.log(costs))

    def predict(rows: Floats) -> Floats:
        return np.exp(np.asarray(model.predict(rows), np.float64))

    return predict


def folds(n: int, seed: int) -> list[NDArray[np.intp]]:
    """The samples that each fold of cross-validation holds out."""
    order = np.random.default_rng(seed).permutation(n)
    return [part for part in np.array_split(order, min(FOLDS, n)) if len(part)]
