"""The parts of a program, and where they stand."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import pyglove as pg

from symnas.language.choices import Derived, Repeat
from symnas.language.spec import Spec, layout
from symnas.searchspace.labels import labels_of

# The keys from the root to a part; the candidates of a choice are keys too.
Position = tuple[Hashable, ...]


def children_of(value: Any) -> Iterator[tuple[Hashable, Any]]:
    """Parts of a program below `value`, with keys that agree with `_Compiler._visit`'s."""
    if isinstance(value, pg.hyper.DerivedValue | pg.hyper.Float):
        return
    if isinstance(value, pg.hyper.Choices):
        yield from enumerate(value.candidates)
    elif isinstance(value, Derived):
        yield from ((("arg", i), v) for i, v in enumerate(value.args))
    elif isinstance(value, Repeat):
        yield "times", value.times
        yield from ((("block", i), v) for i, v in enumerate(value.blocks))
    elif isinstance(value, Spec):
        args, kwargs = layout(value)
        yield from args
        yield from (((k,), v) for k, v in kwargs.items())
    elif isinstance(value, pg.Object):
        yield from value.sym_init_args.items()
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def common_start(positions: list[Position]) -> Position:
    """The longest start that all positions have."""
    shortest = min(positions, key=len)
    for i, step in enumerate(shortest):
        if any(p[i] != step for p in positions):
            return shortest[:i]
    return shortest


def same_choice(a: Any, b: Any) -> bool:
    """Whether two choices have the same candidates, going by their labels."""
    if type(a) is not type(b):
        return False
    if isinstance(a, pg.hyper.Float):
        return (a.min_value, a.max_value, a.scale) == (b.min_value, b.max_value, b.scale)
    if a.num_choices != b.num_choices or len(a.candidates) != len(b.candidates):
        return False
    return all(
        labels_of((x,)) == labels_of((y,)) for x, y in zip(a.candidates, b.candidates, strict=True)
    )


def describe_choice(choice: Any) -> str:
    """The candidates or bounds of a choice, for messages."""
    if isinstance(choice, pg.hyper.Float):
        return f"{choice.min_value} to {choice.max_value}"
    return "[" + ", ".join(labels_of(tuple(choice.candidates))) + "]"
