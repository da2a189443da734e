"""Gaussian processes over architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cho_solve, solve_triangular

from symnas.predictors.base import Fitted, Floats, Predictor, Rows, checked
from symnas.predictors.kernel import Encoded, Kernel, distances, likeliest_kernel
from symnas.predictors.paths import Paths
from symnas.predictors.ranks import Ranks

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

FEATURES = ("onehot", "path", "paths")
# Architectures that are predicted at once.
CHUNK = 16_384


def _kinds(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@attrs.frozen
class GaussianProcess(Predictor):
    """A Gaussian process whose kernel adds up kinds of features, weighted by marginal likelihood.

    Fitting costs `O(n^3)` for n results: some seconds for 1,000.

    Args:
        features: one or several of "onehot" (which candidate each decision has), "path" (how often
            each part of a program stands in it, wherever) and "paths" (which operations follow one
            another from the input to the output, without what has no effect; see
            `symnas.predictors.paths`).
        ranks: whether results are modelled by their ranks, which a long tail of bad ones does not
            disturb; else as they are.

    Raises:
        ValueError: `features` names something else, or nothing.

    >>> import symnas as sn
    >>> space = sn.Space([sn.oneof([1, 2, 3]) for _ in range(4)])
    >>> rows = space.sample(30)
    >>> process = GaussianProcess("onehot").fit(space, rows, rows.sum(axis=1))
    >>> mean, deviation = process.uncertain([[0, 0, 0, 0], [2, 2, 2, 2]])
    >>> bool(mean[0] < 2 < 6 < mean[1]), bool((deviation > 0).all())
    (True, True)
    """

    features: tuple[str, ...] = attrs.field(default=FEATURES, converter=_kinds)
    ranks: bool = True

    @features.validator
    def _check(self, attribute: Any, value: tuple[str, ...]) -> None:
        if not value or set(value) - set(FEATURES):
            known = ", ".join(map(repr, FEATURES))
            raise ValueError(f"GaussianProcess: `features` ({value!r}) must be some of {known}.")

    def fit(self, space: Space, rows: Any, values: Any, seed: int = 0) -> FittedProcess:
        rows, values = checked(space, rows, values)
        encoded = self.encode(space, rows)
        between = distances(encoded, encoded)
        kernel = likeliest_kernel(between, self.scored(values).scores)
        return FittedProcess(self, space, kernel, encoded, values)

    def encode(self, space: Space, rows: Rows, kinds: Sequence[int] | None = None) -> Encoded:
        """The features of rows, as kernels take them: all, or those of these numbers."""
        features = [self.features[k] for k in kinds] if kinds is not None else self.features
        return Encoded(tuple(_encoded(space, rows, kind) for kind in features))

    def scored(self, values: Floats) -> Ranks | Scaled:
        """Results as about normal scores."""
        return Ranks(values) if self.ranks else Scaled(values)


def _encoded(space: Space, rows: Rows, kind: str) -> sparse.csr_matrix:
    if kind == "paths":
        if "paths" not in space.derived:
            space.derived["paths"] = Paths(space)
        paths: Paths = space.derived["paths"]
        return paths(rows)
    return sparse.csr_matrix(space.features(rows, kind))


class Scaled:
    """Results with mean 0 and deviation 1, as scores."""

    def __init__(self, values: Floats) -> None:
        self._mean, self._deviation = float(values.mean()), float(values.std()) or 1.0
        self.scores = (values - self._mean) / self._deviation

    def result(self, scores: Floats) -> Floats:
        """The results that have these scores."""
        return self._mean + self._deviation * scores


class FittedProcess(Fitted):
    """A Gaussian process that has seen results.

    Attributes:
        kernel: with what was found by the marginal likelihood.
    """

    def __init__(
        self,
        settings: GaussianProcess,
        space: Space,
        kernel: Kernel,
        known: Encoded,
        values: Floats,
    ) -> None:
        self.kernel = kernel
        self._settings, self._space, self._known = settings, space, known
        self._scored = settings.scored(values)
        self._factor = kernel.factor(distances(known, known))
        self._alpha = cho_solve((self._factor, True), self._scored.scores)

    def predict(self, rows: Any) -> Floats:
        return self.uncertain(rows)[0]

    def uncertain(self, rows: Any) -> tuple[Floats, Floats]:
        mean, deviation = self.scores(np.asarray(rows, np.int32).reshape(-1, len(self._space)))
        # Ranks are no straight line of results: the deviation is that of the middle two thirds.
        result = self._scored.result
        spread = (result(mean + deviation) - result(mean - deviation)) / 2
        return result(mean), spread

    def scores(self, rows: Rows) -> tuple[Floats, Floats]:
        """Means and deviations of scores, without noise: `(n,)` each."""
        parts = [self._scores(rows[i : i + CHUNK]) for i in range(0, max(1, len(rows)), CHUNK)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _scores(self, rows: Rows) -> tuple[Floats, Floats]:
        across = self.kernel(distances(self._known, self._settings.encode(self._space, rows)))
        explained = solve_triangular(self._factor, across, lower=True)
        variance = self.kernel.variance - np.einsum("kn,kn->n", explained, explained)
        mean: NDArray[np.float64] = across.T @ self._alpha
        return mean, np.sqrt(np.maximum(variance, 1e-12))
