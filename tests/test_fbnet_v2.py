"""FBNetV2: its schedule, the loss with effective costs, and mixed resolutions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from relaxed_examples import (
    begun,
    bound,
    meets_targets,
    nonlinear,
    same_after_a_kill,
    task,
    trained,
)
from symnas.algorithms.fbnet_v2 import FBNetV2

import symnas as sn
from symnas import cost_models as cm
from symnas.errors import SymnasError
from symnas.rewards import Absolute
from symnas.tasks.batches import Batch

macs = cm.Macs()


def small() -> sn.Space:
    """Two candidates of 20 MACs, and one of 36."""
    kinds = [sn.nn.Tanh(), sn.nn.Identity(), sn.nn.Linear(4, 4)]
    return sn.Space(
        sn.nn.Sequential(sn.nn.Linear(3, 4), sn.oneof(kinds), sn.nn.Linear(4, 2)), input=(3,)
    )


def widths() -> sn.Space:
    made, last = [], 3
    for i in range(2):
        width = sn.oneof([4, 8, 16, 32], name=f"width {i}")
        made += [sn.nn.Linear(last, width), sn.nn.ReLU()]
        last = width
    return sn.Space(sn.nn.Sequential(*made, sn.nn.Linear(last, 2)), input=(3,))


def images(resolutions: list[int] | None = None) -> sn.Space:
    """Two convolutions with widths; one resolution for height and width."""
    size = sn.oneof(resolutions or [4, 8], name="resolution")
    first, second = sn.oneof([2, 4], name="first"), sn.oneof([3, 6], name="second")
    return sn.Space(
        sn.nn.Sequential(
            sn.nn.Conv2d(1, first, 3, padding=1, bias=False), sn.nn.ReLU(),
            sn.nn.Conv2d(first, second, 3, padding=1, bias=False), sn.nn.ReLU(),
            sn.nn.AdaptiveAvgPool2d(1), sn.nn.Flatten(), sn.nn.Linear(second, 2),
        ),
        input=(1, size, size),
    )  # fmt: skip


def pictures(n: int = 200, fine: bool = True) -> sn.Task:
    """Fine stripes or none, which are gone at half the size; or brightness. Some labels are wrong."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 2
    if fine:
        stripes = torch.tensor([1.0, -1.0]).repeat(4).expand(8, 8)
        x = torch.stack([stripes if k else torch.zeros(8, 8) for k in y])[:, None]
    else:
        x = y[:, None, None, None].float().expand(n, 1, 8, 8)
    x = x + 0.1 * torch.randn(n, 1, 8, 8, generator=draw)
    y = torch.where(torch.rand(n, generator=draw) < 0.15, 1 - y, y)
    return sn.Task((x, y), epochs=2, lr=0.05, batch_size=20)


def ids(space: sn.Space) -> dict[str, str]:
    return {d.name: d.id for d in space.decisions}


# Schedule -----------------------------------------------------------------------------------------


def test_weights_train_on_four_fifths_then_logits_on_the_rest() -> None:
    run = begun(FBNetV2(epochs=3, warmup=1), bound(small()), task(250))  # 200 to train on
    seen: list[tuple[str, torch.Tensor]] = []
    weights, logits = run.update_weights, run.update_logits

    def note_weights(batch: Batch) -> float:
        seen.append(("weights", batch.x))
        return weights(batch)

    def note_logits(first: Batch, second: Batch) -> float:
        seen.append(("logits", second.x))
        return logits(first, second)

    run.update_weights, run.update_logits = note_weights, note_logits
    told = run.epoch(0)
    assert [kind for kind, _ in seen] == ["weights"] * 8 and "choice loss" not in told
    assert told["temperature"] == 5.0
    seen.clear()
    told = run.epoch(1)
    assert [kind for kind, _ in seen] == ["weights"] * 8 + ["logits"] * 2
    assert told["temperature"] == pytest.approx(5.0 * 0.956)
    parts = {
        kind: {tuple(x) for k, batch in seen if k == kind for x in batch.tolist()}
        for kind in ("weights", "logits")
    }
    assert [len(part) for part in parts.values()] == [160, 40]
    assert not parts["weights"] & parts["logits"]
    assert run.epoch(2)["temperature"] == pytest.approx(5.0 * 0.956**2)


def test_weights_are_those_of_the_gumbel_softmax() -> None:
    run = begun(FBNetV2(temperature=2.0), bound(small()), task(40))
    (values,) = run.parameters
    with torch.no_grad():
        values.copy_(torch.tensor([0.5, -1.0, 0.2]))
    torch.manual_seed(4)
    noise = -torch.empty(3).exponential_().log()
    torch.manual_seed(4)
    (found,) = run.mixture("weights").values()
    torch.testing.assert_close(found, torch.softmax((values + noise) / 2.0, 0))


