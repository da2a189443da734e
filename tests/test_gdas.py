"""GDAS: the gradient of a drawn path, its temperature, and what it finds."""

from __future__ import annotations

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
)
from symnas.algorithms.gdas import GDAS

import symnas as sn
from symnas import cost_models as cm


def test_logits_have_the_gradient_of_the_candidate_that_ran() -> None:
    run = begun(GDAS(epochs=2), bound(plain()), task(40))
    first, second = next(run.workshop.halves(0))
    with torch.no_grad():
        for logits in run.parameters:
            logits.copy_(torch.tensor([0.3, -0.2, 0.5, 0.1]))
    torch.manual_seed(5)
    soft = {id_: s.detach() for id_, s in run.logits.gumbel(10.0).items()}
    # The gradient of the loss with respect to the weights of what was drawn, as numbers.
    hard = {
        id_: torch.nn.functional.one_hot(s.argmax(), 4).float().requires_grad_()
        for id_, s in soft.items()
    }
    run.mix(hard)
    loss = run.workshop.loss(second)
    outer = dict(zip(hard, torch.autograd.grad(loss, list(hard.values())), strict=True))
    wanted = []
    for id_, s in soft.items():
        k = int(s.argmax())
        assert (outer[id_] != 0).sum() <= 1  # what did not run has no gradient
        wanted.append(outer[id_][k] * s[k] * (torch.eye(4)[k] - s) / 10.0)
    taken = []
    run.descend = taken.extend
    torch.manual_seed(5)
    assert run.update_logits(first, second) == pytest.approx(float(loss.detach()), rel=1e-5)
    for found, expected in zip(taken, wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_the_temperature_falls_linearly_and_one_candidate_runs() -> None:
    run = begun(GDAS(epochs=4, temperature=10, last_temperature=0.1), bound(plain()), task(80))
    total = 4 * run.steps_an_epoch
    assert total == 4 * 2  # 32 of 64 training examples, in batches of 20
    seen = []
    for step in range(total + 1):
        run.steps = step
        seen.append(run.temperature)
        assert all(int((w != 0).sum()) == 1 for w in run.mixture("weights").values())
    assert (
        seen[0] == 10 and seen[-1] == pytest.approx(0.1) and seen[total // 2] == pytest.approx(5.05)
    )


def test_warm_up_leaves_the_logits_alone() -> None:
    run = begun(GDAS(epochs=2, warmup=1, logits_lr=0.1), bound(plain()), task(80))
    assert "choice loss" not in run.epoch(0)
    assert all(bool((p == 0).all()) for p in run.parameters)
    assert "choice loss" in run.epoch(1)
    assert all(bool((p != 0).any()) for p in run.parameters)


def test_it_keeps_targets(tmp_path) -> None:
    tight, _, loose = meets_targets(GDAS(epochs=2, logits_lr=0.05), tmp_path)
    assert tight["relaxed macs"] < loose["relaxed macs"]


def test_a_kill_changes_nothing(tmp_path) -> None:
    same_after_a_kill(GDAS(epochs=3, warmup=1, logits_lr=0.05), tmp_path)


def test_it_finds_what_the_task_needs(tmp_path) -> None:
    algorithm = GDAS(epochs=12, warmup=4, logits_lr=0.03, temperature=3.0)
    assert nonlinear(algorithm, tmp_path) >= 5


def test_in_a_search() -> None:
    study = sn.search(
        mixed(), GDAS(epochs=2), task(160), maximize="accuracy", subject_to=[cm.Macs() <= 200], progress=False
    )  # fmt: skip
    assert study.best.costs["macs"] <= 200
    assert study.training["result"]["target macs"] == 200


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"`last_temperature` \(1.0\) must not be above"):
        GDAS(temperature=0.5, last_temperature=1.0)
    with pytest.raises(ValueError, match=r"`temperature` \(0\) must be above 0"):
        GDAS(temperature=0)
    with pytest.raises(TypeError, match="`penalty`"):
        GDAS(penalty="much")
