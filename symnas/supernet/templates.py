"""Modules without weights, one for each different call, into which weights are put for a run."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from symnas.errors import SymnasError
from symnas.language.spec import building
from symnas.supernet.layouts import Layout, layout_of
from symnas.supernet.parts import Call

# Normalisations whose statistics are shared like weights; other buffers are as their maker made
# them (a table of positions is not that of a larger layer).
_STATISTICS = nn.modules.batchnorm._NormBase


# Modules that do nothing to those that they are given but call them.
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@attrs.frozen(eq=False)
class Slot:
    """A parameter or a buffer of a part: where a tensor is to be put before a run.

    Attributes:
        name: within the part; the first of several that are tied.
        entries: the dict of the module that holds it, and its key there.
        empty: what is there before.
        layout: how it lies within a larger one.
        buffer: whether it is no parameter.
        trained: whether its maker lets it have gradients.
        shared: False for buffers that belong to one call alone.
        alias: whether it belongs to a module that was given, and is tied to here.
    """

    name: str
    entries: dict[str, Any]
    key: str
    empty: Tensor
    layout: Layout
    buffer: bool
    trained: bool
    shared: bool
    alias: bool


@attrs.define(eq=False)
class Template:
    """A module of one call, made on the meta device, with the slots of its own weights.

    Attributes:
        made: what the call returned: usually a module.
        slots: of its own parameters and buffers, without those of the modules it was given.
        recurrent: those of its own modules that keep their weights in a list as well.
        changes: what it put in place of weights of the modules that it was given.
        frozen: which of those it froze, or the other way round.
        reshapes: whether it changed what these consist of.
        exposed: whether it was given to one that did so, and may be no other's.
        training: the mode that it was put into.
    """

    made: Any
    slots: tuple[Slot, ...] = ()
    recurrent: tuple[Any, ...] = ()
    changes: tuple[tuple[dict[str, Any], str, Tensor | None], ...] = ()
    frozen: tuple[tuple[Tensor, bool], ...] = ()
    reshapes: bool = False
    exposed: bool = False
    training: bool | None = None

    @classmethod
    def of(cls, call: Call) -> Template:
        """Calls it on the meta device, or else on the CPU with what it makes moved there."""
        if call.target in _CONTAINERS:
            with building():
                return cls(call())
        others = call.within
        given = set(map(id, others))
        held, structure = _held(others), _structure(others)
        trained = [tensor is not None and tensor.requires_grad for _, _, tensor in held]
        made = _called(call, given)
        if not isinstance(made, nn.Module):
            return cls(made)
        reshapes = structure != _structure(others)
        own = own_modules(made, given, reshapes)
        recurrent = tuple(m for _, m in own if isinstance(m, nn.RNNBase))
        changes = tuple(
            (entries, key, entries[key])
            for entries, key, tensor in held
            if key in entries and entries[key] is not tensor
        )
        frozen = tuple(
            (tensor, tensor.requires_grad)
            for (_, _, tensor), before in zip(held, trained, strict=True)
            if tensor is not None and tensor.requires_grad is not before
        )
        return cls(
            made, tuple(slots_of(own, others)), recurrent, changes, frozen, reshapes
        )  # fmt: skip

    @property
    def meddles(self) -> bool:
        """Whether its constructor did something to the weights of modules that it was given."""
        return bool(self.changes or self.frozen or any(slot.alias for slot in self.slots))

    def clear(self) -> None:
        """Takes out what was put in: a constructor that it is given to may write to its weights.

        What its own constructor did to the weights of others, which are cleared before, is done
        again.
        """
        for slot in self.slots:
            slot.entries[slot.key] = slot.empty
            if slot.empty.requires_grad is not slot.trained and not slot.alias:
                slot.empty.requires_grad_(slot.trained)
        for entries, key, tensor in self.changes:
            entries[key] = tensor
        for given, trained in self.frozen:
            given.requires_grad_(trained)


def _held(modules: Sequence[nn.Module]) -> list[tuple[dict[str, Any], str, Tensor | None]]:
    return [
        (entries, key, tensor)
        for module in modules
        for entries in (module._parameters, module._buffers)
        for key, tensor in entries.items()
    ]


def _structure(modules: Sequence[nn.Module]) -> list[Any]:
    return [(type(m), *((key, id(child)) for key, child in m._modules.items())) for m in modules]


def own_modules(
    made: nn.Module, given: set[int], everywhere: bool = True
) -> list[tuple[str, nn.Module]]:
    """A module and those in it, by path, without those that were given to it (by their ids).

    Args:
        made: the module.
        given: ids of modules.
        everywhere: whether there may be own modules within those that were given.
    """
    if everywhere:
        return [(path, m) for path, m in made.named_modules() if id(m) not in given]
    found: dict[int, tuple[str, nn.Module]] = {}
    todo = [("", made)]
    while todo:
        path, module = todo.pop()
        if id(module) in given or id(module) in found:
            continue
        found[id(module)] = (path, module)
        prefix = f"{path}." if path else ""
        children = [(prefix + key, m) for key, m in module._modules.items() if m is not None]
        todo.extend(reversed(children))
    return list(found.values())


def slots_of(own: Sequence[tuple[str, nn.Module]], given: Sequence[nn.Module]) -> Iterator[Slot]:
    """The slots of modules, by path, beside others that were given to them."""
    others = {
        id(t)
        for module in (given if any(m._parameters or m._buffers for _, m in own) else ())
        for t in (*module._parameters.values(), *module._buffers.values())
        if t is not None
    }
    names: dict[int, str] = {}
    for path, module in own:
        prefix = f"{path}." if path else ""
        for buffer, entries in ((False, module._parameters), (True, module._buffers)):
            for key, tensor in entries.items():
                if tensor is None:
                    continue
                if nn.parameter.is_lazy(tensor):
                    raise SymnasError(
                        f"{type(module).__name__} learns its shapes when it first runs, so a supernet "
                        "cannot know them. Give them: nn.Linear instead of nn.LazyLinear."
                    )
                shared = not buffer or isinstance(module, _STATISTICS)
                yield Slot(
                    name=names.setdefault(id(tensor), prefix + key),
                    entries=entries,
                    key=key,
                    empty=tensor,
                    layout=_layout(module, key, tensor) if shared else Layout(),
                    buffer=buffer,
                    trained=tensor.requires_grad,
                    shared=shared,
                    alias=id(tensor) in others,
                )


def _layout(module: nn.Module, key: str, tensor: Tensor) -> Layout:
    found = layout_of(module, key)
    kind = type(module).__name__
    return attrs.evolve(found, meaning=(kind, found.meaning, tensor.ndim, str(tensor.dtype)))


def _called(call: Call, given: set[int]) -> Any:
    with building():
        try:
            with torch.device("meta"), _without_initialisation():
                made = call()
            values = isinstance(made, nn.Module) and _has_values(made, given)
        except Exception:
            # A constructor may ask for numbers (`torch.linspace(0, rate, depth).tolist()`).
            values = True
        if values:
            made = call()
    if isinstance(made, nn.Module):
        emptied: dict[int, Tensor] = {}
        for _, module in own_modules(made, given, everywhere=False):
            _empty(module, emptied)
    return made


def _has_values(made: nn.Module, given: set[int]) -> bool:
    """Whether a module keeps tensors that are no parameters or buffers: they would be lost."""
    return any(
        isinstance(value, Tensor)
        for _, module in own_modules(made, given, everywhere=False)
        for value in vars(module).values()
    )


def _empty(module: nn.Module, emptied: dict[int, Tensor]) -> None:
    """Moves a module's own weights to the meta device; tied ones stay one."""
    for key, tensor in (*module._parameters.items(), *module._buffers.items()):
        if tensor is None or tensor.is_meta:
            continue
        if id(tensor) not in emptied:
            empty = tensor.detach().to("meta")
            if isinstance(tensor, nn.Parameter):
                empty = nn.Parameter(empty, tensor.requires_grad)
            emptied[id(tensor)] = empty
        entries = module._parameters if key in module._parameters else module._buffers
        entries[key] = emptied[id(tensor)]  # type: ignore[assignment]