# The loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [None, 0.2])
def test_the_gradient_of_both_losses(alpha) -> None:
    algorithm = FBNetV2(alpha=alpha, beta=0.6, penalty=2.0)
    run = begun(algorithm, bound(small(), [macs <= 20]), task(40))
    first, second = next(run.workshop.halves(0))
    taken: list[torch.Tensor] = []
    run.descend = taken.extend
    torch.manual_seed(7)
    told = run.update_logits(first, second)

    logits = torch.zeros(3, requires_grad=True)
    torch.manual_seed(7)
    drawn = torch.nn.functional.gumbel_softmax(logits, tau=5.0, dim=0)
    run.workshop.net.mix({run.problem.space.columns[0]: drawn})
    loss = run.workshop.loss(second)
    cost = torch.tensor([20.0, 20.0, 36.0])
    if alpha is None:
        # Of the probabilities, without noise: 25.3 are expected, 20 allowed.
        loss = loss + 2.0 * (torch.softmax(logits, 0) @ cost / 20 - 1)
    else:
        loss = loss * 0.2 * torch.log(drawn @ cost) ** 0.6
    assert told == pytest.approx(float(loss.detach()), rel=1e-5)
    wanted = torch.autograd.grad(loss, logits)[0]
    torch.testing.assert_close(taken[0], wanted, rtol=1e-4, atol=1e-7)


def test_the_expected_cost_is_that_of_effective_shapes() -> None:
    space = images()
    run = begun(FBNetV2(alpha=0.2), bound(space, [macs <= 10_000]), pictures(40))
    cost, name = run.factors[0], ids(space)
    g = run.mixture("logits")
    channels = [
        g[name["first"]] @ torch.tensor([2.0, 4.0]),
        g[name["second"]] @ torch.tensor([3.0, 6.0]),
    ]
    area = g[name["resolution"]] @ torch.tensor([16.0, 64.0])
    effective = 9 * area * channels[0] + 9 * area * channels[0] * channels[1] + 2 * channels[1]
    assert float(cost.expected(g).detach()) == pytest.approx(float(effective.detach()), rel=1e-6)
    # The gradient reaches what makes the channels that a layer takes.
    slope = torch.autograd.grad(cost.expected(g), g[name["first"]], retain_graph=True)[0]
    wanted = torch.autograd.grad(effective, g[name["first"]])[0]
    # Only differences matter: weights add up to 1.
    torch.testing.assert_close(slope - slope.mean(), wanted - wanted.mean())
    for row in np.concatenate(list(space.enumerate())):
        one_hot = {
            d.id: torch.nn.functional.one_hot(torch.tensor(int(v)), d.size).double()
            for d, v in zip(space.decisions, row, strict=True)
        }
        assert float(cost.expected(one_hot)) == macs(space.decode(row)) == cost(row[None])[0]


def test_a_lower_weight_of_costs_makes_wider_networks(tmp_path) -> None:
    relaxed = []
    for beta in (0.0, 0.5, 20.0):
        algorithm = FBNetV2(epochs=8, logits_lr=0.1, decay=0.8, alpha=0.2, beta=beta)
        problem = bound(widths(), [macs <= 10_000])
        run = trained(algorithm, problem, task(300), tmp_path / f"{beta}")
        relaxed.append(run.notes()["relaxed macs"])
    assert relaxed[0] > 1.1 * relaxed[1] > 1.1 * relaxed[2]


# Resolutions --------------------------------------------------------------------------------------


def test_outputs_are_added_over_resolutions() -> None:
    space = images([4, 6, 8])
    run = begun(FBNetV2(), bound(space), pictures(40))
    name, net = ids(space), run.workshop.net.eval()
    batch, _ = next(run.workshop.halves(0))
    weights = {k: v.detach() for k, v in run.mixture("weights").items()}
    share = torch.tensor([0.2, 0.5, 0.3], requires_grad=True)
    weights[name["resolution"]] = share
    others = {k: v for k, v in weights.items() if k != name["resolution"]}
    loss = run.mixed_loss(weights, batch)
    outputs = []
    for size in (4, 6, 8):
        x = torch.nn.functional.interpolate(batch.x, (size, size), mode="bilinear", antialias=True)
        net.mix(others, space.sample(1, 0)[0])
        outputs.append(net(x if size < 8 else batch.x))
    stacked = torch.stack(outputs)
    wanted = torch.nn.functional.cross_entropy(torch.einsum("r,rbc->bc", share, stacked), batch.y)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(loss, share)[0], torch.autograd.grad(wanted, share)[0]
    )


@pytest.mark.parametrize("tied", [False, True])
def test_one_hot_weights_run_one_network_on_images_of_its_size(tied) -> None:
    space = images()
    if tied:  # the network's width is the resolution, too
        size = sn.oneof([4, 8], name="resolution")
        made = [sn.nn.Conv2d(1, size, 3), sn.nn.AdaptiveAvgPool2d(1), sn.nn.Flatten()]
        space = sn.Space(sn.nn.Sequential(*made, sn.nn.Linear(size, 2)), input=(1, size, size))
    run = begun(FBNetV2(), bound(space), pictures(40))
    net = run.workshop.net.eval()
    batch, _ = next(run.workshop.halves(0))
    for row in np.concatenate(list(space.enumerate())):
        hot = {
            d.id: torch.nn.functional.one_hot(torch.tensor(int(v)), d.size).float()
            for d, v in zip(space.decisions, row, strict=True)
        }
        mixed = run.mixed_loss(hot, batch)
        net.select(row)
        single = run.workshop.loss(run.workshop.resized(batch, row))
        torch.testing.assert_close(mixed, single)


