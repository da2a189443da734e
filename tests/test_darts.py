"""DARTS: gradients of both orders, the penalty, counter-measures against collapse."""

from __future__ import annotations

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
from symnas.algorithms.darts import DARTS

import symnas as sn
from symnas import cost_models as cm
from symnas.oneshot.relaxed import hinge, without_weights
from symnas.rewards import Absolute, Mnas
from symnas.supernet.supernet import Supernet
from symnas.tasks.batches import Batch


def small() -> sn.Space:
    kinds = [sn.nn.Tanh(), sn.nn.Identity(), sn.nn.Linear(4, 4)]
    return sn.Space(
        sn.nn.Sequential(sn.nn.Linear(3, 4), sn.oneof(kinds), sn.nn.Linear(4, 2)), input=(3,)
    )


def test_second_order_is_the_gradient_after_a_step_of_the_weights() -> None:
    """Against equation 6, differentiated exactly."""
    run = begun(
        DARTS(epochs=2, order=2), bound(small()), task(40, lr=0.5, optimizer="sgd"), double=True
    )
    run.logits.double()
    with torch.no_grad():
        run.parameters[0].copy_(torch.tensor([0.3, -0.2, 0.5]))
    first, second = next(run.workshop.halves(0))
    first, second = Batch(first.x.double(), first.y), Batch(second.x.double(), second.y)
    weights = dict(run.workshop.net.named_parameters())
    alpha = run.parameters[0]

    def loss(values, batch):
        run.mix(run.mixture("logits"))
        output = torch.func.functional_call(run.workshop.net, values, (batch.x,))
        return torch.nn.functional.cross_entropy(output, batch.y)

    inner = torch.autograd.grad(loss(weights, first), list(weights.values()), create_graph=True)
    ahead = {name: w - 0.5 * g for (name, w), g in zip(weights.items(), inner, strict=True)}
    exact = torch.autograd.grad(loss(ahead, second), alpha)[0]
    plain_gradient = torch.autograd.grad(loss(weights, second), alpha)[0]

    before = {name: w.detach().clone() for name, w in weights.items()}
    told, (found,) = run.second_order(first, second)
    assert told == pytest.approx(float(loss(ahead, second).detach()))
    assert all(torch.equal(w, before[name]) for name, w in weights.items())
    error, without = (found - exact).norm(), (plain_gradient - exact).norm()
    assert error < 1e-3 * exact.norm()
    assert error < 0.05 * without


def test_dropout_is_the_same_in_all_passes() -> None:
    made = sn.nn.Sequential(
        sn.nn.Linear(3, 8),
        sn.nn.Dropout(0.5),
        sn.oneof([sn.nn.ReLU(), sn.nn.Tanh()]),
        sn.nn.Linear(8, 2),
    )
    run = begun(DARTS(epochs=2, order=2), bound(sn.Space(made, input=(3,))), task(40), double=True)
    first, second = next(run.workshop.halves(0))
    first, second = Batch(first.x.double(), first.y), Batch(second.x.double(), second.y)
    run.workshop.net.train()
    direct = run._gradients(second, run.parameters, 3)[1][0]
    gradient = run.second_order(first, second)[1][0]
    # Masks that differ would make differences of some 1, divided by a step of 0.01.
    assert gradient.norm() < 20 * max(float(direct.norm()), 0.01)


def test_first_order_is_the_gradient_of_the_loss_and_the_penalty() -> None:
    macs = cm.Macs()
    low, high = macs.bind(small()).range()[:2]
    assert (low, high) == (20, 36)
    run = begun(DARTS(epochs=2, penalty=2.0), bound(small(), [macs <= 20, macs >= 4]), task(40))
    first, second = next(run.workshop.halves(0))
    taken: list[torch.Tensor] = []
    run.descend = taken.extend
    run.update_logits(first, second)
    net, p = run.workshop.net, torch.full((3,), 1 / 3, requires_grad=True)
    net.mix({run.problem.space.columns[0]: p})
    outer = torch.autograd.grad(run.workshop.loss(second), p)[0]
    # Expected: 20 + 16/3; a third of each; the penalty is 2 * (cost / 20 - 1).
    outer = outer + 2.0 * torch.tensor([20.0, 20.0, 36.0]) / 20
    wanted = (outer - outer.mean()) / 3
    torch.testing.assert_close(taken[0], wanted, rtol=1e-4, atol=1e-6)


