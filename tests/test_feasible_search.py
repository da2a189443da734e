"""Searches under limits on costs: what is proposed, and whether every decision gets its turn."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pyglove as pg
import pytest
from test_feasible import RULED, Random, Total, limited, many, rows_of
from test_feasible import SPACES as FREE

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas.costs import feasible as feasible_module
from symnas.testing.driving import drive

SPACES = {**FREE, **RULED}
ALGORITHMS: dict[str, sn.Algorithm] = {
    "random": alg.RandomSearch(),
    "random architectures": alg.RandomSearch("architectures"),
    "evolution": alg.RegularizedEvolution(6, 3),
    "evolution, two mutations": alg.RegularizedEvolution(5, 2, mutations=2),
    "local search": alg.LocalSearch(2),
    "grid": alg.GridSearch(levels=3),
    "pyglove": alg.PyGlove(pg.geno.Random(seed=1), max_attempts=50),
}


MIXED = ["flat", "conditional", "depth", "floats that hang on decisions", "picks",
         "conditional subset"]  # fmt: skip


def problem(space: sn.Space, constraints: list[Any], seed: int = 0) -> sn.Problem:
    return sn.Problem(
        space,
        [sn.Objective("score", "maximize")],
        sn.Constraints.of(constraints).bind(space),
        seed,
    )


def score(row: Any) -> Any:
    return np.sin(np.asarray(row) * 1.7).sum(axis=1, keepdims=True)


# Proposals -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:PyGlove")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("how", ["<= between", "window", "peak and sum"])
def test_nothing_infeasible_is_proposed_under_tight_limits(algorithm: str, how: str) -> None:
    # Slow with "window" and evolution: a repair under two limits lays out 500 x 500 bins
    # (bound_constraints.py, _drawn).
    for name in ("flat", "picks") if algorithm == "pyglove" else MIXED:
        space = SPACES[name]
        constraints = limited(space, 5, "real", 0.2, how)
        task = problem(space, constraints)
        assert task.constraints is not None
        rows = rows_of(space)
        feasible = int(task.constraints.mask(rows).sum())
        assert feasible > 1, name
        made = drive(task, ALGORITHMS[algorithm].start(task), 8, score=score)
        assert task.constraints.mask(made).all() and all(space.is_row(row) for row in made)
        assert len({tuple(row) for row in made.tolist()}) == len(made)
        if not space.has_floats and algorithm != "pyglove":
            assert len(made) == min(8, feasible), "all that is feasible is found in the end"
        again = problem(space, constraints)
        repeated = drive(again, ALGORITHMS[algorithm].start(again), 8, score=score)
        assert np.array_equal(made, repeated), "the same seed, the same trajectory"


@pytest.mark.parametrize("algorithm", ["random", "evolution", "local search"])
def test_very_rare_architectures_are_searched(algorithm: str) -> None:
    """One in 10**14; a search by rejection would draw for days."""
    space = many(20)
    task = problem(space, [Total(jitter=0.01) <= 7.2, Total(-1.0, name="negative") <= -3])
    made = drive(task, ALGORITHMS[algorithm].start(task), 40, score=score)
    assert len(made) == 40
    assert ((made.sum(axis=1) <= 7) & (made.sum(axis=1) >= 3)).all()


def test_a_search_of_networks_under_real_costs() -> None:
    widths = [sn.oneof([2, 4, 6, 8]) for _ in range(3)]
    ends = [4, *widths]
    layers = [sn.nn.Linear(a, b) for a, b in itertools.pairwise(ends)]
    space = sn.Space(sn.nn.Sequential(*layers), input=(4,))
    low = cm.Macs().bind(space).range().low
    limits = [cm.Macs() <= low + 30, cm.Parameters() >= 30]
    study = sn.search(
        space, alg.RegularizedEvolution(4, 2), lambda a: float(sum(a.row)), maximize="score",
        subject_to=limits, trials=12, progress=False,
    )  # fmt: skip
    assert len(study.trials) == 12
    for trial in study.trials:
        architecture = space.decode(trial.row)
        assert cm.Macs()(architecture) <= low + 30 and cm.Parameters()(architecture) >= 30


# Mutations -----------------------------------------------------------------------------------------


def mutations(space: sn.Space, constraints: list[Any], parent: Any, n: int) -> Any:
    """Independent mutations of one parent: each from a problem that has proposed nothing."""
    task = problem(space, constraints)
    found = []
    for key in range(n):
        child = task.mutate(np.array([parent]), key)
        found.extend(child.tolist())
    return np.array(found, np.int32).reshape(-1, len(space))


def decided(parent: Any, children: Any, space: sn.Space) -> Counter[int]:
    """How often each decision of the parent has another value in a child."""
    active = [c for c, value in enumerate(parent) if value >= 0 and space.decisions[c].size > 1]
    counts = Counter(dict.fromkeys(active, 0))
    for child in children.tolist():
        counts.update(c for c in active if child[c] != parent[c])
    return counts


@pytest.mark.parametrize("name", [n for n in FREE if n not in ("one decision",)])
@pytest.mark.parametrize("kind", ["whole", "real"])
def test_no_decision_is_starved_at_the_limit(name: str, kind: str) -> None:
    """A parent at the limit: what can change at all is changed about as often as anything else."""
    space = FREE[name]
    cost = Random(9, kind)
    rows = rows_of(space)
    costs = cost.bind(space)(rows)
    order = np.argsort(costs, kind="stable")
    parent = rows[order[int(0.3 * len(rows))]]
    limit = float(cost.bind(space)(parent[None])[0])
    if space.has_floats:  # enumeration has one level of each
        parent = np.where((parent >= 0) & [d.kind == "float" for d in space.decisions],
                          500_000, parent)  # fmt: skip
    children = mutations(space, [cost <= limit], parent, 240)
    assert len(children) == 240
    assert (cost.bind(space)(children) <= limit).all()
    kept = rows[costs <= limit]
    counts = decided(parent, children, space)
    # A decision is picked first, then one of its other values, which has to be possible at all.
    possible = {c: len(set(kept[:, c]) - {-1, parent[c]}) for c in counts}
    chance = {
        c: 1.0 if space.decisions[c].kind == "float" else n / (space.decisions[c].size - 1)
        for c, n in possible.items()
    }
    for c, count in counts.items():
        if chance[c] == 0:
            assert count == 0
        else:
            assert count > 0.6 * len(children) * chance[c] / sum(chance.values()), (c, counts)


def test_each_decision_of_a_long_network_gets_its_turn() -> None:
    """Every increase must be paid by a decrease elsewhere; nothing else does."""
    space, rng = many(12, 5), np.random.default_rng(0)
    parent = rng.integers(1, 4, 12)
    limit = float(parent.sum())
    children = mutations(space, [Total() <= limit], parent, 480)
    counts = decided(parent, children, space)
    assert (children.sum(axis=1) <= limit).all()
    # What pays for an increase is more often a decision that has much to give.
    assert max(counts.values()) / min(counts.values()) < 4, counts
    # Each decision is picked 40 times; increases are not less frequent than without a limit.
    for c in range(12):
        ups = (children[:, c] > parent[c]).sum()
        assert ups > 0.5 * 40 * (4 - parent[c]) / 4, (c, ups)


def test_picks_are_mutated_at_the_limit() -> None:
    space = sn.Space(sn.manyof(2, list("abcd")))
    parent = np.array([0, 3], np.int32)
    children = mutations(space, [Total() <= 3], parent, 80)
    assert len(children) == 80 and (children.sum(axis=1) <= 3).all()
    assert all(space.is_row(row) for row in children)
    counts = decided(parent, children, space)
    assert min(counts.values()) > 20, counts


@pytest.mark.parametrize("name", RULED)
def test_mutations_of_picks_are_feasible(name: str) -> None:
    space, cost = RULED[name], Random(9)
    rows = rows_of(space)
    costs = cost.bind(space)(rows)
    parent = rows[np.argsort(costs, kind="stable")[len(rows) // 2]]
    limit = float(cost.bind(space)(parent[None])[0])
    children = mutations(space, [cost <= limit], parent, 40)
    assert len(children) == 40
    assert (cost.bind(space)(children) <= limit).all() and all(space.is_row(r) for r in children)


def test_mutations_go_on_until_all_feasible_rows_are_proposed() -> None:
    space = FREE["flat"]
    task = problem(space, limited(space, 3, "real", 0.1, "<="))
    assert task.constraints is not None
    feasible = rows_of(space)[task.constraints.mask(rows_of(space))]
    task.propose(feasible[:1])
    seen = {tuple(feasible[0])}
    for key in range(20 * len(feasible)):
        if len(seen) == len(feasible):
            break
        child = task.propose(task.mutate(feasible[:1], key))
        seen.update(map(tuple, child.tolist()))
    assert seen == set(map(tuple, feasible.tolist()))


def test_mutations_without_repair_keep_the_limit_too() -> None:
    space = FREE["flat"]
    rows = rows_of(space)
    task = problem(space, limited(space, 3, "real", 0.1, "<="))
    assert task.constraints is not None
    task.constraints.near = lambda *_: pytest.fail("repaired")  # type: ignore[method-assign]
    feasible = rows[task.constraints.mask(rows)]
    found = task.mutate(np.repeat(feasible, 4, axis=0), 0, repaired=False)
    assert len(found) > 1 and task.fresh(found).all()
    parents = set(map(tuple, feasible.tolist()))
    assert set(map(tuple, found.tolist())) <= parents


def test_repairs_under_many_limits_need_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cells: list[int] = []

    class Counted(feasible_module.Pass):
        def __init__(self, feasible: Any, independent: Any, shape: Any, round_up: bool) -> None:
            cells.append(int(np.prod(shape)))
            super().__init__(feasible, independent, shape, round_up)

    monkeypatch.setattr(feasible_module, "Pass", Counted)
    space = many(10)
    limits = [Total(jitter=0.3) <= 30, Total(-1.0, 0.3, "negative") <= -20]
    constraints = sn.Constraints.of(limits).bind(space)
    assert constraints.near(np.full(10, 4, np.int32), {0: 4}, 0) is not None
    assert cells and max(cells) <= 20_000


# Crossover -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MIXED, "subset of conditions", "permutation"])
@pytest.mark.parametrize("how", ["<=", "window", "peak and sum"])
def test_children_of_feasible_parents_are_feasible_and_theirs(name: str, how: str) -> None:
    space = SPACES[name]
    constraints = limited(space, 4, "real", 0.4, how)
    task = problem(space, constraints)
    assert task.constraints is not None
    feasible = rows_of(space)[task.constraints.mask(rows_of(space))]
    if len(feasible) < 2:
        return
    rng = np.random.default_rng(0)
    both = feasible[rng.integers(0, len(feasible), (2, 20))]
    inherited = total = 0
    for key, (a, b) in enumerate(zip(*both, strict=True)):
        fresh = problem(space, constraints)
        for child in fresh.crossover(a[None], b[None], key):
            assert fresh.constraints is not None and fresh.constraints.mask(child[None])[0]
            assert space.is_row(child)
            mine = (child == a) | (child == b) | ((a < 0) & (b < 0))
            inherited, total = inherited + mine.sum(), total + len(child)
    assert total > 0 and inherited > 0.9 * total


def test_crossover_at_the_limit_takes_from_both() -> None:
    space, rng = many(12, 5), np.random.default_rng(1)
    limit = 24
    constraints = sn.Constraints.of([Total() <= limit]).bind(space)
    tried = [rng.permutation(np.repeat([1, 2, 3], 4)) for _ in range(40)]
    shares = []
    for key, (a, b) in enumerate(zip(tried[::2], tried[1::2], strict=True)):
        task = sn.Problem(space, (), constraints)
        child = task.crossover(a[None], b[None], key)[0]
        assert child.sum() <= limit and ((child == a) | (child == b)).all()
        shares.append((child == a)[a != b].mean())
    assert 0.35 < np.mean(shares) < 0.65


def test_near_keeps_what_it_can_and_what_is_pinned() -> None:
    space = many(8, 5)
    constraints = sn.Constraints.of([Total() <= 16]).bind(space)
    row = np.full(8, 2, np.int32)
    row[3] = 4
    others: Counter[int] = Counter()
    for seed in range(120):
        found = constraints.near(row, {3: 4}, seed)
        assert found is not None and found[3] == 4 and found.sum() <= 16
        changed = [c for c in range(8) if found[c] != row[c]]
        assert 1 <= len(changed) <= 2
        others.update(changed)
    assert len(others) == 7 and max(others.values()) < 4 * min(others.values()), others
    assert constraints.near(row, dict.fromkeys(range(8), 4), 0) is None
