"""A network's graph as cards of operations: what the page draws.

Blocks are found from the modules' paths and the graph's bottlenecks; normalisations and activations
are folded into what they follow; equal blocks in a row are drawn once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import attrs

from symnas.reports.lanes import place

if TYPE_CHECKING:
    import networkx

    from symnas.architecture.architecture import Architecture

KINDS = {
    "end": "input, output",
    "convolution": "convolution",
    "depthwise": "depthwise or grouped convolution",
    "linear": "linear",
    "attention": "attention, recurrence",
    "pool": "pooling",
    "normalize": "normalisation",
    "activate": "activation",
    "combine": "sum, product, concatenation",
    "other": "other",
}
_PATTERNS = (
    ("end", r"input|output"),
    ("convolution", r".*conv.*"),
    ("attention", r".*(attention|lstm|gru|rnn).*"),
    ("linear", r".*linear|.*embedding.*|matmul|bmm|mm|einsum"),
    ("pool", r".*pool.*|mean|.*upsample.*|interpolate"),
    ("normalize", r".*norm.*"),
    ("activate", r".*(relu|swish|silu|gelu|elu|sigmoid|tanh|mish|softmax|softplus|softsign|glu).*"),
    ("combine", r"i?(add|mul|sub|div|cat|concat|stack|truediv|radd|rmul)"),
)
_FOLDED = ("normalize", "activate")
_SILENT = re.compile(r".*dropout.*|identity|.*droppath.*|.*stochasticdepth.*", re.IGNORECASE)
_SHORT = {"BatchNorm1d": "BN", "BatchNorm2d": "BN", "BatchNorm3d": "BN", "LayerNorm": "LN"}
_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")
_BLOCK = 14  # operations of the largest module that is drawn as one block
_CHAIN = 7  # operations of a card that is not a block
# What shows a sum, a product and so on as the person would write it.
_SIGNS = {
    "add": "+",
    "iadd": "+",
    "mul": "×",
    "imul": "×",
    "cat": "concatenate",
    "concat": "concatenate",
}


@attrs.define
class Operation:
    """One operation with what is folded into it; `sources` are indices of earlier operations."""

    label: str
    kind: str
    name: str
    shape: tuple[int, ...]
    params: int
    macs: int
    sources: list[int]
    tail: list[str] = attrs.field(factory=list)

    @property
    def text(self) -> tuple[str, str]:
        """What is written of it; equal for operations that are drawn alike."""
        return self.label, " · ".join(self.tail)


@attrs.define
class Card:
    """A block: operations in order, edges among them, -1 standing for the block's input."""

    title: str
    operations: list[Operation]
    edges: list[tuple[int, int]]
    times: int = 1

    def data(self) -> dict[str, Any]:
        """JSON-able: nodes [label, kind, shape, params, macs, layer, lane, tail], and edges."""
        layers, lanes = place(len(self.operations), self.edges)
        nodes = [
            [
                o.text[0],
                o.kind,
                "×".join(map(str, o.shape)),
                o.params,
                o.macs,
                layer,
                lane,
                o.text[1],
            ]
            for o, layer, lane in zip(self.operations, layers, lanes, strict=True)
        ]
        edges = [list(edge) for edge in self.edges]
        return {"title": self.title, "times": self.times, "nodes": nodes, "edges": edges}


@attrs.define
class Drawing:
    """A network as cards in the order of execution; `params` and `macs` are the network's."""

    cards: list[Card]
    params: int
    macs: int

    def data(self) -> dict[str, Any]:
        """What the page draws, as plain data."""
        cards = [card.data() for card in self.cards]
        return {"cards": cards, "params": self.params, "macs": self.macs, "kinds": KINDS}