def test_rewards_are_followed() -> None:
    macs = cm.Macs()
    for reward, wanted in (
        (Absolute(macs, 20, beta=-0.3), 0.7 + 0.3 * 16 / 60),
        (Mnas(macs, 20, beta=-0.3), None),
    ):
        problem = bound(small(), reward=reward)
        problem.costs["macs"] = macs.bind(problem.space)
        run = begun(DARTS(), problem, task(40))
        found = run.with_costs(torch.tensor(0.7))
        if wanted is None:
            wanted = 0.7 + 0.3 * float(torch.log(torch.tensor((20 + 16 / 3) / 20)))
        assert float(found.detach()) == pytest.approx(wanted)
        gradient = torch.autograd.grad(found, run.parameters)[0]
        assert gradient[2] > 0 > gradient[0]


def test_the_penalty_brings_expected_costs_to_the_limit(tmp_path) -> None:
    space, macs = mixed(), cm.Macs()
    low, high = macs.bind(space).range()[:2]
    limit = low + 0.2 * (high - low)
    relaxed = []
    for penalty in (0.0, 10.0):
        algorithm = DARTS(epochs=4, logits_lr=0.1, penalty=penalty, logits_weight_decay=0.0)
        run = trained(algorithm, bound(space, [macs <= limit]), task(160), tmp_path / f"{penalty}")
        relaxed.append(run.notes()["relaxed macs"])
    assert relaxed[1] <= 1.05 * limit < 1.15 * limit < relaxed[0]


def test_hinges_have_two_sides() -> None:
    from symnas.costs.comparison import Limits

    value = torch.tensor(30.0)
    assert float(hinge(value, Limits(upper=20.0))) == pytest.approx(0.5)
    assert float(hinge(value, Limits(lower=40.0))) == pytest.approx(0.25)
    assert float(hinge(value, Limits(lower=20.0, upper=40.0))) == 0


def test_candidates_without_parameters_are_found() -> None:
    convolution = sn.nn.Sequential(
        sn.nn.ReLU(), sn.nn.Conv2d(2, 2, sn.oneof([1, 3]), padding="same")
    )
    kinds = [sn.nn.Identity(), convolution, sn.nn.MaxPool2d(3, 1, 1), sn.nn.BatchNorm2d(2)]
    bare = sn.oneof([sn.nn.ReLU(), sn.nn.Tanh()])
    nested = sn.oneof(
        [sn.nn.Sequential(sn.oneof([sn.nn.Conv2d(2, 2, 1), sn.nn.Identity()])), sn.nn.ReLU()]
    )
    two = [
        sn.oneof([sn.nn.Conv2d(2, 2, 3, padding=1), sn.nn.Conv2d(2, 2, 3, padding=2, dilation=2)])
    ]
    space = sn.Space(sn.nn.Sequential(sn.oneof(kinds), bare, nested, *two), input=(2, 5, 5))
    found = without_weights(Supernet(space))
    # A candidate that may have parameters has some; of two without or two with, nothing is told.
    assert sorted(map(tuple, (free.tolist() for free in found.values()))) == sorted(
        [(True, False, True, False), (False, True), (False, True)]
    )


def test_operations_that_are_arguments_are_found_too() -> None:
    from symnas.spaces.nasbench201 import OPERATIONS, nasbench201

    found = without_weights(Supernet(nasbench201(channels=2, cells=1, resolution=8)))
    assert len(found) == 6
    for free in found.values():
        names = [name for name, bare in zip(OPERATIONS, free.tolist(), strict=True) if bare]
        assert names == ["none", "skip_connect", "avg_pool_3x3"]
    bias = sn.Space(sn.nn.Linear(3, sn.oneof([2, 4]), bias=sn.oneof([True, False])), input=(3,))
    assert without_weights(Supernet(bias)) == {}


def planted(run, value: int, size: float = 5.0) -> None:
    with torch.no_grad():
        for logits in run.parameters:
            logits.zero_()
            logits[value] = size


def skippable() -> sn.Space:
    pick = [sn.oneof([sn.nn.Linear(3, 3), sn.nn.Identity()]) for _ in range(4)]
    return sn.Space(sn.nn.Sequential(*pick, sn.nn.Linear(3, 2)), input=(3,))


