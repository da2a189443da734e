"""How much memory activations hold at each operation of a network, on shapes alone.

A tensor counts from the operation that makes it until nothing refers to it any more, as in torch's
eager execution; views and operations in place make nothing. Workspace of single operations and the
allocator's own overhead are not seen.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.utils._python_dispatch import TorchDispatchMode

from symnas.costs.pieces import tensors
from symnas.costs.record import (
    Place,
    Recipe,
    Unhashable,
    decomposes,
    makes,
    module_calls,
    signature_of,
)

# Bytes at each place, in order of execution.
Trace = list[tuple[Place, int]]


@attrs.define
class LiveMemo:
    """What was found in earlier runs: results of operations, and traces of known modules."""

    results: dict[Any, Recipe] = attrs.field(factory=dict)
    blocks: dict[Any, tuple[Trace, Recipe]] = attrs.field(factory=dict)


def live_bytes(
    network: torch.nn.Module,
    shape: tuple[int, ...],
    known: Mapping[int, Any] | None = None,
    memo: LiveMemo | None = None,
) -> Trace:
    """The bytes that activations hold after each operation that makes a tensor.

    Args:
        network: on the meta device, in evaluation mode.
        shape: of the example, without the batch.
        known: signatures of modules by `id`, where the caller knows that modules are equal.
        memo: of earlier runs.
    """
    session = _Live(network, known or {}, memo or LiveMemo())
    with session.patched(), torch.no_grad():
        network(torch.empty(1, *shape, device="meta"))
    return session.trace


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, network: torch.nn.Module, known: Mapping[int, Any], memo: LiveMemo) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known, self.memo = known, memo
        self.trace: Trace = []
        self._live = 0
        # Parameters are there anyway: what is a view of one makes nothing.
        self._held = {
            tensor.untyped_storage()._cdata
            for tensor in (*network.parameters(), *network.buffers())
            if not isinstance(tensor, UninitializedTensorMixin)
        }
        self._path = ""
        self._ours = False
        self._times: dict[tuple[str, str], int] = {}
        self._paths: dict[int, str] = {}
        for path, module in network.named_modules():
            self._paths.setdefault(id(module), path)

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Calls of the network's modules and operations come here meanwhile."""
        with module_calls(self._paths, self._module), self:
            yield

    def note(self, path: str, name: str, extra: int = 0) -> None:
        """Writes down what is held now, and as much again as `extra` says."""
        times = self._times.get((path, name), 0)
        self._times[(path, name)] = times + 1
        self.trace.append(((path, name, times), self._live + extra))

    def _module(self, module: torch.nn.Module, call: Any, args: Any, kwargs: Any) -> Any:
        before, self._path = self._path, self._paths[id(module)]
        try:
            signature = (self.known[id(module)], signature_of((args, kwargs)))
        except (KeyError, Unhashable):
            signature = None
        try:
            if signature is None:
                return call(module, *args, **kwargs)
            return self._block(module, call, signature, args, kwargs)
        finally:
            self._path = before

    def _block(
        self, module: torch.nn.Module, call: Any, signature: Any, args: Any, kwargs: Any
    ) -> Any:
        """A module that is known to be equal to others: it holds as much more as they did."""
        path, base = self._path, self._live
        found = self.memo.blocks.get(signature)
        if found is not None:
            trace, recipe = found
            for (inner, name, _), more in trace:
                self.note(f"{path}.{inner}" if inner and path else path or inner, name, more)
            with self._unseen():
                output = recipe.make(fresh=True)
            for tensor in tensors(output):
                self._hold(tensor)
            return output
        start = len(self.trace)
        output = call(module, *args, **kwargs)
        given = {t.untyped_storage()._cdata for t in tensors((args, kwargs))}
        if not any(t.untyped_storage()._cdata in given for t in tensors(output)):
            cut = len(path) + 1 if path else 0
            inside = [
                ((place[0][cut:], place[1], 0), live - base) for place, live in self.trace[start:]
            ]
            with contextlib.suppress(Unhashable), self._unseen():
                self.memo.blocks[signature] = (inside, Recipe(output))
        return output

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._ours:
            return func(*args, **kwargs)
        if makes(func):
            output = func(*args, **{**kwargs, "device": "meta"} if "device" in kwargs else kwargs)
        else:
            if decomposes(func):
                with self:
                    output = func.decompose(*args, **kwargs)
                    if output is not NotImplemented:
                        return output
            output = self._result(func, args, kwargs)
        if sum(map(self._hold, tensors(output))):
            self.note(self._path, func.overloadpacket.__name__)
        return output

    def _result(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func.is_view or func._schema.is_mutable:
            return func(*args, **kwargs)
        try:
            signature = (func, signature_of((args, kwargs)))
            recipe = self.memo.results.get(signature)
            if recipe is None:
                recipe = self.memo.results[signature] = Recipe(func(*args, **kwargs))
            return recipe.make(fresh=True)
        except Unhashable:
            return func(*args, **kwargs)

    @contextlib.contextmanager
    def _unseen(self) -> Iterator[None]:
        """Tensors that are made meanwhile are not the network's."""
        self._ours = True
        try:
            yield
        finally:
            self._ours = False

    def _hold(self, tensor: torch.Tensor) -> bool:
        """Counts a tensor's memory as long as anything refers to it; tells whether it is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._held:
            return False
        self._held.add(key)
        size = storage.nbytes()
        self._live += size
        weakref.finalize(storage, self._free, key, size).atexit = False
        return True

    def _free(self, key: int, size: int) -> None:
        self._held.discard(key)
        self._live -= size
