"""Running a network on shapes alone, and writing down the pieces of its execution.

What a piece does follows from its signature: for a layer, its type, plain attributes, parameter
shapes and input shapes; for an operation, its arguments. So each signature is run once, and later
calls only look up what came out. That makes a run of a known network some thirty times faster.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from symnas.costs.layers import shape_network
from symnas.costs.pieces import Operation, Piece, tensors

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture

# Where in a network a piece is: the module's path, what is called there, and the how-manieth time.
Place = tuple[str, str, int]
Run = list[tuple[Place, int]]

_CALL = torch.nn.Module.__call__
_PLAIN = (bool, int, float, str, torch.dtype, torch.Size, type(None))
# A view, though it does not say so.
_FREE = {torch.ops.aten._unsafe_view.default}
# What every module has, and what says nothing about its cost.
_OWN = {*torch.nn.Module().__dict__, "_is_full_backward_hook", "forward"}


class _ShapeChanged(BaseException):
    """A tensor got another shape in place, and with it what was looked up elsewhere."""


class Unhashable(Exception):
    """A value that cannot be part of a signature."""


class Recorder:
    """Runs networks of the meta device and numbers the distinct pieces of what they do.

    Attributes:
        pieces: all that were met, by number.
    """

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        # Whether equal results must be different tensors, as an author changes shapes in place.
        self.fresh = False
        self._numbers: dict[Any, int] = {}
        self._layers: dict[Any, tuple[int, Any]] = {}
        self._results: dict[Any, Any] = {}
        self._blocks: dict[Any, tuple[Run, Any]] = {}

    def run(
        self, network: torch.nn.Module, shape: tuple[int, ...], known: dict[int, Any] | None = None
    ) -> Run:
        """The pieces of one run on a single example, in order of execution.

        Args:
            network: on the meta device, in evaluation mode.
            shape: of the example, without the batch.
            known: signatures of modules by `id`, where the caller knows that modules are equal.
        """
        while True:
            session = _Session(self, network, known or {})
            try:
                with session.patched(), torch.no_grad():
                    network(torch.empty(1, *shape, device="meta"))
            except _ShapeChanged:
                self.fresh = True
            else:
                return session.run

    def storage(self, network: torch.nn.Module) -> Run:
        """The parameters by the modules that own them; shared ones where they first appear."""
        seen: set[int] = set()
        run: Run = []
        for path, module in network.named_modules():
            own = []
            for parameter in module._parameters.values():
                if parameter is not None and id(parameter) not in seen:
                    seen.add(id(parameter))
                    own.append(parameter)
            if own:
                shapes = tuple((tuple(p.shape), p.dtype) for p in own)
                number = self.number(("storage", shapes), functools.partial(_storage, own))
                run.append(((path, "parameters", 0), number))
        return run

    def number(self, signature: Any, make: Callable[[], Piece]) -> int:
        """The number of the piece with a signature; `make` is called for a new one."""
        found = self._numbers.get(signature)
        if found is None:
            found = self._numbers[signature] = len(self.pieces)
            self.pieces.append(make())
        return found


class _Session(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """One run of one network."""

    def __init__(self, recorder: Recorder, network: torch.nn.Module, known: dict[int, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder = recorder
        self.known = known
        self.run: Run = []
        self.paths: dict[int, str] = {}
        for path, module in network.named_modules():
            self.paths.setdefault(id(module), path)
        self._times: dict[tuple[str, str], int] = {}
        self._open: list[_Call] = []

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Calls of the network's modules and operations come here meanwhile."""
        with module_calls(self.paths, self._module), self:
            yield

    # Modules ----------------------------------------------------------------------------------

    def _module(self, module: torch.nn.Module, call: Any, args: Any, kwargs: Any) -> Any:
        if self._open:
            self._open[-1].inner = True
        path = self.paths[id(module)]
        known = self.known.get(id(module))
        try:
            given = signature_of((args, kwargs))
            if known is not None:
                return self._block(module, path, (known, given), args, kwargs)
            if not module._modules and not _hooked(module):
                kind = module_signature(module, strict=True)
                return self._layer(module, path, (kind, given), args, kwargs)
        except Unhashable:
            pass
        return self._outer(module, path, None, args, kwargs)

    def _block(
        self, module: torch.nn.Module, path: str, signature: Any, args: Any, kwargs: Any
    ) -> Any:
        """A module that is known to be equal to others: the whole run within is looked up."""
        found = self.recorder._blocks.get(signature)
        if found is None:
            start = len(self.run)
            output = self._outer(module, path, None, args, kwargs)
            within = [((self._inner(place, path)), number) for place, number in self.run[start:]]
            with contextlib.suppress(Unhashable):
                self.recorder._blocks[signature] = (within, Recipe(output))
            return output
        within, recipe = found
        for (inner, what, _), number in within:
            self._note(f"{path}.{inner}" if inner and path else path or inner, what, number)
        return recipe.make(self.recorder.fresh)

    def _inner(self, place: Place, path: str) -> Place:
        inner = place[0][len(path) + 1 :] if path else place[0]
        return (inner, place[1], place[2])

    def _layer(
        self, module: torch.nn.Module, path: str, signature: Any, args: Any, kwargs: Any
    ) -> Any:
        """A module without children: looked up by its attributes and shapes."""
        found = self.recorder._layers.get(signature)
        if found is None:
            start = len(self.run)
            output = self._outer(module, path, signature, args, kwargs)
            with contextlib.suppress(Unhashable):
                recipe = Recipe(output)
                if len(self.run) == start + 1:
                    self.recorder._layers[signature] = (self.run[-1][1], recipe)
            return output
        number, recipe = found
        self._note(path, "call", number)
        return recipe.make(self.recorder.fresh)

    def _outer(
        self, module: torch.nn.Module, path: str, signature: Any, args: Any, kwargs: Any
    ) -> Any:
        """Runs a module; it is a layer if it calls no other module meanwhile."""
        call = _Call(path)
        self._open.append(call)
        start = len(self.run)
        try:
            output = _CALL(module, *args, **kwargs)
        finally:
            self._open.pop()
        if not call.inner:
            # The operations within become the layer's own.
            del self.run[start:]
            for name, times in call.counted.items():
                self._times[(path, name)] = times
            inputs, outputs = tensors((args, kwargs)), tensors(output)
            kind = module_signature(module) if signature is None else signature[0]
            full = ("layer", kind, _shapes(inputs), _shapes(outputs))
            number = self.recorder.number(
                full,
                lambda: Piece(
                    repr(full),
                    module,
                    inputs,
                    outputs,
                    tuple(call.operations),
                    tuple(p for p in module.parameters()),
                ),
            )
            self._note(path, "call", number)
        return output

    def _note(self, path: str, what: str, number: int) -> None:
        times = self._times.get((path, what), 0)
        self._times[(path, what)] = times + 1
        self.run.append(((path, what, times), number))

    # Operations -------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if makes(func):
            # What the author makes within `forward` is on the meta device too.
            return func(*args, **{**kwargs, "device": "meta"} if "device" in kwargs else kwargs)
        if not self.recorder.fresh and torch.Tag.inplace_view in func.tags:
            raise _ShapeChanged
        if func.overloadpacket not in flop_registry and decomposes(func):
            with self:
                output = func.decompose(*args, **kwargs)
                if output is not NotImplemented:
                    return output
        try:
            signature = (func, signature_of((args, kwargs)))
        except Unhashable:
            signature = None
        output = self._result(func, signature, args, kwargs)
        if not func.is_view and func not in _FREE:
            self._operation(func, signature, args, kwargs, output)
        return output

    def _result(self, func: Any, signature: Any, args: Any, kwargs: Any) -> Any:
        """What the operation gives: looked up, where it makes new tensors from shapes alone."""
        if signature is None or func.is_view or func._schema.is_mutable:
            return func(*args, **kwargs)
        recipe = self.recorder._results.get(signature)
        if recipe is None:
            output = func(*args, **kwargs)
            with contextlib.suppress(Unhashable):
                self.recorder._results[signature] = Recipe(output)
            return output
        return recipe.make(self.recorder.fresh)

    def _operation(self, func: Any, signature: Any, args: Any, kwargs: Any, output: Any) -> None:
        name = func.overloadpacket.__name__
        operation = Operation(func, tuple(args), dict(kwargs), tensors(output))
        if not self._open:
            path = ""
        else:
            call = self._open[-1]
            call.operations.append(operation)
            path = call.path
            call.counted.setdefault(name, self._times.get((path, name), 0))
        if signature is None:
            signature = (func, _shapes(operation.inputs))
        full = ("operation", *signature)
        number = self.recorder.number(
            full,
            lambda: Piece(
                repr((str(func), signature[1])),
                None,
                operation.inputs,
                operation.outputs,
                (operation,),
            ),
        )
        self._note(path, name, number)


