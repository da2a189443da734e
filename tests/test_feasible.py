"""Shares of feasible rows and samples of them, against enumeration."""

from __future__ import annotations

import itertools
import math
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from test_cost_tables import chances, random_logits, slopes, softmax

import symnas as sn
from symnas.costs.bound_peak import PeakCost
from symnas.costs.bound_table import TableCost
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable, Term

# Costs that are random tables ----------------------------------------------------------------------


@attrs.frozen(order=False)
class Random(sn.CostModel):
    """A cost with random terms over single decisions and over neighbours, whole or real numbers.

    `kind` is "whole", "real", or "peak": the largest of the terms, rather than their sum.
    """

    seed: int = 0
    kind: str = "whole"
    most: int = 6

    unit = "points"

    @property
    def name(self) -> str:
        return f"random{self.seed}"

    def measure(self, architecture: sn.Architecture) -> float:
        raise AssertionError("a table is not measured")

    def _bound(self, space: sn.Space) -> Any:
        structure, rng = structure_of(space), np.random.default_rng(self.seed)
        columns = [c for c in range(len(structure)) if not structure.floats[c]]
        scopes = [(c,) for c in columns] + list(itertools.pairwise(columns))[::2]
        terms = []
        for scope in scopes:
            shape = structure.shape(scope)
            values = rng.integers(0, self.most, shape) if self.kind != "real" else rng.random(shape)
            terms.append(Term(scope, values))
        if self.kind == "peak":
            return PeakCost(self, space, terms, floor=1.0)
        return TableCost(self, space, CostTable(-3.0, terms))


@attrs.frozen(order=False)
class Total(sn.CostModel):
    """The sum of a row times a factor, plus something that differs a little for each value."""

    factor: float = 1.0
    jitter: float = 0.0
    name: str = "total"
    unit = "steps"

    def measure(self, architecture: sn.Architecture) -> float:
        assert architecture.row is not None
        return self.factor * sum(architecture.row)

    def _bound(self, space: sn.Space) -> TableCost:
        rng = np.random.default_rng(0)
        terms = []
        for column, d in enumerate(space.decisions):
            noise = self.jitter * rng.random(d.size)
            noise[0] = 0.0
            terms.append(Term((column,), self.factor * np.arange(d.size) + noise))
        return TableCost(self, space, CostTable(0.0, terms))


def _letters(n: int) -> Any:
    return sn.oneof(list("abcdefghij")[:n])


def _deep() -> sn.Space:
    """Nested conditions, one of them on two decisions at once."""

    def block(i: int) -> Any:
        return sn.nn.Sequential(sn.oneof([sn.nn.ReLU(), sn.nn.ELU(sn.oneof([1.0, 2.0, 3.0]))]))

    return sn.Space({"depth": sn.repeat(block, sn.intv(0, 3)), "other": _letters(3)})


SPACES: dict[str, sn.Space] = {
    "flat": sn.Space([_letters(n) for n in (3, 4, 2, 3, 2)]),
    "one decision": sn.Space(_letters(7)),
    "conditional": sn.Space(
        [sn.oneof(["none", [_letters(3), sn.oneof(["x", ["y", _letters(4)]])]]), _letters(3)]
    ),
    "depth": _deep(),
    "picks with repetition": sn.Space([sn.manyof(2, list("abc"), distinct=False), _letters(3)]),
    "a float besides": sn.Space([_letters(3), sn.floatv(0.0, 1.0), _letters(4)]),
    "floats that hang on decisions": sn.Space(
        [sn.oneof([sn.floatv(0.0, 1.0), "none"]), _letters(4), _letters(3)]
    ),
}
RULED: dict[str, sn.Space] = {
    "subset": sn.Space([sn.manyof(2, list("abcd"), sorted=True), _letters(3)]),
    "picks": sn.Space([sn.manyof(3, list("abcd")), _letters(2)]),
    "permutation": sn.Space([sn.permutate(list("abcd")), _letters(3)]),
    "conditional subset": sn.Space(
        [sn.oneof(["none", sn.manyof(2, list("abcd"), sorted=True)]), _letters(3)]
    ),
    "subset of conditions": sn.Space(
        [sn.manyof(2, ["a", ["b", _letters(2)], ["c", _letters(3)]], sorted=True), _letters(2)]
    ),
}
COUPLED: dict[str, sn.Space] = {
    "sorted picks with repetition": sn.Space(
        [sn.manyof(2, list("abc"), distinct=False, sorted=True), _letters(3)]
    ),
}
ALL = {**SPACES, **RULED, **COUPLED}


