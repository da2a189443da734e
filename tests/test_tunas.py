"""TuNAS: its formulas by hand, the order of a step, warm-ups, and what it finds at which cost."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from relaxed_examples import (
    begun,
    bound,
    meets_targets,
    mixed,
    nonlinear,
    plain,
    same_after_a_kill,
    task,
    trained,
)
from symnas.algorithms.tunas import TuNAS

import symnas as sn
from symnas import cost_models as cm
from symnas.errors import SymnasError
from symnas.oneshot.controller import Controller
from symnas.oneshot.warmup import own_statistics, widest


def nested() -> sn.Space:
    """The second decision is only there with the first one's second value."""
    return sn.Space(sn.oneof([1, sn.oneof([10, 20, 30], name="inner")], name="outer"))


def toy() -> sn.Space:
    """Two hidden layers; with at most 25 parameters, six of nine are left."""
    first, second = sn.oneof([2, 3, 4], name="first"), sn.oneof([2, 3, 4], name="second")
    return sn.Space(
        sn.nn.Sequential(
            sn.nn.Linear(2, first), sn.nn.Linear(sn.tied("first"), second), sn.nn.Linear(sn.tied("second"), 1)
        ),
        input=(2,),
    )  # fmt: skip


def widths() -> sn.Space:
    sizes = [8, 16, 24, 32, 48, 64]
    a, b, c = (sn.oneof(sizes, name=name) for name in "abc")
    return sn.Space(
        sn.nn.Sequential(
            sn.nn.Linear(3, a), sn.nn.ReLU(), sn.nn.Linear(sn.tied("a"), b), sn.nn.ReLU(),
            sn.nn.Linear(sn.tied("b"), c), sn.nn.ReLU(), sn.nn.Linear(sn.tied("c"), 2),
        ),
        input=(3,),
    )  # fmt: skip


def gradients(controller: Controller, value: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(value, list(controller.policy.parameters())))


# The controller ---------------------------------------------------------------------------------


def test_the_mean_is_without_bias_and_includes_the_step_itself() -> None:
    controller = Controller(sn.Problem(nested()), lr=0.1, momentum=0.95)
    row = np.array([0, -1], np.int32)
    found = [controller.learn(row, reward) for reward in (0.8, 0.2, 0.5)]
    weights = [0.05 * 0.95**age for age in range(3)]
    means = [
        0.8,
        (weights[0] * 0.2 + weights[1] * 0.8) / sum(weights[:2]),
        (weights[0] * 0.5 + weights[1] * 0.2 + weights[2] * 0.8) / sum(weights),
    ]
    wanted = [reward - mean for reward, mean in zip((0.8, 0.2, 0.5), means, strict=True)]
    assert found == pytest.approx(wanted)
    assert found[0] == pytest.approx(0)  # the first reward is its own mean


def test_a_step_is_adam_without_momentum_on_active_decisions_alone() -> None:
    controller = Controller(sn.Problem(nested()), lr=0.1, momentum=0.0)
    assert [bool((v == 0).all()) for v in controller.policy.values] == [True, True]
    controller.rewards, controller.weights, controller.momentum = 0.5, 1.0, 0.5
    # The mean becomes (0.5 * 0.5 + 0.5 * 0.9) / (0.5 + 0.5) = 0.7, the advantage 0.2.
    assert controller.learn(np.array([1, 2], np.int32), 0.9, rate=2.0) == pytest.approx(0.2)
    # The gradient of -0.2 log p is 0.2 (p - one-hot); Adam's first step is its sign times the rate.
    outer, inner = (v.detach() for v in controller.policy.values)
    torch.testing.assert_close(outer, 0.2 * torch.tensor([-1.0, 1.0]), rtol=1e-4, atol=0)
    torch.testing.assert_close(inner, 0.2 * torch.tensor([-1.0, -1.0, 1.0]), rtol=1e-4, atol=0)
    group = controller.optimizer.param_groups[0]
    assert group["betas"] == (0.0, 0.999) and group["eps"] == 1e-8
    before = inner.clone()
    controller.learn(np.array([0, -1], np.int32), 0.1)
    assert torch.equal(controller.policy.values[1].detach(), before)


