"""Optimizers by name, with the arguments of a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import Parameter

OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop")


def make_optimizer(
    optimizer: str | Callable[..., Any],
    parameters: list[Parameter],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
) -> torch.optim.Optimizer:
    """The optimizer of a training.

    `momentum` is used by "sgd" (Nesterov's) and "rmsprop"; a function is called as
    `optimizer(parameters, lr=lr, weight_decay=weight_decay)`, so the classes of `torch.optim` do.
    """
    if callable(optimizer):
        made: torch.optim.Optimizer = optimizer(parameters, lr=lr, weight_decay=weight_decay)
        return made
    # One kernel for all parameters: on small networks a tenth of the training time.
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    if optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=fused)
    if optimizer == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=fused)
    if optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=momentum > 0,
            fused=fused,
        )
    return torch.optim.RMSprop(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum)
