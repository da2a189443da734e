"""`LabelledTerm`: a term of a cost table by names and labels, as people write and files hold it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from symnas.costs.structure import Structure, structure_of
from symnas.costs.table import Term

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

# The label that stands for a decision that is not active.
INACTIVE = "(inactive)"
Labels = tuple["str | None", ...]


@attrs.frozen
class LabelledTerm:
    """What a few decisions together add to the cost.

    Attributes:
        decisions: ids or names.
        costs: labels, one for each decision, and the cost added where all of them are chosen.
            None stands for any label, `INACTIVE` for a decision that is not active.
        complete: whether each combination of labels must be there; otherwise what is not there
            costs nothing. Inactive ones need not be.
    """

    decisions: tuple[str, ...]
    costs: tuple[tuple[Labels, float], ...]
    complete: bool = False

    def data(self) -> dict[str, Any]:
        """As data for JSON; nested by labels if complete, else a list of conditions."""
        if not self.complete:
            entries = []
            for labels, cost in self.costs:
                pairs = zip(self.decisions, labels, strict=True)
                entries.append({"when": {d: x for d, x in pairs if x is not None}, "cost": cost})
            return {"decisions": list(self.decisions), "costs": entries}
        nested: dict[str, Any] = {}
        for labels, cost in self.costs:
            inner = nested
            for label in labels[:-1]:
                inner = inner.setdefault(str(label), {})
            inner[str(labels[-1])] = cost
        return {"decisions": list(self.decisions), "costs": nested}


def term_of(data: Any, where: str) -> LabelledTerm:
    """A term from data: `{"decisions": [...], "costs": ...}`.

    Args:
        data: `costs` nested by the decisions' labels in order, or a list of
            `{"when": {decision: label}, "cost": number}`.
        where: it stands, for messages.

    Raises:
        ValueError: something is missing, unknown or of the wrong kind; the message says where.
    """
    if isinstance(data, LabelledTerm):
        return data
    fields(data, where, required=("decisions", "costs"))
    names = data["decisions"]
    if not isinstance(names, list | tuple) or not names:
        raise _wrong(f"{where}.decisions", names, "a list of at least one decision's id or name")
    for i, name in enumerate(names):
        if not isinstance(name, str) or names.count(name) > 1:
            raise _wrong(f"{where}.decisions[{i}]", name, "an id or a name, each once")
    decisions, costs = tuple(names), data["costs"]
    if isinstance(costs, Mapping):
        nested = tuple(_nested(costs, decisions, f"{where}.costs", ()))
        return LabelledTerm(decisions, nested, complete=True)
    if not isinstance(costs, list | tuple):
        raise _wrong(
            f"{where}.costs", costs, "an object nested by labels, or a list of when and cost"
        )
    found: dict[Labels, float] = {}
    for i, entry in enumerate(costs):
        place = f"{where}.costs[{i}]"
        fields(entry, place, required=("when", "cost"))
        labels = _when(entry["when"], decisions, f"{place}.when")
        if labels in found:
            raise _wrong(f"{place}.when", entry["when"], "stated once; an entry before has it")
        found[labels] = number(entry["cost"], f"{place}.cost")
    return LabelledTerm(decisions, tuple(found.items()))


def _nested(
    data: Any, decisions: Sequence[str], where: str, labels: tuple[str, ...]
) -> Iterator[tuple[Labels, float]]:
    if len(labels) == len(decisions):
        yield labels, number(data, where)
        return
    if not isinstance(data, Mapping) or not data:
        wanted = f"an object with one entry for each label of {decisions[len(labels)]!r}"
        raise _wrong(where, data, wanted)
    for label, inner in data.items():
        yield from _nested(inner, decisions, f"{where}[{str(label)!r}]", (*labels, str(label)))


def _when(data: Any, decisions: tuple[str, ...], where: str) -> Labels:
    if not isinstance(data, Mapping):
        raise _wrong(where, data, 'an object such as {"kernel": "3"}')
    for name, label in data.items():
        if name not in decisions:
            raise _wrong(f"{where}[{name!r}]", label, f"of one of the term's decisions {decisions}")
        if not isinstance(label, str | int | float | None):
            raise _wrong(f"{where}[{name!r}]", label, "a label")
    return tuple(str(data[name]) if name in data else None for name in decisions)


def fields(
    data: Any, where: str, required: Sequence[str] = (), optional: Sequence[str] = ()
) -> None:
    """Checks that data is an object with these fields and no others.

    Raises:
        ValueError: it is not.
    """
    known = [*required, *optional]
    if not isinstance(data, Mapping):
        raise _wrong(where, data, f"an object with the fields {', '.join(known)}")
    for name in required:
        if name not in data:
            raise ValueError(f"{where}: the field {name!r} is missing; there must be one.")
    for name in data:
        if name not in known:
            raise ValueError(
                f"{where}: the field {name!r} is not known; the fields are {', '.join(known)}."
            )


def number(value: Any, where: str) -> float:
    """A finite number.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(where, value, "a finite number")
    return float(value)


