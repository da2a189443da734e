"""`Boosting`: gradient-boosted trees over the choices themselves, as surrogate benchmarks use them.

J. Siems et al., "NAS-Bench-301 and the Case for Surrogate Benchmarks", arXiv:2008.09777, Section 4,
and Accel-NASBench, arXiv:2404.08005, take XGBoost; these are scikit-learn's histogram trees.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.errors import MissingExtra
from symnas.predictors.base import Fitted, Predictor, checked
from symnas.searchspace.space import Space


@attrs.frozen
class Boosting(Predictor):
    """Small trees, each fitted to what the ones before it leave.

    A decision is one number to the trees, the index of its candidate: so candidates should be in
    a natural order, as numbers are.

    Args:
        trees: how many.
        rate: by which each is shrunk.
        leaves: of each tree: a tree with k leaves looks at up to k - 1 decisions at once.
    """

    trees: int = 1000
    rate: float = 0.05
    leaves: int = 6

    def __attrs_post_init__(self) -> None:
        if self.trees < 1 or self.leaves < 2 or not 0 < self.rate <= 1:
            raise ValueError(
                f"`trees` ({self.trees}) must be at least 1, `leaves` ({self.leaves}) at least 2, "
                f"and `rate` ({self.rate}) above 0 and at most 1."
            )

    def fit(self, space: Space, rows: Any, values: Any, seed: int = 0) -> Boosted:
        rows, values = checked(space, rows, values)
        try:
            from sklearn.ensemble import HistGradientBoostingRegressor
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "Boosted trees need scikit-learn. Install it with `pip install symnas[train]`."
            ) from error
        model = HistGradientBoostingRegressor(
            max_iter=self.trees,
            learning_rate=self.rate,
            max_leaf_nodes=self.leaves,
            early_stopping=False,
            random_state=seed,
        )
        return Boosted(model.fit(rows.astype(np.float64), values))


@attrs.frozen(eq=False)
class Boosted(Fitted):
    """Trees that are fitted."""

    model: Any

    def predict(self, rows: Any) -> NDArray[np.float64]:
        return np.asarray(self.model.predict(np.asarray(rows, np.float64)), np.float64)
