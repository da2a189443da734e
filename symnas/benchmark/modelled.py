"""`Modelled`: a table that predicts what nobody measured, from what somebody did.

Surrogate benchmarks: J. Siems, L. Zimmer, A. Zela et al., "NAS-Bench-301 and the Case for Surrogate
Benchmarks for Neural Architecture Search", arXiv:2008.09777, Section 3. What is ours: the noise of
trainings is left out, so the same row always gives the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from symnas.benchmark.base import Column, Rows, Table, Values
from symnas.benchmark.tabulated import Tabulated
from symnas.searchspace.space import Space

if TYPE_CHECKING:
    from symnas.predictors.base import Fitted, Held, Predictor

# Spaces of up to so many architectures are listed.
LISTED = 200_000
# Stands for all budgets, where a result does not depend on them.
EVERY = -1


@attrs.frozen(eq=False)
class Modelled(Table):
    """A table of predictions for every architecture of a space. Made by `Modelled.fit`.

    Attributes:
        name, space, columns, budgets: of the table; they are those of what it was fitted to.
        held: by column and index of the budget (-1 where it does not matter), predictions of
            results that a model like this one was not fitted to: `table.held["ms", -1].tau`.
    """

    name: str
    space: Space
    columns: Mapping[str, Column]
    budgets: tuple[float, ...]
    held: Mapping[tuple[str, int], Held] = attrs.field(repr=False)
    _fitted: Mapping[tuple[str, int], Fitted] = attrs.field(repr=False)
    _digest: str = attrs.field(repr=False)

    @classmethod
    def fit(
        cls,
        table: Tabulated,
        predictor: Predictor,
        *,
        columns: list[str] | None = None,
        folds: int = 5,
        seed: int = 0,
        name: str | None = None,
    ) -> Modelled:
        """Fits one model to each column, and says how well models like it do on held-out rows.

        Args:
            table: what is known.
            predictor: what is fitted, such as `sn.predictors.GaussianProcess()`.
            columns: the columns to keep; None: all.
            folds: parts that are held out in turn, to measure the error.
            seed: of the parts, and of the predictor.
            name: of the new table.

        Raises:
            ValueError: a column is none of the table's, or has fewer known results than folds.
        """
        from symnas.predictors.base import held_out

        kept = [table.column(c) for c in columns] if columns else list(table.columns.values())
        held: dict[tuple[str, int], Held] = {}
        fitted: dict[tuple[str, int], Fitted] = {}
        for column in kept:
            results = table.results[column.name]
            levels = [EVERY] if results.ndim == 1 else list(range(results.shape[1]))
            for level in levels:
                values = results if level == EVERY else results[:, level]
                known = np.isfinite(values)
                if not known.any():
                    continue
                rows, values = table.rows[known], values[known]
                held[column.name, level] = held_out(
                    predictor, table.space, rows, values, folds, seed
                )
                fitted[column.name, level] = predictor.fit(table.space, rows, values, seed)
        names = {column.name: column for column in kept}
        digest = hashlib.sha256(
            repr((table.digest(), repr(predictor), seed, list(names))).encode()
        ).hexdigest()[:16]
        return cls(
            name or f"{table.name}, modelled", table.space, names, table.budgets, held, fitted, digest
        )  # fmt: skip

    def look_up(self, rows: Any, budget: float | None = None) -> dict[str, Values]:
        return {name: self.values(name, rows, budget) for name in self.columns}

    def values(self, name: str, rows: Any, budget: float | None = None) -> Values:
        name, rows, level = self.column(name).name, self.checked(rows), self.level(budget)
        fitted = self._fitted.get((name, EVERY)) or self._fitted.get((name, level))
        if fitted is None or not len(rows):
            return np.full(len(rows), np.nan)
        return np.asarray(fitted.predict(rows), np.float64)

    def everything(self) -> Rows | None:
        if self.space.has_floats or self.space.size > LISTED:
            return None
        return np.concatenate(list(self.space.enumerate()))

    def digest(self) -> str:
        return self._digest
