"""Combinations of costs, bound: as exact as their parts allow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.accuracy import Accuracy
from symnas.costs.bound import BoundCost, Bounds, Rows
from symnas.costs.bound_table import TableCost
from symnas.costs.comparison import Limits
from symnas.costs.structure import Columns, Structure, aligned, structure_of
from symnas.costs.table import CostTable, Term

if TYPE_CHECKING:
    from symnas.costs.combined import Maximum, Product, Weighted
    from symnas.costs.independent import Independent, Probabilities
    from symnas.costs.model import CostModel
    from symnas.searchspace.space import Space

# The most entries of products of terms that share decisions.
MAX_PRODUCT = 4_000_000


class _CombinedCost(BoundCost):
    """What bound combinations have in common: bound parts."""

    def __init__(self, model: CostModel, space: Space, parts: Sequence[BoundCost]) -> None:
        super().__init__(model, space, note="; ".join(p.note for p in parts if p.note))
        self.parts = tuple(parts)

    @property
    def measured(self) -> int:
        return max(part.measured for part in self.parts)

    @property
    def dear(self) -> bool:
        return any(part.dear for part in self.parts)


class SumCost(_CombinedCost):
    """A weighted sum of costs of which not all are tables."""

    def __init__(self, model: Weighted, space: Space, parts: Sequence[BoundCost]) -> None:
        super().__init__(model, space, parts)
        self._sum = model  # `model` may be another one, as which the cost is seen

    def _costs(self, rows: Rows) -> NDArray[np.float64]:
        total = np.full(len(rows), self._sum.constant)
        for factor, part in zip(self._sum.factors, self.parts, strict=True):
            total += factor * part(rows)
        return total

    def expected(self, probabilities: Probabilities | None = None) -> torch.Tensor:
        """The weighted sum of the parts' expectations: as exact as those."""
        total = torch.tensor(self._sum.constant, dtype=torch.float64)
        for factor, part in zip(self._sum.factors, self.parts, strict=True):
            total = total + factor * part.expected(probabilities)
        return total

    def upper(self, q: float = 0.95) -> BoundCost:
        return _upper_sum(self, self._sum, self.parts, q)


class SumTable(TableCost):
    """A weighted sum of tables."""

    def __init__(
        self,
        model: Weighted,
        space: Space,
        table: CostTable,
        error: Accuracy | None,
        parts: Sequence[BoundCost],
    ) -> None:
        super().__init__(model, space, table, error)
        self._sum = model  # `model` may be another one, as which the cost is seen
        self.parts = tuple(parts)

    def upper(self, q: float = 0.95) -> BoundCost:
        if self.error is not None:
            return super().upper(q)
        return _upper_sum(self, self._sum, self.parts, q)


def _upper_sum(cost: BoundCost, model: Weighted, parts: Sequence[BoundCost], q: float) -> BoundCost:
    """A sum with the safety of each of its parts.

    Raises:
        ValueError: it has differences, of which the safety does not follow.
    """
    safe = [part.upper(q) for part in parts]
    if all(new is old for new, old in zip(safe, parts, strict=True)):
        return cost  # nothing is predicted
    if min(model.factors) < 0:
        raise ValueError(
            f"upper: a safety for {cost.name!r} does not follow from its parts, as it has "
            "differences. Take the safety of each part."
        )
    return bound_sum(model, cost.space, safe).seen_as(cost.model)


def bound_sum(model: Weighted, space: Space, parts: Sequence[BoundCost]) -> BoundCost:
    """A weighted sum: a table, if its parts are."""
    tables = [part.table for part in parts]
    if any(table is None for table in tables):
        return SumCost(model, space, parts)
    total = CostTable(model.constant)
    for factor, table in zip(model.factors, tables, strict=True):
        assert table is not None
        total = total + factor * table
    return SumTable(model, space, total, _error(model, parts), parts)


def _error(model: Weighted, parts: Sequence[BoundCost]) -> Accuracy | None:
    """The error of a sum, where all parts were checked on the same architectures."""
    errors = [part.error for part in parts if part.error is not None]
    if len(errors) < len(parts) or len({error.n for error in errors}) > 1:
        return None
    if len(parts) > 1 and not all(error.exact_kind for error in errors):
        return None
    predicted = sum(f * e.predicted for f, e in zip(model.factors, errors, strict=True))
    measured = sum(f * e.measured for f, e in zip(model.factors, errors, strict=True))
    return Accuracy(predicted + model.constant, measured + model.constant, errors[0].exact_kind)


