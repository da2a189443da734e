"""Which parts of each network of a space have an effect, for many rows at once.

A part is *used* where its result reaches the output, and *fed* where it depends on the input. What
is not used is left out by compilers and run all the same by eager frameworks; what is not fed is a
constant. One part that is not used is often run even so: where a layer's result is multiplied by 0
at once, optimisers fold the 0 into its weights. *Kept* counts those, and what they need, as used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import networkx
import numpy as np
from numpy.typing import NDArray

from symnas.costs.layers import shape_network
from symnas.costs.learned.trace import INPUT, OUTPUT, Flow, flow_of
from symnas.costs.pieces import Piece
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
# How many are held out at a time, at most how often, and how often in a row none may be wrong.
HELD_OUT, ROUNDS, CLEAN = 8, 12, 3
_PLAIN = (bool, int, float, str)


class Effect(NamedTuple):
    """For each place and row, `(places, n)`: whether it is there, and what of the above holds."""

    present: Bools
    used: Bools
    fed: Bools
    kept: Bools


class Roles(NamedTuple):
    """For each place and row, `(places, n)`, what stands there.

    Whether anything does, gives nothing back of its input, gives it back as it is, has parameters.
    """

    present: Bools
    closed: Bools
    passing: Bools
    heavy: Bools


class SpaceFlow:
    """The flow in all networks of a space, learned from a few of them.

    Args:
        space: with an input shape.

    Attributes:
        places: of layers' calls and of operations between them, sources first.
        pieces: what may stand there, by the numbers that `seen` gives.
        scopes: the decisions that say what is at each place.

    Raises:
        TooCoupled: the flow cannot be told from single decisions.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        known = pieces_of_space(space).scopes
        self._known = known
        self._numbers = {place: n for n, place in enumerate(known.places)}
        self.pieces = pieces_of_space(space).recorder.pieces
        # Kinds of pieces of which nothing comes out, and of those that give their input back.
        self._closed: set[str] = set()
        self._passing: set[str] = set()
        self._traced: list[Flow] = []
        self._kinds: list[str] = []  # of the pieces, by number
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
            calm = 0 if self._update(rows[best].tolist()) else calm + 1

    def _update(self, row: list[int]) -> bool:
        """Takes in the flow of a row's network; tells whether there was anything new."""
        found = self._flow(row)
        self._traced.append(found)
        ends = {target for _, target in found.edges}
        closed = [p for _, p in found.cuts if p not in ends and p in self._numbers]
        passing = [p for p in found.passes if p in self._numbers]
        before = len(self._closed) + len(self._passing)
        for places, kinds in ((closed, self._closed), (passing, self._passing)):
            seen = self.seen(np.array([row], np.int32), places)[:, 0]
            kinds.update(_kind(self.pieces[n]) for n in seen if n != NOTHING)
        return self.flow.update(found) or len(self._closed) + len(self._passing) > before

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
        self._detours = {
            (index[source], index[target]): [index[place] for place in sorted(between)]
            for (source, target), between in self._between().items()
        }

    def _between(self) -> dict[tuple[Place, Place], set[Place]]:
        """The places that take an edge's result elsewhere, though both of its ends are there.

        The last of a few repeated blocks hands its result on; with one more block that takes it.
        """
        networks = []
        for found in self._traced:
            pairs = found.edges | found.cuts
            networks.append((pairs, {place for pair in pairs for place in pair}))
        between = {}
        for source, target in self.flow.edges:
            both = [n for n in networks if source in n[1] and target in n[1]]
            others = [n for n in both if (source, target) not in n[0]]
            if others:
                near = {b for pairs, _ in others for a, b in pairs if a == source}
                near |= {a for pairs, _ in others for a, b in pairs if b == target}
                never = [there for pairs, there in both if (source, target) in pairs]
                between[source, target] = near.difference({INPUT, OUTPUT}, *never)
        return between

    def _check(self) -> None:
        """Compares what is told of a few rows with their own graphs, and mends it by them."""
        clean = 0
        for _ in range(ROUNDS):
            held_out = [(row, self._flow(row)) for row in self._known.random_rows(HELD_OUT)]
            wrong = [place for row, found in held_out for place in self._wrong(row, found)]
            clean = 0 if wrong else clean + 1
            if clean == CLEAN:
                return
            if not wrong:
                continue
            for row, _ in held_out:
                self._update(row)
            self._order()
        place = wrong[0][0] if wrong else "some parts"
        raise TooCoupled(f"where the result of {place!r} goes depends on too many decisions")

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

    def seen(self, rows: Rows, places: list[Place]) -> Rows:
        """The number of the piece at each place in each row, `(places, n)`."""
        pieces = np.zeros((len(places), len(rows)), np.int32)  # something stands at both ends
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, place in enumerate(places):
            if place in self._numbers:
                groups.setdefault(self._known.scopes[self._numbers[place]], []).append(i)
        structure = self._known.structure
        for scope, members in groups.items():
            codes, seen = self._known.table(scope, [self._numbers[places[i]] for i in members])
            there = np.full((structure.entries(scope), len(members)), NOTHING, np.int32)
            there[codes] = seen
            values = [np.where(rows[:, c] < 0, structure.axes[c] - 1, rows[:, c]) for c in scope]
            shape = structure.shape(scope)
            at = np.ravel_multi_index(values, shape) if scope else np.zeros(len(rows), np.intp)
            pieces[members] = there[at].T
        return pieces

    def roles(self, rows: Rows) -> Roles:
        """What stands at each place in the networks of rows, `(n, columns)`, as far as flow goes."""
        seen = self.seen(rows, self.places)
        present = seen != NOTHING
        kinds = self._kinds
        kinds.extend(_kind(piece) for piece in self.pieces[len(kinds) :])
        closed = np.array([kind in self._closed for kind in kinds])[seen] & present
        passing = np.array([kind in self._passing for kind in kinds])[seen] & present
        heavy = np.array([bool(piece.parameters) for piece in self.pieces])[seen]
        for i, place in enumerate(self.places):
            if place in (INPUT, OUTPUT):
                closed[i] = passing[i] = heavy[i] = False
            elif place in self.flow.sums:
                passing[i] = present[i]
            if i in self._cuts and not self._into[i]:
                closed[i] = True
        return Roles(present, closed, passing, heavy & present)

    def effect(self, rows: Rows) -> Effect:
        """What has an effect in the networks of rows, `(n, columns)`."""
        present, closed, passing, heavy = self.roles(rows)
        fed, single = self._forward(present, closed, passing)
        used, kept = np.zeros_like(present), np.zeros_like(present)
        toward = np.zeros_like(present)  # the result goes to a cut, and nothing is added to it
        for i in reversed(range(len(self.places))):
            if self.places[i] == OUTPUT:
                used[i] = kept[i] = True
                continue
            for j in self._from[i]:
                taken = self._taken(i, j, present) & ~closed[j]
                used[i] |= used[j] & taken
                kept[i] |= kept[j] & taken
                toward[i] |= toward[j] & single[j] & passing[j] & taken
            for j in self._cut[i]:
                taken = self._taken(i, j, present)
                toward[i] |= taken & closed[j] if j in self._from[i] else taken
            kept[i] |= toward[i] & heavy[i]
            for array in (used, kept, toward):
                array[i] &= present[i]
        return Effect(present, used, fed, kept)

    def into(self, place: int, present: Bools) -> Iterator[tuple[int, Bools]]:
        """The places whose results one takes, and in which rows it does: `(n,)` each."""
        for source in self._into[place]:
            yield source, self._taken(source, place, present)

    def _taken(self, source: int, target: int, present: Bools) -> Bools:
        """Where both ends of an edge are there, and nothing that stands between them: `(n,)`."""
        taken: Bools = present[source] & present[target]
        for place in self._detours.get((source, target), ()):
            taken &= ~present[place]
        return taken

    def _forward(self, present: Bools, closed: Bools, passing: Bools) -> tuple[Bools, Bools]:
        """What is fed, and what has one input that is not 0 for sure, at most."""
        fed, zero = np.zeros_like(present), np.zeros_like(present)
        single = np.ones_like(present)
        for i, place in enumerate(self.places):
            if place == INPUT:
                fed[i] = True
                continue
            count = np.zeros(present.shape[1], np.int16)
            for j in self._into[i]:
                taken = self._taken(j, i, present)
                fed[i] |= fed[j] & taken
                count += taken & ~zero[j]
            fed[i] &= present[i] & ~closed[i]
            single[i] = count <= 1
            zero[i] = closed[i] | (passing[i] & (count == 0))
        return fed, single


def _kind(piece: Piece) -> str:
    """Pieces of equal kind treat their inputs alike, whatever the shapes."""
    if piece.module is None:
        return repr(
            [(str(o.op), [a for a in o.args if isinstance(a, _PLAIN)]) for o in piece.operations]
        )
    own = {k: v for k, v in vars(piece.module).items() if isinstance(v, _PLAIN)}
    return repr((type(piece.module), own))


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
