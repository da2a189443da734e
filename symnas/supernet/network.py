"""One network of a space, made of templates, with the shared weights put in for each run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from torch import Tensor, nn

from symnas.errors import SymnasError
from symnas.supernet.parts import Call, Row, put_together
from symnas.supernet.templates import Pool, Slot, Template
from symnas.supernet.weights import Store, Weight, _real

if TYPE_CHECKING:
    from symnas.searchspace.space import Space


@attrs.frozen(eq=False)
class _Place:
    """Where a stored weight is put: the dict of a module, and its key there."""

    entries: dict[str, Any]
    key: str
    weight: Weight
    shape: tuple[int, ...] | None  # None: the whole


class Network:
    """One network without weights of its own.

    Args:
        space: whose row it is.
        row: which network.
        pool: of templates.
        store: of weights.

    Attributes:
        module: the network; it can run while its weights are in place.
    """

    def __init__(self, space: Space, row: Row, pool: Pool, store: Store) -> None:
        self.store = store
        self._templates: list[Template] = []
        owners: dict[int, tuple[str, Slot, object]] = {}
        made: dict[int, Template] = {}
        counts: dict[object, int] = {}

        def make(place: str, call: Call) -> Any:
            key = call.key
            number = counts[key] = counts.get(key, -1) + 1
            template = pool(call, number)
            self._templates.append(template)
            if isinstance(template.made, nn.Module):
                made[id(template.made)] = template
            if template.slots:
                own = call.own
                for module in call.modules:
                    if id(module) in made:
                        made[id(module)].exposed = True
                for slot in template.slots:
                    if not slot.alias:
                        owners.setdefault(id(slot.empty), (place, slot, own))
            return template.made

        module = put_together(space._compiled.root, row, make)
        if not isinstance(module, nn.Module):
            raise SymnasError(
                f"The program makes a {type(module).__name__}; a supernet needs a torch.nn.Module."
            )
        self.module = module
        self._places: list[_Place] = []
        self._constants: list[tuple[dict[str, Any], str, Tensor]] = []
        self._find(space, row, owners)

    def _find(self, space: Space, row: Row, owners: dict[int, tuple[str, Slot, object]]) -> None:
        constants: list[tuple[dict[str, Any], str, str, Slot]] = []
        for template in self._templates:
            for held in template.slots:
                # A constructor may have tied it to a weight of another part.
                empty = held.entries[held.key]
                place, slot, own = owners[id(empty)]
                if not slot.shared:
                    constants.append((held.entries, held.key, place, slot))
                    continue
                weight = self.store.weight(place, slot, own)
                shape = tuple(empty.shape)
                whole = shape == weight.shape
                self._places.append(
                    _Place(held.entries, held.key, weight, None if whole else shape)
                )
        if constants:
            values = {
                (place, slot.name): slot.empty
                for place, _, slots in _real(space._compiled.root, row, "")[1]
                for slot in slots
                if not slot.shared
            }
            for entries, key, place, slot in constants:
                self._constants.append((entries, key, values[place, slot.name]))

    def fill(self) -> None:
        """Puts the weights in, as they are now."""
        store = self.store
        for place in self._places:
            tensor = store.tensor(place.weight)
            if place.shape is not None:
                tensor = place.weight.layout.take(tensor, place.shape)
            place.entries[place.key] = tensor
        for entries, key, value in self._constants:
            entries[key] = value
        for template in self._templates:
            for module in template.recurrent:
                names = module._flat_weights_names
                module._flat_weights = [getattr(module, name) for name in names]

    def train(self, mode: bool) -> None:
        """Sets the mode of all its modules, which other networks may have set otherwise."""
        if any(template.training is not mode for template in self._templates):
            self.module.train(mode)
            for template in self._templates:
                template.training = mode
