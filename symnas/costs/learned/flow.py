"""Which parts of each network of a space have an effect, for many rows at once.

A part is *used* where its result reaches the output, and *fed* where it depends on the input. What
is not used is left out by compilers and run all the same by eager frameworks; what is not fed is a
constant. One part that is not used is often run even so: where a layer's result is multiplied by 0
at once, optimisers fold the 0 into its weights. *Kept* counts those, and what they need, as used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import networkx
import numpy as np
from numpy.typing import NDArray

from symnas.costs.layers import shape_network
from symnas.costs.learned.trace import INPUT, OUTPUT, Flow, flow_of
from symnas.costs.quiet import quiet
from symnas.costs.record import Place
from symnas.costs.scopes import NOTHING, TooCoupled
from symnas.costs.tabulate import found_once, pieces_of_space

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Bools = NDArray[np.bool_]

# Rows to choose from, networks traced at most, and how many in a row must bring nothing new.
CANDIDATES, TRACED, CALM = 512, 150, 12
# Networks that are looked at to see whether there are dead branches at all.
SAMPLED = 16
# How many are held out at a time, and how often what they show is taken in.
HELD_OUT, ROUNDS = 8, 6


class Effect(NamedTuple):
    """For each place and row, `(places, n)`: whether it is there, and what of the above holds."""

    present: Bools
    used: Bools
    fed: Bools
    kept: Bools


class SpaceFlow:
    """The flow in all networks of a space, learned from a few of them.

    Args:
        space: with an input shape.

    Attributes:
        places: of layers' calls and of operations between them, sources first.
        scopes: the decisions that say what is at each place.

    Raises:
        TooCoupled: the flow cannot be told from single decisions.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        known = pieces_of_space(space).scopes
        self._known = known
        self._numbers = {place: n for n, place in enumerate(known.places)}
        self.flow = Flow()
        with quiet():
            self._trace()
            self._order()
            self._check()

    def _trace(self) -> None:
        """Runs networks in which every two candidates of two decisions meet, as far as they can."""
        rows = self.space.sample(CANDIDATES)
        rows = rows[self.space.is_valid(rows)]
        shown = self.space.features(rows, "onehot") > 0 if len(rows) else np.zeros((0, 0), bool)
        missing = np.ones((shown.shape[1],) * 2, bool)
        calm = 0
        for _ in range(min(TRACED, len(rows))):
            gain = np.einsum("ni,ij,nj->n", shown, missing.astype(np.float32), shown, optimize=True)
            best = int(gain.argmax())
            if not gain[best] or calm >= CALM:
                return
            missing &= ~np.outer(shown[best], shown[best])
            calm = 0 if self.flow.update(self._flow(rows[best].tolist())) else calm + 1

    def _flow(self, row: list[int]) -> Flow:
        architecture = self.space.decode(row)
        if architecture.input is None:
            raise TooCoupled("the space does not say its input shape")
        return flow_of(shape_network(architecture), architecture.input)

    def _order(self) -> None:
        graph = networkx.DiGraph([*sorted(self.flow.edges), *sorted(self.flow.cuts)])
        try:
            order = list(networkx.lexicographical_topological_sort(graph))
        except networkx.NetworkXUnfeasible:
            raise TooCoupled("parts of the networks come in different orders") from None
        if not {INPUT, OUTPUT} <= set(order):
            raise TooCoupled("no network passes its input on to its output")
        if unknown := set(order) - {INPUT, OUTPUT} - set(self._numbers):
            raise TooCoupled(f"the operation at {min(unknown)[0]!r} is not known from the costs")
        self.places: list[Place] = order
        index = {place: i for i, place in enumerate(order)}
        scopes = self._known.scopes
        self.scopes = [scopes[self._numbers[p]] if p in self._numbers else () for p in order]
        self._into: list[list[int]] = [[] for _ in order]
        self._from: list[list[int]] = [[] for _ in order]
        self._cut: list[list[int]] = [[] for _ in order]
        for source, target in self.flow.edges:
            self._into[index[target]].append(index[source])
            self._from[index[source]].append(index[target])
        for source, target in self.flow.cuts:
            self._cut[index[source]].append(index[target])
        self._cuts = {index[target] for _, target in self.flow.cuts}

    def _check(self) -> None:
        """Compares what is told of a few rows with their own graphs, and mends it by them."""
        for _ in range(ROUNDS):
            held_out = [(row, self._flow(row)) for row in self._known.random_rows(HELD_OUT)]
            wrong = [place for row, found in held_out for place in self._wrong(row, found)]
            if not wrong:
                return
            for _, found in held_out:
                self.flow.update(found)
            self._order()
        raise TooCoupled(f"where the result of {wrong[0][0]!r} goes depends on too many decisions")

    def _wrong(self, row: list[int], found: Flow) -> list[Place]:
        """The places of which something else is told than one row's own graph shows."""
        graph = networkx.DiGraph(found.edges)
        graph.add_nodes_from([INPUT, OUTPUT])
        used = {OUTPUT, *networkx.ancestors(graph, OUTPUT)}
        fed = {INPUT, *networkx.descendants(graph, INPUT)}
        there = {place for pair in found.edges | found.cuts for place in pair}
        if not there <= set(self.places):
            return [min(there - set(self.places))]
        effect = self.effect(np.array([row], np.int32))
        return [
            place
            for i, place in enumerate(self.places)
            if place in there
            and (effect.used[i, 0], effect.fed[i, 0]) != (place in used, place in fed)
        ]

    # Rows -------------------------------------------------------------------------------------

    def _present(self, rows: Rows, places: list[Place]) -> Bools:
        present = np.ones((len(places), len(rows)), bool)
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, place in enumerate(places):
            if place in self._numbers:
                groups.setdefault(self._known.scopes[self._numbers[place]], []).append(i)
        structure = self._known.structure
        for scope, members in groups.items():
            codes, seen = self._known.table(scope, [self._numbers[places[i]] for i in members])
            there = np.zeros((structure.entries(scope), len(members)), bool)
            there[codes] = seen != NOTHING
            values = [np.where(rows[:, c] < 0, structure.axes[c] - 1, rows[:, c]) for c in scope]
            shape = structure.shape(scope)
            at = np.ravel_multi_index(values, shape) if scope else np.zeros(len(rows), np.intp)
            present[members] = there[at].T
        return present

    def effect(self, rows: Rows) -> Effect:
        """What has an effect in the networks of rows, `(n, columns)`."""
        present = self._present(rows, self.places)
        fed, single = self._forward(present)
        used, kept = np.zeros_like(present), np.zeros_like(present)
        toward = np.zeros_like(present)  # the result goes to a cut, and nothing is added to it
        for i in reversed(range(len(self.places))):
            place = self.places[i]
            if place == OUTPUT:
                used[i] = kept[i] = True
                continue
            for j in self._from[i]:
                used[i] |= used[j]
                kept[i] |= kept[j]
                if self.places[j] in self.flow.passes or self.places[j] in self.flow.sums:
                    toward[i] |= toward[j] & single[j]
            for j in self._cut[i]:
                toward[i] |= present[j]
            if place in self.flow.weights:
                kept[i] |= toward[i]
            for array in (used, kept, toward):
                array[i] &= present[i]
        return Effect(present, used, fed, kept)

    def _forward(self, present: Bools) -> tuple[Bools, Bools]:
        """What is fed, and what has one input that is not 0 for sure, at most."""
        fed, zero = np.zeros_like(present), np.zeros_like(present)
        single = np.ones_like(present)
        for i, place in enumerate(self.places):
            if place == INPUT:
                fed[i] = True
                continue
            if i in self._cuts and not self._into[i]:
                zero[i] = True
                continue
            count = np.zeros(present.shape[1], np.int16)
            for j in self._into[i]:
                fed[i] |= fed[j]
                count += present[j] & ~zero[j]
            fed[i] &= present[i]
            single[i] = count <= 1
            if place in self.flow.passes or place in self.flow.sums:
                zero[i] = count == 0
        return fed, single


