"""Networks in which decisions are relaxed: several candidates of them at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from torch import nn

from symnas.errors import SymnasError
from symnas.searchspace import nodes
from symnas.supernet.mixtures import DepthMixture, Fit, Mixture, Values, Weights
from symnas.supernet.network import Context
from symnas.supernet.parts import Call, Evaluation, Maker, below, candidate, makes_modules

# The most candidates of one part that decisions on its arguments make together.
MOST = 16

# The fit of a part's candidate: its place, the row around it, the candidate's values.
Fits = Callable[[str, Sequence[int], Values], "Fit | None"]


class CannotMix(SymnasError):
    """Candidates that have no weighted sum."""


@attrs.frozen
class Mixing(Evaluation):
    """Evaluates a program with some decisions relaxed.

    Attributes:
        soft: decisions that are relaxed: column to the values that are run.
        masked: those of them that are relaxed by masks; the row has their largest values.
        weights: what candidates are weighted by.
        fits: the shapes of a part's candidate where they differ from the largest's.
        context: is told the row that each part is made of.
    """

    soft: Mapping[int, Sequence[int]]
    masked: frozenset[int]
    weights: Weights
    fits: Fits
    context: Context

    def made(self, place: str, call: Call) -> Any:
        self.context.row = tuple(self.row)
        return self.make(place, call)

    def value(self, node: nodes.Node, place: str) -> Any:
        match node:
            case nodes.Choice() if node.column in self.soft and makes_modules(node):
                options = [
                    (self._candidate(node, place, i), [((node.column, i),)])
                    for i in self.soft[node.column]
                ]
                return self._mixture(place, options)
            case nodes.Picks() if makes_modules(node) and self._any(node.columns):
                return [
                    self.value(nodes.Choice(column, choices), below(place, i))
                    for i, (column, choices) in enumerate(
                        zip(node.columns, node.candidates, strict=True)
                    )
                ]
            case nodes.Subset() if node.column in self.soft and makes_modules(node):
                return self._subset(node, place)
            case nodes.Repeated() if self._any(nodes.columns_of(node.times)):
                return self._depths(node, place)
            case nodes.Call():
                return self._call(node, place)
        return Evaluation.value(self, node, place)

    def _candidate(self, node: nodes.Choice, place: str, i: int) -> Any:
        return self._fixed({node.column: i}).value(node.candidates[i], candidate(place, i))

    def _any(self, columns: Any) -> bool:
        return any(column in self.soft for column in columns)

    def _fixed(self, values: Mapping[int, int]) -> Mixing:
        """The same with some decisions fixed."""
        row = list(self.row)
        for column, value in values.items():
            row[column] = value
        soft = {column: v for column, v in self.soft.items() if column not in values}
        return attrs.evolve(self, row=row, soft=soft)

    def _mixture(
        self,
        place: str,
        options: Sequence[tuple[Any, Sequence[Values]]],
        fits: Sequence[Fit | None] = (),
    ) -> Any:
        for made, _ in options:
            if not isinstance(made, nn.Module):
                if len(options) == 1:
                    return made
                raise CannotMix(
                    f"A candidate at {place or 'the root'!r} is a {type(made).__name__}, no module."
                )
        fitted = list(fits) if any(fits) else None
        return Mixture([m for m, _ in options], [v for _, v in options], self.weights, fitted)

    def _subset(self, node: nodes.Subset, place: str) -> list[Any]:
        """One mixture for each place in the list: of what may stand there."""
        found = []
        chosen = self.soft[node.column]
        for position in range(len(node.subsets[chosen[0]])):
            options: list[tuple[Any, list[Values]]] = []
            for i in sorted({node.subsets[s][position] for s in chosen}):
                there = [s for s in chosen if node.subsets[s][position] == i]
                made = self._fixed({node.column: there[0]}).value(
                    node.candidates[i], candidate(place, i)
                )
                options.append((made, [((node.column, s),) for s in there]))
            found.append(self._mixture(place, options))
        return found

    def _depths(self, node: nodes.Repeated, place: str) -> Any:
        columns = sorted(column for column in nodes.columns_of(node.times) if column in self.soft)
        depths: dict[int, list[Values]] = {}
        for values in itertools.product(*(self.soft[column] for column in columns)):
            chosen = dict(zip(columns, values, strict=True))
            times = node.times.value(self._fixed(chosen).row, nodes.PROGRAM)
            depths.setdefault(times, []).append(tuple(chosen.items()))
        blocks = [
            self.value(block, below(place, i)) for i, block in enumerate(node.blocks[: max(depths)])
        ]
        return DepthMixture(blocks, depths, self.weights)

    def _call(self, node: nodes.Call, place: str) -> Any:
        own: set[int] = set()
        for argument in (*node.args, *(a for _, a in node.kwargs)):
            if not makes_modules(argument):
                own |= nodes.columns_of(argument)
        mixed = sorted(
            column for column in own if column in self.soft and column not in self.masked
        )
        if not mixed:
            return Evaluation.value(self, node, place)
        if math.prod(len(self.soft[column]) for column in mixed) > MOST:
            raise CannotMix(f"More than {MOST} candidates of the part at {place!r} together.")
        options: list[tuple[Any, list[Values]]] = []
        fits = []
        for values in itertools.product(*(self.soft[column] for column in mixed)):
            chosen = tuple(zip(mixed, values, strict=True))
            options.append((self._fixed(dict(chosen)).value(node, place), [chosen]))
            fits.append(self.fits(place, self.row, chosen))
        if not isinstance(options[0][0], nn.Module):
            if len(options) == 1:
                return options[0][0]
            raise CannotMix(f"The part at {place!r} is no module.")
        return self._mixture(place, options, fits)


def mixing(
    root: nodes.Node,
    row: Sequence[int],
    soft: Mapping[int, Sequence[int]],
    masked: frozenset[int],
    weights: Weights,
    fits: Fits,
    context: Context,
) -> Callable[[Maker], Any]:
    """What makes a network with these decisions relaxed, of parts."""

    def put(make: Maker) -> Any:
        return Mixing(row, make, soft, masked, weights, fits, context).value(root, "")

    return put
