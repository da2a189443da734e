"""BigNAS: the step of four networks, extremes of spaces, ends of residual branches, selection."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from relaxed_examples import begun, bound, mixed, same_after_a_kill, task, trained
from symnas.algorithms.bignas import BigNAS
from symnas.spaces.mobilenet import Stage, mobilenet
from torch import nn
from torch.nn import functional

import symnas as sn
from symnas import cost_models as cm
from symnas.costs.scopes import TooCoupled
from symnas.oneshot.coarse import coarse_to_fine, skeletons
from symnas.oneshot.residual import last_norms, zero_residuals
from symnas.oneshot.training import supernet_of
from symnas.supernet import extremes as module
from symnas.supernet.extremes import extremes
from symnas.tasks.batches import Batch

# Extremes -----------------------------------------------------------------------------------------


def images() -> sn.Space:
    """Resolutions, widths in no order, a block that need not be there, a bias that costs no MACs."""
    side = sn.oneof([8, 6, 12], name="side")
    width = sn.oneof([4, 2, 8], name="width")
    made = sn.nn.Sequential(
        sn.nn.Conv2d(1, width, 3, padding=1, bias=sn.oneof([True, False], name="bias")),
        sn.repeat(
            lambda i: sn.nn.Conv2d(sn.tied("width"), sn.tied("width"), sn.oneof([3, 1]), padding="same"),
            sn.oneof([0, 1, 2], name="depth"),
        ),
        sn.oneof([sn.nn.ReLU(), sn.nn.Tanh()], name="kind"),
        sn.nn.AdaptiveAvgPool2d(1), sn.nn.Flatten(), sn.nn.Linear(sn.tied("width"), 2),
    )  # fmt: skip
    return sn.Space(made, input=(1, side, side))


def measured(space: sn.Space, rows: np.ndarray) -> list[tuple[float, float]]:
    macs, parameters = cm.Macs().bind(space)(rows), cm.Parameters().bind(space)(rows)
    return list(zip(macs.tolist(), parameters.tolist(), strict=True))


def test_extremes_are_those_of_all_networks() -> None:
    for space in (images(), mixed()):
        sizes = measured(space, np.concatenate(list(space.enumerate())))
        found = measured(space, np.stack(extremes(space)))
        assert found == [min(sizes), max(sizes)]


def test_parameters_tell_equals_apart_and_order_the_rest() -> None:
    space = images()
    smallest, largest = map(space.decode, extremes(space))
    assert [largest[name] for name in ("width", "depth")] == [8, 2]
    assert [smallest[name] for name in ("width", "depth")] == [2, 0]
    assert (smallest.input, largest.input) == ((1, 6, 6), (1, 12, 12))
    assert (smallest["bias"], largest["bias"]) == (False, True)
    (column,) = (c for c, d in enumerate(space.decisions) if d.name == "kind")
    assert (smallest.row[column], largest.row[column]) == (0, 1)  # which makes no difference


def test_extremes_without_tables(monkeypatch) -> None:
    def refused(space):
        raise TooCoupled("too coupled")

    monkeypatch.setattr(module, "pieces_of_space", refused)
    space = mixed()
    sizes = measured(space, np.concatenate(list(space.enumerate())))
    assert measured(space, np.stack(extremes(space))) == [min(sizes), max(sizes)]


def test_extremes_are_valid() -> None:
    space = mixed()
    some = sn.Space(space.program, input=(3,), valid=lambda a: a["width"] != a["depth"] * 4)
    rows = np.concatenate(list(some.enumerate()))
    sizes = measured(some, rows[some.is_valid(rows)])
    ends = np.stack(extremes(some))
    assert some.is_valid(ends).all()
    assert measured(some, ends) == [min(sizes), max(sizes)]
    none = sn.Space(space.program, input=(3,), valid=lambda a: False)
    with pytest.raises(sn.SymnasError, match="`valid` refuses nearly all"):
        extremes(none)


def test_parameters_alone_where_no_input_is_known() -> None:
    space = sn.Space(sn.nn.Linear(3, sn.oneof([4, 2, 8])))
    assert [row.tolist() for row in extremes(space)] == [[1], [2]]


# Residual branches --------------------------------------------------------------------------------


class Add(nn.Module):
    """The sum of a shortcut and a body."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Identity()

    def forward(self, x):
        return self.shortcut(x) + self.body(x)