def draw(architecture: Architecture) -> Drawing:
    """The drawing of an architecture; needs the code of its space.

    Raises:
        ValueError: there is no input shape, or the network cannot be run.
        TypeError: the program does not make an `nn.Module`.

    >>> import symnas as sn
    >>> net = sn.nn.Sequential(sn.nn.Linear(4, 8), sn.nn.ReLU(), sn.nn.Linear(8, 2))
    >>> [o.text for card in draw(sn.Architecture(net, input=(4,))).cards for o in card.operations]
    [('input', ''), ('Linear 4→8', 'ReLU'), ('Linear 8→2', '')]
    """
    module = architecture.build(device="meta")
    if not hasattr(module, "named_modules"):
        raise TypeError(f"the program makes a {type(module).__name__}, not a network")
    classes = {name: type(part).__name__ for name, part in module.named_modules()}
    return arrange(architecture.graph(), classes)


def arrange(graph: networkx.DiGraph, classes: Mapping[str, str] | None = None) -> Drawing:
    """The drawing of a graph as `architecture.graph()` makes it.

    Args:
        graph: in the order of execution; attributes `op`, `name`, `label`, `shape`, `params`,
            `macs`.
        classes: class names of the modules by path; without them blocks are found from the graph.
    """
    operations = _fold(graph)
    blocks = _blocks(operations, dict(classes or {}))
    cards: list[Card] = []
    for first, last in _ranges(operations, blocks):
        card = _card(operations, blocks, first, last, classes or {})
        if cards and _same(cards[-1], card):
            cards[-1].times += 1
        else:
            cards.append(card)
    return Drawing(
        cards,
        sum(operation.params for operation in operations),
        sum(operation.macs for operation in operations),
    )


def kind_of(op: str, label: str = "") -> str:
    """The kind of an operation, by the name of its class or function.

    >>> kind_of("Conv2d"), kind_of("Hardswish"), kind_of("add"), kind_of("FancyThing")
    ('convolution', 'activate', 'combine', 'other')
    """
    for kind, pattern in _PATTERNS:
        if re.fullmatch(pattern, op, re.IGNORECASE):
            grouped = "depthwise" in label.lower() or "groups" in label
            return "depthwise" if kind == "convolution" and grouped else kind
    return "other"


def _fold(graph: networkx.DiGraph) -> list[Operation]:
    """The operations in order, without those that are folded into another one or do nothing."""
    operations: list[Operation] = []
    where: dict[Any, int] = {}  # node to the operation that gives its tensor
    first: dict[Any, list[str]] = {}  # node to what is done to its input before, if folded forward
    homes: list[str] = []  # for each operation the module that it belongs to
    for node, data in graph.nodes(data=True):
        op, label = str(data.get("op", "")), str(data.get("label", data.get("op", "")))
        before, after = list(graph.predecessors(node)), list(graph.successors(node))
        sources = sorted({where[source] for source in before if source in where})
        if len(sources) == 1 and (_SILENT.fullmatch(op) or op == "output"):
            where[node] = sources[0]
            continue
        kind, name = kind_of(op, label), str(data.get("name") or "")
        shape = tuple(data.get("shape") or ())
        params, macs = int(data.get("params") or 0), int(data.get("macs") or 0)
        if kind in _FOLDED and len(sources) == 1:
            into = operations[sources[0]]
            alone = graph.out_degree(before[0]) == 1 and into.kind != "end"
            if alone and (into.name or _top(name) in ("", _top(homes[sources[0]]))):
                into.tail.append(_SHORT.get(op, label))
                into.params, into.macs, into.shape = into.params + params, into.macs + macs, shape
                where[node] = sources[0]
                continue
            if not params and len(after) == 1 and _weighty(graph, after[0]):
                first[after[0]] = [*first.get(node, ()), f"{_SHORT.get(op, label)} first"]
                where[node] = sources[0]
                continue
        where[node] = len(operations)
        homes.append(name or (homes[sources[-1]] if sources else ""))
        label = _SIGNS.get(op, label)
        made = Operation(label, kind, name, shape, params, macs, sources, first.get(node, []))
        operations.append(made)
    return operations


