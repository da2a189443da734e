"""NAS-Bench-Graph: graph networks of four computing nodes, 26,206 of which differ.

Y. Qin et al., "NAS-Bench-Graph: Benchmarking Graph Neural Architecture Search", NeurIPS 2022,
arXiv:2206.09166, Section 3. Widths, and the layers before and after the cell, are those whose
parameters the published tables count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from symnas.spaces.graph_operations import ComputingNode, Graph
from torch import Tensor, nn

import symnas as sn
from symnas.benchmark.readers import graph_cells as cells


@attrs.frozen
class Setting:
    """How the networks for one graph are made.

    Attributes:
        features: of each vertex.
        classes: number of outputs for each vertex.
        width: of the computing nodes.
        before: whether a linear layer comes first, so that nodes read `width` features.
        after: whether two linear layers follow the cell, to `width` and to `classes`, or one.
        operations: that a node can choose from.
    """

    features: int
    classes: int
    width: int
    before: bool
    after: bool
    operations: tuple[str, ...] = cells.OPERATIONS


SETTINGS = {
    "cora": Setting(1433, 7, 256, before=False, after=True),
    "citeseer": Setting(3703, 6, 256, before=False, after=True),
    "pubmed": Setting(500, 3, 128, before=False, after=False),
    "cs": Setting(6805, 15, 128, before=True, after=False),
    "physics": Setting(8415, 5, 256, before=True, after=False),
    "photo": Setting(745, 8, 128, before=False, after=False),
    "computers": Setting(767, 10, 64, before=True, after=True),
    "arxiv": Setting(128, 40, 128, before=False, after=True),
    "proteins": Setting(8, 112, 256, before=True, after=True, operations=cells.PROTEINS),
}
"""The nine published graphs. Widths and layers were found by counting: they give the published
number of parameters of every architecture (on physics, of all but 6%)."""


@sn.symbolize
class GraphNetwork(nn.Module):
    """A cell of computing nodes between linear layers.

    The input is `[B, nodes, features + nodes]`, B dense graphs: features, and then the adjacency,
    where a positive number is an edge. Or a pair: features `[nodes, features]` or
    `[B, nodes, features]`, and an adjacency `[..., nodes, nodes]` of 0 and 1, which may be one
    sparse COO matrix. Row i of it has the neighbours of vertex i, without i itself. The output is
    `[B, nodes, classes]`, or `[nodes, classes]`.

    Args:
        features: of each vertex.
        links: the input of each node, 0 for the features, as a text: "0012".
        nodes: `ComputingNode`s.
        outputs: the nodes, from 0, whose results are concatenated.
        before: what the features go through first, or None.
        after: what the concatenated results go through.
        dropout: the probability for the features.
    """

    def __init__(
        self,
        features: int,
        links: str,
        nodes: Sequence[nn.Module],
        outputs: Sequence[int],
        before: nn.Module | None,
        after: nn.Module,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not outputs:
            raise ValueError(
                "`outputs` () must have at least one node: a cell of skips alone is not in the space "
                "(space.is_valid(rows) says which rows are)."
            )
        self.features = features
        self.sources = [int(digit) for digit in links]
        self.outputs = list(outputs)
        self.dropout = nn.Dropout(dropout)
        self.before = before
        self.nodes = nn.ModuleList(nodes)
        self.after = after

    def forward(self, batch: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        if isinstance(batch, Tensor):
            x, edges = batch[..., : self.features], batch[..., self.features :]
            graph = Graph((edges > 0).to(x.dtype))
        else:
            x, graph = batch[0], Graph(batch[1])
        x = self.dropout(x)
        results = [x if self.before is None else self.before(x)]
        for source, node in zip(self.sources, self.nodes, strict=True):
            results.append(node(results[source], graph))
        joined = torch.cat([results[i + 1] for i in self.outputs], dim=-1)
        y: Tensor = self.after(torch.relu(joined))
        return y


def nas_bench_graph(
    dataset: str = "cora",
    *,
    features: int | None = None,
    classes: int | None = None,
    width: int | None = None,
    vertices: int = 32,
    dropout: float = 0.5,
    canonical: bool = True,
) -> sn.Space:
    """The space of NAS-Bench-Graph: which tree four nodes form, and what each of them does.

    Decisions: `links`, one of nine trees, and `node 1` to `node 4`, nine operations each. The cell
    of skips alone is no valid one. A node that skips from the features to the output gives nothing
    to it, as in the published cells. Supernets take the datasets with a layer before the cell (cs,
    physics, computers, proteins); elsewhere the shape of a node's weights depends on too many others.

    Args:
        dataset: one of `SETTINGS`; its numbers hold where the following are None.
        features: of each vertex.
        classes: number of outputs for each vertex.
        width: of the computing nodes, a multiple of 4.
        vertices: of an example graph, for shapes and costs.
        dropout: in front of every node and of the features. The published value is another one
            for each dataset; it is no part of the architecture.
        canonical: treat cells as one architecture that the benchmark treats as one (26,206 of
            59,040; 2,021 on proteins). They compute the same, but for the batch norm, ReLU and
            dropout before each node that skips.

    Raises:
        ValueError: there is no such dataset, or a number is out of range.

    >>> space = nas_bench_graph("cora", features=8, classes=3, width=16)
    >>> space.size, [d.name for d in space.decisions]
    (59049, ['links', 'node 1', 'node 2', 'node 3', 'node 4'])
    >>> network = space.decode([3, 1, 0, 8, 2]).build()
    >>> network(torch.randn(2, 32, 8 + 32)).shape
    torch.Size([2, 32, 3])
    """
    if dataset not in SETTINGS:
        raise ValueError(f"`dataset` ({dataset!r}) must be one of {', '.join(SETTINGS)}.")
    setting = SETTINGS[dataset]
    features = setting.features if features is None else features
    classes = setting.classes if classes is None else classes
    width = setting.width if width is None else width
    numbers = {"features": features, "classes": classes, "width": width, "vertices": vertices}
    for name, value in numbers.items():
        if value < 1 or (name == "width" and value % 4):
            kind = "a positive multiple of 4" if name == "width" else "at least 1"
            raise ValueError(f"`{name}` ({value}) must be {kind}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` ({dropout}) must be from 0 to below 1.")

    def valid(architecture: sn.Architecture) -> bool:
        return bool(cells.outputs(*cell_of(architecture)))

    def same(architecture: sn.Architecture) -> tuple[str, ...]:
        links, operations = cells.canonical_cell(*cell_of(architecture))
        return (links, *operations)

    @sn.space(
        input=(vertices, features + vertices), valid=valid, canonical=same if canonical else None
    )
    def nas_bench_graph() -> Any:
        links = sn.oneof(cells.LINKS, name="links")
        chosen = [sn.oneof(setting.operations, name=f"node {i}") for i in range(1, 5)]

        def node(i: int) -> Any:
            # What a node reads depends on the nodes before it alone.
            def width_of(links: str, *before: str) -> int:
                return features if _reads_raw(links, *before) else width

            if setting.before:
                return ComputingNode(chosen[i], width, width, dropout=dropout)
            return ComputingNode(
                chosen[i],
                sn.derived(width_of, links, *chosen[:i]),
                width,
                raw=sn.derived(_reads_raw, links, *chosen[:i]),
                dropout=dropout,
            )

        def found(links: str, *operations: str) -> list[int]:
            return list(cells.outputs(links, operations))

        def joined(links: str, *operations: str) -> int:
            return width * len(cells.outputs(links, operations))

        merge = sn.nn.Linear(
            sn.derived(joined, links, *chosen), width if setting.after else classes
        )
        after = sn.nn.Sequential(merge, sn.nn.Linear(width, classes)) if setting.after else merge
        return GraphNetwork(
            features,
            links,
            [node(i) for i in range(4)],
            sn.derived(found, links, *chosen),
            sn.nn.Linear(features, width) if setting.before else None,
            after,
            dropout,
        )

    space: sn.Space = nas_bench_graph()
    return space


def _reads_raw(links: str, *before: str) -> bool:
    """Whether the node after these reads the graph's own features."""
    source = int(links[len(before)])
    return source == 0 or cells.raw(links[:source], before[:source])[-1]


def cell_of(architecture: sn.Architecture) -> tuple[str, tuple[str, ...]]:
    """The links and operations of an architecture of this space, as `canonical_cell` takes them."""
    try:
        return architecture["links"], tuple(architecture[f"node {i}"] for i in range(1, 5))
    except KeyError:  # a program edited by hand, or a space with decisions fixed
        given = architecture.program.sym_init_args
        return given["links"], tuple(node.sym_init_args["operation"] for node in given["nodes"])