def layers(n: int, last: nn.Module | None = None) -> nn.Sequential:
    found = [m for _ in range(n) for m in (nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())]
    return nn.Sequential(*found[:-1], *([last] if last else []))


@pytest.mark.parametrize(
    ("network", "wanted"),
    [
        (Add(layers(2)), ["body.4"]),
        (Add(layers(2, nn.Dropout(0.5))), ["body.4"]),
        (Add(layers(2, nn.ReLU())), []),  # a norm that is not added itself
        (nn.Sequential(layers(1), Add(layers(1))), ["1.body.1"]),  # what it is added to is one too
        (Add(layers(2), layers(1)), ["body.4"]),  # a projected shortcut
        (Add(layers(2), nn.Linear(4, 4)), ["body.4"]),
        (Add(layers(2), layers(2)), []),
        (Add(layers(1), nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))), []),
        (Add(Add(layers(1))), ["body.body.1"]),
        (nn.Sequential(Add(layers(1)), Add(layers(2))), ["0.body.1", "1.body.4"]),
        (layers(3), []),
    ],
)  # fmt: skip
def test_norms_at_the_ends_of_residual_branches(network, wanted) -> None:
    assert last_norms(network.to("meta").eval(), (4,)) == wanted


def test_several_branches_of_one_sum() -> None:
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = layers(1), layers(2)

        def forward(self, x):
            y = x + self.a(x) + self.b(x)
            y += x
            return y

    assert last_norms(Three().to("meta").eval(), (4,)) == ["a.1", "b.4"]


def test_scales_that_always_end_branches_become_zero() -> None:
    space = mobilenet(
        [Stage([8, 12], depths=[1, 2], kernels=[3], expansions=[2], squeeze=[False])],
        stem=8, head=8, resolution=8, in_channels=1,
    )  # fmt: skip
    net = supernet_of(bound(space), BigNAS(), torch.device("cpu"))
    rows = np.concatenate(list(space.enumerate()))
    changed = zero_residuals(net, rows)
    # The first block has a shortcut where it has 8 channels, and none where it has 12.
    (name,) = changed
    weight = net.weights._parameters[name]
    assert weight.shape == (12,) and not weight.any()
    zeros = [k for k, p in net.weights.named_parameters() if k.endswith("/weight") and not p.any()]
    assert zeros == changed
    # The second block is its shortcut then.
    deep = next(row for row in rows if space.decode(row)["depth 0"] == 2)
    block = net.child(deep).eval()[1][1]
    x = torch.randn(2, space.decode(deep)["width 0"], 8, 8)
    assert torch.equal(block(x), x)


# The step -----------------------------------------------------------------------------------------

SEEN: list[tuple[int, bool]] = []


class Watch(nn.Module):
    """Notes who runs, and whether dropout would."""

    def forward(self, x):
        SEEN.append((x.shape[1], self.training))
        return x


def wide() -> sn.Space:
    """Networks of 3 to 24 MACs in the middle."""
    width = sn.oneof([1, 2, 4, 8], name="width")
    made = sn.nn.Sequential(
        sn.nn.Linear(3, width), sn.spec(Watch), sn.nn.Tanh(), sn.nn.Linear(sn.tied("width"), 2)
    )  # fmt: skip
    return sn.Space(made, input=(3,))


def one_step(algorithm: BigNAS, given: sn.Task, drawn: list[list[int]]):
    """A run and the gradients of one step, by the names of weights; and the batch."""
    run = begun(algorithm, bound(wide()), given)
    batch = next(iter(run.workshop.batches("train", 0)))
    before = {name: p.detach().clone() for name, p in run.workshop.net.named_parameters()}
    run.workshop.net.train()
    run.losses = run.step(batch, np.array(drawn, np.int32).reshape(-1, 1))
    gradients = {name: p.grad.clone() for name, p in run.workshop.net.named_parameters()}
    with torch.no_grad():
        for name, p in run.workshop.net.named_parameters():
            p.copy_(before[name])
    return run, gradients, batch


