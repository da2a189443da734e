"""One network of a space, made of templates, with the shared weights put in for each run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from torch import Tensor, nn

from symnas.errors import SymnasError
from symnas.supernet.masks import Mask
from symnas.supernet.mixtures import Weights
from symnas.supernet.parts import Call, Maker
from symnas.supernet.templates import Pool, Slot, Template
from symnas.supernet.weights import Store, Weight

# Makes a network, given what makes its parts.
PutTogether = Callable[[Maker], Any]


@attrs.frozen(eq=False)
class _Place:
    """Where a stored weight is put: the dict of a module, and its key there."""

    entries: dict[str, Any]
    key: str
    weight: Weight
    shape: tuple[int, ...] | None  # None: the whole
    masks: tuple[Mask, ...] = ()
    frozen: bool = False  # in this network alone


@attrs.frozen(eq=False)
class _Owner:
    """The part that a weight on the meta device belongs to."""

    place: str
    slot: Slot
    call: Call
    own: object
    row: tuple[int, ...]


@attrs.define
class Context:
    """The row that the part that is made is made of."""

    row: tuple[int, ...] = ()


Masks = Callable[[str, Slot, tuple[int, ...]], tuple[Mask, ...]]


class Network:
    """One network without weights of its own, or several in one.

    Args:
        put: makes it of parts.
        pool: of templates.
        store: of weights.
        masks: of a part's weight in a row; None where nothing is masked.
        weights: of decisions, for the masks.
        context: tells the row.

    Attributes:
        module: the network; it can run while its weights are in place.
    """

    def __init__(
        self,
        put: PutTogether,
        pool: Pool,
        store: Store,
        masks: Masks | None = None,
        weights: Weights | None = None,
        context: Context | None = None,
    ) -> None:
        self.store, self.weights = store, weights
        self._templates: list[Template] = []
        owners: dict[int, _Owner] = {}
        counts: dict[object, int] = {}

        def make(place: str, call: Call) -> Any:
            key = call.key
            number = counts[key] = counts.get(key, -1) + 1
            template = pool(call, number)
            self._templates.append(template)
            if template.slots:
                own, row = call.own, context.row if context is not None else ()
                for slot in template.slots:
                    if not slot.alias:
                        owner = _Owner(place, slot, call, own, row)
                        owners.setdefault(id(slot.empty), owner)
            return template.made

        module = put(make)
        if not isinstance(module, nn.Module):
            raise SymnasError(
                f"The program makes a {type(module).__name__}; a supernet needs a torch.nn.Module."
            )
        self.module = module
        self._places: list[_Place] = []
        self._constants: list[tuple[dict[str, Any], str, dict[str, Tensor], str]] = []
        self._find(owners, masks)

    def _find(
        self,
        owners: dict[int, _Owner],
        masks: Masks | None,
    ) -> None:
        for template in self._templates:
            for held in template.slots:
                # A constructor may have tied it to a weight of another part.
                owner = owners[id(held.entries[held.key])]
                slot = owner.slot
                if not slot.shared:
                    values = self.store.constants(owner.place, owner.call, owner.own)
                    self._constants.append((held.entries, held.key, values, slot.name))
                    continue
                weight = self.store.weight(owner.place, slot, owner.own)
                shape = tuple(slot.empty.shape)
                own_masks = masks(owner.place, slot, owner.row) if masks is not None else ()
                own_frozen = not slot.empty.requires_grad and weight.trained
                self._places.append(
                    _Place(
                        held.entries, held.key, weight, None if shape == weight.shape else shape,
                        own_masks, own_frozen,
                    )
                )  # fmt: skip

    def fill(self) -> None:
        """Puts the weights in, as they are now."""
        store = self.store
        for place in self._places:
            tensor = store.tensor(place.weight)
            if place.frozen:
                tensor = tensor.detach()
            if place.shape is not None:
                tensor = place.weight.layout.take(tensor, place.shape)
            for mask in place.masks:
                assert self.weights is not None
                tensor = tensor * mask(self.weights, tensor.device, tensor.dtype)
            place.entries[place.key] = tensor
        for entries, key, values, name in self._constants:
            entries[key] = values[name]
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
