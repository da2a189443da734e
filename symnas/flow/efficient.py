"""`sn.flow.Efficient`: keeps the operations that give a device the most for their time.

In the manner of L. Zhang et al., "Fast Hardware-Aware Neural Architecture Search" (HURRICANE), CVPR
Workshops 2020, arXiv:1910.11609, which gives each device a space of its own: of a pool of
operations, those with the best representation capacity for their latency. The formula for that
score is ours.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from torch import nn

from symnas.costs.bound import BoundCost
from symnas.costs.bound_part import on_part
from symnas.costs.bound_table import TableCost
from symnas.costs.model import CostModel
from symnas.costs.pieces import Piece, macs_of
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable, Term
from symnas.costs.tabulate import pieces_of_space
from symnas.language.choices import Repeat
from symnas.language.spec import Spec
from symnas.searching.checks import at_least
from symnas.searchspace.parts import Part, columns_in, matching, whole_of
from symnas.searchspace.space import Space

Array = NDArray[np.float64]

# Scores that agree to so many digits are equal: what else differs is rounding.
DIGITS = 12
# What is below this share of the largest contribution of a decision is rounding, too.
ROUNDING = 1e-9


def _macs(pieces: Sequence[Piece]) -> list[float]:
    return [macs_of(piece) for piece in pieces]


def _parameters(pieces: Sequence[Piece]) -> list[float]:
    return [float(sum(p.numel() for p in piece.parameters)) for piece in pieces]


def _names(value: Any) -> tuple[str, ...] | None:
    return None if value is None else (value,) if isinstance(value, str) else tuple(value)


@attrs.frozen
class Efficient:
    """Keeps, of each decision between operations, those with the best capacity for their latency.

    A step of `sn.flow.sequence` without trials. Each candidate has the score

        (log(1 + MACs) / most + log(1 + parameters) / most) / latency

    where `most` is the largest such logarithm among the candidates of the decision, and the three
    numbers are what the candidate contributes to a network in which all other decisions are drawn
    uniformly. That capacity should be weighed against latency is the paper's idea; this formula is
    not (its abstract gives none). It favours light operations where latency is in proportion to
    arithmetic, and heavy ones where each operation takes the same time.

    The contribution is the exact expectation over all layers that depend on the decision. Where the
    latency is no plain sum over layers (a table from another device, a calibrated or learned one)
    it is what exceeds the fastest candidate's, whose own part of the latency is taken to be its
    part of the MACs.

    A candidate that adds neither MACs, nor parameters, nor latency (a skip) is no operation: it is
    always kept, and not among the `keep`. One that adds latency alone (pooling) has the score 0. Of
    equal scores the larger capacity goes first, then the order in the space.

    Args:
        latency: a cost model of the device; energy does as well.
        keep: how many candidates each decision keeps; the paper's spaces have four or five.
        decisions: names, ids or patterns of the decisions; by default all between modules. (Choices
            of modules by a name in an argument, as in `spaces.fbnet`, must be told.)

    Raises:
        TypeError, ValueError: an argument is not what it must be; or, when called, there is no
            decision between modules.
        TooCoupled: so many decisions act on the same layer that contributions cannot be told apart.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> space = sn.Space(sn.oneof([sn.nn.Conv2d(8, 8, k, padding=k // 2) for k in (1, 3, 5)]),
    ...                  input=(8, 16, 16))
    >>> def kept(latency):
    ...     return space.restrict(Efficient(latency, keep=1)(space)).decode([]).build().kernel_size
    >>> kept(cm.Roofline(peak=1e9, bandwidth=1e12))  # arithmetic takes the time
    (1, 1)
    >>> kept(cm.Roofline(peak=1e15, bandwidth=1e12, overhead=1.0))  # each call takes the same
    (5, 5)
    """

    latency: CostModel = attrs.field(validator=attrs.validators.instance_of(CostModel))
    keep: int = attrs.field(default=4, validator=at_least(1))
    decisions: tuple[str, ...] | None = attrs.field(default=None, converter=_names, kw_only=True)

    def __call__(self, space: Space, rows: Any = None, scores: Any = None) -> dict[str, list[Any]]:
        """The labels that are kept, by decision id, the best first; `rows` do not matter.

        As for `space.restrict`.
        """
        kept = {}
        for name, found in self.scores(space).items():
            skips = [label for label, score in found.items() if np.isnan(score)]
            others = [label for label in found if label not in skips]
            # A stable sort: what is equal stays in the order of capacity.
            others.sort(key=lambda label: -found[label])
            kept[name] = others[: self.keep] + skips
        return kept

    def scores(self, space: Space) -> dict[str, dict[str, float]]:
        """The score of each candidate by decision id and label; NaN for a skip, inf for no latency.

        In the order of capacity, the largest first.
        """
        columns = self._columns(space)
        if space.input is None:
            raise ValueError(
                "Efficient: `space` does not say the shape of one example, from which operations are "
                "counted: sn.Space(program, input=(3, 32, 32))."
            )
        contributions = _Contributions(space, self.latency)
        return {
            space.columns[column]: _scored(
                space.decisions[column].labels, *contributions.of(column)
            )
            for column in columns
        }

    def _columns(self, space: Space) -> list[int]:
        if self.decisions is not None:
            named = sorted({c for name in self.decisions for c in matching(space, name)})
            for column in named:
                if space.decisions[column].kind == "float":
                    raise ValueError(
                        f"Efficient: `decisions` ({self.decisions}): {space.columns[column]!r} is a "
                        "number, and has no operations to choose from."
                    )
            return named
        picks = structure_of(space).is_pick
        found = [
            column
            for column, decision in enumerate(space.decisions)
            if any(map(_is_module, decision.candidates)) and not picks(column)
        ]
        if not found:
            raise ValueError(
                "Efficient: no decision of this space is between modules. Say which are between "
                f"operations, as decisions=['**.operation']; ids: {', '.join(space.columns[:6])}."
            )
        return found


def _is_module(candidate: Any) -> bool:
    target = candidate.target if isinstance(candidate, Spec) else None
    return isinstance(candidate, Repeat) or (
        inspect.isclass(target) and issubclass(target, nn.Module)
    )


def _scored(
    labels: Sequence[str], macs: Array, parameters: Array, latency: Array
) -> dict[str, float]:
    """The scores of candidates by label, from their contributions `(candidates,)`."""
    capacity = _normalised(macs) + _normalised(parameters)
    found = {}
    for i in np.argsort(-capacity, kind="stable"):
        if latency[i] > 0:
            found[labels[i]] = float(f"{capacity[i] / latency[i]:.{DIGITS}g}")
        else:
            found[labels[i]] = np.inf if capacity[i] > 0 else np.nan
    return found


def _normalised(counts: Array) -> Array:
    logs: Array = np.log1p(counts)
    return logs / logs.max() if logs.any() else logs


class _Contributions:
    """What the candidates of decisions add to networks, all other decisions drawn uniformly."""

    def __init__(self, space: Space, latency: CostModel) -> None:
        self.space, self.latency = space, latency
        self.whole = whole_of(space)
        self.at = columns_in(space, self.whole)
        pieces = pieces_of_space(self.whole)
        self.macs, _ = pieces.tables(_macs)
        self.parameters, _ = pieces.tables(_parameters, storage=True)
        self.bound: BoundCost | None = None
        if latency.tabular and not latency._has_choices:
            self.times, _ = pieces.tables(latency.price, latency.counts == "storage")
        else:
            self.bound = latency.bind(space)

    def of(self, column: int) -> tuple[Array, Array, Array]:
        """MACs, parameters and latency of each candidate, `(candidates,)`."""
        macs, parameters = self._layers(self.macs, column), self._layers(self.parameters, column)
        if self.bound is None:
            latency = self._layers(self.times, column)
        else:
            latency = self._exceeding(self.bound, column, macs)
        # A layer that is not in all networks counts where it is.
        share = self._means(self._presence(column), column)
        macs, parameters, latency = (_cleaned(a) / share for a in (macs, parameters, latency))
        return macs, parameters, latency

    def _layers(self, table: CostTable, column: int) -> Array:
        """The expected cost of all layers that depend on a decision, for each candidate."""
        own = [term for term in table.terms if self.at[column] in term.columns]
        return self._means(self._on_space(CostTable(0.0, own)), column)

    def _exceeding(self, bound: BoundCost, column: int, macs: Array) -> Array:
        """What the latency exceeds that of the fastest candidate, with that one's part of it."""
        latency = self._means(bound, column)
        fastest = int(latency.argmin())
        all_macs = self._means(self._on_space(self.macs), column)[fastest]
        part = macs[fastest] / all_macs if all_macs else 0.0
        added: Array = latency - latency[fastest] + latency[fastest] * part
        return added

    def _presence(self, column: int) -> BoundCost:
        """1 where a decision is active."""
        structure = structure_of(self.space)
        scope = structure.closed([column])
        active = np.ones(structure.axes[column])
        active[structure.sizes[column] :] = 0.0
        shape = [-1 if c == column else 1 for c in scope]
        values = np.broadcast_to(active.reshape(shape), structure.shape(scope))
        # The model is there for its name alone.
        return TableCost(self.latency, self.space, CostTable(0.0, [Term(scope, values)]))

    def _means(self, bound: BoundCost, column: int) -> Array:
        """The expectation for each candidate of a decision, `(candidates,)`."""
        decision = self.space.decisions[column]
        chosen = np.eye(decision.size)
        return np.array([float(bound.expected({decision.id: one})) for one in chosen])

    def _on_space(self, table: CostTable) -> BoundCost:
        """A table over the decisions of the whole space, on the part that is searched."""
        return _on(TableCost(self.latency, self.whole, table), self.space)


def _cleaned(values: Array) -> Array:
    """The same, with 0 for what is only rounding."""
    return np.where(values > ROUNDING * np.abs(values).max(), values, 0.0)


def _on(bound: BoundCost, space: Space) -> BoundCost:
    return on_part(_on(bound, space.parent), space) if isinstance(space, Part) else bound
