"""The cells of NAS-Bench-Graph: their names, numbers, and which of them are the same.

Y. Qin et al., "NAS-Bench-Graph: Benchmarking Graph Neural Architecture Search", NeurIPS 2022,
arXiv:2206.09166, Section 3. A cell has four computing nodes, each with one input: the graph's
features (0) or an earlier node (1 to 4). Its name is the inputs, "0012", and the operations.
"""

from __future__ import annotations

import functools
import itertools

OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
"""The nine operations, under their published names and in their published order."""

PROTEINS = ("gcn", "sage", "arma", "fc", "skip")
"""The operations that were measured on proteins, whose graph is too large for the others."""

LINKS = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
"""The nine rooted trees of four nodes beside the root, in their published order."""

Operations = tuple[str, ...]


def raw(links: str, operations: Operations) -> tuple[bool, ...]:
    """Whether each node gives the graph's own features: it and all before it skip.

    >>> raw("0123", ("skip", "skip", "gcn", "skip"))
    (True, True, False, False)
    """
    known = [True]
    for source, operation in zip(links, operations, strict=True):
        known.append(known[int(source)] and operation == "skip")
    return tuple(known[1:])


def outputs(links: str, operations: Operations) -> tuple[int, ...]:
    """The nodes, from 0, that make the cell's output: no node reads them, and they are not raw.

    >>> outputs("0012", ("gcn", "skip", "gcn", "skip"))
    (2,)
    """
    is_raw = raw(links, operations)
    return tuple(i for i in range(len(links)) if str(i + 1) not in links and not is_raw[i])


@functools.lru_cache(maxsize=2**16)
def canonical_cell(links: str, operations: Operations) -> tuple[str, Operations]:
    """The cell under which the benchmark has its result; the same for cells that are the same.

    A node that skips can be left out where it changes no output: where others read it, where it is
    the only one that reads its input, and where it only repeats the graph's features. The published
    form has as many skips before the first node instead. Of the ways to write what then is a tree
    with labels, it takes the one of `LINKS` whose operations come first in the published order.

    Args:
        links: the input of each node, in an order in which inputs come first: "0120" is allowed.
        operations: of each node.

    Raises:
        ValueError: `links` or `operations` have another form.

    >>> canonical_cell("0120", ("gin", "skip", "gcn", "fc"))
    ('0112', ('skip', 'gin', 'fc', 'gcn'))
    """
    if len(links) != 4 or not all("0" <= link <= str(i) for i, link in enumerate(links)):
        raise ValueError(
            f"`links` ({links!r}) must have the input of each of four nodes: 0, or one before it."
        )
    if len(operations) != 4 or not set(operations) <= set(OPERATIONS):
        raise ValueError(f"`operations` ({operations}) must be four of {', '.join(OPERATIONS)}.")
    sources = [int(digit) for digit in links]
    labels = list(operations)
    while (found := _superfluous(sources, labels)) is not None:
        before = sources[found]
        for i, source in enumerate(sources):
            if source == found + 1:
                sources[i] = before
        del sources[found], labels[found]
        sources = [source - (source > found + 1) for source in sources]
    missing = len(links) - len(sources)
    sources = [*range(missing), *(source + missing for source in sources)]
    labels = ["skip"] * missing + labels
    ranks = [OPERATIONS.index(label) for label in labels]
    tree, orders = _orders("".join(map(str, sources)))
    best = min(orders, key=lambda order: [ranks[i] for i in order])
    return tree, tuple(labels[i] for i in best)


def _superfluous(sources: list[int], labels: list[str]) -> int | None:
    """The first node that skips and can be left out; None if there is none."""
    known = [True]
    for i, (source, label) in enumerate(zip(sources, labels, strict=True)):
        known.append(known[source] and label == "skip")
        if label == "skip" and (
            known[-1] or i + 1 in sources or sources.count(source) == 1
        ):  # fmt: skip
            return i
    return None


@functools.cache
def _orders(links: str) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """The tree of `LINKS` that `links` draw, and all orders of the nodes that give it."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for order in itertools.permutations(range(len(links))):
        place = {0: 0} | {node + 1: i + 1 for i, node in enumerate(order)}
        new = [place[int(links[node])] for node in order]
        name = "".join(map(str, new))
        if name in LINKS:
            found.setdefault(name, []).append(order)
    [(tree, orders)] = found.items()  # no two of them are the same tree
    return tree, tuple(orders)


def number(links: str, operations: Operations) -> int:
    """The published number of a canonical cell: digits of its links and its operations.

    >>> number("0123", ("skip", "gcn", "gcn", "fc"))
    88117
    """
    digits = [LINKS.index(links), *map(OPERATIONS.index, operations)]
    return int("".join(map(str, digits)))


def cell(number: int) -> tuple[str, Operations]:
    """The cell of a published number: the inverse of `number`.

    Raises:
        ValueError: no cell has this number.

    >>> cell(1114)
    ('0000', ('gcn', 'gcn', 'gcn', 'sage'))
    """
    digits = [int(digit) for digit in f"{number:05d}"]
    if len(digits) != 5 or 9 in digits:
        raise ValueError(f"`number` ({number}) must have at most five digits, each below 9.")
    return LINKS[digits[0]], tuple(OPERATIONS[digit] for digit in digits[1:])
