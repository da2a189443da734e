"""How the weights of a smaller layer lie within those of a larger one.

A layer keeps the leading channels of a larger one and the middle of its kernels (H. Cai et al.,
"Once-for-All", ICLR 2020, arXiv:1908.09791, Section 3.3; J. Yu et al., "BigNAS", ECCV 2020,
arXiv:2003.11142, Section 3.1). Weights that are packed from several matrices keep the leading
channels of each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from symnas.errors import SymnasError

# In how many equal parts the gates of a recurrent layer are packed.
_GATES: dict[type, int] = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}


@attrs.frozen
class Layout:
    """How a weight is laid out.

    Attributes:
        meaning: weights of different meaning are not shared, whatever their shapes.
        middle: dimensions of which a smaller weight has the middle: kernels.
        inputs: dimensions that the layer sums over: numbers of input channels. Putting zeros there
            is the same as to leave the channels out.
        chunks: in how many equal parts a dimension is packed; of each a smaller weight has the
            leading share.
    """

    meaning: Hashable = None
    middle: frozenset[int] = frozenset()
    inputs: frozenset[int] = frozenset()
    chunks: tuple[tuple[int, int], ...] = ()

    def take(self, stored: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A smaller weight of this shape: a view of the stored one, or a copy where it is packed.

        Gradients flow to the stored one.
        """
        return self._within(stored, shape).reshape(shape)

    def index(self, stored: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...] | None:
        """What `take` takes, as an index; None where it is the whole, or no plain slice."""
        found = []
        for dim, (whole, size) in enumerate(zip(stored, shape, strict=True)):
            if size != whole and dim in dict(self.chunks):
                return None
            start = (whole - size) // 2 if dim in self.middle else 0
            found.append(slice(start, start + size) if size != whole else slice(None))
        while found and found[-1] == slice(None):
            found.pop()
        return tuple(found) or None

    def put(self, stored: Tensor, value: Tensor) -> None:
        """Writes a smaller weight to where `take` reads it."""
        with torch.no_grad():
            within = self._within(stored, tuple(value.shape))
            within.copy_(value.reshape(within.shape))

    def _within(self, stored: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A view, in which each packed dimension is two: the parts, and what is in a part."""
        view, packed = stored, dict(self.chunks)
        for dim in range(len(shape) - 1, -1, -1):
            size, whole = shape[dim], stored.shape[dim]
            if size == whole:
                continue
            if n := packed.get(dim):
                parts = (*view.shape[:dim], n, whole // n, *view.shape[dim + 1 :])
                view = view.view(parts).narrow(dim + 1, 0, size // n)
            else:
                start = (whole - size) // 2 if dim in self.middle else 0
                view = view.narrow(dim, start, size)
        return view


LayoutOf = Callable[[Any, str], Layout]
_registered: dict[type, LayoutOf] = {}


def share(module_type: type[nn.Module]) -> Callable[[LayoutOf], LayoutOf]:
    """Registers how a type of layer lays its weights out: `function(module, name) -> Layout`.

    Needed where several matrices are packed into one, or where the meaning of a weight depends on
    something else than its shape; leading channels are taken otherwise.

    >>> class Gated(torch.nn.Linear):
    ...     def forward(self, x):
    ...         value, gate = super().forward(x).chunk(2, dim=-1)
    ...         return value * gate.sigmoid()
    >>> @share(Gated)
    ... def gated(module, name):
    ...     return Layout(chunks=((0, 2),))
    >>> layout_of(Gated(3, 8), "weight").chunks
    ((0, 2),)
    """

    def register(function: LayoutOf) -> LayoutOf:
        _registered[module_type] = function
        return function

    return register


def layout_of(module: nn.Module, name: str) -> Layout:
    """The layout of a module's own parameter or buffer.

    Raises:
        SymnasError: a registered function gave something else.
    """
    for kind in type(module).__mro__:
        if kind in _registered:
            found = _registered[kind](module, name)
            if not isinstance(found, Layout):
                raise SymnasError(
                    f"The function that was registered for {kind.__name__} gave {found!r:.60}; it "
                    "must give a Layout."
                )
            return found
    return Layout()


@share(nn.modules.conv._ConvNd)
def _convolution(module: nn.modules.conv._ConvNd, name: str) -> Layout:
    if name != "weight":
        return Layout()
    kernel = frozenset(range(2, 2 + len(module.kernel_size)))
    inputs = frozenset({0 if module.transposed else 1})
    meaning: Hashable = None
    if module.groups > 1:
        inputs = frozenset()
        if module.groups == module.in_channels:
            meaning = ("depthwise", module.out_channels // module.groups)
        else:
            # A weight's input channel counts within its group.
            meaning = ("grouped", module.in_channels // module.groups)
    return Layout(meaning, kernel, inputs)


@share(nn.Linear)
def _linear(module: nn.Linear, name: str) -> Layout:
    return Layout(inputs=frozenset({1}) if name == "weight" else frozenset())


@share(nn.MultiheadAttention)
def _attention(module: nn.MultiheadAttention, name: str) -> Layout:
    packed = ((0, 3),) if name.startswith("in_proj") else ()
    inputs = frozenset({1}) if name == "in_proj_weight" else frozenset()
    return Layout(("heads of", module.head_dim), inputs=inputs, chunks=packed)


@share(nn.RNNBase)
def _recurrent(module: nn.RNNBase, name: str) -> Layout:
    gates = next((n for kind, n in _GATES.items() if isinstance(module, kind)), 1)
    chunks = [] if name.startswith("weight_hr") else [(0, gates)]
    if module.bidirectional and name.startswith("weight_ih_l") and name[11] != "0":
        chunks.append((1, 2))
    return Layout(("projected to", module.proj_size), chunks=tuple(chunks))
