"""TopoNAS: which inputs a node has is learned beside the operations, by a distribution of its own.

T. Huang et al., "Explicitly Learning Topology for Differentiable Neural Architecture Search",
arXiv:2011.09300: its topological variables, their combinatorial distribution and its
passive-aggressive regularization, as the abstract of version 1 describes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from symnas.oneshot.algorithm import OneShotRun
from symnas.oneshot.derive import likeliest
from symnas.oneshot.logits import Logits
from symnas.oneshot.relaxed import Mixed, Relaxed, RelaxedRun
from symnas.oneshot.topology import TopologyLogits, nodes_of
from symnas.searching.checks import at_least, number
from symnas.searching.problem import Problem

Rows = NDArray[np.int32]

# Topologies that are looked at for networks, in the order of their probability.
TOPOLOGIES = 16
# Networks of any topology that are looked at where these have too few.
OTHERS = 64


def _groups(given: Any) -> Any:
    if isinstance(given, str) or not isinstance(given, Iterable):
        return given
    return tuple(
        tuple(n) if isinstance(n, Iterable) and not isinstance(n, str) else n for n in given
    )


@attrs.frozen(kw_only=True)
class TopoNAS(Relaxed):
    """Trains the mixture of all networks; edges and operations have distributions of their own.

    For cells whose edges are decisions, one candidate of which is a zero operation that stands for
    "no edge". Each node has a distribution `q` over the sets of its input edges (beta in the paper),
    and each edge one over its operations without zero (alpha). An edge is kept with the probability
    `c`, the sum of `q` over the sets with it, and its operations are weighted by `c * softmax(alpha)`
    in the mixture; zero has the rest, `1 - c`. So the `c` of a node add up to the number of its
    inputs. Other decisions (widths, say) are mixed as DARTS does.

    The regularizer pushes against nodes whose result nobody takes, and is zero where there is no
    danger (hence passive-aggressive): of each node with inputs and outputs in the cell, `max(0,
    outputs - E[outputs])`, and `max(0, P(no output) - unused)`. The `E` is the sum of `c` over its
    outputs, and `P`, as nodes choose their inputs independently, the product of `1 - c`.

    What is derived is the likeliest topology, and in it the likeliest operations, that keep the
    constraints. Next come others by their probability, at most half of them of one topology. Where
    no likely topology keeps the constraints, networks with other numbers of inputs do:
    `"allowed topology"` is noted as 0 then.

    In the manner of the paper, of which the abstract was read: it has the two kinds of variables,
    that they are learned together, and the regularizer's purpose. Ours are the formula of the
    regularizer, a stand-in; that both are trained by Adam on the other half of the data, as in DARTS;
    and all numbers, the penalty and the warm-up. Pairs of inputs are DARTS's. (D. Zhao et al.,
    arXiv:2408.01311, is another method of the same name.)

    Args:
        zero: the label of the zero operation.
        nodes: of each node its input edges, by decision name or id; None: decisions with a zero
            operation that are named `"<node><-<node>"`, such as "3<-1". Before these names there may
            be one of the cell: "normal/3<-1". The regularizer goes by these names alone.
        inputs: of each node, or all it has if these are fewer; None: any number but none.
        regularizer: weight of the regularizer.
        outputs, unused: what it asks for: expected outputs, and a probability of none.
        warmup, share, penalty: see `symnas.oneshot.relaxed`.
        logits_lr, logits_betas, logits_weight_decay: of Adam for both kinds of logits.

    >>> from symnas import algorithms as alg
    >>> alg.TopoNAS(epochs=20, logits_lr=0.02).inputs
    2
    >>> alg.TopoNAS(inputs=0)
    Traceback (most recent call last):
    ValueError: TopoNAS: the value of `inputs` (0) must be at least 1.
    """

    zero: str = attrs.field(default="none", validator=attrs.validators.instance_of(str))
    nodes: tuple[tuple[str, ...], ...] | None = attrs.field(default=None, converter=_groups)
    inputs: int | None = attrs.field(default=2, validator=at_least(1, optional=True))
    regularizer: float = attrs.field(default=1.0, validator=number(0))
    outputs: float = attrs.field(default=1.0, validator=number(0))
    unused: float = attrs.field(default=0.25, validator=number(0, 1))

    @nodes.validator
    def _check_nodes(self, attribute: Any, value: Any) -> None:
        if value is not None and not (
            isinstance(value, tuple)
            and all(isinstance(n, tuple) and all(isinstance(e, str) for e in n) for n in value)
        ):
            raise TypeError(
                f"TopoNAS: the value of `nodes` ({value!r}) must be lists of names of decisions, one "
                'for each node, such as [["1<-0"], ["2<-0", "2<-1"]].'
            )

    def start(self, problem: Problem) -> OneShotRun:
        return _TopoNAS(self, problem)


class _TopoNAS(RelaxedRun):
    algorithm: TopoNAS
    logits: TopologyLogits

    def make_logits(self) -> Logits:
        settings, space = self.algorithm, self.problem.space
        nodes = nodes_of(space, settings.zero, settings.nodes)
        return TopologyLogits(space, nodes, settings.inputs)

    def mixture(self, purpose: str) -> Mixed:
        return self.logits.probabilities()

    def with_costs(self, loss: Tensor, probabilities: Mixed | None = None) -> Tensor:
        loss = super().with_costs(loss, probabilities)
        return loss + self.algorithm.regularizer * self.danger()

    def danger(self) -> Tensor:
        """How near the topology is to nodes that nobody takes the result of."""
        settings, kept = self.algorithm, self.logits.kept()
        found = torch.zeros((), device=self.workshop.device)
        for edges in self.logits.outputs:
            c = torch.stack([kept[id_] for id_ in edges])
            few = torch.relu(settings.outputs - c.sum())
            found = found + few + torch.relu((1 - c).prod() - settings.unused)
        return found

    def derive(self, n: int) -> Rows:
        with torch.no_grad():
            return self._derived(n)

    def _derived(self, n: int) -> Rows:
        problem, logits = self.problem, self.logits
        found: dict[bytes, list[int]] = {}

        def take(rows: Rows) -> None:
            for row in rows.tolist():
                found.setdefault(problem.space.key_of(row), row)

        for topology in logits.topologies(TOPOLOGIES):
            rows = likeliest(problem, logits.probabilities_in(topology), n)
            take(rows[logits.has(rows, topology)][: (n + 1) // 2])
            if len(found) >= n:
                break
        first = len(found) > 0
        if len(found) < n:
            take(likeliest(problem, logits.probabilities(), max(n, OTHERS)))
        rows = np.array(list(found.values()), np.int32).reshape(-1, len(problem.space))
        order = np.argsort(-logits.log_probability(rows[first:]).numpy(), kind="stable")
        return rows[[*range(first), *(order + first).tolist()]][:n]

    def notes(self) -> dict[str, float]:
        rows = self.derive(1)
        with torch.no_grad():
            allowed = torch.isfinite(self.logits.log_probability(rows)).all()
            told = {"allowed topology": float(allowed), "regularizer": float(self.danger())}
        return {**super().notes(), **told}