def _top(name: str) -> str:
    return name.partition(".")[0]


def _weighty(graph: networkx.DiGraph, node: Any) -> bool:
    """Whether a node is a layer with weights, of which an activation before it is a part."""
    data = graph.nodes[node]
    kind = kind_of(str(data.get("op", "")), str(data.get("label", "")))
    return kind in ("convolution", "depthwise", "linear") and graph.in_degree(node) == 1


def _blocks(operations: Sequence[Operation], classes: dict[str, str]) -> list[str]:
    """For each operation the path of the module that is its block, "" where it stands alone.

    A block is the outermost module that is no mere container and not too large to be drawn as one.
    Functions belong to the block of the latest operation that they use.
    """
    inside: dict[str, int] = {}
    for operation in operations:
        for path in _paths(operation.name):
            inside[path] = inside.get(path, 0) + 1
    found: list[str] = []
    for operation in operations:
        block = next(
            (
                path
                for path in _paths(operation.name)
                if path in classes
                and classes[path] not in _CONTAINERS
                and 1 < inside[path] <= _BLOCK
            ),
            "",
        )
        if not operation.name and operation.sources:
            block = found[operation.sources[-1]]
        found.append(block)
    return found


def _paths(name: str) -> list[str]:
    """The modules around a layer, outermost first: of "1.0.conv" these are "1" and "1.0"."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _ranges(operations: Sequence[Operation], blocks: Sequence[str]) -> list[tuple[int, int]]:
    """Where cards begin and end: at blocks, but only where a single tensor passes."""
    last_use = list(range(len(operations)))
    for index, operation in enumerate(operations):
        for source in operation.sources:
            last_use[source] = index
    # A border after `index` is open if what is used later is only the result of `index`.
    opened, reach = [], -1
    for index in range(len(operations)):
        opened.append(reach <= index)
        reach = max(reach, last_use[index])
    runs = [
        (block, [index for index, _ in group])
        for block, group in groupby(enumerate(blocks), key=lambda pair: pair[1])
    ]
    ranges: list[tuple[int, int]] = []
    begin = 0
    for block, indices in runs:
        if block and begin < indices[0] and opened[indices[0] - 1]:
            ranges += _chains(begin, indices[0] - 1, opened)
            begin = indices[0]
        if block and opened[indices[-1]]:
            ranges.append((begin, indices[-1]))
            begin = indices[-1] + 1
    if begin < len(operations):
        ranges += _chains(begin, len(operations) - 1, opened)
    return ranges


def _chains(first: int, last: int, opened: Sequence[bool]) -> list[tuple[int, int]]:
    """Operations that are no block, in cards of a moderate length."""
    ranges = []
    begin = first
    while begin <= last:
        ends = [end for end in range(begin, last + 1) if opened[end] or end == last]
        short = [end for end in ends if end - begin < _CHAIN]
        end = short[-1] if short else ends[0]
        ranges.append((begin, end))
        begin = end + 1
    return ranges


def _card(
    operations: Sequence[Operation],
    blocks: Sequence[str],
    first: int,
    last: int,
    classes: Mapping[str, str],
) -> Card:
    own = list(operations[first : last + 1])
    edges = sorted(
        {
            (max(source - first, -1), index)
            for index, operation in enumerate(own)
            for source in operation.sources
        }
    )
    names = {block for block in blocks[first : last + 1] if block}
    if len(names) == 1:
        title = classes[names.pop()]
    elif any(operation.label == "input" for operation in own):
        title = "Input"
    else:
        title = "Output" if last + 1 == len(operations) else "Operations"
    return Card(title, own, edges)


def _same(card: Card, other: Card) -> bool:
    """Whether two cards would look alike."""
    return (
        card.title == other.title
        and card.edges == other.edges
        and [(o.text, o.shape) for o in card.operations]
        == [(o.text, o.shape) for o in other.operations]
    )