def test_collapse_is_told() -> None:
    run = begun(DARTS(epochs=1), bound(skippable()), task(40))
    planted(run, 1)
    with pytest.warns(
        RuntimeWarning, match="4 of 4 decisions prefer a candidate without parameters"
    ):
        assert run.epoch(0)["parameter-free"] == 1
    assert run.notes()["parameter-free"] == 1
    planted(run, 0)
    assert run.notes()["parameter-free"] == 0


def test_logits_stop_at_so_many_skips_or_when_nothing_changes() -> None:
    run = begun(DARTS(epochs=3, stop_free=4), bound(skippable()), task(40))
    planted(run, 1)
    run.epoch(0)
    assert run.stopped
    before = [p.detach().clone() for p in run.parameters]
    assert "choice loss" not in run.epoch(1)
    assert all(map(torch.equal, before, run.parameters))
    run = begun(DARTS(epochs=9, patience=2, logits_lr=1e-6), bound(skippable()), task(40))
    planted(run, 0)
    stopped = []
    for number in range(4):
        run.epoch(number)
        stopped.append(run.stopped)
    assert stopped == [False, False, True, True]


def test_skips_are_dropped_at_a_rate_that_decays() -> None:
    run = begun(DARTS(epochs=2, skip_dropout=1.0), bound(small()), task(40))
    (weights,) = run.mixture("weights").values()
    assert weights.tolist() == [0, 0, 1]  # Tanh and Identity have no parameters
    run.steps = run.steps_an_epoch  # half of the way
    torch.manual_seed(0)
    drawn = torch.stack([next(iter(run.mixture("weights").values())).detach() for _ in range(400)])
    torch.testing.assert_close(drawn.sum(1), torch.ones(400))
    assert (drawn[:, :2] == 0).float().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.1)
    both = drawn[(drawn[:, 0] == 0) & (drawn[:, 1] != 0)]
    assert both[0].tolist() == pytest.approx([0, 0.5, 0.5])
    run.steps *= 2
    assert next(iter(run.mixture("weights").values())).tolist() == pytest.approx([1 / 3] * 3)


def test_it_keeps_targets(tmp_path) -> None:
    tight, _, loose = meets_targets(DARTS(epochs=2, logits_lr=0.05), tmp_path)
    assert tight["relaxed macs"] < loose["relaxed macs"]


@pytest.mark.parametrize("options", [{"skip_dropout": 0.5, "patience": 9}, {"order": 2}])
def test_a_kill_changes_nothing(tmp_path, options) -> None:
    same_after_a_kill(DARTS(epochs=3, warmup=1, logits_lr=0.05, **options), tmp_path)


def test_it_finds_what_the_task_needs(tmp_path) -> None:
    assert nonlinear(DARTS(epochs=12, warmup=4, logits_lr=0.03), tmp_path) >= 5


def test_in_a_search() -> None:
    study = sn.search(
        mixed(), DARTS(epochs=2), task(160), maximize="accuracy", subject_to=[cm.Macs() <= 200], progress=False
    )  # fmt: skip
    assert study.best.costs["macs"] <= 200


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"`order` \(3\) must be 1 or 2"):
        DARTS(order=3)
    with pytest.raises(
        ValueError, match=r"`skip_dropout` \(1.5\) must be at least 0 and at most 1"
    ):
        DARTS(skip_dropout=1.5)
    fixed = sn.Space(sn.nn.Linear(3, 2), input=(3,))
    with pytest.raises(sn.SymnasError, match="no decision on the network"):
        begun(DARTS(), bound(fixed), task(40))
    size = sn.oneof([4, 8])
    sized = sn.Space(
        sn.nn.Sequential(
            sn.nn.Conv2d(1, 2, 3), sn.nn.AdaptiveAvgPool2d(1), sn.nn.Flatten(), sn.nn.Linear(2, 2)
        ),
        input=(1, size, size),
    )
    images = sn.Task((torch.randn(40, 1, 8, 8), torch.arange(40) % 2))
    with pytest.raises(sn.SymnasError, match="all must take inputs of one size"):
        begun(DARTS(), bound(sized), images)
