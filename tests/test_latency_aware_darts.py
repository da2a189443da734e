"""Latency-aware DARTS: its loss, and a balance that is found so that costs land on targets."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from relaxed_examples import (
    begun,
    bound,
    meets_targets,
    mixed,
    nonlinear,
    same_after_a_kill,
    task,
    trained,
)
from symnas.algorithms.latency_aware_darts import LatencyAwareDARTS

import symnas as sn
from symnas import cost_models as cm
from symnas.errors import SymnasError

macs = cm.Macs()


def small() -> sn.Space:
    """Two candidates of 20 MACs, and one of 36."""
    kinds = [sn.nn.Tanh(), sn.nn.Identity(), sn.nn.Linear(4, 4)]
    return sn.Space(
        sn.nn.Sequential(sn.nn.Linear(3, 4), sn.oneof(kinds), sn.nn.Linear(4, 2)), input=(3,)
    )


def widths() -> sn.Space:
    """Widths that matter for costs, and kinds that do not."""
    made, last = [], 3
    for i in range(3):
        width = sn.oneof([4, 8, 16, 32], name=f"width {i}")
        made += [sn.nn.Linear(last, width), sn.oneof([sn.nn.ReLU(), sn.nn.Tanh()])]
        last = width
    return sn.Space(sn.nn.Sequential(*made, sn.nn.Linear(last, 2)), input=(3,))


def share_of(space: sn.Space, share: float) -> float:
    low, high = macs.bind(space).range()[:2]
    return low + share * (high - low)


# Formulas -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lower", [False, True])
def test_the_logits_descend_the_loss_and_the_balance_times_the_cost(lower) -> None:
    limit = macs >= 20 if lower else macs <= 20
    run = begun(LatencyAwareDARTS(balance=0.7), bound(small(), [limit]), task(40))
    first, second = next(run.workshop.halves(0))
    taken: list[torch.Tensor] = []
    run.descend = taken.extend
    told = run.update_logits(first, second)
    net, p = run.workshop.net, torch.full((3,), 1 / 3, requires_grad=True)
    net.mix({run.problem.space.columns[0]: p})
    loss = run.workshop.loss(second)
    sign = -1 if lower else 1
    assert told == pytest.approx(float(loss.detach()) + sign * 0.7 * (20 + 16 / 3) / 20)
    outer = torch.autograd.grad(loss, p)[0] + sign * 0.7 * torch.tensor([20.0, 20.0, 36.0]) / 20
    torch.testing.assert_close(taken[0], (outer - outer.mean()) / 3, rtol=1e-4, atol=1e-6)
    assert "balance macs" not in run.epoch(0)


def test_the_augmented_lagrangian() -> None:
    run = begun(LatencyAwareDARTS(stiffness=10, rate=0.5), bound(small(), [macs <= 22]), task(40))
    (aim,) = run.aims
    even = {run.problem.space.columns[0]: torch.full((3,), 1 / 3)}
    beyond = aim.beyond(even)
    assert float(beyond) == pytest.approx((20 + 16 / 3) / 22 - 1)  # 0.1515
    aim.multiplier = -2.0
    assert float(aim.penalty(beyond, 10)) == pytest.approx(
        -2 * 0.151515 + 5 * 0.151515**2, rel=1e-4
    )
    aim.climb(0.2, 0.5)  # further away than before
    assert aim.multiplier == pytest.approx(-1.9)
    aim.climb(0.1, 0.5)  # nearer
    aim.climb(-0.1, 0.5)
    assert aim.multiplier == pytest.approx(-1.9)


def test_the_augmented_lagrangian_of_an_inequality() -> None:
    run = begun(LatencyAwareDARTS(exact=False), bound(small(), [macs <= 22]), task(40))
    (aim,) = run.aims
    inside, outside = torch.tensor(-0.5), torch.tensor(0.5)
    aim.multiplier = 2.0
    assert float(aim.penalty(inside, 10)) == pytest.approx(-(2.0**2) / 20)  # no pull any more
    assert float(aim.penalty(outside, 10)) == pytest.approx((7.0**2 - 2.0**2) / 20)
    aim.climb(-0.6, 10)
    assert aim.multiplier == 0.0


def test_costs_between_two_limits_are_kept_there_only() -> None:
    run = begun(LatencyAwareDARTS(), bound(small(), [macs >= 20, macs <= 30]), task(40))
    assert sorted((a.target, a.sign, a.equal) for a in run.aims) == [
        (20, -1.0, False),
        (30, 1.0, False),
    ]
    loss = torch.tensor(0.5)  # 25.3 is expected: within
    assert float(run.with_costs(loss).detach()) == pytest.approx(0.5)


# Targets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_the_relaxed_cost_lands_on_its_target(tmp_path, share) -> None:
    space = widths()
    limit = share_of(space, share)
    algorithm = LatencyAwareDARTS(epochs=12, logits_lr=0.1)
    start = float(macs.bind(space).expected({}))
    assert abs(start / limit - 1) > 0.25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = trained(algorithm, bound(space, [macs <= limit]), task(300), tmp_path)
        told = run.notes()
    assert told["relaxed macs"] == pytest.approx(limit, rel=0.05)
    assert told["target macs"] == limit
    assert (macs.bind(space)(run.derive(4)) <= limit).all()


def test_targets_may_be_given_without_limits(tmp_path) -> None:
    space = widths()
    target = share_of(space, 0.4)
    algorithm = LatencyAwareDARTS(
        epochs=12, logits_lr=0.1, last_temperature=0.3, costs=[(macs, target)]
    )
    run = trained(algorithm, bound(space), task(300), tmp_path)
    told = run.notes()
    assert told["relaxed macs"] == pytest.approx(target, rel=0.05)
    assert told["target macs"] == target
    assert told["discrete macs"] == macs.bind(space)(run.derive(1))[0]
    # The probabilities are those of a temperature that has fallen.
    id_ = space.columns[0]
    sharp = torch.softmax(run.logits.logits()[id_] / 0.3, 0)
    torch.testing.assert_close(run.probabilities()[id_], sharp)


def test_an_inexact_target_is_only_a_limit(tmp_path) -> None:
    space = widths()
    limit = share_of(space, 0.8)
    algorithm = LatencyAwareDARTS(epochs=4, logits_lr=0.1, exact=False)
    run = trained(algorithm, bound(space, [macs <= limit]), task(160), tmp_path)
    assert run.notes()["relaxed macs"] < 0.9 * limit
    assert run.aims[0].multiplier == 0.0


def test_a_larger_balance_makes_cheaper_networks(tmp_path) -> None:
    relaxed = []
    for balance in (0.0, 0.1, 10.0):
        algorithm = LatencyAwareDARTS(epochs=6, logits_lr=0.1, balance=balance)
        problem = bound(widths(), [macs <= 10_000])
        run = trained(algorithm, problem, task(160), tmp_path / f"{balance}")
        relaxed.append(run.notes()["relaxed macs"])
    assert relaxed[0] > 1.2 * relaxed[1] > 1.2 * relaxed[2]


def test_it_says_where_a_cost_has_not_landed(tmp_path) -> None:
    space = widths()
    problem = bound(space, [macs <= share_of(space, 0.9)])
    run = trained(LatencyAwareDARTS(epochs=1, balance=1.0), problem, task(60), tmp_path / "fixed")
    with pytest.warns(RuntimeWarning, match=r"the relaxed macs is 0\.\d\d times its target"):
        run = trained(LatencyAwareDARTS(epochs=1), problem, task(60), tmp_path / "found")
    assert len(run.derive(1))


def test_a_regressor_of_latency(tmp_path) -> None:
    """One that is no table: small networks all take the same time."""
    space = widths()
    rows = space.sample(120, seed=1)
    work = macs.bind(space)(rows)
    readings = 0.1 + np.maximum(work, 400) * 1e-3
    learned = cm.Learned.of_rows(space, rows, readings, regressor="mlp", device="phone")
    algorithm = LatencyAwareDARTS(epochs=6, logits_lr=0.1)
    run = begun(algorithm, bound(space, [learned <= 1.0]), task(160))
    cost = run.aims[0].cost
    assert cost.table is None
    for epoch in range(6):
        torch.manual_seed(epoch)
        run.epoch(epoch)
    assert float(cost.expected(run.probabilities()).detach()) == pytest.approx(1.0, rel=0.1)
    assert (cost(run.derive(3)) <= 1.0).all()


# What every such algorithm must do ----------------------------------------------------------------


def test_it_keeps_targets(tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # too few steps to land
        tight, _, loose = meets_targets(LatencyAwareDARTS(epochs=2, logits_lr=0.05), tmp_path)
    assert tight["relaxed macs"] < loose["relaxed macs"]


def test_a_kill_changes_nothing(tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        same_after_a_kill(LatencyAwareDARTS(epochs=3, warmup=1, logits_lr=0.05), tmp_path)


def test_it_finds_what_the_task_needs(tmp_path) -> None:
    algorithm = LatencyAwareDARTS(
        epochs=12, warmup=4, logits_lr=0.03, exact=False, costs=[(macs, 1e6)]
    )
    assert nonlinear(algorithm, tmp_path) >= 5


def test_in_a_search() -> None:
    study = sn.search(
        mixed(), LatencyAwareDARTS(epochs=6, logits_lr=0.1), task(160), maximize="accuracy",
        subject_to=[macs <= 200], progress=False,
    )  # fmt: skip
    assert study.best.costs["macs"] <= 200
    assert study.training["result"]["target macs"] == 200


def test_mistakes_are_named() -> None:
    with pytest.raises(SymnasError, match="needs a cost with a target"):
        begun(LatencyAwareDARTS(), bound(small()), task(40))
    with pytest.raises(TypeError, match="`costs` must be pairs"):
        LatencyAwareDARTS(costs=[macs <= 3])
    with pytest.raises(TypeError, match="`costs` must be pairs"):
        LatencyAwareDARTS(costs=macs)
    with pytest.raises(ValueError, match=r"target of macs \(-1\) must be a positive"):
        LatencyAwareDARTS(costs=[(macs, -1)])
    with pytest.raises(ValueError, match="`rate`"):
        LatencyAwareDARTS(rate=0)
    with pytest.raises(TypeError, match="penalty"):
        LatencyAwareDARTS(penalty=1.0)
