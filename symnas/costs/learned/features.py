"""Features of rows: which candidates are chosen, and which of them have an effect.

Where the networks of a space have no dead branches, the first are all that there is. Otherwise each
candidate is also told as used, as kept, and as kept and fed: see `symnas.costs.learned.flow`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.learned.flow import Effect, SpaceFlow, flow_of_space, has_dead_branches
from symnas.costs.learned.trace import INPUT, OUTPUT
from symnas.costs.scopes import TooCoupled
from symnas.costs.structure import structure_of

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]

# Rows whose flow is worked out at once: one number for each of them and each place is held.
CHUNK = 2048


@attrs.frozen(eq=False)
class Told:
    """What is known of rows beside their decisions.

    Attributes:
        features: `(n, m)`.
        shared: `(m,)`, which of them hold for several decisions together.
        connected: whether the output depends on the input, `(n,)`.
    """

    features: Floats
    shared: NDArray[np.bool_]
    connected: NDArray[np.bool_]


def effects(space: Space, rows: Rows) -> Told | None:
    """What has an effect in the networks of rows, or None where everything has in all of them.

    Features are, for each decision: its candidates where they are used, where they are kept, and
    where they are kept and fed, each as a share of the operations that the candidate stands for.
    Then the sums of those over all decisions with the same candidates; and how much is used of what
    does not depend on decisions.

    Args:
        space: any; one of no networks, or of which this cannot be told, has no such features.
        rows: `(n, columns)`.

    >>> import symnas as sn
    >>> effects(sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])), input=(4,)), [[0], [1]]) is None
    True
    """
    flow = known_flow(space)
    if flow is None:
        return None
    rows = np.asarray(rows, np.int32)
    parts = [_told(flow, rows[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)]
    if not parts:
        parts = [_told(flow, rows)]
    return Told(
        np.concatenate([part.features for part in parts]),
        parts[0].shared,
        np.concatenate([part.connected for part in parts]),
    )


def known_flow(space: Space) -> SpaceFlow | None:
    """The flow in a space's networks; None without dead branches, or where it cannot be told."""
    if "learned_flow" not in space.derived:
        found = None
        try:
            if has_dead_branches(space):
                found = flow_of_space(space)
        except TooCoupled:
            pass
        space.derived["learned_flow"] = found
    found_flow: SpaceFlow | None = space.derived["learned_flow"]
    return found_flow


def _told(flow: SpaceFlow, rows: Rows) -> Told:
    effect = flow.effect(rows)
    structure = structure_of(flow.space)
    columns = [c for c in range(rows.shape[1]) if not structure.floats[c]]
    shares = [_shares(flow, effect, (column,)) for column in columns]
    hot = [rows[:, c, None] == np.arange(structure.sizes[c]) for c in columns]
    ways = [
        np.concatenate([h * share[way][:, None] for h, share in zip(hot, shares, strict=True)], 1)
        for way in range(3)
    ]
    sums = sums_over_alike(flow.space, columns, conditional=False)
    parts = [*ways, *(way @ sums for way in ways)]
    own = 3 * len(sums)
    fixed = _shares(flow, effect, ())
    output, input_ = flow.places.index(OUTPUT), flow.places.index(INPUT)
    connected = effect.fed[output] & effect.used[input_]
    parts += [fixed[0][:, None], fixed[1][:, None], connected[:, None].astype(np.float64)]
    features = np.concatenate(parts, axis=1)
    return Told(features, np.arange(features.shape[1]) >= own, connected)


def sums_over_alike(space: Space, columns: Sequence[int], conditional: bool = True) -> Floats:
    """What adds indicators of candidates up over decisions with the same candidates.

    Args:
        space: whose decisions.
        columns: the decisions; the indicators of each stand one behind the other.
        conditional: whether decisions that can be inactive have an indicator of that, too.

    Returns:
        0 and 1, `(indicators, sums)`.
    """
    structure = structure_of(space)
    found: dict[tuple[tuple[str, ...], int], list[int]] = {}
    at = 0
    for column in columns:
        labels = tuple(space.decisions[column].labels)
        for value in range(structure.axes[column] if conditional else structure.sizes[column]):
            found.setdefault((labels, value), []).append(at)
            at += 1
    sums = np.zeros((at, len(found)))
    for i, members in enumerate(found.values()):
        sums[members, i] = 1.0
    return sums


def _shares(
    flow: SpaceFlow, effect: Effect, scope: tuple[int, ...]
) -> tuple[Floats, Floats, Floats]:
    """How much of what a decision stands for is used, kept, and kept and fed: `(n,)` each."""
    wanted = set(scope)
    where = [
        i
        for i, (place, own) in enumerate(zip(flow.places, flow.scopes, strict=True))
        if place not in (INPUT, OUTPUT) and (wanted <= set(own) if scope else not own)
    ]
    there = np.maximum(1, effect.present[where].sum(axis=0))
    ways = (effect.used, effect.kept, effect.kept & effect.fed)
    used, kept, fed = (way[where].sum(axis=0) / there for way in ways)
    return used, kept, fed
