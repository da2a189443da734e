"""MSG-DAS: paths that exclude one another, their gradients, dropped blocks, the mixture as teacher."""

from __future__ import annotations

import itertools

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
from symnas.algorithms.msgdas import MSGDAS, gumbel_top_k
from torch import nn

import symnas as sn
from symnas import cost_models as cm
from symnas.oneshot.drop_block import drop_block

# Drawing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("paths", [2, 3, 4])
def test_paths_have_no_candidate_in_common(paths) -> None:
    run = begun(MSGDAS(paths=paths), bound(plain()), task(40))
    with torch.no_grad():
        for logits in run.parameters:
            logits.copy_(torch.tensor([9.0, 0.0, -9.0, 0.5]))  # all but certain
    for _ in range(100):
        drawn = run.draw()
        for id_ in drawn[0][0]:
            taken = torch.stack([hard[id_] for hard, _ in drawn])
            assert taken.sum(1).tolist() == [1.0] * paths
            assert taken.sum(0).max() == 1
            if paths == 4:
                assert taken.sum(0).tolist() == [1.0] * 4


def test_values_are_drawn_as_from_an_urn() -> None:
    """How often each is drawn first, and among the first two, against Plackett-Luce."""
    logits = torch.tensor([1.5, 0.5, 0.0, -1.0])
    p = torch.softmax(logits, 0).tolist()
    pairs = {(i, j): p[i] * p[j] / (1 - p[i]) for i, j in itertools.permutations(range(4), 2)}
    assert sum(pairs.values()) == pytest.approx(1)
    included = torch.tensor([sum(q for pair, q in pairs.items() if i in pair) for i in range(4)])
    torch.manual_seed(0)
    n = 8000
    drawn = torch.stack([gumbel_top_k(logits, 2, 1.0)[0] for _ in range(n)])
    for found, expected in ((drawn[:, 0], torch.tensor(p)), (drawn.sum(1), included)):
        deviation = (expected * (1 - expected) / n).sqrt()
        assert ((found.mean(0) - expected).abs() < 4 * deviation).all()


def test_the_relaxation_by_hand() -> None:
    logits, temperature = torch.tensor([0.3, -0.2, 0.5]), 0.7
    torch.manual_seed(3)
    hard, soft = gumbel_top_k(logits, 3, temperature)
    torch.manual_seed(3)
    scores = torch.log_softmax(logits, 0) - torch.empty(3).exponential_().log()
    assert hard.argmax(1).tolist() == scores.argsort(descending=True).tolist()
    for found in soft:
        wanted = torch.exp(scores / temperature) / torch.exp(scores / temperature).sum()
        torch.testing.assert_close(found, wanted)
        scores = scores + torch.log(1 - wanted)


def test_certain_draws_have_finite_gradients() -> None:
    logits = torch.tensor([200.0, 0.0, -200.0], requires_grad=True)
    hard, soft = gumbel_top_k(logits, 3, 0.01)
    assert hard.argmax(1).tolist() == [0, 1, 2]
    (soft * torch.arange(9.0).reshape(3, 3)).sum().backward()
    assert torch.isfinite(soft).all() and torch.isfinite(logits.grad).all()


def test_one_path_is_gdas() -> None:
    gradients = []
    for algorithm in (GDAS(epochs=2), MSGDAS(epochs=2, paths=1, drop=0.0)):
        run = begun(algorithm, bound(plain()), task(40))
        with torch.no_grad():
            for logits in run.parameters:
                logits.copy_(torch.tensor([0.3, -0.2, 0.5, 0.1]))
        taken: list[torch.Tensor] = []
        run.descend = taken.extend
        torch.manual_seed(5)
        loss = run.update_logits(*next(run.workshop.halves(0)))
        gradients.append((loss, taken))
    (loss, own), (other_loss, other) = gradients
    assert loss == pytest.approx(other_loss)
    for one, another in zip(own, other, strict=True):
        torch.testing.assert_close(one, another)
    torch.manual_seed(5)
    wanted = run.logits.gumbel(10.0, hard=True)
    torch.manual_seed(5)
    ((hard, _),) = run.draw()
    assert all(torch.equal(hard[id_], wanted[id_].round()) for id_ in wanted)


