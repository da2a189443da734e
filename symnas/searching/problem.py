"""What an algorithm is given to solve: a space, objectives, constraints, and a seed.

A problem deals rows that are feasible and were not proposed before, so no algorithm repeats an
architecture or breaks a constraint. It keeps one short key a proposal.

An algorithm of several fidelities proposes an architecture again, at a higher budget. The problem
knows at which budgets, so that a run can tell what its results are results of.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symnas.costs.bound_constraints import CHANGE
from symnas.costs.independent import Independent
from symnas.searchspace.space import Seed, Space, seed_of

if TYPE_CHECKING:
    from symnas.costs.bound import BoundCost
    from symnas.costs.bound_constraints import BoundConstraints
    from symnas.searching.objectives import Objective

Rows = NDArray[np.int32]

# A space of up to this many rows is enumerated, to find what is left of it.
SMALL_SPACE = 200_000
# Proposals that are remembered as rows.
LATEST = 1024
# Random rows without a new feasible one before giving up, when checking them is cheap or dear.
DRAWS, DEAR_DRAWS = 200_000, 5_000
# Mutations or crossovers of one parent without a new feasible row before giving up.
TRIES = 256
# After so many tries from one parent, one more decision is changed at once.
TRIES_A_STEP = 32

# So much more freely a repair changes other decisions with each step, up to a probability.
CHANGES_A_STEP, MOST_CHANGE = 4.0, 0.3

# `child(index, step, rng)` is a row; `repair(index, row, step, rng)` a feasible one, or None.
Child = Callable[[int, int, random.Random], list[int]]
Repair = Callable[[int, list[int], int, random.Random], "list[int] | None"]


class Problem:
    """A search problem.

    Args:
        space: what is searched.
        objectives: what is improved; see `sn.Objective`.
        constraints: what `sn.Constraints.of(...).bind(space)` gives, or None.
        seed: all randomness comes from it.
        reward: weighs the objective against costs, see `symnas.rewards`; or None.
        costs: bound costs by name, of the constraints and the reward.

    Attributes:
        count: how many architectures were proposed; at a second budget, none is counted again.
        exhausted: whether there is none left to propose.
        budget: of what is proposed without naming one; an algorithm of several fidelities sets
            it, to its lowest. None: there are no budgets.

    >>> import symnas as sn
    >>> problem = sn.Problem(sn.Space(sn.nn.Linear(4, sn.oneof([8, 16, 32]))), seed=1)
    >>> len(problem.propose(problem.sample(5, key=0)))  # there are only three
    3
    >>> len(problem.sample(1, key=1)), problem.exhausted
    (0, True)
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective] = (),
        constraints: BoundConstraints | None = None,
        seed: int = 0,
        reward: Callable[[float, Mapping[str, float]], float] | None = None,
        costs: Mapping[str, BoundCost] | None = None,
    ) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self.constraints = constraints
        self.seed = seed
        self.reward = reward
        self.costs = dict(costs or {})
        self.count = 0
        self.exhausted = False
        self.budget: float | None = None
        self._budgets: dict[bytes, tuple[float, ...]] = {}
        self._proposed: set[bytes] = set()
        self._latest: deque[NDArray[np.int32]] = deque(maxlen=LATEST)
        self._infeasible: set[bytes] = set()
        self._checked = self._passed = 0
        self._all_feasible = constraints is None and space.valid is None
        self._left: Rows | None = None
        # Where a cost has to be measured, candidates are drawn few at a time.
        self._dear = constraints is not None and constraints.dear

    @property
    def feasible_share(self) -> float | None:
        """The share of random rows that met the constraints, or None if there are none."""
        if self._all_feasible or self._checked == 0:
            return None
        return self._table_share * self._passed / self._checked

    @cached_property
    def _table_share(self) -> float:
        """The share of random rows that keep the limits on tables: no others are drawn."""
        if self.constraints is None or self.constraints.feasible is None:
            return 1.0
        lower, upper = self.constraints.feasible.fraction(Independent(self.space), bins=1000)
        return float(lower + upper) / 2

    # Dealing rows -----------------------------------------------------------------------------

    def sample(self, n: int, key: Seed, uniform: str = "decisions") -> Rows:
        """Up to `n` random rows, feasible, not proposed before, and distinct.

        Limits on tables are kept while drawing, so tight ones cost no more than loose ones; other
        constraints are met by drawing again. A small space is enumerated in the end, so that
        nothing of it is missed; of a large one, fewer rows mean that 200,000 random ones (5,000, if
        a cost has to be measured) had no more.
        """
        found: list[list[int]] = []
        taken: set[bytes] = set()
        small = self._is_small()
        drawn = fruitless = attempt = 0
        size = n
        while len(found) < n and fruitless < (DEAR_DRAWS if self._dear else DRAWS):
            rows = self._drawn(size, (*self._seeds(key), attempt), uniform)
            before = len(found)
            self._take(rows.tolist(), n, found, taken, count=True)
            drawn, attempt = drawn + size, attempt + 1
            fruitless = 0 if len(found) > before else fruitless + size
            if fruitless and small and drawn > self.space.size // 8:
                break
            size = max(1, n - len(found)) if self._dear else min(16_384, 4 * max(size, 64))
        if len(found) < n and small:
            self._take_what_is_left(n, key, found, taken)
            self.exhausted = not found
        return self._array(found)

    def mutate(self, rows: Any, key: Seed, *, repaired: bool = True) -> Rows:
        """For each row a mutation of it, feasible and not proposed before.

        A decision is changed at random. Where that breaks a limit on tables, as few others as have
        to are changed besides, by chance: so a decision whose every change is dear is changed as
        often as others. Rows without a mutation within reach give none. More decisions are changed
        at once where all single changes have been proposed.

        Args:
            rows: `(n, columns)`.
            key: mutations of the same rows by the same key are the same.
            repaired: False to draw another change instead where one breaks a limit, which takes
                less time and changes dear decisions less often.
        """
        moves = self.space._moves

        def child(index: int, step: int, rng: random.Random) -> list[int]:
            row = parents[index]
            for _ in range(step):
                row = moves.mutate(row, rng)
            return row

        def repair(index: int, row: list[int], step: int, rng: random.Random) -> list[int] | None:
            pinned = self._changed(parents[index], row)
            change = min(MOST_CHANGE, CHANGE * CHANGES_A_STEP ** (step - 1))
            assert self.constraints is not None
            parent = np.array(parents[index], np.int32)
            found = self.constraints.near(parent, pinned, rng.getrandbits(62), change)
            return None if found is None else list(found.tolist())

        parents = rows.tolist() if isinstance(rows, np.ndarray) else [list(r) for r in rows]
        return self._children(len(parents), child, repair if repaired else None, key)

    def crossover(self, a: Any, b: Any, key: Seed) -> Rows:
        """For each pair a child of both, feasible and not proposed before.

        Where the children of a pair have all been proposed, they are mutated besides. Where one
        breaks a limit on tables, another is drawn among those that do not.
        """
        moves = self.space._moves

        def child(index: int, step: int, rng: random.Random) -> list[int]:
            row = moves.crossover(left[index], right[index], rng)
            for _ in range(step - 1):
                row = moves.mutate(row, rng)
            return row

        def repair(index: int, row: list[int], step: int, rng: random.Random) -> list[int] | None:
            pair = np.array([left[index], right[index]], np.int32)
            assert self.constraints is not None
            found = self.constraints.between(pair[0], pair[1], rng.getrandbits(62))
            return None if found is None else list(found.tolist())

        left, right = np.asarray(a).tolist(), np.asarray(b).tolist()
        return self._children(len(left), child, repair, key)

    def fresh(self, rows: Any) -> NDArray[np.bool_]:
        """Which rows are feasible, not proposed before, and the first of their kind: `(n,)`."""
        taken: set[bytes] = set()
        return np.array([self._is_fresh(list(r), taken) for r in np.asarray(rows).tolist()], bool)

    def feasible(self, rows: Any) -> NDArray[np.bool_]:
        """Which rows meet the constraints and `valid`, proposed before or not: `(n,)`."""
        rows = self._array(rows)
        mask = self.space.is_valid(rows)
        if self.constraints is not None and mask.any():
            mask[mask] = self.constraints.mask(rows[mask])
        return np.asarray(mask, bool)

    def latest(self, n: int) -> Rows:
        """The last `n` rows that were proposed, in order; no more than 1,024.

        What was proposed and not told yet is `latest(count - told)`.
        """
        return self._array(list(self._latest)[len(self._latest) - min(n, len(self._latest)) :])

    def propose(self, rows: Any, budget: float | None = None) -> Rows:
        """Marks rows as proposed, and returns them. `count` goes up by their number.

        Args:
            rows: `(n, columns)`.
            budget: what they are evaluated at, if the problem has budgets; by default its `budget`.
                Rows that were proposed at another one do not count again.
        """
        proposed = self._array(rows)
        self._latest.extend(proposed)
        keys = [self.space.key_of(row) for row in proposed.tolist()]
        self._proposed.update(keys)
        self.count += len(keys)
        if self.budget is not None:
            at = self.budget if budget is None else budget
            for key in keys:
                before = self._budgets.get(key, ())
                self.count -= bool(before)
                self._budgets[key] = (*before, at)
        return proposed

    def budgets_of(self, row: Any) -> tuple[float, ...]:
        """The budgets at which an architecture was proposed, in that order; () if it has none."""
        return self._budgets.get(self.space.key_of(np.asarray(row).tolist()), ())

    # Helpers ----------------------------------------------------------------------------------

    def _seeds(self, key: Seed) -> tuple[int, ...]:
        return (self.seed, *([key] if isinstance(key, int | np.integer) else key))

    def _drawn(self, n: int, seed: tuple[int, ...], uniform: str) -> Rows:
        if self.constraints is None:
            return self.space.sample(n, seed, uniform)
        return self.constraints.draw(n, seed, uniform)

    def _children(self, n: int, child: Child, repair: Repair | None, key: Seed) -> Rows:
        rng = random.Random(seed_of(self._seeds(key)))
        constraints = self.constraints
        found: list[list[int]] = []
        taken: set[bytes] = set()
        for index in range(n):
            for attempt in range(TRIES):
                step = 1 + attempt // TRIES_A_STEP
                row = child(index, step, rng)
                if (
                    repair is not None
                    and constraints is not None
                    and constraints.feasible is not None
                    and not constraints.mask(self._array([row]))[0]
                ):
                    repaired = repair(index, row, step, rng)
                    if repaired is None:
                        continue
                    row = repaired
                if self._is_fresh(row, taken):
                    found.append(row)
                    break
        return self._array(found)

    def _changed(self, parent: list[int], child: list[int]) -> dict[int, int]:
        """What a mutation changed, without what merely follows from it."""
        for column in self.space._compiled.order:
            if parent[column] != child[column]:
                # Picks of a `manyof` are swapped: they change together.
                return {
                    c: child[c]
                    for c in self._together(column)
                    if child[c] >= 0 and (c == column or child[c] != parent[c])
                }
        return {}

    def _together(self, column: int) -> tuple[int, ...]:
        for rule in self.space._compiled.rules:
            if column in rule.columns:
                return rule.columns
        return (column,)

    def _take(
        self, rows: list[list[int]], n: int, found: list[list[int]], taken: set[bytes], count: bool
    ) -> None:
        if not self._dear:
            self._prefetch(rows)
        for row in rows:
            if len(found) == n:
                return
            if self._is_fresh(row, taken, count):
                found.append(row)

    def _prefetch(self, rows: list[list[int]]) -> None:
        """Tells infeasible rows all at once, which is much faster than one by one."""
        if self.constraints is None or len(rows) < 2:
            return
        for row, kept in zip(rows, self.constraints.mask(self._array(rows)).tolist(), strict=True):
            if not kept:
                self._infeasible.add(self.space.row_key(row))

    def _is_fresh(self, row: list[int], taken: set[bytes], count: bool = False) -> bool:
        key = self.space.key_of(row)
        if key in self._proposed or key in taken:
            return False
        if not self._all_feasible:
            # By row: what `canonical` calls the same may differ in cost.
            own = self.space.row_key(row)
            feasible = own not in self._infeasible and self._is_feasible(row)
            if count:
                self._checked += 1
                self._passed += feasible
            if not feasible:
                self._infeasible.add(own)
                return False
        taken.add(key)
        return True

    def _is_feasible(self, row: list[int]) -> bool:
        rows = self._array([row])
        if not self.space.is_valid(rows)[0]:
            return False
        return self.constraints is None or bool(self.constraints.mask(rows)[0])

    def _is_small(self) -> bool:
        return not self.space.has_floats and self.space.size <= SMALL_SPACE

    def _take_what_is_left(
        self, n: int, key: Seed, found: list[list[int]], taken: set[bytes]
    ) -> None:
        rows = np.concatenate(list(self.space.enumerate())) if self._left is None else self._left
        key_of, row_key = self.space.key_of, self.space.row_key
        open_ = [
            row
            for row in rows.tolist()
            if key_of(row) not in self._proposed and row_key(row) not in self._infeasible
        ]
        self._left = self._array(open_)  # never grows, so each look costs less than the last
        order = np.random.default_rng((*self._seeds(key), DRAWS)).permutation(len(open_))
        self._take([open_[i] for i in order], n, found, taken, count=False)

    def _array(self, rows: Any) -> Rows:
        return np.array(rows, np.int32).reshape(len(rows), len(self.space))
