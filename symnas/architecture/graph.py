"""A network as a graph of operations, in the order of execution, with their shapes and costs."""

from __future__ import annotations

from typing import Any

import networkx
import torch
from torch.overrides import TorchFunctionMode

from symnas.costs.layers import shape_network

# Functions that look at a tensor without computing one, or only move it.
_SILENT = {
    "__get__", "size", "dim", "numel", "stride", "is_floating_point", "device", "dtype", "detach",
    "contiguous", "to", "requires_grad_", "__set__", "__len__", "is_contiguous",
}  # fmt: skip


def graph(architecture: Any, input: tuple[int, ...] | None = None) -> networkx.DiGraph:
    """The operations of one forward pass, traced on the meta device.

    Nodes are numbered strings in the order of execution, from "input" to "output", with attributes
    `op` (`"Conv2d"`, `"add"`), `name` (the module's path, or ""), `label` (a few words), `shape`
    (of the output, without the batch), `params` and `macs`. Edges follow the tensors.

    Args:
        architecture: an `Architecture`.
        input: the shape of one example, where the architecture has none.

    Raises:
        ValueError: there is no input shape, or the network cannot be run.

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
    x = torch.zeros((1, *shape), device="meta")
    tracer = _Tracer(shape_network(architecture))
    with torch.no_grad():
        return tracer.trace(x)


class _Tracer(TorchFunctionMode):
    """Notes leaf modules by hooks, and the functions between them by torch's function mode."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module
        self.graph = networkx.DiGraph()
        self.made_by: dict[int, str] = {}
        self.kept: list[Any] = []  # a tensor that is freed would give its id to another
        self.inside = 0

    def trace(self, x: torch.Tensor) -> networkx.DiGraph:
        self._add("input", "input", "", "input", x, (), 0, 0)
        handles = []
        for name, part in self.module.named_modules():
            if not any(True for _ in part.children()):
                handles.append(part.register_forward_pre_hook(self._enter))
                handles.append(part.register_forward_hook(self._leave(name)))
        try:
            with self:
                result = self.module(x)
        finally:
            for handle in handles:
                handle.remove()
        outputs = _tensors(result)
        self._add("output", "output", "", "output", outputs[0] if outputs else x, outputs, 0, 0)
        return self.graph

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if self.inside == 0 and name not in _SILENT:
            outputs = _tensors(result)
            sources = [t for t in _tensors((args, kwargs or {})) if id(t) in self.made_by]
            if outputs and sources:
                op = name.strip("_")
                macs = _matmul_macs(op, sources, outputs[0])
                self._add(self._next(), op, "", op, outputs[0], sources, 0, macs)
                for other in outputs[1:]:
                    self._made(other, self.made_by[id(outputs[0])])
        return result

    def _enter(self, module: torch.nn.Module, inputs: Any) -> None:
        self.inside += 1

    def _leave(self, name: str) -> Any:
        def hook(module: torch.nn.Module, inputs: Any, outputs: Any) -> None:
            self.inside -= 1
            found = _tensors(outputs)
            if not found:
                return
            params = sum(p.numel() for p in module.parameters())
            op = type(module).__name__
            macs = _layer_macs(module, found[0])
            sources = _tensors(inputs)
            self._add(self._next(), op, name, label(module), found[0], sources, params, macs)
            for other in found[1:]:
                self._made(other, self.made_by[id(found[0])])

        return hook

    def _next(self) -> str:
        return str(self.graph.number_of_nodes())

    def _add(
        self, node: str, op: str, name: str, text: str, tensor: torch.Tensor,
        sources: Any, params: int, macs: float,
    ) -> None:  # fmt: skip
        shape = tuple(tensor.shape[1:])
        self.graph.add_node(
            node, op=op, name=name, label=text, shape=shape, params=int(params), macs=int(macs)
        )
        for source in sources:
            origin = self.made_by.get(id(source))
            if origin is not None and origin != node:
                self.graph.add_edge(origin, node)
        if node != "output":
            self._made(tensor, node)

    def _made(self, tensor: torch.Tensor, node: str) -> None:
        self.made_by[id(tensor)] = node
        self.kept.append(tensor)


def label(module: torch.nn.Module) -> str:
    """A layer in a few words: `Conv 3×3, 16→32, /2`."""
    name = type(module).__name__
    if isinstance(module, torch.nn.modules.conv._ConvNd):
        kernel = "×".join(map(str, module.kernel_size))
        text = f"Conv {kernel}, {module.in_channels}→{module.out_channels}"
        if module.groups > 1:
            depthwise = module.groups == module.in_channels == module.out_channels
            text = (
                f"Depthwise {kernel}, {module.out_channels}"
                if depthwise
                else f"{text}, {module.groups} groups"
            )
        stride = max(module.stride)
        return f"{text}, /{stride}" if stride > 1 else text
    if isinstance(module, torch.nn.Linear):
        return f"Linear {module.in_features}→{module.out_features}"
    size = getattr(module, "kernel_size", None)
    if size is not None:
        return f"{name} {size if isinstance(size, int) else '×'.join(map(str, size))}"
    return name


def _layer_macs(module: torch.nn.Module, output: torch.Tensor) -> float:
    weight = getattr(module, "weight", None)
    if isinstance(module, torch.nn.modules.conv._ConvNd) and weight is not None:
        # Each output element is one inner product over a group's inputs and the kernel.
        return float(output[:1].numel() * weight[0].numel())
    if isinstance(module, torch.nn.Linear) and weight is not None:
        return float(output[:1].numel() * module.in_features)
    return 0.0


def _matmul_macs(op: str, sources: list[torch.Tensor], output: torch.Tensor) -> float:
    if op in ("matmul", "bmm", "mm", "linear") and sources[0].ndim > 0:
        return float(output[:1].numel() * sources[0].shape[-1])
    return 0.0


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [t for part in value for t in _tensors(part)]
    return []
