"""PyGlove's algorithms here, and ours in `pg.sample`."""

from __future__ import annotations

import warnings

import numpy as np
import pyglove as pg
import pytest

import symnas as sn
from symnas import algorithms as alg
from symnas.testing import example_scores
from symnas.testing.driving import drive


def evolution(seed=1, population_size=5):
    # Its own `seed` does not reach the default mutator.
    mutator = pg.evolution.mutators.Uniform(seed=seed)
    return pg.evolution.regularized_evolution(mutator, population_size, 2, seed=seed)


def value():
    return pg.Dict(
        width=pg.oneof([8, 16]),
        block=pg.oneof(["skip", pg.Dict(kernel=pg.oneof([3, 5, 7]), rate=pg.floatv(0.1, 0.9))]),
        heads=pg.manyof(2, ["a", "b", "c", "d"], sorted=True),
        order=pg.permutate([1, 2, 3]),
        picks=pg.manyof(2, ["x", pg.oneof([1, 2])], distinct=False),
    )


def problem(space, seed=0, **kwargs):
    return sn.Problem(space, [sn.Objective("score", "maximize")], seed=seed, **kwargs)


@pytest.mark.parametrize("generator", [pg.geno.Random(seed=3), evolution(), pg.geno.Sweeping()])
def test_same_proposals_as_in_pyglove(generator):
    """Up to its first duplicate, a generator does here what it does in `pg.sample`."""
    space = sn.Space(value())
    known, expected = set(), []
    own = generator.clone(deep=True)
    own.setup(space.dna_spec())
    for _ in range(15):
        dna = own.propose()
        row = space.from_dna(dna)
        if row.tobytes() in known:
            break
        known.add(row.tobytes())
        expected.append(row)
        own.feedback(dna, float(example_scores(row[None])[0, 0]))
    assert len(expected) > 5
    task = problem(space)
    rows = drive(task, alg.PyGlove(generator).start(task), len(expected))
    assert np.array_equal(rows, expected)


