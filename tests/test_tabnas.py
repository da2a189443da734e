"""TabNAS: its toy example, its gradient against enumeration, and its steps."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from relaxed_examples import begun, bound, meets_targets, mixed, same_after_a_kill, task
from symnas.algorithms.tabnas import TabNAS

import symnas as sn
from symnas import cost_models as cm
from symnas.errors import SymnasError
from symnas.oneshot.rejection import RejectionController
from symnas.searching.policies.rejection import Mean, log_feasible, objective

_FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "tabnas_toy.py"
_SPEC = importlib.util.spec_from_file_location("tabnas_toy", _FILE)
toy = importlib.util.module_from_spec(_SPEC)
sys.modules["tabnas_toy"] = toy
_SPEC.loader.exec_module(toy)


def space() -> sn.Space:
    """The toy's networks."""
    first, second = sn.oneof([2, 3, 4], name="first"), sn.oneof([2, 3, 4], name="second")
    layers = (sn.nn.Linear(2, first), sn.nn.Linear(sn.tied("first"), second), sn.nn.Linear(sn.tied("second"), 1))  # fmt: skip
    return sn.Space(sn.nn.Sequential(*layers), input=(2,))


ROWS = np.array([(i, j) for i in range(3) for j in range(3)], np.int32)


# The toy example --------------------------------------------------------------------------------


def test_the_toys_networks_have_as_many_parameters_as_it_says():
    found = cm.Parameters().bind(space())(ROWS)
    assert found.tolist() == toy.PARAMETERS.flatten().tolist()
    feasible = {f"{i + 2}{j + 2}" for i, j in ROWS if toy.FEASIBLE[i, j]}
    assert feasible == {"22", "23", "24", "32", "33", "42"}
    best = torch.where(toy.FEASIBLE, toy.LOSSES, 9.0).argmin()
    assert divmod(int(best), 3) == toy.BEST


@pytest.mark.parametrize(
    ("name", "lr", "low", "high"),
    [
        ("absolute, beta -2", 0.05, 0.0, 0.35),
        ("TabNAS, N 5", 0.1, 0.6, 1.0),
        ("exact P(feasible)", 0.05, 0.85, 1.0),
    ],
)
def test_rejection_finds_what_a_reward_on_cost_does_not(name, lr, low, high):
    (method,) = [m for m in toy.METHODS if (m.name, m.lr) == (name, lr)]
    _, _, found, _ = toy.outcome(toy.search(method, 500))
    assert low <= found <= high


@pytest.mark.parametrize("samples", [5, 200])
def test_the_estimated_gradient_is_that_of_enumeration_and_wrong_ones_are_not(samples):
    estimates = 20_000 if samples == 5 else 4_000
    assert toy.gradient_error("symnas", samples, estimates) < 0.02
    assert toy.gradient_error("sum of p", samples, estimates) > 0.2
    assert toy.gradient_error("detached", samples, estimates) == pytest.approx(1.0)


def test_the_toy_steps_as_the_library_does():
    """The same draws through the toy's vectors, and through a controller of a bound space."""
    problem = bound(space(), [cm.Parameters() <= 25])
    controller = RejectionController(problem, lr=0.1, momentum=0.9, exact=True)
    logits = torch.zeros(1, 2, 3, dtype=torch.float64)
    adam, mean = toy.Adam(0.1), Mean(0.9)
    for row in ([2, 0], [0, 0], [1, 1], [2, 0], [0, 2]):
        quality = 1 - toy.LOSSES[row[0], row[1]]
        logits.requires_grad_()
        log = toy.joint(logits)[:, row[0], row[1]]
        advantage = quality - mean.add(quality)
        ascended = objective(advantage, log, toy.exact(logits))
        (gradient,) = torch.autograd.grad(ascended.sum(), logits)
        logits = adam(logits.detach(), gradient, torch.tensor([True]))
        told = controller.learn(np.array(row, np.int32), float(quality))
        assert told == pytest.approx(float(advantage))
        found = torch.stack([v.detach() for v in controller.policy.values]).double()
        # In its first step the advantage, and so the gradient, is 0 up to rounding.
        torch.testing.assert_close(found, logits[0], atol=1e-3, rtol=1e-3)


# The estimate -----------------------------------------------------------------------------------


def test_nothing_is_learned_where_no_draw_is_feasible():
    logs = torch.zeros(2, 4, requires_grad=True)
    feasible = torch.tensor([[True, False, True, True], [False] * 4])
    share = log_feasible(logs, feasible)
    assert share.exp().tolist() == pytest.approx([0.75, 0.0])
    log = torch.tensor([-1.0, -1.0], requires_grad=True)
    ascended = objective(torch.tensor([2.0, 2.0]), log, share)
    assert ascended.tolist() == pytest.approx([2 * (-1 - np.log(0.75)), 0.0])
    ascended.sum().backward()
    assert log.grad.tolist() == [2.0, 0.0]
    wanted = [[-2 / 3, 0.0, -2 / 3, -2 / 3], [0.0] * 4]
    torch.testing.assert_close(logs.grad, torch.tensor(wanted))


