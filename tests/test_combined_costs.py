"""Sums, products, maxima and safety of costs: as numbers, as tables, and as constraints."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
import torch
from test_cost_tables import chances, random_logits, slopes, softmax
from test_feasible import SPACES, Random, rows_of, shares

import symnas as sn
from symnas import cost_models as cm
from symnas.costs.accuracy import Accuracy
from symnas.costs.bound_table import TableCost
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable, Term

A, B, C = Random(1), Random(2), Random(3, "real")
PEAK = Random(4, "peak", most=30)


@attrs.frozen(order=False)
class Measured(sn.CostModel):
    """No table: a square, in the unit of the tables."""

    name: str = "measured"
    unit = "points"

    def measure(self, architecture: sn.Architecture) -> float:
        assert architecture.row is not None
        return 1.0 + sum(architecture.row) ** 2


@attrs.frozen(order=False)
class Noisy(sn.CostModel):
    """A predicted cost: a table, and how far it was off on 99 held-out architectures."""

    name: str = "noisy"
    seed: int = 0
    worst: float = 1.5
    unit = "ms"

    def measure(self, architecture: sn.Architecture) -> float:
        raise AssertionError("predicted")

    def _bound(self, space: sn.Space) -> TableCost:
        rng, structure = np.random.default_rng(self.seed), structure_of(space)
        terms = [Term((c,), rng.random(structure.shape((c,)))) for c in range(len(structure))]
        ratios = rng.permutation(np.linspace(0.5, self.worst, 99))
        return TableCost(self, space, CostTable(1.0, terms), Accuracy(np.ones(99), ratios))


@attrs.frozen(order=False)
class Seconds(Measured):
    unit = "s"


M = Measured()
COMBINED: dict[str, tuple[sn.CostModel, Any]] = {
    "sum": (A + B, lambda a, b, c, p, m: a + b),
    "sums of sums": ((A + B) + (A - C) + 3, lambda a, b, c, p, m: 2 * a + b - c + 3),
    "factors": (2 * A - B / 4 - 1.5, lambda a, b, c, p, m: 2 * a - b / 4 - 1.5),
    "reversed": (10 - A, lambda a, b, c, p, m: 10 - a),
    "only a constant besides": (A - B + B + 7, lambda a, b, c, p, m: a + 7),
    "built-in sum": (sum([A, B, C]), lambda a, b, c, p, m: a + b + c),
    "with what is measured": (A + 2 * M, lambda a, b, c, p, m: a + 2 * m),
    "with a peak": (A + PEAK, lambda a, b, c, p, m: a + p),
    "product": (A * C, lambda a, b, c, p, m: a * c),
    "square": (A * A, lambda a, b, c, p, m: a * a),
    "product of sums": ((A + 2 * B) * (C - 1), lambda a, b, c, p, m: (a + 2 * b) * (c - 1)),
    "multiple of a product": (3 * (A * B) + 1, lambda a, b, c, p, m: 3 * a * b + 1),
    "product of three": (A * B * C, lambda a, b, c, p, m: a * b * c),
    "product with what is measured": (A * M, lambda a, b, c, p, m: a * m),
    "maximum": (sn.maximum(A, B, 2 * C), lambda a, b, c, p, m: np.max([a, b, 2 * c], axis=0)),
    "maximum with a peak": (sn.maximum(A, PEAK), lambda a, b, c, p, m: np.maximum(a, p)),
    "multiple of a maximum": (2 * sn.maximum(A, B), lambda a, b, c, p, m: 2 * np.maximum(a, b)),
    "renamed": ((A + B).named("both") + A, lambda a, b, c, p, m: 2 * a + b),
}
TABLES = ["sum", "sums of sums", "factors", "reversed", "only a constant besides", "built-in sum",
          "renamed"]  # fmt: skip
EXACT = [*TABLES, "with a peak", "product", "square", "product of sums", "multiple of a product"]


def parts(space: sn.Space, rows: Any) -> list[Any]:
    return [model.bind(space)(rows) for model in (A, B, C, PEAK, M)]


@pytest.mark.parametrize("name", COMBINED)
def test_combinations_are_what_they_say(name: str) -> None:
    model, wanted = COMBINED[name]
    for space in SPACES.values():
        rows = rows_of(space)
        bound = model.bind(space)
        np.testing.assert_allclose(bound(rows), wanted(*parts(space, rows)))
        assert (bound.table is not None) == (name in TABLES)
        assert bound.name == model.name and bound.unit == model.unit


@pytest.mark.parametrize("name", EXACT)
def test_expectations_of_combinations_are_those_of_enumeration(name: str) -> None:
    for space in SPACES.values():
        if space._compiled.rules:
            continue
        rows, bound = rows_of(space), COMBINED[name][0].bind(space)
        logits = random_logits(space, 3)
        expected = bound.expected(softmax(logits))
        truth = (chances(space, rows, softmax(logits)) * torch.from_numpy(bound(rows))).sum()
        torch.testing.assert_close(expected, truth)
        torch.testing.assert_close(slopes(expected, logits), slopes(truth, logits))


@pytest.mark.parametrize("name", [name for name in COMBINED if name not in EXACT])
def test_other_expectations_are_estimated_without_bias(name: str) -> None:
    space = SPACES["conditional"]
    rows, bound = rows_of(space), COMBINED[name][0].bind(space)
    weights = shares(space, rows)
    mean = (weights * bound(rows)).sum()
    spread = ((weights * (bound(rows) - mean) ** 2).sum() / 1024) ** 0.5
    assert float(bound.expected()) == pytest.approx(mean, abs=5 * spread)
    logits = random_logits(space, 3)
    truth = (chances(space, rows, softmax(logits)) * torch.from_numpy(bound(rows))).sum()
    ours = torch.cat(slopes(bound.expected(softmax(logits)), logits))
    theirs = torch.cat(slopes(truth, logits))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.9


@pytest.mark.parametrize("name", COMBINED)
def test_ranges_enclose_and_tables_reach_them(name: str) -> None:
    space = SPACES["conditional"]
    bound, rows = COMBINED[name][0].bind(space), rows_of(space)
    found = bound.range()
    assert found.exact
    np.testing.assert_allclose([found.low, found.high], [bound(rows).min(), bound(rows).max()])


def test_measuring_a_combination_measures_its_parts() -> None:
    architecture = sn.Architecture(sn.nn.Linear(4, 3), input=(4,))
    macs, parameters = cm.Macs(), cm.Parameters()
    assert (2 * macs + 1)(architecture) == 25
    assert (macs * parameters)(architecture) == 12 * 15
    assert sn.maximum(macs, 2 * cm.Macs(name="other"))(architecture) == 24
    assert macs.upper(0.9)(architecture) == 12


# Units and names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "combine",
    [lambda: A + Noisy(), lambda: Noisy() - A, lambda: sn.maximum(A, Noisy()),
     lambda: A + Seconds(), lambda: A * B + A],
)  # fmt: skip
def test_different_units_are_refused(combine: Any) -> None:
    with pytest.raises(sn.DeclarationError, match="means nothing"):
        combine()


@pytest.mark.parametrize(
    "combine",
    [lambda: A + "1", lambda: A * True, lambda: A / B, lambda: A / 0, lambda: A - A,
     lambda: A + float("nan"), lambda: A * float("inf"), lambda: sn.maximum(A),
     lambda: sn.maximum(A, 3), lambda: A.named(""), lambda: A.upper(1.0), lambda: A.upper(0),
     lambda: 0 * A],
)  # fmt: skip
def test_nonsense_is_refused(combine: Any) -> None:
    with pytest.raises(sn.DeclarationError):
        combine()


def test_names_tell_what_is_combined() -> None:
    assert (A + 2 * B - 0.5 * C).name == "random1 + 2*random2 - 0.5*random3"
    assert (3 - A).name == "-random1 + 3" and (-1 * A - B).name == "-random1 - random2"
    assert ((A + B) * C).name == "(random1 + random2)*random3" and (A * B).unit == "points*points"
    assert sn.maximum(A, B).name == "max(random1, random2)"
    assert (2 * (A * B).named("edp")).name == "2*edp"
    assert A.upper(0.9).name == "random1 (90% upper)"
    names = {model.name for model, _ in COMBINED.values()}
    assert len(names) == len(COMBINED), "different combinations have different names"
    for named in (A, A + B, A * B, sn.maximum(A, B), A.upper(0.9), cm.Macs()):
        other = named.named("other")
        assert other.name == "other" and other.unit == named.unit
        space = sn.Space(sn.nn.Linear(4, sn.oneof([2, 3])), input=(4,))
        assert np.array_equal(other.bind(space)([[0], [1]]), named.bind(space)([[0], [1]]))


def test_equal_combinations_are_equal_and_described() -> None:
    assert A + B == A + B and hash(A * B) == hash(A * B) and A + B != A - B
    assert (A + B).describe() != (A + 2 * B).describe()
    assert str(A.upper(0.95) <= 3).startswith("random1 (95% upper) <= 3")


# Safety --------------------------------------------------------------------------------------------


def factor(model: sn.CostModel, space: sn.Space, q: float) -> float:
    error = model.bind(space).error
    assert error is not None
    return error.quantile(q)


def test_a_safe_cost_is_the_predicted_one_times_a_quantile_of_its_errors() -> None:
    space, noisy = SPACES["flat"], Noisy()
    rows = rows_of(space)
    for q in (0.5, 0.9, 0.95):
        wanted = float(np.linspace(0.5, 1.5, 99)[int(np.ceil(100 * q)) - 1])
        assert factor(noisy, space, q) == pytest.approx(wanted)
        safe = noisy.upper(q).bind(space)
        np.testing.assert_allclose(safe(rows), wanted * noisy.bind(space)(rows))
        assert safe.table is not None and safe.name == noisy.upper(q).name
        assert float(safe.expected()) == pytest.approx(wanted * float(noisy.bind(space).expected()))
    exact = cm.Macs().upper(0.9)
    small = sn.Space(sn.nn.Linear(4, sn.oneof([2, 3])), input=(4,))
    assert exact.bind(small)([[0], [1]]).tolist() == [8.0, 12.0], "what is exact needs no safety"


@pytest.mark.parametrize("how", ["sum", "sum with an exact cost", "multiple", "product", "maximum",
                                 "sum in a product"])  # fmt: skip
def test_the_safety_of_a_combination_is_not_less_than_that_of_its_parts(how: str) -> None:
    space = SPACES["flat"]
    a, b = Noisy("a", 1, 1.5), Noisy("b", 2, 1.3)
    x, y = a.bind(space)(rows_of(space)), b.bind(space)(rows_of(space))
    f, g = factor(a, space, 0.9), factor(b, space, 0.9)
    assert f > g > 1.1
    model, plain, least = {
        "sum": (a + b, x + y, f * x + g * y),
        "sum with an exact cost": (a + 2 * Exact(), x + 2 * 5.0, f * x + 2 * 5.0),
        "multiple": (3 * a, 3 * x, 3 * f * x),
        "product": (a * b, x * y, f * g * x * y),
        "maximum": (sn.maximum(a, b), np.maximum(x, y), np.maximum(f * x, g * y)),
        "sum in a product": ((a + b) * b, (x + y) * y, (f * x + g * y) * g * y),
    }[how]
    np.testing.assert_allclose(model.bind(space)(rows_of(space)), plain)
    try:
        safe = model.upper(0.9).bind(space)
    except (ValueError, sn.DeclarationError):
        return  # refused, with the remedy to take the safety of each part
    assert (safe(rows_of(space)) >= least * (1 - 1e-9)).all()


@attrs.frozen(order=False)
class Exact(sn.CostModel):
    name: str = "exact"
    unit = "ms"

    def measure(self, architecture: sn.Architecture) -> float:
        return 5.0

    def _bound(self, space: sn.Space) -> TableCost:
        exact = Accuracy(np.full(9, 5.0), np.full(9, 5.0), exact_kind=True)
        return TableCost(self, space, CostTable(5.0, []), exact)


def test_a_difference_has_no_safety_that_follows() -> None:
    space = SPACES["flat"]
    with pytest.raises(ValueError, match="safety"):
        (Noisy("a", 1) - Noisy("b", 2)).upper(0.9).bind(space)


# As constraints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMBINED)
@pytest.mark.parametrize("space", ["flat", "conditional", "depth"])
def test_limits_on_combinations_are_kept(name: str, space: str) -> None:
    model, wanted = COMBINED[name]
    where = SPACES[space]
    rows = rows_of(where)
    costs = wanted(*parts(where, rows))
    for q, upper in ((0.2, True), (0.8, False)):
        limit = float(np.quantile(costs, q)) + (1e-6 if upper else -1e-6)
        limited = sn.Constraints.of([model <= limit if upper else model >= limit]).bind(where)
        truth = shares(where, rows)[costs <= limit if upper else costs >= limit].sum()
        lower, higher = (float(x) for x in limited.feasible_fraction(n=1500))
        assert lower - 0.02 <= truth <= higher + 0.02
        if limited.exact:
            assert lower - 1e-9 <= truth <= higher + 1e-9
        drawn = limited.sample_feasible(50, seed=1)
        assert len(drawn) == 50
        kept = wanted(*parts(where, drawn))
        assert (kept <= limit if upper else kept >= limit).all()
        assert len(sn.Problem(where, (), limited).sample(5, key=0)) == min(
            5, int((costs <= limit if upper else costs >= limit).sum())
        )


@pytest.mark.parametrize("name", [*TABLES, "maximum", "maximum with a peak"])
def test_upper_limits_on_tables_and_their_maxima_are_exact(name: str) -> None:
    model, wanted = COMBINED[name]
    for space in SPACES.values():
        rows = rows_of(space)
        costs = wanted(*parts(space, rows))
        limit = float(np.median(costs)) + 1e-3
        constraints = sn.Constraints.of([model <= limit]).bind(space)
        assert constraints.exact
        truth = shares(space, rows)[costs <= limit].sum()
        lower, upper = (float(x) for x in constraints.feasible_fraction())
        assert lower - 1e-9 <= truth <= upper + 1e-9 and upper - lower < 0.2


def test_two_costs_of_one_name_are_refused() -> None:
    with pytest.raises(sn.DeclarationError, match="Two different cost models"):
        sn.Constraints.of([(A + B).named("x") <= 3, (A * B).named("x") <= 3])


def test_a_safe_limit_proposes_less_than_a_plain_one() -> None:
    space, noisy = SPACES["flat"], Noisy()
    rows = rows_of(space)
    limit = float(np.median(noisy.bind(space)(rows)))
    plain, safe = (
        sn.Constraints.of([model <= limit]).bind(space) for model in (noisy, noisy.upper(0.7))
    )
    assert 0 < safe.mask(rows).sum() < plain.mask(rows).sum()
    assert (plain.mask(rows) | ~safe.mask(rows)).all()
