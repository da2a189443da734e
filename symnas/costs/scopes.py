"""Finding which decisions each piece of a network depends on, by trying.

Every place in the network (a layer's call, the parameters that a module owns) has a *scope*: the
few decisions that determine what piece stands there, together with those that decide whether they
are active. Scopes are learned from observed rows:

1. Walks that change one decision at a time: whatever changes has that decision in its scope.
2. Random rows: where two rows agree on a scope and yet differ in the piece, the rows between them
   are bisected, and the decision at which the piece changes joins the scope.
3. Rows that show every reachable combination of every scope, many scopes in each row; a row that
   contradicts a scope is dealt with as in 2.

Both observations and rows grow with the largest scope, not with the space.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symnas.costs.record import Place
from symnas.costs.structure import Columns, structure_of
from symnas.errors import SymnasError
from symnas.searchspace import conditions as cond

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Observe = Callable[[list[int]], Iterable[tuple[Place, int]]]

# The most combinations of one scope, and the most rows that are observed.
MAX_COMBINATIONS = 6_000
MAX_ROWS = 12_000
# A table of more entries than this is not even looked at.
MAX_ENTRIES = 500_000
WALKS = 2
RANDOM_ROWS = 24
BATCH = 32
TRIES, RULED_TRIES = 20, 400
NOTHING = -1


class TooCoupled(SymnasError):
    """The cost of some part of a network depends on too many decisions at once for a table."""


class Scopes:
    """What stands at each place of a space's networks, as tables over few decisions.

    Args:
        space: whose rows are observed.
        observe: a row to the number of the piece at each place.
        seed: of the rows that are tried.

    Attributes:
        places: what was seen, numbered.
        scopes: the decisions that each depends on, closed under conditions.
    """

    def __init__(self, space: Space, observe: Observe, seed: int = 0) -> None:
        self.space = space
        self.structure = structure_of(space)
        self.places: list[Place] = []
        self.scopes: list[Columns] = []
        self._numbers: dict[Place, int] = {}
        self._observe = observe
        self._rng = random.Random(seed)
        self._rows = np.empty((256, len(space)), np.int32)
        self._seen = np.full((256, 64), NOTHING, np.int32)
        self._index: dict[bytes, int] = {}
        # Picks of a `manyof` are drawn independently, and seldom keep its rule.
        self._tries = RULED_TRIES if self.structure.rules else TRIES

    # Learning ---------------------------------------------------------------------------------

    def learn(self) -> None:
        """Finds all scopes and observes all their combinations.

        Raises:
            TooCoupled: a scope has too many combinations.
        """
        for _ in range(WALKS):
            self._walk()
        for row in self.random_rows(RANDOM_ROWS):
            self.observe(row)
        self._settle()
        self._cover()

    def observe(self, row: Sequence[int]) -> int:
        """Observes a row, unless it was; returns its index."""
        row = list(row)
        key = np.asarray(row, np.int32).tobytes()
        found = self._index.get(key)
        if found is not None:
            return found
        if len(self._index) >= MAX_ROWS:
            raise TooCoupled(
                f"more than {MAX_ROWS:,} architectures would have to be looked at: too many "
                f"decisions act on the same layers ({self._widest()})"
            )
        index = len(self._index)
        self.add(row, self._observe(row))
        return index

    def add(self, row: Sequence[int], run: Iterable[tuple[Place, int]]) -> None:
        """Adds an observation that was made elsewhere."""
        index = len(self._index)
        if index == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._seen = np.concatenate([self._seen, np.full_like(self._seen, NOTHING)])
        self._rows[index] = row
        self._index[self._rows[index].tobytes()] = index
        for place, piece in run:
            number = self._number(place)  # may make room for it
            self._seen[index, number] = piece

    def differing(self, row: Sequence[int], run: Iterable[tuple[Place, int]]) -> bool:
        """Whether a row's observation contradicts what the scopes say of it."""
        seen = dict(run)
        row_array = np.asarray([list(row)], np.int32)
        if any(place not in self._numbers for place in seen):
            return True
        for scope, numbers in self.groups().items():
            codes, first = self._first(scope)
            code = self._codes(scope, row_array)[0]
            at = np.searchsorted(codes, code)
            if at == len(codes) or codes[at] != code:
                return True
            expected = self._seen[first[at], numbers]
            actual = [seen.get(self.places[n], NOTHING) for n in numbers]
            if expected.tolist() != actual:
                return True
        return False

    def refine(self) -> None:
        """Takes in observations that were added, and completes the tables again."""
        self._settle()
        self._cover()

    def random_rows(self, n: int) -> list[list[int]]:
        """Up to `n` distinct random valid rows."""
        found: dict[tuple[int, ...], None] = {}
        for _ in range(TRIES):
            rows = self.space.sample(n, self._rng.getrandbits(62))
            found.update(dict.fromkeys(map(tuple, rows[self.space.is_valid(rows)].tolist())))
            if len(found) >= n:
                break
        return [list(row) for row in list(found)[:n]]

    def groups(self) -> dict[Columns, list[int]]:
        """The places by their scope."""
        groups: dict[Columns, list[int]] = {}
        for number, scope in enumerate(self.scopes):
            groups.setdefault(scope, []).append(number)
        return groups

    def table(
        self, scope: Columns, numbers: Sequence[int]
    ) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
        """Flat indices into a table over `scope`, and the pieces seen there: `(k,)`, `(k, places)`."""
        codes, first = self._first(scope)
        return codes, self._seen[np.ix_(first, np.asarray(numbers, int))]

    @property
    def rows(self) -> Rows:
        """All rows that were observed."""
        return self._rows[: len(self._index)]

    # Walks ------------------------------------------------------------------------------------

    def _walk(self) -> None:
        """Changes each decision once, from wherever the walk has come to."""
        start = self.random_rows(1)
        if not start:
            raise TooCoupled("the space's `valid` excludes all rows that were drawn")
        row = start[0]
        for column in self._rng.sample(range(len(row)), len(row)):
            before = self._changed(row, functools.partial(self._activate, column=column))
            if before is None or before[column] < 0:
                continue
            after = self._changed(before, functools.partial(self._flip, column=column))
            if after is None:
                continue
            a, b = self.observe(before), self.observe(after)
            for number in np.flatnonzero(self._seen[a] != self._seen[b]):
                self._widen(int(number), column)
            row = after

    def _changed(self, row: list[int], change: Callable[[list[int]], None]) -> list[int] | None:
        """A valid row with a change made to it; None if there seems to be none."""
        for _ in range(self._tries):
            new = list(row)
            change(new)
            self._repair(new)
            if self._is_valid(new):
                return new
        return None

    def _activate(self, row: list[int], column: int) -> None:
        condition = self.structure.conditions[column]
        if condition == cond.ALWAYS or cond.holds_row(condition, row):
            return
        clause = self._rng.choice(condition)
        for parent, values in clause.items():
            self._activate(row, parent)
            if row[parent] not in values:
                row[parent] = self._rng.choice(sorted(values))

    def _flip(self, row: list[int], column: int) -> None:
        others = self.structure.sizes[column] - 1
        if others > 0:
            value = self._rng.randrange(others)
            row[column] = value + (value >= row[column])

    def _repair(self, row: list[int], other: Sequence[int] | None = None) -> None:
        """Makes decisions active or not as the conditions say; new values from `other` first."""
        for column in self.structure.order:
            if not self.structure.conditional[column]:
                continue
            if not cond.holds_row(self.structure.conditions[column], row):
                row[column] = -1
            elif row[column] < 0:
                if other is not None and other[column] >= 0:
                    row[column] = other[column]
                else:
                    row[column] = self._rng.randrange(self.structure.sizes[column])

    def _is_valid(self, row: list[int]) -> bool:
        if self.structure.rules and not self.space.is_row(row):
            return False
        return bool(self.space.is_valid(np.array([row], np.int32))[0])

    # Contradictions ---------------------------------------------------------------------------

    def _settle(self) -> None:
        """Widens scopes until no two rows contradict them."""
        while True:
            conflicts = [
                conflict
                for scope, numbers in self.groups().items()
                if (conflict := self._conflict(scope, numbers)) is not None
            ]
            if not conflicts:
                return
            for scope, number, a, b in conflicts:
                if self.scopes[number] == scope:
                    self._bisect(number, a, b)

    def _conflict(self, scope: Columns, numbers: list[int]) -> tuple[Columns, int, int, int] | None:
        """A place and two rows that agree on its scope and differ there."""
        n = len(self._index)
        codes = self._codes(scope, self.rows)
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        differs = self._seen[:n, numbers] != self._seen[first[inverse]][:, numbers]
        if not differs.any():
            return None
        row, place = (int(found[0]) for found in np.nonzero(differs))
        return scope, numbers[place], int(first[inverse[row]]), row

    def _bisect(self, number: int, a: int, b: int) -> None:
        """Finds a decision between two rows at which the piece at a place changes."""
        start, end = self.rows[a].tolist(), self.rows[b].tolist()
        columns = [c for c in self.structure.order if start[c] != end[c]]
        self._rng.shuffle(columns)
        columns.sort(key=lambda c: len(self.structure.ancestors[c]))
        low, high, low_row, high_row = 0, len(columns), a, b
        while high - low > 1:
            middle = (low + high) // 2
            row = list(start)
            for column in columns[:middle]:
                row[column] = end[column]
            self._repair(row, end)
            at = self.observe(row)
            if self._seen[at, number] == self._seen[a, number]:
                low, low_row = middle, at
            else:
                high, high_row = middle, at
        before = self.scopes[number]
        for changed in np.flatnonzero(self._seen[low_row] != self._seen[high_row]):
            self._widen(int(changed), columns[low])
        if self.scopes[number] == before:
            # The network differs by more than its row: an author's code is random, say.
            raise TooCoupled(f"equal choices gave different networks at {self.places[number][0]!r}")

    def _widen(self, number: int, column: int) -> None:
        if column in self.scopes[number]:
            return
        structure = self.structure
        scope = structure.closed([*self.scopes[number], column])
        if any(structure.floats[c] for c in scope):
            names = [self.space.columns[c] for c in scope if structure.floats[c]]
            raise TooCoupled(f"sizes depend on a float decision ({', '.join(names)})")
        if structure.entries(scope) > MAX_ENTRIES or (
            structure.entries(scope) > MAX_COMBINATIONS
            and int(structure.reachable(scope).sum()) > MAX_COMBINATIONS
        ):
            raise TooCoupled(
                f"what stands at {self.places[number][0]!r} depends on {len(scope)} decisions at "
                f"once ({_names(self.space, scope)}), which is more than {MAX_COMBINATIONS:,} "
                "combinations"
            )
        self.scopes[number] = scope

    # Covering ---------------------------------------------------------------------------------

    def _cover(self) -> None:
        """Observes rows until every reachable combination of every scope was seen."""
        hopeless: dict[Columns, set[int]] = {}
        while True:
            missing = self._missing(hopeless)
            if not missing:
                return
            for _ in range(BATCH):
                if not self._cover_one(missing, hopeless):
                    break
            self._settle()

    def _missing(self, hopeless: dict[Columns, set[int]]) -> dict[Columns, NDArray[np.intp]]:
        missing = {}
        for scope in self.groups():
            wanted = self.structure.reachable(scope).copy().reshape(-1)
            wanted[self._codes(scope, self.rows)] = False
            for code in hopeless.get(scope, ()):
                wanted[code] = False
            if wanted.any():
                missing[scope] = np.flatnonzero(wanted)
        return missing

    def _cover_one(
        self, missing: dict[Columns, NDArray[np.intp]], hopeless: dict[Columns, set[int]]
    ) -> bool:
        """Observes one row that shows as many missing combinations as are compatible."""
        left = [scope for scope, codes in missing.items() if len(codes)]
        if not left:
            return False
        left.sort(key=lambda scope: -len(missing[scope]))
        chosen: dict[int, int] = {}
        lead: tuple[Columns, int] | None = None
        for scope in left:
            codes = missing[scope]
            for at in self._rng.sample(range(len(codes)), min(8, len(codes))):
                values = self._values(scope, int(codes[at]))
                if all(chosen.get(c, v) == v for c, v in values.items()):
                    chosen.update(values)
                    lead = lead or (scope, int(codes[at]))
                    break
        row = self._completed(chosen)
        if row is None and lead is not None:
            row = self._completed(self._values(*lead))
            if row is None:  # nothing valid has this combination
                hopeless.setdefault(lead[0], set()).add(lead[1])
                missing[lead[0]] = missing[lead[0]][missing[lead[0]] != lead[1]]
                return True
        assert row is not None
        self.observe(row)
        array = np.array([row], np.int32)
        for scope in left:
            code = self._codes(scope, array)[0]
            missing[scope] = missing[scope][missing[scope] != code]
        return True

    def _completed(self, chosen: dict[int, int]) -> list[int] | None:
        for _ in range(self._tries):
            row = [-1] * len(self.space)
            for column in self.structure.order:
                if cond.holds_row(self.structure.conditions[column], row):
                    value = chosen.get(column, -1)
                    if value < 0:
                        value = self._rng.randrange(self.structure.sizes[column])
                    row[column] = value
            if self._is_valid(row):
                return row
        return None

    # Codes ------------------------------------------------------------------------------------

    def _codes(self, scope: Columns, rows: Rows) -> NDArray[np.intp]:
        """The flat index of each row into a table over `scope`."""
        codes = np.zeros(len(rows), np.intp)
        for column in scope:
            axis = self.structure.axes[column]
            codes = codes * axis + np.where(rows[:, column] < 0, axis - 1, rows[:, column])
        return codes

    def _values(self, scope: Columns, code: int) -> dict[int, int]:
        values = {}
        for column in reversed(scope):
            code, value = divmod(code, self.structure.axes[column])
            inactive = value == self.structure.sizes[column]
            values[column] = -1 if inactive else value
        return values

    def _first(self, scope: Columns) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        codes, first = np.unique(self._codes(scope, self.rows), return_index=True)
        return codes, first

    def _number(self, place: Place) -> int:
        found = self._numbers.get(place)
        if found is None:
            found = self._numbers[place] = len(self.places)
            self.places.append(place)
            self.scopes.append(())
            if found == self._seen.shape[1]:
                more = np.full((len(self._seen), found), NOTHING, np.int32)
                self._seen = np.concatenate([self._seen, more], axis=1)
        return found

    def _widest(self) -> str:
        widest: Columns = max(self.scopes, key=lambda scope: len(scope), default=())
        return _names(self.space, widest)


def _names(space: Space, columns: Iterable[int]) -> str:
    names = [space.decisions[c].name or space.columns[c] for c in columns]
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
