"""Sums over the layers of a network, from shapes alone: nothing is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.costs.model import CostModel


def meta_module(architecture: Architecture) -> torch.nn.Module:
    """The network without data, in eval mode.

    Raises:
        ValueError: it cannot be built, or is not a module.
    """
    try:
        module = architecture.build("meta")
    except Exception as error:
        raise ValueError(
            f"{architecture!r} cannot be built: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise ValueError(
            f"{architecture!r} builds a {type(module).__name__}; costs need a torch.nn.Module."
        )
    return module.eval()


def example(architecture: Architecture, what: str, batch: int = 1, device: str = "meta") -> Any:
    """A batch of examples of the architecture's input shape.

    Raises:
        ValueError: the architecture has no `input`.
    """
    if architecture.input is None:
        raise ValueError(
            f"{what} needs the shape of one example: give `input=` to the space, such as "
            "sn.Space(program, input=(3, 32, 32)) or @sn.space(input=(3, 32, 32))."
        )
    return torch.zeros((batch, *architecture.input), device=device)


def layer_sum(cost: CostModel, architecture: Architecture) -> float:
    """The sum of `cost.layer` over the calls of leaf modules in one forward pass."""
    module = meta_module(architecture)
    x = example(architecture, f"The cost {cost.name!r}")
    total = 0.0
    handles = []

    def hook(leaf: torch.nn.Module, inputs: Any, outputs: Any) -> None:
        nonlocal total
        total += float(cost.layer(leaf, _tensors(inputs), _tensors(outputs)))

    for part in module.modules():
        if not any(True for _ in part.children()):
            handles.append(part.register_forward_hook(hook))
    try:
        with torch.no_grad():
            run(module, x, architecture)
    finally:
        for handle in handles:
            handle.remove()
    return total


def run(module: torch.nn.Module, x: torch.Tensor, architecture: Architecture) -> Any:
    """A forward pass, with an error that names the architecture if it fails."""
    try:
        return module(x)
    except Exception as error:
        raise ValueError(
            f"{architecture!r} cannot be run on an input of shape {tuple(x.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _tensors(value: Any) -> tuple[torch.Tensor, ...]:
    if isinstance(value, torch.Tensor):
        return (value,)
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        return tuple(t for part in value for t in _tensors(part))
    return ()
