"""sn.Task: what it takes as data, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from symnas.errors import DeclarationError
from symnas.tasks import Task, examples

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
LINEAR = SimpleNamespace(build=lambda: nn.Linear(3, 2), task={}, input=None)


class Pairs(Dataset):
    """Item by item, as users' Datasets are; `noise` is a random transform."""

    def __init__(self, x=X, y=Y, noise=0.0):
        self.x, self.y, self.noise, self.read = x, y, noise, 0

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        self.read += 1
        return self.x[index] + self.noise * torch.rand(3), int(self.y[index])


def result(data, **arguments):
    metrics = Task(data, epochs=3, lr=0.1, device="cpu", **arguments).evaluate(LINEAR)
    del metrics["train_seconds"]
    return metrics


def test_arrays_tensors_and_datasets_are_one():
    expected = result((X, Y))
    assert result((X.numpy(), Y.numpy())) == expected
    assert result([X.double().numpy(), Y.numpy().astype(np.int16)]) == expected
    assert result(TensorDataset(X, Y)) == expected
    assert result(Pairs()) == expected
    assert result((X, Y == 1)) == expected


def test_a_dataset_that_fits_is_read_once():
    dataset = Pairs()
    task = Task(dataset, epochs=3, device="cpu")
    read = dataset.read
    task.evaluate(LINEAR)
    assert dataset.read == read < 60


@pytest.mark.parametrize("loaders", [0, 1])
def test_a_dataset_that_does_not_fit_gives_the_same(monkeypatch, loaders):
    expected = result((X, Y))
    monkeypatch.setattr(examples, "MEMORY_LIMIT", 1)
    assert result(Pairs(), loaders=loaders) == expected


def test_random_transforms_stay_random():
    dataset = Pairs(noise=0.1)
    task = Task(dataset, epochs=2, device="cpu")
    read = dataset.read
    one, two = (task.evaluate(LINEAR)["train_loss"] for _ in range(2))
    assert one == two  # from the trial's seed
    assert dataset.read - read >= 2 * 2 * 40


def test_later_changes_of_the_data_do_not_reach_the_task():
    x = X.numpy().copy()
    task = Task((x, Y), device="cpu")
    before = task.describe()
    x[:] = 0
    assert not (next(task.batches()).x == 0).any()
    assert task.describe() == before == Task((X, Y)).describe()


def test_targets_with_a_shape():
    images = torch.randn(12, 1, 4, 4)
    masks = (images[:, 0] > 0).long()
    task = Task((images, masks), epochs=5, lr=0.1, device="cpu")
    metrics = task.fit(nn.Conv2d(1, 2, 1))
    assert metrics["accuracy"] > 0.5
    assert task.predict(nn.Conv2d(1, 2, 1), images).shape == (12, 4, 4)


def _nan():
    x = X.clone()
    x[7, 1] = float("nan")
    return x


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, Y[:-1]), "40 inputs but 39 targets"),
        ((_nan(), Y), r"1 of the 40 inputs.*example 7.*impute"),
        ((X, Y + 1), r"labels.*\(1, 2; 2 different ones\).*numpy.unique"),
        ((X, Y * 5), "numpy.unique"),
        ((X, Y * 0), "C at least 2"),
        ((X, np.array(["a"] * 40)), "numpy.unique"),
        ((X, nn.functional.one_hot(Y).float()), r"y.argmax\(1\)"),
        ((X.byte(), Y), "uint8.*255"),
        ((X[:0], Y[:0]), "no examples"),
        (X, r"pair \(x, y\)"),
        ("mnist", r"pair \(x, y\)"),
        (Pairs(X, np.full(40, 3)), "numpy.unique"),
    ],
)
def test_wrong_data_is_named_with_a_remedy(data, message):
    with pytest.raises(DeclarationError, match=message):
        Task(data)


def test_wrong_datasets_are_named_with_a_remedy():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    class Dicts(Pairs):
        def __getitem__(self, index):
            return {"image": self.x[index], "label": 0}

    class Ragged(Pairs):
        def __getitem__(self, index):
            return torch.zeros(index + 1), 0

    for wrong, message in ((Stream(), "map-style"), (Dicts(), "pair"), (Ragged(), "one shape")):
        with pytest.raises(DeclarationError, match=message):
            Task(wrong)


def test_classes_without_an_example_can_be_declared():
    task = Task((X, Y * 2), classes=5, device="cpu")
    assert task.evaluate(SimpleNamespace(build=lambda: nn.Linear(3, 5), task={}, input=None))
    with pytest.raises(DeclarationError, match="0 to 1"):
        Task((X, Y * 2), classes=2)
