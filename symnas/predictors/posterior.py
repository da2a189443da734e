"""What a Gaussian process says of a fixed pool of architectures, while results come in one by one."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from symnas.predictors.kernel import JITTER, Encoded, Kernel, distances, stacked

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

# One large array is read faster than many small ones.
BLOCKS = 32


class Posterior:
    """Means and variances of a pool, given architectures with known results.

    One more known architecture costs `O(known * pool)`, where a new start costs `O(known^2 * pool)`.
    What is kept for the pool has single precision.

    Args:
        kernel: of the process.
        known: architectures with results, n of them.

    Attributes:
        variances: of the scores of the pool, without noise, `(m,)`.
    """

    def __init__(self, kernel: Kernel, known: Encoded) -> None:
        self.kernel = kernel
        self._known = known
        self._factor = kernel.factor(distances(known, known))
        self._pool: Encoded | None = None
        self._explained: list[Singles] = []
        self.variances: Singles = np.zeros(0, np.float32)

    def follow(self, pool: Encoded) -> None:
        """Keeps up to date what is said of a pool, m architectures, as results come in."""
        across = self.kernel(distances(self._known, pool, np.float32)).astype(np.float32)
        explained = solve_triangular(self._factor.astype(np.float32), across, lower=True)
        self._pool, self._explained = pool, [np.asarray(explained, np.float32)]
        before = np.float32(self.kernel.variance)
        self.variances = before - np.einsum("kn,kn->n", explained, explained)

    def elsewhere(self, pool: Encoded) -> Posterior:
        """The same, of another pool."""
        copied = self._copied()
        copied.follow(pool)
        return copied

    def add(self, one: Encoded) -> None:
        """One more architecture is known."""
        covariance = self.kernel(distances(self._known, one))[:, 0]
        row: Floats = solve_triangular(self._factor, covariance, lower=True)
        left = self.kernel.variance + self.kernel.noise + JITTER - row @ row
        pivot = math.sqrt(max(float(left), JITTER))
        n = len(self._factor)
        factor = np.zeros((n + 1, n + 1))
        factor[:n, :n], factor[n, :n], factor[n, n] = self._factor, row, pivot
        self._factor, self._known = factor, stacked([self._known, one])
        if self._pool is not None:
            across = self.kernel(distances(one, self._pool, np.float32))[0].astype(np.float32)
            explained = (across - self._times(row)) / np.float32(pivot)
            self._explained.append(explained[None])
            self.variances = self.variances - explained**2

    def means(self, scores: Floats) -> Singles:
        """Expected scores of the pool, given those of the known ones: `(m,)`."""
        return self._times(solve_triangular(self._factor, scores, lower=True))

    def variances_with(self, waiting: Encoded) -> Singles:
        """Variances of the pool once the results of those that wait are in, whatever they are."""
        copied = self._copied()
        for i in range(len(waiting)):
            copied.add(waiting[i : i + 1])
        return copied.variances

    def _copied(self) -> Posterior:
        copied = copy.copy(self)
        copied._explained = list(self._explained)
        return copied

    def _times(self, values: Floats) -> Singles:
        """Values of the known ones times what they explain of the pool: `(known,)` to `(m,)`."""
        assert self._pool is not None
        if len(self._explained) > BLOCKS:
            self._explained = [np.concatenate(self._explained)]
        total: Any = np.zeros(len(self._pool), np.float32)
        start = 0
        for block in self._explained:
            total = total + values[start : start + len(block)].astype(np.float32) @ block
            start += len(block)
        return np.asarray(total, np.float32)