def test_log_probability_is_over_active_decisions() -> None:
    controller = Controller(sn.Problem(nested()), lr=0.1)
    with torch.no_grad():
        controller.policy.values[0].copy_(torch.tensor([0.0, math.log(3)]))
    log = [
        float(controller.log_probability(np.array(row)).exp().detach()) for row in ([0, -1], [1, 0])
    ]
    assert log == pytest.approx([1 / 4, 3 / 4 / 3])


def test_the_gradient_given_feasibility_is_that_of_all_feasible_networks() -> None:
    space = toy()
    rows = np.array(list(itertools.product(range(3), repeat=2)), np.int32)
    problems = [
        bound(space, [cm.Parameters() <= 25]),
        bound(space, [lambda a: a["first"] * a["second"] <= 9]),
    ]
    assert [p.constraints.exact for p in problems] == [True, False]
    wanted_rows = {"22", "23", "24", "32", "33", "42"}
    for problem in problems:
        kept = rows[problem.constraints.mask(rows)]
        assert {f"{a + 2}{b + 2}" for a, b in kept} == wanted_rows
        controller = Controller(problem, lr=0.1, feasible=True)
        with torch.no_grad():
            for values, given in zip(
                controller.policy.values, ([0.4, -0.3, 0.8], [-0.2, 0.6, 0.1]), strict=True
            ):
                values.copy_(torch.tensor(given))
        row = np.array([2, 0], np.int32)
        total = torch.logsumexp(controller.policy.log_probability(kept), 0)
        log = controller.policy.log_probability(row[None])[0] - total
        expected = gradients(controller, log)
        if problem.constraints.exact:
            assert float(controller.log_probability(row).detach()) == pytest.approx(
                float(log.detach())
            )
            found = gradients(controller, controller.log_probability(row))
            tolerance = 1e-5
        else:
            steps = 50
            mean = sum(controller.log_probability(row, step) for step in range(steps)) / steps
            found = gradients(controller, mean)
            tolerance = 4 * 0.5 / math.sqrt(steps * 64)  # of means of indicators
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def test_paths_are_drawn_as_likely_as_the_policy_says() -> None:
    space = nested()
    controller = Controller(sn.Problem(space, seed=3), lr=0.1)
    with torch.no_grad():
        controller.policy.values[0].copy_(torch.tensor([0.0, math.log(3)]))
    rows = [tuple(controller.draw(step).tolist()) for step in range(400)]
    assert rows == [tuple(controller.draw(step).tolist()) for step in range(400)]
    assert sum(row[0] for row in rows) / 400 == pytest.approx(0.75, abs=0.09)
    assert {row[1] for row in rows if row[0] == 0} == {-1}
    problem = bound(toy(), [cm.Parameters() <= 25])
    controller = Controller(problem, lr=0.1, feasible=True)
    drawn = np.array([controller.draw(step) for step in range(100)])
    assert problem.constraints.mask(drawn).all() and len({*map(tuple, drawn)}) == 6


# The run ----------------------------------------------------------------------------------------