def gradients_of(run, loss) -> dict[str, torch.Tensor]:
    named = dict(run.workshop.net.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def logits_of(run, row: int, x):
    """By hand: the leading units of the stored weights."""
    n = (1, 2, 4, 8)[row]
    w, b, v, c = run.workshop.net.parameters()
    return torch.tanh(x @ w[:n].T + b[:n]) @ v[:, :n].T + c


@pytest.mark.parametrize("distill", [True, False])
def test_a_step_is_of_four_networks(distill) -> None:
    given = task(60, optimizer="sgd", weight_decay=0.3, label_smoothing=0.1)
    algorithm = BigNAS(epochs=2, distill=distill)
    run, found, batch = one_step(algorithm, given, [[1], [2]])
    largest = logits_of(run, 3, batch.x)
    labels = functional.cross_entropy(largest, batch.y, label_smoothing=0.1)
    losses = [labels + 0.15 * sum((w**2).sum() for w in run.workshop.net.parameters())]
    soft = torch.softmax(largest, 1).detach()
    for row in (1, 2, 0):
        outputs = logits_of(run, row, batch.x)
        if distill:  # without labels, and without smoothing
            losses.append(-(soft * torch.log_softmax(outputs, 1)).sum(1).mean())
        else:
            losses.append(functional.cross_entropy(outputs, batch.y, label_smoothing=0.1))
    assert run.losses == pytest.approx((labels.item(), losses[-1].item()))
    wanted = gradients_of(run, sum(losses))
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)
    (group,) = run.optimizer.param_groups
    assert group["weight_decay"] == 0


def test_without_the_sandwich_all_are_random_and_learn_from_labels() -> None:
    given = task(60, optimizer="sgd", weight_decay=0.3)
    run, found, batch = one_step(BigNAS(sandwich=False), given, [[3], [3], [3], [0]])
    loss = 0.0
    for row in (3, 3, 3, 0):
        n = (1, 2, 4, 8)[row]
        w, b, v, c = run.workshop.net.parameters()
        own = (w[:n], b[:n], v[:, :n], c)
        loss = loss + functional.cross_entropy(logits_of(run, row, batch.x), batch.y)
        loss = loss + 0.15 / 4 * sum((part**2).sum() for part in own)
    for name, gradient in gradients_of(run, loss).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)
    SEEN.clear()
    told = run.epoch(0)
    assert set(told) == {"loss"}
    assert len(SEEN) == 4 * run.workshop.steps_an_epoch
    assert all(training for _, training in SEEN)


def test_momentum_of_weights_that_train_later() -> None:
    """Of candidates that the first networks did not have."""
    kinds = [sn.nn.Linear(3, 4), sn.nn.Sequential(sn.nn.Linear(3, 4), sn.nn.Linear(4, 4))]
    space = sn.Space(sn.nn.Sequential(sn.oneof(kinds), sn.nn.Linear(4, 2)), input=(3,))
    algorithm = BigNAS(sandwich=False, children=0)
    run = begun(algorithm, bound(space), task(60, optimizer="sgd", lr=0.1))
    run.workshop.net.train()
    batch = next(iter(run.workshop.batches("train", 0)))
    for row in (0, 1, 0):
        assert np.isfinite(run.step(batch, np.array([[row]], np.int32))).all()


def test_only_the_largest_has_dropout() -> None:
    run = begun(BigNAS(epochs=2), bound(wide()), task(60))
    SEEN.clear()
    run.epoch(0)
    steps = [SEEN[i : i + 4] for i in range(0, len(SEEN), 4)]
    assert len(steps) == run.workshop.steps_an_epoch
    for largest, *others, smallest in steps:
        assert (largest, smallest) == ((8, True), (1, False))
        assert not any(training for _, training in others)
    # Random networks are of the whole space, whatever the limits.
    assert {width for step in steps for width, _ in step[1:3]} == {1, 2, 4, 8}
    tight = begun(BigNAS(epochs=2), bound(wide(), [cm.Macs() <= 5]), task(60))
    SEEN.clear()
    tight.epoch(0)
    assert {width for width, _ in SEEN} == {1, 2, 4, 8}