def nested():
    """Two decisions on the second of three kinds; what is dear is excluded."""
    inner = [sn.oneof([4, 8, 16], name="a"), sn.oneof([1, 5], name="b")]
    return sn.Space([sn.oneof([0, inner, 9], name="kind"), sn.oneof([1, 2, 3], name="c")])


@pytest.mark.parametrize("made", [space, nested])
def test_a_controllers_gradient_is_that_of_enumeration(made):
    where = made()
    rows = np.concatenate(list(where.enumerate()))
    if made is space:
        problem = bound(where, [cm.Parameters() <= 25])
    else:
        problem = bound(where, [lambda a: a.row[1] + a.row[3] <= 0])
    feasible = problem.feasible(rows)
    assert 0 < feasible.sum() < len(rows)
    controllers = [RejectionController(problem, lr=0.1, samples=200)]
    if problem.constraints.exact:
        controllers.append(RejectionController(problem, lr=0.1, exact=True))
    for controller in controllers:
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for value in controller.policy.values:
                value.copy_(torch.randn(value.shape, generator=generator))
        parameters = list(controller.policy.parameters())
        total = torch.logsumexp(controller.policy.log_probability(rows[feasible]), 0)
        wanted = torch.cat(torch.autograd.grad(total, parameters))
        steps = 1 if controller.exact else 150
        mean = sum(controller.log_share(step) for step in range(steps)) / steps
        found = torch.cat(torch.autograd.grad(mean, parameters))
        error = float((found - wanted).norm() / wanted.norm())
        assert error < (1e-5 if controller.exact else 0.05)


# Its steps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", ["monte-carlo", "exact"])
def test_infeasible_networks_are_neither_trained_nor_learned_from(probability):
    problem = bound(mixed(), [cm.Macs() <= 200])
    algorithm = TabNAS(
        epochs=4, probability=probability, samples=32, controller_lr=0.1, layer_warmup=0.25
    )
    run = begun(algorithm, problem, task(400, batch_size=20))
    trained, learned, drawn = [], [], []
    weights, policy, draw = run.update_weights, run.controller.learn, run.controller.draw
    run.controller.draw = lambda step: drawn.append(draw(step)) or drawn[-1]
    run.update_weights = lambda row, batch: trained.append(row) or weights(row, batch)
    run.controller.learn = lambda row, *rest: learned.append((run.steps, row)) or policy(row, *rest)
    told = [run.epoch(number) for number in range(4)]
    feasible = problem.feasible(np.array(drawn))
    assert len(drawn) == run.total == run.steps
    assert np.array_equal(np.array(trained), np.array(drawn)[feasible])
    assert min(step for step, _ in learned) >= run.total / 4  # the policy rests in the warm-up
    expected = np.array(drawn)[run.total // 4 :][feasible[run.total // 4 :]]
    assert np.array_equal(np.array([row for _, row in learned]), expected)
    if probability == "exact":
        assert feasible.all()
    else:
        assert 0 < feasible.mean() < 1
        assert np.mean([t["feasible"] for t in told]) == pytest.approx(feasible.mean())


def test_the_warm_up_widens_by_a_chance_that_falls_to_nothing():
    run = begun(TabNAS(epochs=8), bound(mixed()), task(160, batch_size=16))
    row = np.array([0, 0, -1, 1, 0], np.int32)
    assert run.operations == []
    assert run.warmed(row)[0].tolist() == [2, 0, -1, 1, 0]
    run.steps = run.total // 4
    assert run.warmed(row)[0].tolist() == row.tolist()


def test_derived_networks_keep_the_limit_though_the_likeliest_does_not(tmp_path):
    problem = bound(space(), [cm.Parameters() <= 25])
    controller = RejectionController(problem, lr=0.1, exact=True)
    with torch.no_grad():
        for value in controller.policy.values:
            value.copy_(torch.tensor([0.0, 0.5, 1.5]))  # 4-4 is the likeliest of all
    from symnas.oneshot.derive import likeliest

    rows = likeliest(problem, controller.probabilities(), 6)
    assert rows[0].tolist() in ([2, 0], [0, 2]) and len(rows) == 6
    assert problem.feasible(rows).all()


def test_it_keeps_targets(tmp_path):
    meets_targets(TabNAS(epochs=2, probability="exact", controller_lr=0.1), tmp_path)


def test_a_kill_changes_nothing(tmp_path):
    algorithm = TabNAS(epochs=3, samples=32, controller_lr=0.05, layer_warmup=0.3)
    same_after_a_kill(algorithm, tmp_path)


def test_it_is_told_what_it_cannot_do():
    problem = bound(mixed(), [lambda a: True])
    with pytest.raises(SymnasError, match="Use probability='monte-carlo'"):
        TabNAS(probability="exact").check(problem)
    TabNAS().check(problem)
    with pytest.raises(ValueError, match=r"`layer_warmup` \(1\) must be below 1"):
        TabNAS(layer_warmup=1)
    with pytest.raises(ValueError, match=r"`probability` \('guess'\) must be"):
        TabNAS(probability="guess")
