"""The shared weights: stored in their largest shapes, from which each network takes its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor, nn

from symnas.errors import SymnasError
from symnas.language.spec import building
from symnas.searchspace import nodes
from symnas.supernet.layouts import Layout
from symnas.supernet.parts import Call, Row, makes_modules, put_together
from symnas.supernet.survey import Part, Survey, Weights
from symnas.supernet.templates import Slot, own_modules, slots_of

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

# How many networks are built for the initial weights, at most.
BUILT = 8


@attrs.frozen(eq=False)
class Weight:
    """A stored parameter or buffer.

    Attributes:
        key: its name in the state of the supernet.
        shape: its own, the largest.
        layout: how smaller ones lie in it.
        trained: whether it may have gradients.
    """

    key: str
    shape: tuple[int, ...]
    layout: Layout
    buffer: bool
    trained: bool


class Store(nn.Module):
    """Parameters and buffers of all parts of a space, by place, name and meaning.

    Args:
        space: whose.
        survey: what was found of them.
    """

    def __init__(self, space: Space, survey: Survey) -> None:
        super().__init__()
        self.space = space
        self.separate = survey.separate
        self.reshaping = set(survey.reshaping)
        self.known: dict[tuple[str, str, object], Weight] = {}
        self._surveyed: Weights = survey.weights
        self._constants: dict[tuple[str, object], dict[str, Tensor]] = {}
        # Follows what is done to the weights: constants that are made later are like it.
        self._like = torch.zeros(())
        self._made = self._like.dtype
        counts: dict[tuple[str, str], int] = {}
        for (place, name, meaning), found in survey.weights.items():
            count = counts[place, name] = counts.get((place, name), 0) + 1
            key = f"{place}:{name.replace('.', '/')}" + (f"#{count}" if count > 1 else "")
            empty = found.slot.empty
            tensor = torch.zeros(found.shape, dtype=empty.dtype)
            if found.slot.buffer:
                self.register_buffer(key, tensor)
            else:
                self.register_parameter(key, nn.Parameter(tensor, found.trained))
            weight = Weight(key, found.shape, found.slot.layout, found.slot.buffer, found.trained)
            self.known[place, name, meaning] = weight
        self._fill(survey.parts)
        del self._surveyed

    def weight(self, place: str, slot: Slot, own: object) -> Weight:
        """The stored weight of a slot of a part.

        Raises:
            SymnasError: it was not found when the supernet was made.
        """
        meaning = slot.layout.meaning
        found = self.known.get((place, slot.name, (meaning, own) if self.separate else meaning))
        shape = tuple(slot.empty.shape)
        if found is None or any(map(int.__gt__, shape, found.shape)):
            raise SymnasError(
                f"The weight {slot.name!r} of shape {shape} of the part at {place or 'the root'!r} was "
                "not found when the supernet was made: too many decisions together say its shape, or "
                "a derived value makes a module. Put the module into sn.oneof([...]) itself, or "
                "restrict the space."
            )
        return found

    def tensor(self, weight: Weight) -> Tensor:
        """What is stored."""
        return self.holder(weight)[weight.key]

    def holder(self, weight: Weight) -> dict[str, Tensor]:
        """Where it is stored, by its key."""
        return self._buffers if weight.buffer else self._parameters  # type: ignore[return-value]

    def constants(self, place: str, call: Call, own: object) -> dict[str, Tensor]:
        """The buffers that belong to one call alone: as its maker makes them, or as they were left."""
        key = (place, own)
        if key not in self._constants:
            with building():
                made = call()
            self._constants[key] = {
                slot.name: self._alike(slot.empty.detach())
                for slot in _slots(made, call.within)
                if not slot.shared
            }
        return self._constants[key]

    def constant(self, place: str, own: object, slot: Slot) -> Tensor:
        """A copy of such a buffer, for a network of its own: as it was left, if it was used."""
        left = self._constants.get((place, own), {}).get(slot.name)
        return self._alike(slot.empty.detach()) if left is None else left.detach().clone()

    def _alike(self, tensor: Tensor) -> Tensor:
        """A tensor on the device of the weights, and in the type that they were converted to."""
        like = self._like
        converted = like.dtype != self._made and tensor.is_floating_point()
        return tensor.to(like.device, like.dtype if converted else None)

    def _apply(self, fn: Any, recurse: bool = True) -> Store:
        self._like = fn(self._like)
        for found in self._constants.values():
            for name, tensor in found.items():
                found[name] = fn(tensor)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    # Initial values ---------------------------------------------------------------------------

    def _fill(self, parts: list[Part]) -> None:
        """Initial values as the authors' constructors draw them.

        Whole networks first, for what a module does to the weights of those that it is given; then
        the parts whose largest weights none of them had, smaller ones first.
        """
        waiting = set(self._surveyed)
        rows = [[min(i, size - 1) for size in self._sizes] for i in range(BUILT)]
        last = [size - 1 for size in self._sizes]
        widest = [self._wide(row) for row in (last, *rows)]
        for row in widest:
            if waiting:
                waiting -= self._copied(self.space._compiled.root, "", row, whole=True)
        places = {part.place: part for part in parts}
        for key in sorted(waiting, key=lambda key: (key[0], key[1])):
            for _, row in sorted(self._surveyed[key].seen.items(), key=lambda item: item[0]):
                self._copied(places[key[0]].node, key[0], row, whole=False, only={key})

    @property
    def _sizes(self) -> list[int]:
        return [c.size for c in self.space._compiled.columns]

    def _wide(self, row: list[int]) -> list[int]:
        """A row with its choices among modules, and the last candidates of all others."""
        wide = [size - 1 for size in self._sizes]
        todo: list[nodes.Node] = [self.space._compiled.root]
        while todo:
            node = todo.pop()
            if isinstance(node, nodes.Choice) and any(map(makes_modules, node.candidates)):
                wide[node.column] = row[node.column]
            elif isinstance(node, nodes.Picks):
                for column in node.columns:
                    wide[column] = row[column]
            todo.extend(nodes.children(node))
        return wide

    def _copied(
        self,
        node: nodes.Node,
        place: str,
        row: list[int],
        whole: bool,
        only: set[tuple[str, str, object]] | None = None,
    ) -> set[tuple[str, str, object]]:
        """Builds a network or a part, and copies its weights; which of them in full."""
        done: set[tuple[str, str, object]] = set()
        try:
            _, made = real(node, row, place)
        except Exception:  # a combination that the space excludes
            return done
        for part in made:
            for slot in part.slots:
                meaning = slot.layout.meaning
                key = (part.place, slot.name, (meaning, part.own) if self.separate else meaning)
                weight = self.known.get(key)
                if (
                    weight is None
                    or not slot.shared
                    or slot.alias
                    or (only is not None and key not in only)
                ):
                    continue
                shape = tuple(slot.empty.shape)
                if any(map(int.__gt__, shape, weight.shape)):
                    continue
                if shape == weight.shape:
                    done.add(key)
                elif whole:
                    continue
                weight.layout.put(self.tensor(weight), slot.empty.detach())
        return done


@attrs.frozen(eq=False)
class RealPart:
    """A part of a network with weights of its own, which are in its slots."""

    place: str
    own: object
    slots: tuple[Slot, ...]


def real(node: nodes.Node, row: Row, place: str = "") -> tuple[Any, list[RealPart]]:
    """A network (or a part of one) with weights of its own, and its parts."""
    found: list[tuple[str, object, nn.Module, list[nn.Module]]] = []
    # A module may tie weights of those that it is given: they belong to the part that made them.
    makers: dict[int, tuple[str, Tensor]] = {}

    def make(place: str, call: Call) -> Any:
        given, own = call.within, call.own
        with building():
            made = call()
        if isinstance(made, nn.Module):
            found.append((place, own, made, given))
            for slot in _slots(made, given):
                makers.setdefault(id(slot.empty), (place, slot.empty))
        return made

    def slots(place: str, made: nn.Module, given: list[nn.Module]) -> Iterator[Slot]:
        for slot in _slots(made, given):
            other = makers.get(id(slot.empty), (place,))[0] != place
            yield attrs.evolve(slot, alias=True) if other else slot

    root = put_together(node, row, make, place)
    # Slots are taken at last: what a module does to those that it was given is to be seen.
    return root, [RealPart(p, own, tuple(slots(p, m, given))) for p, own, m, given in found]


def _slots(made: nn.Module, given: list[nn.Module]) -> Iterator[Slot]:
    return slots_of(own_modules(made, set(map(id, given))), given)
