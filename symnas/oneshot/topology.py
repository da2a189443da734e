"""Distributions over the inputs of nodes, beside those over the operations on them."""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from symnas.errors import SymnasError
from symnas.oneshot.logits import Logits

if TYPE_CHECKING:
    from symnas.searchspace.decision import Decision
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
# One set of inputs for each node: its index.
Topology = tuple[int, ...]

# The most sets that a node chooses from.
MOST_SETS = 5000
NAME = re.compile(r"(?P<cell>(?:.*\W)?)(?P<to>\w+)<-(?P<source>\w+)")


@attrs.frozen
class Edge:
    """A decision on an edge.

    Attributes:
        id, column: of the decision.
        zero: its value that stands for no edge.
        source, target: names of the nodes, the cell's included; None where they are not known.
    """

    id: str
    column: int
    zero: int
    source: str | None
    target: str | None


Nodes = list[list[Edge]]


def nodes_of(space: Space, zero: str, given: Sequence[Sequence[str]] | None = None) -> Nodes:
    """The input edges of each node of a space's cells.

    Args:
        space: with a decision for each edge.
        zero: the label of the candidate that stands for no edge.
        given: names or ids of the decisions; None: those that are named "<node><-<node>".

    Raises:
        SymnasError: there are none, or a decision cannot be an edge's.

    >>> from symnas.spaces.nasbench201 import nasbench201
    >>> nodes = nodes_of(nasbench201(channels=2, cells=1), zero="none")
    >>> [[(edge.source, edge.target) for edge in node] for node in nodes]
    [[('0', '1')], [('0', '2'), ('1', '2')], [('0', '3'), ('1', '3'), ('2', '3')]]
    """
    known = {d.id: column for column, d in enumerate(space.decisions)}
    known = {d.name: column for column, d in enumerate(space.decisions) if d.name} | known
    if given is None:
        groups: dict[str, list[Edge]] = {}
        for column, decision in enumerate(space.decisions):
            if zero in decision.labels and _ends(decision)[1] is not None:
                edge = _edge(decision, column, zero)
                groups.setdefault(str(edge.target), []).append(edge)
        nodes = list(groups.values())
    else:
        unknown = [name for names in given for name in names if name not in known]
        if unknown:
            raise SymnasError(
                f"`nodes` names the decision {unknown[0]!r}, which {space!r} does not have. Its "
                f"decisions: {', '.join(list(known)[:8])}."
            )
        columns = [known[name] for names in given for name in names]
        if len(set(columns)) < len(columns):
            raise SymnasError("`nodes` names a decision twice: each edge ends in one node.")
        nodes = [
            [_edge(space.decisions[known[name]], known[name], zero) for name in names]
            for names in given
            if names
        ]
    if not nodes:
        raise SymnasError(
            f"{space!r} has no edges to choose from: decisions named '<node><-<node>' (such as "
            f"sn.oneof([...], name='2<-0')) with a candidate labelled {zero!r}. Name the candidate by "
            "`zero`, and the decisions of each node by `nodes`."
        )
    return nodes


def _edge(decision: Decision, column: int, zero: str) -> Edge:
    name = decision.name or decision.id
    if zero not in decision.labels or decision.size < 2:
        shown = ", ".join(decision.labels[:8])
        raise SymnasError(
            f"The decision {name!r} has no candidate {zero!r} beside others, which would stand for no "
            f"edge; it has: {shown}. Name the candidate by `zero`."
        )
    if decision.when:
        raise SymnasError(
            f"The decision {name!r} is within a candidate of another one. Edges have to be there in "
            "each network."
        )
    source, target = _ends(decision)
    return Edge(decision.id, column, decision.labels.index(zero), source, target)


def _ends(decision: Decision) -> tuple[str | None, str | None]:
    found = NAME.fullmatch(decision.name or "")
    if found is None:
        return None, None
    return found["cell"] + found["source"], found["cell"] + found["to"]