def rows_of(space: sn.Space) -> Any:
    return np.concatenate(list(space.enumerate(levels=1)))


def shares(space: sn.Space, rows: Any) -> Any:
    """The probability of each row as `space.sample` draws it."""
    result = chances(
        space,
        rows,
        {
            d.id: torch.full((d.size,), 1 / d.size, dtype=torch.float64)
            for d in space.decisions
            if d.kind != "float"
        },
    ).numpy()
    for rule in space._compiled.rules:  # picks are drawn without what the rule excludes
        size, k = space.decisions[rule.columns[0]].size, len(rule.columns)
        active = rows[:, rule.columns[0]] >= 0
        if rule.distinct:
            count = math.comb(size, k) if rule.sorted else math.perm(size, k)
            result = np.where(active, result * size**k / count, result)
        elif rule.sorted:
            orders = [
                math.factorial(k) / math.prod(math.factorial(n) for n in np.bincount(picks + 1))
                for picks in rows[:, list(rule.columns)]
            ]
            result = np.where(active, result * np.array(orders), result)
    np.testing.assert_allclose(result.sum(), 1.0)
    return result


def bind(space: sn.Space, *constraints: Any) -> Any:
    return sn.Constraints.of(list(constraints)).bind(space)


def limited(space: sn.Space, seed: int, kind: str, share: float, how: str) -> list[Any]:
    """Constraints that about a share of rows keeps."""
    one, two = Random(seed, kind), Random(seed + 1, kind)
    a, b = one.bind(space)(rows_of(space)), two.bind(space)(rows_of(space))

    def at(costs: Any, q: float) -> float:
        return float(np.sort(costs)[min(len(costs) - 1, int(q * len(costs)))])

    peak = Random(seed + 2, "peak")
    found: dict[str, list[Any]] = {
        "<=": [one <= at(a, share)],
        "<= between": [one <= at(a, share) + 0.5],
        "<": [one < at(a, share)],
        ">=": [one >= at(a, 1 - share)],
        ">": [one > at(a, 1 - share) - 0.25],
        "window": [one >= at(a, 0.5 - share / 2), one <= at(a, 0.5 + share / 2)],
        "two": [one <= at(a, share), two <= at(b, 1 - share / 2)],
        "opposite": [one <= at(a, share) + 0.5, two >= at(b, share) - 0.5],
        "peak": [peak <= at(peak.bind(space)(rows_of(space)), share)],
        "peak and sum": [peak <= at(peak.bind(space)(rows_of(space)), 0.7), one <= at(a, 0.5)],
    }
    return found[how]


HOW = ["<=", "<= between", "<", ">=", ">", "window", "two", "opposite", "peak", "peak and sum"]
SHARES = [0.02, 0.3, 0.7, 1.0]


# Shares --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", [*SPACES, *RULED])
def test_shares_of_whole_costs_are_those_of_enumeration(name: str, how: str) -> None:
    space = ALL[name]
    rows = rows_of(space)
    for seed, share in itertools.product(range(2), SHARES):
        constraints = bind(space, *limited(space, seed, "whole", share, how))
        truth = shares(space, rows)[constraints.mask(rows)].sum()
        lower, upper = (float(x) for x in constraints.feasible_fraction())
        assert constraints.exact
        np.testing.assert_allclose([lower, upper], truth, atol=1e-12)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", [*SPACES, *RULED])
