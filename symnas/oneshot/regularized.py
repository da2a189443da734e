"""Regularisation of single networks in a supernet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from symnas.supernet.supernet import Supernet


@contextlib.contextmanager
def without_dropout(net: Supernet) -> Iterator[None]:
    """The selected network runs without dropout and the like meanwhile.

    Modules without any weights, statistics or modules within are in evaluation then: `nn.Dropout`,
    and what drops whole branches. Dropout that is an argument of a larger layer stays.
    """
    network = net._selected
    assert network is not None
    network.train(net.training)
    dropped = [
        module
        for module in network.module.modules()
        if module.training and not (module._modules or module._parameters or module._buffers)
    ]
    for module in dropped:
        module.training = False
    try:
        yield
    finally:
        # Other networks have the same modules.
        for module in dropped:
            module.training = True


def squares(net: Supernet) -> Tensor:
    """The sum of squared weights of the network that has just run, with gradient."""
    network = net._selected
    assert network is not None
    weights = [w for w in network.module.parameters() if w.requires_grad]
    return torch.stack([w.square().sum() for w in weights]).sum()
