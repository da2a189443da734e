"""Makes networks of rows quickly: parts are made once for each of their choices, and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import attrs

from symnas.searchspace import nodes
from symnas.supernet.network import Bound, Made, Network, bound_weights
from symnas.supernet.parts import Call, Evaluation, Row, makes_modules
from symnas.supernet.templates import Template
from symnas.supernet.weights import Store


@attrs.frozen(eq=False)
class _Subtree:
    """What stands at a place for some choices, and all templates in it, innermost first."""

    value: Any
    made: tuple[Made, ...]


class Assembler:
    """Networks of one program, for one row after the other.

    What stands at a place depends on few decisions: it is kept for each of their values, and a
    network of a new row is put together of what earlier ones had there. Two places never share
    modules, so that any two may be in one network.

    Args:
        root: of the program.
        store: of weights.
        size: how many subtrees are kept.
        forget: called when networks that were made before may not be used any more.
    """

    def __init__(
        self, root: nodes.Node, store: Store, size: int, forget: Callable[[], Any] = lambda: None
    ) -> None:
        self.root, self.store, self.size, self.forget = root, store, size, forget
        self.kept: OrderedDict[Hashable, _Subtree] = OrderedDict()
        self._columns: dict[int, tuple[int, ...]] = {}

    def __call__(self, row: Row) -> Network:
        """The network of a row."""
        evaluation = _Assembling(row, _refused, self)
        module = evaluation.value(self.root, "")
        made = evaluation.made_so_far
        templates = [one.template for one in made]
        if any(template.meddles for template in templates):
            # What a constructor did to the weights of others depends on the whole network.
            for template in templates:
                template.clear()
            bound = bound_weights(made, self.store)
        else:
            bound = Bound()
            for one in made:
                bound.extend(self._bound(one))
        while len(self.kept) > self.size:
            self.kept.popitem(last=False)
        return Network(module, templates, bound, self.store)

    def columns_of(self, node: nodes.Node) -> tuple[int, ...]:
        """The decisions that a node depends on."""
        found = self._columns.get(id(node))
        if found is None:
            found = self._columns[id(node)] = tuple(sorted(nodes.columns_of(node)))
        return found

    def _bound(self, one: Made) -> Bound:
        if one.bound is None:
            one.template.clear()
            one.bound = bound_weights([one], self.store)
        return one.bound


def _refused(place: str, call: Call) -> Any:
    raise AssertionError(place)


@attrs.frozen
class _Assembling(Evaluation):
    """Evaluates a program, with what is kept of it."""

    assembler: Assembler
    made_so_far: list[Made] = attrs.field(factory=list)
    starts: list[int] = attrs.field(factory=list)  # of what is made for the parts around
    inside: list[str] = attrs.field(factory=list)  # places that change what they are given

    def value(self, node: nodes.Node, place: str) -> Any:
        if not isinstance(node, nodes.Call | nodes.Const | nodes.Repeated):
            return Evaluation.value(self, node, place)
        kept, reshaping = self.assembler.kept, self.assembler.store.reshaping
        key = (place, *(self.row[column] for column in self.assembler.columns_of(node)))
        # What a constructor changes is its own: made anew for each, and kept with it alone.
        found = None if self.inside else kept.get(key)
        if found is not None:
            kept.move_to_end(key)
            self.made_so_far.extend(found.made)
            return found.value
        start = len(self.made_so_far)
        self.starts.append(start)
        inside = [place] if place in reshaping else []
        self.inside.extend(inside)
        value = Evaluation.value(self, node, place)
        del self.inside[len(self.inside) - len(inside) :]
        self.starts.pop()
        made = tuple(self.made_so_far[start:])
        if made and made[-1].template.reshapes and place not in reshaping:
            # It was not foreseen. Others may have been given the same modules.
            reshaping.add(place)
            kept.clear()
            self.assembler.forget()
        if not self.inside and (not isinstance(node, nodes.Const) or makes_modules(node)):
            kept[key] = _Subtree(value, made)
        return value

    def made(self, place: str, call: Call) -> Any:
        for one in self.made_so_far[self.starts[-1] :]:
            # A constructor may write to the weights of what it is given: not to the stored ones.
            one.template.clear()
        self.made_so_far.append(Made(Template.of(call), place, call))
        return self.made_so_far[-1].template.made
