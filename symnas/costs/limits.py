"""Limits on costs, as tables that must not exceed something."""

from __future__ import annotations

import attrs

from symnas.costs.table import CostTable, Term


@attrs.frozen(eq=False)
class Limit:
    """`table(row) <= most`, or `<` if strict."""

    table: CostTable
    most: float
    strict: bool = False

    @property
    def columns(self) -> set[int]:
        """The decisions that matter."""
        return set(self.table.columns)


@attrs.frozen(eq=False)
class Ceiling:
    """The largest of some terms, each by itself, is at most `most`: that needs no bins."""

    terms: tuple[Term, ...]
    most: float

    @property
    def columns(self) -> set[int]:
        """The decisions that matter."""
        return {column for term in self.terms for column in term.columns}
