"""Which parts of a network hand their results to which others, seen in one run on shapes.

What only takes the shape of a tensor (`zeros_like(x)`) or multiplies it by 0 passes nothing on: the
flow is cut there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from symnas.costs.pieces import tensors
from symnas.costs.record import Place, decomposes, makes, module_calls

# What takes the shape and kind of a tensor, and none of its values.
_SHAPED = {
    "empty_like", "full_like", "new_empty", "new_empty_strided", "new_full", "new_ones",
    "new_zeros", "ones_like", "rand_like", "randint_like", "randn_like", "zeros_like",
}  # fmt: skip
_FREE = {"_unsafe_view", "detach", "alias"}

INPUT: Place = ("", "input", 0)
OUTPUT: Place = ("", "output", 0)


@attrs.define
class Flow:
    """The flow in some networks of a space, which name their places alike.

    Attributes:
        edges: from a place to one that takes its result.
        cuts: from a place to one that takes it, and passes nothing of it on.
        sums: places that add their inputs up.
        passes: places that give their input back as it is.
        weights: places with parameters.
    """

    edges: set[tuple[Place, Place]] = attrs.field(factory=set)
    cuts: set[tuple[Place, Place]] = attrs.field(factory=set)
    sums: set[Place] = attrs.field(factory=set)
    passes: set[Place] = attrs.field(factory=set)
    weights: set[Place] = attrs.field(factory=set)

    def update(self, other: Flow) -> bool:
        """Takes in another network's; tells whether there was anything new."""
        before = self._sizes()
        for field in attrs.fields(Flow):
            getattr(self, field.name).update(getattr(other, field.name))
        return self._sizes() != before

    def _sizes(self) -> list[int]:
        return [len(getattr(self, field.name)) for field in attrs.fields(Flow)]


def flow_of(network: torch.nn.Module, shape: tuple[int, ...]) -> Flow:
    """The flow in one network, by the same places as `symnas.costs.record.Recorder` has.

    Args:
        network: on the meta device, in evaluation mode.
        shape: of the example, without the batch.
    """
    tracer = _Tracer(network)
    x = torch.empty(1, *shape, device="meta")
    with tracer.patched(), torch.no_grad():
        result = network(tracer.entered(x))
    return tracer.flow(result)


@attrs.define(eq=False)
class _Vertex:
    """An operation; `place` is set once it is known whether its module is a layer."""

    place: Place | None
    sources: list[_Vertex]
    cut: bool = False
    sum: bool = False


@attrs.define
class _Call:
    path: str
    inner: bool = False
    vertices: list[_Vertex] = attrs.field(factory=list)
    counted: dict[str, int] = attrs.field(factory=dict)


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.paths: dict[int, str] = {}
        for path, module in network.named_modules():
            self.paths.setdefault(id(module), path)
        self._input = _Vertex(INPUT, [])
        self._vertices: list[_Vertex] = [self._input]
        self._made_by: dict[int, _Vertex] = {}
        self._kept: list[Any] = []  # a tensor that is freed would give its id to another
        self._times: dict[tuple[str, str], int] = {}
        self._open: list[_Call] = []
        self._passes: set[Place] = set()
        self._weights: set[Place] = set()

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        with module_calls(self.paths, self._module), self:
            yield

    def entered(self, x: torch.Tensor) -> torch.Tensor:
        self._put(x, self._input)
        return x

    def flow(self, result: Any) -> Flow:
        end = _Vertex(OUTPUT, self._sources(tensors(result)))
        flow = Flow(passes=self._passes, weights=self._weights)
        for vertex in [*self._vertices, end]:
            assert vertex.place is not None
            pairs = {(s.place, vertex.place) for s in vertex.sources if s.place != vertex.place}
            (flow.cuts if vertex.cut else flow.edges).update(pairs)  # type: ignore[arg-type]
            if vertex.sum:
                flow.sums.add(vertex.place)
        return flow

    # Modules ----------------------------------------------------------------------------------

    def _module(self, module: torch.nn.Module, call: Any, args: Any, kwargs: Any) -> Any:
        if self._open:
            self._open[-1].inner = True
        opened = _Call(self.paths[id(module)])
        self._open.append(opened)
        given = tensors((args, kwargs))
        sources = self._sources(given)
        try:
            output = call(module, *args, **kwargs)
        finally:
            self._open.pop()
        if opened.inner:
            return output
        for name, times in opened.counted.items():  # the operations within are the layer's own
            self._times[(opened.path, name)] = times
        place = self._place(opened.path, "call")
        if any(True for _ in module.parameters()):
            self._weights.add(place)
        for vertex in opened.vertices:
            vertex.place, vertex.sum = place, False
        return self._passed(place, output, {id(t) for t in given}, sources, opened.vertices)

    def _passed(
        self, place: Place, output: Any, given: set[int], sources: list[_Vertex], own: list[_Vertex]
    ) -> Any:
        """The output; what a layer gave back as it was comes from the layer nevertheless."""

        def renewed(tensor: Any) -> Any:
            if not isinstance(tensor, torch.Tensor):
                return tensor
            before = self._made_by.get(id(tensor))
            if before is None or before in own or before not in sources:
                return tensor
            if id(tensor) in given:
                tensor = tensor.view_as(tensor)
            vertex = _Vertex(place, [before])
            self._vertices.append(vertex)
            self._passes.add(place)
            self._put(tensor, vertex)
            return tensor

        return pytree.tree_map(renewed, output)

    # Operations -------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if makes(func):
            return func(*args, **{**kwargs, "device": "meta"} if "device" in kwargs else kwargs)
        if func.overloadpacket not in flop_registry and decomposes(func):
            with self:
                output = func.decompose(*args, **kwargs)
                if output is not NotImplemented:
                    return output
        sources = self._sources(tensors((args, kwargs)))
        output = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if func.is_view or name in _FREE:
            for tensor in tensors(output) if sources else ():
                self._put(tensor, sources[0])
            return output
        self._operation(name, args, sources, tensors(output))
        return output

    def _operation(
        self, name: str, args: Any, sources: list[_Vertex], outputs: tuple[torch.Tensor, ...]
    ) -> None:
        cut = name in _SHAPED or (name.strip("_") == "mul" and _zero(args))
        vertex = _Vertex(None, sources, cut, name.strip("_") == "add" and len(sources) > 1)
        path = self._open[-1].path if self._open else ""
        if self._open:
            self._open[-1].vertices.append(vertex)
            self._open[-1].counted.setdefault(name, self._times.get((path, name), 0))
        vertex.place = self._place(path, name)
        self._vertices.append(vertex)
        for tensor in outputs:
            self._put(tensor, vertex)

    def _place(self, path: str, what: str) -> Place:
        times = self._times.get((path, what), 0)
        self._times[(path, what)] = times + 1
        return (path, what, times)

    def _sources(self, given: tuple[torch.Tensor, ...]) -> list[_Vertex]:
        found = [self._made_by[id(t)] for t in given if id(t) in self._made_by]
        return list(dict.fromkeys(found))

    def _put(self, tensor: torch.Tensor, vertex: _Vertex) -> None:
        self._made_by[id(tensor)] = vertex
        self._kept.append(tensor)


def _zero(args: Any) -> bool:
    return any(isinstance(a, int | float) and not isinstance(a, bool) and a == 0 for a in args)
