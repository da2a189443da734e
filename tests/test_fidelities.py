"""Searches at several budgets: who is promoted when, what is compared, and that a kill changes nothing."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from search_examples import Layer
from search_examples import space as example_space
from symnas.algorithms.asha import ASHA
from symnas.algorithms.successive_halving import SuccessiveHalving

import symnas as sn
from symnas import algorithms as alg
from symnas.searching.problem import Problem
from symnas.testing import algorithm_laws, example_spaces
from symnas.testing.driving import drive, trajectory

FAULTS = Path(__file__).parent.parent / "benchmarks" / "faults.py"
EVOLUTION = alg.RegularizedEvolution(4, 2)
WRAPPED = {
    "halving": SuccessiveHalving(EVOLUTION, budgets=(1, 3, 9), keep=0.5, size=8),
    "ASHA": ASHA(EVOLUTION, budgets=(1, 3, 9), reduction=2),
}

# --- the laws of all algorithms ---------------------------------------------------------------

_classes = {c.__name__: c for c in (alg.RandomSearch, alg.RegularizedEvolution, alg.LocalSearch)}
_some = {n: s for n, s in example_spaces().items() if n in ("conditional", "subset", "float")}
LAWS = {
    f"{name}: {law}": check
    for name, algorithm in {
        **WRAPPED,
        "halving of local search": SuccessiveHalving(alg.LocalSearch(2), (3, 12), 1 / 3, size=6),
        "ASHA of random search": ASHA(alg.RandomSearch(), (1, 3)),
    }.items()
    for law, check in algorithm_laws(algorithm, spaces=_some, names=_classes).items()
}


@pytest.mark.parametrize("law", LAWS)
def test_law(law: str) -> None:
    LAWS[law]()


# --- promotions, by hand ----------------------------------------------------------------------


def nine() -> sn.Space:
    """One decision of nine values, which a grid search proposes in order."""
    return sn.Space(Layer(2, scale=sn.oneof([float(i) for i in range(9)])))


def promotions(
    algorithm: sn.Algorithm, scores: dict[float, list[float]], trials: int = 99, ahead: int = 1
) -> list[tuple[int, float]]:
    """Pairs (architecture, budget) in the order of proposal, with these scores at each budget."""
    study = sn.search(
        nine(),
        algorithm,
        lambda architecture, trial: scores[trial.budget][architecture.row[0]],
        maximize="score",
        trials=trials,
        ahead=ahead,
        progress=False,
    )
    return [(trial.row[0], trial.budget) for trial in study.trials]


SCORES = {
    1.0: [5, 1, 4, 9, 2, 8, 3, 7, 6],
    3.0: [1, 0, 0, 2, 0, 3, 0, 10, 0],
    9.0: [0, 0, 0, 0, 0, 1, 0, 2, 0],
}


def test_successive_halving_by_hand() -> None:
    """The best three of nine go on, in order of score; of those the best by what they have there."""
    halving = SuccessiveHalving(alg.GridSearch(), (1, 3, 9), 1 / 3, size=9)
    assert halving.sizes == (9, 3, 1)
    assert promotions(halving, SCORES) == [
        *[(i, 1) for i in range(9)],
        *[(3, 3), (5, 3), (7, 3)],  # 9, 8 and 7 after one epoch
        (7, 9),  # 10 after three
    ]


def test_a_bracket_follows_the_other_and_the_last_is_halved_as_it_is() -> None:
    halving = SuccessiveHalving(alg.GridSearch(), (1, 3), 0.5, size=4)
    assert promotions(halving, SCORES) == [
        *[(0, 1), (1, 1), (2, 1), (3, 1), (3, 3), (0, 3)],
        *[(4, 1), (5, 1), (6, 1), (7, 1), (5, 3), (7, 3)],
        *[(8, 1), (8, 3)],  # one of one, as nothing more comes
    ]


def test_a_bracket_begins_while_results_of_another_are_waited_for() -> None:
    """Two workers, and a unit of time for a unit of budget."""
    halving = SuccessiveHalving(alg.GridSearch(), (1, 3), 0.5, size=4)
    assert promotions(halving, SCORES, trials=8, ahead=2) == [
        *[(0, 1), (1, 1), (2, 1), (3, 1)],
        (4, 1),  # at time 2 architecture 3 is open: the bracket is not full yet; from 2 to 3
        (3, 3),  # now it is; from 2 to 5
        (0, 3),  # from 3 to 6
        (5, 1),  # at time 5
    ]


def test_asha_by_hand() -> None:
    """Algorithm 2: the highest rung first, in each the best of the top third not yet promoted."""
    assert promotions(ASHA(alg.GridSearch(), (1, 3, 9), 3), SCORES) == [
        *[(0, 1), (1, 1), (2, 1)],
        (0, 3),  # 5 is the best of 5, 1, 4
        (3, 1),
        (3, 3),  # 9 is the best of four
        (4, 1),
        (5, 1),
        (5, 3),  # of six, two: 9 is promoted, now 8
        (5, 9),  # 3 is the best of 1, 2, 3 at budget 3
        *[(6, 1), (7, 1), (8, 1)],
        (7, 3),  # of nine, three: 9, 8, 7
        (7, 9),  # 10 is the best of four
    ]


def test_asha_with_two_workers_by_hand() -> None:
    """Budget 4 of architecture 0 runs from time 1 to 5, while others begin and end."""
    scores = {1.0: SCORES[1.0], 4.0: SCORES[3.0]}
    study = sn.search(
        nine(),
        ASHA(alg.GridSearch(), (1, 4), 2),
        lambda architecture, trial: scores[trial.budget][architecture.row[0]],
        maximize="score",
        trials=8,
        ahead=2,
        progress=False,
    )
    assert [(t.row[0], t.budget) for t in study.trials] == [
        *[(0, 1), (1, 1)],  # from 0 to 1, on both workers
        (2, 1),  # when 0 has ended: of one, none is promoted; from 1 to 2
        (0, 4),  # when 1 has ended: the best of two; from 1 to 5
        (3, 1),  # from 2 to 3
        (3, 4),  # the best of four; from 3 to 7
        (4, 1),  # when 0 has ended at budget 4; from 5 to 6
        (5, 1),
    ]


def test_failed_trials_are_never_promoted() -> None:
    bad = {1.0: [math.nan] * 8 + [1.0], 3.0: [0.0] * 9}
    for algorithm in (
        ASHA(alg.GridSearch(), (1, 3), 2),
        SuccessiveHalving(alg.GridSearch(), (1, 3), 1 / 3, size=9),
    ):
        assert promotions(algorithm, bad) == [*[(i, 1) for i in range(9)], (8, 3)]
    bad = {1.0: SCORES[1.0], 3.0: [math.nan] * 9}
    halving = SuccessiveHalving(alg.GridSearch(), (1, 3, 9), 1 / 3, size=9)
    assert promotions(halving, bad) == [*[(i, 1) for i in range(9)], (3, 3), (5, 3), (7, 3)]


def test_of_equal_scores_the_first_is_promoted() -> None:
    equal = {1.0: [0.0] * 9, 3.0: [0.0] * 9}
    halving = SuccessiveHalving(alg.GridSearch(), (1, 3), 1 / 3, size=9)
    assert promotions(halving, equal)[9:] == [(0, 3), (1, 3), (2, 3)]
    assert promotions(ASHA(alg.GridSearch(), (1, 3), 2), equal)[:4] == [(0, 1), (1, 1), (0, 3), (2, 1)]  # fmt: skip


def test_defaults_spend_about_as_much_at_each_budget() -> None:
    random = alg.RandomSearch()
    assert SuccessiveHalving(random, (1, 3, 9, 27)).sizes == (27, 9, 3, 1)
    assert SuccessiveHalving(random, (12, 200)).sizes == (17, 1)
    assert SuccessiveHalving(random, (3, 12), 1 / 3).sizes == (3, 1)
    assert SuccessiveHalving(random, (1, 2), 0.29, size=100).sizes == (100, 29)
    assert ASHA(random, (1, 3, 9, 27)).reductions == (3, 3, 3)
    assert ASHA(random, (10, 15, 150)).reductions == (2, 10)


@pytest.mark.parametrize("wrap", [ASHA, SuccessiveHalving])
def test_one_rung_is_the_algorithm_itself(wrap: Any) -> None:
    space = example_spaces()["conditional"]
    plain, wrapped = (
        drive(problem := Problem(space, [sn.Objective("score", "maximize")]), a.start(problem), 20)
        for a in (EVOLUTION, wrap(EVOLUTION, (5,)))
    )
    assert np.array_equal(plain, wrapped)


@attrs.frozen
class Listening(sn.Algorithm):
    """Notes what it is told."""

    heard: Any = attrs.field(factory=list, eq=False)

    def start(self, problem: Problem) -> sn.Run:
        run = alg.RandomSearch().start(problem)
        tell = run.tell
        run.tell = lambda rows, scores: (  # type: ignore[method-assign]
            self.heard.append((tuple(rows[0]), scores[0, 0])),
            tell(rows, scores),
        )
        return run


@pytest.mark.parametrize("wrap", [ASHA, SuccessiveHalving])
def test_the_algorithm_is_told_each_architecture_once_at_the_lowest_budget(wrap: Any) -> None:
    listening = Listening()
    space = example_space()
    study = sn.search(
        space, wrap(listening, (1, 3)), lambda a, trial: trial.budget * sum(a.row),
        maximize="score", trials=40, ahead=3, progress=False,
    )  # fmt: skip
    expected = [(t.row, t.scores[0]) for t in study.trials if t.budget == 1]
    assert listening.heard == expected and len(expected) < 40
    pairs = {(t.key, t.budget) for t in study.trials}
    assert len(pairs) == 40 and len({key for key, _ in pairs}) == len(expected)


# --- recovery ---------------------------------------------------------------------------------


def noisy(architecture: sn.Architecture, trial: Any) -> float:
    """Differs when a trial is evaluated with another seed or budget."""
    return sum(architecture.row) + trial.budget / 10 + float(torch.rand(()))


def search(algorithm: Any, task: Any = noisy, **options: Any) -> sn.Study:
    defaults: dict[str, Any] = {"maximize": "score", "trials": 30, "progress": False}
    return sn.search(example_space(), algorithm, task, **(defaults | options))


def told(study: sn.Study) -> list[Any]:
    return [(t.number, t.row, t.budget, t.scores, t.seed) for t in study.trials]


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("ahead", [1, 4])
def test_a_search_that_is_interrupted_anywhere_continues_the_same(
    name: str, ahead: int, tmp_path: Path
) -> None:
    full = told(search(WRAPPED[name], ahead=ahead))
    assert {budget for _, _, budget, _, _ in full} == {1.0, 3.0, 9.0}
    for cut in range(0, 30, 2 if ahead == 1 else 3):

        def interrupted(architecture: sn.Architecture, trial: Any, cut: int = cut) -> float:
            if trial.number == cut and not (tmp_path / str(cut)).exists():
                (tmp_path / str(cut)).touch()
                raise KeyboardInterrupt
            return noisy(architecture, trial)

        file = tmp_path / f"{cut}.db"
        search(WRAPPED[name], interrupted, ahead=ahead, study=file)
        assert told(search(WRAPPED[name], interrupted, ahead=ahead, study=file)) == full, cut


def test_any_number_of_workers_makes_the_same_trials(tmp_path: Path) -> None:
    one = search(WRAPPED["ASHA"], ahead=3, trials=24)
    many = search(WRAPPED["ASHA"], ahead=3, trials=24, workers=3, study=tmp_path / "s.db")
    assert told(one) == told(many)


def test_kills_lose_repeat_and_change_nothing() -> None:
    options = ["--only", "driver", "--rounds", "3", "--algorithm", "asha"]
    run = subprocess.run([sys.executable, str(FAULTS), *options], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "driver killed" in run.stdout


def test_a_short_trial_does_not_wait_for_a_long_one() -> None:
    """Four workers, a long trial that never ends until 20 short ones have: in order of proposal
    only three more could begin before it."""
    problem = Problem(example_space(), [sn.Objective("score", "maximize")])
    algorithm = ASHA(alg.RandomSearch(), (1, 1000), 4)
    made = trajectory(problem, algorithm.start(problem), 40, ahead=4)
    longs = [i for i, budget in enumerate(made.budgets) if budget == 1000]
    assert longs[0] < 12 and len(longs) < 12
    assert made.budgets[longs[0] + 1 : longs[0] + 4].count(1) > 1


# --- what is compared and shown ---------------------------------------------------------------


def halved(**options: Any) -> sn.Study:
    """Scores fall with the budget, so that a comparison across budgets would take a wrong one."""
    halving = SuccessiveHalving(alg.RandomSearch(), (3, 12), 1 / 3, size=9)
    return search(halving, lambda a, trial: sum(a.row) - trial.budget, trials=12, **options)


def test_best_is_of_the_highest_budget() -> None:
    study = halved()
    best = study.best
    assert best.budget == 12 and best.number == 9
    assert best.scores[0] == max(t.scores[0] for t in study.trials if t.budget == 12)
    assert best.scores[0] < max(t.scores[0] for t in study.trials)
    assert study.spent == 9 * 3 + 3 * 12
    frame = study.frame()
    assert list(frame.columns[:3]) == ["number", "state", "budget"]
    assert frame["budget"].tolist() == [3.0] * 9 + [12.0] * 3


def test_before_any_promotion_the_lowest_budget_is_the_highest() -> None:
    study = search(WRAPPED["halving"], trials=5)
    assert study.best.budget == 1 and study.spent == 5


def test_the_front_is_of_the_highest_budget() -> None:
    study = halved()
    assert {(t.budget, t.scores) for t in study.pareto()} == {(12.0, study.best.scores)}
    assert study.hypervolume({"score": -100.0}) == pytest.approx(study.best.scores[0] + 100)


def test_without_budgets_nothing_is_different() -> None:
    study = search(EVOLUTION, lambda a: sum(a.row), trials=6)
    assert study.spent is None and "budget" not in study.frame()
    assert study.best.budget is None


def test_progress_names_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    study = halved(progress=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "12 of 12 trials, 63 budget spent, best score" in said
    assert f"at budget 12, trial {study.best.number}:" in said


def test_a_report_has_budgets_and_compares_the_highest(tmp_path: Path) -> None:
    from symnas.reports import content, plots

    study = halved()
    found = content.content(study)
    assert found.data["trials"]["budget"] == [3] * 9 + [12] * 3
    assert found.data["best"] == study.best.number
    assert "at budgets that sum to 63" in found.summary
    assert f"The best of those at budget 12 is trial {study.best.number}" in found.summary
    # Associations are over architectures, each once.
    assert all(sum(entry["counts"]) == 9 for entry in found.data["associations"])
    assert study.report(tmp_path / "page.html").stat().st_size > 1000
    line = plots.progress(study).lines[0].get_ydata()
    assert max(line) == study.best.metrics["score"]


# --- several searches, initial architectures, changes -----------------------------------------


def test_results_are_reused_at_the_same_budget_only(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    first = search(WRAPPED["ASHA"], study=file, name="first")
    known = {(t.key, t.budget) for t in first.trials}
    second = search(ASHA(EVOLUTION, (1, 3), 2), study=file, name="second")
    for trial in second.trials:
        assert (trial.reused is not None) == ((trial.key, trial.budget) in known)
    assert any(trial.reused for trial in second.trials)
    assert second.spent == sum(t.budget for t in second.trials if not t.reused)
    plain = search(EVOLUTION, lambda a, trial: trial.budget or 0.0, study=file, name="plain")
    assert not any(trial.reused for trial in plain.trials)


def test_initial_architectures_begin_at_the_lowest_budget() -> None:
    best = [3, 3, 3, 3]
    study = search(ASHA(EVOLUTION, (1, 3), 2), initial=[best, [0, 0, 0, 0]], trials=4)
    assert [(list(t.row), t.budget) for t in study.trials[:2]] == [(best, 1), ([0, 0, 0, 0], 1)]
    assert (list(study.trials[2].row), study.trials[2].budget) == (best, 3)


def test_another_algorithm_carries_what_was_measured_at_its_budgets(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    before = search(WRAPPED["ASHA"], study=file)
    with pytest.raises(sn.StudyChanged, match="algorithm"):
        search(WRAPPED["halving"], study=file)
    # The same budgets: everything is kept, and the brackets go on from it.
    kept = search(WRAPPED["halving"], study=file, trials=40, on_change="carry")
    assert [(t.row, t.budget, t.scores) for t in kept.trials[:30]] == [
        (t.row, t.budget, t.scores) for t in before.trials
    ]
    assert len({(t.key, t.budget) for t in kept.trials}) == 40
    # Without budgets: architectures are evaluated again, each once.
    plain = search(EVOLUTION, lambda a, trial: sum(a.row), study=file, trials=40, on_change="carry")
    assert {t.budget for t in plain.trials} == {None} and not any(t.reused for t in plain.trials)
    assert len({t.key for t in plain.trials}) == 40
    # And from no budgets to budgets.
    again = search(ASHA(EVOLUTION, (2, 4), 2), lambda a, trial: sum(a.row), study=file, trials=70,
                   on_change="carry")  # fmt: skip
    assert [t.budget for t in again.trials[:40]] == [2.0] * 40 and 4.0 in {
        t.budget for t in again.trials
    }


def test_other_budgets_carry_the_results_that_they_share(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    before = search(ASHA(EVOLUTION, (1, 3), 2), study=file)
    shared = [(t.row, t.scores) for t in before.trials if t.budget == 3]
    after = search(ASHA(EVOLUTION, (3, 9), 2), study=file, trials=50, on_change="carry")
    assert [(t.row, t.scores) for t in after.trials if t.reused] == shared
    assert len({(t.key, t.budget) for t in after.trials}) == 50
    assert {t.budget for t in after.trials} == {3.0, 9.0}


def test_a_loop_of_ones_own_is_told_the_budget() -> None:
    seen = []
    for architecture, feedback in sn.sample(
        nine(), ASHA(alg.GridSearch(), (1, 3, 9), 3), trials=15
    ):
        assert architecture.row is not None
        seen.append((architecture.row[0], feedback.budget))
        feedback(SCORES[feedback.budget][architecture.row[0]])
    assert seen == promotions(ASHA(alg.GridSearch(), (1, 3, 9), 3), SCORES)


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: ASHA(r, (3, 3)), r"`budgets` \(\(3, 3\)\) must increase; 3 comes after 3"),
        (lambda r: ASHA(r, (9, 3)), "must increase; 3 comes after 9"),
        (lambda r: ASHA(r, ()), "must be a tuple of numbers"),
        (lambda r: ASHA(r, 12), "must be a tuple of numbers"),
        (lambda r: ASHA(r, (0, 3)), "finite numbers above 0; 0 is none"),
        (lambda r: ASHA(r, (1, math.inf)), "finite numbers above 0; inf is none"),
        (lambda r: ASHA(r, (1, math.nan)), "finite numbers above 0; nan is none"),
        (lambda r: ASHA(r, ("1", "3")), "finite numbers above 0; '1' is none"),
        (lambda r: ASHA(r, (1, 3), 1), r"`reduction` \(1\) must be at least 2"),
        (lambda r: ASHA(r, (1, 3), 2.5), r"`reduction` \(2.5\) must be a whole number or None"),
        (lambda r: ASHA(alg.RandomSearch, (1, 3)), "must be an algorithm, such as"),
        (lambda r: ASHA(ASHA(r, (1, 3)), (3, 9)), "has budgets of its own"),
        (lambda r: ASHA(alg.TuNAS(), (1, 3)), "trains one supernet"),
        (lambda r: SuccessiveHalving(r, (1, 3), 1.0), r"`keep` \(1.0\) must be between 0 and 1"),
        (lambda r: SuccessiveHalving(r, (1, 3), 0), r"`keep` \(0\) must be between 0 and 1"),
        (lambda r: SuccessiveHalving(r, (1, 3), size=2), r"of `size` \(2\) architectures none"),
        (lambda r: SuccessiveHalving(r, (1, 3), size=0), r"`size` \(0\) must be at least 1"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make(alg.RandomSearch())


def test_what_cannot_be_done_is_refused() -> None:
    wrapped = WRAPPED["ASHA"]
    with pytest.raises(ValueError, match="ASHA improves one objective; 2 are given"):
        search(wrapped, maximize=["score", "other"])
    with pytest.raises(ValueError, match=r"sn\.sample: feedback\.budget"):
        wrapped.as_dna_generator()


# --- a real task ------------------------------------------------------------------------------


def test_a_task_trains_for_the_budget_in_epochs(tmp_path: Path) -> None:
    x = torch.randn(80, 2, generator=torch.Generator().manual_seed(0))
    task = sn.Task((x, (x[:, 0] > 0).long()), epochs=7, batch_size=20, lr=0.05, device="cpu",
                   keep_weights=True)  # fmt: skip
    space = sn.Space(
        sn.nn.Sequential(
            sn.nn.Linear(2, width := sn.oneof([2, 4, 8])), sn.oneof([sn.nn.ReLU(), sn.nn.Tanh()]),
            sn.nn.Linear(width, 2),
        ),
        input=(2,),
    )  # fmt: skip
    study = sn.search(
        space, SuccessiveHalving(alg.RandomSearch(), (1, 3), 1 / 3, size=6), task,
        maximize="accuracy", study=tmp_path / "s.db", progress=False,
    )  # fmt: skip
    assert [t.budget for t in study.trials] == [1.0] * 6 + [3.0] * 2
    assert all(t.metrics["epochs"] == t.budget for t in study.trials)
    assert [len(t.reports) for t in study.trials] == [1] * 6 + [3] * 2
    assert study.best.budget == 3 and study.spent == 12
    assert study.best.model() is not None  # its weights are those of three epochs
    assert study.ended == "space exhausted: all 6 architectures that can be proposed have been"
    opened = sn.Study.open(tmp_path / "s.db")
    assert opened.best.number == study.best.number
    assert opened.report(tmp_path / "page.html").exists()
