"""Which weights the parts of a space have, in which shapes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import numpy as np

from symnas.errors import SymnasError
from symnas.language.spec import Spec, call_of
from symnas.searchspace import nodes
from symnas.supernet.parts import Row, below, candidate, makes_modules, put_together
from symnas.supernet.templates import Pool, Slot, Template

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

# Up to so many calls of one part are looked at one by one; beyond, one decision at a time, and so
# many at random.
ALL, RANDOM = 64, 24
# Values of a float decision that are looked at.
LEVELS = 3


@attrs.frozen
class Part:
    """A part of the program.

    Attributes:
        place: its name.
        node: what makes it.
        columns: the decisions that its own arguments depend on, not those of parts within.
    """

    place: str
    node: nodes.Node
    columns: tuple[int, ...]


@attrs.define
class Found:
    """A weight of a part.

    Attributes:
        slot: one of those that hold it.
        shape: the largest size of each dimension, over all calls.
        seen: its shapes, each with a row in which it has it.
        trained: whether it may have gradients in one of them.
    """

    slot: Slot
    shape: tuple[int, ...]
    seen: dict[tuple[int, ...], list[int]]
    trained: bool = False


Weights = dict[tuple[str, str, object], Found]


def parts_of(node: nodes.Node, place: str = "") -> Iterator[Part]:
    """The parts of a compiled program, those of candidates that exclude each other as well."""

    def inside(children: list[tuple[nodes.Node, str]]) -> Iterator[Part]:
        for child, where in children:
            if makes_modules(child):
                yield from parts_of(child, where)

    match node:
        case nodes.Const():
            if isinstance(node.constant, Spec):
                yield Part(place, node, ())
                _, args, kwargs = call_of(node.constant)
                given = [*enumerate(args), *kwargs.items()]
                yield from inside([(nodes.Const(a), below(place, key)) for key, a in given])
            elif isinstance(node.constant, dict):
                items = node.constant.items()
                yield from inside([(nodes.Const(v), below(place, k)) for k, v in items])
            elif isinstance(node.constant, list):
                found = enumerate(node.constant)
                yield from inside([(nodes.Const(v), below(place, i)) for i, v in found])
        case nodes.Call():
            arguments = [*enumerate(node.args), *node.kwargs]
            own: set[int] = set()
            for _, argument in arguments:
                if not makes_modules(argument):
                    own |= nodes.columns_of(argument)
            yield Part(place, node, tuple(sorted(own)))
            yield from inside([(a, below(place, key)) for key, a in arguments])
        case nodes.Repeated():
            yield Part(place, node, ())
            yield from inside([(b, below(place, i)) for i, b in enumerate(node.blocks)])
        case nodes.Items():
            yield from inside([(item, below(place, i)) for i, item in enumerate(node.items)])
        case nodes.Mapping():
            yield from inside([(item, below(place, key)) for key, item in node.items])
        case nodes.Object():
            yield from inside([(item, below(place, key)) for key, item in node.fields])
        case nodes.Choice() | nodes.Subset():
            found = enumerate(node.candidates)
            yield from inside([(c, candidate(place, i)) for i, c in found])
        case nodes.Picks():
            for pick, choices in enumerate(node.candidates):
                here = below(place, pick)
                found = enumerate(choices)
                yield from inside([(c, candidate(here, i)) for i, c in found])


class Survey:
    """All weights of a space's parts: found by making the parts on the meta device.

    Args:
        space: what is surveyed.
        pool: of templates.
        separate: whether each call of a part has weights of its own.

    Attributes:
        weights: by place, name and meaning (with `separate`, and call).
        reshaping: places of parts whose constructors change what the modules they are given are
            made of.
        base: a row with the last candidate of every decision; not one of the space's.
    """

    def __init__(self, space: Space, pool: Pool, separate: bool) -> None:
        self.space, self.pool, self.separate = space, pool, separate
        self.sizes = [c.size for c in space._compiled.columns]
        self.base = [size - 1 for size in self.sizes]
        self.weights: Weights = {}
        self.parts = list(parts_of(space._compiled.root))
        self.reshaping: set[str] = set()
        for part in self.parts:
            self._survey(part)

    def _survey(self, part: Part) -> None:
        sizes = [self._values(column) for column in part.columns]
        if math.prod(map(len, sizes)) <= (2**12 if self.separate else ALL):
            for one in itertools.product(*sizes):
                self._look(part, dict(zip(part.columns, one, strict=True)))
            return
        best: dict[int, set[int]] = {
            column: {values[-1]} for column, values in zip(part.columns, sizes, strict=True)
        }
        first = self._look(part, {})
        for column, values in zip(part.columns, sizes, strict=True):
            for value in values:
                found = self._look(part, {column: value})
                if any(
                    a > b
                    for name, shape in found.items()
                    for a, b in zip(shape, first.get(name, shape), strict=False)
                ):
                    best[column].add(value)
        combined = itertools.product(*best.values())
        tried: list[tuple[int, ...]] = list(itertools.islice(combined, ALL))
        rng = np.random.default_rng(0)
        tried += [tuple(int(rng.choice(own)) for own in sizes) for _ in range(RANDOM)]
        for chosen in tried:
            self._look(part, dict(zip(part.columns, chosen, strict=True)))

    def _values(self, column: int) -> list[int]:
        if self.space._compiled.columns[column].kind == "float":
            return [int(v) for v in np.linspace(0, self.sizes[column] - 1, LEVELS)]
        return list(range(self.sizes[column]))

    def _look(self, part: Part, values: dict[int, int]) -> dict[str, tuple[int, ...]]:
        """Makes a part with these values of decisions; its weights' shapes by name."""
        row = list(self.base)
        for column, value in values.items():
            row[column] = value
        templates: dict[str, tuple[Template, object]] = {}
        counts: dict[object, int] = {}

        def make(place: str, call: object) -> object:
            number = counts[call.key] = counts.get(call.key, -1) + 1  # type: ignore[attr-defined]
            template = self.pool(call, number)  # type: ignore[arg-type]
            templates[place] = (template, call.own)  # type: ignore[attr-defined]
            return template.made

        try:
            put_together_at(part, row, make)
        except SymnasError:
            raise
        except Exception:  # not every combination is one of the space: `valid` may exclude it
            return {}
        shapes = {}
        if part.place in templates:
            template, own = templates[part.place]
            if template.reshapes:
                self.reshaping.add(part.place)
            for slot in template.slots:
                if slot.shared and not slot.alias:
                    shapes[slot.name] = tuple(slot.empty.shape)
                    self._note(part.place, slot, own, row)
        return shapes

    def _note(self, place: str, slot: Slot, own: object, row: list[int]) -> None:
        key = (
            place,
            slot.name,
            (slot.layout.meaning, own) if self.separate else slot.layout.meaning,
        )
        shape = tuple(slot.empty.shape)
        found = self.weights.setdefault(key, Found(slot, shape, {}))
        found.seen.setdefault(shape, row)
        found.trained |= slot.trained
        found.shape = tuple(map(max, found.shape, shape))


def put_together_at(part: Part, row: Row, make: object) -> object:
    """The part alone, with the parts within it."""
    return put_together(part.node, row, make, part.place)  # type: ignore[arg-type]
