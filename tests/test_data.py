"""symnas.data: data sets inside packages, and augmentation."""

from __future__ import annotations

import sys

import pytest
import torch

from symnas import data
from symnas.errors import MissingExtra


@pytest.mark.parametrize(
    ("make", "train", "test", "input", "classes"),
    [
        (data.mnist5k, 4000, 1000, (1, 28, 28), 10),
        (data.digits, 1438, 359, (1, 8, 8), 10),
        (lambda: data.table("wine"), 142, 36, (13,), 3),
        (lambda: data.table("breast_cancer"), 455, 114, (30,), 2),
        (lambda: data.table("iris"), 120, 30, (4,), 3),
        (lambda: data.table("diabetes"), 354, 88, (10,), None),
    ],
)
def test_data_sets(make, train, test, input, classes):
    found = make()
    for (x, y), count in ((found.train, train), (found.test, test)):
        assert x.shape == (count, *input) == (count, *found.input)
        assert x.dtype == torch.float32 and bool(torch.isfinite(x).all())
        assert y.shape == (count,)
    if classes is None:
        assert found.classes is None and found.train[1].dtype == torch.float32
    else:
        assert found.classes == classes
        share = torch.bincount(found.test[1]) / torch.bincount(found.train[1])
        assert bool((share - 0.25).abs().max() < 0.05)  # each class in proportion
    if len(input) == 3:
        assert found.train[0].min() == 0 and found.train[0].max() == 1


def test_images_are_never_in_both_parts():
    found = data.digits()
    train, test = (part[0].flatten(1) for part in (found.train, found.test))
    assert (torch.cdist(test, train, compute_mode="donot_use_mm_for_euclid_dist") == 0).sum() == 0


def test_unknown_table():
    with pytest.raises(ValueError, match="wine"):
        data.table("covtype")


def test_the_extra_is_named(monkeypatch):
    data.digits.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install symnas\[demo\]"):
        data.digits()


def test_shift_moves_each_image_and_nothing_else():
    images = torch.zeros(200, 2, 7, 7)
    images[:, :, 3, 3] = 1
    moved = data.shift(2)(images, torch.Generator().manual_seed(0))
    assert torch.equal(moved.sum((2, 3)), images.sum((2, 3)))
    assert torch.equal(moved[:, 0], moved[:, 1])
    places = {tuple(p.tolist()) for p in moved[:, 0].nonzero()[:, 1:]}
    assert places == {(row, column) for row in range(1, 6) for column in range(1, 6)}
    again = data.shift(2)(images, torch.Generator().manual_seed(0))
    assert torch.equal(moved, again)
    assert torch.equal(data.shift(0)(images), images)
