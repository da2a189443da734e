"""Spaces of inverted bottlenecks: kernel, expansion, squeeze-and-excitation, width and depth.

The block is that of M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
CVPR 2018, arXiv:1801.04381, Section 3, with the squeeze-and-excitation of A. Howard et al.,
"Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244, Section 5.3. `mobilenet_224` has
the choices of H. Cai et al., "Once-for-All", ICLR 2020, arXiv:1908.09791, Section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from torch import Tensor, nn

import symnas as sn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish, "silu": nn.SiLU
}  # fmt: skip


def _tuple(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(values)


@attrs.frozen
class Stage:
    """What is chosen in one stage of blocks that have the same width and resolution.

    Attributes:
        widths: output channels of the blocks; one decision for the whole stage.
        depths: numbers of blocks; one decision.
        stride: of the first block, 1 or 2.
        kernels: kernel sizes (odd); a decision for each block.
        expansions: channels inside a block as a multiple of its input; a decision for each block.
        squeeze: whether a block has squeeze-and-excitation; a decision for each block.
        activation: "relu", "relu6", "hardswish" or "silu".

    A sequence of one value decides nothing.
    """

    widths: Sequence[int] = attrs.field(converter=_tuple)
    depths: Sequence[int] = attrs.field(default=(1, 2, 3), converter=_tuple)
    stride: int = 1
    kernels: Sequence[int] = attrs.field(default=(3, 5, 7), converter=_tuple)
    expansions: Sequence[int] = attrs.field(default=(3, 6), converter=_tuple)
    squeeze: Sequence[bool] = attrs.field(default=(False, True), converter=_tuple)
    activation: str = "relu"

    def __attrs_post_init__(self) -> None:
        for name in ("widths", "depths", "kernels", "expansions", "squeeze"):
            values = getattr(self, name)
            if not values or (name != "squeeze" and min(values) < 1):
                raise ValueError(f"`{name}` ({values}) must hold at least one positive number.")
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"`kernels` ({self.kernels}) must be odd.")
        if self.stride not in (1, 2):
            raise ValueError(f"`stride` ({self.stride}) must be 1 or 2.")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` ({self.activation!r}) must be one of {', '.join(ACTIVATIONS)}."
            )


@sn.symbolize
class ConvBNAct(nn.Sequential):
    """Convolution without bias, batch norm, activation (None for a linear one).

    `[B, in_channels, H, W]` to `[B, out_channels, ceil(H / stride), ceil(W / stride)]`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: str | None = "relu",
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                kernel_size // 2,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
        ]
        if activation is not None:
            layers.append(ACTIVATIONS[activation](inplace=True))
        super().__init__(*layers)


