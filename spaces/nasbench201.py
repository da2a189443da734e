"""NAS-Bench-201: 15,625 cells of four nodes, and the network that repeats one of them.

X. Dong and Y. Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture
Search", ICLR 2020, arXiv:2001.00326, Section 2. The network has the parameters of the published
one, module by module.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import symnas as sn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The five operations of an edge, under their published names and in their published order."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The six edges (from, to) of a cell, in the order of the decisions and of the strings."""

_NAMES = tuple(f"{target}<-{source}" for source, target in EDGES)


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution without bias, batch norm. `[B, in, H, W]` to `[B, out, H/stride, ...]`."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1
    ) -> None:
        padding = kernel_size // 2
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False),
            nn.BatchNorm2d(out_channels),
        )


class Zero(nn.Module):
    """The operation `none`: zeros of the input's shape."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


@sn.symbolize
class Edge(nn.Module):
    """One operation on a tensor `[B, channels, H, W]`, whose shape it keeps.

    The operation is a child of its own name, so that a supernet keeps the weights of the two
    convolutions apart.
    """

    def __init__(self, operation: str, channels: int) -> None:
        super().__init__()
        if operation not in OPERATIONS:
            raise ValueError(f"`operation` ({operation!r}) must be one of {', '.join(OPERATIONS)}.")
        self.operation = operation
        layer: nn.Module
        if operation == "none":
            layer = Zero()
        elif operation == "skip_connect":
            layer = nn.Identity()
        elif operation == "avg_pool_3x3":
            layer = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        else:
            layer = ReLUConvBN(channels, channels, 1 if operation == "nor_conv_1x1" else 3)
        self.add_module(operation, layer)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = getattr(self, self.operation)(x)
        return y


@sn.symbolize
class Cell(nn.Module):
    """Nodes 0 to 3; node j is the sum over all i < j of the edge (i, j) applied to node i.

    Args:
        edges: six modules, in the order of `EDGES`.
    """

    def __init__(self, edges: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(edges) != len(EDGES):
            raise ValueError(f"`edges` has {len(edges)} modules; a cell has {len(EDGES)} edges.")
        self.edges = nn.ModuleList(edges)

    def forward(self, x: Tensor) -> Tensor:
        edges = self.edges
        node_1 = edges[0](x)
        node_2 = edges[1](x) + edges[2](node_1)
        node_3: Tensor = edges[3](x) + edges[4](node_1) + edges[5](node_2)
        return node_3


@sn.symbolize
class Reduction(nn.Module):
    """The residual block between stages: half the resolution, other channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(in_channels, out_channels, stride=2)
        self.conv_b = ReLUConvBN(out_channels, out_channels)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2), nn.Conv2d(in_channels, out_channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.conv_b(self.conv_a(x))
        return y


def nasbench201(
    channels: int = 16,
    cells: int = 5,
    classes: int = 10,
    resolution: int = 32,
    *,
    canonical: bool = True,
) -> sn.Space:
    """The space of NAS-Bench-201: six decisions, shared by all cells of the network.

    Args:
        channels: channels C of the first stage; the next two have 2C and 4C.
        cells: cells N in each of the three stages.
        classes: number of outputs.
        resolution: height and width of the input in pixels, a multiple of 4.
        canonical: treat cells with the same `unique_string` as one architecture (6,466 of
            15,625). That is the published treatment, and what a search wants: a duplicate would
            be trained again. Cells that differ in nothing but unused convolutions, or in whether
            two branches share weights, count as one then although their parameters differ; False
            tells all 15,625 apart.

    Raises:
        ValueError: a number is not positive, or the resolution is no multiple of 4.

    >>> space = nasbench201(channels=4, cells=1)
    >>> space.size, len(space.columns)
    (15625, 6)
    >>> network = space.decode([0, 1, 2, 3, 4, 1]).build()
    """
    for name, value in (("channels", channels), ("cells", cells), ("classes", classes)):
        if value < 1:
            raise ValueError(f"`{name}` ({value}) must be at least 1.")
    if resolution < 4 or resolution % 4:
        raise ValueError(
            f"`resolution` ({resolution}) must be a positive multiple of 4: two blocks halve it."
        )

    @sn.space(input=(3, resolution, resolution), canonical=unique_string if canonical else None)
    def nasbench201() -> Any:
        operations = [sn.oneof(OPERATIONS, name=name) for name in _NAMES]

        def stage(width: int) -> list[Any]:
            return [Cell([Edge(choice, width) for choice in operations]) for _ in range(cells)]

        last = 4 * channels
        return sn.nn.Sequential(
            sn.nn.Sequential(
                sn.nn.Conv2d(3, channels, 3, padding=1, bias=False), sn.nn.BatchNorm2d(channels)
            ),
            *stage(channels),
            Reduction(channels, 2 * channels),
            *stage(2 * channels),
            Reduction(2 * channels, last),
            *stage(last),
            sn.nn.Sequential(sn.nn.BatchNorm2d(last), sn.nn.ReLU()),
            sn.nn.AdaptiveAvgPool2d(1),
            sn.nn.Flatten(),
            sn.nn.Linear(last, classes),
        )

    space: sn.Space = nasbench201()
    return space


def operations_of(architecture: Any) -> tuple[str, ...]:
    """The six operations of an architecture, of a row, or of a string, in the order of `EDGES`.

    Raises:
        ValueError: it is none of these, or not a cell of this space.

    >>> operations_of([0, 1, 2, 3, 4, 1])[:3]
    ('none', 'skip_connect', 'nor_conv_1x1')
    """
    if isinstance(architecture, str):
        return _parse(architecture)
    if isinstance(architecture, sn.Architecture):
        try:
            return tuple([architecture[name] for name in _NAMES])
        except KeyError:  # a program edited by hand, or a space with decisions fixed
            return tuple(architecture.program.args[1].edges[i].operation for i in range(len(EDGES)))
    row = [int(value) for value in architecture]
    if len(row) != len(EDGES) or not all(0 <= value < len(OPERATIONS) for value in row):
        raise ValueError(f"`architecture` ({row}) must have six operations, each from 0 to 4.")
    return tuple(OPERATIONS[value] for value in row)


def to_string(architecture: Any) -> str:
    """The published name of a cell.

    Args:
        architecture: an architecture of this space, or its row.

    >>> to_string([0, 1, 2, 3, 4, 1])
    '|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|skip_connect~2|'
    """
    nodes: dict[int, list[str]] = {1: [], 2: [], 3: []}
    for (source, target), operation in zip(EDGES, operations_of(architecture), strict=True):
        nodes[target].append(f"{operation}~{source}")
    return "+".join(f"|{'|'.join(inputs)}|" for inputs in nodes.values())


def from_string(cell: str) -> tuple[int, ...]:
    """The row of a cell given by its published name: the inverse of `to_string`.

    Raises:
        ValueError: `cell` is not such a name.

    >>> from_string("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    (0, 0, 0, 1, 0, 0)
    """
    return tuple(OPERATIONS.index(operation) for operation in _parse(cell))


def unique_string(architecture: Any) -> str:
    """What the cell computes, as a string: the published test of isomorphism (6,466 values).

    A node is written as the sorted sum of its inputs; `skip_connect` stands for its input, and
    `none`, or anything done to it, for `#`.

    >>> unique_string([1, 0, 3, 0, 0, 1]) == unique_string([3, 0, 1, 0, 0, 1])
    True
    """
    return _unique_string(operations_of(architecture))


@functools.cache  # at most 15,625
def _unique_string(operations: tuple[str, ...]) -> str:
    inputs: dict[int, list[str]] = {1: [], 2: [], 3: []}
    node = {0: "0"}
    for (source, target), operation in zip(EDGES, operations, strict=True):
        if source not in node:  # edges come in the order of their targets
            node[source] = "+".join(sorted(inputs[source]))
        value = node[source]
        if operation == "none" or value == "#":
            value = "#"
        elif operation != "skip_connect":
            value = f"({value})@{operation}"
        inputs[target].append(value)
    return "+".join(sorted(inputs[3]))


def _parse(cell: str) -> tuple[str, ...]:
    found = re.findall(r"([a-z_0-9]+)~(\d)", cell)
    operations = tuple(operation for operation, _ in found)
    sources = tuple(int(source) for _, source in found)
    known = all(operation in OPERATIONS for operation in operations)
    if not known or sources != tuple(s for s, _ in EDGES):
        raise ValueError(
            f"`cell` ({cell!r}) must have the form '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|' with each "
            f"op one of {', '.join(OPERATIONS)}."
        )
    return operations
