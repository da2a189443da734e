"""Where the operations of a block stand: layers from top to bottom, lanes from left to right."""

from __future__ import annotations

from collections.abc import Sequence


def place(count: int, edges: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Layer and lane of each node of a directed acyclic graph.

    The longest path has the first lane for itself; other paths get one beside it that is free for
    as long as they run, the edges to and from them included.

    Args:
        count: number of nodes, numbered in an order that the edges follow.
        edges: pairs (from, to); -1 is the input above all.

    Returns:
        layers, each below those that it uses; lanes, from 0.

    >>> place(3, [(-1, 0), (-1, 1), (0, 2), (1, 2)])
    ([0, 0, 1], [0, 1, 0])
    """
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        before[target].append(source)
        if source >= 0:
            after[source].append(target)
    layers: list[int] = []
    for sources in before:
        layers.append(1 + max((layers[s] if s >= 0 else -1 for s in sources), default=-1))
    taken: list[list[tuple[int, int]]] = []  # by lane, the layers from and to which it is used
    lanes = [-1] * count
    while -1 in lanes:
        path = _longest(lanes, before)
        begin = min([layers[s] + 1 if s >= 0 else 0 for s in before[path[0]]] or [layers[path[0]]])
        end = max([layers[t] - 1 for t in after[path[-1]]] or [layers[path[-1]]])
        begin, end = min(begin, layers[path[0]]), max(end, layers[path[-1]])
        lane = next(
            (
                lane
                for lane, used in enumerate(taken)
                if all(end < low or begin > high for low, high in used)
            ),
            len(taken),
        )
        if lane == len(taken):
            taken.append([])
        taken[lane].append((begin, end))
        for node in path:
            lanes[node] = lane
    return layers, lanes


def _longest(lanes: Sequence[int], before: Sequence[Sequence[int]]) -> list[int]:
    """The longest path among nodes without a lane; of several the one that begins first."""
    length: dict[int, int] = {}
    previous: dict[int, int | None] = {}
    for node, lane in enumerate(lanes):
        if lane == -1:
            options = [source for source in before[node] if source in length]
            best: int | None = max(options, key=lambda s: (length[s], -s), default=None)
            previous[node] = best
            length[node] = 1 + (length[best] if best is not None else 0)
    step: int | None = max(length, key=lambda n: (length[n], -n))
    path: list[int] = []
    while step is not None:
        path.append(step)
        step = previous[step]
    return path[::-1]
