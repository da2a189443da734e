"""A study that is continued with something changed: an error, or what fits is carried over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from search_examples import Layer, noisy, space, total

import symnas as sn
from symnas import algorithms as alg

EVOLUTION = alg.RegularizedEvolution(population_size=8, tournament_size=3)


def search(path: Path, **changed: Any) -> sn.Study:
    options: dict[str, Any] = {
        "space": space(), "algorithm": EVOLUTION, "task": noisy, "maximize": "score", "trials": 12,
    }  # fmt: skip
    options |= changed
    positional = [options.pop(name) for name in ("space", "algorithm", "task")]
    return sn.search(*positional, study=path / "s.db", progress=False, **options)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"space": space(scales=(0.5, 1.0, 2.0))},
            r"space\.decisions\.args\[0\]\.scale\.labels: was ",
        ),
        (
            {"algorithm": alg.RandomSearch()},
            r"algorithm: was RegularizedEvolution\(population_size=8",
        ),
        ({"task": total}, "task.function: was noisy, is total"),
        ({"maximize": "size"}, "objectives: was "),
        ({"seed": 3}, "seed: was 0, is 3"),
        ({"ahead": 2}, "ahead: was 1, is 2"),
        ({"initial": [[0, 0, 0, 0]]}, "initial: was "),
    ],
)
def test_a_change_is_an_error_that_shows_the_difference(
    tmp_path: Path, changed: dict[str, Any], line: str
) -> None:
    search(tmp_path)
    with pytest.raises(sn.StudyChanged, match=line) as caught:
        search(tmp_path, **changed)
    assert "name=" in str(caught.value) and 'on_change="carry"' in str(caught.value)
    assert len(search(tmp_path)) == 12  # nothing was touched


def test_what_decides_nothing_may_change(tmp_path: Path) -> None:
    search(tmp_path)
    assert len(search(tmp_path, trials=14, workers=2)) == 14


def test_carry_keeps_what_fits_and_archives_the_old_search(tmp_path: Path) -> None:
    old = search(tmp_path, trials=30)
    narrower = space(scales=(1.0, 2.0, 4.0))
    fit = [t for t in old.trials if 0 not in t.row]
    study = search(tmp_path, space=narrower, on_change="carry", trials=30)
    assert study.searches == ("search (before change)", "search")
    carried = [t for t in study.trials if t.reused]
    assert 0 < len(fit) == len(carried) < 30
    for before, after in zip(fit, carried, strict=True):
        assert after.choices == before.choices and after.row != before.row
        assert after.metrics == before.metrics and after.key == before.key
        assert after.reused == ("search (before change)", before.number)
    again = search(tmp_path, space=narrower, on_change="carry", trials=30)
    assert [t.row for t in again.trials] == [t.row for t in study.trials]


def test_carry_evaluates_again_what_another_task_has_measured(tmp_path: Path) -> None:
    old = search(tmp_path)
    study = search(tmp_path, task=total, on_change="carry")
    assert [t.row for t in study.trials] == [t.row for t in old.trials]
    assert [t.metrics for t in study.trials] == [{"score": sum(t.row)} for t in old.trials]


def test_carry_evaluates_new_initial_architectures_next(tmp_path: Path) -> None:
    search(tmp_path)
    initial = [[3, 3, 3, 3], [3, 3, 3, 2]]
    study = search(tmp_path, initial=initial, on_change="carry", trials=20)
    rows = [t.row for t in study.trials]
    assert rows[12:14] == [(3, 3, 3, 3), (3, 3, 3, 2)] and len(set(rows)) == 20
    assert [t.number for t in study.trials if t.reused] == list(range(12))


def test_carry_finds_the_same_program_where_a_decision_became_a_constant(tmp_path: Path) -> None:
    old = search(tmp_path, space=mixed(sn.oneof([1.0, 2.0])), trials=None)
    study = search(tmp_path, space=mixed(2.0), on_change="carry", trials=None)
    assert len(old) == 8 and len(study) == 4
    assert all(t.reused for t in study.trials)


def mixed(scale: Any) -> sn.Space:
    first = Layer(2, scale=sn.oneof([1.0, 2.0, 3.0, 4.0]))
    return sn.Space(sn.nn.Sequential(first, sn.spec(Layer, 2, scale=scale)))


def test_a_changed_outer_value_makes_another_task(tmp_path: Path) -> None:
    def made(offset: float) -> Any:
        def task(architecture: sn.Architecture) -> float:
            return total(architecture) + offset

        return task

    search(tmp_path, task=made(1.0))
    search(tmp_path, task=made(1.0))
    with pytest.raises(sn.StudyChanged, match=r"task\.outer\.offset: was 1\.0, is 2\.0"):
        search(tmp_path, task=made(2.0))


def test_a_lambda_with_a_set_is_the_same_in_every_process():
    code = (
        "from symnas.searching.identity import describe_callable;"
        "print(describe_callable(lambda a: a in {'one', 'two', 'three', 'four', 'five'}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in range(3)
    }  # fmt: skip
    assert len(found) == 1
