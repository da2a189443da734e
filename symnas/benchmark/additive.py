"""`Additive`: a predictor that is a sum of small tables, and costs that are exact sums with it.

Latency as a sum over layers: B. Wu et al., "FBNet", CVPR 2019, arXiv:1812.03443, Section 3.3, Eq. 3.
There, each layer was measured; here, what layers take is found from whole networks by ridge
regression, as in G. Bender et al., "TuNAS", CVPR 2020, arXiv:2008.06120, Section 4.1.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.benchmark.base import Column, columns_in, row_of
from symnas.benchmark.cost import TabulatedCost
from symnas.benchmark.modelled import EVERY, Modelled
from symnas.benchmark.tabulated import Tabulated
from symnas.costs.accuracy import Accuracy
from symnas.costs.bound import BoundCost
from symnas.costs.bound_table import TableCost
from symnas.costs.labelled import Columns
from symnas.costs.model import CostModel
from symnas.costs.table import CostTable, Term
from symnas.predictors.base import Fitted, Held, Predictor, checked
from symnas.searchspace.space import Space

if TYPE_CHECKING:
    import pandas as pd

    from symnas.architecture.architecture import Architecture

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]


def _groups(values: Iterable[Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(group) for group in values)


@attrs.frozen
class Additive(Predictor):
    """`mean + sum over groups of decisions of what their choices together add`, by least squares.

    Args:
        groups: ids or names of decisions whose effects depend on one another; decisions in no group
            stand alone.
        strength: of the penalty on the squares of what is added, lambda of ridge regression; it
            decides only where the rows do not.

    >>> import symnas as sn
    >>> space = sn.Space([sn.oneof([1, 2, 3], name="a"), sn.oneof([5, 9], name="b")])
    >>> rows = space.sample(20, 1)
    >>> fitted = Additive().fit(space, rows, 10 * rows[:, 0] + rows[:, 1])
    >>> fitted.predict([[2, 1], [0, 0]]).round(4)
    array([21.,  0.])
    """

    groups: tuple[tuple[str, ...], ...] = attrs.field(default=(), converter=_groups)
    strength: float = 1e-6

    def __attrs_post_init__(self) -> None:
        if not self.strength > 0:
            raise ValueError(f"`strength` ({self.strength}) must be positive.")
        names = list(itertools.chain.from_iterable(self.groups))
        if len(set(names)) < len(names) or not all(self.groups):
            raise ValueError(
                f"`groups` ({self.groups}) must name each decision once, and none be ()."
            )

    def fit(self, space: Space, rows: Any, values: Any, seed: int = 0) -> Sum:
        """The table.

        Raises:
            ValueError: the space lacks a decision, or has one that is a float.
        """
        rows, values = checked(space, rows, values)
        columns = Columns(space)
        groups = [sorted(columns.find(n, "groups") for n in group) for group in self.groups]
        alone = set(range(len(space))) - set(itertools.chain.from_iterable(groups))
        groups = sorted([*groups, *([i] for i in alone)])
        floats = [space.columns[i] for i in range(len(space)) if columns.structure.floats[i]]
        if floats:
            raise ValueError(f"{floats[0]!r} is a number with too many values for a table.")
        shapes = [tuple(len(columns.labels(i)) for i in group) for group in groups]
        sizes = [int(np.prod(shape)) for shape in shapes]
        starts = np.cumsum([0, *sizes])
        ones = np.zeros((len(rows), starts[-1]))
        for group, shape, start in zip(groups, shapes, starts, strict=False):
            cells = tuple(rows[:, i] % size for i, size in zip(group, shape, strict=True))
            ones[np.arange(len(rows)), start + np.ravel_multi_index(cells, shape)] = 1
        mean = float(values.mean())
        gram = ones.T @ ones + self.strength * np.eye(len(ones.T))
        added = np.linalg.solve(gram, ones.T @ (values - mean))
        terms = [
            Term(group, added[start : start + size].reshape(shape))
            for group, shape, size, start in zip(groups, shapes, sizes, starts, strict=False)
        ]
        return Sum(space, CostTable(mean, terms))


@attrs.frozen(eq=False)
class Sum(Fitted):
    """A fitted table over the columns of a space."""

    space: Space
    table: CostTable

    def predict(self, rows: Any) -> Floats:
        return np.asarray(self.table(np.ascontiguousarray(rows, np.int32)), np.float64)


class Priced(Modelled):
    """A modelled table whose additive columns are exact costs.

    Constraints on them know which architectures keep them without drawing any, and expectations
    have gradients.
    """

    @classmethod
    def fit_each(
        cls,
        table: Tabulated,
        predictors: Mapping[str, Predictor],
        *,
        folds: int = 5,
        seed: int = 0,
        name: str | None = None,
    ) -> Priced:
        """`Modelled.fit` with a predictor for each column; columns without one are left out.

        Raises:
            ValueError: a column is none of the table's, or has fewer known results than folds.
        """
        parts = [
            cls.fit(table, predictor, columns=[column], folds=folds, seed=seed)
            for column, predictor in predictors.items()
        ]
        columns: dict[str, Column] = {}
        held: dict[tuple[str, int], Held] = {}
        fitted: dict[tuple[str, int], Fitted] = {}
        digest = hashlib.sha256()
        for part in parts:
            columns.update(part.columns)
            held.update(part.held)
            fitted.update(part._fitted)
            digest.update(part.digest().encode())
        return cls(
            name or table.name, table.space, columns, table.budgets, held, fitted,
            digest.hexdigest()[:16],
        )  # fmt: skip

    def errors(self) -> pd.DataFrame:
        """How well the models do on rows that they were not fitted to, one line a column.

        Columns: `tau`, Kendall's rank correlation; `r2`, the explained share of the variance;
        `relative`, the mean of `|predicted - truth| / |truth|`; and `n`, how many rows.
        """
        import pandas as pd

        lines = {}
        for (column, _), held in self.held.items():
            miss = held.predicted - held.truth
            spread = held.truth - held.truth.mean()
            r2 = 1 - float(miss @ miss) / float(spread @ spread)
            relative = Accuracy(held.predicted, held.truth).relative.mean()
            lines[column] = {"tau": held.tau, "r2": r2, "relative": relative, "n": len(miss)}
        return pd.DataFrame.from_dict(lines, orient="index").astype({"n": int})

    def cost(self, name: str) -> CostModel:
        model = super().cost(name)
        assert isinstance(model, TabulatedCost)
        if isinstance(self._fitted.get((model.column, EVERY)), Sum):
            return AdditiveCost(self, model.column)
        return model


@attrs.frozen(order=False, eq=False)
class AdditiveCost(TabulatedCost):
    """An additive column of a `Priced` table: bound to a space, it is a table itself."""

    def measure(self, architecture: Architecture) -> float:
        # Bound as for rows: the same numbers, added in the same order.
        space, row = self.table.space, row_of(self.table.space, architecture)
        if architecture.space is not None and columns_in(space, architecture.space) is not None:
            space, row = architecture.space, np.array(architecture.row, np.int32)
        return float(self.bind(space)(row[None])[0])

    def _bound(self, space: Space) -> BoundCost:
        table = self.table
        assert isinstance(table, Priced)
        columns = columns_in(table.space, space)
        if columns is None:
            return super()._bound(space)  # says what is missing
        fitted = table._fitted[self.column, EVERY]
        held = table.held[self.column, EVERY]
        assert isinstance(fitted, Sum)
        terms = [_moved(term, columns) for term in fitted.table.terms]
        error = Accuracy(held.predicted, held.truth)
        return TableCost(self, space, CostTable(fitted.table.bias, terms), error)


def _moved(term: Term, columns: list[int]) -> Term:
    """A term over the columns where another space has the same decisions."""
    places = [columns[column] for column in term.columns]
    order = np.argsort(places)
    return Term([places[i] for i in order], term.values.transpose(order))
