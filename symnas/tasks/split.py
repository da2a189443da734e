"""Which examples are held out: by seed alone, so that all trials see the same ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from symnas.tasks.examples import AnyExamples

Split = tuple[AnyExamples, Tensor]  # examples, and `(n,)` which of them


def hold_out(
    count: int, fraction: float, seed: int, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Indices `(kept, held out)` of `count` examples, each in increasing order.

    With `labels`, `(count,)` integers, each class is held out in proportion (systematic
    sampling down the examples sorted by class: within one example of the exact share).

    >>> kept, held = hold_out(10, 0.2, seed=0, labels=torch.tensor([0, 1] * 5))
    >>> len(kept), sorted(held % 2)
    (8, [tensor(0), tensor(1)])
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    if labels is not None:
        order = order[torch.argsort(labels[order], stable=True)]
    steps = torch.floor(torch.arange(count + 1, dtype=torch.float64) * fraction + 0.5)
    held = steps[1:] > steps[:-1]
    return order[~held].sort().values, order[held].sort().values


def splits(
    train: AnyExamples, validation: Any, test: AnyExamples | None, kind: str, seed: int
) -> dict[str, Split]:
    """The examples to train on, to validate on, and (if there are any) to test on."""
    if isinstance(validation, float):
        single_label = kind == "classification" and train.targets.ndim == 1
        labels = train.targets if single_label else None
        kept, held = hold_out(len(train), validation, seed, labels)
        found: dict[str, Split] = {"train": (train, kept), "validation": (train, held)}
    else:
        found = {"train": (train, torch.arange(len(train)))}
        found["validation"] = (validation, torch.arange(len(validation)))
    if test is not None:
        found["test"] = (test, torch.arange(len(test)))
    return found
