"""Perceptrons that correct a linear fit: for what does not add up, with gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.learned.linear import LEAST, Linear, folds

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

SIZES = (64, 32)
EPOCHS, BATCH = 60, 64
RATE, DECAY = 8e-3, 0.3
# Relative errors below this count as squares.
SMALL = 0.01
# How much of the correction may be taken: what is left out was noise.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
# A part of the correction must lower the error by this share to be taken.
GAIN = 0.01


class Perceptrons(torch.nn.Module):
    """`linear(features) * exp(share * mean of corrections(features))`: costs `(n,)`, `(n, m)`.

    There is one correction for each fold of the samples, a perceptron that has not seen the fold.
    Each is smaller than in X. Xu et al., "Latency-Aware Differentiable Neural Architecture Search",
    arXiv:2001.06392, since what is linear is not learned anew.

    Attributes:
        share: how much of the corrections is taken; chosen by the error on the folds held out.
    """

    weights: torch.Tensor
    center: torch.Tensor
    spread: torch.Tensor

    def __init__(self, features: Floats, least: float, members: int, seed: int) -> None:
        super().__init__()
        spread = features.std(axis=0)
        self.register_buffer("center", torch.from_numpy(features.mean(axis=0)))
        self.register_buffer("spread", torch.from_numpy(np.where(spread < 1e-9, 1e9, spread)))
        self.register_buffer("weights", torch.zeros(features.shape[1], dtype=torch.float64))
        self.bias, self.least, self.share = 0.0, least, 1.0
        generator = torch.Generator().manual_seed(seed)
        self.layers = torch.nn.ParameterList()
        for inside, outside in itertools.pairwise((features.shape[1], *SIZES, 1)):
            bound = 0.0 if outside == 1 else math.sqrt(3 / max(1, inside))
            shape = (members, inside, outside)
            first = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
            self.layers.append(torch.nn.Parameter(first * bound))
            zeros = torch.zeros(members, 1, outside, dtype=torch.float64)
            self.layers.append(torch.nn.Parameter(zeros))

    def corrections(self, features: torch.Tensor) -> torch.Tensor:
        """What each perceptron adds to the logarithm: `(members, n)` of `(n, m)`."""
        hidden = ((features - self.center) / self.spread).expand(len(self.layers[0]), -1, -1)
        for i in range(0, len(self.layers), 2):
            if i:
                hidden = torch.nn.functional.silu(hidden)
            hidden = torch.baddbmm(self.layers[i + 1], hidden, self.layers[i])
        return hidden[..., 0]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        linear = (features @ self.weights + self.bias).clamp_min(self.least)
        if not self.share:
            return linear
        return linear * torch.exp(self.share * self.corrections(features).mean(dim=0))

    @classmethod
    def fitted(
        cls,
        features: Floats,
        costs: Floats,
        linear: Callable[[Indices], Linear],
        seed: int = 0,
    ) -> tuple[Perceptrons, Floats]:
        """Fits to the relative error; gives also the cross-validated predictions `(n,)`.

        Those are of single members, without what the mean over members gains; they have seen their
        own samples only in the choice of the share.

        Args:
            features: `(n, m)`.
            costs: `(n,)`, positive.
            linear: the linear fit to samples of these indices.
            seed: of the folds, the initial weights, and the order of samples.
        """
        held = folds(len(costs), seed)
        network = cls(features, LEAST * float(costs.min()), len(held), seed)
        kept = [np.setdiff1d(np.arange(len(costs)), fold) for fold in held]
        bases = np.stack([np.maximum(linear(k)(features), network.least) for k in kept])
        with torch.enable_grad():
            _train(network, features, bases / costs, kept, seed)
        with torch.no_grad():
            corrections = network.corrections(torch.from_numpy(features)).numpy()
        fold = np.empty(len(costs), int)
        for i, indices in enumerate(held):
            fold[indices] = i
        at = (fold, np.arange(len(costs)))
        base, correction = bases[at], corrections[at]
        errors = [np.abs(base * np.exp(s * correction) / costs - 1).mean() for s in SHARES]
        best = int(np.argmin(errors))
        network.share = SHARES[best] if errors[best] < (1 - GAIN) * errors[0] else 0.0
        full = linear(np.arange(len(costs)))
        network.weights.copy_(torch.from_numpy(full.weights))
        network.bias = full.bias
        network.eval().requires_grad_(False)
        return network, base * np.exp(network.share * correction)


def _train(
    network: Perceptrons, features: Floats, ratios: Floats, kept: list[Indices], seed: int
) -> None:
    """Trains all members side by side, each on its own samples.

    Args:
        ratios: `(members, n)`, what the linear fits predict over what is true.
        kept: the samples of each member.
    """
    x, ratio = torch.from_numpy(features), torch.from_numpy(ratios)
    rng = np.random.default_rng(seed)
    least = min(len(k) for k in kept)
    batch = min(BATCH, least)
    steps = EPOCHS * math.ceil(least / batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps + 1, pct_start=0.1, cycle_momentum=False
    )
    members = torch.arange(len(kept))[:, None]
    center, spread = network.center, network.spread
    x = (x - center) / spread
    for _ in range(EPOCHS):
        orders = torch.from_numpy(np.stack([rng.permutation(k)[:least] for k in kept]))
        for index in torch.split(orders, batch, dim=1):
            hidden = x[index]  # (members, batch, m)
            for i in range(0, len(network.layers), 2):
                hidden = torch.nn.functional.silu(hidden) if i else hidden
                hidden = torch.baddbmm(network.layers[i + 1], hidden, network.layers[i])
            error = ratio[members, index] * torch.exp(hidden[..., 0].clamp(-8, 8)) - 1
            loss = torch.sqrt(error**2 + SMALL**2).mean(dim=1).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