def test_the_resolution_that_the_task_needs_is_found(tmp_path) -> None:
    """Fine patterns are gone at half the size; for brightness, the cheaper size does."""
    size = sn.oneof([4, 8], name="resolution")
    made = [sn.nn.Conv2d(1, 8, 3, padding=1), sn.nn.ReLU(), sn.nn.AdaptiveAvgPool2d(1)]
    space = sn.Space(
        sn.nn.Sequential(*made, sn.nn.Flatten(), sn.nn.Linear(8, 2)), input=(1, size, size)
    )
    algorithm = FBNetV2(epochs=12, warmup=6, logits_lr=0.1, decay=0.8, alpha=0.2)
    found = 0
    for seed in range(3):
        for fine in (False, True):
            problem = bound(space, [macs <= 100_000], seed=seed)
            run = trained(algorithm, problem, pictures(300, fine), tmp_path / f"{seed} {fine}")
            found += int(run.derive(1)[0, 0] == int(fine))
    assert found >= 5  # by chance, 3


def test_a_search_with_resolutions_keeps_its_limit(tmp_path) -> None:
    study = sn.search(
        images(), FBNetV2(epochs=2), pictures(80), maximize="accuracy", subject_to=[macs <= 3000],
        progress=False, study=tmp_path / "study",
    )  # fmt: skip
    assert study.best.costs["macs"] <= 3000
    told = study.training["result"]
    assert told["target macs"] == 3000 and told["discrete macs"] == study.best.costs["macs"]


def test_a_kill_changes_nothing_with_resolutions(tmp_path) -> None:
    problem = bound(images())
    logits = []
    for name, kill in (("whole", 0), ("killed", 1)):
        run = trained(
            FBNetV2(epochs=2, logits_lr=0.1), problem, pictures(80), tmp_path / name, kill
        )
        logits.append(torch.cat([p.detach() for p in run.parameters]))
    assert torch.equal(*logits) and bool((logits[0] != 0).all())


def test_a_width_is_mixed_beside_one_that_is_decided() -> None:
    """Where the temperature is low, some of the weights are exactly one-hot."""
    space = images([8])
    net, name = sn.Supernet(space).eval(), ids(space)
    x = torch.randn(3, 1, 8, 8)
    for decided in ([1.0, 0.0], [0.0, 1.0]):
        for kind, other in (("first", "second"), ("second", "first")):
            rows = np.concatenate(list(space.enumerate()))
            columns = [space.columns.index(name[n]) for n in (kind, other)]
            for row in (r for r in rows if r[columns[0]] == int(decided[1])):
                hot = torch.tensor([1.0, 1e-30] if row[columns[1]] == 0 else [1e-30, 1.0])
                net.mix({name[kind]: torch.tensor(decided), name[other]: hot}, row)
                mixed = net(x)
                torch.testing.assert_close(mixed, net.select(row)(x))


# What every such algorithm must do ----------------------------------------------------------------


def test_it_keeps_targets(tmp_path) -> None:
    tight, _, loose = meets_targets(FBNetV2(epochs=2, logits_lr=0.1), tmp_path)
    assert tight["relaxed macs"] < loose["relaxed macs"]


def test_a_kill_changes_nothing(tmp_path) -> None:
    same_after_a_kill(FBNetV2(epochs=3, warmup=1, logits_lr=0.05), tmp_path)


def test_it_finds_what_the_task_needs(tmp_path) -> None:
    algorithm = FBNetV2(epochs=12, warmup=4, logits_lr=0.1, decay=0.8)
    assert nonlinear(algorithm, tmp_path) >= 5


def test_mistakes_are_named() -> None:
    with pytest.raises(SymnasError, match="there is no cost with a limit"):
        begun(FBNetV2(alpha=0.2), bound(small()), task(40))
    rewarded = bound(small(), [macs <= 30], reward=Absolute(macs, 20))
    with pytest.raises(SymnasError, match="there is a reward already"):
        begun(FBNetV2(alpha=0.2), rewarded, task(40))
    tiny = (0.001 * macs).named("kilomacs")
    with pytest.raises(SymnasError, match=r"log\(kilomacs\).*such as 1000? \* cost"):
        begun(FBNetV2(alpha=0.2), bound(small(), [tiny <= 0.03]), task(40))
    with pytest.raises(ValueError, match="`decay`"):
        FBNetV2(decay=1.01)
    with pytest.raises(ValueError, match="`alpha`"):
        FBNetV2(alpha=0)
    dense = sn.Space(sn.nn.Conv2d(1, sn.oneof([2, 3]), 1), input=(1, sn.oneof([4, 8]), 8))
    run = begun(FBNetV2(), bound(dense), pictures(40))
    with pytest.raises(SymnasError, match="images of different sizes"):
        run.epoch(0)
    assert math.isfinite(run.temperature)
