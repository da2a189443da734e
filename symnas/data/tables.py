"""Tables inside scikit-learn: small problems with named columns of numbers."""

from __future__ import annotations

import functools

import torch

from symnas.data.dataset import Data, optional, split

TABLES = ("breast_cancer", "diabetes", "iris", "wine")


@functools.cache
def table(name: str) -> Data:
    """A table of scikit-learn: "wine", "breast_cancer", "iris", or "diabetes" (a regression).

    Inputs `(n, columns)`, and the targets of a regression, are standardised: mean 0 and variance 1
    over the training examples.

    Raises:
        ValueError: there is no such table.
        MissingExtra: scikit-learn is not installed.

    >>> table("wine").input, table("diabetes").classes
    ((13,), None)
    """
    if name not in TABLES:
        raise ValueError(
            f"symnas.data.table: `name` ({name!r}) must be one of {', '.join(TABLES)}."
        )
    bunch = getattr(optional("sklearn.datasets", "scikit-learn", "table"), f"load_{name}")()
    x = torch.tensor(bunch.data, dtype=torch.float64)
    regression = name == "diabetes"
    y = torch.tensor(bunch.target, dtype=torch.float64 if regression else torch.int64)
    data = split(name, x, y)
    (x_train, y_train), (x_test, y_test) = data.train, data.test
    x_train, x_test = _standardised(x_train, x_test)
    if regression:
        y_train, y_test = _standardised(y_train, y_test)
    return Data((x_train, y_train), (x_test, y_test), data.classes, data.input, name)


def _standardised(train: torch.Tensor, test: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, deviation = train.mean(0), train.std(0)
    return ((train - mean) / deviation).float(), ((test - mean) / deviation).float()
