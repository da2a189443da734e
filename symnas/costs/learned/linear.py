"""Fitting costs to pairs of an architecture and a number: regressors on rows' features.

All fit the relative error, which is what people ask of a latency: each sample is weighted by the
inverse square of its cost, and no prediction is below nine tenths of the smallest sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Predict = Callable[[Floats], Floats]

# Strengths of the ridge penalty that cross-validation chooses from, relative to the samples' own.
PENALTIES = np.logspace(-6, 2, 17)
FOLDS = 5
# Widths of the perceptron's two hidden layers, and samples in a step of its training.
HIDDEN, BATCH = (128, 32), 64
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


class Network(torch.nn.Module):
    """A small perceptron on features, added to what is linear in them: differentiable.

    Sizes are those of X. Xu et al., "Latency-Aware Differentiable Neural Architecture Search",
    arXiv:2001.06392 (112-256-64-16-1), halved; what is linear is not learned anew.
    """

    weights: torch.Tensor
    center: torch.Tensor
    spread: torch.Tensor

    def __init__(self, linear: Linear, features: Floats, costs: Floats, seed: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(linear.weights))
        self.register_buffer("center", torch.from_numpy(features.mean(axis=0)))
        spread = features.std(axis=0)
        self.register_buffer("spread", torch.from_numpy(np.where(spread < 1e-9, 1.0, spread)))
        self.bias, self.scale = linear.bias, float(np.median(costs))
        generator = torch.Generator().manual_seed(seed)
        self.first = _linear(features.shape[1], HIDDEN[0], generator)
        self.second = _linear(HIDDEN[0], HIDDEN[1], generator)
        self.last = torch.nn.Linear(HIDDEN[1], 1, dtype=torch.float64)
        torch.nn.init.zeros_(self.last.weight)
        torch.nn.init.zeros_(self.last.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Costs `(n,)` of features `(n, m)`."""
        hidden = torch.nn.functional.silu(self.first((features - self.center) / self.spread))
        hidden = torch.nn.functional.silu(self.second(hidden))
        costs: torch.Tensor = features @ self.weights + self.bias
        correction: torch.Tensor = self.last(hidden)[:, 0]
        return costs + self.scale * correction

    @classmethod
    def fitted(cls, features: Floats, costs: Floats, seed: int) -> Network:
        """Fits to the relative error; stops where samples that are held back get worse."""
        mixed = np.random.default_rng(seed).permutation(len(costs))
        held = mixed[: max(1, len(mixed) // 8)]
        kept = mixed[len(held) :]
        network = cls(Linear.fitted(features[kept], costs[kept]), features[kept], costs[kept], seed)
        x, y = torch.from_numpy(features), torch.from_numpy(costs)
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
        best, state, stale = np.inf, {}, 0
        generator = torch.Generator().manual_seed(seed)
        for _ in range(300):
            order = torch.randperm(len(kept), generator=generator)
            for start in range(0, len(kept), BATCH):
                index = torch.from_numpy(kept)[order[start : start + BATCH]]
                loss = ((network(x[index]) - y[index]) / y[index]).abs().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                error = float(((network(x[held]) - y[held]) / y[held]).abs().mean())
            if error < best - 1e-5:
                best, stale = error, 0
                state = {k: v.clone() for k, v in network.state_dict().items()}
            else:
                stale += 1
                if stale >= 40:
                    break
        if state:
            network.load_state_dict(state)
        return network.eval()


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> torch.nn.Linear:
    """A layer of double precision whose weights come from a generator."""
    layer = torch.nn.Linear(inputs, outputs, dtype=torch.float64)
    bound = (6 / inputs) ** 0.5
    torch.nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    torch.nn.init.zeros_(layer.bias)
    return layer


def foreign(regressor: Any, features: Floats, costs: Floats) -> Predict:
    """Fits a copy of a regressor with `fit` and `predict`, such as scikit-learn's, to log costs."""
    import copy

    model = copy.deepcopy(regressor)
    model.fit(features, np.log(costs))

    def predict(rows: Floats) -> Floats:
        return np.exp(np.asarray(model.predict(rows), np.float64))

    return predict


def folds(n: int, seed: int) -> list[NDArray[np.intp]]:
    """The samples that each fold of cross-validation holds out."""
    order = np.random.default_rng(seed).permutation(n)
    return [part for part in np.array_split(order, min(FOLDS, n)) if len(part)]
