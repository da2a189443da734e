"""pymoo in the harness, against pymoo's own `minimize` on the same problem."""

from __future__ import annotations

import numpy as np
import pytest
from benchmark_tables import grid, grid_space

import symnas as sn
from symnas.benchmark import Below, Column, Tabulated, compare
from symnas.benchmark.driving import Setup, drive, problem_of
from symnas.benchmark.peers import Peer

pymoo = pytest.importorskip("pymoo")

SIDES = (9, 7, 5)
KINDS = ("pymoo-nsga2", "pymoo-smsemoa")
TWO = ("score", "ms")


def minimized(kind, table, objectives, limit, seed, evaluations, size):
    """What pymoo evaluates by itself, in order."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.algorithms.moo.sms import SMSEMOA
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    seen = []

    class Grid(ElementwiseProblem):
        def __init__(self):
            super().__init__(
                n_var=len(SIDES), n_obj=len(objectives), n_ieq_constr=int(limit is not None),
                xl=[0] * len(SIDES), xu=[side - 1 for side in SIDES], vtype=int,
            )  # fmt: skip

        def _evaluate(self, x, out, *args, **kwargs):
            seen.append([int(value) for value in x])
            known = {"score": -(10.0 * x[0] + x[1:].sum()), "ms": float(x.sum())}
            out["F"] = [known[name] for name in objectives]
            if limit is not None:
                out["G"] = [max(0.0, known["ms"] - limit) / limit]

    algorithm = {"pymoo-nsga2": NSGA2, "pymoo-smsemoa": SMSEMOA}[kind](
        pop_size=size,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(Grid(), algorithm, ("n_eval", evaluations), seed=seed)
    return seen[:evaluations]


@pytest.mark.parametrize(
    ("kind", "objectives", "limit"),
    [
        ("pymoo-nsga2", ("score",), None),
        ("pymoo-nsga2", ("score",), 6),
        ("pymoo-nsga2", TWO, None),
        ("pymoo-nsga2", TWO, 6),
        ("pymoo-smsemoa", TWO, None),
        ("pymoo-smsemoa", TWO, 6),
    ],
)
def test_it_evaluates_what_pymoo_by_itself_does(kind, objectives, limit):
    limits = () if limit is None else (Below("ms", limit=limit),)
    for workers in (1, 3):  # a generation is served before any of its results is needed
        setup = Setup(objectives, 70, limits, workers=workers, seconds="hours")
        record = drive(grid(SIDES), Peer(kind, {"pop_size": 20}), setup, seed=4)
        expected = minimized(kind, grid(SIDES), objectives, limit, 4, 70, 20)
        assert record.rows.tolist() == expected
    assert record.feasible.all() == (limit is None)


def test_generations_are_told_when_complete():
    table = grid(SIDES)
    run = Peer("pymoo-nsga2", {"pop_size": 8}).start(problem_of(table, Setup(TWO, 1), 0))
    first = run.ask(5)
    assert len(first) == 5
    rest = run.ask(9)  # of a generation of 8, less duplicates
    size = len(run.generation)
    assert (len(first) + len(rest), len(run.ask(1))) == (size, 0)
    rows = np.concatenate([first, rest])
    scores = np.stack([table.values("score", rows), -table.values("ms", rows)], axis=1)
    run.tell(rows[:-1], scores[:-1])
    assert len(run.ask(1)) == 0
    run.tell(rows[-1:], scores[-1:])
    assert len(run.ask(1)) == 1
    kept = {tuple(individual.X): individual.F.tolist() for individual in run.algorithm.pop}
    for row, score in zip(rows.tolist(), scores, strict=True):
        assert kept[tuple(row)] == (-score).tolist()  # minimised


def test_limits_are_told_by_how_much_they_are_broken():
    table = grid(SIDES)
    limits = (Below("ms", limit=4), Below("ms", limit=8))
    run = Peer("pymoo-nsga2", {"pop_size": 30}).start(
        problem_of(table, Setup(("score",), 1, limits), 0)
    )
    rows = run.ask(30)
    run.tell(rows, table.values("score", rows)[:, None])
    told = {tuple(individual.X): sorted(individual.G) for individual in run.algorithm.pop}
    for row in rows.tolist():
        ms = sum(row)
        expected = sorted([max(0, ms - 4) / 4, max(0, ms - 8) / 8])
        assert told[tuple(row)] == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_are_its_only_chance(kind):
    setup = Setup(TWO, 45)
    runs = []
    for seed in (1, 1, 2):
        np.random.seed(len(runs))
        runs.append(drive(grid(SIDES), Peer(kind, {"pop_size": 15}), setup, seed).rows.tolist())
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("kind", KINDS)
def test_what_failed_is_left_out(kind):
    """Of all rows with an odd first decision, nothing is known: scores, or costs."""
    space = grid_space(SIDES)
    rows = np.concatenate(list(space.enumerate()))
    odd = rows[:, 0] % 2 == 1
    score = 10.0 * rows[:, 0] + rows[:, 1:].sum(axis=1)
    columns = [Column("score", "maximize"), Column("ms", "minimize", "ms", "cost")]
    ms = rows.sum(axis=1).astype(float)
    for results, limits in (
        ({"score": np.where(odd, np.nan, score), "ms": ms}, ()),
        ({"score": score, "ms": np.where(odd, np.nan, ms)}, (Below("ms", limit=9),)),
    ):
        table = Tabulated("holes", space, columns, rows, results)
        record = drive(table, Peer(kind, {"pop_size": 12}), Setup(TWO, 60, limits), 0)
        assert len(record.rows) == 60
        failed = record.rows[:, 0] % 2 == 1
        assert 0 < failed.mean() < 1
        # Children of what did not fail have more often an even first decision than 5 in 9 have.
        assert failed[40:].mean() < 4 / 9


def test_all_of_a_generation_may_fail():
    space = grid_space(SIDES)
    rows = np.concatenate(list(space.enumerate()))
    columns = [Column("a", "maximize")]
    table = Tabulated("nothing", space, columns, rows, {"a": np.full(len(rows), np.nan)})
    record = drive(table, Peer("pymoo-nsga2", {"pop_size": 10}), Setup(("a",), 35), 0)
    assert len(record.rows) == 35
    assert record.distinct > 0.8  # random ones, again and again


def test_small_and_conditional_spaces_end():
    record = drive(grid((3, 3)), Peer("pymoo-nsga2"), Setup(TWO, 40), 0)
    assert (len(record.rows), record.ending) == (9, "no more proposals")
    assert record.distinct == 1
    conditional = sn.Space(
        sn.oneof([1, sn.nn.Linear(2, sn.oneof([4, 8], name="width"))], name="kind"), name="mine"
    )
    problem = sn.Problem(conditional, [sn.Objective("a", "maximize")])
    rows = Peer("pymoo-nsga2").start(problem).ask(9)
    assert all(conditional.is_row(row) for row in rows)
    # To pymoo inactive decisions count, so one architecture has two vectors.
    assert sorted(map(tuple, rows.tolist())) == [(0, -1), (0, -1), (1, 0), (1, 1)]


def test_what_it_cannot_express():
    several = sn.Space([sn.manyof(2, list(range(40)), name="m")], name="several")
    assert several._compiled.rules
    objectives = [sn.Objective("a", "maximize")]
    with pytest.raises(ValueError, match="pymoo has no choice of several different"):
        Peer("pymoo-nsga2").start(sn.Problem(several, objectives))
    with pytest.raises(ValueError, match="has none"):
        Peer("pymoo-nsga2").start(sn.Problem(sn.Space(sn.nn.Linear(2, 2)), objectives))
    with pytest.raises(ValueError, match="takes several objectives"):
        Peer("pymoo-smsemoa").start(sn.Problem(grid_space(), objectives))


def test_it_takes_part_in_a_comparison(tmp_path):
    contenders = {kind: Peer(kind, {"pop_size": 10}) for kind in KINDS}
    found = compare(
        contenders, grid(SIDES), seeds=2, evaluations=60, checkpoints=[10, 60], objectives=TWO,
        folder=tmp_path, progress=False,
    )  # fmt: skip
    assert not found.failures
    for kind in KINDS:
        early, late = found.regrets(kind, "grid").mean(axis=0)
        assert late < 0.8 * early
    assert contenders["pymoo-nsga2"].release == f"pymoo {pymoo.__version__}"
