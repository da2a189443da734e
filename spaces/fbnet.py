"""The space of FBNet: 22 layers, nine blocks to choose from for each.

B. Wu et al., "FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture
Search", CVPR 2019, arXiv:1812.03443, Section 3.1 with Tables 1 and 2. Where a skipped layer would
change the shape, a 1x1 convolution with ReLU does it, as in HW-NAS-Bench (C. Li et al., ICLR 2021,
arXiv:2103.10584); the paper is silent about that.
"""

from __future__ import annotations

from typing import Any

from symnas.spaces.mobilenet import ConvBNAct
from torch import Tensor, nn

import symnas as sn

OPERATIONS = (
    "k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip"
)  # fmt: skip
"""The blocks, by kernel, expansion and groups, in the published order."""

_BLOCKS = {
    "k3_e1": (3, 1, 1), "k3_e1_g2": (3, 1, 2), "k3_e3": (3, 3, 1), "k3_e6": (3, 6, 1),
    "k5_e1": (5, 1, 1), "k5_e1_g2": (5, 1, 2), "k5_e3": (5, 3, 1), "k5_e6": (5, 6, 1),
}  # fmt: skip

STEM = 16
WIDTHS = (16, 24, 32, 64, 112, 184, 352)
DEPTHS = (1, 4, 4, 4, 4, 4, 1)
STRIDES = (1, 2, 2, 2, 1, 2, 1)


class FBNetBlock(nn.Module):
    """1x1 convolution, channel shuffle if grouped, depthwise convolution, linear 1x1 convolution.

    Paper, Figure 3. `[B, in_channels, H, W]` to `[B, out_channels, ceil(H / stride), ...]`; the
    input is added where it has the output's shape.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        expansion: int,
        groups: int = 1,
        stride: int = 1,
    ) -> None:
        super().__init__()
        inside = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = ConvBNAct(in_channels, inside, 1, groups=groups)
        self.shuffle = nn.ChannelShuffle(groups) if groups > 1 else nn.Identity()
        self.depthwise = ConvBNAct(inside, inside, kernel_size, stride, groups=inside)
        self.project = ConvBNAct(inside, out_channels, 1, groups=groups, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.shuffle(self.expand(x))))
        return x + y if self.residual else y


@sn.symbolize
class Layer(nn.Module):
    """One of `OPERATIONS`, a child of its own name, so that a supernet keeps their weights apart.

    Args:
        operation: one of `OPERATIONS`.
        in_channels, out_channels: even.
        stride: 1 or 2.
    """

    def __init__(
        self, operation: str, in_channels: int, out_channels: int, stride: int = 1
    ) -> None:
        super().__init__()
        if operation not in OPERATIONS:
            raise ValueError(f"`operation` ({operation!r}) must be one of {', '.join(OPERATIONS)}.")
        self.operation = operation
        layer: nn.Module
        if operation != "skip":
            kernel_size, expansion, groups = _BLOCKS[operation]
            layer = FBNetBlock(in_channels, out_channels, kernel_size, expansion, groups, stride)
        elif stride == 1 and in_channels == out_channels:
            layer = nn.Identity()
        else:
            layer = ConvBNAct(in_channels, out_channels, 1, stride)
        self.add_module(operation, layer)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = getattr(self, self.operation)(x)
        return y


def fbnet(
    classes: int = 1000, resolution: int = 224, *, head: int = 1504, canonical: bool = True
) -> sn.Space:
    """The block of each of 22 layers: 9^22, about 10^21, networks.

    Decisions: `layer 1` to `layer 22`.

    Args:
        classes: number of outputs.
        resolution: height and width of the input in pixels; 32 times smaller after the last layer.
        head: channels before the classifier: 1504 in Table 1 of the paper, 1984 in networks that
            were published later.
        canonical: treat networks as one that differ in nothing but which of some equal layers are
            skipped: `k3_e1, skip` and `skip, k3_e1`, say.

    Raises:
        ValueError: a number is not positive.

    >>> space = fbnet()
    >>> space.size == 9**22, space.columns[0]
    (True, 'args[1].operation')
    """
    for name, value in (("classes", classes), ("resolution", resolution), ("head", head)):
        if value < 1:
            raise ValueError(f"`{name}` ({value}) must be at least 1.")

    @sn.space(input=(3, resolution, resolution), canonical=without_skips if canonical else None)
    def fbnet() -> Any:
        layers: list[Any] = [ConvBNAct(3, STEM, 3, 2)]
        before = STEM
        for width, depth, stride in zip(WIDTHS, DEPTHS, STRIDES, strict=True):
            for i in range(depth):
                operation = sn.oneof(OPERATIONS, name=f"layer {len(layers)}")
                layers.append(Layer(operation, before, width, stride if i == 0 else 1))
                before = width
        return sn.nn.Sequential(
            *layers,
            ConvBNAct(before, head, 1),
            sn.nn.AdaptiveAvgPool2d(1),
            sn.nn.Flatten(),
            sn.nn.Linear(head, classes),
        )

    space: sn.Space = fbnet()
    return space


def without_skips(architecture: sn.Architecture) -> tuple[tuple[str, ...], ...]:
    """The operations of each stage, without the skips that do nothing: equal for equal networks.

    The first layer of each stage but the first changes the shape, so it does something.
    """
    names = iter(f"layer {i}" for i in range(1, sum(DEPTHS) + 1))
    found = []
    before = STEM
    for width, depth, stride in zip(WIDTHS, DEPTHS, STRIDES, strict=True):
        stage = [_operation(architecture, next(names)) for _ in range(depth)]
        first = 0 if stride == 1 and before == width else 1
        found.append((*stage[:first], *(o for o in stage[first:] if o != "skip")))
        before = width
    return tuple(found)


def _operation(architecture: sn.Architecture, name: str) -> str:
    try:
        return str(architecture[name])
    except KeyError:  # a program edited by hand, or a space with decisions fixed
        place = int(name.split()[1])
        return str(architecture.program.args[place].sym_init_args["operation"])
