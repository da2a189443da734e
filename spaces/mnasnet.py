"""The MnasNet-like space of Accel-NASBench: seven blocks, four decisions each.

A. Ahmad et al., "Accel-NASBench: Sustainable Benchmarking for Accelerator-Aware NAS", DAC 2024,
arXiv:2404.08005, Appendix B. Widths and strides are those of EfficientNet-B0 (M. Tan and Q. Le,
ICML 2019, arXiv:1905.11946, Table 1); the network has the parameters of the published one, module
by module.
"""

from __future__ import annotations

from typing import Any

from symnas.spaces.mobilenet import ConvBNAct, InvertedBottleneck
from torch import Tensor, nn

import symnas as sn

STEM, HEAD = 32, 1280
WIDTHS = (16, 24, 40, 80, 112, 192, 320)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
LAYERS = ((1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3))
EXPANSIONS = (1, 4, 6)
KERNELS = (3, 5)


class SmoothExcite(nn.Module):
    """Squeeze-and-excitation with SiLU and sigmoid; keeps the shape `[B, channels, H, W]`."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.SiLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.gate(x)
        return y


@sn.symbolize
class SmoothBottleneck(InvertedBottleneck):
    """An `InvertedBottleneck` with SiLU, squeezed to a quarter of its input's channels.

    Args:
        kernel_size: of the depthwise convolution, odd.
        expansion: channels inside as a multiple of `in_channels`; 1 leaves out the expansion.
        squeeze: whether to have squeeze-and-excitation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        expansion: int = 6,
        stride: int = 1,
        squeeze: bool = False,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, expansion, stride, False, activation="silu"
        )
        if squeeze:
            excite = SmoothExcite(in_channels * expansion, max(in_channels // 4, 1))
            self.add_module("squeeze", excite)  # in place of the identity


def mnasnet(classes: int = 1000, resolution: int = 224) -> sn.Space:
    """Expansion, kernel, number of layers and squeeze-and-excitation of each of seven blocks.

    Decisions of block b, from 0: `expansion b` (1, 4, 6), `kernel b` (3, 5), `layers b` (1 to 3; of
    block 5, 1 to 4) and `squeeze b`; all layers of a block share them. 1.04 * 10^11 architectures.

    Args:
        classes: number of outputs.
        resolution: height and width of the input in pixels.

    Raises:
        ValueError: a number is not positive.

    >>> space = mnasnet()
    >>> space.size == 36**6 * 48, len(space)
    (True, 28)
    """
    for name, value in (("classes", classes), ("resolution", resolution)):
        if value < 1:
            raise ValueError(f"`{name}` ({value}) must be at least 1.")

    @sn.space(input=(3, resolution, resolution))
    def mnasnet() -> Any:
        layers: list[Any] = [ConvBNAct(3, STEM, 3, 2, activation="silu")]
        before = STEM
        for index, width in enumerate(WIDTHS):
            layers.append(_block(index, before, width))
            before = width
        return sn.nn.Sequential(
            *layers,
            ConvBNAct(before, HEAD, 1, activation="silu"),
            sn.nn.AdaptiveAvgPool2d(1),
            sn.nn.Flatten(),
            sn.nn.Dropout(0.2),
            sn.nn.Linear(HEAD, classes),
        )

    space: sn.Space = mnasnet()
    return space


def _block(index: int, before: int, width: int) -> Any:
    # One choice in all layers of a block is one decision.
    kernel = sn.oneof(KERNELS, name=f"kernel {index}")
    expansion = sn.oneof(EXPANSIONS, name=f"expansion {index}")
    squeeze = sn.oneof([False, True], name=f"squeeze {index}")

    def layer(i: int) -> Any:
        return SmoothBottleneck(
            before if i == 0 else width,
            width,
            kernel_size=kernel,
            expansion=expansion,
            stride=STRIDES[index] if i == 0 else 1,
            squeeze=squeeze,
        )

    return sn.repeat(layer, times=sn.oneof(LAYERS[index], name=f"layers {index}"))
