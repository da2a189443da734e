"""Residual branches of networks, and the batch norms at their ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from symnas.costs.layers import shape_network
from symnas.costs.learned.trace import Flow, flow_of
from symnas.costs.record import Place
from symnas.errors import SymnasError

if TYPE_CHECKING:
    from symnas.supernet.supernet import Supernet

_NORMS = nn.modules.batchnorm._BatchNorm


def last_norms(network: nn.Module, shape: tuple[int, ...]) -> list[str]:
    """The paths of the batch norms whose results are added to what their branches began with.

    A batch norm ends a residual branch if its result is one term of a sum, and if it was computed
    from another term of the same sum: `x + norm(f(x))`. Of two terms of which neither was computed
    from the other (`g(x) + norm(f(x))`, a projected shortcut), it has to be that with more layers
    before it. Identities, and dropout in evaluation, may stand between the norm and the sum.

    Args:
        network: on the meta device, in evaluation mode.
        shape: of one example, without the batch.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    ...     def forward(self, x):
    ...         return x + self.body(x)
    >>> last_norms(nn.Sequential(Block(), nn.BatchNorm1d(4)).to("meta").eval(), (4,))
    ['0.body.1']
    """
    norms = {path for path, module in network.named_modules() if isinstance(module, _NORMS)}
    graph = _Graph(flow_of(network, shape))

    def is_norm(place: Place) -> bool:
        return place[1] == "call" and place[0] in norms

    found = set()
    for total in graph.flow.sums:
        terms = graph.terms(total)
        for term in filter(is_norm, terms):
            others = [other for other in terms if other != term]
            apart = len(others) == 1 and term not in graph.reach(others[0])
            if graph.reach(term) & {leaf for other in others for leaf in graph.leaves(other)} or (
                apart and graph.layers(term) > graph.layers(others[0])
            ):
                found.add(term[0])
    return sorted(found)


class _Graph:
    """The flow of one network, from places back to what they are computed from."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.sources: dict[Place, set[Place]] = {}
        for source, place in flow.edges:
            self.sources.setdefault(place, set()).add(source)
        self._reach: dict[Place, frozenset[Place]] = {}

    def terms(self, place: Place) -> list[Place]:
        """What a place takes, without those that only hand it on."""
        found: list[Place] = []
        for source in sorted(self.sources.get(place, ())):
            found += self.terms(source) if source in self.flow.passes else [source]
        return found

    def leaves(self, place: Place) -> set[Place]:
        """A term, and where it is a sum itself, its terms."""
        found = {place}
        todo = [place]
        while todo:
            for term in self.terms(todo.pop()):
                if term not in found:
                    found.add(term)
                    if term in self.flow.sums:
                        todo.append(term)
        return found if place in self.flow.sums else {place}

    def reach(self, place: Place) -> frozenset[Place]:
        """All places that a place is computed from."""
        todo = [place]
        while todo:
            here = todo[-1]
            waiting = [s for s in self.sources.get(here, ()) if s not in self._reach]
            if waiting:
                todo += waiting
                continue
            todo.pop()
            before = self.sources.get(here, set())
            self._reach[here] = frozenset(before).union(*(self._reach[s] for s in before))
        return self._reach[place]

    def layers(self, place: Place) -> int:
        """How many places with weights it is computed from, with itself."""
        return len({place, *self.reach(place)} & self.flow.weights)


@torch.no_grad()
def zero_residuals(
    net: Supernet, rows: Iterable[Any], input: tuple[int, ...] | None = None
) -> list[str]:
    """Sets the stored scales of batch norms at the ends of residual branches to zero.

    Each such block then starts as its shortcut. Scales of which one of the networks makes another
    use stay as they are: where a block has no shortcut, a scale of zero would let nothing pass.

    Args:
        net: whose stored weights are changed.
        rows: networks to look at.
        input: the shape of one example, where the space does not say it.

    Returns:
        The names of the weights that were changed.

    Raises:
        SymnasError: a network cannot run on shapes alone.
    """
    ends: set[str] = set()
    others: set[str] = set()
    for row in rows:
        architecture = net.space.decode(row)
        shape = architecture.input or input
        if shape is None:
            raise SymnasError(
                "To find residual branches, the shape of one example is needed: sn.Space(..., input=)."
            )
        try:
            found = set(last_norms(shape_network(architecture), shape))
        except Exception as error:  # an author's code
            raise SymnasError(
                "The residual branches of a network could not be found, as it does not run on the meta "
                f"device ({type(error).__name__}: {error}). Go without: zero_gamma=False."
            ) from error
        for path, name in _scales(net, row).items():
            (ends if path in found else others).add(name)
    changed = sorted(ends - others)
    for name in changed:
        weight = net.weights._parameters[name]
        assert weight is not None
        weight.zero_()
    return changed


def _scales(net: Supernet, row: Any) -> dict[str, str]:
    """The names of the stored scales of a network's batch norms that are trained, by their paths."""
    network = net._network(row)
    paths = {
        id(module._parameters): path
        for path, module in network.module.named_modules()
        if isinstance(module, _NORMS)
    }
    return {
        paths[id(place.entries)]: place.weight.key
        for place in network.places
        if place.key == "weight" and place.weight.trained and id(place.entries) in paths
    }
