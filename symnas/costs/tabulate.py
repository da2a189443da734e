"""From a space and a cost model to a table: what `bind` does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.accuracy import Accuracy
from symnas.costs.bound_table import TableCost
from symnas.costs.layers import shape_network
from symnas.costs.pieces import Piece
from symnas.costs.pool import Pool
from symnas.costs.quiet import quiet
from symnas.costs.record import Recorder, Run
from symnas.costs.scopes import NOTHING, Scopes, TooCoupled
from symnas.costs.structure import Columns
from symnas.costs.table import CostTable, Term
from symnas.errors import SymnasError
from symnas.searchspace.nodes import PROGRAM

if TYPE_CHECKING:
    from symnas.costs.model import CostModel
    from symnas.searchspace.space import Space

Price = Callable[[Sequence[Piece]], Sequence[float]]
Found = TypeVar("Found")

# Networks that are built as ever, to check the tables against; and how often tables are mended.
HELD_OUT = 100
ROUNDS = 4


@attrs.frozen(eq=False)
class Layout:
    """Tables before any price.

    Attributes:
        tables: for each scope, the entries that rows can reach `(n,)`, and the pieces that stand in
            each `(n, places)`.
        used: the pieces that need a price.
    """

    tables: dict[Columns, tuple[NDArray[Any], NDArray[Any]]]
    used: list[int]


class SpacePieces:
    """Which piece stands where in the networks of a space: found once, for all cost models.

    Args:
        space: whose networks.
        seed: of the rows that are tried and held out.
    """

    def __init__(self, space: Space, seed: int = 0) -> None:
        self.space = space
        self.seed = seed
        self.recorder = Recorder()
        self._pool = Pool(space)
        self.held_out: list[tuple[list[int], Run]] = []
        self.scopes = Scopes(space, self._observe, seed)
        self._layouts: dict[bool, Layout] = {}
        with quiet():
            self.scopes.learn()
            self._check()

    def tables(self, price: Price, storage: bool = False) -> tuple[CostTable, Accuracy]:
        """The sum of prices over the pieces of each network, and its error on held-out ones.

        Args:
            price: given all distinct pieces at once.
            storage: whether the pieces are parameters, each where it is owned, instead of calls.
        """
        layout = self._layout(storage)
        prices = self._priced(price, layout.used)
        table = self._table(layout, prices)
        return table, self._accuracy(table, prices, storage)

    def tables_of(
        self, price: Callable[[Sequence[Piece]], NDArray[np.float64]], storage: bool = False
    ) -> tuple[list[CostTable], Accuracy]:
        """As `tables`, for several costs at once, and the error of the first.

        Args:
            price: given all distinct pieces, `(costs, pieces)` numbers.
            storage: as of `tables`.
        """
        layout = self._layout(storage)
        given = np.asarray(price([self.recorder.pieces[n] for n in layout.used]), np.float64)
        each = [self._priced(functools.partial(_told, row), layout.used) for row in given]
        tables = [self._table(layout, prices) for prices in each]
        return tables, self._accuracy(tables[0], each[0], storage)

    def _layout(self, storage: bool) -> Layout:
        """Which pieces stand in which table, whatever they cost."""
        if storage not in self._layouts:
            groups = {
                scope: wanted
                for scope, numbers in self.scopes.groups().items()
                if (wanted := [n for n in numbers if self._is_storage(n) == storage])
            }
            tables = {scope: self.scopes.table(scope, wanted) for scope, wanted in groups.items()}
            used = {int(p) for _, seen in tables.values() for p in np.unique(seen)}
            for _, run in self.held_out:
                used.update(p for place, p in run if (place[1] == "parameters") == storage)
            used.discard(NOTHING)
            self._layouts[storage] = Layout(tables, sorted(used))
        return self._layouts[storage]

    def _table(self, layout: Layout, prices: NDArray[np.float64]) -> CostTable:
        terms = []
        for scope, (codes, seen) in layout.tables.items():
            values = np.zeros(self.scopes.structure.entries(scope))
            values[codes] = prices[seen].sum(axis=1)
            terms.append(Term(scope, values.reshape(self.scopes.structure.shape(scope))))
        bias = sum(float(term.values) for term in terms if not term.columns)
        return CostTable(bias, [term for term in terms if term.columns])

    def _priced(self, price: Price, used: list[int]) -> NDArray[np.float64]:
        prices = np.zeros(len(self.recorder.pieces) + 1)  # the last one is that of NOTHING
        given = np.asarray(price([self.recorder.pieces[n] for n in used]), np.float64)
        if given.shape != (len(used),) or not np.isfinite(given).all():
            raise ValueError(
                f"`price` gave {given.shape} numbers for {len(used)} pieces; it must give one "
                "finite number for each."
            )
        prices[used] = given
        return prices

    def _accuracy(self, table: CostTable, prices: NDArray[np.float64], storage: bool) -> Accuracy:
        rows = np.array([row for row, _ in self.held_out], np.int32)
        measured = [
            sum(prices[piece] for place, piece in run if (place[1] == "parameters") == storage)
            for _, run in self.held_out
        ]
        predicted = table(rows.reshape(len(self.held_out), len(self.space)))
        return Accuracy(predicted, np.array(measured, np.float64), exact_kind=True)

    # Observing --------------------------------------------------------------------------------

    def _is_storage(self, number: int) -> bool:
        return self.scopes.places[number][1] == "parameters"

    def _observe(self, row: list[int]) -> Run:
        network, known = self._pool.build(row)
        shape = input_shape(self.space, row)
        run = [] if shape is None else self.recorder.run(network, shape, known)
        return run + self.recorder.storage(network)

    def _built(self, row: list[int]) -> Run:
        """As `_observe`, of the network as anybody would build it."""
        architecture = self.space.decode(row)
        network = shape_network(architecture)
        shape = architecture.input
        run = [] if shape is None else self.recorder.run(network, shape)
        return run + self.recorder.storage(network)

    def _check(self) -> None:
        """Holds out rows; where one contradicts the scopes, mends them and holds out others."""
        for _ in range(ROUNDS):
            self.held_out = [(row, self._built(row)) for row in self.scopes.random_rows(HELD_OUT)]
            wrong = [pair for pair in self.held_out if self.scopes.differing(*pair)]
            if not wrong:
                return
            for row, _ in wrong:
                self.scopes.observe(row)
            self.scopes.refine()


def _told(prices: Sequence[float], pieces: Sequence[Piece]) -> Sequence[float]:
    """Prices that are known already."""
    return prices


def input_shape(space: Space, row: list[int]) -> tuple[int, ...] | None:
    """The shape of one example of a row, which may have choices; None if it was not given."""
    node = space._extras.get("input")
    return None if node is None else tuple(node.value(row, PROGRAM))


def found_once(space: Space, name: str, find: Callable[[Space], Found]) -> Found:
    """What `find` makes of a space, at the first call; a failure is kept too.

    Raises:
        TooCoupled: there is no table of reasonable size, or an architecture could not be run.
    """
    if name not in space.derived:
        try:
            space.derived[name] = find(space)
        except TooCoupled as problem:
            space.derived[name] = str(problem)
        except Exception as error:  # an author's code: told where the architecture is asked for
            text = f"an architecture could not be run: {type(error).__name__}: {error}"
            space.derived[name] = text
    found = space.derived[name]
    if isinstance(found, str):
        raise TooCoupled(found)
    return cast(Found, found)


def pieces_of_space(space: Space) -> SpacePieces:
    """The pieces of a space's networks, found at the first call.

    Raises:
        TooCoupled: there is no table of reasonable size.
    """
    return found_once(space, "pieces", SpacePieces)


def tabulated(model: CostModel, space: Space) -> TableCost:
    """A cost that is a sum over pieces, bound as a table.

    Raises:
        TooCoupled: there is no table of reasonable size.
        CostFailed: the model could not tell the cost of a piece.
    """
    found = pieces_of_space(space)
    try:
        table, accuracy = found.tables(model.price, model.counts == "storage")
    except SymnasError:
        raise
    except Exception as error:
        from symnas.costs.model import CostFailed

        raise CostFailed(
            f"{model.name}: what a layer costs could not be told: {type(error).__name__}: {error}."
        ) from error
    if accuracy.wrong:
        raise TooCoupled(
            f"the tables are wrong for {accuracy.wrong} of {accuracy.n} held-out architectures: the "
            "networks depend on more than their choices, or on many of them at once"
        )
    return TableCost(model, space, table, accuracy)
