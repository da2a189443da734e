"""Gaussian processes over architectures: kernels, posteriors, ways through graphs, improvement."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, sparse
from scipy.stats import norm
from torch import nn

import symnas as sn
from symnas.predictors.gaussian_process import GaussianProcess
from symnas.predictors.kernel import Encoded, _loss, distances, likeliest_kernel
from symnas.predictors.paths import Paths
from symnas.predictors.posterior import Posterior
from symnas.predictors.ranks import Ranks
from symnas.searching.acquisition import (
    log_expected_improvement,
    log_expected_scalarization,
)


def encoded(n: int, seed: int, kinds: int = 2) -> Encoded:
    rng = np.random.default_rng(seed)
    draw = lambda: sparse.csr_matrix(rng.integers(0, 2, (n, 12)).astype(np.float32))  # noqa: E731
    return Encoded(tuple(draw() for _ in range(kinds)))


# Improvement ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mean, deviation, best", [(0.3, 1.2, 0.5), (2.0, 0.1, 0.0), (-1.0, 0.5, 0.7)]
)
def test_expected_improvement_is_an_integral(mean: float, deviation: float, best: float) -> None:
    density = lambda y: max(0.0, y - best) * norm.pdf(y, mean, deviation)  # noqa: E731
    truth = integrate.quad(density, best, mean + 12 * deviation, epsabs=1e-13)[0]
    told = log_expected_improvement(mean, deviation, best)
    assert told == pytest.approx(np.log(truth), rel=1e-6)


def test_the_logarithm_of_improvement_falls_smoothly_however_far_out() -> None:
    z = -np.linspace(0, 200, 4001)
    told = log_expected_improvement(z, 1.0, 0.0)
    assert np.isfinite(told).all() and (np.diff(told) < 0).all()
    # Its slope is about z: no step where one form takes over from another.
    slope = np.diff(told) / np.diff(z)
    assert np.abs(np.diff(slope)).max() < 0.06


@pytest.mark.parametrize("objectives", [2, 3])
def test_expected_scalarization_agrees_with_many_draws(objectives: int) -> None:
    rng = np.random.default_rng(0)
    weights = np.abs(rng.normal(size=objectives))
    weights /= np.linalg.norm(weights)
    means = rng.normal(0.8, 0.5, (4, objectives))
    deviations = rng.uniform(0.1, 0.8, (4, objectives))
    told = log_expected_scalarization(
        means, deviations, weights, 1.0, 12.0, [lambda values: np.log(values)] * objectives
    )
    for i in range(4):
        draws = np.exp(means[i] + deviations[i] * rng.standard_normal((400_000, objectives)))
        grown = np.maximum((draws / weights).min(axis=1), 1.0) ** objectives - 1.0
        error = 5 * float(np.std(grown)) / 400_000**0.5
        assert np.exp(told[i]) == pytest.approx(np.mean(grown), rel=0.01, abs=error)


def test_scalarizations_in_all_directions_measure_the_hypervolume() -> None:
    from symnas.searching.pareto import hypervolume

    rng = np.random.default_rng(1)
    front = np.array([[1.0, 2.0], [1.5, 1.5], [2.5, 0.5]])
    weights = np.abs(rng.normal(size=(200_000, 2)))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    reached = (front[:, None] / weights).min(axis=2).max(axis=0) ** 2
    # A circle's quarter with radius 1 has an area of pi / 4.
    assert reached.mean() * np.pi / 4 == pytest.approx(hypervolume(front, np.zeros(2)), rel=0.01)


def test_what_is_out_of_reach_is_still_ordered() -> None:
    means = np.array([[-60.0, 1.0], [-70.0, 1.0]])
    same = [lambda values: values] * 2
    told = log_expected_scalarization(means, np.ones((2, 2)), np.sqrt([0.5, 0.5]), 1.0, 2.0, same)
    assert np.isfinite(told).all() and told[0] > told[1]


# Kernels ----------------------------------------------------------------------------------------


def test_the_gradient_of_the_marginal_likelihood_is_right() -> None:
    squared, scores = distances(*[encoded(15, 1)] * 2), np.random.default_rng(2).normal(size=15)
    loss = _loss(squared, scores, np.zeros(5), np.ones(5))
    theta = np.array([0.1, -0.4, 1.0, 0.5, -2.0])
    gradient = loss(theta)[1]
    for i in range(5):
        step = np.eye(5)[i] * 1e-5
        slope = (loss(theta + step)[0] - loss(theta - step)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_the_kind_of_features_that_explains_results_gets_the_weight() -> None:
    known = encoded(60, 3)
    explained = np.asarray(known.parts[1].toarray() @ np.arange(12.0))
    kernel = likeliest_kernel(distances(known, known), Ranks(explained).scores)
    assert kernel.weights[1] > 5 * kernel.weights[0]


def test_half_of_many_results_tell_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    known = encoded(220, 3)
    scores = Ranks(np.asarray(known.parts[1].toarray() @ np.arange(12.0))).scores
    squared = distances(known, known)
    quick = likeliest_kernel(squared, scores)
    monkeypatch.setattr("symnas.predictors.kernel.MANY", 1000)
    slow = likeliest_kernel(squared, scores)
    assert quick.evidence != slow.evidence
    assert quick.evidence == pytest.approx(slow.evidence, abs=1.0)


def test_results_one_by_one_say_the_same_as_all_at_once() -> None:
    known, pool = encoded(30, 4), encoded(50, 5)
    scores = np.random.default_rng(6).normal(size=30)
    kernel = likeliest_kernel(distances(known, known), scores)
    grown = Posterior(kernel, known[:10])
    grown.follow(pool)
    for i in range(10, 30):
        grown.add(known[i : i + 1])
    whole = Posterior(kernel, known).elsewhere(pool)
    assert np.allclose(grown.means(scores), whole.means(scores), atol=2e-4)
    assert np.allclose(grown.variances, whole.variances, atol=2e-4)
    # Both are the textbook's (Rasmussen and Williams 2006, equations 2.25 and 2.26).
    covariance = kernel(distances(known, known)) + (kernel.noise + 1e-6) * np.eye(30)
    across = kernel(distances(known, pool))
    assert np.allclose(
        whole.means(scores), across.T @ np.linalg.solve(covariance, scores), atol=1e-3
    )
    explained = (across * np.linalg.solve(covariance, across)).sum(axis=0)
    assert np.allclose(whole.variances, kernel.variance - explained, atol=1e-3)


def test_what_waits_is_taken_for_known() -> None:
    known, pool = encoded(12, 7), encoded(20, 8)
    kernel = likeliest_kernel(distances(known, known), np.random.default_rng(9).normal(size=12))
    process = Posterior(kernel, known).elsewhere(pool)
    before = process.variances.copy()
    after = process.variances_with(pool[3:4])
    assert after[3] < 0.1 * before[3] + kernel.noise and (after <= before + 1e-6).all()
    assert np.array_equal(process.variances, before)


# Features ---------------------------------------------------------------------------------------


@sn.symbolize
class Fork(nn.Module):
    """The sum of an operation, and of two that follow one another."""

    def __init__(self, one: nn.Module, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.one, self.first, self.second = one, first, second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.one(x) + self.second(self.first(x))


@sn.symbolize
class Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def forks() -> sn.Space:
    def operation() -> object:
        return sn.oneof([sn.nn.Conv2d(2, 2, 1), sn.nn.Tanh(), sn.nn.Identity(), sn.spec(Nothing)])

    return sn.Space(
        sn.nn.Sequential(Fork(operation(), operation(), operation()), sn.nn.Flatten()),
        input=(2, 4, 4),
    )


def test_what_computes_the_same_has_the_same_ways() -> None:
    told = Paths(forks())(
        [[0, 0, 3], [0, 3, 1], [0, 1, 2], [0, 2, 1], [1, 0, 2], [3, 0, 1]]
    ).toarray()
    assert np.array_equal(told[0], told[1])  # the other branch is 0 either way
    assert np.array_equal(told[2], told[3])  # an identity before or after
    assert np.array_equal(told[2], told[4])  # both branches exchanged
    assert not np.array_equal(told[0], told[2]) and not np.array_equal(told[2], told[5])


def test_deep_networks_have_operations_and_pairs() -> None:
    layer = lambda: sn.nn.Conv2d(2, 2, sn.oneof([1, 3]), padding="same")  # noqa: E731
    space = sn.Space(sn.nn.Sequential(*[layer() for _ in range(9)]), input=(2, 4, 4))
    told = Paths(space)(np.array([[0] * 9, [1] * 9, [0] * 4 + [1] * 5], np.int32)).toarray()
    # In each, the ends, nine operations, and ten steps from one to the next.
    assert (told.sum(axis=1) == 2 + 9 + 10).all()
    # One after another: 3 x 3 follows 1 x 1 once, and 1 x 1 never follows 3 x 3.
    assert sorted(told[2][(told[0] == 0) & (told[1] == 0)]) == [1]
    assert sorted(told[2][(told[0] == 0) & (told[1] == 9)]) == [5]


def test_ranks_keep_the_order_and_come_back() -> None:
    values = np.array([10.0, 93.0, 94.0, 93.0, 95.0])
    ranks = Ranks(values)
    assert (
        ranks.scores[1] == ranks.scores[3]
        and (np.argsort(ranks.scores) == np.argsort(values)).all()
    )
    assert np.allclose(ranks.result(ranks.scores), values)
    assert ranks.result(np.array([ranks.scores.max() + 1]))[0] > 95


# Predicting -------------------------------------------------------------------------------------


def test_a_process_predicts_and_knows_how_well() -> None:
    space = sn.Space([sn.oneof([0, 1, 2, 3]) for _ in range(6)])
    rows = space.sample(130, 1)
    truth = (rows * [5, 4, 3, 2, 1, 1]).sum(axis=1) + 3.0 * (rows[:, 0] == rows[:, 1])
    fitted = GaussianProcess().fit(space, rows[:80], truth[:80])
    mean, deviation = fitted.uncertain(rows[80:])
    assert sn.predictors.Held(mean, truth[80:]).tau > 0.75
    assert np.mean(np.abs(mean - truth[80:]) < 2.5 * deviation) > 0.85
    again = GaussianProcess().fit(space, rows[:80], truth[:80]).predict(rows[80:])
    assert np.array_equal(mean, again)
    held = sn.predictors.held_out(GaussianProcess("onehot"), space, rows[:60], truth[:60], folds=4)
    assert held.tau > 0.6 and held.rmse < np.std(truth)


def test_mistakes_are_named() -> None:
    space = sn.Space([sn.oneof([1, 2])])
    with pytest.raises(ValueError, match=r"`features` .*'edges'.* must be some of"):
        GaussianProcess("edges")
    with pytest.raises(ValueError, match="1 are not finite"):
        GaussianProcess().fit(space, [[0], [1]], [1.0, np.nan])
    with pytest.raises(ValueError, match=r"must be .n, 1."):
        GaussianProcess().fit(space, [[0, 1]], [1.0])
    with pytest.raises(ValueError, match=r"`folds` .3. must be from 2"):
        sn.predictors.held_out(GaussianProcess(), space, [[0], [1]], [1.0, 2.0], folds=3)
