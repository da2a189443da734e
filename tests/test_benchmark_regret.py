"""Regret, hypervolume, ranks and simulated time, against what is computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from benchmark_tables import Scripted, grid, grid_space
from symnas.algorithms import ASHA, SuccessiveHalving

import symnas as sn
from symnas import algorithms as alg
from symnas.benchmark import Below, Column, Tabulated, compare, simulate
from symnas.benchmark.driving import Setup, drive
from symnas.benchmark.ranks import Ranks
from symnas.benchmark.regret import Yardstick
from symnas.testing.driving import trajectory


def run(rows, table=None, peer=False, **options):
    """The regrets after each evaluation, and the record."""
    table = table or grid()
    options = {"objectives": ("score",), "evaluations": len(rows)} | options
    setup = Setup(**options)
    record = drive(table, Scripted(rows, peer), setup, 0)
    yardstick = Yardstick.of(table, setup, [record])
    at = np.arange(1, setup.evaluations + 1)
    return yardstick.regrets(record, at).tolist(), record


def test_regret_by_hand():
    # The best score is 33; these give 0, 11, 3, 33.
    regrets, record = run([[0, 0], [1, 1], [0, 3], [3, 3]])
    assert regrets == [33, 22, 22, 0]
    assert record.distinct == 1
    assert record.infeasible == 0


def test_repetitions_count_as_evaluations():
    regrets, record = run([[1, 1], [1, 1], [2, 0], [1, 1]], peer=True)
    assert regrets == [22, 22, 13, 13]
    assert record.distinct == 0.5


def test_what_breaks_a_limit_is_no_find():
    # Within ms <= 3 the best score is 30 and the worst 0, which stands for nothing found.
    limits = (Below("ms", limit=3),)
    regrets, record = run([[3, 3], [0, 1], [3, 1], [3, 0]], peer=True, limits=limits)
    assert regrets == [30, 29, 29, 0]
    assert record.infeasible == 0.5


def test_infeasible_values_are_told_to_peers_alone():
    limits = (Below("ms", limit=3),)
    for peer, expected in ((True, 33.0), (False, np.nan)):
        contender = Scripted([[3, 3]], peer)
        drive(grid(), contender, Setup(("score",), 1, limits), 0)
        assert contender.log[-1][1] == pytest.approx([expected], nan_ok=True)


def test_what_is_minimised_is_told_negated():
    contender = Scripted([[1, 2]])
    drive(grid(), contender, Setup(("score", "ms"), 1), 0)
    assert contender.log[-1] == ([1, 2], [12.0, -3.0])


def test_quantiles_are_of_the_table():
    # Costs of the 16 rows: 0 1 1 2 2 2 3 3 3 3 4 4 4 5 5 6; the eighth smallest is a 3.
    assert Below("ms", quantile=0.5).constraint(grid()).upper == 3
    assert Below("ms", quantile=1 / 16).constraint(grid()).upper == 0


def two_objectives(points):
    space = grid_space((len(points),))
    columns = [Column("gain", "maximize"), Column("loss", "minimize")]
    rows = np.arange(len(points))[:, None]
    return Tabulated(
        "pareto", space, columns, rows, dict(zip(("gain", "loss"), points.T, strict=True))
    )


def test_hypervolume_by_hand():
    # Scaled to [0, 1] with larger better: (0, 1), (0.5, 0.5), (1, 0.25), (0.25, 0), (0.5, 0.25).
    # Staircase of the front: up to gain 0.5 the height is 0.5, up to 1 it is 0.25.
    points = np.array([[0, 0], [2, 4], [4, 6], [1, 8], [2, 6]], float)
    table = two_objectives(points)
    both = {"objectives": ("gain", "loss")}
    top = 0.5 * 0.5 + 0.5 * 0.25
    regrets, _ = run([[3], [4], [0], [1], [2]], table, **both)
    # (0.25, 0) and (0, 1) lie on the edge of the box; (0.5, 0.25) covers 0.125, (0.5, 0.5) 0.25.
    assert regrets == pytest.approx([top, top - 0.125, top - 0.125, top - 0.25, 0])
    assert run([[2], [1]], table, **both)[0] == pytest.approx([top - 0.25, 0])


def test_hypervolume_of_many_points_as_by_counting():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 21, (40, 2)).astype(float)
    points[:2] = [[0, 20], [20, 0]]
    scaled = np.stack([points[:, 0], 20 - points[:, 1]], axis=1)
    cells = np.stack(np.meshgrid(np.arange(20), np.arange(20)), axis=-1).reshape(-1, 2) + 0.5
    regrets, _ = run([[i] for i in range(40)], two_objectives(points), objectives=("gain", "loss"))
    covered = [
        (scaled[: n + 1, None] > cells).all(axis=2).any(axis=0).mean() for n in range(40)
    ]  # fmt: skip
    assert regrets == pytest.approx(np.array(covered[-1]) - covered)


def test_fidelities_count_by_their_share():
    """Half an evaluation each; what was seen at the lower fidelity alone is not found."""

    class Twice(Scripted):
        def start(self, problem):
            problem.budget = 1.0
            return super().start(problem)

        def ask(self, n):
            rows = super().ask(n)
            self.problem.propose(rows, 2.0 if self.asked == 3 else 1.0)
            return rows

    table = grid(budgets=(1.0, 2.0))
    contender = Twice([[3, 3], [2, 2], [2, 2]])
    setup = Setup(("score",), 2, budget=2.0)
    record = drive(table, contender, setup, 0)
    assert record.spent.tolist() == [0.5, 1.0, 2.0]
    assert record.distinct == 1  # the same architecture at another budget is no repetition
    told = [entry[1][0] for entry in contender.log if entry != "ask"]
    assert told == [16.5, 11.0, 22.0]
    regrets = Yardstick.of(table, setup, [record]).regrets(record, np.array([0.5, 1, 2]))
    assert regrets.tolist() == [33, 33, 11]


def test_simulated_workers_are_told_in_order():
    # Seconds are 1 + d0: 4, 1, 1, 2, 1. With two workers, proposal 2 waits for result 0, which
    # comes at 4, although the second worker is free at 1.
    rows = [[3, 0], [0, 0], [0, 1], [1, 0], [0, 2]]
    contender = Scripted(rows)
    record = drive(grid(), contender, Setup(("score",), 5, workers=2, seconds="hours"), 0)
    # 0 and 1 begin at 0; 2 at 4; 3 needs result 1 (1) and begins at 4; 4 needs 2 (5).
    assert record.finished.tolist() == [4, 1, 5, 6, 6]
    told = [entry if entry == "ask" else entry[0] for entry in contender.log]
    assert told == ["ask", "ask", rows[0], "ask", rows[1], "ask", rows[2], "ask", rows[3], rows[4]]


def test_a_long_trial_does_not_hold_up_short_ones():
    """With budgets, results are told as if each trial took its budget, as in a real search."""

    class LongFirst(Scripted):
        def start(self, problem):
            problem.budget = 1.0
            return super().start(problem)

        def ask(self, n):
            rows = super().ask(n)
            return self.problem.propose(rows, 3.0 if self.asked == 1 else 1.0)

    rows = [[3, 0], [0, 0], [0, 1], [1, 0], [0, 2]]
    contender = LongFirst(rows)
    setup = Setup(("score",), 3, workers=2, seconds="hours")
    record = drive(grid(budgets=(1.0, 3.0)), contender, setup, 0)
    # By budgets, 0 ends at 3, as 3 does; 1 and 2 at 1 and 2. In seconds, 0 ends at 4, 1 at 1.
    told = [entry if entry == "ask" else entry[0] for entry in contender.log]
    assert told[:8] == ["ask", "ask", rows[1], "ask", rows[2], "ask", rows[0], "ask"]
    assert [entry for entry in told[8:] if entry != "ask"] == [rows[3], rows[4]]
    assert record.finished.tolist() == [4, 1, 2, 4, 5]


@pytest.mark.parametrize("wrap", [ASHA, SuccessiveHalving])
def test_fidelities_go_as_in_a_search(wrap):
    table = grid((9, 9), budgets=(1.0, 3.0))
    algorithm = wrap(alg.RegularizedEvolution(population_size=8, tournament_size=4), (1, 3))
    record = drive(table, algorithm, Setup(("score",), 20, workers=4), 7)
    problem = sn.Problem(table.space, [sn.Objective("score", "maximize")], seed=7)
    # Lower budgets halve every score, so all comparisons turn out as here.
    found = trajectory(
        problem, algorithm.start(problem), len(record.rows), ahead=4,
        score=lambda row: np.array([[10.0 * row[0, 0] + row[0, 1]]]),
    )  # fmt: skip
    assert len(set(found.budgets)) == 2
    assert record.rows.tolist() == found.rows.tolist()


def test_simulated_time_of_one_worker_is_the_sum():
    rows = [[3, 0], [0, 0], [1, 1]]
    record = drive(grid(), Scripted(rows), Setup(("score",), 3, workers=1, seconds="hours"), 0)
    assert record.finished.tolist() == [4, 5, 7]


def test_regret_by_simulated_time():
    scripts = {"a": Scripted([[3, 0], [0, 0], [0, 1]])}
    found = simulate(
        scripts, grid(), workers=2, seeds=1, evaluations=3, checkpoints=[0.5, 1, 4, 5],
        progress=False,
    )  # fmt: skip
    # Results come at 4 (30), 1 (0) and 5 (1); the worst, 0, stands for nothing found.
    assert found.summary()["mean"].tolist() == [33, 33, 3, 3]
    with pytest.raises(ValueError, match="has no seconds of training: name a column"):
        simulate(scripts, two_objectives(np.eye(2)), progress=False)


def test_more_workers_are_quicker_but_know_less():
    random = {"evolution": alg.RegularizedEvolution(population_size=10, tournament_size=5)}
    table = grid((9, 9))
    times = []
    for workers in (1, 4):
        found = simulate(random, table, workers=workers, seeds=2, evaluations=40, progress=False)
        times.append(max(r.finished.max() for r in found.records.values()))
    assert times[1] < 0.6 * times[0]


def test_ranks_as_in_the_paper():
    """Demšar 2006, Section 3.2: k = 4 algorithms, N = 14; CD = 2.569 sqrt(4 * 5 / (6 * 14))."""
    rng = np.random.default_rng(0)
    ranks = Ranks.of(("a", "b", "c", "d"), rng.random((14, 4)))
    assert ranks.distance == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), rel=1e-3)
    assert 0 < ranks.p <= 1
    clear = Ranks.of(("a", "b", "c"), np.tile([3.0, 1.0, 2.0], (30, 1)))
    assert clear.names == ("b", "c", "a")
    assert clear.groups == []  # one rank apart in each of thirty blocks
    assert clear.p < 1e-6
    close = Ranks.of(("a", "b", "c"), np.array([[1, 2, 9.0], [2, 1, 9]] * 20))
    assert close.groups == [(0, 1)]


def test_ranks_of_a_comparison_use_complete_blocks():
    scripts = {"good": Scripted([[3, 3]]), "bad": Scripted([[0, 0]])}
    found = compare(scripts, [grid(), grid(name="b")], seeds=3, evaluations=1, progress=False)
    ranks = found.ranks()
    assert (ranks.names, ranks.mean.tolist(), ranks.blocks) == (("good", "bad"), [1, 2], 6)
