"""Statistics of batch norms, measured anew for one network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrated(model: nn.Module, inputs: Iterable[Tensor], forward: Any = None) -> nn.Module:
    """Replaces the statistics of batch norms by those of some batches, and nothing else.

    A supernet's statistics are of many networks; those of one network differ (J. Yu et al.,
    "BigNAS", ECCV 2020, arXiv:2003.11142, Section 3.1). They are means over all batches; other
    layers run as in evaluation.

    Args:
        model: changed in place.
        inputs: batches `(n, ...)`.
        forward: `forward(inputs)` that runs the model, if it is not the model itself.

    >>> model = nn.Sequential(nn.BatchNorm1d(2))
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    >>> recalibrated(model, [x, x])[0].running_mean
    tensor([2., 4.])
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return model
    modes = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    try:
        for x in inputs:
            (forward or model)(x)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    return model