def text(value: Any, where: str) -> str:
    """A text that is not empty.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str) or not value:
        raise _wrong(where, value, "a text that is not empty")
    return value


def _wrong(where: str, value: Any, wanted: str) -> ValueError:
    return ValueError(f"{where} ({value!r:.60}) must be {wanted}.")


# A space's columns -------------------------------------------------------------------------------


class Columns:
    """The columns of a space by the ids and names of their decisions."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.structure: Structure = structure_of(space)
        self.by_id = {d.id: i for i, d in enumerate(space.decisions)}
        self.by_name: dict[str, list[int]] = {}
        for i, decision in enumerate(space.decisions):
            if decision.name is not None:
                self.by_name.setdefault(decision.name, []).append(i)

    def find(self, name: str, where: str) -> int:
        """The column of an id or a name.

        Raises:
            ValueError: there is none, or several have the name.
        """
        if name in self.by_id:
            return self.by_id[name]
        found = self.by_name.get(name, [])
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(repr(self.space.decisions[i].id) for i in found)
            raise ValueError(f"{where}: several decisions are named {name!r}; use an id: {ids}.")
        known = [*self.by_name, *self.by_id]
        close = difflib.get_close_matches(name, known, 3) or known[:6]
        raise ValueError(
            f"{where}: the space has no decision {name!r}. It has, among others, "
            f"{', '.join(map(repr, close))}. Rename it in the table, or name the decision in the "
            "space (`sn.oneof(..., name=...)`)."
        )

    def name(self, column: int) -> str:
        """What a column is best called in a file: its name where that is unique, else its id."""
        decision = self.space.decisions[column]
        unique = decision.name is not None and len(self.by_name[decision.name]) == 1
        return str(decision.name) if unique and decision.name not in self.by_id else decision.id

    def labels(self, column: int) -> list[str]:
        """The labels along a column's axis of a table."""
        inactive = [INACTIVE] if self.structure.conditional[column] else []
        return [*self.space.decisions[column].labels, *inactive]

    def term(self, labelled: LabelledTerm, where: str) -> Term:
        """A term over columns.

        Raises:
            ValueError: a decision or a label is not one of the space, or a cost is missing.
        """
        columns = [self.find(name, f"{where}.decisions") for name in labelled.decisions]
        if len(set(columns)) < len(columns):
            raise ValueError(f"{where}.decisions {labelled.decisions} name one decision twice.")
        for column in columns:
            if self.structure.floats[column]:
                raise ValueError(
                    f"{where}.decisions: {self.space.decisions[column].id!r} is a number with too "
                    "many values for a table; only decisions between candidates can be in one."
                )
        axes = [{label: i for i, label in enumerate(self.labels(c))} for c in columns]
        values = np.zeros([len(axis) for axis in axes])
        given = np.zeros(values.shape, bool)
        for labels, cost in labelled.costs:
            index = tuple(
                slice(None) if label is None else _position(label, axis, name, where)
                for label, axis, name in zip(labels, axes, labelled.decisions, strict=True)
            )
            values[index] += cost
            given[index] = True
        if labelled.complete:
            self._check_complete(columns, given, labelled, where)
        order = np.argsort(columns)
        return Term(tuple(sorted(columns)), values.transpose(order))

    def _check_complete(
        self, columns: list[int], given: Any, labelled: LabelledTerm, where: str
    ) -> None:
        active = tuple(slice(self.structure.sizes[c]) for c in columns)
        missing = np.argwhere(~given[active])
        if len(missing):
            labels = [self.labels(c)[i] for c, i in zip(columns, missing[0], strict=True)]
            chosen = ", ".join(f"{d}={x}" for d, x in zip(labelled.decisions, labels, strict=True))
            raise ValueError(
                f"{where}.costs has no cost for {chosen} ({len(missing)} are missing); nested "
                'costs must be complete. Use a list of {"when": ..., "cost": ...} for few of them.'
            )

    def labelled(self, term: Term) -> LabelledTerm:
        """A term over columns, by names and labels."""
        names = tuple(self.name(c) for c in term.columns)
        labels = [self.labels(c) for c in term.columns]
        complete = not any(self.structure.conditional[c] for c in term.columns)
        costs = tuple(
            (tuple(axis[i] for axis, i in zip(labels, index, strict=True)), float(value))
            for index, value in np.ndenumerate(term.values)
            if complete or value
        )
        return LabelledTerm(names, costs, complete)


def _position(label: str, axis: Mapping[str, int], name: str, where: str) -> int:
    if label not in axis:
        raise ValueError(
            f"{where}.costs: {label!r} is no label of the decision {name!r}; its labels are "
            f"{', '.join(map(repr, axis))}."
        )
    return axis[label]
