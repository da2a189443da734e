"""Feed-forward networks for tables of numbers and categories, with a choice of each layer's width.

By default there are three hidden layers and 20 widths, in the manner of C. Yang et al., "TabNAS:
Rejection Sampling for Neural Architecture Search on Tabular Datasets", NeurIPS 2022,
arXiv:2204.07615. (That paper's network 32-144-24 has 41,153 parameters, its limit for Criteo, where
there are 1,027 inputs: this follows by arithmetic.) Embeddings, depth and dropout as decisions, and
the first layer in blocks, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import symnas as sn

WIDTHS = (
    8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 384, 512
)  # fmt: skip
ACTIVATIONS: dict[str, Any] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "tanh": nn.Tanh}


@sn.symbolize
class Numbers(nn.Module):
    """The leading `count` columns: `(B, columns)` to `(B, count)`."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.count]

    def extra_repr(self) -> str:
        return f"{self.count}"


@sn.symbolize
class Category(nn.Module):
    """The column `column` as a category from 0 to `count - 1`: `(B, columns)` to `(B,)`, int64.

    The nearest one is taken for a number that is none: costs are measured on random inputs.
    """

    def __init__(self, column: int, count: int) -> None:
        super().__init__()
        self.column, self.count = column, count

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.column].clamp(0, self.count - 1).round().long()

    def extra_repr(self) -> str:
        return f"column={self.column}, count={self.count}"


@sn.symbolize
class Added(nn.Module):
    """The sum of what modules make of one input, each times a number.

    As the first layer it is `Linear` on the concatenation of all columns, in blocks: one for the
    numbers and one for each category. So a smaller embedding takes leading slices of its own block
    where weights are shared; in a single matrix the columns behind it would be other ones' weights.
    """

    def __init__(self, parts: Sequence[nn.Module], scales: Sequence[float]) -> None:
        super().__init__()
        self.parts, self.scales = nn.ModuleList(parts), tuple(scales)

    def forward(self, x: Tensor) -> Tensor:
        scaled = [s * part(x) for s, part in zip(self.scales, self.parts, strict=True)]
        return torch.stack(scaled).sum(0)


def tabular(
    numeric: int,
    categories: Sequence[int] = (),
    classes: int | None = 2,
    widths: Sequence[int] = WIDTHS,
    layers: int | Sequence[int] = 3,
    *,
    embedding: int | Sequence[int] = 8,
    shared_embedding: bool = True,
    dropout: float | Sequence[float] = 0.0,
    batch_norm: bool = False,
    activation: str = "relu",
) -> sn.Space:
    """Networks for tables: hidden layers whose widths are decided one by one.

    The input is one float tensor `(B, numeric + categories)`: the numbers, then the categories as
    integers from 0; `check_table` tells whether a table is so. The first layer adds a matrix for
    the numbers and one for each category's embedding, which is the same as one matrix for all of
    them, concatenated; parts are scaled so that each column counts alike in the beginning.

    Decisions, by name: `width i` for each layer from 0; `embedding` (or `embedding c` for each
    category c from 0) and `dropout` where several are given. Where depth is decided, `deeper i` says
    whether there are more than i layers, and a network has the widths of the layers it has alone;
    each depth has a classifier of its own.

    Args:
        numeric: number of columns with numbers, which should be standardised.
        categories: for each further column, how many values it has.
        classes: number of outputs; None, for regression: one output.
        widths: of each hidden layer.
        layers: number of hidden layers, or the numbers among which it is decided.
        embedding: numbers that stand for a category, or choices of it.
        shared_embedding: whether that is one decision for all categories.
        dropout: share that is dropped after each hidden layer, or choices, one for all of them.
        batch_norm: whether each hidden layer has one, before the activation.
        activation: "relu", "silu", "gelu" or "tanh".

    Raises:
        ValueError: an argument is out of range.

    >>> space = tabular(numeric=12, categories=(10, 4), classes=7)
    >>> space.size, space.decisions[0].name, space.input
    (8000, 'width 0', (14,))
    >>> tabular(4, widths=(8, 16), layers=(1, 2)).size  # 2 of one layer, 4 of two
    6
    """
    categories, widths = tuple(categories), tuple(widths)
    depths = (layers,) if isinstance(layers, int) else tuple(layers)
    embeddings = (embedding,) if isinstance(embedding, int) else tuple(embedding)
    dropouts = (dropout,) if isinstance(dropout, int | float) else tuple(dropout)
    _check(numeric, categories, classes, activation)
    for name, values in {"widths": widths, "layers": depths, "embedding": embeddings}.items():
        if not values or not all(_is_count(v, 1) for v in values):
            raise ValueError(f"tabular: `{name}` ({values}) must hold integers of at least 1.")
    if not dropouts or not all(0 <= d < 1 for d in dropouts):
        raise ValueError(f"tabular: `dropout` ({dropouts}) must be at least 0 and below 1.")
    outputs = 1 if classes is None else classes
    rate = _choice(dropouts, "dropout")

    def after(width: Any) -> list[Any]:
        """What follows the matrix of a hidden layer."""
        norm = [sn.nn.BatchNorm1d(width)] if batch_norm else []
        drop = [sn.nn.Dropout(rate)] if dropouts != (0.0,) else []
        return [*norm, sn.spec(ACTIVATIONS[activation]), *drop]

    def network(done: int, before: Any) -> list[Any]:
        """The modules that follow `done` hidden layers, of which the last one has this width."""
        head = sn.nn.Linear(before, outputs)
        if done == max(depths):
            return [head]
        width = _choice(widths, f"width {done}")
        more = [sn.nn.Linear(before, width), *after(width), *network(done + 1, width)]
        if done not in depths:
            return more
        return [sn.oneof([head, sn.nn.Sequential(*more)], name=f"deeper {done}")]

    @sn.space(input=(numeric + len(categories),))
    def tabular() -> Any:
        width = _choice(widths, "width 0")
        shared = _choice(embeddings, "embedding") if categories and shared_embedding else None
        sizes = [
            _choice(embeddings, f"embedding {index}") if shared is None else shared
            for index in range(len(categories))
        ]
        first = _first(numeric, categories, sizes, width)
        return sn.nn.Sequential(first, *after(width), *network(1, width))

    space: sn.Space = tabular()
    return space


