"""Networks on the meta device, and sums over their layers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture

Layer = Callable[[torch.nn.Module, tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]], float]


def network(architecture: Architecture) -> torch.nn.Module:
    """The architecture's network, in evaluation mode, on the CPU.

    Raises:
        TypeError: what it builds is not a torch.nn.Module.
    """
    return checked(architecture.build()).eval()


def shape_network(architecture: Architecture) -> torch.nn.Module:
    """The architecture's network on the meta device, in evaluation mode: shapes, no numbers.

    Raises:
        TypeError: what it builds is not a torch.nn.Module.
    """
    try:
        module = architecture.build(device="meta")
    except Exception:
        # A constructor may ask for numbers (`torch.linspace(0, rate, depth).tolist()`).
        module = architecture.build()
    return checked(module).to("meta").eval()


def run_shapes(module: torch.nn.Module, shape: tuple[int, ...], batch: int = 1) -> Any:
    """Runs a network of the meta device on `(batch, *shape)`; returns what it returns."""
    with torch.device("meta"), torch.no_grad():
        return module(torch.empty(batch, *shape))


def sum_layers(layer: Layer, architecture: Architecture) -> float:
    """The sum of `layer(module, inputs, outputs)` over the calls of layers in one run.

    A layer is a module during whose call no other module is called.

    Raises:
        TypeError, ValueError: `layer` gave something else than a finite number.
    """
    module = shape_network(architecture)
    values: list[float] = []

    def visit(called: torch.nn.Module, inputs: Any, outputs: Any) -> None:
        values.append(layer_cost(layer, called, _tensors(inputs), _tensors(outputs)))

    assert architecture.input is not None
    with _each_layer(module, visit):
        run_shapes(module, architecture.input)
    return math.fsum(values)


def layer_cost(
    layer: Layer,
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    outputs: tuple[torch.Tensor, ...],
) -> float:
    """What `layer` says of one layer.

    Raises:
        TypeError, ValueError: something else than a finite number.
    """
    return _number(layer(module, inputs, outputs), module)


@contextlib.contextmanager
def _each_layer(
    module: torch.nn.Module, visit: Callable[[torch.nn.Module, Any, Any], None]
) -> Iterator[None]:
    inner = [True]  # for each open call: whether nothing was called within so far

    def enter(called: torch.nn.Module, args: Any) -> None:
        inner[-1] = False
        inner.append(True)

    def leave(called: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if inner.pop():
            visit(called, (args, kwargs), output)

    handles: list[Any] = []
    for part in module.modules():
        handles.append(part.register_forward_pre_hook(enter))
        handles.append(part.register_forward_hook(leave, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def checked(module: Any) -> torch.nn.Module:
    """What a program built, if it is a module.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"the program builds a {type(module).__name__}; only a torch.nn.Module can be measured"
        )
    return module


def _tensors(value: Any) -> tuple[torch.Tensor, ...]:
    return tuple(leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor))


def _number(value: Any, module: torch.nn.Module) -> float:
    where = f"`layer` of a {type(module).__name__} gave {value!r:.60}"
    if isinstance(value, bool | str | bytes | None):
        raise TypeError(f"{where}, which is no number; give 0 for layers without cost")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{where}, which is not finite")
    return number