def test_numbers_are_distilled_too() -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    given = sn.Task((x, x.sum(1)), batch_size=60, optimizer="sgd", lr=0.1)
    space = sn.Space(
        sn.nn.Sequential(sn.nn.Linear(3, sn.oneof([1, 8], name="w")), sn.nn.Linear(sn.tied("w"), 1)),
        input=(3,),
    )  # fmt: skip
    run = begun(BigNAS(), bound(space), given)
    batch = next(iter(run.workshop.batches("train", 0)))
    outputs, taught = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])
    assert float(run.loss(outputs, Batch(batch.x[:2], batch.y[:2]), taught)) == pytest.approx(6.5)
    assert np.isfinite(run.step(batch, np.array([[0]], np.int32))).all()


def test_the_learning_rate_decays_to_its_floor() -> None:
    run = begun(BigNAS(epochs=10, decay=0.01), bound(wide()), task(600, lr=0.5, warmup=0.1))
    steps = 10 * run.workshop.steps_an_epoch
    rates = []
    for step in range(steps):
        run.steps = step
        run.set_rate()
        rates.append(run.optimizer.param_groups[0]["lr"])
    warm = steps // 10
    assert rates[0] == pytest.approx(0.5 / warm) and rates[warm - 1] == pytest.approx(0.5)
    assert rates[warm] == pytest.approx(0.5 * 0.01 ** (warm / steps))
    assert rates[-1] == rates[-steps // 4] == pytest.approx(0.025)
    assert min(rates[warm:]) == pytest.approx(0.025)
    assert BigNAS(floor=0).rate(1.0) == pytest.approx(0.01)
    assert BigNAS(decay=0.97**150).rate(0.5) == pytest.approx(0.97**75)


def test_scales_begin_at_zero() -> None:
    space = mobilenet(
        [Stage([8], depths=[1, 2], kernels=[3, 5], expansions=[2], squeeze=[False])],
        stem=8, head=8, resolution=8, in_channels=1, classes=2,
    )  # fmt: skip
    given = sn.Task((torch.randn(20, 1, 8, 8), torch.arange(20) % 2))
    for zero in (True, False):
        net = begun(BigNAS(zero_gamma=zero), bound(space), given).workshop.net
        flat = [k for k, p in net.named_parameters() if k.endswith("/weight") and not p.any()]
        assert len(flat) == (2 if zero else 0)


# Selection ----------------------------------------------------------------------------------------


def test_skeletons_set_like_decisions_alike() -> None:
    width = lambda: sn.oneof([16, 8, 4])  # noqa: E731
    kinds = [sn.nn.ReLU(), sn.nn.Tanh()]
    made = [sn.nn.Linear(3, width()), sn.nn.Linear(3, width()), sn.oneof(kinds)]
    space = sn.Space(sn.repeat(lambda i: made[i], sn.oneof([2, 3])))
    rows = skeletons(space, 100, np.random.default_rng(0))
    assert all(space.is_row(row) for row in rows)
    columns = {d.labels: [] for d in space.decisions}
    for column, decision in enumerate(space.decisions):
        columns[decision.labels].append(column)
    first, second = columns["16", "8", "4"]
    assert (rows[:, first] == rows[:, second]).all()
    assert set(rows[:, first].tolist()) == {0, 1, 2}
    few = skeletons(space, 3, np.random.default_rng(0))
    assert 1 <= len(few) <= 3


def test_coarse_then_fine() -> None:
    """With a quality that is known: the nearer to a planted row, the better."""
    space = sn.Space([sn.oneof(range(7), name=f"d{i}") for i in range(4)])
    planted = np.array([1, 4, 5, 2])
    measured_rows: list[tuple[int, ...]] = []

    class Known:
        problem = bound(space)

        def rng(self, *key):
            return np.random.default_rng(key)

        def measured(self, row):
            measured_rows.append(tuple(row.tolist()))
            return {"accuracy": -float(np.abs(row - planted).sum())}

        def quality(self, metrics):
            return metrics["accuracy"]

        def qualities(self, rows):
            return np.array([self.quality(self.measured(row)) for row in rows])

    rows = coarse_to_fine(Known(), 20, 100, 5, np.array([[6] * 4, [0] * 4], np.int32))
    assert measured_rows[:2] == [(6,) * 4, (0,) * 4]
    assert measured_rows[2] == (3,) * 4  # the other skeleton
    assert len(measured_rows) == len(set(measured_rows)) == len(rows) == 120
    distances = np.abs(rows - planted).sum(axis=1)
    assert (np.diff(distances) >= 0).all()
    coarse = np.abs(np.array(measured_rows[:20]) - planted).sum(axis=1)
    assert distances[0] < coarse.min()


def test_it_keeps_targets(tmp_path) -> None:
    space, macs = mixed(), cm.Macs().bind(mixed())
    low, high = macs.range()[:2]
    algorithm = BigNAS(epochs=1, coarse=6, fine=4)
    for share in (0.0, 0.3, 1.0):
        limit = low + share * (high - low)
        problem = bound(space, [cm.Macs() <= limit])
        run = trained(algorithm, problem, task(160), tmp_path / f"{share}")
        rows = run.derive(20)
        assert len(rows) and (cm.Macs().bind(space)(rows) <= limit).all()
        told = run.notes()
        assert told["target macs"] == limit
        assert told["discrete macs"] == cm.Macs().bind(space)(rows[:1])[0]
        assert {"largest accuracy", "smallest accuracy"} <= set(told)


def test_a_kill_changes_nothing(tmp_path) -> None:
    same_after_a_kill(BigNAS(epochs=3, coarse=4, fine=2), tmp_path)


class Branches(nn.Module):
    """The sum of what is made of two features and of the third."""

    def __init__(self, seeing: nn.Module, blind: nn.Module) -> None:
        super().__init__()
        self.seeing, self.blind = seeing, blind

    def forward(self, x):
        return self.seeing(x[:, :2]) + self.blind(x[:, 2:])


def two_branches() -> sn.Space:
    def branch(features: int, name: str):
        width = sn.oneof([1, 4, 16], name=name)
        return sn.nn.Sequential(
            sn.nn.Linear(features, width), sn.nn.ReLU(), sn.nn.Linear(sn.tied(name), 2)
        )

    return sn.Space(sn.symbolize(Branches)(branch(2, "seeing"), branch(1, "blind")), input=(3,))


def test_it_selects_the_branch_that_matters(tmp_path) -> None:
    """Of two branches only one sees what the class depends on; the limit allows one wide branch."""
    algorithm = BigNAS(epochs=8, coarse=8, fine=0)
    for seed in (0, 1, 2):
        problem = bound(two_branches(), [cm.Macs() <= 80], seed=seed)
        run = trained(algorithm, problem, task(lr=0.02), tmp_path / f"{seed}")
        chosen = problem.space.decode(run.derive(1)[0])
        assert chosen["seeing"] == 16


def test_networks_are_taken_as_they_are() -> None:
    study = sn.search(
        images(), BigNAS(epochs=1, coarse=4, fine=2), shapes(), maximize="accuracy",
        subject_to=[cm.Macs() <= 3000], trials=2, progress=False,
    )  # fmt: skip
    best = study.best
    assert best.costs["macs"] <= 3000
    assert "train_loss" not in best.metrics
    assert not BigNAS().retrain


def shapes() -> sn.Task:
    """Bright upper or lower halves."""
    y = torch.arange(60) % 2
    x = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x[y == 1, :, :4] += 1
    return sn.Task((x, y), batch_size=16, lr=0.01)


class Stubborn(nn.Module):
    """Cannot run without numbers."""

    def forward(self, x):
        return x * float(x.sum())


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"BigNAS: the value of `coarse` \(0\) must be at least 1"):
        BigNAS(coarse=0)
    with pytest.raises(ValueError, match=r"`floor` \(1.5\) must be at least 0 and at most 1"):
        BigNAS(floor=1.5)
    with pytest.raises(ValueError, match=r"`decay` \(0\) must be above 0"):
        BigNAS(decay=0)
    run = begun(BigNAS(), bound(wide()), task(40))
    with pytest.raises(sn.SymnasError, match=r"gives a tuple in training.*distill=False"):
        run.teaching((torch.zeros(1), torch.zeros(1)))

    space = sn.Space(sn.spec(Stubborn), input=(3,))
    net = supernet_of(bound(space), BigNAS(), torch.device("cpu"))
    with pytest.raises(sn.SymnasError, match=r"meta device.*zero_gamma=False"):
        zero_residuals(net, space.sample(1))
