"""Masks in weight space: the mean of a layer over its widths and kernels, in one run of the largest.

The result of a layer is linear in its weight. So the mean of its results over numbers of input
channels and kernel sizes is the result with the mean of the weights, cut to each: one convolution of
the largest size. It is the mask of A. Wan et al., "FBNetV2", CVPR 2020, arXiv:2004.05565, Section
3.1, put on what takes the channels instead of what makes them: there it is exact for one-hot weights
behind a batch norm too, and counted once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import attrs
import torch
from torch import Tensor

from symnas.supernet.layouts import Layout
from symnas.supernet.mixtures import Weights

Shape = tuple[int, ...]
# The most combinations of decisions that say one weight's masked dimensions.
MOST = 4096


@attrs.frozen(eq=False)
class Mask:
    """The mean mask of some dimensions of a weight.

    Attributes:
        columns: the decisions that it depends on.
        groups: for each combination of their values, in order, which pattern it has: `(n,)`.
        patterns: `(patterns, *sizes of all dimensions)`, 1 in those that are not masked here.
    """

    columns: tuple[int, ...]
    groups: Tensor
    patterns: Tensor

    def __call__(self, weights: Weights, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The mask under the weights of decisions, to multiply with."""
        joint = torch.ones(1, device=device, dtype=dtype)
        for column in self.columns:
            own = weights.of[column].to(device=device, dtype=dtype)
            joint = (joint[:, None] * own).reshape(-1)
        shares = torch.zeros(len(self.patterns), device=device, dtype=dtype)
        shares = shares.index_add(0, self.groups.to(device), joint)
        patterns = self.patterns.to(device=device, dtype=dtype)
        return (shares @ patterns.flatten(1)).view(patterns.shape[1:])


def masks_of(
    layout: Layout,
    largest: Shape,
    sizes: Mapping[int, int],
    shape_at: Callable[[dict[int, int]], Shape | None],
) -> list[Mask]:
    """The masks of one weight; none where nothing that it sums over varies.

    Args:
        layout: of the weight.
        largest: its shape where all these decisions have their largest values.
        sizes: numbers of values of the decisions that may change its shape, by column.
        shape_at: its shape at other values of some of them.

    Raises:
        ValueError: too many decisions say its shape.
    """
    dims = sorted(layout.inputs | layout.middle)
    by_dim: dict[int, set[int]] = {dim: set() for dim in dims}
    for column, size in sizes.items():
        for value in range(size):
            shape = shape_at({column: value})
            for dim in dims:
                if shape is not None and shape[dim] != largest[dim]:
                    by_dim[dim].add(column)
    found = []
    left = [dim for dim in dims if by_dim[dim]]
    while left:
        together = [left.pop(0)]
        columns = set(by_dim[together[0]])
        for dim in list(left):
            if by_dim[dim] & columns:
                together.append(dim)
                columns |= by_dim[dim]
                left.remove(dim)
        found.append(_mask(layout, largest, together, sorted(columns), sizes, shape_at))
    return found


def _mask(
    layout: Layout,
    largest: Shape,
    dims: list[int],
    columns: list[int],
    sizes: Mapping[int, int],
    shape_at: Callable[[dict[int, int]], Shape | None],
) -> Mask:
    counts = [sizes[column] for column in columns]
    if math.prod(counts) > MOST:
        raise ValueError("too many decisions say the shape of a weight")
    numbers: dict[Shape, int] = {}
    groups = []
    for values in itertools.product(*map(range, counts)):
        shape = shape_at(dict(zip(columns, values, strict=True))) or largest
        groups.append(numbers.setdefault(tuple(shape[dim] for dim in dims), len(numbers)))
    patterns = []
    for kept in numbers:
        pattern = torch.zeros([n if dim in dims else 1 for dim, n in enumerate(largest)])
        view = pattern
        for dim, size in zip(dims, kept, strict=True):
            start = (largest[dim] - size) // 2 if dim in layout.middle else 0
            view = view.narrow(dim, start, size)
        view.fill_(1.0)
        patterns.append(pattern)
    return Mask(tuple(columns), torch.tensor(groups), torch.stack(patterns))
