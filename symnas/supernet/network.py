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


@attrs.define(eq=False)
class Made:
    """A template in a network: its place, the call and the row that it was made of.

    `bound` is what `bound_weights` gives for it alone, once that was asked for.
    """

    template: Template
    place: str
    call: Call
    row: tuple[int, ...] = ()
    bound: Bound | None = None


@attrs.frozen(eq=False)
class _Place:
    """Where a stored weight is put: the dict of a module, and its key there."""

    entries: dict[str, Any]
    key: str
    weight: Weight
    shape: tuple[int, ...] | None  # None: the whole
    index: tuple[slice, ...] | None = None  # what `layout.take` gives, if it is but a slice
    masks: tuple[Mask, ...] = ()
    frozen: bool = False  # in this network alone


@attrs.define(eq=False)
class Bound:
    """What is put where: stored weights, and buffers that belong to one call alone."""

    places: list[_Place] = attrs.field(factory=list)
    constants: list[tuple[dict[str, Any], str, dict[str, Tensor], str]] = attrs.field(factory=list)

    def extend(self, other: Bound) -> None:
        """Takes in another's."""
        self.places.extend(other.places)
        self.constants.extend(other.constants)


@attrs.define
class Context:
    """The row that the part that is made is made of."""

    row: tuple[int, ...] = ()


Masks = Callable[[str, Slot, tuple[int, ...]], tuple[Mask, ...]]


class Network:
    """One network without weights of its own, or several in one.

    Args:
        module: the network; it can run while its weights are in place.
        templates: all that it consists of.
        bound: where which weights are put.
        store: of weights.
        weights: of decisions, for masks.

    Raises:
        SymnasError: it is no module.
    """

    def __init__(
        self,
        module: Any,
        templates: list[Template],
        bound: Bound,
        store: Store,
        weights: Weights | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise SymnasError(
                f"The program makes a {type(module).__name__}; a supernet needs a torch.nn.Module."
            )
        self.module, self.store, self.weights = module, store, weights
        self._templates = templates
        self.places = tuple(bound.places)
        self._constants = bound.constants
        # Nearly all weights are a whole or a slice; a network has hundreds of them.
        self._slices, self._places = [], []
        for place in bound.places:
            if place.masks or place.frozen or (place.shape is not None and place.index is None):
                self._places.append(place)
            else:
                held = store.holder(place.weight)
                self._slices.append((place.entries, place.key, held, place.weight.key, place.index))
        self._recurrent = [module for t in templates for module in t.recurrent]

    @classmethod
    def of(
        cls,
        put: PutTogether,
        pool: Pool,
        store: Store,
        masks: Masks | None = None,
        weights: Weights | None = None,
        context: Context | None = None,
    ) -> Network:
        """A network of templates from a pool.

        Args:
            put: makes it of parts.
            pool: of templates.
            store: of weights.
            masks: of a part's weight in a row; None where nothing is masked.
            weights: of decisions, for the masks.
            context: tells the row.
        """
        made: list[Made] = []
        counts: dict[object, int] = {}

        def make(place: str, call: Call) -> Any:
            key = call.key
            number = counts[key] = counts.get(key, -1) + 1
            row = context.row if context is not None else ()
            made.append(Made(pool(call, number), place, call, row))
            return made[-1].template.made

        module = put(make)
        bound = bound_weights(made, store, masks)
        return cls(module, [m.template for m in made], bound, store, weights)

    def fill(self) -> None:
        """Puts the weights in, as they are now."""
        store = self.store
        for entries, key, held, name, index in self._slices:
            tensor = held[name]
            entries[key] = tensor if index is None else tensor[index]
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
        for module in self._recurrent:
            names = module._flat_weights_names
            module._flat_weights = [getattr(module, name) for name in names]

    def train(self, mode: bool) -> None:
        """Sets the mode of all its modules, which other networks may have set otherwise."""
        if any(template.training is not mode for template in self._templates):
            self.module.train(mode)
            for template in self._templates:
                template.training = mode


def bound_weights(made: list[Made], store: Store, masks: Masks | None = None) -> Bound:
    """Which weights belong to templates, whose slots are empty."""
    owners: dict[int, tuple[Made, Slot]] = {}
    for one in made:
        for slot in one.template.slots:
            if not slot.alias:
                owners.setdefault(id(slot.empty), (one, slot))
    owns = {id(one): one.call.own for one in made if one.template.slots}
    bound = Bound()
    for one in made:
        for held in one.template.slots:
            # A constructor may have tied it to a weight of another part.
            owner, slot = owners[id(held.entries[held.key])]
            own = owns[id(owner)]
            if not slot.shared:
                values = store.constants(owner.place, owner.call, own)
                bound.constants.append((held.entries, held.key, values, slot.name))
                continue
            weight = store.weight(owner.place, slot, own)
            shape = tuple(slot.empty.shape)
            bound.places.append(
                _Place(
                    held.entries,
                    held.key,
                    weight,
                    None if shape == weight.shape else shape,
                    weight.layout.index(weight.shape, shape),
                    masks(owner.place, slot, owner.row) if masks is not None else (),
                    frozen=not slot.empty.requires_grad and weight.trained,
                )
            )
    return bound
