"""A data set: examples to train on, examples to test on."""

from __future__ import annotations

import importlib
from typing import Any

import attrs
import torch
from torch import Tensor

from symnas.errors import MissingExtra
from symnas.tasks.split import hold_out

Pair = tuple[Tensor, Tensor]


@attrs.frozen(eq=False)
class Data:
    """Inputs and targets to train on and to test on.

    Attributes:
        train, test: `(x, y)`: inputs `(n, *input)` float32; targets `(n,)`, int64 class labels or
            float32 numbers.
        classes: how many classes; None for regression.
        input: shape of one example.
        name: of the data set.
    """

    train: Pair = attrs.field(repr=lambda pair: f"{len(pair[0])} examples")
    test: Pair = attrs.field(repr=lambda pair: f"{len(pair[0])} examples")
    classes: int | None
    input: tuple[int, ...]
    name: str


def split(name: str, x: Tensor, y: Tensor, test: float = 0.2) -> Data:
    """A data set whose test share is always the same, each class in proportion."""
    labels = None if y.dtype.is_floating_point else y
    kept, held = hold_out(len(x), test, seed=0, labels=labels)
    # Shuffled: the packages store some of them class by class.
    kept = kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(0))]
    classes = None if labels is None else int(y.max()) + 1
    return Data((x[kept], y[kept]), (x[held], y[held]), classes, tuple(x.shape[1:]), name)


def optional(module: str, package: str, function: str) -> Any:
    """A module of a package that only the demo extra brings.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"symnas.data.{function} needs {package}. Install it with `pip install symnas[demo]`."
        ) from error