def test_few_values_begin_again() -> None:
    kinds = [sn.nn.Tanh(), sn.nn.ReLU(), sn.nn.GELU(), sn.nn.SiLU()]
    made = [sn.nn.Linear(3, 4), sn.oneof(kinds[:2]), sn.oneof(kinds), sn.nn.Linear(4, 2)]
    space = sn.Space(sn.nn.Sequential(*made), input=(3,))
    run = begun(MSGDAS(paths=3), bound(space), task(40))
    two, four = space.columns
    paths = [hard for hard, _ in run.draw()]
    assert torch.equal(paths[0][two], paths[2][two])
    assert not torch.equal(paths[0][two], paths[1][two])
    assert torch.stack([path[four] for path in paths]).sum(0).max() == 1


# Gradients ----------------------------------------------------------------------------------


def costly() -> sn.Space:
    kinds = [sn.nn.Tanh(), sn.nn.Identity(), sn.nn.Linear(4, 4)]
    made = [sn.nn.Linear(3, 4), sn.oneof(kinds), sn.oneof(kinds[::-1]), sn.nn.Linear(4, 2)]
    return sn.Space(sn.nn.Sequential(*made), input=(3,))


@pytest.mark.parametrize("reward", [None, "mnas"])
def test_logits_have_the_gradient_of_the_mean_over_paths(reward) -> None:
    macs, space = cm.Macs(), costly()
    given = sn.rewards.Mnas(macs, 20, beta=-0.3) if reward else None
    problem = bound(space, [macs <= 30], reward=given)
    run = begun(MSGDAS(epochs=2, paths=2, drop=0.0, penalty=2.0), problem, task(40))
    with torch.no_grad():
        run.parameters[0].copy_(torch.tensor([0.3, -0.2, 0.5]))
    first, second = next(run.workshop.halves(0))
    torch.manual_seed(2)
    total = torch.tensor(0.0)
    for hard, soft in run.draw():
        run.mix({id_: hard[id_] + soft[id_] - soft[id_].detach() for id_ in hard})
        total = total + run.workshop.loss(second) / 2
    loss = run.with_costs(total)
    wanted = torch.autograd.grad(loss, run.parameters)
    taken: list[torch.Tensor] = []
    run.descend = taken.extend
    torch.manual_seed(2)
    assert run.update_logits(first, second) == pytest.approx(float(loss.detach()), rel=1e-5)
    for found, expected in zip(taken, wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_weights_have_the_gradient_of_data_and_mixture() -> None:
    run = begun(MSGDAS(epochs=2, paths=3, drop=0.0, distillation=0.5), bound(costly()), task(40))
    shop = run.workshop
    batch, _ = next(shop.halves(0))
    net = shop.net.train()
    with torch.no_grad():
        known = net.mix(run.logits.probabilities())(batch.x).softmax(1)
    torch.manual_seed(2)
    total = torch.tensor(0.0)
    for hard, _ in run.draw():
        own = net.mix(hard)(batch.x)
        divergence = (known * (known.log() - own.log_softmax(1))).sum(1).mean()
        total = total + (nn.functional.cross_entropy(own, batch.y) + 0.5 * divergence) / 3
    weights = list(net.parameters())
    wanted = torch.autograd.grad(total, weights)
    run.weights_optimizer.step = lambda: None
    torch.manual_seed(2)
    run.update_weights(batch)
    for weight, expected in zip(weights, wanted, strict=True):
        torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-6)


