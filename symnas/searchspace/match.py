"""From a program back to the row it is an instance of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pyglove as pg

from symnas.language.spec import Spec, layout
from symnas.searchspace import nodes
from symnas.searchspace.compile import Compiled
from symnas.searchspace.count import allowed
from symnas.searchspace.decision import FLOAT_LEVELS, rescale

Assignment = dict[int, int]

# A choice that shows only through computed values is found by trying so many combinations.
MAX_COMBINATIONS = 65_536


def find_row(compiled: Compiled, pairs: list[tuple[nodes.Node, Any]]) -> list[int] | None:
    """The row of which the nodes have these values, or None."""
    for assignment, pending in _all(pairs, {}, []):
        for complete in _settle(compiled, assignment, pending):
            row = [complete.get(i, -1) for i in range(len(compiled.columns))]
            if all(
                allowed([row[c] for c in rule.columns if row[c] >= 0], rule)
                for rule in compiled.rules
            ):
                return row
    return None


Pending = list[tuple[nodes.Node, Any]]


def _all(
    pairs: list[tuple[nodes.Node, Any]], assignment: Assignment, pending: Pending
) -> Iterator[tuple[Assignment, Pending]]:
    if not pairs:
        yield assignment, pending
        return
    (node, value), rest = pairs[0], pairs[1:]
    for found, waiting in _match(node, value, assignment, pending):
        yield from _all(rest, found, waiting)


def _match(
    node: nodes.Node, value: Any, assignment: Assignment, pending: Pending
) -> Iterator[tuple[Assignment, Pending]]:
    match node:
        case nodes.Const():
            if equal(node.constant, value):
                yield assignment, pending
        case nodes.Choice():
            for i in _options(node.column, len(node.candidates), assignment):
                yield from _match(
                    node.candidates[i], value, {**assignment, node.column: i}, pending
                )
        case nodes.Number():
            if isinstance(value, int | float) and not isinstance(value, bool):
                slack = 1e-9 * max(abs(node.low), abs(node.high))
                if node.low - slack <= value <= node.high + slack:
                    inside = min(node.high, max(node.low, value))
                    share = rescale(inside, node.low, node.high, node.scale)
                    level = round(share * (FLOAT_LEVELS - 1))
                    if assignment.get(node.column, level) == level:
                        yield {**assignment, node.column: level}, pending
        case nodes.Subset():
            if isinstance(value, list):
                for i in _options(node.column, len(node.subsets), assignment):
                    if len(node.subsets[i]) == len(value):
                        chosen = [node.candidates[j] for j in node.subsets[i]]
                        pairs = list(zip(chosen, value, strict=True))
                        yield from _all(pairs, {**assignment, node.column: i}, pending)
        case nodes.Picks():
            if isinstance(value, list) and len(value) == len(node.columns):
                yield from _match_picks(node, value, 0, assignment, pending)
        case nodes.Items():
            if isinstance(value, list) and len(value) == len(node.items):
                yield from _all(list(zip(node.items, value, strict=True)), assignment, pending)
        case nodes.Mapping():
            if isinstance(value, dict) and set(value) == {k for k, _ in node.items}:
                yield from _all([(n, value[k]) for k, n in node.items], assignment, pending)
        case nodes.Object():
            if type(value) is node.cls:
                fields: Any = value.sym_init_args  # type: ignore[attr-defined]
                yield from _all([(n, fields.get(k)) for k, n in node.fields], assignment, pending)
        case nodes.Call():
            if type(value) is node.cls:
                args, kwargs = layout(value)
                if len(args) == len(node.args) and set(kwargs) >= {k for k, _ in node.kwargs}:
                    extra = set(kwargs) - {k for k, _ in node.kwargs}
                    if all(_is_default(node.cls, k, kwargs[k]) for k in extra):
                        pairs = [(n, v) for n, (_, v) in zip(node.args, args, strict=True)]
                        pairs += [(n, kwargs[k]) for k, n in node.kwargs]
                        yield from _all(pairs, assignment, pending)
        case nodes.Repeated():
            if type(value) is node.cls:
                blocks = [v for _, v in layout(value)[0]]
                if len(blocks) <= len(node.blocks):
                    pairs = list(zip(node.blocks, blocks, strict=False))
                    yield from _all(pairs, assignment, [*pending, (node.times, len(blocks))])
        case nodes.Computed():
            yield assignment, [*pending, (node, value)]


def _match_picks(
    node: nodes.Picks, value: list[Any], pick: int, assignment: Assignment, pending: Pending
) -> Iterator[tuple[Assignment, Pending]]:
    if pick == len(node.columns):
        yield assignment, pending
        return
    column = node.columns[pick]
    for i in _options(column, len(node.candidates[pick]), assignment):
        for found, waiting in _match(
            node.candidates[pick][i], value[pick], {**assignment, column: i}, pending
        ):
            yield from _match_picks(node, value, pick + 1, found, waiting)


def _options(column: int, size: int, assignment: Assignment) -> list[int] | range:
    return [assignment[column]] if column in assignment else range(size)


def _settle(compiled: Compiled, assignment: Assignment, pending: Pending) -> Iterator[Assignment]:
    """Finds the choices that show only through computed values."""
    if not pending:
        yield assignment
        return
    open_ = sorted({c for n, _ in pending for c in nodes.columns_of(n)} - set(assignment))
    sizes = [compiled.columns[c].size for c in open_]
    if math.prod(sizes) > MAX_COMBINATIONS:
        return
    for values in itertools.product(*(range(s) for s in sizes)):
        complete = {**assignment, **dict(zip(open_, values, strict=True))}
        row = [complete.get(i, -1) for i in range(len(compiled.columns))]
        if all(equal(_value(node, row), value) for node, value in pending):
            yield complete


def _value(node: nodes.Node, row: list[int]) -> Any:
    return node.value(row, nodes.PROGRAM)


def equal(a: Any, b: Any) -> bool:
    """Whether two parts of programs are the same; 1, 1.0 and True are not."""
    if isinstance(a, Spec):
        if type(a) is not type(b):
            return False
        left, right = a.sym_init_args, b.sym_init_args
        keys = set(left) | set(right)
        return all(
            equal(left.get(k, pg.MISSING_VALUE), right.get(k, pg.MISSING_VALUE)) for k in keys
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and set(a) == set(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        same = isinstance(b, list) if isinstance(a, list) else isinstance(b, tuple)
        return same and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, bool | int | float | str) or a is None:
        return type(a) is type(b) and a == b
    return bool(pg.eq(a, b))


def _is_default(cls: type[Spec], name: str, value: Any) -> bool:
    parameter = cls.signature.parameters.get(name)
    return parameter is not None and equal(parameter.default, value)
