"""Augmentations of a batch of images, from an explicit generator."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor


@attrs.frozen
class Shift:
    """Moves each image by up to `pixels` in each direction; what comes in is zero.

    >>> images = torch.ones(2, 1, 4, 4)
    >>> Shift(1)(images, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 1, 4, 4])
    """

    pixels: int = attrs.field(default=2, validator=attrs.validators.ge(0))

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images `(batch, channels, height, width)`, moved."""
        count, _, height, width = x.shape
        reach, device = self.pixels, x.device
        moves = torch.randint(2 * reach + 1, (2, count, 1), generator=generator, device=device)
        rows = moves[0] + torch.arange(height, device=device)  # (batch, height)
        columns = moves[1] + torch.arange(width, device=device)  # (batch, width)
        padded = torch.nn.functional.pad(x, (reach, reach, reach, reach))
        image = torch.arange(count, device=device)[:, None, None]
        moved = padded[image, :, rows[:, :, None], columns[:, None, :]]  # channels last
        return moved.permute(0, 3, 1, 2)


def shift(pixels: int = 2) -> Shift:
    """`sn.Task(..., augment=shift(2))`: random translations by up to that many pixels."""
    return Shift(pixels)
