"""Supernets as their authors would write them for one space: what `sn.Supernet` is compared with.

Layers hold the largest weights and cut slices of them in `forward`; nothing is assembled, and there
is no more to a layer than the calls of `torch.nn.functional` that it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from symnas.spaces.nasbench201 import EDGES, Reduction, ReLUConvBN, Zero
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS = {
    "relu": F.relu_, "hardswish": lambda x: F.hardswish(x, inplace=True), None: lambda x: x
}  # fmt: skip


class SlicedConv(nn.Module):
    """Convolution without bias, batch norm, activation, of up to so many channels and taps."""

    def __init__(
        self, before: int, after: int, kernel: int = 1, stride: int = 1, depthwise: bool = False,
        activation: str | None = "relu",
    ) -> None:  # fmt: skip
        super().__init__()
        made = nn.Conv2d(before, after, kernel, bias=False, groups=after if depthwise else 1)
        self.weight, self.norm = made.weight, nn.BatchNorm2d(after)
        self.stride, self.depthwise, self.activation = stride, depthwise, ACTIVATIONS[activation]

    def forward(self, x: Tensor, after: int, kernel: int = 1) -> Tensor:
        cut = (self.weight.shape[-1] - kernel) // 2
        weight = self.weight[:after]
        if not self.depthwise:
            weight = weight[:, : x.shape[1]]
        if cut:
            weight = weight[:, :, cut:-cut, cut:-cut]
        x = F.conv2d(
            x, weight, None, self.stride, kernel // 2, groups=after if self.depthwise else 1
        )
        norm = self.norm
        if self.training:
            norm.num_batches_tracked.add_(1)
        x = F.batch_norm(
            x, norm.running_mean[:after], norm.running_var[:after], norm.weight[:after],
            norm.bias[:after], self.training, norm.momentum, norm.eps,
        )  # fmt: skip
        return self.activation(x)


class SlicedBlock(nn.Module):
    """The inverted bottleneck of `symnas.spaces.mobilenet`, elastic in all its arguments."""

    def __init__(
        self, before: int, after: int, kernel: int, expansion: int, stride: int, squeeze: bool,
        activation: str,
    ) -> None:  # fmt: skip
        super().__init__()
        inside = before * expansion
        self.stride = stride
        self.expand = SlicedConv(before, inside, activation=activation)
        self.depthwise = SlicedConv(
            inside, inside, kernel, stride, depthwise=True, activation=activation
        )
        self.project = SlicedConv(inside, after, activation=None)
        if squeeze:
            self.down = nn.Conv2d(inside, max(inside // 4, 1), 1)
            self.up = nn.Conv2d(max(inside // 4, 1), inside, 1)

    def forward(self, x: Tensor, after: int, kernel: int, expansion: int, squeeze: bool) -> Tensor:
        before = x.shape[1]
        inside = before * expansion
        y = self.expand(x, inside) if expansion > 1 else x
        y = self.depthwise(y, inside, kernel)
        if squeeze:
            few = max(inside // 4, 1)
            z = F.adaptive_avg_pool2d(y, 1)
            z = F.relu_(F.conv2d(z, self.down.weight[:few, :inside], self.down.bias[:few]))
            z = F.conv2d(z, self.up.weight[:inside, :few], self.up.bias[:inside])
            y = y * F.hardsigmoid(z, inplace=True)
        y = self.project(y, after)
        return x + y if self.stride == 1 and before == after else y


class SlicedMobilenet(nn.Module):
    """All networks of a `symnas.spaces.mobilenet` space.

    Args:
        stages: as for the space.
        stem, head, classes, in_channels, activation: as for the space.
    """

    def __init__(
        self, stages: Sequence[Any], stem: int, head: int, classes: int, in_channels: int,
        activation: str = "relu",
    ) -> None:  # fmt: skip
        super().__init__()
        self.plan = stages
        self.stem = SlicedConv(in_channels, stem, 3, 2, activation=activation)
        self.stages = nn.ModuleList()
        width = stem
        for stage in stages:
            before, width = width, max(stage.widths)
            self.stages.append(
                nn.ModuleList(
                    SlicedBlock(
                        before if i == 0 else width, width, max(stage.kernels),
                        max(stage.expansions), stage.stride if i == 0 else 1, max(stage.squeeze),
                        stage.activation,
                    )
                    for i in range(max(stage.depths))
                )
            )  # fmt: skip
        self.head = SlicedConv(width, head, activation=activation)
        self.stem_size, self.head_size = stem, head
        self.classifier = nn.Linear(head, classes)

    def take_over(self, net: Any) -> None:
        """Takes the weights of an `sn.Supernet` of the same space, by their names."""
        places = {"stem": "0:", "head": f"{len(self.plan) + 1}:"}
        stored, found = net.weights.state_dict(), {}
        for name in self.state_dict():
            parts = name.split(".")
            if parts[0] == "classifier":
                found[name] = stored[f"{len(self.plan) + 4}:{parts[1]}"]
                continue
            place = places.get(parts[0]) or f"{int(parts[1]) + 1}/{parts[2]}:"
            own = parts[1:] if parts[0] in places else parts[3:]
            if own[0] in ("expand", "depthwise", "project"):
                place, own = f"{place}{own[0]}/", own[1:]
            if own[0] in ("down", "up"):
                own = ["squeeze", "gate", "1" if own[0] == "down" else "3", own[1]]
            elif own[0] == "norm":
                own[0] = "1"
            else:
                own.insert(0, "0")
            found[name] = stored[place + "/".join(own)]
        self.load_state_dict(found)

    def select(self, architecture: Any) -> SlicedMobilenet:
        """Reads the decisions of an architecture."""

        def value(name: str, given: Sequence[Any]) -> Any:
            return given[0] if len(given) == 1 else architecture[name]

        self.chosen = []
        for s, stage in enumerate(self.plan):
            width = value(f"width {s}", stage.widths)
            for i in range(value(f"depth {s}", stage.depths)):
                self.chosen.append(
                    (
                        self.stages[s][i], width, value(f"kernel {s}.{i}", stage.kernels),
                        value(f"expansion {s}.{i}", stage.expansions),
                        value(f"squeeze {s}.{i}", stage.squeeze),
                    )
                )  # fmt: skip
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x, self.stem_size, 3)
        for block, width, kernel, expansion, squeeze in self.chosen:
            x = block(x, width, kernel, expansion, squeeze)
        x = F.adaptive_avg_pool2d(self.head(x, self.head_size), 1).flatten(1)
        return self.classifier(x)


class SlicedEdge(nn.Module):
    """An edge of NAS-Bench-201 with its five operations."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(
            [
                Zero(), nn.Identity(), ReLUConvBN(channels, channels, 1),
                ReLUConvBN(channels, channels, 3),
                nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
            ]
        )  # fmt: skip

    def forward(self, x: Tensor, chosen: Any) -> Tensor:
        if isinstance(chosen, int):
            y: Tensor = self.operations[chosen](x)
            return y
        weighted = (w * operation(x) for w, operation in zip(chosen, self.operations, strict=True))
        return sum(weighted, start=torch.zeros(()))