class TopologyLogits(Logits):
    """Logits of which sets of inputs nodes have, and of operations; of other decisions as usual.

    Args:
        space: whose decisions.
        nodes: the input edges of each node.
        inputs: how many of them a node keeps (all, if it has fewer); None: any number but none.

    Attributes:
        topology: the logits over sets of inputs, `(sets,)` a node.
        sets: `(sets, edges)` a node, true where an edge is in a set.
        outputs: the edges, by id, that leave each node with inputs and outputs in the cells.

    Raises:
        SymnasError: a node has too many sets of inputs.

    >>> from symnas.spaces.nasbench201 import nasbench201
    >>> space = nasbench201(channels=2, cells=1)
    >>> logits = TopologyLogits(space, nodes_of(space, zero="none"), inputs=2)
    >>> [round(c.item(), 3) for c in logits.kept().values()]
    [1.0, 1.0, 1.0, 0.667, 0.667, 0.667]
    >>> [round(p, 3) for p in logits.probabilities()[space.columns[5]].tolist()]  # zero first
    [0.333, 0.167, 0.167, 0.167, 0.167]
    """

    def __init__(self, space: Space, nodes: Nodes, inputs: int | None = 2) -> None:
        super().__init__(space)
        self.nodes = nodes
        self.edges = {edge.id: edge for node in nodes for edge in node}
        for i, node in enumerate(nodes):
            self.register_buffer(f"sets{i}", _sets(node, inputs), persistent=False)
        self.topology = nn.ParameterList(nn.Parameter(torch.zeros(len(s))) for s in self.sets)
        left: dict[str, list[str]] = {}
        for edge in self.edges.values():
            if edge.source is not None:
                left.setdefault(edge.source, []).append(edge.id)
        reached = {edge.target for edge in self.edges.values()}
        self.outputs = [ids for source, ids in left.items() if source in reached]

    @property
    def sets(self) -> list[Tensor]:
        return [getattr(self, f"sets{i}") for i in range(len(self.nodes))]

    def kept(self) -> dict[str, Tensor]:
        """The probability that an edge is kept, a scalar, by id (c in the paper's formula)."""
        return {id_: kept for id_, (kept, _) in self._kept().items()}

    def _kept(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The probabilities that an edge is kept, and that it is not: neither is negative."""
        found = {}
        for node, sets, logits in zip(self.nodes, self.sets, self.topology, strict=True):
            q = torch.softmax(logits, 0)
            for edge, there in zip(node, sets.T, strict=True):
                found[edge.id] = (q[there].sum(), q[~there].sum())
        return found

    def operations(self, temperature: float = 1.0) -> dict[str, Tensor]:
        """The probabilities of an edge's operations, if it is kept, by id: `(values,)`."""
        found = {}
        for id_, logits in self.logits().items():
            if id_ in self.edges:
                zero = torch.zeros_like(logits, dtype=torch.bool)
                zero[self.edges[id_].zero] = True
                masked = logits.masked_fill(zero, -torch.inf)
                found[id_] = torch.softmax(masked / temperature, 0)
        return found

    def probabilities(self, temperature: float = 1.0) -> dict[str, Tensor]:
        """The probability of each decision's values, `(values,)`, by id, with gradient.

        Edges that end in one node are not independent; these are their marginals.
        """
        found = super().probabilities(temperature)
        operations = self.operations(temperature)
        for id_, (kept, dropped) in self._kept().items():
            p = operations[id_]
            none = nn.functional.one_hot(torch.tensor(self.edges[id_].zero), len(p)).to(p)
            found[id_] = kept * p + dropped * none
        return found

    def log_probability(self, rows: Rows) -> Tensor:
        """The log-probability of rows `(n, columns)`, `(n,)`: -inf with other numbers of inputs."""
        total = torch.zeros(len(rows), device=self._device)
        known = {**super().probabilities(), **self.operations()}
        for column, decision in enumerate(self.space.decisions):
            if decision.id in known:
                logs = torch.log(known[decision.id].clamp_min(1e-38))
                edge = self.edges.get(decision.id)
                values = torch.as_tensor(rows[:, column], dtype=torch.long, device=logs.device)
                there = (values >= 0) if edge is None else values != edge.zero
                total = total + torch.where(there, logs[values.clamp_min(0)], 0.0)
        for node, sets, logits in zip(self.nodes, self.sets, self.topology, strict=True):
            same = (self._inputs(rows, node)[:, None] == sets).all(2)  # (n, sets)
            q = torch.log_softmax(logits, 0)
            total = total + torch.where(same.any(1), q[same.int().argmax(1)], -torch.inf)
        return total

    # Topologies -------------------------------------------------------------------------------

    def topologies(self, most: int) -> Iterator[Topology]:
        """The likeliest topologies, best first."""
        orders = [logits.detach().argsort(descending=True, stable=True) for logits in self.topology]
        logs = [
            torch.log_softmax(logits.detach().double(), 0)[order].tolist()
            for logits, order in zip(self.topology, orders, strict=True)
        ]
        first = (0,) * len(logs)
        seen, waiting = {first}, [(-sum(own[0] for own in logs), first)]
        for _ in range(most):
            if not waiting:
                return
            cost, places = heapq.heappop(waiting)
            yield tuple(int(order[i]) for order, i in zip(orders, places, strict=True))
            for j, own in enumerate(logs):
                after = (*places[:j], places[j] + 1, *places[j + 1 :])
                if after[j] < len(own) and after not in seen:
                    seen.add(after)
                    heapq.heappush(waiting, (cost + own[places[j]] - own[after[j]], after))

    def probabilities_in(self, topology: Topology) -> dict[str, Tensor]:
        """The probabilities of decisions' values in one topology, by id: they are independent."""
        found = {**super().probabilities(), **self.operations()}
        for node, sets, i in zip(self.nodes, self.sets, topology, strict=True):
            for edge, there in zip(node, sets[i].tolist(), strict=True):
                if not there:
                    p = found[edge.id]
                    found[edge.id] = nn.functional.one_hot(torch.tensor(edge.zero), len(p)).to(p)
        return found

    def has(self, rows: Rows, topology: Topology) -> NDArray[np.bool_]:
        """Which rows have a topology: `(n,)`."""
        mask = np.ones(len(rows), bool)
        for node, sets, i in zip(self.nodes, self.sets, topology, strict=True):
            mask &= (self._inputs(rows, node) == sets[i]).all(1).cpu().numpy()
        return mask

    def _inputs(self, rows: Rows, node: list[Edge]) -> Tensor:
        """Which of a node's edges rows keep: `(n, edges)`."""
        columns, zeros = [edge.column for edge in node], [edge.zero for edge in node]
        return torch.as_tensor(rows[:, columns] != np.array(zeros), device=self._device)


def _sets(node: list[Edge], inputs: int | None) -> Tensor:
    n = len(node)
    sizes = range(1, n + 1) if inputs is None else [min(inputs, n)]
    count = sum(math.comb(n, size) for size in sizes)
    if count > MOST_SETS:
        raise SymnasError(
            f"The node with the edge {node[0].id!r} has {n} inputs, and {count:,} sets of them to choose "
            "from. Give a smaller number of `inputs`, which it keeps."
        )
    chosen = [s for size in sizes for s in itertools.combinations(range(n), size)]
    return torch.tensor([[i in one for i in range(n)] for one in chosen])
