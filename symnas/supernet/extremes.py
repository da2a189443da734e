"""The largest and the smallest network of a space, by multiply-accumulate operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symnas.costs.decompose import simplified
from symnas.costs.independent import Independent
from symnas.costs.layers import shape_network
from symnas.costs.pieces import Piece, macs_of
from symnas.costs.record import Recorder
from symnas.costs.scopes import TooCoupled
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable
from symnas.costs.tabulate import pieces_of_space
from symnas.costs.trellis import Trellis
from symnas.errors import SymnasError

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

Row = NDArray[np.int32]
Rows = NDArray[np.int32]
Size = tuple[float, float]

# Without tables: random rows to begin with, and passes over all decisions.
RANDOM, PASSES = 64, 4
# Rows drawn for one valid one before giving up.
DRAWS = 10_000


def extremes(space: Space) -> tuple[Row, Row]:
    """The smallest and the largest network of a space, as rows `(columns,)`.

    They are so by the number of MACs for one example, and among equals by that of parameters; by
    these alone, where the space does not say the shape of an example. Resolutions that are chosen
    count too. Of decisions that change neither, the smallest has the first candidates and the
    largest the last.

    Exact where costs are tables (see `docs/costs.md`). Otherwise, as with a space's `valid` that
    excludes these networks, rows that no change of a single decision makes smaller or larger.

    Raises:
        SymnasError: no network can be built, or is valid.

    >>> import symnas as sn
    >>> space = sn.Space(
    ...     sn.nn.Sequential(sn.nn.Linear(4, sn.oneof([16, 8, 32])), sn.oneof([sn.nn.ReLU(), sn.nn.Tanh()])),
    ...     input=(4,))
    >>> [row.tolist() for row in extremes(space)]
    [[1, 0], [2, 1]]
    """
    if "extremes" not in space.derived:
        space.derived["extremes"] = _Search(space).found()
    smallest, largest = space.derived["extremes"]
    return smallest.copy(), largest.copy()


def valid_rows(space: Space, n: int, seed: Sequence[int]) -> Rows:
    """Random rows of the whole space, each drawn anew: `(n, columns)`.

    Raises:
        SymnasError: `valid` refuses nearly all.
    """
    rows = space.sample(n, seed)
    rows = rows[space.is_valid(rows)]
    for attempt in range(1, DRAWS):
        if len(rows) >= n:
            return rows[:n]
        drawn = space.sample(n, (*seed, attempt))
        rows = np.concatenate([rows, drawn[space.is_valid(drawn)]])
        if not len(rows) and attempt * n > DRAWS:
            break
    raise SymnasError(
        f"`valid` refuses nearly all of {space!r}: {n} networks that it takes were not found."
    )


class _Search:
    def __init__(self, space: Space) -> None:
        self.space = space
        self.recorder = Recorder()
        self.tables: tuple[CostTable, CostTable] | None = None
        try:
            pieces = pieces_of_space(space)
            macs, told = pieces.tables(lambda given: [macs_of(piece) for piece in given])
            parameters, stored = pieces.tables(_counts, storage=True)
            if not told.wrong and not stored.wrong:
                structure = structure_of(space)
                self.tables = (
                    simplified(structure, macs.terms, macs.bias),
                    simplified(structure, parameters.terms, parameters.bias),
                )
        except TooCoupled:
            pass

    def found(self) -> tuple[Row, Row]:
        smallest, largest = (self._exact(sign) for sign in (1.0, -1.0))
        if smallest is None or largest is None:
            drawn = valid_rows(self.space, RANDOM, (0,))
            smallest = self._climbed(drawn, 1.0) if smallest is None else smallest
            largest = self._climbed(drawn, -1.0) if largest is None else largest
        return smallest, largest

    # With tables ------------------------------------------------------------------------------

    def _exact(self, sign: float) -> Row | None:
        """The row with the least `sign` times the size; None where that is not known."""
        if self.tables is None:
            return None
        try:
            trellis = Trellis.of(structure_of(self.space), self.tables)
        except TooCoupled:
            return None
        # First all paths with the best number of MACs, then among them the best of parameters:
        # one weighted sum of both could not tell them apart in 53 bits.
        least = trellis.least([sign, 0.0])
        steps = []
        for step, before, after in zip(trellis.steps, least, least[1:], strict=False):
            # All numbers are whole.
            slack = sign * step.costs[0] + after[step.target] - before[step.source]
            steps.append(step.kept(slack < 0.5))
        _, values = Trellis(tuple(steps), trellis.biases).cheapest([0.0, sign])
        row = self._completed(values, last=sign < 0)
        return row if self.space.is_valid(row[None])[0] else None

    def _completed(self, values: dict[int, int], last: bool) -> Row:
        """A row with these values, and the first or last candidates of other decisions."""
        given = np.full((1, len(self.space)), -2, np.int32)
        for column, value in values.items():
            given[0, column] = value
        arrays = {}
        for column, decision in enumerate(self.space.decisions):
            if column not in values and decision.kind != "float":
                arrays[column] = np.zeros(decision.size)
                arrays[column][-1 if last else 0] = 1.0
        told = Independent(self.space, arrays=arrays)
        row: Row = told.sample(1, np.random.default_rng(0), given)[0]
        return row

    # Without ----------------------------------------------------------------------------------

    def _climbed(self, rows: Rows, sign: float) -> Row:
        """The best of the rows, after changes of single decisions."""
        sizes = [self._size(row, sign) for row in rows]
        known = [(size, i) for i, size in enumerate(sizes) if size is not None]
        if not known:
            raise SymnasError(f"None of {len(rows)} networks of {self.space!r} could be run.")
        size, index = min(known)
        best = rows[index]
        order = self.space._compiled.order
        for _ in range(PASSES):
            before = size
            for place, column in enumerate(order):
                near = self.space.neighbors(best)
                same = (near[:, order[:place]] == best[order[:place]]).all(axis=1)
                near = near[same & (near[:, column] != best[column])]
                for row in near[self.space.is_valid(near)]:
                    own = self._size(row, sign)
                    if own is not None and own < size:
                        size, best = own, row
            if size == before:
                break
        return np.asarray(best, np.int32)

    def _size(self, row: Row, sign: float) -> Size | None:
        """`sign` times MACs and parameters; None of a network that cannot run."""
        if self.tables is not None:
            macs, parameters = (float(table(row[None])[0]) for table in self.tables)
            return sign * macs, sign * parameters
        architecture = self.space.decode(row)
        try:
            network = shape_network(architecture)
            shape = architecture.input
            run = [] if shape is None else self.recorder.run(network, shape)
        except Exception:  # an author's code; `valid` may not tell
            return None
        macs = sum(macs_of(self.recorder.pieces[number]) for _, number in run)
        return sign * macs, sign * float(sum(p.numel() for p in network.parameters()))


def _counts(pieces: Sequence[Piece]) -> list[float]:
    return [float(sum(p.numel() for p in piece.parameters)) for piece in pieces]
