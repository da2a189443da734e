"""Rewards: the formulas, their gradients, and searches that follow them."""

from __future__ import annotations

import attrs
import pytest
import torch
from symnas.spaces import mobilenet_28

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas.rewards import Absolute, Mnas, MnasHard

MACS = cm.Macs()


@pytest.fixture(scope="module")
def space():
    return mobilenet_28()


def search(space, reward, quality=lambda architecture: 0.5, **options):
    options = {"algorithm": alg.RandomSearch(), "trials": 20, "maximize": "quality"} | options
    algorithm = options.pop("algorithm")
    return sn.search(space, algorithm, quality, reward=reward, progress=False, **options)


@pytest.mark.parametrize(
    ("reward", "cheap", "dear"),
    [
        (Absolute(MACS, 100, beta=-0.2), 0.5 - 0.2 * 0.5, 0.5 - 0.2 * 3),
        (Mnas(MACS, 100, beta=-0.5), 0.5 * 2**0.5, 0.5 / 2),
        (MnasHard(MACS, 100, beta=-0.5), 0.5, 0.5 / 2),
        (Absolute(MACS, 100) & Mnas(cm.Parameters(), 10, beta=-1), 0.45 / 2, 0.2 / 2),
    ],
)
def test_formulas_for_numbers_and_tensors(reward, cheap, dear):
    for macs, expected in ((50.0, cheap), (400.0, dear)):
        assert reward(0.5, {"macs": macs, "parameters": 20.0}) == pytest.approx(expected)
        quality = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        cost = torch.tensor(macs, dtype=torch.float64, requires_grad=True)
        value = reward(quality, {"macs": cost, "parameters": torch.tensor(20.0)})
        assert value.item() == pytest.approx(expected)
        value.backward()
        assert quality.grad > 0 and (cost.grad <= 0 if macs > 100 else True)


def test_mistakes_are_named():
    with pytest.raises(sn.DeclarationError, match=r"`beta` \(0.1\) must not be positive"):
        Absolute(MACS, 100, beta=0.1)
    with pytest.raises(sn.DeclarationError, match=r"`target` \(0\)"):
        Mnas(MACS, 0)
    with pytest.raises(sn.DeclarationError, match=r"its `\.cost`"):
        Absolute(MACS <= 100, 100)
    with pytest.raises(KeyError, match="macs"):
        Absolute(MACS, 100)(0.5, {"parameters": 1.0})
    with pytest.raises(ValueError, match="negative"):
        Mnas(MACS, 100)(-0.5, {"macs": 100.0})

    with pytest.raises(ValueError, match="not positive"):
        Mnas(MACS, 100)(0.5, {"macs": 0.0})
    with pytest.raises(sn.DeclarationError, match="named 'macs'"):
        Absolute(MACS, 100) & Absolute(cm.Parameters(name="macs"), 10)
    with pytest.raises(TypeError):
        Absolute(MACS, 100) & (lambda quality, costs: quality)


def test_rewards_are_frozen_values():
    reward = Absolute(MACS, 100) & Mnas(cm.Parameters(), 10)
    assert reward == Absolute(cm.Macs(), 100) & Mnas(cm.Parameters(), 10)
    assert reward != Mnas(cm.Parameters(), 10) & Absolute(MACS, 100)
    assert str(reward) == (
        "Absolute(macs, target=100, beta=-0.1) & Mnas(parameters, target=10, beta=-0.07)"
    )
    assert (reward & Absolute(MACS, 5)).rewards == (*reward.rewards, Absolute(MACS, 5))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        reward.rewards[0].target = 3


def test_hard_reward_has_a_gradient_where_nothing_is_left_to_gain():
    cost = torch.zeros((), requires_grad=True)
    value = MnasHard(MACS, 100)(torch.tensor(0.5), {"macs": cost})
    value.backward()
    assert (value.item(), cost.grad.item()) == (0.5, 0.0)


def test_rewards_of_many_architectures_at_once():
    quality, macs = torch.rand(5), 200 * torch.rand(5)
    for reward in (Absolute(MACS, 100), Mnas(MACS, 100), MnasHard(MACS, 100)):
        together = reward(quality, {"macs": macs})
        each = [reward(float(q), {"macs": float(m)}) for q, m in zip(quality, macs, strict=True)]
        assert together.tolist() == pytest.approx(each, rel=1e-5)


def test_expected_cost_in_a_reward_has_the_gradient_of_the_policy(space):
    bound = MACS.bind(space)
    logits = {d.id: torch.zeros(d.size, requires_grad=True) for d in space.decisions}
    probabilities = {name: torch.softmax(value, 0) for name, value in logits.items()}
    target = 0.5 * float(bound.expected())
    Absolute(MACS, target)(0.5, {"macs": bound.expected(probabilities)}).backward()
    width = next(d for d in space.decisions if d.name == "width 0")
    assert logits[width.id].grad[0] > 0 > logits[width.id].grad[-1]  # narrower is better


def test_absolute_ends_near_its_target_and_is_recorded(space, tmp_path):
    target = 1_000_000.0
    reward = Absolute(MACS, target, beta=-1.0)
    path = str(tmp_path / "study.db")
    evolution = alg.RegularizedEvolution(population_size=10, tournament_size=5)
    study = search(space, reward, algorithm=evolution, trials=60, study=path)
    best = study.best
    assert abs(best.costs["macs"] / target - 1) < 0.05
    assert best.scores == pytest.approx((reward(0.5, best.costs),))
    assert study.record["reward"] == reward.describe()
    with pytest.raises(sn.StudyChanged, match=r"reward\.target"):
        other = Absolute(MACS, 2 * target, beta=-1.0)
        search(space, other, algorithm=evolution, trials=60, study=path)


def test_a_hard_limit_and_a_reward_hold_together(space):
    reward = Absolute(MACS, 500_000) & Absolute(cm.Parameters(), 20_000)
    for trial in search(space, reward, subject_to=[MACS <= 500_000]).trials:
        assert trial.costs["macs"] <= 500_000
        assert set(trial.costs) == {"macs", "parameters"}


def test_trials_without_a_reward_fail_and_say_why(space):
    def quality(architecture):
        return -0.5 if architecture["width 0"] == 8 else 0.5

    study = search(space, Mnas(MACS, 1_000_000), quality)
    assert 0 < len(study.failed) < 20
    assert all("sn.rewards.Absolute" in trial.reason for trial in study.failed)
    assert study.best.metrics["quality"] == 0.5
    failed = search(space, lambda quality, costs: float("inf"), trials=3).failed
    assert [trial.reason for trial in failed] == ["reward: it gave inf for the quality 0.5"] * 3


def test_rewards_that_cannot_be_are_refused_before_the_search(space):
    with pytest.raises(ValueError, match="must be a reward"):
        search(space, Absolute)
    with pytest.raises(ValueError, match="exactly one objective"):
        search(space, Absolute(MACS, 100), minimize=[MACS])
    with pytest.raises(ValueError, match=r"minimize='loss' would be negative"):
        search(space, Absolute(MACS, 1) & Mnas(MACS, 1), maximize=None, minimize="loss")
