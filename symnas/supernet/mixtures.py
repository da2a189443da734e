"""Modules that run several candidates, weighted by probabilities that may have gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from symnas.errors import SymnasError

# Values of decisions: (column, value) each.
Values = tuple[tuple[int, int], ...]
Shape = tuple[int, ...]


@attrs.define(eq=False)
class Weights:
    """The weights of the decisions that are relaxed, by column: what the next run is weighted by.

    Attributes:
        of: column to `(values,)`.
        straight: columns of which one value is drawn: their weights are divided by themselves, so
            that they are 1 and have a gradient.
    """

    of: dict[int, Tensor] = attrs.field(factory=dict)
    straight: frozenset[int] = frozenset()

    def __call__(self, either: Sequence[Values]) -> Tensor:
        """The sum over alternatives of the product of their decisions' weights: a scalar."""
        if len(either) == 1:
            return self._product(either[0])
        return torch.stack([self._product(values) for values in either]).sum()

    def _product(self, values: Values) -> Tensor:
        product: Tensor | None = None
        for column, value in values:
            weight = self.of[column][value]
            if column in self.straight:
                weight = weight / weight.detach()
            product = weight if product is None else product * weight
        assert product is not None
        return product


@attrs.frozen
class Fit:
    """The shapes that a candidate takes and gives, without the batch; others give the last one."""

    given: Shape
    result: Shape
    largest: Shape


class Mixture(nn.Module):
    """The sum of some modules' results, each times its weight.

    A candidate that takes or gives fewer channels than the largest has the leading ones: its input
    is cut to them, and its result is filled up with zeros.

    Args:
        candidates: the modules.
        values: of each: the decisions' values that it stands for, or several such.
        weights: of those.
        fits: of each, or None where its shapes are the largest's.
    """

    def __init__(
        self,
        candidates: Sequence[nn.Module],
        values: Sequence[Sequence[Values]],
        weights: Weights,
        fits: Sequence[Fit | None] | None = None,
    ) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)
        self.values, self.weights, self.fits = list(values), weights, fits

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        total = None
        for i, (candidate, values) in enumerate(zip(self.candidates, self.values, strict=True)):
            result = self._run(i, candidate, args, kwargs) * self.weights(values)
            if total is not None and total.shape != result.shape:
                raise SymnasError(
                    f"Candidates of one mixture give results of different shapes: {tuple(total.shape)} "
                    f"and {tuple(result.shape)}."
                )
            total = result if total is None else total + result
        return total

    def _run(self, i: int, candidate: nn.Module, args: Any, kwargs: Any) -> Tensor:
        fit = None if self.fits is None else self.fits[i]
        if fit is None:
            result = candidate(*args, **kwargs)
        else:
            first, *others = args
            result = candidate(leading(first, fit.given), *others, **kwargs)
            result = filled(result, fit.largest)
        if not isinstance(result, Tensor):
            raise SymnasError(
                f"A mixture needs candidates that give one tensor; a {type(candidate).__name__} "
                f"gave a {type(result).__name__}."
            )
        return result


class DepthMixture(nn.Sequential):
    """The sum over depths of the result after so many blocks, times the weight of the depth.

    Args:
        blocks: all blocks.
        depths: how many blocks, and the values of decisions that say so; each at least once.
        weights: of those.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], depths: Mapping[int, list[Values]], weights: Weights
    ) -> None:
        super().__init__(*blocks)
        self.depths, self.weights = dict(depths), weights

    def forward(self, x: Any) -> Any:
        total = self._weighted(x, 0, None)
        for done, block in enumerate(self, start=1):
            x = block(x)
            total = self._weighted(x, done, total)
        return total

    def _weighted(self, x: Tensor, done: int, total: Tensor | None) -> Tensor | None:
        if done not in self.depths:
            return total
        weight = self.weights(self.depths[done])
        return x * weight if total is None else total + x * weight


def leading(x: Tensor, shape: Shape) -> Tensor:
    """The leading part of `(batch, *larger)` that has this shape."""
    for dim, size in enumerate(shape, start=1):
        if dim < x.ndim and x.shape[dim] > size:
            x = x.narrow(dim, 0, size)
    return x


def filled(x: Tensor, shape: Shape) -> Tensor:
    """`(batch, *smaller)` with zeros behind, to this shape."""
    missing = [size - have for have, size in zip(x.shape[1:], shape, strict=True)]
    if not any(missing):
        return x
    padding = [n for size in reversed(missing) for n in (0, size)]
    return nn.functional.pad(x, padding)