def test_bounds_enclose_the_shares_of_real_costs(name: str, how: str) -> None:
    space = ALL[name]
    rows = rows_of(space)
    for seed, (share, bins) in enumerate(itertools.product(SHARES, (7, 400))):
        constraints = bind(space, *limited(space, seed, "real", share, how))
        truth = shares(space, rows)[constraints.mask(rows)].sum()
        lower, upper = (float(x) for x in constraints.feasible_fraction(bins=bins))
        assert lower - 1e-12 <= truth <= upper + 1e-12


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", SPACES)
def test_shares_and_gradients_under_probabilities(name: str, how: str) -> None:
    space = ALL[name]
    if space._compiled.rules:
        return
    constraints = bind(space, *limited(space, 1, "whole", 0.4, how))
    rows, logits = rows_of(space), random_logits(space, 2, 1.5)
    lower, upper = constraints.feasible_fraction(softmax(logits), bins=400)
    mask = torch.from_numpy(constraints.mask(rows))
    truth = chances(space, rows, softmax(logits))[mask].sum()
    torch.testing.assert_close(lower, truth, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(upper, truth.detach(), atol=1e-12, rtol=1e-9)
    ours, theirs = slopes(lower, logits), slopes(truth, logits)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-7)


def test_gradients_of_the_lower_bound_are_its_slopes() -> None:
    """Also where costs are rounded to bins."""
    space = SPACES["flat"]
    constraints = bind(space, *limited(space, 5, "real", 0.3, "two"))
    logits = random_logits(space, 1)
    lower, _ = constraints.feasible_fraction(softmax(logits), bins=20)
    names, step = list(logits), 1e-6
    gradients = torch.autograd.grad(lower, [logits[name] for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        for index in range(len(gradient)):
            ends = []
            for sign in (1, -1):
                moved = {n: v.detach().clone() for n, v in logits.items()}
                moved[name][index] += sign * step
                ends.append(float(constraints.feasible_fraction(softmax(moved), bins=20)[0]))
            slope = (ends[0] - ends[1]) / (2 * step)
            assert slope == pytest.approx(float(gradient[index]), abs=1e-7)


def test_sorted_picks_with_repetition_are_estimated_and_drawn_again() -> None:
    space = COUPLED["sorted picks with repetition"]
    constraints = bind(space, *limited(space, 1, "whole", 0.3, "<="))
    rows = rows_of(space)
    truth = shares(space, rows)[constraints.mask(rows)].sum()
    lower, upper = constraints.feasible_fraction(n=2000)
    assert not constraints.exact and constraints.note
    assert float(lower) <= truth <= float(upper) < float(lower) + 0.1


def test_what_other_constraints_leave_is_estimated_from_what_tables_leave() -> None:
    space = SPACES["flat"]
    limit, odd = limited(space, 2, "whole", 0.3, "<=")[0], lambda a: sum(a.row) % 2 == 1
    constraints = bind(space, limit, odd)
    rows = rows_of(space)
    truth = constraints.mask(rows).mean()
    lower, upper = constraints.feasible_fraction(n=4000)
    assert float(lower) <= truth <= float(upper) < float(lower) + 0.03


# Samples -------------------------------------------------------------------------------------------


def agrees(observed: Any, wanted: Any) -> None:
    """A chi-square test with a threshold that chance exceeds less than once in a million."""
    wanted = wanted / wanted.sum() * observed.sum()
    assert not observed[wanted == 0].any()
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    small = wanted < 5
    if small.any():
        observed = np.append(observed[~small], observed[small].sum())
        wanted = np.append(wanted[~small], wanted[small].sum())
    freedom = max(1, len(wanted) - 1)
    # Wilson and Hilferty 1931: the cube root is about normal.
    spread = 2 / (9 * freedom)
    statistic = ((observed - wanted) ** 2 / wanted).sum()
    z = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5
    assert z < 4.8, f"chi-square {statistic:.1f} with {freedom} degrees of freedom"


def occurrences(space: sn.Space, rows: Any, drawn: Any) -> Any:
    discrete = [i for i, d in enumerate(space.decisions) if d.kind != "float"]
    for i, d in enumerate(space.decisions):
        if d.kind == "float":  # active or not is part of the row
            assert ((drawn[:, i] >= 0) & (drawn[:, i] < d.size)).any()
    index = {tuple(row): i for i, row in enumerate(rows[:, discrete].tolist())}
    return np.bincount([index[tuple(r)] for r in drawn[:, discrete].tolist()], minlength=len(rows))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("how", ["<=", "<= between", "window", "two", "peak and sum"])
@pytest.mark.parametrize("kind", ["whole", "real"])
def test_samples_have_the_distribution_given_feasibility(name: str, how: str, kind: str) -> None:
    space = ALL[name]
    constraints = bind(space, *limited(space, 3, kind, 0.4, how))
    rows = rows_of(space)
    mask = constraints.mask(rows)
    drawn = constraints.sample_feasible(3000, seed=1)
    assert len(drawn) == 3000 and constraints.mask(drawn).all()
    assert all(space.is_row(row) for row in drawn[:200])
    agrees(occurrences(space, rows, drawn), np.where(mask, shares(space, rows), 0.0))
    few = np.concatenate([constraints.sample_feasible(1, seed=s) for s in range(60)])
    assert constraints.mask(few).all() and len(np.unique(few, axis=0)) > min(5, mask.sum() // 2)


@pytest.mark.parametrize("name", SPACES)
def test_samples_follow_probabilities(name: str) -> None:
    space = SPACES[name]
    constraints = bind(space, *limited(space, 4, "real", 0.5, "<="))
    rows, logits = rows_of(space), random_logits(space, 2, 1.5)
    probabilities = {k: v.detach() for k, v in softmax(logits).items()}
    drawn = constraints.sample_feasible(4000, seed=2, probabilities=probabilities)
    wanted = chances(space, rows, probabilities).numpy() * constraints.mask(rows)
    agrees(occurrences(space, rows, drawn), wanted)


@pytest.mark.parametrize("name", [*SPACES, *RULED])
@pytest.mark.parametrize("how", ["<= between", ">=", "peak"])
def test_architectures_are_drawn_alike(name: str, how: str) -> None:
    space = ALL[name]
    constraints = bind(space, *limited(space, 6, "whole", 0.5, how))
    rows = rows_of(space)
    drawn = constraints.draw(4000, 3, "architectures")
    drawn = drawn[constraints.mask(drawn)]
    assert len(drawn) > 3000
    agrees(occurrences(space, rows, drawn), constraints.mask(rows).astype(float))


def test_valid_and_predicates_are_kept_besides() -> None:
    space = sn.Space([_letters(4) for _ in range(4)], valid=lambda a: a.row[0] != a.row[1])
    constraints = bind(
        space, *limited(space, 7, "real", 0.5, "<="), lambda a: a.row[2] + a.row[3] != 3
    )
    rows = rows_of(space)
    mask = constraints.mask(rows) & space.is_valid(rows)
    drawn = constraints.sample_feasible(1500, seed=5)
    agrees(occurrences(space, rows, drawn), mask.astype(float))


def test_equal_seeds_draw_equal_rows() -> None:
    space = SPACES["conditional"]
    draw = [bind(space, Random(1) <= 12).sample_feasible(300, seed=s) for s in (1, 1, 2)]
    assert np.array_equal(draw[0], draw[1]) and not np.array_equal(draw[0], draw[2])


def test_what_cannot_be_is_refused() -> None:
    space = SPACES["flat"]
    low = Random(1).bind(space).range().low
    impossible = bind(space, Random(1) < low)
    assert [float(x) for x in impossible.feasible_fraction()] == [0.0, 0.0]
    with pytest.raises(sn.Infeasible, match="smallest random1"):
        impossible.sample_feasible(1)
    only = bind(space, Random(1) <= low)
    assert (Random(1).bind(space)(only.sample_feasible(20)) == low).all()
    # Two limits, each of which can be kept alone.
    peak, total = Random(1, "peak"), Total(-1.0)
    both = bind(space, peak <= peak.bind(space).range().low, total <= -9.0)
    if not both.mask(rows_of(space)).any():
        with pytest.raises(sn.Infeasible):
            both.sample_feasible(1)


# Rare rows, and spaces beyond floats ---------------------------------------------------------------


def totals(n: int, size: int) -> list[int]:
    """How many rows of `n` decisions with `size` values have each sum: exact integers."""
    counts = [1]
    for _ in range(n):
        counts = [
            sum(counts[s - v] for v in range(size) if 0 <= s - v < len(counts))
            for s in range(len(counts) + size - 1)
        ]
    return counts


def many(n: int, size: int = 10) -> sn.Space:
    return sn.Space([_letters(size) for _ in range(n)])


@pytest.mark.parametrize("limit", [3, 8, 20])
def test_rare_rows_are_counted_and_drawn_exactly(limit: int) -> None:
    space, counts = many(20), totals(20, 10)
    constraints = bind(space, Total() <= limit)
    share = sum(counts[: limit + 1]) / 10**20
    assert share < 1e-6
    for bound in constraints.feasible_fraction():
        assert float(bound) == pytest.approx(share, rel=1e-9)
    drawn = constraints.sample_feasible(3000, seed=1)
    agrees(
        np.bincount(drawn.sum(axis=1), minlength=limit + 1),
        np.array(counts[: limit + 1], np.float64),
    )


def test_rare_rows_of_real_costs_are_drawn_without_bias() -> None:
    """Costs just below whole steps: no bins fit, and what is drawn must be checked."""
    space, counts = many(16), totals(16, 10)
    jittered = Total(jitter=1e-3)  # adds up to less than a step
    constraints = bind(space, jittered <= 6.9)
    lower, upper = (float(x) for x in constraints.feasible_fraction())
    share = sum(counts[:7]) / 10**16
    assert lower * (1 - 1e-9) <= share <= upper * (1 + 1e-9) < 1.3 * share
    drawn = constraints.sample_feasible(2000, seed=3)
    agrees(np.bincount(drawn.sum(axis=1), minlength=7), np.array(counts[:7], np.float64))


@pytest.mark.parametrize(
    ("limit", "factor"), [(2, 1.0), (2, 0.37), (40, 1.0), (40, 0.37), (2.5, 1.0), (100.5, 1.0)]
)
def test_huge_spaces_have_samples(limit: float, factor: float) -> None:
    space = many(300)
    constraints = bind(space, Total(factor) <= limit * factor)
    drawn = constraints.sample_feasible(50, seed=1)
    assert len(drawn) == 50 and (drawn.sum(axis=1) <= limit).all()
    assert drawn.sum(axis=1).mean() > 0.8 * math.floor(limit), "nearly all rows are at the limit"


def test_rows_rarer_than_floats_can_tell_are_possible() -> None:
    constraints = bind(many(400), Total() <= 2)
    constraints.check_possible()
    drawn = constraints.sample_feasible(20)
    assert len(drawn) == 20 and (drawn.sum(axis=1) <= 2).all()


def test_more_architectures_than_floats_can_count() -> None:
    constraints = bind(many(400), Total() <= 900)
    drawn = constraints.draw(20, 0, "architectures")
    assert (drawn.sum(axis=1) <= 900).all() and (drawn.sum(axis=1) > 850).all()


def test_fine_costs_of_many_decisions_have_samples() -> None:
    space = many(300)
    constraints = bind(space, Total() <= 1100)
    rows = constraints.draw(500, 0)
    assert constraints.mask(rows).mean() > 0.02


def test_loose_limits_in_huge_spaces() -> None:
    constraints = bind(many(300), Total() <= 10**6)
    assert [float(x) for x in constraints.feasible_fraction()] == pytest.approx([1.0, 1.0])
    assert len(constraints.sample_feasible(10)) == 10


# Peaks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SPACES, *RULED])
def test_peaks_are_those_of_enumeration(name: str) -> None:
    space = ALL[name]
    rows = rows_of(space)
    for seed in range(5):
        peak = Random(seed, "peak", most=9).bind(space)
        costs = peak(rows)
        found = peak.range()
        assert found.exact and (found.low, found.high) == (costs.min(), costs.max())
        if space._compiled.rules:
            with pytest.raises(ValueError, match="independent"):
                peak.expected()
            continue
        logits = random_logits(space, seed)
        ours = peak.expected(softmax(logits))
        truth = (chances(space, rows, softmax(logits)) * torch.from_numpy(costs)).sum()
        torch.testing.assert_close(ours, truth)
        torch.testing.assert_close(slopes(ours, logits), slopes(truth, logits))