def test_one_network_a_step_is_trained_then_measured_then_judged() -> None:
    algorithm = TuNAS(epochs=4, delay=0.25, controller_lr=0.1, beta=-0.2)
    problem = bound(mixed(), [cm.Macs() <= 300])
    run = begun(algorithm, problem, task(400, batch_size=40))
    assert run.total == 4 * 4  # 160 of 320 examples, 40 in a batch
    seen: list[tuple[str, object]] = []
    own = {name: getattr(run, name) for name in ("update_weights", "quality", "update_policy")}
    weights = torch.nn.utils.parameters_to_vector

    def update_weights(row, batch):
        seen.append(("weights", (row.tolist(), batch)))
        return own["update_weights"](row, batch)

    def quality(row, batch):
        seen.append(("quality", (row.tolist(), batch, weights(run.workshop.net.parameters()))))
        return own["quality"](row, batch)

    def update_policy(row, found):
        seen.append(("policy", (row.tolist(), found, weights(run.workshop.net.parameters()))))
        return own["update_policy"](row, found)

    run.update_weights, run.quality, run.update_policy = update_weights, quality, update_policy
    told = run.epoch(0)
    assert [name for name, _ in seen] == ["weights"] * 4  # the policy rests for a quarter
    assert set(told) == {"loss", "entropy"} and told["entropy"] == pytest.approx(1)
    assert run.controller.weights == 0 and all((v == 0).all() for v in run.controller.policy.values)
    del seen[:]
    rates = []
    learn = run.controller.learn
    run.controller.learn = lambda row, reward, rate, step: (
        rates.append((rate, reward)),
        learn(row, reward, rate, step),
    )
    for epoch in (1, 2, 3):
        told = run.epoch(epoch)
    assert set(told) == {"loss", "quality", "reward", "entropy"} and told["entropy"] < 1
    assert [name for name, _ in seen] == ["weights", "quality", "policy"] * 12
    assert [rate for rate, _ in rates] == pytest.approx([10 ** (i / 12) for i in range(12)])
    assert run.controller.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 10 ** (11 / 12))
    macs = cm.Macs().bind(problem.space)
    trained_on, measured_on, before = set(), set(), None
    for first, second, third in zip(seen[::3], seen[1::3], seen[2::3], strict=True):
        assert first[1][0] == second[1][0] == third[1][0]
        assert len(first[1][1].x) == 40 and len(second[1][1].x) == 160
        trained_on |= {tuple(x) for x in first[1][1].x.tolist()}
        measured_on |= {tuple(x) for x in second[1][1].x.tolist()}
        assert torch.equal(second[1][2], third[1][2])  # measuring trains nothing
        assert before is None or not torch.equal(before, second[1][2])
        before = second[1][2]
    assert len(trained_on) == len(measured_on) == 160 and not trained_on & measured_on
    for (_, (row, found, _)), (_, reward) in zip(seen[2::3], rates, strict=True):
        cost = float(macs(np.array([row], np.int32))[0])
        assert reward == pytest.approx(found - 0.2 * abs(cost / 300 - 1))


def test_warm_ups_average_modules_and_widen_by_a_falling_chance() -> None:
    space = mixed()
    run = begun(
        TuNAS(epochs=8, delay=0.5, filter_warmup=0.25), bound(space), task(160, batch_size=16)
    )
    columns = space.columns
    width, inner, depth = 0, 2, 4
    assert [columns[c] for c in run.operations] == ["args[5]", "args[6]"]
    assert run.widest == {width: 2, inner: 1}
    assert run.total == 32
    row = np.array([0, 0, -1, 1, 0], np.int32)
    wide, mixture = run.warmed(row)  # the first step: all are averaged and widened
    assert wide.tolist() == [2, 0, -1, 1, 0]
    assert mixture["args[5]"].tolist() == pytest.approx([1 / 3] * 3)
    assert mixture["args[6]"].tolist() == [0.5, 0.5]
    assert mixture[columns[inner]].tolist() == [0, 1] and columns[depth] not in mixture
    assert row.tolist() == [0, 0, -1, 1, 0]
    chances = []
    for step in range(0, 17, 4):
        run.steps = step
        chances.append((run._chance(0.25), run._chance(0.5)))
    assert chances == [(1.0, 1.0), (0.5, 0.75), (0.0, 0.5), (0.0, 0.25), (0.0, 0.0)]
    averaged = []
    for run.steps in range(16):
        found = run.warmed(row)[1]
        averaged += [0 < float(found.get(name, [0])[0]) < 1 for name in ("args[5]", "args[6]")]
    assert 8 <= sum(averaged) <= 28  # of 32, 17 expected; each decision by itself
    assert len({*zip(averaged[::2], averaged[1::2], strict=True)}) == 4
    run.steps = 16
    assert run.warmed(row)[0].tolist() == row.tolist() and run.warmed(row)[1] == {}


