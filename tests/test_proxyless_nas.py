"""ProxylessNAS: two paths, the gradients of their gates, and what is left as it was."""

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
from symnas.algorithms.proxyless_nas import INACTIVE, ProxylessNAS

import symnas as sn
from symnas import cost_models as cm
from symnas.oneshot.relaxed import hinge


def ready(**options):
    run = begun(ProxylessNAS(epochs=2, **options), bound(plain()), task(40))
    with torch.no_grad():
        for logits in run.parameters:
            logits.copy_(torch.tensor([0.3, -0.2, 0.5, 0.1]))
    return run


def test_gates_have_the_gradients_of_equation_4() -> None:
    """d loss / d logit_i = sum over j of d loss / d gate_j * p_j * (delta_ij - p_i)."""
    run = ready()
    _, second = next(run.workshop.halves(0))
    pairs = run.pairs()
    gates = run.gates(pairs)
    for id_, pair in pairs.items():
        assert len(set(pair.tolist())) == 2
        assert sorted(gates[id_].tolist())[:2] == [0, 0]  # the others do not run
        assert sorted(gates[id_][pair].tolist()) == pytest.approx([INACTIVE, 1.0], rel=1e-6)
    run.mix(gates)
    loss = run.workshop.loss(second)
    found = torch.autograd.grad(loss, run.parameters, retain_graph=True)
    outer = torch.autograd.grad(loss, list(gates.values()))
    for gradient, of_gates, (id_, pair) in zip(found, outer, pairs.items(), strict=True):
        p = torch.softmax(run.logits.logits()[id_].detach()[pair], 0)
        wanted = torch.zeros(4)
        for i in range(2):
            for j in range(2):
                wanted[pair[i]] += of_gates[pair[j]] * p[j] * (float(i == j) - p[i])
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-7)
        assert bool((of_gates[pair] != 0).any())


def test_a_gate_that_is_not_active_has_the_gradient_of_its_candidate() -> None:
    """d loss / d gate_j is the product of the gradient of the sum with candidate j's result."""
    run = ready()
    first, second = run.problem.space.columns
    net, x = run.workshop.net, torch.randn(7, 3, generator=torch.Generator().manual_seed(2))
    gates = {
        first: torch.tensor([0.0, 0.0, 1.0, INACTIVE], requires_grad=True),
        second: torch.tensor([1.0, 0.0, 0.0, 0.0]),
    }
    output = net.mix(gates)(x)
    found = torch.autograd.grad(output.sum(), gates[first])[0]
    layers = net.child([3, 0])
    hidden = layers[0](x).detach()
    outer = (layers[4].weight @ layers[2].weight).sum(0).detach()
    assert torch.allclose(output, net.child([2, 0])(x), atol=1e-6)
    wanted = torch.tensor(
        [0.0, 0.0, float((hidden.relu() @ outer).sum()), float((hidden @ outer).sum())]
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_probabilities_of_the_others_stay() -> None:
    run = ready()
    before = {id_: p.detach().clone() for id_, p in run.logits.probabilities().items()}
    old = {id_: v.detach().clone() for id_, v in run.logits.logits().items()}
    pair = torch.tensor([0, 2])
    with torch.no_grad():
        for logits in run.parameters:
            logits.copy_(torch.tensor([1.3, -9.0, -0.5, 7.0]))  # momentum may move the others
    run.rescale(old, dict.fromkeys(old, pair))
    for id_, p in run.logits.probabilities().items():
        torch.testing.assert_close(p[[1, 3]], before[id_][[1, 3]])
        torch.testing.assert_close(p[pair].sum(), before[id_][pair].sum())
        torch.testing.assert_close(p[0] / p[2], torch.tensor(1.8).exp())


def test_a_step_changes_two_logits_of_a_decision() -> None:
    run = ready(logits_lr=0.1)
    before = [p.detach().clone() for p in run.parameters]
    first, second = next(run.workshop.halves(0))
    run.update_logits(first, second)
    for logits, old in zip(run.parameters, before, strict=True):
        assert int((logits != old).sum()) in (0, 2)
    assert any(bool((p != o).any()) for p, o in zip(run.parameters, before, strict=True))


def test_the_penalty_is_a_hinge_whose_gradient_is_of_the_pair() -> None:
    macs = cm.Macs()
    space = sn.Space(sn.nn.Linear(10, sn.oneof([1, 2, 4], name="width")), input=(10,))
    run = begun(
        ProxylessNAS(epochs=1, penalty=3.0), bound(space, [macs <= 20]),
        sn.Task((torch.randn(20, 10), torch.randn(20, 1)), kind="regression"),
    )  # fmt: skip
    expected = run.limited[0].cost.expected(run.narrowed({"out_features": torch.tensor([0, 2])}))
    assert float(expected.detach()) == pytest.approx(70 / 3)
    limits = run.limited[0].constraint.limits
    penalty = 3.0 * hinge(expected, limits)
    assert float(penalty.detach()) == pytest.approx(3 * (70 / 60 - 1))
    # Of 10 and 40, with 2/3 of all probability, half each: 3/20 * 2/3 * 1/4 * (40 - 10).
    gradient = torch.autograd.grad(penalty, run.parameters)[0]
    assert gradient.tolist() == pytest.approx([-0.75, 0, 0.75])
    assert float(hinge(torch.tensor(19.0), limits)) == 0


def test_it_keeps_targets(tmp_path) -> None:
    tight, _, loose = meets_targets(ProxylessNAS(epochs=2, logits_lr=0.05), tmp_path)
    assert tight["relaxed macs"] < loose["relaxed macs"]


def test_a_kill_changes_nothing(tmp_path) -> None:
    same_after_a_kill(ProxylessNAS(epochs=3, warmup=1, logits_lr=0.05), tmp_path)


def test_it_finds_what_the_task_needs(tmp_path) -> None:
    algorithm = ProxylessNAS(epochs=12, warmup=4, logits_lr=0.03)
    assert nonlinear(algorithm, tmp_path) >= 5


def test_in_a_search_with_shared_weights() -> None:
    study = sn.search(
        mixed(), ProxylessNAS(epochs=2, retrain=False), task(160), maximize="accuracy",
        subject_to=[cm.Macs() <= 200], progress=False,
    )  # fmt: skip
    assert study.best.costs["macs"] <= 200


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"`share` \(1\) must be above 0 and below 1"):
        ProxylessNAS(share=1)
    floats = sn.Space(
        sn.nn.Sequential(sn.nn.Dropout(sn.floatv(0.0, 0.5)), sn.nn.Linear(3, 2)), input=(3,)
    )
    with pytest.raises(sn.SymnasError, match="is a float"):
        begun(ProxylessNAS(), bound(floats), task(40))
