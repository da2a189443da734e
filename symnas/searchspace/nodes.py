"""A compiled program: one node per part that depends on choices, evaluated on a row.

What is made of the parts is the mode's business: `PROGRAM` makes specs again, `BUILD` calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs
import pyglove as pg

from symnas.language.spec import Spec, _build
from symnas.searchspace.decision import FLOAT_LEVELS, unscale

Row = Sequence[int]


class Mode(Protocol):
    """How the parts of a program are put together."""

    def const(self, value: Any) -> Any: ...
    def call(self, cls: type[Spec], args: list[Any], kwargs: dict[str, Any]) -> Any: ...
    def make(self, cls: type, fields: dict[str, Any]) -> Any: ...


class _Program:
    def const(self, value: Any) -> Any:
        return value.clone(deep=True) if isinstance(value, pg.Symbolic) else value

    def call(self, cls: type[Spec], args: list[Any], kwargs: dict[str, Any]) -> Any:
        return cls(*args, **kwargs)

    def make(self, cls: type, fields: dict[str, Any]) -> Any:
        return cls(**fields)


class _BuildMode:
    def const(self, value: Any) -> Any:
        return _build(value)

    def call(self, cls: type[Spec], args: list[Any], kwargs: dict[str, Any]) -> Any:
        return cls.target(*args, **kwargs)

    def make(self, cls: type, fields: dict[str, Any]) -> Any:
        return cls(**fields)


PROGRAM: Mode = _Program()
BUILD: Mode = _BuildMode()


class Node:
    """A part of a compiled program."""

    def value(self, row: Row, mode: Mode) -> Any:
        raise TypeError(type(self).__name__)


@attrs.frozen(eq=False)
class Const(Node):
    """No choice in it."""

    constant: Any

    def value(self, row: Row, mode: Mode) -> Any:
        return mode.const(self.constant)


@attrs.frozen(eq=False)
class Items(Node):
    """A list."""

    items: tuple[Node, ...]

    def value(self, row: Row, mode: Mode) -> Any:
        return [node.value(row, mode) for node in self.items]


@attrs.frozen(eq=False)
class Mapping(Node):
    """A dict."""

    items: tuple[tuple[str, Node], ...]

    def value(self, row: Row, mode: Mode) -> Any:
        return {key: node.value(row, mode) for key, node in self.items}


@attrs.frozen(eq=False)
class Call(Node):
    """A spec with choices among its arguments."""

    cls: type[Spec]
    args: tuple[Node, ...]
    kwargs: tuple[tuple[str, Node], ...]

    def value(self, row: Row, mode: Mode) -> Any:
        args = [node.value(row, mode) for node in self.args]
        return mode.call(self.cls, args, {key: node.value(row, mode) for key, node in self.kwargs})


@attrs.frozen(eq=False)
class Object(Node):
    """A symbolic object of PyGlove's own kind."""

    cls: type
    fields: tuple[tuple[str, Node], ...]

    def value(self, row: Row, mode: Mode) -> Any:
        return mode.make(self.cls, {key: node.value(row, mode) for key, node in self.fields})


@attrs.frozen(eq=False)
class Choice(Node):
    """One of several candidates."""

    column: int
    candidates: tuple[Node, ...]

    def value(self, row: Row, mode: Mode) -> Any:
        return self.candidates[row[self.column]].value(row, mode)


@attrs.frozen(eq=False)
class Picks(Node):
    """Several of several candidates: one column a pick, each with candidates of its own."""

    columns: tuple[int, ...]
    candidates: tuple[tuple[Node, ...], ...]

    def value(self, row: Row, mode: Mode) -> Any:
        return [
            nodes[row[column]].value(row, mode)
            for column, nodes in zip(self.columns, self.candidates, strict=True)
        ]


@attrs.frozen(eq=False)
class Subset(Node):
    """Several of several candidates, distinct and in order: one column over the subsets."""

    column: int
    subsets: tuple[tuple[int, ...], ...]
    candidates: tuple[Node, ...]

    def value(self, row: Row, mode: Mode) -> Any:
        return [self.candidates[i].value(row, mode) for i in self.subsets[row[self.column]]]


@attrs.frozen(eq=False)
class Number(Node):
    """A float."""

    column: int
    low: float
    high: float
    scale: str | None

    def value(self, row: Row, mode: Mode) -> Any:
        return unscale(row[self.column] / (FLOAT_LEVELS - 1), self.low, self.high, self.scale)


@attrs.frozen(eq=False)
class Computed(Node):
    """A value computed from choices."""

    function: Callable[..., Any]
    args: tuple[Node, ...]

    def value(self, row: Row, mode: Mode) -> Any:
        return mode.const(self.function(*(node.value(row, PROGRAM) for node in self.args)))


@attrs.frozen(eq=False)
class Repeated(Node):
    """The first so many of some blocks, in a Sequential."""

    times: Node
    blocks: tuple[Node, ...]
    cls: type[Spec]

    def value(self, row: Row, mode: Mode) -> Any:
        times = self.times.value(row, PROGRAM)
        return mode.call(self.cls, [node.value(row, mode) for node in self.blocks[:times]], {})


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below."""
    match node:
        case Items():
            return node.items
        case Mapping():
            return tuple(n for _, n in node.items)
        case Call():
            return node.args + tuple(n for _, n in node.kwargs)
        case Object():
            return tuple(n for _, n in node.fields)
        case Choice() | Subset():
            return node.candidates
        case Picks():
            return tuple(n for nodes in node.candidates for n in nodes)
        case Computed():
            return node.args
        case Repeated():
            return (node.times, *node.blocks)
    return ()


def columns_of(node: Node) -> set[int]:
    """The columns that a node's value depends on."""
    own: set[int] = set()
    if isinstance(node, Choice | Subset | Number):
        own.add(node.column)
    elif isinstance(node, Picks):
        own.update(node.columns)
    for child in children(node):
        own |= columns_of(child)
    return own
