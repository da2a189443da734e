"""Learned costs: fitted to pairs of an architecture and a number from another device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.accuracy import Accuracy
from symnas.costs.bound import BoundCost
from symnas.costs.bound_table import TableCost
from symnas.costs.learned.bound import LearnedCost
from symnas.costs.learned.fit import Decisions, Features, Fit, scopes
from symnas.costs.learned.samples import FromSamples
from symnas.costs.model import CostModel
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable, Term
from symnas.errors import DeclarationError
from symnas.searchspace.space import Space

if TYPE_CHECKING:
    from symnas.cost_models.adapted import Adapted

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]


@attrs.frozen(order=False, eq=False, repr=False)
class Learned(FromSamples):
    """A cost that is fitted to samples when it is bound to a space; `error` is cross-validated.

    In the manner of X. Xu et al., "Latency-Aware Differentiable Neural Architecture Search",
    arXiv:2001.06392: a regressor is trained on pairs, and then stands for the device. All kinds fit
    the relative error. With "table" the cost is a table of decisions and pairs of them, so that
    limits on it are as exact as those on counted costs, up to the error of the fit. With "mlp" the
    cost is a perceptron beside a linear part; its `expected` puts expected features in, which is
    the paper's relaxation and no expectation.

    Args:
        samples: pairs of an architecture (or a program) and a positive number.
        regressor: "table", "mlp", "linear" (in the features), or an object with `fit` and
            `predict`, such as one of scikit-learn, which is fitted to logarithms.
        features: what else than the decisions is known of rows. An operation that has no path to
            the output costs nothing on many devices, and something on others; "auto" finds from
            the space's networks where there are such, and which operations they are (see
            `symnas.costs.learned.features.effects`; not for "table"). Or `features(space, rows)`
            that gives `(n, m)` numbers; or None.
        connected: which rows' networks depend on their input at all: `connected(space, rows)`
            gives `(n,)` booleans. Others are folded to a constant by some compilers; where
            their samples are that cheap, one number stands for them. Known by features="auto".
        name, unit: of the cost.
        device: where the samples are from.
        seed: of the folds and the perceptron.

    Raises:
        DeclarationError: there are fewer than five samples, or one is no pair, or not positive.

    >>> import symnas as sn
    >>> space = sn.Space([sn.oneof([1, 2, 3], name="a"), sn.oneof([5, 7], name="b")])
    >>> rows = next(space.enumerate())
    >>> costs = 1.0 + rows[:, 0] + 2.0 * rows[:, 1]
    >>> bound = Learned.of_rows(space, rows, costs, regressor="table").bind(space)
    >>> bool(abs(bound(rows) - costs).max() < 0.05), bound.range().exact
    (True, True)
    """

    regressor: Any = attrs.field(default="mlp")
    features: Features | str | None = attrs.field(default="auto", kw_only=True)
    connected: Features | None = attrs.field(default=None, kw_only=True)
    name: str = attrs.field(default="latency", kw_only=True)
    unit: str = attrs.field(default="ms", kw_only=True)
    device: str = attrs.field(default="learned", kw_only=True)
    seed: int = attrs.field(default=0, kw_only=True)
    _fitted: WeakKeyDictionary[Space, BoundCost] = attrs.field(
        factory=WeakKeyDictionary, init=False, repr=False
    )

    @regressor.validator
    def _check_regressor(self, attribute: Any, value: Any) -> None:
        known = value in ("table", "mlp", "linear") if isinstance(value, str) else False
        if not known and not (hasattr(value, "fit") and hasattr(value, "predict")):
            raise DeclarationError(
                f"Learned: `regressor` ({value!r:.60}) must be 'table', 'mlp', 'linear', or an "
                "object with `fit` and `predict`."
            )

    def __attrs_post_init__(self) -> None:
        if isinstance(self.features, str) and self.features != "auto":
            raise DeclarationError(
                f"Learned: `features` ({self.features!r}) must be 'auto', None, or a function of a "
                "space and its rows."
            )
        given = self.features if callable(self.features) else None
        if self.regressor == "table" and (given or self.connected):
            raise DeclarationError(
                "Learned: regressor='table' is a table of decisions, and can have no other "
                "`features`: use 'mlp' or 'linear'."
            )

    @classmethod
    def of_rows(cls, space: Space, rows: Any, costs: Any, **options: Any) -> Learned:
        """A learned cost from rows `(n, columns)` of a space and their costs `(n,)`."""
        rows = np.asarray(rows, np.int32)
        pairs = [(space.decode(row), cost) for row, cost in zip(rows, costs, strict=True)]
        return cls(pairs, **options)

    @staticmethod
    def adapt(sources: Sequence[CostModel], samples: Any, **options: Any) -> Adapted:
        """The cost on a new device, from 10 to 50 samples and known devices: see `Adapted`."""
        from symnas.cost_models.adapted import Adapted

        return Adapted(samples, tuple(sources), **options)

    def _bound(self, space: Space) -> BoundCost:
        if space not in self._fitted:
            self._fitted[space] = self._fit(space)
        return self._fitted[space]

    def _fit(self, space: Space) -> BoundCost:
        rows, costs = self._data(space)
        if self.regressor == "table":
            return self._table(space, rows, costs)
        fit = Fit(self, space)
        predictor, predicted = fit.crossed(rows, costs)
        return LearnedCost(self, space, predictor, Accuracy(predicted, costs))

    def _table(self, space: Space, rows: Rows, costs: Floats) -> TableCost:
        entries = scopes(space, len(costs))
        linear, predicted = Decisions(space, entries, self.seed).crossed(rows, costs)
        terms, start = [], 0
        for scope in entries:
            shape = structure_of(space).shape(scope)
            size = int(np.prod(shape))
            terms.append(Term(scope, linear.weights[start : start + size].reshape(shape)))
            start += size
        table = CostTable(linear.bias, terms)
        return TableCost(self, space, table, Accuracy(predicted, costs))

    def __repr__(self) -> str:
        return (
            f"Learned({len(self.samples)} samples, {self.regressor!r:.40}, device={self.device!r})"
        )
