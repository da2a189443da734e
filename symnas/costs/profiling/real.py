"""Pieces made real: layers and operations of the meta device with numbers, ready to be run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from symnas.costs.pieces import Piece

Call = Callable[[], object]


def has_batch(piece: Piece) -> bool:
    """Whether the first dimension of some input is the batch."""
    return any(map(_is_batched, piece.inputs))


def is_empty(piece: Piece) -> bool:
    """Whether nothing is computed: parameters, views, identities."""
    return not piece.operations


def real_input(tensor: torch.Tensor, batch: int, device: str) -> torch.Tensor:
    """Numbers in place of a tensor of the meta device.

    Pieces come from a run on one example. So a first dimension of 1 becomes the batch, except in a
    parameter: the convention of networks, which an operation on a folded batch (`[batch * heads,
    ...]`) does not keep.

    Floats are about 32: operations in place are repeated on their own results, and from there no
    usual activation leads to denormal numbers, which take many times longer.
    """
    shape, strides = list(tensor.shape), tensor.stride()
    if _is_batched(tensor):
        shape[0] = batch
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        dense = torch.rand(shape, dtype=torch.float32).add_(32).to(tensor.dtype)
    else:
        dense = torch.zeros(shape, dtype=tensor.dtype)  # 0 is a valid index
    if len(strides) == 4 and strides[1] == 1 and shape[1] > 1:
        return dense.to(device, memory_format=torch.channels_last)
    if len(strides) == 2 and strides[0] == 1 and shape[1] > 1 and shape[0] > 1:
        return dense.t().contiguous().t().to(device)  # a transposed weight
    return dense.to(device)


def real_module(module: torch.nn.Module, device: str) -> torch.nn.Module:
    """A copy of a layer with positive weights, in evaluation mode."""
    made = copy.deepcopy(module).to_empty(device=device).eval()
    for tensor in (*made.parameters(), *made.buffers()):
        if tensor.dtype.is_floating_point:
            tensor.data.uniform_(0.5, 1.0)
        else:
            tensor.data.zero_()
    return made


def layer_call(piece: Piece, batch: int, device: str) -> Call:
    """A call of the piece's layer; it may fail where the layer wants more than tensors."""
    assert piece.module is not None
    module = real_module(piece.module, device)
    inputs = [real_input(tensor, batch, device) for tensor in piece.inputs]
    return lambda: module(*inputs)


def operations_call(piece: Piece, batch: int, device: str) -> Call:
    """A call of the piece's operations, one after another, each on tensors of its own."""
    calls = []
    for operation in piece.operations:
        args, kwargs = pytree.tree_map(
            lambda leaf: _real_leaf(leaf, batch, device), (operation.args, operation.kwargs)
        )
        calls.append((operation.op, args, kwargs))
    if len(calls) == 1:
        op, args, kwargs = calls[0]
        return lambda: op(*args, **kwargs)

    def call() -> None:
        for op, args, kwargs in calls:
            op(*args, **kwargs)

    return call


def torch_call(piece: Piece, batch: int, device: str) -> tuple[Call, int]:
    """A call that takes the piece's time in torch, and what its time is to be multiplied with.

    The layer itself where it takes tensors only; otherwise its operations, one by one. Where the
    batch is not the first dimension, or the piece does not run with another one, its time is that
    of one example times the batch.

    Raises:
        RuntimeError: the piece cannot be run alone.
    """
    size = batch if has_batch(piece) else 1
    attempts = [(layer_call, size)] if piece.module is not None else []
    if piece.operations:
        attempts += [(operations_call, size), (operations_call, 1)]
    problem: Exception | None = None
    for make, examples in attempts:
        try:
            call = make(piece, examples, device)
            call()
        except Exception as error:
            problem = problem or error
        else:
            return call, batch // examples
    raise RuntimeError(
        f"a {piece.kind} on inputs {[tuple(t.shape) for t in piece.inputs]} cannot be run alone: "
        f"{problem}. Use by='network', which measures whole networks"
    ) from problem


def _is_batched(tensor: torch.Tensor) -> bool:
    return tensor.dim() > 0 and tensor.shape[0] == 1 and not isinstance(tensor, torch.nn.Parameter)


def _real_leaf(leaf: Any, batch: int, device: str) -> Any:
    if isinstance(leaf, torch.Tensor):
        return real_input(leaf, batch, device)
    if isinstance(leaf, torch.device):
        return torch.device(device)
    return leaf
