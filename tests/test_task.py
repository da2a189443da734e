"""sn.Task: training and measuring architectures."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from symnas import data
from symnas.errors import DeclarationError
from symnas.tasks import Task, TrialContext


def architecture(build=None, input=None, **task):
    """What a task needs of an architecture; by default a linear classifier of 8 x 8 digits."""
    make = build or (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    return SimpleNamespace(build=make, task=task, input=input)


def digits(**arguments):
    digits_ = data.digits()
    defaults = {"epochs": 6, "lr": 0.02, "device": "cpu"}
    return Task(digits_.train, test=digits_.test, **{**defaults, **arguments})


def blobs(n=60, **arguments):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    defaults = {"epochs": 2, "batch_size": 16, "lr": 0.05, "device": "cpu"}
    return Task((x, (x[:, 0] > 0).long()), **{**defaults, **arguments})


def linear(outputs=2):
    return architecture(lambda: nn.Linear(3, outputs))


def without_time(metrics):
    return {k: v for k, v in metrics.items() if k != "train_seconds"}


def test_a_linear_model_learns_digits():
    metrics = digits().evaluate(architecture())
    assert metrics["accuracy"] > 0.9
    assert metrics["epochs"] == 6
    assert set(metrics) == {"accuracy", "loss", "epochs", "train_loss", "train_seconds"}


def test_the_seed_decides_everything():
    def noisy():
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 10))

    task = digits(epochs=1, augment=data.shift(1))
    torch.manual_seed(5)  # what goes on outside has no influence
    one = without_time(task.evaluate(architecture(noisy), TrialContext(seed=1)))
    outside = torch.rand(1)
    torch.manual_seed(6)
    same = without_time(task.evaluate(architecture(noisy), TrialContext(seed=1)))
    other = without_time(task.evaluate(architecture(noisy), TrialContext(seed=2)))
    assert one == same
    assert one["train_loss"] != other["train_loss"]
    torch.manual_seed(5)
    assert outside == torch.rand(1)  # nor does a training have any outside


def test_reports_every_epoch_and_obeys_the_budget():
    seen = []
    trial = TrialContext(budget=3, report=lambda step, value: seen.append((step, value)))
    metrics = blobs().evaluate(linear(), trial)
    assert [step for step, _ in seen] == [0, 1, 2]
    assert seen[-1][1] == metrics["accuracy"]
    assert metrics["epochs"] == 3


def test_patience_stops_and_keeps_the_best_epoch():
    class Worse(nn.Module):
        """Its answers are right in the first epoch of training, and wrong after it."""

        def __init__(self):
            super().__init__()
            self.register_buffer("epoch", torch.zeros(()))
            self.scale = nn.Parameter(torch.ones(()))

        def train(self, mode=True):
            if mode and not self.training:
                self.epoch += 1
            return super().train(mode)

        def forward(self, x):
            sign = 1 if self.epoch <= 1 else -1
            return torch.stack([-x[:, 0], x[:, 0]], 1) * sign * self.scale.abs()

    metrics = blobs(epochs=50, patience=3).evaluate(architecture(Worse))
    assert metrics["epochs"] == 4
    assert metrics["accuracy"] == 1.0


def test_a_nan_loss_ends_the_trial_at_once():
    calls = []

    class Broken(nn.Linear):
        def forward(self, x):
            calls.append(self.training)
            out = super().forward(x)
            return out * math.nan if self.training else out

    metrics = blobs(epochs=5).evaluate(architecture(lambda: Broken(3, 2)))
    assert math.isnan(metrics["accuracy"]) and math.isnan(metrics["loss"])
    assert calls.count(True) == 1


def test_outputs_must_match_the_classes():
    with pytest.raises(DeclarationError, match=r"7 outputs.*2 classes"):
        blobs().evaluate(linear(7))
    with pytest.raises(DeclarationError, match="classes"):
        blobs().evaluate(architecture(lambda: nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))))
    with pytest.raises(DeclarationError, match="tuple"):

        class Pair(nn.Linear):
            def forward(self, x):
                return super().forward(x), x

        blobs().evaluate(architecture(lambda: Pair(3, 2)))


def test_input_of_the_space_and_the_data():
    with pytest.raises(DeclarationError, match=r"\(3, 8, 8\).*\(1, 8, 8\)"):
        digits().evaluate(architecture(input=(3, 8, 8)))

    def smaller():
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 10))

    task = digits()
    assert task.evaluate(architecture(smaller, input=(1, 6, 6)))["accuracy"] > 0.8  # resized
    model = smaller()
    assert (
        task.fit(model, input=(1, 6, 6))["accuracy"]
        == task.test(model, "validation", input=(1, 6, 6))["accuracy"]
    )


@pytest.mark.parametrize("keep", [True, "best"])
def test_kept_weights_give_the_same_metrics(tmp_path, keep):
    task = digits(epochs=2, keep_weights=keep)
    metrics = task.evaluate(architecture(), TrialContext(path=tmp_path / "trial"))
    model = architecture().build()
    model.load_state_dict(torch.load(tmp_path / "trial" / "weights.pt", weights_only=True))
    assert task.test(model, "validation")["accuracy"] == metrics["accuracy"]
    assert len(list((tmp_path / "trial").iterdir())) == 1


def test_convolutions_with_a_view_train_too():
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Linear(64, 10)

        def forward(self, x):
            x = self.conv(x).relu()
            return self.head(x.view(len(x), -1))  # fails where channels are last in memory

    assert digits(epochs=1).evaluate(architecture(Viewing))["epochs"] == 1


def test_batches_of_one_are_avoided():
    def normalised():
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

    x = torch.randn(21, 3)
    task = Task((x, torch.arange(21) % 2), (x, torch.arange(21) % 2), batch_size=10, epochs=1)
    assert sorted(len(batch.y) for batch in task.batches()) == [7, 7, 7]
    assert task.evaluate(architecture(normalised))["epochs"] == 1


def test_regression():
    table = data.table("diabetes")
    task = Task(table.train, test=table.test, epochs=20, lr=0.02, device="cpu")
    assert task.kind == "regression"
    model = nn.Linear(10, 1)
    found = task.fit(model)
    assert found["r2"] > 0.3
    assert math.isclose(found["rmse"] ** 2, found["loss"], rel_tol=1e-4)
    assert task.test(model)["r2"] > 0.2
    assert task.predict(model, table.test[0]).shape == table.test[1].shape
    with pytest.raises(DeclarationError, match=r"must give 1 number"):
        task.fit(nn.Linear(10, 3))


def test_fit_test_and_predict():
    task = digits()
    model = architecture().build()
    seen = []
    task.fit(model, epochs=4, include_validation=True, progress=lambda e, m: seen.append((e, m)))
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 3]
    assert list(seen[0][1]) == ["train_loss"]
    x, y = data.digits().test
    found = task.predict(model, x.numpy())
    assert task.test(model)["accuracy"] == pytest.approx((found == y).double().mean().item())
    with pytest.raises(DeclarationError, match="test="):
        blobs().test(nn.Linear(3, 2))


def test_the_parts_that_weight_sharing_uses():
    task = blobs(label_smoothing=0.1, metrics=("accuracy", "balanced_accuracy"))
    model = nn.Linear(3, 2)
    batch = next(task.batches("train", seed=1))
    outputs = task.outputs(model, batch)
    task.loss(outputs, batch).backward()
    assert model.weight.grad is not None
    assert set(task.metrics(outputs, batch)) == {"accuracy", "balanced_accuracy", "loss"}
    order = [torch.cat([b.y for b in task.batches("train", seed=s)]) for s in (1, 1, 2)]
    assert torch.equal(order[0], order[1]) and not torch.equal(order[0], order[2])
    held = torch.cat([b.x for b in task.batches("validation")])
    kept = torch.cat([b.x for b in task.batches("train")])
    assert len(held) + len(kept) == 60
    assert not (held[:, None] == kept[None]).all(2).any()


def test_own_loss_metric_and_optimizer():
    def margin(outputs, targets):
        return nn.functional.multi_margin_loss(outputs, targets)

    def recall(outputs, targets):
        return (outputs.argmax(1) == 1)[targets == 1].double().mean()

    task = blobs(epochs=20, loss=margin, metrics=(recall, "accuracy"), optimizer=torch.optim.NAdam)
    metrics = task.evaluate(linear())
    assert metrics["recall"] > 0.8 and metrics["accuracy"] > 0.8


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "constant"])
def test_every_optimizer_and_schedule_learns(optimizer, schedule):
    task = blobs(epochs=10, optimizer=optimizer, schedule=schedule)
    assert task.evaluate(linear())["accuracy"] >= 0.75


def test_bfloat16_on_the_cpu():
    task = blobs(epochs=10, precision="bfloat16")
    assert task.evaluate(linear())["accuracy"] > 0.8
    assert task.outputs(nn.Linear(3, 2), next(task.batches())).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_same_twice():
    task = digits(device="cuda", augment=data.shift(1))
    one, two = (task.evaluate(architecture()) for _ in range(2))
    assert without_time(one) == without_time(two)
    assert one["accuracy"] > 0.85