def _first(numeric: int, categories: Sequence[int], sizes: Sequence[Any], width: Any) -> Any:
    """The first layer: of numbers alone it is a plain `Linear`."""
    if not categories:
        return sn.nn.Linear(numeric, width)
    columns = numeric + len(categories)
    parts, scales = [], []
    if numeric:
        parts.append(sn.nn.Sequential(Numbers(numeric), sn.nn.Linear(numeric, width)))
        scales.append(math.sqrt(numeric / columns))
    for index, (count, size) in enumerate(zip(categories, sizes, strict=True)):
        parts.append(
            sn.nn.Sequential(
                Category(numeric + index, count),
                sn.nn.Embedding(count, size),
                # The layer has one bias.
                sn.nn.Linear(size, width, bias=not parts),
            )
        )
        scales.append(math.sqrt(1 / columns))
    return Added(parts, scales)


def check_table(x: Any, numeric: int, categories: Sequence[int] = ()) -> None:
    """Says whether inputs are as `tabular(numeric, categories)` reads them.

    Args:
        x: `(n, numeric + categories)`, the categories last.
        numeric, categories: as for `tabular`.

    Raises:
        ValueError: there are other columns; a number is not finite; or a category is not one of the
            integers from 0 that there are. The message names the column.

    >>> check_table(torch.tensor([[0.3, 1.0], [-2.1, 0.0]]), numeric=1, categories=[2])
    >>> check_table(torch.tensor([[1.0, 0.3]]), numeric=1, categories=[2])
    Traceback (most recent call last):
    ValueError: check_table: column 1 has 0.3, but must hold the integers 0 to 1: categories come last.
    """
    x = torch.as_tensor(x)
    _check(numeric, tuple(categories), None, "relu", "check_table")
    columns = numeric + len(categories)
    if x.ndim != 2 or x.shape[1] != columns:
        raise ValueError(
            f"check_table: `x` has the shape {tuple(x.shape)}, but must be (n, {columns}): "
            f"{numeric} numbers and {len(categories)} categories."
        )
    wrong = ~torch.isfinite(x).all(0)
    if wrong.any():
        column = int(wrong.nonzero()[0])
        raise ValueError(f"check_table: column {column} has values that are not finite.")
    for column, count in enumerate(categories, start=numeric):
        values = x[:, column]
        strange = values[(values != values.round()) | (values < 0) | (values >= count)]
        if len(strange):
            raise ValueError(
                f"check_table: column {column} has {float(strange[0]):g}, but must hold the integers "
                f"0 to {count - 1}: categories come last."
            )


def _choice(values: tuple[Any, ...], name: str) -> Any:
    return values[0] if len(values) == 1 else sn.oneof(values, name=name)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check(
    numeric: Any, categories: tuple[Any, ...], classes: Any, activation: Any, who: str = "tabular"
) -> None:
    if not _is_count(numeric, 0):
        raise ValueError(f"{who}: `numeric` ({numeric!r}) must be an integer of at least 0.")
    if not all(_is_count(count, 1) for count in categories):
        raise ValueError(
            f"{who}: `categories` ({categories}) must hold for each column how many values it has, "
            "an integer of at least 1."
        )
    if numeric + len(categories) == 0:
        raise ValueError(f"{who}: `numeric` (0) and `categories` () leave no column at all.")
    if classes is not None and not _is_count(classes, 1):
        raise ValueError(
            f"{who}: `classes` ({classes!r}) must be an integer of at least 1, or None: regression."
        )
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"{who}: `activation` ({activation!r}) must be one of {', '.join(ACTIVATIONS)}."
        )