def test_memory_is_that_of_one_path() -> None:
    kinds = [sn.nn.Sequential(sn.nn.Linear(64, 64), f) for f in (sn.nn.Tanh(), sn.nn.Sigmoid())]
    kinds += [sn.nn.Sequential(sn.nn.Linear(64, 64), f) for f in (sn.nn.ReLU(), sn.nn.SiLU())]
    made = [sn.nn.Linear(3, 64), *[sn.oneof(kinds) for _ in range(3)], sn.nn.Linear(64, 2)]
    space = sn.Space(sn.nn.Sequential(*made), input=(3,))
    most = {}
    for paths in (1, 4):
        run = begun(MSGDAS(epochs=1, paths=paths), bound(space), task(400, batch_size=100))
        first, second = next(run.workshop.halves(0))
        held = [0, 0]

        class Held:
            def __init__(self, x: torch.Tensor, held: list[int] = held) -> None:
                self.x, self.held = x.detach(), held
                self.size = 0 if len(x.shape) < 2 or len(x) == 64 else x.numel()  # activations
                held[0] += self.size
                held[1] = max(held)

            def __del__(self) -> None:
                self.held[0] -= self.size

        with torch.autograd.graph.saved_tensors_hooks(Held, lambda kept: kept.x):
            run.step(first, second)
        most[paths] = held[1]
        assert held[0] == 0
        assert held[1] > 5 * 64 * run.workshop.task.batch_size
    assert most[4] < 1.5 * most[1]


def test_the_teacher_changes_nothing() -> None:
    made = [sn.nn.Linear(3, 4), sn.nn.BatchNorm1d(4), sn.nn.Dropout(0.5)]
    kinds = sn.oneof([sn.nn.Identity(), sn.nn.Linear(4, 4), sn.nn.ReLU()])
    space = sn.Space(sn.nn.Sequential(*made, kinds, sn.nn.Linear(4, 2)), input=(3,))
    run = begun(MSGDAS(), bound(space), task(40))
    net = run.workshop.net.train()
    batch, _ = next(run.workshop.halves(0))
    before = {name: x.clone() for name, x in net.state_dict().items()}
    taught = run.taught(batch)
    assert not taught.requires_grad and net.training
    assert torch.equal(taught, run.taught(batch))  # no dropout
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
    # Of the batch's statistics, which in the beginning differ from the running ones.
    net.eval().mix({id_: p.detach() for id_, p in run.logits.probabilities().items()})
    assert not torch.allclose(taught, net(batch.x))
    assert float(run.divergence(taught, taught)) == pytest.approx(0, abs=1e-6)
    taught = torch.tensor([[0.0, 0.0]])
    outputs = torch.tensor([[0.0, 3.0]]).log_softmax(1)
    wanted = -0.5 * (outputs.sum() - 2 * torch.log(torch.tensor(0.5)))
    assert float(run.divergence(outputs, taught)) == pytest.approx(float(wanted))


def test_targets_that_are_no_classes() -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    given = sn.Task((x, x[:, :2] ** 2), epochs=1, batch_size=20)
    run = begun(MSGDAS(epochs=1), bound(costly()), given)
    assert run.epoch(0)["loss"] > 0
    assert float(run.divergence(torch.ones(2, 2), torch.zeros(2, 2))) == 1


# Dropped blocks -----------------------------------------------------------------------------


def test_blocks_are_dropped_whole() -> None:
    torch.manual_seed(0)
    y = drop_block(torch.ones(200, 1, 9, 9), 0.02, 3)[:, 0]
    single = 0
    for image in y:
        gone = (image == 0).nonzero()
        if len(gone) == 9:
            single += 1
            assert (gone.max(0).values - gone.min(0).values).tolist() == [2, 2]
    assert single > 20
    y = drop_block(torch.ones(300, 4, 9, 9), 0.1, 3)
    assert 0.08 < float((y == 0).float().mean()) < 0.105
    assert float(y.mean()) == pytest.approx(1, rel=1e-5)
    whole = drop_block(torch.ones(400, 4, 2, 5), 0.3, 7).flatten(2)
    assert ((whole == 0).all(2) | (whole != 0).all(2)).all()  # a block is at most the whole
    assert 0.25 < float((whole == 0).float().mean()) < 0.35
    for shape in ((500, 8), (100, 8, 5), (20, 4, 3, 4, 5), (20, 2, 2, 2, 2, 2)):
        y = drop_block(torch.ones(shape), 0.25, 1)
        assert 0.2 < float((y == 0).float().mean()) < 0.3
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(drop_block(x, 0.0, 3), x) and (drop_block(x, 1.0, 1) == 0).all()


