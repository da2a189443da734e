"""`sn.sample`: the same proposals as a search, in a loop of one's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
from search_examples import space, total

import symnas as sn
from symnas import algorithms as alg

EVOLUTION = alg.RegularizedEvolution(population_size=5, tournament_size=3)


def rows(**options: Any) -> list[tuple[int, ...] | None]:
    found = []
    for architecture, feedback in sn.sample(space(), EVOLUTION, **options):
        found.append(architecture.row)
        feedback(total(architecture))
    return found


def test_a_loop_of_ones_own_proposes_what_a_search_does() -> None:
    study = sn.search(space(), EVOLUTION, total, maximize="score", trials=30, progress=False)
    assert rows(trials=30) == [t.row for t in study.trials]


def test_it_ends_with_the_space_and_begins_with_initial() -> None:
    assert len(set(rows(initial=[[3, 3, 3, 3]]))) == 256
    assert rows(initial=[[3, 3, 3, 3]], trials=2)[0] == (3, 3, 3, 3)


def test_no_feedback_is_an_error_at_the_next_round() -> None:
    sampled = sn.sample(space(), EVOLUTION, trials=3)
    next(sampled)
    with pytest.raises(sn.SymnasError, match=r"feedback\.skip"):
        next(sampled)


def test_feedback_is_checked() -> None:
    sampled = sn.sample(space(), alg.RandomSearch(), maximize="quality", minimize="size", trials=4)
    _, feedback = next(sampled)
    with pytest.raises(ValueError, match="give a dict"):
        feedback(1.0)
    with pytest.raises(ValueError, match="'size' is missing"):
        feedback({"quality": 1.0})
    feedback({"quality": 1.0, "size": 2.0})
    assert feedback.scores == [1.0, -2.0]
    with pytest.raises(ValueError, match="once"):
        feedback.skip()
    _, feedback = next(sampled)
    feedback({"quality": math.nan, "size": 2.0})
    assert all(map(math.isnan, feedback.scores or ()))


def test_a_wrong_argument_is_an_error_at_the_call() -> None:
    with pytest.raises(TypeError, match="must be an Algorithm"):
        sn.sample(space(), "random")  # type: ignore[arg-type]


def test_loops_nest_and_break_leaves_nothing_behind() -> None:
    seen = []
    for outer, feedback in sn.sample(space(2), alg.RandomSearch(), trials=3):
        best = 0.0
        for inner, inner_feedback in sn.sample(space(2), EVOLUTION, trials=50):
            inner_feedback(total(inner))
            best = max(best, total(inner))
            if best > 4:
                break
        feedback(best)
        seen.append((outer.row, best))
    assert len({row for row, _ in seen}) == 3 and all(best > 4 for _, best in seen)
