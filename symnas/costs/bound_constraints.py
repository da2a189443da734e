"""Constraints bound to a space: which rows are allowed, and whether any is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.bound import BoundCost, Bounds
from symnas.costs.bound_part import on_part
from symnas.costs.constraints import Constraint, Constraints, Predicate
from symnas.costs.feasible import Feasible
from symnas.costs.independent import Independent
from symnas.costs.intervals import wilson
from symnas.costs.limits import Ceiling, Limit
from symnas.costs.sampler import Sampler
from symnas.costs.scopes import TooCoupled
from symnas.costs.structure import structure_of
from symnas.errors import DeclarationError, Infeasible

if TYPE_CHECKING:
    from symnas.costs.independent import Probabilities
    from symnas.costs.model import CostModel
    from symnas.searchspace.parts import Part
    from symnas.searchspace.space import Seed, Space

Rows = NDArray[np.int32]
Arrays = dict[int, NDArray[np.float64]]

# Predicates are functions of an architecture's choices: dearer than counting parameters or MACs
# would suggest, yet much cheaper than measuring time.
PREDICATE_EXPENSE = 3
# Random rows without a new feasible one before giving up, when checking them is cheap or dear.
DRAWS, DEAR_DRAWS = 200_000, 5_000
# Repairs: the probability that a decision changes, bins for a limit, and rows drawn to have one.
CHANGE, REPAIR_BINS, REPAIRS = 1e-3, 500, 8
# Ways to repair that are kept, to be used again.
KEPT_REPAIRS = 64
# Options of a cost model that are longer than this as text are recorded by their digest.
MAX_OPTIONS = 400


@attrs.frozen
class LimitedCost:
    """A constraint on a cost, bound: `mask(rows)`."""

    constraint: Constraint
    cost: BoundCost

    @property
    def expense(self) -> int:
        """Of the cost: what is predicted is cheap, however dear it would be to measure."""
        return self.cost.model.expense if self.dear or self.cost.table is None else 1

    @property
    def dear(self) -> bool:
        """Whether the cost has to be measured, and that is dear."""
        return self.cost.dear

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows keep the constraint: `(n,)`."""
        return self.constraint.hold(self.cost(rows))

    def excess(self, rows: Rows) -> NDArray[np.float64]:
        """By how much rows break the constraint, relative to the limit; 0 where they do not."""
        limits = self.constraint.limits
        return np.array([limits.excess(float(value)) for value in self.cost(rows)])

    def __str__(self) -> str:
        return str(self.constraint)


