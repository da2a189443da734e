"""Learned and adapted costs that are bound to a space and are no tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.accuracy import Accuracy
from symnas.costs.bound import BoundCost
from symnas.costs.bound_table import TableCost
from symnas.costs.independent import Independent, Probabilities
from symnas.costs.learned.fit import Predictor
from symnas.costs.learned.linear import Linear
from symnas.costs.learned.perceptron import Perceptrons
from symnas.costs.model import CostModel
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable, Term
from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]

# The most architectures over which a mean is taken one by one.
LISTED = 2**15


class LearnedCost(BoundCost):
    """A learned cost of rows that is no table."""

    def __init__(
        self, model: CostModel, space: Space, predictor: Predictor, error: Accuracy
    ) -> None:
        super().__init__(model, space, error)
        self._predictor = predictor

    def _costs(self, rows: Rows) -> Floats:
        return self._predictor(rows)

    def expected(self, probabilities: Probabilities | None = None) -> torch.Tensor:
        """The mean cost when each decision is drawn independently: a scalar, in float64.

        - With "linear" and "mlp" on the decisions alone: the cost at the expected features. For
          "mlp" that is a relaxation (that of the paper), and no mean.
        - Otherwise, in a space of at most 2**15 architectures: the mean over all of them.
        - Otherwise estimated from draws: see `BoundCost.expected`.

        All have gradients. The arguments and errors are those of `BoundCost.expected`.
        """
        predict = self._predictor.predict
        simple = self._predictor.fit.simple and isinstance(predict, Perceptrons | Linear)
        if not simple and not self._listable:
            return super().expected(probabilities)
        independent = Independent(self.space, probabilities)
        if not simple:
            return self._mean_over_all(independent)
        features = self._expected_features(independent)
        if isinstance(predict, Perceptrons):
            cost: torch.Tensor = predict(features[None])[0]
        else:
            cost = features @ torch.from_numpy(predict.weights) + predict.bias
        return cost

    @property
    def _listable(self) -> bool:
        space = self.space
        whole = not structure_of(space).rules and space.valid is None and not space.has_floats
        return whole and space.size <= LISTED

    @cached_property
    def _all(self) -> tuple[torch.Tensor, torch.Tensor]:
        rows = np.concatenate(list(self.space.enumerate()))
        return torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(self(rows))

    def _mean_over_all(self, independent: Independent) -> torch.Tensor:
        rows, costs = self._all
        total = torch.ones(len(rows), dtype=torch.float64)
        for column in range(len(self.space)):
            # One behind the last probability stands 1: for where the decision is not active.
            own = torch.cat([independent.tensor(column), torch.ones(1, dtype=torch.float64)])
            total = total * own[rows[:, column]]
        return (total * costs).sum()

    def _expected_features(self, independent: Independent) -> torch.Tensor:
        """The probability of each value of each decision; inactive ones have an entry too."""
        structure = structure_of(self.space)
        parts = []
        for (column,) in self._predictor.fit.columns:
            own = independent.tensor(column)
            if structure.conditional[column]:
                active = self._active(column)._multilinear(independent)
                own = torch.cat([own * active, (1.0 - active)[None]])
            parts.append(own)
        return torch.cat(parts)

    def _active(self, column: int) -> TableCost:
        structure = structure_of(self.space)
        values = np.ones(structure.axes[column])
        values[-1] = 0.0
        return TableCost(self.model, self.space, CostTable(0.0, [Term((column,), values)]))


class AdaptedCost(BoundCost):
    """A weighted sum of other devices' costs."""

    def __init__(
        self,
        model: CostModel,
        space: Space,
        parts: Sequence[BoundCost],
        linear: Linear,
        least: float,
        error: Accuracy,
    ) -> None:
        super().__init__(model, space, error)
        self.parts, self._linear, self._least = tuple(parts), linear, least

    def _costs(self, rows: Rows) -> Floats:
        known = np.stack([part(rows) for part in self.parts], axis=1)
        return np.maximum(self._linear(known), self._least)

    def expected(self, probabilities: Probabilities | None = None) -> torch.Tensor:
        """The weighted sum of the known devices' expectations."""
        total = torch.tensor(self._linear.bias, dtype=torch.float64)
        for weight, part in zip(self._linear.weights.tolist(), self.parts, strict=True):
            total = total + weight * part.expected(probabilities)
        return total
