"""Rewards: the formulas, their gradients, and searches that follow them."""

from __future__ import annotations

import pytest
import torch
from symnas.spaces import mobilenet_28

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas.rewards import Absolute, Mnas, MnasHard

MACS = cm.Macs()


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


def test_absolute_ends_near_its_target_and_is_recorded(tmp_path):
    target = 1_000_000.0
    reward = Absolute(MACS, target, beta=-1.0)
    path = tmp_path / "study.db"

    def search(reward, **options):
        return sn.search(
            mobilenet_28(),
            alg.RegularizedEvolution(population_size=10, tournament_size=5),
            lambda architecture: 0.5,
            maximize="quality",
            reward=reward,
            trials=60,
            study=str(path),
            progress=False,
            **options,
        )

    study = search(reward)
    best = study.best
    assert abs(best.costs["macs"] / target - 1) < 0.05
    assert best.scores == pytest.approx((reward(0.5, best.costs),))
    assert study.record["reward"] == reward.describe()
    with pytest.raises(sn.StudyChanged, match="reward"):
        search(Absolute(MACS, 2 * target, beta=-1.0))


def test_a_hard_limit_and_a_reward_hold_together():
    study = sn.search(
        mobilenet_28(),
        alg.RandomSearch(),
        lambda architecture: 0.5,
        maximize="quality",
        reward=Absolute(MACS, 500_000) & Absolute(cm.Parameters(), 20_000),
        subject_to=[MACS <= 500_000],
        trials=20,
        progress=False,
    )
    for trial in study.trials:
        assert trial.costs["macs"] <= 500_000
        assert set(trial.costs) == {"macs", "parameters"}
