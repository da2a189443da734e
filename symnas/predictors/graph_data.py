"""Architectures as graphs of equally many nodes, in arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searchspace.decision import FLOAT_LEVELS

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
Floats32 = NDArray[np.float32]


@attrs.frozen(eq=False)
class Graphs:
    """Some architectures as graphs of equally many nodes, of which each has some.

    Attributes:
        kinds: the features of each kind of node, `(kinds, features)`: one-hot of what it does, then
            its sizes, from 0 to 1. The first one is all 0: no node.
        codes: the kind of each node, `(n, nodes)`.
        patterns: the different adjacencies, `(patterns, nodes, nodes)`; 1 from a source to what
            takes its result.
        pattern: which of them each architecture has, `(n,)`.
        context: what decides on no node, `(n, others)`: one-hot of those decisions.
    """

    kinds: Floats32
    codes: Ints
    patterns: Bools
    pattern: Ints
    context: Floats32

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def nodes(self) -> Floats32:
        """The features of each node, `(n, nodes, features)`; 0 for those that are not there."""
        return self.kinds[self.codes]

    @property
    def adjacency(self) -> Bools:
        """`(n, nodes, nodes)`."""
        return self.patterns[self.pattern]

    @property
    def present(self) -> Bools:
        """Which nodes are there, `(n, nodes)`."""
        return np.asarray(self.codes != 0)


def context_of(space: Space, rows: Rows, shown: set[int]) -> Floats32:
    """One-hot of the decisions that are not shown otherwise, `(n, others)`."""
    parts = [np.zeros((len(rows), 0), np.float32)]
    for c, decision in enumerate(space.decisions):
        if c in shown:
            continue
        values = rows[:, c, None]
        if decision.kind == "float":
            parts.append(np.where(values >= 0, values / (FLOAT_LEVELS - 1), 0).astype(np.float32))
        else:
            parts.append((values == np.arange(decision.size)).astype(np.float32))
    return np.concatenate(parts, axis=1)
