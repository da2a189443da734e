"""Peak memory of a space's networks as a table: the most that is held at any operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from symnas.costs.accuracy import Accuracy
from symnas.costs.layers import shape_network
from symnas.costs.live import LiveMemo, Trace, live_bytes
from symnas.costs.pool import Pool
from symnas.costs.quiet import quiet
from symnas.costs.record import Run
from symnas.costs.scopes import NOTHING, Scopes
from symnas.costs.structure import Columns, aligned
from symnas.costs.table import Term
from symnas.costs.tabulate import HELD_OUT, ROUNDS, found_once, input_shape

if TYPE_CHECKING:
    from symnas.searchspace.space import Space


class SpacePeaks:
    """What is held at each operation of the networks of a space.

    Args:
        space: whose networks; it must have an input.
        seed: of the rows that are tried and held out.

    Attributes:
        terms: tables whose largest is the peak of a row.
        error: of the peak on held-out architectures.
    """

    def __init__(self, space: Space, seed: int = 0) -> None:
        self.space = space
        self._pool = Pool(space)
        self._memo = LiveMemo()
        self._numbers: dict[int, int] = {}
        self.scopes = Scopes(space, self._observe, seed)
        held_out: list[tuple[list[int], Run]] = []
        with quiet():
            self.scopes.learn()
            for _ in range(ROUNDS):
                rows = self.scopes.random_rows(HELD_OUT)
                held_out = [(row, self._built(row)) for row in rows]
                wrong = [row for row, run in held_out if self.scopes.differing(row, run)]
                if not wrong:
                    break
                for row in wrong:
                    self.scopes.observe(row)
                self.scopes.refine()
        self.terms = self._largest()
        self.error = self._accuracy(held_out)

    def _observe(self, row: list[int]) -> Run:
        network, known = self._pool.build(row)
        shape = input_shape(self.space, row)
        assert shape is not None
        return self._numbered(live_bytes(network, shape, known, self._memo))

    def _built(self, row: list[int]) -> Run:
        architecture = self.space.decode(row)
        assert architecture.input is not None
        network = shape_network(architecture)
        return self._numbered(live_bytes(network, architecture.input, memo=self._memo))

    def _numbered(self, trace: Trace) -> Run:
        return [(place, self._numbers.setdefault(n, len(self._numbers))) for place, n in trace]

    def _largest(self) -> list[Term]:
        """For each scope the largest of what is held at its places; narrow ones go into wide ones."""
        structure = self.scopes.structure
        amounts = np.zeros(len(self._numbers) + 1)  # the last one is that of NOTHING
        assert NOTHING == -1
        amounts[list(self._numbers.values())] = list(self._numbers)
        tables: dict[Columns, np.ndarray] = {}
        for scope, places in self.scopes.groups().items():
            codes, seen = self.scopes.table(scope, places)
            values = np.zeros(structure.entries(scope))
            values[codes] = amounts[seen].max(axis=1)
            tables[scope] = values.reshape(structure.shape(scope))
        kept: dict[Columns, np.ndarray] = {}
        for scope in sorted(tables, key=lambda s: (-len(s), s)):
            wider = [other for other in kept if set(scope) <= set(other)]
            if wider:
                into = min(wider, key=structure.entries)
                values = aligned(tables[scope], scope, into)
                reachable = structure.reachable(into)
                kept[into] = np.maximum(kept[into], np.where(reachable, values, 0.0))
            else:
                kept[scope] = tables[scope]
        return [Term(scope, values) for scope, values in kept.items()]

    def _accuracy(self, held_out: list[tuple[list[int], Run]]) -> Accuracy:
        amounts = {number: amount for amount, number in self._numbers.items()}
        rows = np.array([row for row, _ in held_out], np.int32)
        rows = rows.reshape(len(held_out), len(self.space))
        predicted = [
            max(float(term.values[tuple(row[c] for c in term.columns)]) for term in self.terms)
            for row in rows
        ]
        measured = [max(amounts[number] for _, number in run) for _, run in held_out]
        return Accuracy(predicted, measured, exact_kind=True)


def peaks_of_space(space: Space) -> SpacePeaks:
    """What is held in the networks of a space, found at the first call.

    Raises:
        TooCoupled: there is no table of reasonable size.
    """
    return found_once(space, "peaks", SpacePeaks)