@attrs.define
class _Call:
    """A module's call that has not ended.

    `inner` says whether it called another module, `counted` how often operations had been noted
    at its path before it.
    """

    path: str
    inner: bool = False
    operations: list[Operation] = attrs.field(factory=list)
    counted: dict[str, int] = attrs.field(factory=dict)


@contextlib.contextmanager
def module_calls(paths: Mapping[int, str], handle: Callable[..., Any]) -> Iterator[None]:
    """Calls of some modules, by `id`, go to `handle(module, call, args, kwargs)` meanwhile.

    As in torch.fx, the class's own method is replaced; other modules and threads are left be.
    """
    thread = threading.get_ident()

    def call(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread or id(module) not in paths:
            return before(module, *args, **kwargs)
        return handle(module, before, args, kwargs)

    before = torch.nn.Module.__call__
    torch.nn.Module.__call__ = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.__call__ = before  # type: ignore[method-assign]


def pieces_of(architecture: Architecture) -> list[tuple[str, Piece]]:
    """The pieces of one network's execution with the paths of their modules, in order.

    Raises:
        ValueError: the architecture does not say the shape of one example.

    >>> import symnas as sn
    >>> net = sn.Architecture(sn.nn.Sequential(sn.nn.Linear(4, 3), sn.nn.ReLU()), input=(4,))
    >>> [(path, piece.kind) for path, piece in pieces_of(net)]
    [('0', 'Linear'), ('1', 'ReLU')]
    """
    if architecture.input is None:
        raise ValueError(
            "The shape of one example is needed: sn.Architecture(program, input=(3, 32, 32))."
        )
    recorder = Recorder()
    run = recorder.run(shape_network(architecture), architecture.input)
    return [(place[0], recorder.pieces[number]) for place, number in run]


# Signatures -----------------------------------------------------------------------------------


def signature_of(value: Any) -> Any:
    """A hashable that is equal for values of the same kind, shapes and numbers.

    Raises:
        Unhashable: a value is neither plain, nor a tensor, nor a collection of those.
    """
    if isinstance(value, UninitializedTensorMixin):
        raise Unhashable  # a lazy layer: it becomes another one when it is called
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided:
            return (tuple(value.shape), value.dtype, str(value.layout))
        return (tuple(value.shape), value.stride(), value.dtype)
    if isinstance(value, _PLAIN):
        return value if not isinstance(value, bool | float) else (type(value).__name__, value)
    if isinstance(value, list | tuple):
        return (type(value).__name__, *(signature_of(part) for part in value))
    if isinstance(value, dict):
        return ("dict", *((str(key), signature_of(part)) for key, part in value.items()))
    if isinstance(value, torch.device | torch.layout | torch.memory_format):
        return str(value)
    raise Unhashable


def module_signature(module: torch.nn.Module, strict: bool = False) -> Any:
    """What a layer does, given its inputs: its type, attributes and shapes, and its children's.

    Args:
        module: the layer.
        strict: whether attributes that are no plain values are refused, rather than left out.

    Raises:
        Unhashable: an attribute is refused.
    """
    parts: list[Any] = [_type_name(module)]
    for name, value in module.__dict__.items():
        if name not in _OWN:
            try:
                parts.append((name, signature_of(value)))
            except Unhashable:
                if strict:
                    raise
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        parts.append((name, None if tensor is None else signature_of(tensor)))
    for name, child in module._modules.items():
        parts.append((name, None if child is None else module_signature(child, strict)))
    return tuple(parts)


def _type_name(module: torch.nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _shapes(parts: tuple[torch.Tensor, ...]) -> Any:
    return tuple((tuple(t.shape), t.dtype) for t in parts)


def _storage(parameters: list[torch.nn.Parameter]) -> Piece:
    shapes = tuple((tuple(p.shape), p.dtype) for p in parameters)
    return Piece(repr(("storage", shapes)), None, (), (), (), tuple(parameters))


def _hooked(module: torch.nn.Module) -> bool:
    """Whether hooks may do what the signature does not tell."""
    return bool(module._forward_hooks or module._forward_pre_hooks) or "forward" in module.__dict__


@functools.cache
def decomposes(func: Any) -> bool:
    return bool(func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd))


@functools.cache
def makes(func: Any) -> bool:
    """Whether an operation only makes a tensor: no input, no arithmetic."""
    return not any("Tensor" in str(argument.type) for argument in func._schema.arguments)


# Results ----------------------------------------------------------------------------------------


class Recipe:
    """How to make tensors like those that came out.

    Tensors of the meta device hold nothing, so the same ones are given again and again, unless
    somebody has changed their shape in place.

    Raises:
        Unhashable: there is something else among them than tensors and plain values.
    """

    def __init__(self, output: Any) -> None:
        self.leaves, self.spec = pytree.tree_flatten(output)
        self.layouts: list[tuple[Any, ...] | None] = []
        for leaf in self.leaves:
            if isinstance(leaf, torch.Tensor):
                self.layouts.append((tuple(leaf.shape), leaf.stride(), leaf.dtype))
            elif isinstance(leaf, _PLAIN):
                self.layouts.append(None)
            else:
                raise Unhashable
        self.leaves = [
            leaf if layout is None else _empty(layout)
            for leaf, layout in zip(self.leaves, self.layouts, strict=True)
        ]

    def make(self, fresh: bool = False) -> Any:
        """What came out; with `fresh`, of tensors that nobody else has."""
        if fresh:
            leaves = [
                leaf if layout is None else _empty(layout)
                for leaf, layout in zip(self.leaves, self.layouts, strict=True)
            ]
            return leaves[0] if self.spec.is_leaf() else pytree.tree_unflatten(leaves, self.spec)
        for i, layout in enumerate(self.layouts):
            if layout is not None and (
                self.leaves[i].shape != layout[0] or self.leaves[i].stride() != layout[1]
            ):
                self.leaves[i] = _empty(layout)
        if self.spec.is_leaf():
            return self.leaves[0]
        return pytree.tree_unflatten(self.leaves, self.spec)


def _empty(layout: tuple[Any, ...]) -> torch.Tensor:
    return torch.empty_strided(layout[0], layout[1], dtype=layout[2], device="meta")
