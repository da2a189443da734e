"""Optuna's samplers as algorithms: the laws, what the sampler is told, and its value."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import optuna
import pytest
from symnas.algorithms.optuna import Optuna

import symnas as sn
from symnas.searching.samplers import Sampler
from symnas.searching.suggesting import Suggesting
from symnas.testing import algorithm_laws, example_spaces
from symnas.testing.driving import drive, example_scores

samplers = optuna.samplers
SPACES = example_spaces()
FEW = {name: SPACES[name] for name in ("conditional", "float")}
NAMES = {kind.__name__: kind for kind in (samplers.NSGAIISampler, samplers.RandomSampler)}
LAWS = {
    f"{type(sampler).__name__}: {law}": check
    for sampler, spaces, trials in (
        (samplers.RandomSampler(), SPACES, 12),
        (samplers.NSGAIISampler(population_size=4), FEW, 12),
    )
    for law, check in algorithm_laws(
        Optuna(sampler, max_attempts=4), spaces=spaces, trials=trials, names=NAMES
    ).items()
}
# Recovery, which TPE makes hardest: it knows open trials and keeps notes of its own.
TPE = algorithm_laws(
    Optuna(samplers.TPESampler(n_startup_trials=3), max_attempts=3),
    spaces={"conditional": SPACES["conditional"]}, trials=8, names=None,
)  # fmt: skip
LAWS |= {f"TPE: {law}": TPE[law] for law in ("recovered by telling", "recovered with open trials")}


@pytest.mark.parametrize("law", LAWS)
def test_law(law):
    LAWS[law]()


def problem(space, seed=0, n=1, constraints=None):
    objectives = [sn.Objective(f"o{i}", "maximize") for i in range(n)]
    return sn.Problem(space, objectives, constraints, seed)


# The same proposals as Optuna by itself --------------------------------------------------------


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2"])
def test_it_proposes_what_optuna_does(name):
    """Nothing is between the sampler and the search but stored scores, of what came before."""
    sampler = {
        "random": samplers.RandomSampler(),
        "tpe": samplers.TPESampler(n_startup_trials=4),
        "nsga2": samplers.NSGAIISampler(population_size=5),
    }[name]
    space = sn.Space({"x": sn.floatv(1e-4, 1.0, scale="log"), "y": sn.floatv(-1.0, 1.0)})
    task = problem(space, seed=5, n=2)

    def score(rows):
        x, y = rows[:, 0] / 2**20, rows[:, 1] / 2**20
        return np.stack([-((x - 0.3) ** 2) - y, y - x * y], axis=1)

    rows = drive(task, Optuna(sampler).start(task), 16, score=score)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=Sampler.of(sampler).seeded(5), directions=["maximize", "maximize"]
    )
    proposed = []
    while len(proposed) < 16:
        trial = study.ask()
        shares = [trial.suggest_float(name, 0.0, 1.0) for name in ("x", "y")]
        row = [round(share * (2**20 - 1)) for share in shares]
        study.tell(trial, score(np.array([row]))[0].tolist())
        if row not in proposed:
            proposed.append(row)
    assert rows.tolist() == proposed


@pytest.mark.parametrize("kind", SPACES)
def test_rows_are_suggested_and_told_alike(kind):
    """What a row's parameters are, a fixed trial suggests as the same row."""
    space = SPACES[kind]
    suggesting = Suggesting(space)
    for row in space.sample(30, seed=2).tolist():
        params, distributions = suggesting.parameters(row)
        assert params.keys() == distributions.keys()
        assert set(params) == {i for i, value in zip(space.columns, row, strict=True) if value >= 0}
        assert suggesting.row(optuna.trial.FixedTrial(params)) == row


def test_picks_that_repeat_become_others():
    picks = sn.manyof(2, list("abcd"), distinct=False, sorted=True)
    space = sn.Space({"picks": picks, "order": sn.permutate(list("abc"))})
    suggested = dict(zip(space.columns, ["c", "b", "b", "b", "b"], strict=True))
    row = Suggesting(space).row(optuna.trial.FixedTrial(suggested))
    assert row == [1, 2, 1, 2, 0] and space.is_row(row)


# What the sampler is told ----------------------------------------------------------------------