_INITIALISERS = [name for name in dir(nn.init) if name.endswith("_") and name[0] != "_"]


@contextlib.contextmanager
def _without_initialisation() -> Iterator[None]:
    """Weights on the meta device have no values: not drawing them halves the time."""
    saved = {name: getattr(nn.init, name) for name in _INITIALISERS}

    def nothing(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor

    for name in _INITIALISERS:
        setattr(nn.init, name, nothing)
    try:
        yield
    finally:
        for name, function in saved.items():
            setattr(nn.init, name, function)


@attrs.define
class Pool:
    """Templates by their calls: as many of one call as one network has."""

    size: int
    _kept: dict[Hashable, list[Template]] = attrs.field(factory=dict)
    _by_module: dict[int, Template] = attrs.field(factory=dict)
    _count: int = 0

    def __call__(self, call: Call, number: int) -> Template:
        """The `number`-th template of a call, without weights."""
        key = call.key
        kept = self._kept.setdefault(key, [])
        if number < len(kept) and not kept[number].exposed:
            kept[number].clear()
            return kept[number]
        made = Template.of(call)
        if made.reshapes:
            for module in call.within:
                if id(module) in self._by_module:
                    self._by_module[id(module)].exposed = True
        self._by_module[id(made.made)] = made
        if number < len(kept):
            kept[number] = made
        else:
            kept.append(made)
            self._count += 1
        if self._count > self.size:
            self._kept = {key: kept}
            self._by_module = {id(t.made): t for t in kept}
            self._count = len(kept)
        return made