def test_what_is_averaged_has_gradients_in_all_candidates() -> None:
    kinds = [sn.nn.Linear(3, 3), sn.nn.Linear(3, 3, bias=False), sn.nn.Identity()]
    space = sn.Space(sn.nn.Sequential(sn.oneof(kinds), sn.nn.Linear(3, 2)), input=(3,))
    for warmup, alone in ((0.25, False), (0.0, True)):
        run = begun(TuNAS(epochs=4, op_warmup=warmup), bound(space), task(80))
        first, _ = next(run.workshop.halves(0, 0.5, 4))
        run.update_weights(np.array([2], np.int32), first)  # has no weights of its own
        without = sum(p.grad is None or not p.grad.any() for p in run.workshop.net.parameters())
        assert without == (3 if alone else 0)


def test_only_sizes_of_weights_are_widened() -> None:
    rate = sn.nn.LeakyReLU(sn.oneof([0.1, 0.2], name="slope"))
    layers = [
        sn.nn.Linear(3, sn.oneof([8, 4], name="width")),
        rate,
        sn.nn.Linear(sn.tied("width"), 2),
    ]
    space = sn.Space(sn.nn.Sequential(*layers), input=(3,))
    assert widest(sn.Supernet(space)) == {0: 0}  # the larger one, which comes first


def test_norms_without_memory_use_the_batch_and_keep_their_statistics() -> None:
    space = mixed()
    for stateless in (True, False):
        run = begun(TuNAS(epochs=2, stateless_norms=stateless), bound(space), task(160))
        net, row = run.workshop.net, np.array([1, 0, -1, 0, 0], np.int32)
        for _ in range(3):
            first, second = next(run.workshop.halves(0, 0.5, 4))
            run.update_weights(row, first)
        child = net.child(row)
        for module in child.modules():
            module.train(stateless and isinstance(module, torch.nn.BatchNorm1d))
        with torch.no_grad():
            wanted = run.workshop.task.metrics(child(second.x), second)["accuracy"]
            outputs = child(second.x)
        state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        assert run.quality(row, second) == wanted
        assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
        net.eval().select(row)
        usual = net(second.x)
        if stateless:
            with own_statistics(net):
                torch.testing.assert_close(net(second.x), outputs)
            assert not torch.allclose(usual, outputs)
        else:
            torch.testing.assert_close(usual, outputs)
        assert torch.equal(net(second.x), usual)  # all is as it was
        assert any("running_mean" in name for name in state)


def test_the_reward_aims_at_the_tightest_upper_limit_of_each_cost() -> None:
    def made(constraints, **options):
        problem = bound(mixed(), constraints, **{k: v for k, v in options.items() if k == "reward"})
        settings = {k: v for k, v in options.items() if k != "reward"}
        return begun(TuNAS(epochs=1, delay=0, **settings), problem, task(40)).reward

    macs, parameters = cm.Macs(), cm.Parameters()
    assert made(None) is None
    assert made([macs >= 200]) is None
    assert made([macs <= 300]) == sn.rewards.Absolute(macs, 300, -0.1)
    both = made([macs <= 300, macs <= 250, parameters <= 400], beta=-0.5)
    costs = {"macs": 500, "parameters": 200}
    assert both(1.0, costs) == pytest.approx(1.0 - 0.5 * (500 / 250 - 1) - 0.5 * (1 - 200 / 400))
    assert made([macs <= 300], feasible_paths=True) is None
    given = sn.rewards.Mnas(macs, 200)
    assert made([macs <= 300], reward=given) is given


def test_broken_weights_teach_nothing() -> None:
    run = begun(TuNAS(epochs=1, delay=0, controller_lr=0.1), bound(plain()), task(40))
    assert run.update_policy(np.array([0, 0], np.int32), math.nan) == {}
    assert run.controller.weights == 0


# What it finds ----------------------------------------------------------------------------------


