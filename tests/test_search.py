"""`sn.search`: what it checks, what it records, and that it continues as if never stopped."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from search_examples import Layer, noisy, space, total, trajectory, uneven

import symnas as sn
from symnas import algorithms as alg

EVOLUTION = alg.RegularizedEvolution(population_size=8, tournament_size=3)


def search(task: Any = noisy, algorithm: Any = EVOLUTION, **options: Any) -> sn.Study:
    defaults: dict[str, Any] = {"maximize": "score", "trials": 20, "progress": False}
    where = options.pop("space", None) or space()
    return sn.search(where, algorithm, task, **(defaults | options))


# --- what is checked before the first trial ---------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"space": Layer}, "must be a Space"),
        ({"algorithm": alg.RandomSearch}, r"RandomSearch\(\)"),
        ({"algorithm": "random"}, "must be an Algorithm"),
        ({"task": 3}, "`task`"),
        ({"task": lambda a, b, c: 0.0}, "requires"),
        ({"maximize": None}, "Neither `maximize` nor `minimize`"),
        ({"trials": 0}, "`trials`"),
        ({"seconds": -1}, "`seconds`"),
        ({"ahead": 0}, "`ahead`"),
        ({"seed": -1}, "`seed`"),
        ({"workers": 0}, "`n`"),
        ({"workers": "4"}, "`workers`"),
        ({"on_change": "ignore"}, "`on_change`"),
        ({"initial": [sn.nn.Linear(3, 3)]}, r"`initial\[0\]`"),
        ({"initial": [[0, 0, 0, 9]]}, r"`initial\[0\]`"),
        ({"initial": [[0, 0, 0, 0]] * 2}, r"`initial\[1\]`"),
        ({"algorithm": alg.Reinforce(), "minimize": "size"}, "improves one objective"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_evaluated(
    wrong: dict[str, Any], message: str
) -> None:
    def never(architecture: sn.Architecture) -> float:
        raise AssertionError("evaluated")

    options = {"task": never} | wrong
    with pytest.raises((TypeError, ValueError), match=message):
        search(**options)


def test_a_search_without_an_end_is_refused() -> None:
    endless = sn.Space(Layer(2, scale=sn.floatv(0.0, 1.0)))
    with pytest.raises(ValueError, match="Give `trials` or `seconds`"):
        search(space=endless, trials=None)


# --- what a task may return -------------------------------------------------------------------


@pytest.mark.parametrize(
    "result", [3, 3.0, np.float32(3), torch.tensor(3.0), {"score": 3, "other": math.nan}]
)
def test_numbers_of_every_kind_are_metrics(result: Any) -> None:
    study = search(lambda architecture: result, trials=1)
    assert study.best.metrics["score"] == 3.0


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "not a number"),
        ("3", "not a number"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        ({"acuracy": 1.0}, "no metric 'score'; it returned 'acuracy'"),
        ({"score": [1, 2]}, "not a number"),
    ],
)
def test_what_is_no_number_fails_the_trial_with_its_reason(result: Any, reason: str) -> None:
    study = search(lambda architecture: result, trials=2)
    assert [trial.state for trial in study.trials] == ["failed"] * 2
    assert reason in (study.failed[0].reason or "")
    with pytest.raises(sn.SymnasError, match="No trial of the study has finished"):
        _ = study.best


def test_an_exception_fails_the_trial_and_the_search_goes_on() -> None:
    def task(architecture: sn.Architecture, trial: Any) -> float:
        if trial.number < 3:
            raise ValueError("too wide")
        return total(architecture)

    study = search(task, trials=10)
    assert [trial.number for trial in study.failed] == [0, 1, 2]
    reason = study.failed[0].reason or ""
    assert reason.startswith("ValueError: too wide") and "in task: raise ValueError" in reason
    assert study.best.number >= 3


def test_a_search_in_which_all_fails_says_so_loudly(capsys: Any) -> None:
    with pytest.warns(RuntimeWarning, match="All of the first 20 trials have failed"):
        search(lambda architecture: None, trials=25, progress=True)
    assert "The first 5 trials have all failed: The metric 'score'" in capsys.readouterr().err


# --- what is proposed -------------------------------------------------------------------------


def test_an_exhausted_space_ends_the_search() -> None:
    study = search(total, space=space(layers=2), trials=None)
    assert sorted(t.row for t in study.trials) == list(itertools.product(range(4), repeat=2))
    assert (study.ended or "").startswith("space exhausted: all 16")
    assert study.best.row == (3, 3)


def test_initial_architectures_come_first_however_they_are_given() -> None:
    where = space()
    found = where.decode([3, 2, 1, 0])
    study = search(space=where, initial=[found, [0, 0, 0, 1], found_program(where)], trials=5)
    assert [t.row for t in study.trials[:3]] == [(3, 2, 1, 0), (0, 0, 0, 1), (1, 1, 1, 1)]


def found_program(where: sn.Space) -> Any:
    return where.decode([1, 1, 1, 1]).program


def test_seconds_end_a_search_and_the_next_call_goes_on(tmp_path: Path) -> None:
    before = trajectory(search(study=tmp_path / "s.db", trials=None, seconds=0.05))
    study = search(study=tmp_path / "s.db", trials=len(before) + 3)
    assert len(study) == len(before) + 3
    assert trajectory(study)[: len(before)] == before


# --- repetition -------------------------------------------------------------------------------


def test_a_trial_repeats_exactly_and_trials_differ() -> None:
    first, second = search(), search()
    assert trajectory(first) == trajectory(second)
    noise = [t.metrics["score"] - t.metrics["size"] for t in first.trials]
    assert len(set(noise)) == len(noise)
    assert trajectory(search(seed=1)) != trajectory(first)


def test_any_number_of_workers_up_to_ahead_makes_the_same_trials() -> None:
    alone = search(ahead=3, trials=24)
    together = search(uneven, workers=3, trials=24)
    assert trajectory(together) == trajectory(alone)
    assert trajectory(search(trials=24)) != trajectory(alone)  # ahead=1 knows more, sooner


@pytest.mark.parametrize("stops", [(1,), (7,), (3, 4, 11)])
@pytest.mark.parametrize("ahead", [1, 3])
def test_a_search_continues_as_if_never_stopped(
    tmp_path: Path, stops: tuple[int, ...], ahead: int
) -> None:
    for stop in (*stops, 20):
        study = search(study=tmp_path / "s.db", trials=stop, ahead=ahead)
    assert trajectory(study) == trajectory(search(ahead=ahead))


def test_ctrl_c_returns_the_study_and_the_same_call_continues_it(tmp_path: Path) -> None:
    interrupt = True

    class Task:
        def describe(self) -> dict[str, Any]:
            return {}

        def evaluate(self, architecture: sn.Architecture, trial: Any) -> dict[str, float]:
            if interrupt and trial.number == 6:
                raise KeyboardInterrupt
            return noisy(architecture, trial)

    study = search(Task(), study=tmp_path / "s.db", ahead=2)
    assert "interrupted" in (study.ended or "")
    assert [t.number for t in study.trials if t.state == "running"] == [6, 7]
    interrupt = False
    assert trajectory(search(Task(), study=tmp_path / "s.db", ahead=2)) == trajectory(
        search(ahead=2)
    )


def test_finished_trials_are_not_evaluated_again(tmp_path: Path) -> None:
    evaluated: list[int] = []
    task = counting(evaluated)
    search(task, study=tmp_path / "s.db", trials=10)
    search(task, study=tmp_path / "s.db", trials=15)
    assert evaluated == list(range(15))


def test_another_search_of_the_study_reuses_what_was_evaluated(tmp_path: Path) -> None:
    evaluated: list[int] = []
    task, small = counting(evaluated), space(layers=2)
    search(task, space=small, study=tmp_path / "s.db", trials=None)
    study = search(
        task, alg.RandomSearch(), space=small, study=tmp_path / "s.db", name="random", trials=None
    )
    assert len(evaluated) == 16 and len(study) == 16
    original = {t.row: t for t in sn.Study.open(tmp_path / "s.db", "search").trials}
    for trial in study.trials:
        assert trial.reused == ("search", original[trial.row].number)
        assert trial.scores == original[trial.row].scores


def test_another_task_reuses_nothing(tmp_path: Path) -> None:
    search(lambda a: total(a), study=tmp_path / "s.db")
    study = search(lambda a: total(a) + 1, study=tmp_path / "s.db", name="other")
    assert not any(t.reused for t in study.trials)


def test_a_search_runs_once_at_a_time(tmp_path: Path) -> None:
    def task(architecture: sn.Architecture) -> float:
        search(task, study=tmp_path / "s.db")
        return 0.0

    study = search(task, study=tmp_path / "s.db", trials=1)
    assert "is running already" in (study.failed[0].reason or "")


def counting(evaluated: list[int]) -> Any:
    class Task:
        def describe(self) -> dict[str, Any]:
            return {"task": "counting"}

        def evaluate(self, architecture: sn.Architecture, trial: Any) -> dict[str, float]:
            evaluated.append(trial.number)
            return noisy(architecture, trial)

    return Task()


# --- several objectives -----------------------------------------------------------------------


def test_several_objectives_give_a_front_and_no_best() -> None:
    def task(architecture: sn.Architecture) -> dict[str, float]:
        row = np.array(architecture.row)
        return {"quality": float(row.sum()), "size": float((row**2).sum())}

    study = search(task, alg.RandomSearch(), maximize="quality", minimize="size", trials=60)
    with pytest.raises(sn.SymnasError, match=r"study\.pareto\(\)"):
        _ = study.best
    points = {t.number: (t.metrics["quality"], t.metrics["size"]) for t in study.trials}
    beaten = {
        n
        for n, (q, s) in points.items()
        if any(a >= q and b <= s and (a, b) != (q, s) for a, b in points.values())
    }
    assert {t.number for t in study.pareto()} == set(points) - beaten
    reference = {"quality": 0.0, "size": 40.0}
    assert study.hypervolume(reference) == study.hypervolume([0.0, 40.0]) > 0
    with pytest.raises(ValueError, match="size"):
        study.hypervolume({"quality": 0.0})


# --- what is shown ----------------------------------------------------------------------------


def test_a_summary_says_how_it_ended_and_what_was_found(capsys: Any) -> None:
    def task(architecture: sn.Architecture, trial: Any) -> float:
        return math.nan if trial.number == 3 else total(architecture)

    study = search(task, progress=True)
    ended, best, where = capsys.readouterr().err.splitlines()
    assert ended.startswith(
        f"20 of 20 trials, best score {study.best.metrics['score']:g}, 1 failed"
    )
    assert ended.endswith("all 20 trials are done.")
    assert best.startswith("Best: score") and "args[0].scale=" in best
    assert where == repr(study)
    search(task, progress=False)
    assert capsys.readouterr().err == ""
