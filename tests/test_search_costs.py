"""Costs in a search: as constraints and objectives, recorded for every trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from search_examples import noisy, space, total

import symnas as sn
from symnas import algorithms as alg


class RowSum(sn.CostModel):
    """The sum of the row."""

    unit = "steps"

    def measure(self, architecture: sn.Architecture) -> float:
        return total(architecture)


def search(task: Any = noisy, **options: Any) -> sn.Study:
    defaults: dict[str, Any] = {"maximize": "score", "trials": 25, "progress": False}
    return sn.search(space(), alg.RandomSearch(), task, **(defaults | options))


def test_nothing_that_breaks_a_constraint_is_proposed_and_costs_are_recorded() -> None:
    study = search(subject_to=[RowSum() <= 5, lambda a: a.row[0] != 1])
    assert all(sum(t.row) <= 5 and t.row[0] != 1 for t in study.trials)
    assert all(t.costs == {"row_sum": sum(t.row)} for t in study.trials)


def test_an_impossible_constraint_is_refused_before_the_first_trial(tmp_path: Path) -> None:
    with pytest.raises(sn.Infeasible, match="row_sum"):
        search(
            lambda a: pytest.fail("evaluated"), subject_to=[RowSum() <= -1], study=tmp_path / "s"
        )
    assert not (tmp_path / "s").exists()


def test_an_initial_architecture_must_meet_the_constraints() -> None:
    with pytest.raises(ValueError, match=r"`initial\[0\]` breaks the constraints"):
        search(subject_to=[RowSum() <= 5], initial=[[3, 3, 3, 3]])


def test_an_error_in_a_constraint_surfaces() -> None:
    def broken(architecture: sn.Architecture) -> bool:
        raise ZeroDivisionError("in the constraint")

    with pytest.raises(ZeroDivisionError):
        search(subject_to=[broken])


def test_a_cost_is_an_objective_like_a_metric() -> None:
    study = search(maximize="score", minimize=[RowSum()])
    assert study.objectives[1]["name"] == "row_sum" and study.objectives[1]["unit"] == "steps"
    assert all(t.scores == (t.metrics["score"], -t.costs["row_sum"]) for t in study.trials)


def test_a_metric_that_breaks_its_constraint_fails_the_trial() -> None:
    study = search(subject_to=[sn.metric("size") <= 6])
    assert {t.state for t in study.trials if sum(t.row) > 6} == {"failed"}
    assert {t.state for t in study.trials if sum(t.row) <= 6} == {"done"}
    assert "break" in (study.failed[0].reason or "") and study.failed[0].metrics["size"] > 6


def test_another_limit_is_another_search(tmp_path: Path) -> None:
    search(subject_to=[RowSum() <= 5], study=tmp_path / "s.db")
    with pytest.raises(sn.StudyChanged, match=r"constraints: was .*5.* is .*7"):
        search(subject_to=[RowSum() <= 7], study=tmp_path / "s.db")
    study = search(subject_to=[RowSum() <= 4], study=tmp_path / "s.db", on_change="carry")
    carried = [t for t in study.trials if t.reused]
    assert carried and all(sum(t.row) <= 4 for t in study.trials)


def test_a_reward_weighs_quality_against_costs() -> None:
    class Penalty:
        costs = (RowSum(),)

        def __call__(self, quality: float, costs: Any) -> float:
            return quality - 2 * costs["row_sum"]

        def __repr__(self) -> str:
            return "Penalty()"

    study = search(total, reward=Penalty(), trials=None)
    assert study.best.row == (0, 0, 0, 0)
    assert study.best.scores == (0.0,)