class ScaledCost(_CombinedCost):
    """A multiple of another cost, where that is no table."""

    def __init__(self, model: CostModel, part: BoundCost, factor: float) -> None:
        super().__init__(model, part.space, [part])
        self.factor = factor

    def _costs(self, rows: Rows) -> NDArray[np.float64]:
        return self.factor * self.parts[0](rows)

    def expected(self, probabilities: Probabilities | None = None) -> torch.Tensor:
        return self.factor * self.parts[0].expected(probabilities)


class MaximumCost(_CombinedCost):
    """The largest of several costs. Upper limits on it are as exact as those on its parts."""

    model: Maximum

    def _costs(self, rows: Rows) -> NDArray[np.float64]:
        largest: NDArray[np.float64] = np.max([part(rows) for part in self.parts], axis=0)
        return largest

    def bounds(self, limits: Limits) -> Bounds | None:
        if limits.upper is None:
            return None
        found = [part.bounds(limits) for part in self.parts]
        known = [bounds for bounds in found if bounds is not None]
        if len(known) < len(found):
            return None
        return Bounds(
            tuple(limit for bounds in known for limit in bounds.sums),
            tuple(ceiling for bounds in known for ceiling in bounds.maxima),
        )

    def upper(self, q: float = 0.95) -> BoundCost:
        return MaximumCost(self.model, self.space, [part.upper(q) for part in self.parts])


class ProductCost(_CombinedCost):
    """The product of two costs; its expectation is exact where both are tables."""

    model: Product

    def __init__(self, model: CostModel, space: Space, left: BoundCost, right: BoundCost) -> None:
        super().__init__(model, space, [left, right])

    def _costs(self, rows: Rows) -> NDArray[np.float64]:
        return self.parts[0](rows) * self.parts[1](rows)

    def upper(self, q: float = 0.95) -> BoundCost:
        left, right = (part.upper(q) for part in self.parts)
        return ProductCost(self.model, self.space, left, right)

    def expected(self, probabilities: Probabilities | None = None) -> torch.Tensor:
        """The mean of the product: the product of means, and what varies together.

        Exact for tables whose terms share few decisions, as those of networks do; estimated from
        rows otherwise.
        """
        from symnas.costs.independent import Independent

        left, right = self.parts
        if not isinstance(left, TableCost) or not isinstance(right, TableCost):
            return super().expected(probabilities)
        shared = self._shared
        if shared is None:
            return super().expected(probabilities)
        independent = Independent(self.space, probabilities)
        independent.refuse_rules(
            {*left.table.columns, *right.table.columns}, f"The expected {self.name}"
        )
        products, pairs = shared
        mean = left._multilinear(independent) * right._multilinear(independent)
        mean = mean + products._multilinear(independent)
        ours = [_mean(self.space, term, independent) for term in left.table.terms]
        theirs = [_mean(self.space, term, independent) for term in right.table.terms]
        for i, j in pairs:
            mean = mean - ours[i] * theirs[j]
        return mean

    @cached_property
    def _shared(self) -> tuple[TableCost, list[tuple[int, int]]] | None:
        """Products of the terms that share decisions, and which those are."""
        left, right = self.parts
        assert isinstance(left, TableCost) and isinstance(right, TableCost)
        structure = structure_of(self.space)
        pairs = [
            (i, j)
            for i, a in enumerate(left.table.terms)
            for j, b in enumerate(right.table.terms)
            if set(a.columns) & set(b.columns)
        ]
        scopes = [_union(left.table.terms[i], right.table.terms[j]) for i, j in pairs]
        if sum(structure.entries(scope) for scope in scopes) > MAX_PRODUCT:
            return None
        products = [
            Term(scope, _times(structure, scope, left.table.terms[i], right.table.terms[j]))
            for scope, (i, j) in zip(scopes, pairs, strict=True)
        ]
        return TableCost(self.model, self.space, CostTable(0.0, products)), pairs


def _union(a: Term, b: Term) -> Columns:
    return tuple(sorted({*a.columns, *b.columns}))


def _times(structure: Structure, scope: Columns, a: Term, b: Term) -> NDArray[np.float64]:
    product = aligned(a.values, a.columns, scope) * aligned(b.values, b.columns, scope)
    return np.where(structure.reachable(scope), product, 0.0)


def _mean(space: Space, term: Term, independent: Independent) -> torch.Tensor:
    """The expectation of one term; its unreachable entries are 0."""
    structure = structure_of(space)
    mean = torch.from_numpy(term.values)
    for column in reversed(term.columns):
        weights = independent.tensor(column)
        if structure.conditional[column]:
            weights = torch.cat([weights, torch.ones(1, dtype=torch.float64)])
        mean = mean @ weights
    return mean