def test_expected_costs_end_near_the_target_from_either_side(tmp_path) -> None:
    space = widths()
    macs = cm.Macs().bind(space)
    low, high = macs.range()[:2]
    even = float(macs.expected())
    sides = []
    for share in (0.1, 0.3, 0.6):
        target = low + share * (high - low)
        problem = bound(space, [cm.Macs() <= target])
        run = trained(
            TuNAS(epochs=16, controller_lr=0.03), problem, task(900), tmp_path / f"{share}"
        )
        notes = run.notes()
        assert notes["relaxed macs"] == pytest.approx(target, rel=0.2)
        assert notes["discrete macs"] <= target == notes["target macs"]
        assert abs(notes["relaxed macs"] - target) < abs(even - target)
        sides.append(target > even)
    assert sides == [False, True, True]


def test_it_keeps_targets(tmp_path) -> None:
    tight, _, loose = meets_targets(TuNAS(epochs=3, controller_lr=0.1), tmp_path / "free")
    assert tight["relaxed macs"] < loose["relaxed macs"]
    meets_targets(TuNAS(epochs=3, controller_lr=0.1, feasible_paths=True), tmp_path / "feasible")


def test_a_kill_changes_nothing(tmp_path) -> None:
    same_after_a_kill(TuNAS(epochs=3, delay=0.5, controller_lr=0.05), tmp_path / "free")
    feasible = TuNAS(epochs=3, controller_lr=0.05, feasible_paths=True)
    same_after_a_kill(feasible, tmp_path / "feasible")


def test_it_finds_what_the_task_needs(tmp_path) -> None:
    # By chance 1.5 of 6; 5 or 6 with a probability of 0.5%.
    assert nonlinear(TuNAS(epochs=16, controller_lr=0.02), tmp_path) >= 5


def test_in_a_search() -> None:
    reward = sn.rewards.Absolute(cm.Macs(), target=250.0, beta=-0.5)
    study = sn.search(
        mixed(), TuNAS(epochs=2), task(160), maximize="accuracy", reward=reward,
        subject_to=[cm.Parameters() <= 400], progress=False,
    )  # fmt: skip
    assert study.best.costs["parameters"] <= 400
    result = study.training["result"]
    assert result["target macs"] == 250 and result["target parameters"] == 400
    assert {"entropy", "relaxed macs", "discrete macs", "relaxed parameters"} <= set(result)


def test_resolution_may_be_chosen(tmp_path) -> None:
    side = sn.oneof([4, 8], name="side")
    layers = [
        sn.nn.Conv2d(1, sn.oneof([2, 4], name="width"), 3, padding=1), sn.nn.BatchNorm2d(sn.tied("width")),
        sn.oneof([sn.nn.ReLU(), sn.nn.Sigmoid()]), sn.nn.AdaptiveAvgPool2d(1), sn.nn.Flatten(),
        sn.nn.Linear(sn.tied("width"), 3),
    ]  # fmt: skip
    space = sn.Space(sn.nn.Sequential(*layers), input=(1, side, side))
    x = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = sn.Task((x, torch.arange(60) % 3), batch_size=12, lr=0.01)
    problem = bound(space, [cm.Macs() <= 2000])
    run = trained(TuNAS(epochs=4), problem, images, tmp_path)
    assert problem.constraints.mask(run.derive(2)).all()


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"`op_warmup` \(0.3\) must not be above `delay` \(0.25\)"):
        TuNAS(op_warmup=0.3)
    with pytest.raises(ValueError, match=r"`filter_warmup` \(0.25\) must not be above `delay`"):
        TuNAS(delay=0.2, filter_warmup=0.25)
    with pytest.raises(ValueError, match=r"`beta` \(0.1\) must be .* at most 0"):
        TuNAS(beta=0.1)
    with pytest.raises(ValueError, match=r"`delay` \(1\) must be below 1"):
        TuNAS(delay=1)
    rate = sn.nn.Dropout(sn.floatv(0.1, 0.5))
    space = sn.Space(sn.nn.Sequential(sn.nn.Linear(3, 2), rate), input=(3,))
    with pytest.raises(SymnasError, match="is a float"):
        begun(TuNAS(), bound(space), task(40))
    with pytest.raises(SymnasError, match=r"\[0\], .* one sn\.oneof for each pick"):
        Controller(sn.Problem(sn.Space(sn.manyof(2, [1, 2, 3]))), lr=0.1)