def test_a_duplicate_is_fed_its_stored_score():
    fed = []

    class Stubborn(pg.DNAGenerator):
        def _setup(self):
            self._proposed = 0

        def _propose(self):
            self._proposed += 1
            return pg.DNA([self._proposed // 4, 0], spec=self.dna_spec)

        def _feedback(self, dna, reward):
            fed.append((dna.to_numbers(), reward))

    space = sn.Space(pg.List([pg.oneof([1, 2, 3]), pg.oneof([4, 5])]))
    task = problem(space)
    rows = drive(task, alg.PyGlove(Stubborn()).start(task), 2, score=lambda row: row[:, :1] + 0.5)
    assert rows.tolist() == [[0, 0], [1, 0]]
    assert fed == [([0, 0], 0.5)] * 3


def test_failed_trials_are_not_fed():
    fed = []

    @pg.members([])
    class Counting(pg.geno.Random):
        seed = 1

        def _feedback(self, dna, reward):
            fed.append(reward)

    task = problem(sn.Space(value()))
    scores = iter([0.5, np.nan, -np.inf, 0.25])
    run = alg.PyGlove(Counting()).start(task)
    drive(task, run, 4, score=lambda row: np.full((1, 1), next(scores)))
    run.ask(1)
    assert fed == [0.5, 0.25]


def test_the_end_is_clear():
    @pg.geno.dna_generator
    def always_the_same(dna_spec):
        while True:
            yield pg.DNA(0, spec=dna_spec)

    space = sn.Space(pg.oneof([1, 2, 3]))
    task = problem(space)
    run = alg.PyGlove(always_the_same(), max_attempts=5).start(task)
    with pytest.warns(UserWarning, match="proposed only architectures that are known or infeas"):
        assert len(drive(task, run, 3)) == 1
    with warnings.catch_warnings():  # but everything proposed is no reason to warn
        warnings.simplefilter("error")
        task = problem(space)
        run = alg.PyGlove(pg.geno.Random(seed=1), max_attempts=50).start(task)
        assert len(drive(task, run, 10)) == 3


def test_the_generator_is_copied():
    generator = evolution()
    algorithm = alg.PyGlove(generator)
    first, second = problem(sn.Space(value())), problem(sn.Space(value()))
    rows = drive(first, algorithm.start(first), 8)
    assert np.array_equal(rows, drive(second, algorithm.start(second), 8))
    assert generator.dna_spec is None
    assert algorithm == alg.PyGlove(evolution()) != alg.PyGlove(evolution(seed=2))
    assert alg.PyGlove(pg.geno.Deduping(evolution())) == algorithm


def test_errors():
    with pytest.raises(TypeError, match=r"`generator` \(7\) must be a pg.DNAGenerator"):
        alg.PyGlove(7)
    two = sn.Problem(
        sn.Space(value()), [sn.Objective("a", "maximize"), sn.Objective("b", "minimize")]
    )
    with pytest.raises(ValueError, match=r"2 objectives, but `generator` .* takes one"):
        alg.PyGlove(evolution()).start(two)
    nsga2 = pg.evolution.nsga2(mutator=pg.evolution.mutators.Uniform(seed=1))
    assert len(alg.PyGlove(nsga2).start(two).ask(1)) == 1


# Ours in PyGlove ------------------------------------------------------------------------------

OURS = [alg.RandomSearch(), alg.RegularizedEvolution(6, 3), alg.LocalSearch(3)]


@pytest.mark.parametrize("algorithm", OURS, ids=lambda a: type(a).__name__)
def test_in_pg_sample(algorithm):
    found = []
    for example, feedback in pg.sample(value(), algorithm.as_dna_generator(seed=1), 25):
        assert set(example) == {"width", "block", "heads", "order", "picks"}
        found.append(pg.hash(example))
        feedback(float(example.width))
    assert len(found) == 25 == len(set(found))


def test_nothing_twice_and_an_end():
    space = pg.Dict(x=pg.oneof([1, 2, 3]), y=pg.manyof(2, ["a", "b", "c"]))
    found = []
    for example, feedback in pg.sample(space, alg.RandomSearch().as_dna_generator(), 100):
        found.append((example.x, *example.y))
        feedback(1.0)
    assert len(found) == 18 == len(set(found))


def test_feedback_arrives():
    space = pg.List([pg.oneof([0, 1, 2, 3, 4, 5, 6]) for _ in range(3)])
    mean = []
    for algorithm in (alg.RandomSearch(), alg.LocalSearch(1)):
        rewards = []
        for example, feedback in pg.sample(space, algorithm.as_dna_generator(seed=1), 40):
            rewards.append(float(sum(example)))
            feedback(rewards[-1])
        mean.append(np.mean(rewards))
    assert mean[1] > mean[0] + 2


def test_several_objectives():
    space = pg.Dict(x=pg.oneof([1, 2, 3]), y=pg.oneof([1, 2]))
    n = 0
    generator = alg.RandomSearch().as_dna_generator()
    for example, feedback in pg.sample(space, generator, 4, metrics_to_optimize=["a", "b"]):
        feedback(metrics={"a": float(example.x), "b": float(example.y)})
        n += 1
    assert n == 4


def test_recovered_by_pyglove():
    spec = pg.dna_spec(value())
    first = alg.RegularizedEvolution(4, 2).as_dna_generator(seed=5)
    first.setup(spec)
    history = []
    for i in range(12):
        history.append((first.propose(), float(i % 5)))
        first.feedback(*history[-1])
    again = alg.RegularizedEvolution(4, 2).as_dna_generator(seed=5)
    again.setup(spec)
    again.recover([(dna.clone(deep=True), reward) for dna, reward in history])
    assert [first.propose() for _ in range(3)] == [again.propose() for _ in range(3)]


def test_custom_decisions_are_refused():
    class Custom(pg.hyper.CustomHyper):
        def custom_decode(self, dna):
            return dna.value

    with pytest.raises(sn.DeclarationError, match="custom decision"):
        alg.RandomSearch().as_dna_generator().setup(pg.dna_spec(pg.Dict(x=Custom())))
