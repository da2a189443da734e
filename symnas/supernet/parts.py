"""The parts of a compiled program that own weights, and networks put together from them.

A *part* is a spec in the program: what its callable builds, without the modules that it is given as
arguments, which are parts themselves. Its place in the program is its name, so that weights keep
their names however the rest of a network changes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol

import attrs
import pyglove as pg
import torch

from symnas.language.spec import Spec, call_of
from symnas.searchspace import nodes

Row = Sequence[int]


class Maker(Protocol):
    """Makes what a part stands for."""

    def __call__(self, place: str, call: Call) -> Any: ...


@attrs.frozen(eq=False)
class Call:
    """A callable with its arguments, which hold the modules of other parts as they are."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """The modules among the arguments: of other parts."""
        return tuple(modules_in((self.args, self.kwargs)))

    @property
    def within(self) -> list[torch.nn.Module]:
        """The modules among the arguments, and those within them."""
        return [inner for module in self.modules for inner in module.modules()]

    @property
    def key(self) -> Hashable:
        """Equal for calls that make the same; of two modules in the arguments if they are one."""
        return (self.target, frozen(self.args), frozen(self.kwargs))

    @property
    def own(self) -> Hashable:
        """As `key`, but all modules are alike: equal where the part itself is the same."""
        return (self.target, frozen(self.args, False), frozen(self.kwargs, False))

    def __call__(self) -> Any:
        return self.target(*self.args, **self.kwargs)

    def __str__(self) -> str:
        name = getattr(self.target, "__name__", repr(self.target))
        given = [*map(_short, self.args), *(f"{k}={_short(v)}" for k, v in self.kwargs.items())]
        return f"{name}({', '.join(given)})"


def put_together(node: nodes.Node, row: Row, make: Maker, place: str = "") -> Any:
    """What a compiled program stands for on a row, its parts made by `make`.

    Args:
        node: the root of the program, or of a part of it.
        row: of the space.
        make: called for each part, those within the arguments of others first.
        place: of the node.
    """
    return Evaluation(row, make).value(node, place)


@attrs.frozen
class Evaluation:
    """Evaluates the nodes of a program on a row."""

    row: Row
    make: Maker

    def value(self, node: nodes.Node, place: str) -> Any:
        match node:
            case nodes.Const():
                return self.constant(node.constant, place)
            case nodes.Items():
                return [self.value(item, below(place, i)) for i, item in enumerate(node.items)]
            case nodes.Mapping():
                return {key: self.value(item, below(place, key)) for key, item in node.items}
            case nodes.Call():
                args = [self.value(arg, below(place, i)) for i, arg in enumerate(node.args)]
                kwargs = {key: self.value(arg, below(place, key)) for key, arg in node.kwargs}
                return self.made(place, Call(node.cls.target, tuple(args), kwargs))
            case nodes.Object():
                fields = {key: self.value(item, below(place, key)) for key, item in node.fields}
                return node.cls(**fields)
            case nodes.Choice():
                chosen = self.row[node.column]
                return self.value(node.candidates[chosen], candidate(place, chosen))
            case nodes.Picks():
                return [
                    self.value(choices[self.row[column]], candidate(below(place, i), chosen))
                    for i, (column, choices) in enumerate(
                        zip(node.columns, node.candidates, strict=True)
                    )
                    for chosen in (self.row[column],)
                ]
            case nodes.Subset():
                return [
                    self.value(node.candidates[i], candidate(place, i))
                    for i in node.subsets[self.row[node.column]]
                ]
            case nodes.Repeated():
                times = node.times.value(self.row, nodes.PROGRAM)
                blocks = [
                    self.value(block, below(place, i))
                    for i, block in enumerate(node.blocks[:times])
                ]
                return self.made(place, Call(node.cls.target, tuple(blocks), {}))
            case nodes.Computed():
                return self.constant(
                    node.function(*(arg.value(self.row, nodes.PROGRAM) for arg in node.args)), place
                )
        return node.value(self.row, nodes.BUILD)

    def made(self, place: str, call: Call) -> Any:
        """What a part stands for."""
        return self.make(place, call)

    def constant(self, value: Any, place: str) -> Any:
        if isinstance(value, Spec):
            target, args, kwargs = call_of(value)
            built = [self.constant(arg, below(place, i)) for i, arg in enumerate(args)]
            named = {key: self.constant(arg, below(place, key)) for key, arg in kwargs.items()}
            return self.made(place, Call(target, tuple(built), named))
        if isinstance(value, dict) and _has_spec(value):
            return {key: self.constant(item, below(place, key)) for key, item in value.items()}
        if isinstance(value, list) and _has_spec(value):
            return [self.constant(item, below(place, i)) for i, item in enumerate(value)]
        return nodes.BUILD.const(value)


def below(place: str, key: Any) -> str:
    """The place of an argument or an item of what stands at `place`."""
    return f"{place}/{key}" if place else str(key)


def candidate(place: str, index: int) -> str:
    """The place of a candidate of the choice that stands at `place`."""
    return f"{place}[{index}]"


def modules_in(value: Any) -> Iterator[torch.nn.Module]:
    """The modules in nested lists, tuples and dicts."""
    if isinstance(value, torch.nn.Module):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from modules_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from modules_in(item)


def frozen(value: Any, apart: bool = True) -> Hashable:
    """A hashable stand-in for an argument: 1, 1.0 and True differ.

    A module is itself with `apart`, otherwise all are alike.
    """
    if isinstance(value, dict):
        return ("dict", tuple((key, frozen(item, apart)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(frozen(item, apart) for item in value))
    if isinstance(value, torch.nn.Module):
        return ("module", id(value) if apart else 0)
    try:
        hash(value)
    except TypeError:
        return ("object", id(value))
    return (type(value), value)


def makes_modules(node: nodes.Node) -> bool:
    """Whether there may be parts in what a node stands for."""
    match node:
        case nodes.Call() | nodes.Repeated():
            return True
        case nodes.Const():
            return _has_spec(node.constant)
        case nodes.Computed():
            return False
    return any(map(makes_modules, nodes.children(node)))


def _has_spec(value: Any) -> bool:
    if isinstance(value, Spec):
        return True
    if isinstance(value, dict):
        return any(map(_has_spec, value.values()))
    return isinstance(value, list | tuple | pg.List) and any(map(_has_spec, value))


def _short(value: Any) -> str:
    if isinstance(value, torch.nn.Module):
        return type(value).__name__
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
