"""DropBlock: results with neighbouring pixels set to zero.

G. Ghiasi, T.-Y. Lin and Q. V. Le, "DropBlock: A regularization method for convolutional networks",
NeurIPS 2018, arXiv:1810.12890, Algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def drop_block(x: Tensor, rate: float, block: int) -> Tensor:
    """`(batch, channels, ...)` with blocks set to zero, and the rest scaled up to make up for it.

    Args:
        x: a tensor; without dimensions behind the channels, or with more than three, single numbers
            are dropped.
        rate: about the share that is dropped; less where it is large, as blocks overlap.
        block: edge of a block, cut to that of `x`; all of a block is within `x`.

    >>> x = drop_block(torch.ones(1, 2, 8, 8), 0.2, 3)
    >>> x.shape, round(float(x.mean()), 3) in (0.0, 1.0)
    (torch.Size([1, 2, 8, 8]), True)
    """
    sizes = x.shape[2:] if x.ndim <= 5 else ()
    edges = [min(block, size) for size in sizes]
    places = [size - edge + 1 for size, edge in zip(sizes, edges, strict=True)]
    # The chance of a place to begin a block (gamma in the paper, equation 1).
    chance = rate
    for size, edge, count in zip(sizes, edges, places, strict=True):
        chance *= size / (edge * count)
    drawn = torch.rand(x.shape[: x.ndim - len(sizes)] + tuple(places), device=x.device) < chance
    if sizes:
        around = [edge - 1 for edge in reversed(edges) for _ in range(2)]
        pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[len(sizes) - 1]
        drawn = pool(functional.pad(drawn.float(), around), edges, stride=1) > 0
    kept = ~drawn
    return x * kept * (kept.numel() / kept.sum().clamp_min(1))