class Listening(samplers.BaseSampler):
    """Suggests the first candidate, or the next ones after some repetitions; hears everything."""

    heard: list = []

    def __init__(self, repetitions=0):
        self.repetitions = repetitions

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        choices = param_distribution.choices
        return choices[(trial.number // (1 + self.repetitions)) % len(choices)]

    def after_trial(self, study, trial, state, values):
        self.heard.append((trial.number, state.name, values))


LETTERS = sn.Space(sn.oneof(list("abcdef")))


@pytest.fixture
def heard():
    Listening.heard.clear()
    return Listening.heard


def test_repetitions_are_told_their_score(heard):
    task = problem(LETTERS)
    rows = drive(task, Optuna(Listening(2)).start(task), 3, score=lambda row: row[:, :1] * 10.0)
    assert rows[:, 0].tolist() == [0, 1, 2]
    assert heard == [
        (0, "COMPLETE", [0.0]), (1, "COMPLETE", [0.0]), (2, "COMPLETE", [0.0]),
        (3, "COMPLETE", [10.0]), (4, "COMPLETE", [10.0]), (5, "COMPLETE", [10.0]),
    ]  # fmt: skip


def test_infeasible_ones_are_pruned_and_failures_failed(heard):
    space = sn.Space(LETTERS.program, valid=lambda a: a.row[0] not in (0, 3))
    task = problem(space)
    score = iter([[[1.0]], [[np.nan]], [[2.0]]])
    rows = drive(
        task, Optuna(Listening()).start(task), 4, score=lambda row: np.array(next(score, [[0.0]]))
    )
    assert rows[:, 0].tolist() == [1, 2, 4, 5]
    assert heard[:5] == [
        (0, "PRUNED", None), (1, "COMPLETE", [1.0]), (2, "FAIL", None),
        (3, "PRUNED", None), (4, "COMPLETE", [2.0]),
    ]  # fmt: skip


def test_after_too_many_attempts_another_one_is_evaluated(heard):
    task = problem(LETTERS)
    run = Optuna(Listening(10**6), max_attempts=3).start(task)
    rows = drive(task, run, 10, score=lambda row: row[:, :1] * 10.0)
    assert sorted(rows[:, 0].tolist()) == list(range(6)), "all of the space, each once"
    # Trial 0, two repetitions and the turn that another one took, which was added in between.
    assert [told[1:] for told in heard[:4]] == [
        ("COMPLETE", [0.0]), ("COMPLETE", [0.0]), ("COMPLETE", [0.0]), ("FAIL", None),
    ]  # fmt: skip


def test_strangers_are_of_the_generation_whose_turn_they_took():
    """NSGA-II knows trials by its notes: given rows count as members of its population."""
    space = sn.Space({"x": sn.floatv(0.0, 1.0), "y": sn.floatv(0.0, 1.0)})
    task = problem(space, n=2)
    run = Optuna(samplers.NSGAIISampler(population_size=4)).start(task)
    given = space.sample(4, seed=3)
    drive(task, run, 5, before=list(given), score=lambda row: row / 2**20)
    run.ask(1)  # what was told is passed on when the next is asked for
    study = run._replicas.of(0)._study
    notes = [t.system_attrs for t in study.get_trials(states=[optuna.trial.TrialState.COMPLETE])]
    generations = [v for note in notes for k, v in note.items() if k.endswith("generation")]
    assert generations == [0, 0, 0, 0, 1]


def test_initial_rows_are_recovered():
    for ahead in (1, 3):
        for name in ("conditional", "float"):
            space = SPACES[name]
            algorithm = Optuna(samplers.NSGAIISampler(population_size=3), max_attempts=3)
            given = list(space.sample(2, seed=11))
            task = problem(space, n=2)
            score = lambda row: example_scores(row, 2)  # noqa: E731
            full = drive(task, algorithm.start(task), 12, ahead=ahead, before=given, score=score)
            for cut in (4, 9):
                task = problem(space, n=2)
                before = list(full[:cut])
                again = drive(
                    task, algorithm.start(task), 12, ahead=ahead, before=before, score=score
                )
                assert np.array_equal(full, again)


def test_tight_constraints_are_kept():
    from symnas import cost_models as cm

    space = sn.Space(
        sn.nn.Sequential(
            sn.nn.Linear(8, sn.oneof([8, 16, 32, 64], name="a")),
            sn.nn.LazyLinear(sn.oneof([4, 8, 16, 32, 64], name="b")),
        ),
        input=(8,),
    )
    limit = sn.Constraints.of(cm.Parameters() <= 150).bind(space)
    every = np.concatenate(list(space.enumerate()))
    allowed = int(limit.mask(every).sum())
    assert allowed == 2
    task = problem(space, constraints=limit)
    rows = drive(task, Optuna(max_attempts=3).start(task), 10, score=lambda row: row[:, :1] * 1.0)
    assert len(rows) == allowed and limit.mask(rows).all()


# The value -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: None, "TPESampler()"),
        (lambda: samplers.TPESampler(seed=3), "TPESampler()"),
        (lambda: samplers.TPESampler(multivariate=True), "TPESampler(multivariate=True)"),
        (lambda: samplers.NSGAIISampler(mutation_prob=0.2), "NSGAIISampler(settings='"),
        (lambda: samplers.NSGAIISampler(population_size=9), "NSGAIISampler(population_size=9)"),
        (lambda: samplers.TPESampler(constraints_func=lambda t: [0.0]), "TPESampler(settings='"),
    ],
)
def test_samplers_print_and_compare(make, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two, other = Optuna(make()), Optuna(make()), Optuna(make(), max_attempts=3)
    assert repr(one).startswith(f"Optuna(sampler={text}")
    assert one == two and hash(one) == hash(two)
    assert one != other
    assert one != Optuna(samplers.TPESampler(n_startup_trials=7))


def test_settings_that_do_not_print_still_differ():
    one = samplers.NSGAIISampler(mutation_prob=0.2)
    assert Optuna(one) != Optuna(samplers.NSGAIISampler(mutation_prob=0.3))


def test_a_sampler_is_copied_and_its_seed_unused():
    given = samplers.TPESampler(seed=1, n_startup_trials=2)
    space = SPACES["float"]
    runs = []
    for sampler in (given, samplers.TPESampler(seed=2, n_startup_trials=2), given):
        task = problem(space, seed=4)
        runs.append(drive(task, Optuna(sampler).start(task), 8))
    assert np.array_equal(runs[0], runs[1]) and np.array_equal(runs[0], runs[2])
    assert given._rng._rng is not None and given._rng.rng.get_state()[2] == 624, "as seeded"


@pytest.mark.parametrize("kind", ["QMCSampler", "CmaEsSampler", "GPSampler", "NSGAIIISampler"])
def test_every_random_state_is_seeded(kind):
    if kind == "CmaEsSampler":
        pytest.importorskip("cmaes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = [Sampler.of(getattr(samplers, kind)()) for _ in range(2)]

    def states(seed, which):
        from symnas.searching.samplers import _parts

        found = [value for _, _, value in _parts(frozen[which].seeded(seed))]
        return [value if isinstance(value, int) else value.rng.randint(2**31) for value in found]

    assert states(1, 0) == states(1, 1) and len(set(states(1, 0))) == len(states(1, 0)) > 0
    assert not set(states(1, 0)) & set(states(2, 0))


def test_what_is_no_sampler_is_refused():
    with pytest.raises(TypeError, match=r"`sampler` \(3\) must be one of optuna.samplers"):
        Optuna(3)
    with pytest.raises(TypeError, match=r"such as optuna.samplers.TPESampler"):
        Optuna(samplers.TPESampler)
    with pytest.raises(ValueError, match=r"`max_attempts` \(0\) must be at least 1"):
        Optuna(max_attempts=0)


def test_without_optuna_the_extra_is_named():
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "from symnas.algorithms.optuna import Optuna\n"
        "Optuna()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtra" in done.stderr and "pip install 'symnas[optuna]'" in done.stderr


def test_a_study_goes_on_where_it_was(tmp_path):
    space = SPACES["conditional"]
    algorithm = Optuna(samplers.NSGAIISampler(population_size=4), max_attempts=3)

    def search(name, trials):
        return sn.search(
            space, algorithm, lambda a: {"q": float(example_scores(np.array([a.row]))[0, 0])},
            maximize="q", trials=trials, study=tmp_path / "study.db", name=name, progress=False,
        )  # fmt: skip

    search("parts", 5)
    parts, whole = search("parts", 12), search("whole", 12)
    assert [t.choices for t in parts.trials] == [t.choices for t in whole.trials]