def has_dead_branches(space: Space) -> bool:
    """Whether anything in a few random networks is not used, or does not depend on the input.

    Raises:
        TooCoupled: the space has no input shape, or no networks that can be run.
    """
    if space.input is None and "input" not in space._extras:
        raise TooCoupled("the space does not say its input shape")
    rows = space.sample(SAMPLED)
    for row in rows[space.is_valid(rows)]:
        try:
            architecture = space.decode(row)
            assert architecture.input is not None
            with quiet():
                flow = flow_of(shape_network(architecture), architecture.input)
        except Exception as error:  # an author's code: told where the architecture is asked for
            raise TooCoupled(f"a network could not be run: {type(error).__name__}") from error
        graph = networkx.DiGraph(flow.edges)
        graph.add_nodes_from([INPUT, OUTPUT])
        there = {place for pair in flow.edges | flow.cuts for place in pair}
        used = {OUTPUT, *networkx.ancestors(graph, OUTPUT)}
        fed = {INPUT, *networkx.descendants(graph, INPUT)}
        if there - used or there - fed:
            return True
    return False


def flow_of_space(space: Space) -> SpaceFlow:
    """The flow in a space's networks, learned at the first call.

    Raises:
        TooCoupled: it cannot be told from single decisions, or a network could not be run.
    """
    return found_once(space, "flow", SpaceFlow)