def skippable() -> sn.Space:
    """An identity that is a candidate, one that is always there, one in a candidate with weights."""
    within = sn.nn.Sequential(sn.nn.Identity(), sn.nn.Linear(4, 4))
    kinds = [sn.nn.Identity(), within, sn.nn.ReLU()]
    return sn.Space(
        sn.nn.Sequential(sn.nn.Linear(3, 4), sn.nn.Identity(), sn.oneof(kinds), sn.nn.Linear(4, 2)),
        input=(3,),
    )


def test_identities_that_are_candidates_have_dropped_blocks() -> None:
    space = skippable()
    run = begun(MSGDAS(epochs=2, drop=1.0), bound(space), task(40))
    net, x = run.workshop.net.train(), torch.randn(5, 3)
    for value, dropped in ((0, True), (1, False), (2, False)):
        for learned in (False, True):
            weight = nn.functional.one_hot(torch.tensor(value), 3).float().requires_grad_(learned)
            with run.mixed({space.columns[0]: weight}):
                assert len(run.identities()) == int(dropped)
                y = net(x)
            assert (bool((y == y[0]).all())) == dropped  # only the last bias is left
    assert torch.allclose(net.select([0])(x), net.eval().select([0])(x))  # no hook stays
    run.steps = run.steps_an_epoch
    assert run.drop == 0.5
    run.steps *= 2
    assert run.drop == 0


def test_operations_that_are_arguments_are_dropped_too() -> None:
    from symnas.spaces.nasbench201 import OPERATIONS, nasbench201

    space = nasbench201(channels=2, cells=1, resolution=8, classes=3)
    images = sn.Task((torch.randn(40, 3, 8, 8), torch.arange(40) % 3), batch_size=10)
    run = begun(MSGDAS(epochs=1, drop=0.2), bound(space), images)
    skip = OPERATIONS.index("skip_connect")
    weight = nn.functional.one_hot(torch.tensor(skip), 5).float()
    path = {id_: weight.clone() for id_ in space.columns}
    with run.mixed(path):
        assert len(run.identities()) == 6 * 3
    path[space.columns[0]] = nn.functional.one_hot(torch.tensor(3), 5).float()
    with run.mixed(path):
        assert len(run.identities()) == 5 * 3


# As a whole ---------------------------------------------------------------------------------


def test_it_keeps_targets(tmp_path) -> None:
    tight, _, loose = meets_targets(MSGDAS(epochs=2, logits_lr=0.05), tmp_path)
    assert tight["relaxed macs"] < loose["relaxed macs"]


def test_a_kill_changes_nothing(tmp_path) -> None:
    same_after_a_kill(MSGDAS(epochs=3, warmup=1, logits_lr=0.05, paths=3, drop=0.3), tmp_path)


def test_it_finds_what_the_task_needs(tmp_path) -> None:
    algorithm = MSGDAS(epochs=12, warmup=4, logits_lr=0.03, temperature=3.0)
    assert nonlinear(algorithm, tmp_path) >= 5


def test_in_a_search() -> None:
    study = sn.search(
        mixed(), MSGDAS(epochs=2), task(160), maximize="accuracy", subject_to=[cm.Macs() <= 200], progress=False
    )  # fmt: skip
    assert study.best.costs["macs"] <= 200
    assert study.training["result"]["target macs"] == 200


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"`last_temperature` \(1.0\) must not be above"):
        MSGDAS(temperature=0.5, last_temperature=1.0)
    with pytest.raises(ValueError, match=r"`paths` \(0\) must be at least 1"):
        MSGDAS(paths=0)
    with pytest.raises(ValueError, match=r"`drop` \(1.5\) must be at least 0 and at most 1"):
        MSGDAS(drop=1.5)
    with pytest.raises(TypeError, match="`distillation`"):
        MSGDAS(distillation="much")
