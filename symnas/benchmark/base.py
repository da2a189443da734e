"""`Table`: results of architectures that can be looked up instead of trained."""

from __future__ import annotations

import abc
import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.errors import TrialFailed

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.costs.model import CostModel
    from symnas.searchspace.space import Space
    from symnas.tasks.trial import TrialContext

Rows = NDArray[np.int32]
Values = NDArray[np.float64]

DIRECTIONS = ("maximize", "minimize")
KINDS = ("metric", "cost", "seconds")


@attrs.frozen
class Column:
    """One thing that a table knows of each architecture.

    Attributes:
        name: unique in the table.
        direction: what is better, "maximize" or "minimize".
        unit: of the numbers: "%", "ms".
        kind: "metric" is known only by training; "cost" beforehand (latency, parameters);
            "seconds" is how long the training took.
    """

    name: str = attrs.field(validator=attrs.validators.instance_of(str))
    direction: str = attrs.field(validator=attrs.validators.in_(DIRECTIONS))
    unit: str = ""
    kind: str = attrs.field(default="metric", validator=attrs.validators.in_(KINDS))

    @property
    def sign(self) -> int:
        """What makes larger better: 1 or -1."""
        return 1 if self.direction == "maximize" else -1


class Table(abc.ABC):
    """Results of a space's architectures, to be looked up.

    Attributes:
        name: of the benchmark, for tables and files.
        space: whose rows are looked up.
        columns: what is known, by name.
        budgets: the fidelities, smallest first, in the table's own unit (epochs); () if one.
    """

    name: str
    space: Space
    columns: Mapping[str, Column]
    budgets: tuple[float, ...]

    @abc.abstractmethod
    def look_up(self, rows: Any, budget: float | None = None) -> dict[str, Values]:
        """What is known of `rows` `(n, columns)`: one array `(n,)` a column, NaN where unknown.

        Args:
            rows: of the table's space.
            budget: one of `budgets`; None is the largest.

        Raises:
            ValueError: the shape does not fit the space, or the budget is none of the table's.
        """

    @abc.abstractmethod
    def everything(self) -> Rows | None:
        """All architectures of the table, `(m, columns)`; None where they cannot be listed."""

    @abc.abstractmethod
    def digest(self) -> str:
        """What tells this table from another one with other numbers."""

    def values(self, name: str, rows: Any, budget: float | None = None) -> Values:
        """One column of `look_up`: `(n,)`. A column's name is found as by `column`."""
        return self.look_up(rows, budget)[self.column(name).name]

    def column(self, name: str) -> Column:
        """The column of that name, or the only one whose name ends in `:name`.

        Raises:
            ValueError: there is none, or several.
        """
        if name in self.columns:
            return self.columns[name]
        found = [c for full, c in self.columns.items() if full.endswith(f":{name}")]
        if len(found) == 1:
            return found[0]
        known = [c.name for c in found] or (
            difflib.get_close_matches(name, self.columns, 4, 0.5) or list(self.columns)
        )
        raise ValueError(
            f"The table {self.name} has {'several columns' if found else 'no column'} {name!r}; "
            f"it has {', '.join(known)}."
        )

    def of_kind(self, kind: str) -> list[Column]:
        """The columns of one kind, in their order."""
        return [column for column in self.columns.values() if column.kind == kind]

    def cost(self, name: str) -> CostModel:
        """A "cost" column as a cost model, for constraints and objectives.

        Raises:
            ValueError: there is no such column, or it is known only by training.
        """
        from symnas.benchmark.cost import TabulatedCost

        column = self.column(name)
        if column.kind != "cost":
            costs = ", ".join(c.name for c in self.of_kind("cost")) or "none"
            raise ValueError(
                f"The column {column.name!r} of {self.name} is a {column.kind}: only costs are known "
                f"before training. Its costs: {costs}."
            )
        return TabulatedCost(self, column.name)

    def task(self) -> TableTask:
        """A task for `sn.search` that looks results up, at the trial's budget."""
        return TableTask(self)

    def checked(self, rows: Any) -> Rows:
        """`rows` as an array `(n, columns)` of the table's space.

        Raises:
            ValueError: their shape is another one.
        """
        array: Rows = np.ascontiguousarray(rows, np.int32)
        if array.ndim != 2 or array.shape[1] != len(self.space):
            raise ValueError(
                f"`rows` of shape {array.shape} must be (n, {len(self.space)}) for {self.name}: one "
                "row an architecture. For a single row pass row[None]."
            )
        return array

    def level(self, budget: float | None) -> int:
        """The index of a budget among `budgets`; None stands for the largest, 0 if there are none.

        Raises:
            ValueError: the table does not have it.
        """
        if budget is None:
            return max(0, len(self.budgets) - 1)
        if budget not in self.budgets:
            known = ", ".join(f"{b:g}" for b in self.budgets) or "it has one, so leave it out"
            raise ValueError(f"`budget` ({budget}) is none of those of {self.name}: {known}.")
        return self.budgets.index(budget)


@attrs.frozen(eq=False)
class TableTask:
    """A task that looks up what training would have given."""

    table: Table

    def __call__(self, architecture: Architecture, trial: TrialContext) -> dict[str, float]:
        """The metrics and training seconds that are known of an architecture.

        Raises:
            TrialFailed: nothing is known of it.
        """
        row = row_of(self.table.space, architecture)
        found = self.table.look_up(row[None], trial.budget)
        wanted = [c.name for c in self.table.columns.values() if c.kind != "cost"]
        metrics = {name: float(found[name][0]) for name in wanted if np.isfinite(found[name][0])}
        if not metrics:
            raise TrialFailed(f"the table {self.table.name} does not know this architecture")
        return metrics

    def describe(self) -> dict[str, str]:
        """What makes this task the one it is."""
        return {"table": self.table.name, "digest": self.table.digest()}


def row_of(space: Space, architecture: Architecture) -> Rows:
    """The row `(columns,)` of an architecture, which may be of a space with more decisions."""
    own = architecture.space
    if own is not None and architecture.row is not None:
        columns = columns_in(space, own)
        if columns is not None:
            return np.asarray(np.array(architecture.row, np.int32)[columns], np.int32)
    return space.encode(architecture)


def columns_in(space: Space, other: Space) -> list[int] | None:
    """Where another space has the decisions of `space`; None where it has not all of them."""
    if space is other:
        return list(range(len(space)))
    places = {(d.id, d.labels): i for i, d in enumerate(other.decisions)}
    found = [places.get((d.id, d.labels)) for d in space.decisions]
    return None if None in found else [i for i in found if i is not None]
