"""Choices among a cost model's own options: hardware that is searched together with architectures.

`cm.Roofline(peak=sn.oneof([1e9, 4e9], group="hardware"), ...)` describes machines of two kinds.
`Space.with_hardware` joins such choices with those of the program, and a bound cost then depends on
both: it is priced once for each hardware.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from symnas.costs.accuracy import Accuracy
from symnas.costs.bound_measured import MeasuredCost
from symnas.costs.bound_table import TableCost
from symnas.costs.scopes import TooCoupled
from symnas.costs.structure import Columns, Structure, aligned, structure_of
from symnas.costs.table import CostTable, Term
from symnas.costs.tabulate import pieces_of_space
from symnas.errors import DeclarationError
from symnas.language.choices import contains_choice
from symnas.searchspace import nodes

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.costs.bound import BoundCost
    from symnas.costs.model import CostModel
    from symnas.searchspace.space import Space

# Where choices of hardware stand among those that are not part of the network.
KEY = "hardware"

Options = dict[str, Any]


def or_choice(check: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """An attrs validator that holds each value of a choice to `check`."""

    def each(instance: Any, attribute: Any, value: Any) -> None:
        from symnas.searchspace.possible import possible_values

        for possible in possible_values(value) if contains_choice(value) else [value]:
            check(instance, attribute, possible)

    return each


def options_with_choices(model: CostModel) -> Options:
    """The options of a model that are choices or hold some, by name."""
    return {
        field.name: value
        for field in attrs.fields(type(model))
        if contains_choice(value := getattr(model, field.name))
    }


def hardware_of(costs: Iterable[CostModel]) -> dict[str, Options]:
    """The choices of several cost models, by the model's name and the option's."""
    found: dict[str, Options] = {}
    for cost in costs:
        parts = cost.parts
        found.update(hardware_of(parts))
        if not parts and (options := options_with_choices(cost)):
            found[cost.name] = options
    return found


def resolved(model: CostModel, architecture: Architecture) -> CostModel:
    """The model of the hardware that an architecture comes with.

    Raises:
        DeclarationError: it comes with none.
    """
    values = architecture.task.get(KEY, {}).get(model.name)
    if values is None and architecture.space is not None and architecture.row is not None:
        node = _node(model, architecture.space)
        values = node.value(architecture.row, nodes.PROGRAM)
    if values is None:
        raise DeclarationError(_not_joined(model))
    return attrs.evolve(model, **values)


def bind_hardware(model: CostModel, space: Space) -> BoundCost:
    """A model with choices of its own, bound: its table has their decisions too.

    Linear in the number of machines, each of which is priced: by itself, or with the others where
    the model has `price_each(pieces, models)`, which gives `(models, pieces)` numbers.

    Raises:
        DeclarationError: the choices are not joined with the space.
    """
    node = _node(model, space)
    structure = structure_of(space)
    columns = structure.closed(nodes.columns_of(node))
    if any(structure.floats[c] for c in columns):
        return MeasuredCost(model, space, note="the hardware has float decisions")
    machines: dict[tuple[int, ...], CostModel] = {}
    for index in np.argwhere(structure.reachable(columns)).tolist():
        row = [-1] * len(structure)
        for column, value in zip(columns, index, strict=True):
            row[column] = value if value < structure.sizes[column] else -1
        machines[tuple(index)] = attrs.evolve(model, **node.value(row, nodes.PROGRAM))
    found = _tables(list(machines.values()), space)
    if isinstance(found, str):
        return MeasuredCost(model, space, note=found)
    tables, error = found
    stacked = _stacked(structure, columns, dict(zip(machines, tables, strict=True)))
    return TableCost(model, space, stacked, error)


def _tables(
    machines: Sequence[CostModel], space: Space
) -> tuple[list[CostTable], Accuracy | None] | str:
    """The tables of machines and the error of one, or why there are none."""
    first = machines[0]
    at_once = getattr(first, "price_each", None)
    if at_once is not None and first.tabular:
        try:
            pieces = pieces_of_space(space)
            return pieces.tables_of(lambda given: at_once(given, machines))
        except TooCoupled as problem:
            return str(problem)
    bounds = []
    for machine in machines:
        bound = machine.bind(space)
        if not isinstance(bound, TableCost):
            return bound.note
        bounds.append(bound)
    return [bound.table for bound in bounds], bounds[-1].error


def _stacked(
    structure: Structure, columns: Columns, tables: Mapping[tuple[int, ...], CostTable]
) -> CostTable:
    """One table over hardware and architecture, from one for each hardware."""
    found: dict[Columns, np.ndarray] = {}
    for index, table in tables.items():
        constant = Term((), np.asarray(table.bias))
        for term in itertools.chain(table.terms, [constant]):
            scope = tuple(sorted({*term.columns, *columns}))
            values = found.setdefault(scope, np.zeros(structure.shape(scope)))
            here = tuple(index[columns.index(c)] if c in columns else slice(None) for c in scope)
            inner = tuple(c for c in scope if c not in columns)
            # A choice of the program cannot be one of the hardware, so `inner` are the term's own.
            values[here] += aligned(term.values, term.columns, inner)
    return CostTable(0.0, [Term(scope, values) for scope, values in found.items()])


def _node(model: CostModel, space: Space) -> nodes.Node:
    node = _joined(model, space)
    if node is None and KEY in space._task:
        # Its choices may be those of the space nevertheless, joined under another name.
        joined = space.with_hardware([model])
        node = _joined(model, joined) if joined.columns == space.columns else None
    if node is None:
        raise DeclarationError(_not_joined(model))
    return node


def _joined(model: CostModel, space: Space) -> nodes.Node | None:
    node: nodes.Node | None = space._extras.get("task")
    for key in (KEY, model.name):
        inner = dict(node.items) if isinstance(node, nodes.Mapping) else {}
        node = inner.get(key)
    return node


def _not_joined(model: CostModel) -> str:
    names = ", ".join(options_with_choices(model))
    return (
        f"{model.name} has choices of its own ({names}), which are not part of the space: use "
        "space.with_hardware([cost]), as `sn.search` does, and decide them together with the rest."
    )
