"""Building many networks of one space quickly: modules made of equal arguments are made once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from symnas.costs.record import Unhashable, signature_of
from symnas.language.spec import Spec, _build, building
from symnas.searchspace import nodes
from symnas.searchspace.space import Space


class Pool:
    """Networks of a space on the meta device, made of modules that are kept and used again.

    Within one network a module is used once; a network lives until the next one is built. A module
    whose arguments hold other modules is always made anew, because it owns them.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._kept: dict[Any, list[torch.nn.Module]] = {}
        self._known: dict[int, Any] = {}
        self._used: dict[Any, int] = {}

    def build(self, row: Sequence[int]) -> tuple[torch.nn.Module, dict[int, Any]]:
        """A row's network, in evaluation mode, and the signatures of kept modules by `id`.

        Raises:
            TypeError: the program builds no torch.nn.Module.
        """
        from symnas.costs.layers import checked

        self._used.clear()
        if self._space._compiled.pyglove_derived:
            made = self._space.decode(row).build(device="meta")
            return checked(made).to("meta").eval(), {}
        with building(), torch.device("meta"):
            made = self._space._compiled.root.value(row, self)
        network = checked(made)
        self._settle(network)
        return network, self._known

    # The mode in which a program's nodes are evaluated: see `symnas.searchspace.nodes`.

    def const(self, value: Any) -> Any:
        if not isinstance(value, Spec):
            return _build(value)
        return self._take(("const", id(value)), lambda: _build(value))

    def call(self, cls: type[Spec], args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            signature = (cls, signature_of(args), signature_of(kwargs))
        except Unhashable:
            return cls.target(*args, **kwargs)
        return self._take(signature, lambda: cls.target(*args, **kwargs))

    def make(self, cls: type, fields: dict[str, Any]) -> Any:
        return nodes.BUILD.make(cls, fields)

    def _settle(self, module: torch.nn.Module) -> None:
        """As `.to("meta").eval()`, without going through what is kept and has been so before."""
        if id(module) in self._known:
            return
        own = (*module._parameters.values(), *module._buffers.values())
        if any(tensor is not None and not tensor.is_meta for tensor in own):
            module.to("meta")
        module.training = False
        for child in module._modules.values():
            if child is not None:
                self._settle(child)

    def _take(self, signature: Any, make: Any) -> Any:
        kept = self._kept.setdefault(signature, [])
        used = self._used.get(signature, 0)
        self._used[signature] = used + 1
        if used < len(kept):
            return kept[used]
        made = make()
        if isinstance(made, torch.nn.Module) and not _is_lazy(made):
            made = made.to("meta").eval()
            kept.append(made)
            self._known[id(made)] = signature
        return made


def _is_lazy(module: torch.nn.Module) -> bool:
    """Whether a module becomes another one when it is first called."""
    return any(isinstance(p, UninitializedTensorMixin) for p in module.parameters())
