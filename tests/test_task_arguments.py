"""sn.Task: choices among its arguments, its identity, and what it refuses."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn

from symnas.errors import DeclarationError
from symnas.language.choices import floatv, oneof
from symnas.language.spec import spec
from symnas.searchspace.space import Space
from symnas.tasks import Task

X = np.random.RandomState(0).randn(40, 3)
Y = np.arange(40) % 2


def task(**arguments):
    return Task((X, Y), **{"epochs": 1, "device": "cpu", **arguments})


def chosen(**values):
    return SimpleNamespace(build=lambda: nn.Linear(3, 2), task=values, input=None)


def test_choices_are_listed_and_filled_in():
    rate = floatv(1e-3, 1e-1, scale="log")
    open_ = task(lr=rate, optimizer=oneof(["sgd", "adamw"]), epochs=oneof([1, 3]))
    assert open_.arguments["lr"] is rate
    assert list(open_.arguments) == ["epochs", "optimizer", "lr"]
    closed = open_.with_arguments({"lr": 0.5, "optimizer": "sgd", "epochs": 3})
    assert (closed.lr, closed.optimizer, closed.epochs) == (0.5, "sgd", 3)
    assert closed.arguments == {}
    assert open_.evaluate(chosen(lr=0.5, optimizer="sgd", epochs=3))["epochs"] == 3
    assert open_.describe()["lr"] == {"float": [0.001, 0.1], "scale": "log"}
    assert open_.describe()["optimizer"] == {"choice": ["sgd", "adamw"]}


def test_open_choices_are_refused_where_values_are_needed():
    open_ = task(lr=floatv(0.1, 0.2))
    with pytest.raises(DeclarationError, match=r"lr.*open"):
        open_.evaluate(chosen())
    with pytest.raises(DeclarationError, match=r"lr.*open"):
        open_.fit(nn.Linear(3, 2))
    with pytest.raises(DeclarationError, match="no argument `rate`"):
        open_.with_arguments({"rate": 1.0})


def test_a_model_can_be_measured_while_choices_are_open():
    open_ = task(lr=floatv(0.1, 0.2), batch_size=oneof([8, 16]), precision=oneof(["float32"]))
    model = nn.Linear(3, 2)
    assert open_.test(model, "validation") == task().test(model, "validation")


def test_candidates_are_checked_as_values_are():
    for wrong in ({"epochs": oneof([1, 0])}, {"lr": floatv(-1.0, 1.0)}, {"schedule": oneof(["x"])}):
        with pytest.raises(DeclarationError, match=next(iter(wrong))):
            task(**wrong)
    with pytest.raises(DeclarationError, match="cannot be compared"):
        task(seed=oneof([0, 1]))


def test_the_split_is_the_same_for_all_choices():
    open_ = task(lr=floatv(0.1, 0.2))
    for name in ("train", "validation"):
        one = torch.cat([b.x for b in open_.with_arguments({"lr": 0.1}).batches(name)])
        two = torch.cat([b.x for b in open_.with_arguments({"lr": 0.2}).batches(name)])
        assert torch.equal(one, two)
    assert [int(y.sum()) * 2 for _, y in task(batch_size=40).batches("validation")] == [8]


def test_equal_tasks_describe_themselves_equally():
    assert task() == task() and hash(task()) == hash(task())
    assert task(device="cpu") == task(device="cuda")
    for changed in (task(lr=0.1), task(seed=1), Task((X + 1, Y)), Task((X, 1 - Y))):
        assert changed != task()
    assert json.loads(json.dumps(task().describe())) == task().describe()
    assert task(augment=lambda x: x + 1) != task(augment=lambda x: x + 2)
    assert task(loss=_scaled(1.0)) != task(loss=_scaled(2.0))


def _scaled(scale):
    def loss(outputs, targets):
        return scale * nn.functional.cross_entropy(outputs, targets)

    return loss


_SCRIPT = """
import json
import numpy as np
from symnas.data import shift
from symnas.language.choices import floatv, oneof
from symnas.language.spec import spec
from symnas.searchspace.space import Space
from symnas.tasks import Task
def metric(outputs, targets):
    return 0.0
x = np.random.RandomState(0).randn(40, 3)
for _ in range({skip}):
    oneof([1, 2])
made = Task((x, np.arange(40) % 2), lr=floatv(0.1, 1.0), epochs=oneof([1, 2]), augment=shift(1),
            metrics=("accuracy", metric))
print(json.dumps(made.describe(), sort_keys=True))
"""


def test_the_description_is_the_same_in_every_process():
    found = {
        subprocess.run(
            [sys.executable, "-c", _SCRIPT.format(skip=skip)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(skip), "PYTHONPATH": ":".join(p for p in sys.path if p)},
        ).stdout
        for skip in (0, 7)
    }
    assert len(found) == 1


def test_travels_to_worker_processes():
    for one in (task(lr=floatv(0.1, 0.2)), task(augment=lambda x: x)):
        copy = pickle.loads(cloudpickle.dumps(one))
        assert copy == one
        metrics = copy.evaluate(chosen(lr=0.1) if one.arguments else chosen())
        assert metrics["epochs"] == 1


def test_repr_names_what_was_changed():
    assert repr(task(lr=0.1)) == "Task(32 + 8 x (3,), 2 classes, epochs=1, lr=0.1, device='cpu')"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, r"`epochs` \(0\) must be an integer of at least 1"),
        ({"batch_size": 2.5}, "`batch_size`"),
        ({"lr": 0.0}, "`lr`"),
        ({"lr": float("nan")}, "`lr`"),
        ({"optimizer": "adan"}, "`optimizer`.*'adamw'"),
        ({"schedule": "step"}, "`schedule`.*'onecycle'"),
        ({"warmup": 1.0}, "`warmup`"),
        ({"augment": 3}, "`augment`"),
        ({"validation": 1.5}, "`validation`"),
        ({"validation": None}, "`validation`"),
        ({"validation": 0.001}, "no example is left for 'validation'"),
        ({"metrics": ("r2",)}, "'r2'.*accuracy"),
        ({"metrics": ("accuracy", "accuracy")}, "each once"),
        ({"loss": "mse"}, "cross_entropy"),
        ({"kind": "ranking"}, "`kind`"),
        ({"keep_weights": "all"}, "`keep_weights`"),
        ({"test": (X[:, :2], Y)}, r"\(2,\).*\(3,\)"),
        ({"test": (X, Y + 1)}, "of `test`"),
        ({"kind": "regression", "label_smoothing": 0.1}, "label_smoothing"),
    ],
)
def test_wrong_arguments_are_named_before_training(arguments, message):
    with pytest.raises(DeclarationError, match=message):
        task(**arguments)


def test_choices_join_a_space_with_those_nested_in_them():
    made = task(
        lr=floatv(1e-3, 1e-1, scale="log"),
        augment=oneof([None, spec(Noise, oneof([0.1, 0.2]))]),
    )
    space = Space(spec(nn.Linear, 3, 2)).with_task(made.arguments)
    assert space.columns == ("task.lr", "task.augment", "task.augment[=1/2].scale")
    architecture = space.decode([0, 1, 1])
    assert made.evaluate(architecture)["epochs"] == 1
    chosen_ = made.with_arguments(architecture.task)
    assert chosen_.lr == pytest.approx(1e-3)
    assert chosen_.augment.scale == 0.2


class Noise:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x, generator):
        return x + self.scale * torch.randn(x.shape, generator=generator)
