"""Policies over rows, and the two searches by policy gradients, against enumeration and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from symnas.algorithms.ppo import PPO, _Proximal
from symnas.algorithms.reinforce import Reinforce, _Williams

import symnas as sn
from symnas.errors import SymnasError
from symnas.searching.policies import Autoregressive, Factorised
from symnas.searching.policies.drawing import draw
from symnas.searching.policies.learning import Batch, Learner
from symnas.searching.policies.rejection import objective
from symnas.searching.policies.run import MOST_STEPS, PolicyRun
from symnas.testing import algorithm_laws, example_spaces
from symnas.testing.driving import Allowed, ExampleCost, drive
from symnas.testing.examples import example_scores

SPACES = {
    **example_spaces(),
    "distinct": sn.Space([sn.oneof([0, 1]), sn.manyof(2, [sn.oneof([1, 2, 3]), "b", "c", "d"])]),
    "multiset": sn.Space(sn.manyof(3, ["a", "b", "c"], distinct=False, sorted=True)),
    # So many subsets that each pick is a decision.
    "subsets": sn.Space(sn.manyof(5, list("abcdefghijklmnop"), sorted=True)),
}
DISCRETE = [name for name in SPACES if name not in ("float", "subsets")]


def made(kind, space, seed=1, spread=0.7, **options):
    """A policy that is not even."""
    policy = (
        Factorised(space, **options)
        if kind == "factorised"
        else Autoregressive(space, width=6, **options)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(spread * noise)
    return policy


def every(space):
    return np.concatenate(list(space.enumerate(levels=None)))


def problem(space, constraints=None, seed=0):
    return sn.Problem(space, [sn.Objective("score", "maximize")], constraints, seed)


def gradient(value, policy):
    found = torch.autograd.grad(value, list(policy.parameters()), allow_unused=True)
    zeros = [torch.zeros_like(p) for p in policy.parameters()]
    parts = [z if f is None else f for f, z in zip(found, zeros, strict=True)]
    return torch.cat([part.flatten() for part in parts])


# Policies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["factorised", "autoregressive"])
@pytest.mark.parametrize("name", DISCRETE)
def test_a_policy_is_a_distribution_and_is_drawn_from(kind, name):
    space = SPACES[name]
    rows = every(space)
    policy = made(kind, space)
    log, entropy = policy.evaluate(rows)
    p = log.exp().detach()
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-12)
    # The chain rule: entropies of decisions along rows have the entropy of rows as their mean.
    assert float((p * entropy).sum().detach()) == pytest.approx(
        float(-(p * log).sum().detach()), abs=1e-12
    )
    drawn = policy.sample(4000, seed=2)
    assert np.array_equal(drawn, policy.sample(4000, seed=2))
    keys = {row.tobytes(): i for i, row in enumerate(rows)}
    counts = np.bincount([keys[row.tobytes()] for row in drawn], minlength=len(rows))
    z = (counts - 4000 * p.numpy()) / np.sqrt(4000 * p.numpy() * (1 - p.numpy()) + 1e-12)
    assert np.abs(z).max() < 4.5
    assert float(policy.entropy(4000).detach()) == pytest.approx(
        float((p * entropy).sum().detach()), rel=0.1
    )


@pytest.mark.parametrize("name", ["permutation", "subset", "multiset", "subsets"])
def test_an_even_policy_makes_all_results_of_a_manyof_equally_likely(name):
    space = SPACES[name]
    log = Factorised(space).log_prob(every(space))
    assert log.exp().tolist() == pytest.approx([1 / space.size] * space.size)


def test_the_two_ways_of_a_factorised_policy_agree():
    """All decisions at once, and one by one."""
    for name in ("flat", "conditional", "repeated", "picks"):
        policy = made("factorised", SPACES[name], temperature=1.5, tanh_constant=2.0)
        rows = every(SPACES[name])
        fast, slow = policy.evaluate(rows), super(Factorised, policy)._walk(rows, None)
        for one, other in zip(fast, slow, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["factorised", "autoregressive"])
def test_floats_are_levels_on_their_scale(kind):
    space = SPACES["float"]
    policy = made(kind, space, levels=7)
    column = next(i for i, d in enumerate(space.decisions) if d.kind == "float")
    step = next(s for s in policy.steps if s.column == column)
    size = space.decisions[column].size
    grid = np.zeros((21, 2), np.int32)
    for i in range(21):
        level, op = divmod(i, 3)
        grid[i, column], grid[i, 1 - column] = (level + 0.5) * size / 7, op
    assert float(policy.log_prob(grid).exp().sum().detach()) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    for level in range(7):
        values = step.drawn(np.full(500, level), rng)
        assert (step.outcomes(values) == level).all() and len(set(values.tolist())) > 400
    assert step.outcomes(np.array([0, size - 1], np.int32)).tolist() == [0, 6]
    rows = policy.sample(300, seed=1)
    assert all(space.is_row(row) for row in rows)


def test_temperature_and_tanh():
    space = sn.Space(sn.oneof([1, 2]))
    rows = np.array([[0], [1]], np.int32)
    for options, bound in (
        ({}, 9.0),
        ({"temperature": 3.0}, 3.0),
        ({"temperature": 3.0, "tanh_constant": 1.5}, 1.5 * np.tanh(3.0)),
    ):
        policy = Factorised(space, **options)
        with torch.no_grad():
            policy.values.copy_(torch.tensor([[0.0, 9.0]]))
        log = policy.log_prob(rows).detach()
        assert float(log[1] - log[0]) == pytest.approx(bound)


# Gradients --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "correction"),
    [
        ("factorised", "none"),
        ("factorised", "exact"),
        ("factorised", "monte-carlo"),
        ("autoregressive", "none"),
        ("autoregressive", "monte-carlo"),
    ],
)
@pytest.mark.parametrize("name", ["conditional", "flat"])
def test_the_gradient_is_that_of_the_enumerated_expectation(kind, correction, name):
    """Given feasibility where it is corrected; each row weighs as much as it is likely."""
    space = SPACES[name]
    rows = every(space)
    if correction == "none":
        limits = None
    else:
        costs = np.sort(ExampleCost().bind(space)(rows))
        # Between two costs: what is nearer to a limit than rounding is not counted as feasible.
        limit = float(costs[[len(costs) * 2 // 5, len(costs) * 2 // 5 + 1]].mean())
        limits = sn.Constraints.of(ExampleCost() <= limit).bind(space)
        rows = rows[limits.mask(rows)]
    algorithm = Reinforce(policy=kind, correction=correction, samples=4000, width=6)
    task = problem(space, limits)
    learner = _Williams(algorithm, task)
    policy = learner.policy = made(kind, space)
    scores = torch.from_numpy(example_scores(rows)[:, 0])
    log = policy.log_prob(rows)
    wanted = gradient((torch.softmax(log, 0) * scores).sum(), policy)
    p = torch.softmax(log.detach(), 0)
    estimates = 10 if correction == "monte-carlo" else 1
    found = torch.zeros_like(wanted)
    for k in range(estimates):
        share = learner.log_share((k,)).expand(len(rows))
        # The baseline may be any number: it must make no difference on average.
        each = objective(scores - 0.3, policy.log_prob(rows), share)
        found += gradient((p * each).sum(), policy) / estimates
    error = float((found - wanted).norm() / wanted.norm())
    assert error < (0.05 if correction == "monte-carlo" else 1e-10)
    if correction != "none":  # without the correction it would make one
        free = gradient((p * (scores - 5.0) * policy.log_prob(rows)).sum(), policy)
        assert float((free - wanted).norm() / wanted.norm()) > 0.1


def test_the_first_step_by_hand():
    space = sn.Space(sn.oneof([1, sn.oneof([10, 20, 30])]))
    learner = _Williams(Reinforce(lr=0.2, entropy=0.0, standardized=False), problem(space))
    rows = np.array([[0, -1], [1, 2]], np.int32)
    logs = learner.policy.log_prob(rows).detach()
    assert learner.advantages(np.array([1.0, 3.0])).tolist() == [-1.0, 1.0]
    learner.mean.values = learner.mean.weights = 0.0
    learner.learn(Batch(rows, np.array([1.0, 3.0]), logs, (0,)))
    # Adam's first step is the sign of the gradient times the rate.
    wanted = torch.tensor([[-0.2, 0.2, 0.0], [-0.2, -0.2, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(learner.policy.values.detach(), wanted, rtol=1e-6, atol=1e-6)


def test_late_draws_weigh_what_they_are_worth():
    space = sn.Space(sn.oneof([1, 2]))
    for behind, weight in ((0.5, 1.0), (0.25, 1.0), (1.0, 0.5)):
        learner = _Williams(Reinforce(entropy=0.0, standardized=False), problem(space))
        seen = []
        learner.step = lambda loss, seen=seen, own=learner: seen.append(gradient(loss, own.policy))
        logs = torch.log(torch.tensor([behind, 0.5], dtype=torch.float64))
        learner.learn(Batch(np.array([[0], [1]], np.int32), np.array([4.0, 0.0]), logs, (0,)))
        # d log p / d logits is (0.5, -0.5) for the first and its negative for the second row.
        assert seen[0].tolist() == pytest.approx([-0.5 * (weight + 1), 0.5 * (weight + 1)])


def test_one_epoch_of_ppo_is_a_step_of_reinforce_and_more_are_clipped():
    space = SPACES["conditional"]
    rows = every(space)[::3]
    values = []
    options = {"lr": 0.1, "entropy": 0.05}
    for kind, algorithm in (
        (_Williams, Reinforce(**options)),
        (_Proximal, PPO(epochs=1, **options)),
        (_Proximal, PPO(epochs=300, **options, clip=0.2)),
        (_Proximal, PPO(epochs=300, lr=0.1, entropy=0.0, clip=0.2)),
    ):
        learner = kind(algorithm, problem(space))
        logs = learner.policy.log_prob(rows).detach()
        learner.learn(Batch(rows, example_scores(rows)[:, 0], logs, (0,)))
        values.append(learner.policy.values.detach())
    torch.testing.assert_close(values[0], values[1])
    # Without a clip, 300 steps of 0.1 go to where no gradient is left, which is far away.
    assert float(values[3].abs().max()) < 3.0 < 300 * 0.1


# Searches ---------------------------------------------------------------------------------------

LAW_CASES = (
    ("reinforce", Reinforce(batch_size=3), ("conditional", "float"), 10),
    (
        "reinforce, corrected",
        Reinforce(batch_size=2, correction="monte-carlo", samples=16),
        ("repeated",),
        8,
    ),
    ("lstm", Reinforce(policy="autoregressive", width=4, batch_size=3), ("permutation",), 8),
    ("ppo", PPO(batch_size=3, epochs=2), ("conditional",), 8),
)
LAWS = {
    f"{name}: {law}": check
    for name, algorithm, spaces, trials in LAW_CASES
    for law, check in algorithm_laws(
        algorithm, spaces={space: SPACES[space] for space in spaces}, names={}, trials=trials
    ).items()
}


@pytest.mark.parametrize("law", LAWS)
def test_law(law):
    LAWS[law]()


class Spy(Learner):
    """Learns nothing, but remembers what it is given."""

    def __init__(self, policy):
        super().__init__(policy, 0.1, 0.9, 0.0, True)
        self.batches = []

    def learn(self, batch):
        self.batches.append(batch)


def test_known_rows_count_again_without_another_trial():
    space = sn.Space([sn.oneof([1, 2]), sn.oneof([3, 4])])
    task = problem(space)
    spy = Spy(Factorised(space))
    run = PolicyRun(task, spy, size=16)
    rows = drive(task, run, 10)
    assert len(rows) == 4 and task.exhausted
    assert len(spy.batches) == MOST_STEPS and run.steps == MOST_STEPS
    known = {row.tobytes(): score for row, score in zip(rows, example_scores(rows), strict=True)}
    for batch in spy.batches:
        assert len(batch.rows) == 16  # as drawn, with repetitions
        assert batch.rewards.tolist() == [known[row.tobytes()][0] for row in batch.rows]
        assert batch.logs.tolist() == pytest.approx([np.log(0.25)] * 16)
    assert not np.array_equal(spy.batches[0].rows, spy.batches[1].rows)


def test_what_waits_for_a_batch_is_learned_from_in_the_next():
    space = sn.Space([sn.oneof(list("abcdefgh")) for _ in range(8)])
    task = problem(space)
    spy = Spy(Factorised(space))
    drive(task, PolicyRun(task, spy, size=5), 40, ahead=4)
    sizes = [len(batch.rows) for batch in spy.batches]
    assert sizes[0] == 5 and set(sizes[1:]) == {8}  # three more were open when the first was full
    told = sum(sizes)
    assert len(np.unique(np.concatenate([b.rows for b in spy.batches]), axis=0)) == told >= 35


def test_failures_count_as_the_worst():
    space = sn.Space([sn.oneof(list("abcdefgh")) for _ in range(4)])
    task = problem(space)
    spy = Spy(Factorised(space))
    scores = iter([2.0, np.nan, 5.0, -np.inf, 1.0, np.nan])
    drive(task, PolicyRun(task, spy, size=3), 6, score=lambda row: np.array([[next(scores)]]))
    assert [batch.rewards.tolist() for batch in spy.batches] == [[2.0, 2.0, 5.0], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize("kind", ["factorised", "autoregressive"])
def test_draws_are_feasible_however_rare_that_is(kind):
    space = sn.Space([sn.oneof(list(range(8)), name=f"d{i}") for i in range(8)])
    costs = ExampleCost().bind(space)
    low, high = costs.range()[:2]
    tight = sn.Constraints.of(ExampleCost() <= low + 0.02 * (high - low)).bind(space)
    for constraints in (tight, Allowed(space, 50)):
        task = problem(space, constraints)
        rows = draw(task, made(kind, space, spread=3.0), 20, (0, 1))
        assert len(rows) == 20 and constraints.mask(rows).all()


PLANTED = np.array([3, 0, 2, 1, 3, 2, 0, 1])


def planted(rows):
    """How many decisions are as planted, and a little for neighbours that both are."""
    met = rows == PLANTED
    return (met.sum(1) + 0.5 * (met[:, 1:] & met[:, :-1]).sum(1))[:, None].astype(float)


@pytest.mark.parametrize(
    ("algorithm", "seeds"),
    [(Reinforce(), 5), (PPO(), 4), (Reinforce(policy="autoregressive", width=8), 4)],
)
def test_it_beats_random_on_a_planted_architecture(algorithm, seeds):
    from symnas.algorithms.random_search import RandomSearch

    space = sn.Space([sn.oneof(list(range(4)), name=f"d{i}") for i in range(8)])
    gains = []
    for seed in range(seeds):
        best = []
        for one in (algorithm, RandomSearch()):
            task = problem(space, seed=seed)
            best.append(planted(drive(task, one.start(task), 100, score=planted)).max())
        gains.append(best[0] - best[1])
    error = np.std(gains, ddof=1) / np.sqrt(seeds)
    assert np.mean(gains) > 3 * error and np.mean(gains) > 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reinforce(policy="rnn"), "`policy` \\('rnn'\\) must be"),
        (lambda: Reinforce(lr=0.0), "`lr` \\(0.0\\) must be above 0"),
        (lambda: Reinforce(momentum=1), "`momentum` \\(1\\) must be below 1"),
        (lambda: Reinforce(batch_size=0), "`batch_size` \\(0\\) must be at least 1"),
        (
            lambda: Reinforce(policy="autoregressive", correction="exact"),
            "can only be estimated: use 'monte-carlo'",
        ),
        (lambda: PPO(clip=0), "`clip` \\(0\\) must be above 0"),
        (lambda: PPO(epochs=0), "`epochs` \\(0\\) must be at least 1"),
    ],
)
def test_hyper_parameters_are_checked(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_what_has_no_exact_probability_is_refused():
    exact = Reinforce(correction="exact")
    with pytest.raises(SymnasError, match="Use correction='monte-carlo'"):
        exact.check(problem(SPACES["flat"], Allowed(SPACES["flat"], 3)))
    space = SPACES["permutation"]
    limits = sn.Constraints.of(ExampleCost() <= 1e9).bind(space)
    with pytest.raises(SymnasError, match="no probabilities that are independent"):
        exact.check(problem(space, limits))
