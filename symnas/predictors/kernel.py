"""Covariances of results: a sum of one Gaussian kernel for each kind of features.

How much each kind counts, and over which distances, are found by the marginal likelihood: so a space
whose order of operations matters is modelled by paths, and one whose positions matter by positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Distances: TypeAlias = "list[NDArray[np.floating[Any]]]"

# Normal priors of the logarithms of: weights, squared lengths (in mean squared distances), noise.
PRIORS = ((0.0, 2.0), (0.0, 1.5), (-4.0, 2.0))
BOUNDS = ((-8.0, 4.0), (-5.0, 5.0), (-9.0, 1.0))
ITERATIONS = 30
# From so many results on, starts are compared by half of them, and few steps follow with all.
MANY, LAST = 200, 10
# Added to the diagonal besides the noise, for numbers that are no numbers with all their digits.
JITTER = 1e-6


@attrs.frozen(eq=False)
class Encoded:
    """Architectures as features of several kinds.

    Attributes:
        parts: one sparse matrix `(n, features)` for each kind.
    """

    parts: tuple[sparse.csr_matrix, ...]

    def __len__(self) -> int:
        return int(self.parts[0].shape[0])

    def __getitem__(self, index: Any) -> Encoded:
        return Encoded(tuple(part[index] for part in self.parts))

    def only(self, kinds: Sequence[int]) -> Encoded:
        """Some of the kinds."""
        return Encoded(tuple(self.parts[kind] for kind in kinds))


def stacked(encoded: Sequence[Encoded]) -> Encoded:
    """Several, one behind the other."""
    parts = []
    for kind in zip(*(e.parts for e in encoded), strict=True):
        width = max(part.shape[1] for part in kind)
        parts.append(sparse.vstack([_widened(part, width) for part in kind], format="csr"))
    return Encoded(tuple(parts))


def distances(a: Encoded, b: Encoded, dtype: Any = np.float64) -> Distances:
    """Squared distances by kind, `(a, b)` each."""
    found = []
    for one, other in zip(a.parts, b.parts, strict=True):
        width = max(one.shape[1], other.shape[1])
        x, y = _widened(one, width), _widened(other, width)
        squares = [np.asarray(m.multiply(m).sum(axis=1), dtype) for m in (x, y)]
        both = x @ y.toarray().T.astype(dtype)
        found.append(np.maximum(squares[0] + squares[1].T - 2 * both, 0))
    return found


def _widened(part: sparse.csr_matrix, width: int) -> sparse.csr_matrix:
    if part.shape[1] == width:
        return part
    wide = part.copy()
    wide.resize(part.shape[0], width)
    return wide


@attrs.frozen(eq=False)
class Kernel:
    """Covariances of two architectures by their distances, and the noise of results.

    Attributes:
        weights: the variance that each kind of features explains.
        lengths: the squared distances over which each does.
        noise: the variance that none does.
        evidence: the logarithm of the marginal likelihood of what it was found by, with its priors.
    """

    weights: Floats
    lengths: Floats
    noise: float
    evidence: float

    @property
    def variance(self) -> float:
        """Of a result before anything is known."""
        return float(self.weights.sum())

    def only(self, kinds: Sequence[int]) -> Kernel:
        """With some of the kinds of features."""
        return attrs.evolve(
            self, weights=self.weights[list(kinds)], lengths=self.lengths[list(kinds)]
        )

    def __call__(self, squared: Distances) -> NDArray[Any]:
        """Covariances `(a, b)`, in the type of the distances."""
        total: Any = 0.0
        for weight, length, d in zip(self.weights, self.lengths, squared, strict=True):
            # Python's numbers keep single precision single.
            total = total + float(weight) * np.exp(d * (-0.5 / float(length)))
        return np.asarray(total)

    def factor(self, squared: Distances) -> Floats:
        """The lower Cholesky factor of the covariance of known results, noise included."""
        covariance = self(squared)
        covariance[np.diag_indices(len(covariance))] += self.noise + JITTER
        return np.asarray(cholesky(covariance, lower=True))


def likeliest_kernel(squared: Distances, scores: Floats) -> Kernel:
    """The kernel with the largest marginal likelihood times prior, from fixed starts.

    Costs `O(n^3)` for each of some 30 steps; with many results, of some 10.

    Args:
        squared: distances between architectures with known results, `(n, n)` each.
        scores: their results, about normal, `(n,)`.
    """
    scales = [max(float(d.mean()), 1e-9) for d in squared]
    scaled = [d / scale for d, scale in zip(squared, scales, strict=True)]
    kinds = len(scaled)
    bounds = [bound for bound in BOUNDS[:2] for _ in range(kinds)] + [BOUNDS[2]]
    means, widths = (
        np.array([prior[i] for prior in PRIORS[:2] for _ in range(kinds)] + [PRIORS[2][i]])
        for i in range(2)
    )

    def improved(start: Floats, every: int, steps: int) -> Any:
        some = [d[::every, ::every] for d in scaled]
        loss = _loss(some, scores[::every], means, widths)
        options = {"maxiter": steps}
        return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)

    many = len(scores) >= MANY
    starts = [np.array([*means[:-1], noise]) for noise in (-4.0, -1.0)]
    found = [improved(start, 1 + many, ITERATIONS) for start in starts]
    best = min(found, key=lambda one: one.fun)
    if many:
        best = improved(best.x, 1, LAST)
    told = np.exp(best.x)
    lengths = told[kinds:-1] * np.array(scales)
    return Kernel(told[:kinds], lengths, float(told[-1]), -float(best.fun))


def _loss(
    scaled: Distances, scores: Floats, means: Floats, widths: Floats
) -> Callable[[Floats], tuple[float, Floats]]:
    """Minus the logarithm of the marginal likelihood times prior, with its gradient.

    Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", equations 5.8 and 5.9.
    """
    n, kinds = len(scores), len(scaled)
    # Matrices are symmetric: half of each is worked with, in one row.
    rows, columns = np.triu_indices(n)
    half = rows * n + columns
    scaled = [d.reshape(-1)[half] for d in scaled]
    counted = np.where(rows == columns, 0.5, 1.0)

    def loss(theta: Floats) -> tuple[float, Floats]:
        told = np.exp(theta)
        parts = [
            w * np.exp(d * (-0.5 / length))
            for w, length, d in zip(told[:kinds], told[kinds:-1], scaled, strict=True)
        ]
        covariance = np.zeros((n, n))
        covariance.reshape(-1)[half] = sum(parts)
        covariance.reshape(-1)[:: n + 1] += told[-1] + JITTER
        factor = cholesky(covariance.T, lower=True, overwrite_a=True)
        alpha = cho_solve((factor, True), scores)
        value = 0.5 * scores @ alpha + np.log(np.diag(factor)).sum()
        inverse, _ = dpotri(factor, lower=True, overwrite_c=True)  # its lower half
        slope = counted * (inverse.T.reshape(-1)[half] - alpha[rows] * alpha[columns])
        explained = [slope * part for part in parts]
        gradient = np.array(
            [part.sum() for part in explained]
            + [
                part @ d * (0.5 / length)
                for part, d, length in zip(explained, scaled, told[kinds:-1], strict=True)
            ]
            + [0.5 * (np.trace(inverse) - alpha @ alpha) * told[-1]]
        )
        away = (theta - means) / widths
        return float(value + 0.5 * away @ away), gradient + away / widths

    return loss