class SqueezeExcite(nn.Module):
    """Scales channels by a function of their means; keeps the shape `[B, channels, H, W]`."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.gate(x)
        return y


@sn.symbolize
class InvertedBottleneck(nn.Module):
    """1x1 expansion, depthwise convolution, squeeze-and-excitation, linear 1x1 projection.

    `[B, in_channels, H, W]` to `[B, out_channels, ceil(H / stride), ceil(W / stride)]`; the input
    is added where it has the output's shape.

    Args:
        kernel_size: of the depthwise convolution, odd.
        expansion: channels inside as a multiple of `in_channels`; 1 leaves out the expansion.
        squeeze: whether to have squeeze-and-excitation, to a quarter of the channels inside.
        activation: "relu", "relu6", "hardswish" or "silu".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        expansion: int = 6,
        stride: int = 1,
        squeeze: bool = False,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        inside = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = (
            ConvBNAct(in_channels, inside, 1, activation=activation)
            if expansion > 1
            else nn.Identity()
        )
        self.depthwise = ConvBNAct(
            inside, inside, kernel_size, stride, groups=inside, activation=activation
        )
        self.squeeze = SqueezeExcite(inside, max(inside // 4, 1)) if squeeze else nn.Identity()
        self.project = ConvBNAct(inside, out_channels, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


def mobilenet(
    stages: Sequence[Stage],
    stem: int = 16,
    head: int = 128,
    classes: int = 10,
    resolution: int | Sequence[int] = 32,
    *,
    in_channels: int = 3,
    stem_stride: int = 2,
    activation: str = "relu",
) -> sn.Space:
    """Stem, stages of inverted bottlenecks, 1x1 head, global pooling, linear classifier.

    Decisions, by name: `width s` and `depth s` for each stage s from 0, and `kernel s.b`,
    `expansion s.b`, `squeeze s.b` for each block b of it, active where the stage is deep enough.

    Args:
        stages: at least one.
        stem: channels of the stem, a 3x3 convolution.
        head: channels before the classifier.
        classes: number of outputs.
        resolution: height and width of the input in pixels; several make it a decision.
        in_channels: channels of the input.
        stem_stride: 1 or 2.
        activation: of the stem and the head.

    Raises:
        ValueError: a number is out of range, or there are no stages.

    >>> space = mobilenet([Stage([8, 16], depths=[1, 2], kernels=[3, 5])], resolution=16)
    >>> space.size  # 2 widths, 8 blocks each or 64 pairs of blocks
    144
    """
    stages = tuple(stages)
    if not stages:
        raise ValueError("`stages` () must have at least one stage, such as Stage([16, 24]).")
    positive = {"stem": stem, "head": head, "classes": classes, "in_channels": in_channels}
    for name, value in positive.items():
        if value < 1:
            raise ValueError(f"`{name}` ({value}) must be at least 1.")
    if stem_stride not in (1, 2):
        raise ValueError(f"`stem_stride` ({stem_stride}) must be 1 or 2.")
    if activation not in ACTIVATIONS:
        raise ValueError(f"`activation` ({activation!r}) must be one of {', '.join(ACTIVATIONS)}.")
    sides = (resolution,) if isinstance(resolution, int) else tuple(resolution)
    if not sides or min(sides) < 1:
        raise ValueError(f"`resolution` ({resolution}) must be positive numbers of pixels.")
    side = sides[0] if len(sides) == 1 else sn.oneof(sides, name="resolution")

    @sn.space(input=(in_channels, side, side))
    def mobilenet() -> Any:
        layers: list[Any] = [ConvBNAct(in_channels, stem, 3, stem_stride, activation=activation)]
        width: Any = stem
        for index, stage in enumerate(stages):
            before, width = width, _choice(stage.widths, f"width {index}")
            layers.append(_blocks(stage, index, before, width))
        return sn.nn.Sequential(
            *layers,
            ConvBNAct(width, head, 1, activation=activation),
            sn.nn.AdaptiveAvgPool2d(1),
            sn.nn.Flatten(),
            sn.nn.Linear(head, classes),
        )

    space: sn.Space = mobilenet()
    return space


def _blocks(stage: Stage, index: int, before: Any, width: Any) -> Any:
    def block(i: int) -> Any:
        return InvertedBottleneck(
            before if i == 0 else width,
            width,
            kernel_size=_choice(stage.kernels, f"kernel {index}.{i}"),
            expansion=_choice(stage.expansions, f"expansion {index}.{i}"),
            stride=stage.stride if i == 0 else 1,
            squeeze=_choice(stage.squeeze, f"squeeze {index}.{i}"),
            activation=stage.activation,
        )

    return sn.repeat(block, times=_choice(stage.depths, f"depth {index}"))


def _choice(candidates: Sequence[Any], name: str) -> Any:
    return candidates[0] if len(candidates) == 1 else sn.oneof(candidates, name=name)


def mobilenet_28(classes: int = 10) -> sn.Space:
    """A small space for 28x28 grey images: 10^10 architectures of 7,000 to 280,000 parameters.

    Its networks learn the handwritten digits of MNIST in seconds on a CPU.

    >>> space = mobilenet_28()
    >>> space.input
    (1, 28, 28)
    """
    stages = [
        Stage([8, 12, 16], depths=[1, 2]),
        Stage([16, 24, 32], depths=[1, 2, 3], stride=2),
        Stage([24, 32, 40], depths=[1, 2, 3], stride=2),
    ]
    return mobilenet(stages, stem=8, head=64, classes=classes, resolution=28, in_channels=1)


def mobilenet_224(classes: int = 1000, resolution: int | Sequence[int] = 224) -> sn.Space:
    """The choices of Once-for-All around MobileNetV3-Large (about 2 * 10^19 architectures).

    Five stages of 2 to 4 blocks with kernels 3, 5, 7 and expansions 3, 4, 6. Unlike the published
    network it has one 1x1 convolution before the classifier, without a second one after pooling.

    >>> 2e19 < mobilenet_224().size < 3e19
    True
    """
    plan = [
        # width, stride, squeeze-and-excitation, activation
        (24, 2, False, "relu"),
        (40, 2, True, "relu"),
        (80, 2, False, "hardswish"),
        (112, 1, True, "hardswish"),
        (160, 2, True, "hardswish"),
    ]
    first = Stage([16], depths=[1], kernels=[3], expansions=[1], squeeze=[False])
    searched = [
        Stage([width], [2, 3, 4], stride, (3, 5, 7), (3, 4, 6), [squeeze], activation)
        for width, stride, squeeze, activation in plan
    ]
    return mobilenet([first, *searched], 16, 960, classes, resolution, activation="hardswish")
