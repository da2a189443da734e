"""Spaces in the manner of TuNAS: widths that whole stages share, and blocks that may be left out.

G. Bender et al., "Can weight sharing outperform random architecture search? An investigation with
TuNAS", CVPR 2020, arXiv:2008.06120, Section 3 and Appendix C: the multipliers of base widths, the
kernels and the expansions are the paper's; strides, depths and classifier are those of
MobileNetV3-Large (arXiv:1905.02244), where the paper refers to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symnas.spaces.mobilenet import ConvBNAct, InvertedBottleneck

import symnas as sn

MULTIPLIERS = (0.5, 0.625, 0.75, 1, 1.25, 1.5, 2)


def widths(base: int, multipliers: Sequence[float] = MULTIPLIERS) -> list[int]:
    """Multiples of a base width, rounded to multiples of 8, and at least 8.

    >>> widths(16)
    [8, 16, 24, 32]
    >>> widths(64)
    [32, 40, 48, 64, 80, 96, 128]
    """
    rounded = (max(8, int(base * m + 4) // 8 * 8) for m in multipliers)
    return sorted(set(rounded))


def mobilenetv3_like(
    classes: int = 1000,
    resolution: int = 224,
    depths: Sequence[int] = (1, 4, 4, 5, 5, 5),
    base: Sequence[int] = (16, 16, 32, 64, 128, 256, 512, 1024),
) -> sn.Space:
    """Kernel, expansion, squeeze-and-excitation and presence of each block, and widths of stages.

    Each stage has one decision on its width, which all its blocks share. The first block of a stage
    is always there; the others may be left out. Expansions are 1 to 6, kernels 3, 5 and 7.

    Args:
        classes: number of outputs.
        resolution: height and width of the input in pixels.
        depths: the most blocks of each stage.
        base: widths before they are multiplied: of the stem, the stages, and the head.

    Raises:
        ValueError: there is not one base width for the stem, each stage and the head.

    >>> space = mobilenetv3_like()
    >>> f"{space.size:.1e}", len(space)
    ('1.2e+44', 99)
    """
    if len(base) != len(depths) + 2:
        raise ValueError(
            f"`base` ({list(base)}) must have {len(depths) + 2} widths: the stem's, one for each of "
            f"the {len(depths)} stages of `depths`, and the head's."
        )
    strides = [1, 2, 2, 2, 1, 2, 1, 1, 1, 1]

    @sn.space(input=(3, resolution, resolution))
    def mobilenetv3_like() -> Any:
        width: Any = _width(base[0], "stem")
        kernel = sn.oneof([3, 5], name="stem kernel")
        layers: list[Any] = [ConvBNAct(3, width, kernel, 2, activation="hardswish")]
        for stage, depth in enumerate(depths):
            before, width = width, _width(base[stage + 1], f"stage {stage}")
            for block in range(depth):
                first = block == 0
                layer = InvertedBottleneck(
                    before if first else width,
                    width,
                    kernel_size=sn.oneof([3, 5, 7], name=f"kernel {stage}.{block}"),
                    expansion=sn.oneof([1, 2, 3, 4, 5, 6], name=f"expansion {stage}.{block}"),
                    stride=strides[stage] if first else 1,
                    squeeze=sn.oneof([False, True], name=f"squeeze {stage}.{block}"),
                    activation="relu" if stage < 3 else "hardswish",
                )
                skip = sn.nn.Identity()
                layers.append(
                    layer if first else sn.oneof([layer, skip], name=f"block {stage}.{block}")
                )
        head = _width(base[-1], "head")
        return sn.nn.Sequential(
            *layers,
            ConvBNAct(width, head, 1, activation="hardswish"),
            sn.nn.AdaptiveAvgPool2d(1),
            sn.nn.Flatten(),
            sn.nn.Linear(head, classes),
        )

    space: sn.Space = mobilenetv3_like()
    return space


def _width(base: int, name: str) -> Any:
    return sn.oneof(widths(base), name=f"width {name}")
