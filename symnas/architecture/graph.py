"""A network as a graph of operations, in the order of execution, with their shapes and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import networkx
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from symnas.costs.layers import network, shape_network

# Functions that only look at a tensor, or pass its values on as they are: no node of their own.
_SILENT = {
    "__get__", "__len__", "__set__", "contiguous", "detach", "device", "dim", "dtype",
    "is_contiguous", "is_floating_point", "numel", "requires_grad_", "size", "stride", "to",
}  # fmt: skip
# Functions that take a tensor's shape and kind, and none of its values.
_SHAPED = {
    "empty_like", "full_like", "new_empty", "new_full", "new_ones", "new_tensor", "new_zeros",
    "ones_like", "rand_like", "randn_like", "zeros_like",
}  # fmt: skip
# Operators have other names inside than the functions that they are: x + y, 1 + x, x += y.
_OPERATORS = {
    "floordiv": "floor_divide", "iadd": "add", "imul": "mul", "isub": "sub", "itruediv": "div",
    "radd": "add", "rdiv": "div", "rmatmul": "matmul", "rmul": "mul", "rsub": "sub",
    "rtruediv": "div", "truediv": "div",
}  # fmt: skip

# FLOPs so far, and the version of each tensor that is given: it grows with each change in place.
_State = tuple[int, dict[int, int]]


def graph(architecture: Any, input: tuple[int, ...] | None = None) -> networkx.DiGraph:
    """The operations of one forward pass, traced on the meta device.

    Nodes are numbered strings in the order of execution, from "input" to "output", with attributes
    `op` (`"Conv2d"`, `"add"`), `name` (the module's path, or ""), `label` (a few words), `shape`
    (of the output, without the batch), `params` (shared ones count where they are used first) and
    `macs` (by torch's own formulas, for one example). Edges follow the tensors. A network that
    asks for a tensor's values on its way (`x.item()`) is run with random ones, on the CPU.

    Args:
        architecture: an `Architecture`.
        input: the shape of one example, where the architecture has none.

    Raises:
        ValueError: there is no input shape, or the network cannot be run.
        TypeError: the program does not make an `nn.Module`.

    >>> import symnas as sn
    >>> net = sn.Architecture(sn.nn.Sequential(sn.nn.Linear(4, 2), sn.nn.ReLU()), input=(4,))
    >>> [data["op"] for _, data in net.graph().nodes(data=True)]
    ['input', 'Linear', 'ReLU', 'output']
    """
    shape = input if input is not None else architecture.input
    if shape is None:
        raise ValueError(
            "The graph of a network needs the shape of one example: give `input=` here, or to the "
            "space that the architecture is from."
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        module = shape_network(architecture)
        try:
            with torch.device("meta"):  # for the tensors that `forward` makes
                return _Tracer(module).trace(torch.empty((1, *shape)))
        except Exception as first:
            generator = torch.Generator().manual_seed(0)
            x = torch.randn((1, *shape), generator=generator, device="cpu")
            try:
                return _Tracer(network(architecture)).trace(x)
            except Exception as error:
                raise ValueError(
                    f"The network cannot be run on input of shape {(1, *shape)}: "
                    f"{type(error).__name__}: {str(error)[:300]}. Is `input` the shape of one "
                    "example?"
                ) from first


class _Tracer(TorchFunctionMode):
    """Notes leaf modules by hooks, and the functions between them by torch's function mode."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module
        self.graph = networkx.DiGraph()
        self.counter = FlopCounterMode(display=False)
        self.made_by: dict[int, str] = {}
        # Parameters that a tensor without a node holds: weight.t(), token.expand(...).
        self.holds: dict[int, list[torch.Tensor]] = {}
        self.counted: set[int] = set()
        self.kept: list[Any] = []  # a tensor that is freed would give its id to another
        self.inside = 0

    def trace(self, x: torch.Tensor) -> networkx.DiGraph:
        self._add("input", "input", "", "input", [x], [], [], 0)
        handles: list[Any] = []
        for name, part in _leaves(self.module):
            enter, leave = self._hooks(name)
            handles.append(part.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(part.register_forward_hook(leave, with_kwargs=True))
        try:
            with self.counter, self:
                result = self.module(x)
        finally:
            for handle in handles:
                handle.remove()
        outputs = _tensors(result)
        self._add("output", "output", "", "output", outputs or [x], outputs, [], 0)
        return self.graph

    # Functions --------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.inside:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        given = _tensors((args, kwargs))
        before = self._state(given)
        result = func(*args, **kwargs)
        if name in _SHAPED:
            return result
        if name == "__setitem__":  # gives nothing back, and changes its first argument
            self._note("setitem", given, given[:1], before)
            return result
        outputs = _tensors(result)
        if not outputs or not given:
            return result
        if name in _SILENT:
            self._pass_on(given, outputs)
            return result
        result = self._renewed(result, before)
        op = name.strip("_")
        self._note(_OPERATORS.get(op, op), given, _tensors(result), before)
        return result

    def _note(self, op: str, given: Any, outputs: list[torch.Tensor], before: _State) -> None:
        sources = [t for t in given if id(t) in self.made_by]
        if not sources:  # computed from parameters and constants only
            self._pass_on(given, outputs)
            return
        self._add(self._next(), op, "", op, outputs, sources, self._held(given), self._macs(before))

    def _pass_on(self, given: Iterable[torch.Tensor], outputs: Iterable[torch.Tensor]) -> None:
        """The outputs are what was given, in another form."""
        held = self._held(given)
        origin = next((self.made_by[id(t)] for t in given if id(t) in self.made_by), None)
        for tensor in outputs:
            self.kept.append(tensor)
            if origin is not None:
                self.made_by[id(tensor)] = origin
            elif held:
                self.holds[id(tensor)] = held

    def _held(self, given: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        held: list[torch.Tensor] = []
        for tensor in given:
            held += (
                [tensor]
                if isinstance(tensor, torch.nn.Parameter)
                else self.holds.get(id(tensor), [])
            )
        return held

    # Modules ----------------------------------------------------------------------------------

    def _hooks(self, name: str) -> tuple[Callable[..., None], Callable[..., Any]]:
        opened: list[_State] = []

        def enter(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
            self.inside += 1
            opened.append(self._state(_tensors((args, kwargs))))

        def leave(module: torch.nn.Module, args: Any, kwargs: Any, result: Any) -> Any:
            before = opened.pop()
            result = self._renewed(result, before)
            self.inside -= 1
            outputs = _tensors(result)
            if outputs and not self.inside:
                given = _tensors((args, kwargs))
                # `register` may hand in parameters from outside, as one layer's weight to another.
                held = [*module.parameters(), *self._held(given)]
                op = type(module).__name__
                macs = self._macs(before)
                self._add(self._next(), op, name, label(module), outputs, given, held, macs)
            return result

        return enter, leave

    # Both -------------------------------------------------------------------------------------

    def _state(self, given: Iterable[torch.Tensor]) -> _State:
        return self.counter.get_total_flops(), {id(t): t._version for t in given}

    def _macs(self, before: _State) -> int:
        return (self.counter.get_total_flops() - before[0]) // 2

    def _renewed(self, result: Any, before: _State) -> Any:
        """The result, with other tensor objects for what was passed through unchanged.

        An identity gives back the very tensor it was given, which may flow elsewhere too: only
        another object can tell both ways apart. What was changed in place stays one.
        """
        versions = before[1]

        def renew(tensor: Any) -> Any:
            if isinstance(tensor, torch.Tensor) and versions.get(id(tensor)) == tensor._version:
                with torch._C.DisableTorchFunction():
                    return tensor.view_as(tensor)
            return tensor

        return pytree.tree_map(renew, result)

    def _next(self) -> str:
        return str(self.graph.number_of_nodes())

    def _add(
        self, node: str, op: str, name: str, text: str, outputs: list[torch.Tensor],
        sources: Iterable[torch.Tensor], held: Iterable[torch.Tensor], macs: int,
    ) -> None:  # fmt: skip
        fresh = {id(p): p.numel() for p in held if id(p) not in self.counted}
        self.counted.update(fresh)
        shape, params = tuple(outputs[0].shape[1:]), sum(fresh.values())
        self.graph.add_node(
            node, op=op, name=name, label=text, shape=shape, params=params, macs=macs
        )
        for source in sources:
            origin = self.made_by.get(id(source))
            if origin is not None and origin != node:
                self.graph.add_edge(origin, node)
        if node != "output":
            for tensor in outputs:
                self.made_by[id(tensor)] = node
                self.kept.append(tensor)


def _leaves(module: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Module]]:
    """Modules that stand for one operation, with their paths."""

    def visit(name: str, part: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Module]]:
        children = list(part.named_children())
        # Attention uses the weights of a child that it never calls.
        if not children or isinstance(part, torch.nn.MultiheadAttention):
            if id(part) not in seen:
                seen.add(id(part))
                yield name, part
            return
        for key, child in children:
            yield from visit(f"{name}.{key}" if name else key, child)

    seen: set[int] = set()
    return visit("", module)


def label(module: torch.nn.Module) -> str:
    """A layer in a few words.

    >>> label(torch.nn.Conv2d(16, 32, 3, stride=2, padding=1))
    'Conv 3×3, 16→32, /2'
    """
    name = type(module).__name__
    if isinstance(module, torch.nn.modules.conv._ConvNd):
        transposed = isinstance(module, torch.nn.modules.conv._ConvTransposeNd)
        kernel = "×".join(map(str, module.kernel_size))
        kind = "Transposed conv" if transposed else "Conv"
        text = f"{kind} {kernel}, {module.in_channels}→{module.out_channels}"
        if module.groups > 1:
            depthwise = module.groups == module.in_channels == module.out_channels
            text = (
                f"Depthwise {kernel}, {module.out_channels}"
                if depthwise
                else f"{text}, {module.groups} groups"
            )
        if max(module.dilation) > 1:
            text = f"{text}, dilated {max(module.dilation)}"
        stride = max(module.stride)
        return f"{text}, {'×' if transposed else '/'}{stride}" if stride > 1 else text
    if isinstance(module, torch.nn.Linear):
        return f"Linear {module.in_features}→{module.out_features}"
    size = getattr(module, "kernel_size", None)
    if isinstance(size, int | tuple):
        return f"{name} {size if isinstance(size, int) else '×'.join(map(str, size))}"
    return name


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
