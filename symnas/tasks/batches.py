"""Batches: shuffled, resized and augmented by one generator, without loader processes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from symnas.errors import DeclarationError
from symnas.tasks.examples import AnyExamples


class Batch(NamedTuple):
    """Inputs `(batch, ...)` and targets `(batch, ...)`, on the device that trains."""

    x: Tensor
    y: Tensor


def batch_count(examples: int, size: int) -> int:
    """How many batches of at most `size` hold that many examples."""
    return max(1, -(-examples // size))


def batches(
    examples: AnyExamples,
    index: Tensor,
    *,
    size: int,
    device: torch.device,
    generator: torch.Generator | None = None,
    augment: Callable[..., Tensor] | None = None,
    input: tuple[int, ...] | None = None,
) -> Iterator[Batch]:
    """The examples at `index`, once each, in batches of nearly equal size.

    Args:
        examples: what to read from.
        index: `(n,)`, which of them.
        size: the largest batch. Batches differ by at most one example, so that none is so small
            that batch normalisation has nothing to average over.
        device: where the batches shall be.
        generator: shuffles and augments (on the CPU); None keeps the order and augments nothing.
        augment: `x -> x`, or `(x, generator) -> x` if it takes two arguments.
        input: resize images to this `(channels, height, width)`, if it is another than theirs.
    """
    count = batch_count(len(index), size)
    if generator is not None:
        index = index[torch.randperm(len(index), generator=generator)]
    on_device: torch.Generator | None = generator
    if generator is not None and device.type != "cpu":
        seed = int(torch.randint(2**62, (), generator=generator))
        on_device = torch.Generator(device).manual_seed(seed)
    resize = input is not None and input != examples.input
    for x, y in examples.stream(torch.tensor_split(index, count), device):
        if resize and input is not None:
            x = resized(x, input)
        if augment is not None and generator is not None:
            x = augment(x, on_device) if takes_generator(augment) else augment(x)
        yield Batch(x, y)


def resized(x: Tensor, input: tuple[int, ...]) -> Tensor:
    """Images `(batch, channels, ...)` in another height and width: `(batch, *input)`."""
    size = list(input[1:])
    return torch.nn.functional.interpolate(
        x, size=size, mode="bilinear", antialias=True, align_corners=False
    )


def check_input(wanted: tuple[int, ...] | None, given: tuple[int, ...]) -> None:
    """Whether examples can be fed to an architecture.

    Raises:
        DeclarationError: shapes differ in more than height and width of an image.
    """
    if wanted is None or wanted == given:
        return
    if len(wanted) == len(given) == 3 and wanted[0] == given[0]:
        return
    raise DeclarationError(
        f"The space is declared for `input={wanted}`, but one example of the task has the shape "
        f"{given}. Declare sn.space(input={given}), or reshape the data (images of another height "
        "and width are resized, channels are not)."
    )


def takes_generator(augment: Callable[..., Any]) -> bool:
    """Whether an augmentation asks for the generator as its second argument."""
    try:
        parameters = inspect.signature(augment).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) >= 2 or any(
        p.name == "generator" for p in parameters
    )