class SlicedCell(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(SlicedEdge(channels) for _ in EDGES)

    def forward(self, x: Tensor, chosen: Sequence[Any]) -> Tensor:
        nodes = [x]
        for target in range(1, 4):
            found = [
                edge(nodes[source], c)
                for edge, c, (source, to) in zip(self.edges, chosen, EDGES, strict=True)
                if to == target
            ]
            nodes.append(sum(found[1:], start=found[0]))
        return nodes[3]


class SlicedCells(nn.Module):
    """All networks of NAS-Bench-201, or their mixtures."""

    def __init__(self, channels: int, cells: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.body = nn.ModuleList()
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                self.body.append(Reduction(width // 2, width))
            self.body.extend(SlicedCell(width) for _ in range(cells))
        self.norm = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
        self.classifier = nn.Linear(width, classes)
        self.chosen: Sequence[Any] = [1] * 6

    def select(self, architecture: Any) -> SlicedCells:
        self.chosen = [int(value) for value in architecture.row]
        return self

    def mix(self, weights: Sequence[Tensor]) -> SlicedCells:
        self.chosen = weights
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for part in self.body:
            x = part(x, self.chosen) if isinstance(part, SlicedCell) else part(x)
        x = F.adaptive_avg_pool2d(self.norm(x), 1).flatten(1)
        return self.classifier(x)
