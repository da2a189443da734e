"""Several objectives: fronts, crowding and hypervolume by definition; the searches that use them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from symnas.algorithms.nsga2 import NSGA2

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas.searching import pareto
from symnas.testing import example_spaces
from symnas.testing.driving import drive

NAN = np.nan


def points(n, objectives, seed, high=6):
    """Whole numbers, so that there are ties and equal rows; every ninth has failed."""
    scores = np.random.default_rng(seed).integers(0, high, (n, objectives)).astype(float)
    scores[8::9] = NAN
    return scores


def dominates(a, b):
    return bool((a >= b).all() and (a > b).any())


@pytest.mark.parametrize(("objectives", "seed"), itertools.product((1, 2, 3, 5), range(5)))
def test_fronts_are_peeled_off(objectives, seed):
    scores = points(30, objectives, seed)
    expected = np.full(30, -1)
    left = [i for i in range(30) if np.isfinite(scores[i]).all()]
    for front in itertools.count():
        if not left:
            expected[expected < 0] = front
            break
        best = [i for i in left if not any(dominates(scores[j], scores[i]) for j in left)]
        expected[best] = front
        left = [i for i in left if i not in best]
    assert pareto.ranks(scores).tolist() == expected.tolist()
    kept = (expected == 0) & np.isfinite(scores).all(axis=1)
    assert pareto.nondominated(scores).tolist() == kept.tolist()


def test_all_that_failed_is_one_front_and_on_none():
    scores = np.array([[NAN, NAN], [-np.inf, 1.0], [NAN, 2.0]])
    assert pareto.ranks(scores).tolist() == [0, 0, 0]
    assert not pareto.nondominated(scores).any()
    assert pareto.hypervolume(scores, [0.0, 0.0]) == 0.0
    assert pareto.ranks(np.empty((0, 2))).shape == (0,)


def test_crowding_by_hand():
    """Two fronts: gaps count within one alone, as shares of its range, and ends are infinite."""
    scores = np.array([[0.0, 10], [2, 8], [6, 6], [10, 0], [0, 5], [1, 1], [5, 0], [NAN, NAN]])
    fronts = pareto.ranks(scores)
    assert fronts.tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
    expected = [np.inf, 6 / 10 + 4 / 10, 8 / 10 + 8 / 10, np.inf, np.inf, 2.0, np.inf, 0.0]
    assert pareto.crowding(scores, fronts) == pytest.approx(expected)


def test_places_go_by_front_then_room_then_youth():
    scores = np.array([[0.0, 10], [2, 8], [6, 6], [10, 0], [0, 5], [1, 1], [5, 0], [NAN, NAN]])
    # From worst: the failure; then front 1 (its middle, its ends by age); then front 0.
    assert np.argsort(pareto.places(scores)).tolist() == [7, 5, 4, 6, 1, 2, 0, 3]
    assert pareto.places(np.zeros((3, 1))).argmax() == 2


@pytest.mark.parametrize(("objectives", "seed"), itertools.product((1, 2, 3, 4), range(4)))
def test_hypervolume_counts_unit_cells(objectives, seed):
    scores = points(12, objectives, seed)
    cells = itertools.product(range(-1, 6), repeat=objectives)
    fine = scores[np.isfinite(scores).all(axis=1)]
    reached = sum(bool((fine >= np.array(cell) + 1).all(axis=1).any()) for cell in cells)
    assert pareto.hypervolume(scores, [-1.0] * objectives) == pytest.approx(reached)


# Searching ------------------------------------------------------------------------------------

SPACE = sn.Space([sn.oneof(list("abcdef")) for _ in range(8)])


def problem(space=SPACE, seed=0, n=2, constraints=None):
    objectives = [sn.Objective(f"o{i}", "maximize") for i in range(n)]
    return sn.Problem(space, objectives, constraints, seed)


def scores_of(rows):
    """Two objectives at odds, with many local optima, and failures."""
    rows = np.asarray(rows, float) + 1
    steps = np.arange(1, rows.shape[1] + 1)
    up = np.round(rows.sum(axis=1) + np.sin(rows * steps).sum(axis=1), 2)
    down = -np.round((rows**1.5).sum(axis=1) + np.cos(rows * steps).sum(axis=1), 2)
    scores = np.stack([up, down], axis=1)
    scores[rows.sum(axis=1) % 7 == 3] = NAN
    return scores


SEARCHES = {
    "nsga2": NSGA2(6, 3, initial_samples=4),
    "nsga2, mutation alone": NSGA2(5, 2, crossover=0.0),
    "local search": alg.LocalSearch(3),
    "local search, best": alg.LocalSearch(3, move="best"),
    "regularized evolution": alg.RegularizedEvolution(6, 3),
}


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("kind", ["conditional", "float", "subset", "flat"])
def test_recovery_with_two_objectives(name, kind):
    """The laws of conformance try one objective; with two, runs are others."""
    space = example_spaces()[kind]
    for ahead in (1, 3):
        task = problem(space)
        full = drive(task, SEARCHES[name].start(task), 24, ahead=ahead, score=scores_of)
        assert (
            len(set(space.keys(full)))
            == len(full)
            == (24 if space.has_floats else min(24, space.size))
        )
        for cut in (5, 15):
            task = problem(space)
            run = SEARCHES[name].start(task)
            again = drive(task, run, 24, ahead=ahead, score=scores_of, before=list(full[:cut]))
            assert np.array_equal(full, again), f"ahead={ahead}, cut at {cut}"


REFERENCE = np.nanmin(scores_of(SPACE.sample(2000, seed=1)), axis=0)


def volume(algorithm, seed):
    task = problem(seed=seed)
    rows = drive(task, algorithm.start(task), 120, score=scores_of)
    return pareto.hypervolume(scores_of(rows), REFERENCE)


@pytest.fixture(scope="module")
def by_chance():
    return np.mean([volume(alg.RandomSearch(), seed) for seed in range(6)])


@pytest.mark.parametrize(
    "algorithm",
    [NSGA2(), NSGA2(crossover=0.0), alg.LocalSearch(), alg.RegularizedEvolution(15, 8)],
    ids=repr,
)
def test_fronts_are_found_sooner_than_by_chance(algorithm, by_chance):
    assert np.mean([volume(algorithm, seed) for seed in range(6)]) > 1.03 * by_chance


@pytest.mark.parametrize(
    "algorithm", [NSGA2(4, 3, crossover=0.0, initial_samples=1), alg.RegularizedEvolution(4, 3)]
)
def test_parents_are_good_and_alive(algorithm):
    """Children differ in one decision from their parent, so it is known who has children."""
    task = problem()
    run = algorithm.start(task)
    rows = task.propose(SPACE.sample(6, seed=1))
    # Without the first, 1, 3 and 5 are the front (3 between the other two), 2 and 4 are behind.
    scores = np.array([[9.0, 9], [0, 8], [0, 3], [4, 4], [3, 1], [8, 0]])
    aged = isinstance(algorithm, alg.RegularizedEvolution)
    run.tell(rows[aged ^ 1 :], scores[aged ^ 1 :])
    parents = [int((rows != child).sum(axis=1).argmin()) for child in run.ask(40)]
    counts = np.bincount(parents, minlength=6)
    if aged:  # the last four live: 2, 3, 4, 5
        assert counts[[0, 1]].sum() == 0
        assert counts[[3, 5]].sum() > counts[[2, 4]].sum()
    else:  # the best four: the front and the later end of what is behind
        assert counts[0] == counts[4] + counts[2] - max(counts[4], counts[2]) == 0
        assert counts[[1, 5]].sum() > 30


def test_children_of_two_are_of_both():
    task = problem()
    run = NSGA2(2, 1, crossover=1.0, initial_samples=1).start(task)
    rows = task.propose(np.array([[0] * 8, [1] * 8], np.int32))
    run.tell(rows, np.array([[0.0, 1.0], [1.0, 0.0]]))
    children = run.ask(40)
    foreign = (children > 1).sum(axis=1)
    assert foreign.max() == 1, "one mutation a child"
    mixed = [0 < (child == 1).sum() < 7 for child in children]
    assert 10 < sum(mixed) < 35, "half of the couples are one and the same member"


def test_local_search_goes_through_the_neighbours_of_the_front():
    task = problem()
    run = alg.LocalSearch(5).start(task)
    rows, told = [], np.empty((0, 2))
    for i in range(120):
        row = run.ask(1)
        if i >= 5 and len(told):
            front = np.array(rows)[pareto.nondominated(told)]
            near = np.concatenate([SPACE.neighbors(r) for r in front])
            known = {r.tobytes() for r in np.array(rows)}
            left = {r.tobytes() for r in near} - known
            assert not left or row[0].tobytes() in left
        rows.append(row[0].copy())
        run.tell(row, scores_of(row))
        told = np.concatenate([told, scores_of(row)])


def test_local_search_of_one_objective_is_as_before():
    """A trajectory of the time when it knew one objective alone."""
    task = problem(n=1, seed=3)
    rows = drive(
        task, alg.LocalSearch(2).start(task), 40, score=lambda row: row.sum(axis=1)[:, None] * 1.0
    )
    assert rows.sum(axis=1).tolist() == [
        25,
        17,
        23,
        26,
        22,
        29,
        24,
        30,
        28,
        25,
        27,
        31,
        32,
        27,
        30,
        34,
        32,
        30,
        29,
        29,
        33,
        30,
        32,
        30,
        32,
        30,
        33,
        31,
        33,
        29,
        31,
        30,
        36,
        31,
        35,
        33,
        34,
        38,
        35,
        37,
    ]


def test_one_network_for_several_devices():
    """Three devices' latencies and a quality: the front is wider than chance finds it."""
    devices = [
        cm.Roofline(1e6, 1e9, name="slow"),
        cm.Roofline(1e9, 1e6, name="starved"),
        cm.Roofline(1e8, 1e8, overhead=0.02, name="launching"),
    ]
    layers = [sn.nn.LazyLinear(sn.oneof([4, 8, 16, 32, 64])) for _ in range(3)]
    space = sn.Space(sn.nn.Sequential(*layers), input=(16,))
    middle = space.decode([3, 3, 3])
    together = cm.MultiHardware(devices, "max", reference=middle, name="together")
    constraints = sn.Constraints.of(together <= 1.2).bind(space)
    costs = [device.bind(space) for device in devices]
    size = cm.Parameters().bind(space)

    def score(rows):
        return np.stack([np.log(size(rows)), *(-cost(rows) for cost in costs)], axis=1)

    def reached(algorithm, seed):
        task = problem(space, seed, 4, constraints)
        rows = drive(task, algorithm.start(task), 30, score=score)
        assert constraints.mask(rows).all()
        return pareto.hypervolume(score(rows), reference)

    every = np.concatenate(list(space.enumerate()))
    allowed = score(every[constraints.mask(every)])
    reference = allowed.min(axis=0) - 1e-3
    ours = [reached(NSGA2(), seed) for seed in range(5)]
    chance = [reached(alg.RandomSearch(), seed) for seed in range(5)]
    assert np.mean(chance) < np.mean(ours) <= pareto.hypervolume(allowed, reference)


def test_a_study_of_several_devices_has_a_front(tmp_path):
    devices = [cm.Roofline(1e6, 1e9, name="slow"), cm.Roofline(1e9, 1e6, name="starved")]
    space = sn.Space(
        sn.nn.Sequential(sn.nn.Linear(4, sn.oneof([8, 16, 32, 64])), sn.nn.LazyLinear(2)),
        input=(4,),
    )
    study = sn.search(
        space, NSGA2(3, 2, initial_samples=2), lambda a: {"q": cm.Parameters()(a)}, maximize="q",
        minimize=devices, trials=4, progress=False, study=tmp_path / "study.db",
    )  # fmt: skip
    assert len(study.pareto()) == len(study) == 4, "each is the largest of its latency"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NSGA2(0), "`population_size` \\(0\\) must be at least 1"),
        (lambda: NSGA2(tournament_size=0), "`tournament_size` \\(0\\) must be at least 1"),
        (lambda: NSGA2(initial_samples=0), "`initial_samples` \\(0\\) must be at least 1"),
        (lambda: NSGA2(crossover=1.5), "`crossover` \\(1.5\\) must be"),
    ],
)
def test_hyper_parameters_are_checked(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