@attrs.frozen
class BoundPredicate:
    """A predicate on architectures, on rows: `mask(rows)`."""

    function: Predicate
    space: Space
    expense: int = PREDICATE_EXPENSE
    dear: ClassVar[bool] = False

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows the predicate allows: `(n,)`."""
        return np.array([self._allows(row) for row in rows], bool)

    def excess(self, rows: Rows) -> NDArray[np.float64]:
        """1 where the predicate does not hold."""
        return (~self.mask(rows)).astype(np.float64)

    def _allows(self, row: Rows) -> bool:
        allowed = self.function(self.space.decode(row))
        if not isinstance(allowed, bool | np.bool_):
            raise DeclarationError(
                f"The constraint `{self}` returned {allowed!r:.60} for an architecture; it must "
                "return True or False."
            )
        return bool(allowed)

    def __str__(self) -> str:
        function = self.function
        return getattr(function, "__qualname__", None) or type(function).__qualname__


class BoundConstraints:
    """Constraints on the rows of a space.

    What follows from tables is dealt with exactly (`symnas.costs.feasible`): such rows are never
    even drawn. Other constraints (predicates, costs that have to be measured, the space's `valid`)
    are checked on what the tables leave.

    Attributes:
        space: what they are bound to.
        unbound: what was bound.
        costs: each bound cost once, cheapest first.
        metrics: the constraints on metrics, which no mask can know.
        dear: whether a cost among them is dear to measure.
        note: why some limits on tables could not be used for drawing; "" otherwise.
    """

    def __init__(
        self,
        constraints: Constraints,
        space: Space,
        costs: Mapping[str, BoundCost] | None = None,
    ) -> None:
        self.space = space
        self.unbound = constraints
        self.metrics = constraints.metrics
        bound = dict(costs or {})
        checks: list[LimitedCost | BoundPredicate] = []
        for constraint in constraints.costs:
            model = constraint.cost
            if model.name not in bound:
                bound[model.name] = model.bind(space)
            checks.append(LimitedCost(constraint, bound[model.name]))
        checks += [BoundPredicate(function, space) for function in constraints.predicates]
        self.checks = tuple(sorted(checks, key=lambda check: check.expense))
        used = [bound[name] for name in dict.fromkeys(c.cost.name for c in constraints.costs)]
        self.costs = tuple(sorted(used, key=lambda cost: cost.model.expense))
        self.dear = any(check.dear for check in checks)
        self.note = ""

    def on(self, part: Part, costs: Mapping[str, BoundCost] | None = None) -> BoundConstraints:
        """The same constraints on a part of the space; costs already bound to it may be given."""
        own = dict(costs or {})
        for cost in self.costs:
            if cost.name not in own:
                own[cost.name] = on_part(cost, part)
        return BoundConstraints(self.unbound, part, own)

    # What tables tell ---------------------------------------------------------------------------

    @property
    def exact(self) -> bool:
        """Whether all constraints are limits on tables, so that what is drawn is feasible."""
        return self.feasible is not None and not self._others and self.space.valid is None

    @cached_property
    def feasible(self) -> Feasible | None:
        """The rows that keep the limits on tables; None if there are none, or too coupled ones."""
        return self._feasible(())

    @cached_property
    def _feasible_by_number(self) -> Feasible | None:
        """As `feasible`, over all decisions on which the number of rows depends."""
        structure = structure_of(self.space)
        parents = frozenset[int]().union(*structure.parents)
        return self._feasible(
            c
            for c in range(len(structure))
            if not structure.floats[c] and (structure.conditional[c] or c in parents)
        )

    def _feasible(self, also: Iterable[int]) -> Feasible | None:
        sums: list[Limit] = []
        maxima: list[Ceiling] = []
        for bounds in self._bounds.values():
            sums += bounds.sums
            maxima += bounds.maxima
        if not sums and not maxima:
            return None
        try:
            return Feasible(structure_of(self.space), sums, maxima, also)
        except TooCoupled as problem:
            self.note = str(problem)
            return None

    @cached_property
    def _bounds(self) -> dict[int, Bounds]:
        found = {}
        for index, check in enumerate(self.checks):
            if isinstance(check, LimitedCost):
                bounds = check.cost.bounds(check.constraint.limits)
                if bounds is not None:
                    found[index] = bounds
        return found

    @cached_property
    def _others(self) -> tuple[LimitedCost | BoundPredicate, ...]:
        """The checks that tables do not tell."""
        return tuple(check for i, check in enumerate(self.checks) if i not in self._bounds)

    @cached_property
    def _close(self) -> dict[object, Sampler]:
        return {}

    @cached_property
    def _samplers(self) -> dict[str, Sampler]:
        return {}

    def sampler(self, uniform: str = "decisions") -> Sampler | None:
        """Draws rows that keep the limits on tables, uniformly; None if there are no such limits.

        Args:
            uniform: over "decisions" or "architectures"; see `Space.sample`.
        """
        if uniform not in self._samplers:
            counting = uniform == "architectures"
            feasible = self._feasible_by_number if counting else self.feasible
            if feasible is None:
                return None
            independent = Independent(self.space, counting=counting)
            self._samplers[uniform] = feasible.sampler(independent)
        return self._samplers[uniform]

    def draw(self, n: int, seed: Seed, uniform: str = "decisions") -> Rows:
        """`n` random rows of which nearly all keep the limits on tables: `(n, columns)`."""
        sampler = self.sampler(uniform)
        if sampler is None or not sampler.possible:
            return self.space.sample(n, seed, uniform)
        return sampler.draw(n, np.random.default_rng(seed))

    def sample_feasible(
        self, n: int, seed: Seed = 0, probabilities: Probabilities | None = None
    ) -> Rows:
        """Random rows given that they keep all constraints, `valid` included: `(n, columns)`.

        The distribution is exactly that of the probabilities given feasibility, at any tightness
        of limits on tables; what other constraints exclude is drawn again. Fewer rows come back
        where 200,000 in a row (5,000, if a cost has to be measured) met none of those.

        Args:
            n: how many.
            seed: of the draws.
            probabilities: decision id to `(candidates,)`; decisions left out are uniform.

        Raises:
            Infeasible: no row keeps the limits on tables.
            ValueError: an id or a shape does not fit the space.
        """
        rng = np.random.default_rng(seed)
        most = DEAR_DRAWS if self.dear else DRAWS
        independent = Independent(self.space, probabilities)
        if self.feasible is None:
            return _accepted(
                n,
                lambda size: self._drawn_freely(size, int(rng.integers(2**62)), independent),
                self._keep,
                most,
            )
        sampler = self.feasible.sampler(independent) if probabilities else self.sampler()
        assert sampler is not None
        if not sampler.possible:
            self.check_possible(seed=seed)
            raise Infeasible("No architecture of positive probability keeps all limits.")
        return sampler.sample(n, rng, self._keep, most)

    def _drawn_freely(self, n: int, seed: Seed, independent: Independent) -> Rows:
        if not independent.given:
            return self.space.sample(n, seed)  # parts of spaces have ways of their own
        return independent.sample(n, np.random.default_rng(seed))

    def near(
        self, row: Rows, pinned: Mapping[int, int], seed: Seed, change: float = CHANGE
    ) -> Rows | None:
        """A row that keeps the limits on tables, has some values, and is otherwise close to `row`.

        Each decision changes with a small probability, so as few others change as have to, and
        which is left to chance.

        Args:
            row: `(columns,)`.
            pinned: the value of some decisions, by column.
            seed: of the draw.
            change: the probability.

        Returns:
            The row, or None where no feasible row has the pinned values.
        """
        key = (row.tobytes(), tuple(pinned.items()), change)
        if key not in self._close:
            self._remember(key, self._close_to(row, pinned, change))
        return self._drawn(self._close[key], row, pinned, seed)

    def _close_to(self, row: Rows, pinned: Mapping[int, int], change: float) -> Arrays:
        given: Arrays = {}
        structure = structure_of(self.space)
        for column in range(len(row)):
            value, size = pinned.get(column, int(row[column])), structure.sizes[column]
            if value < 0 or self._is_loose(column):
                continue
            share = 0.0 if column in pinned or size == 1 else change
            given[column] = np.full(size, share / max(1, size - 1))
            given[column][value] = 1.0 - share
        return given

    def between(self, a: Rows, b: Rows, seed: Seed) -> Rows | None:
        """A row that keeps the limits on tables, with each decision from one of two parents.

        Decisions that a parent does not have are taken from the other; see also `near`.
        """
        key = (a.tobytes(), b.tobytes(), 0.0)
        if key not in self._close:
            self._remember(key, self._between(a, b))
        return self._drawn(self._close[key], a, {}, seed)

    def _between(self, a: Rows, b: Rows) -> Arrays:
        given: Arrays = {}
        structure = structure_of(self.space)
        for column in range(len(a)):
            values = {int(v) for v in (a[column], b[column]) if v >= 0}
            if not values or self._is_loose(column):
                continue
            given[column] = np.full(structure.sizes[column], 0.0)
            given[column][list(values)] = 1.0 / len(values)
        return given

    def _is_loose(self, column: int) -> bool:
        """Whether a decision is a float, or a pick that no limit depends on."""
        structure = structure_of(self.space)
        if not structure.is_pick(column):
            return structure.floats[column]
        assert self.feasible is not None
        return column not in self.feasible.columns

    def _remember(self, key: object, given: Arrays) -> None:
        """Keeps what draws such rows: the same parents come again and again."""
        assert self.feasible is not None
        if len(self._close) >= KEPT_REPAIRS:
            del self._close[next(iter(self._close))]
        independent = Independent(self.space, arrays=given)
        self._close[key] = self.feasible.sampler(independent, REPAIR_BINS)

    def _drawn(
        self, sampler: Sampler, row: Rows, pinned: Mapping[int, int], seed: Seed
    ) -> Rows | None:
        if not sampler.possible:
            return None
        for drawn in sampler.draw(REPAIRS, np.random.default_rng(seed)):
            # Floats, and picks that no cost depends on, stay as they are where they can.
            for column in range(len(row)):
                if self._is_loose(column) and row[column] >= 0 and drawn[column] >= 0:
                    drawn[column] = pinned.get(column, int(row[column]))
            if self.space.is_row(drawn) and self.mask(drawn[None])[0]:
                kept: Rows = drawn
                return kept
        return None

    def _keep(self, rows: Rows) -> NDArray[np.bool_]:
        mask = self.mask(rows)
        if self.space.valid is not None and mask.any():
            mask[mask] = self.space.is_valid(rows[mask])
        return mask

    # Checking -----------------------------------------------------------------------------------

    def mask(self, rows: Any) -> NDArray[np.bool_]:
        """Which rows keep all constraints that are known before evaluation: `(n,)`.

        Cheap constraints come first, and dear ones see only what those leave.
        """
        rows = np.asarray(rows, np.int32).reshape(-1, len(self.space))
        mask = np.ones(len(rows), bool)
        for check in self.checks:
            if mask.any():
                mask[mask] = check.mask(rows[mask])
        return mask

    def violated(self, metrics: Mapping[str, float]) -> list[str]:
        """The constraints on metrics that a trial's metrics break.

        Raises:
            KeyError: a metric is missing.
        """
        return [str(constraint) for constraint in self.metrics if constraint.violated(metrics)]

    def describe(self) -> list[str]:
        """What is constrained, for the record of a study: equal for equal constraints."""
        described = []
        for check in self.checks:
            if isinstance(check, LimitedCost):
                described.append(f"{check} [{_details(check.cost.model)}]")
            else:
                described.append(f"{check} [{_identity(check.function)}]")
        return [*described, *(f"metric {constraint}" for constraint in self.metrics)]

    def feasible_fraction(
        self,
        probabilities: Probabilities | None = None,
        n: int = 256,
        seed: Seed = 0,
        bins: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Bounds on the probability that a random row is allowed: two scalars, float64.

        For limits on tables the bounds are certain, equal where the costs are whole multiples of a
        bin, and the lower one carries the gradient. What other constraints leave of that is
        estimated, as the 95% interval of Wilson 1927 ("Probable inference", JASA 22) from `n` rows
        that keep the limits on tables.

        Args:
            probabilities: decision id to `(candidates,)`; decisions left out are uniform.
            n: random rows to be checked where not all is known from tables.
            seed: of those rows.
            bins: for each limit; by default 10,000, or with several limits that many in all.

        Raises:
            ValueError: an id or a shape does not fit the space.
        """
        if n < 1:
            raise ValueError(f"`n` ({n}) must be at least 1.")
        independent = Independent(self.space, probabilities)
        one = torch.ones((), dtype=torch.float64)
        lower, upper = one, one.clone()
        if self.feasible is not None:
            lower, upper = self.feasible.fraction(independent, bins)
            if self.exact or float(upper) == 0.0:
                return lower, upper
            rng = np.random.default_rng(seed)
            rows = self.feasible.sampler(independent).draw(n, rng)
        else:
            rows = self._drawn_freely(n, seed, independent)
        if not self.checks and self.space.valid is None:
            return lower, upper
        kept = self._keep(rows)
        low, high = wilson(int(kept.sum()), n)
        return lower * low, upper * high

    def check_possible(self, space: Space | None = None, seed: Seed = 0) -> None:
        """Looks for one allowed architecture, and refuses constraints that none seems to meet.

        Tries random rows, then changes one decision at a time towards each limit alone, and at
        last towards all of them.

        Args:
            space: the space that the constraints are bound to; it may be left out.
            seed: of the random rows.

        Raises:
            Infeasible: nothing allowed was found; names the constraint and what was reached.
        """
        from symnas.costs.possible import check_possible

        if space is not None and space is not self.space:
            raise ValueError(f"The constraints are bound to {self.space!r}, not to {space!r}.")
        check_possible(self, seed)


def _details(model: CostModel) -> str:
    """What makes a model the one it is, in a line; a digest stands for long options."""
    told = model.describe()
    kind = str(told["cost"]).rpartition(":")[2]
    options = json.dumps(told["options"], sort_keys=True)
    if len(options) > MAX_OPTIONS:
        options = hashlib.sha256(options.encode()).hexdigest()[:12]
    code = f", code {told['code']}" if told["code"] else ""
    return f"{kind} {options} on {told['device']}{code}"


def _accepted(
    n: int, draw: Callable[[int], Rows], keep: Callable[[Rows], NDArray[np.bool_]], most: int
) -> Rows:
    """Up to `n` drawn rows that pass; fewer if `most` in a row did not."""
    found = [draw(0)]
    count = fruitless = 0
    while count < n and fruitless < most:
        rows = draw(min(16_384, max(64, n - count)))
        kept = rows[keep(rows)]
        fruitless = 0 if len(kept) else fruitless + len(rows)
        found.append(kept)
        count += len(kept)
    return np.concatenate(found)[:n]


def _identity(function: Any) -> str:
    from symnas.searching.identity import describe_callable

    text = json.dumps(describe_callable(function), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
