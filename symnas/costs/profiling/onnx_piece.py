"""Pieces in onnxruntime: exported as the whole network would be, and run several times over."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch.utils import _pytree as pytree

from symnas.architecture.onnx import quiet_export
from symnas.costs.pieces import Piece
from symnas.costs.profiling.real import Call, has_batch, real_input, real_module

# So many more copies of a piece are in the second model: their time without the cost of a call.
COPIES = 4


def _softmax(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.softmax(x, dim, dtype)


# Operations that torch's exporter does not know, though it does what they are made from.
_EXPORTED_AS = {torch.ops.aten._safe_softmax.default: _softmax}


def exported(piece: Piece, batch: int) -> tuple[bytes, list[torch.Tensor], int]:
    """The ONNX model of a piece, its inputs, and what its time is to be multiplied with.

    Convolutions get a bias, because that is what becomes of the batch norm after them.

    Raises:
        Exception: torch cannot export the piece alone.
    """
    examples = batch if has_batch(piece) else 1
    if piece.module is not None:
        module = real_module(piece.module, "cpu")
        if isinstance(module, torch.nn.modules.conv._ConvNd) and module.bias is None:
            module.bias = torch.nn.Parameter(torch.ones(module.out_channels))
        inputs = [real_input(tensor, examples, "cpu") for tensor in piece.inputs]
    else:
        module, inputs = _operation(piece, examples)
    buffer = io.BytesIO()
    with quiet_export():
        options: dict[str, Any] = {"dynamo": False}
        torch.onnx.export(module, tuple(inputs), buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue(), inputs, batch // examples


def repeated(model: bytes, copies: int) -> bytes:
    """A model with several copies of all nodes and weights, on the same inputs.

    Each copy's outputs are outputs, so that none is optimised away.

    Raises:
        ValueError: a node holds a graph of its own.
    """
    import onnx

    loaded = onnx.load_model_from_string(model)
    graph = loaded.graph
    nodes, weights, outputs = list(graph.node), list(graph.initializer), list(graph.output)
    if any(a.HasField("g") or len(a.graphs) for node in nodes for a in node.attribute):
        raise ValueError("a node holds a graph of its own")
    shared = {entry.name for entry in graph.input} | {""}
    for field in ("node", "initializer", "output", "value_info"):
        graph.ClearField(field)
    for copy in range(copies):

        def name(text: str, copy: int = copy) -> str:
            return text if text in shared else f"{text}__{copy}"

        for node in nodes:
            made = graph.node.add()
            made.CopyFrom(node)
            made.name = f"{node.name}__{copy}"
            made.input[:] = [name(text) for text in node.input]
            made.output[:] = [name(text) for text in node.output]
        for entries, field in ((weights, graph.initializer), (outputs, graph.output)):
            for entry in entries:
                added = field.add()
                added.CopyFrom(entry)
                added.name = name(entry.name)
    return bytes(loaded.SerializeToString())


def session_call(model: bytes, inputs: list[torch.Tensor], threads: int) -> Call:
    """A call that runs a model on its inputs, which are bound once."""
    session = session_of(model, threads)
    binding = session.io_binding()
    # Inputs that the exporter found to be of no effect are not there.
    given = dict(zip(_input_names(model), inputs, strict=False))
    for entry in session.get_inputs():
        binding.bind_cpu_input(entry.name, given[entry.name].contiguous().numpy())
    for entry in session.get_outputs():
        binding.bind_output(entry.name, "cpu")
    return lambda: session.run_with_iobinding(binding)


def session_of(model: bytes, threads: int) -> Any:
    """A session of onnxruntime on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _input_names(model: bytes) -> list[str]:
    import onnx

    return [entry.name for entry in onnx.load_model_from_string(model).graph.input]


class _Operation(torch.nn.Module):
    """An operation as a module of its tensors."""

    def __init__(self, op: Any, leaves: list[Any], spec: Any, places: list[int]) -> None:
        super().__init__()
        self.op, self.leaves, self.spec, self.places = op, leaves, spec, places

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.op(*args, **kwargs)


def _operation(piece: Piece, batch: int) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    (operation,) = piece.operations
    leaves, spec = pytree.tree_flatten((operation.args, operation.kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    inputs = [real_input(leaves[i], batch, "cpu") for i in places]
    leaves = [torch.device("cpu") if isinstance(leaf, torch.device) else leaf for leaf in leaves]
    op = _EXPORTED_AS.get(operation.op, operation.op)
    return _Operation(op, leaves, spec, places), inputs
