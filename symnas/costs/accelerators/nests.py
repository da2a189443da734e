"""Operations that multiply and accumulate, as the loops that an accelerator runs.

Convolutions, linear layers and matrix products are all one nest: a grouped convolution,

    O[b, g, k, x...] += W[g, k, c, f...] * I[b, g, c, s * x + d * f ...].

A linear layer is a convolution of size 1 whose positions are the rows, and a batch of matrix
products one with as many groups as there are products.
"""

from __future__ import annotations

import json
import math
from typing import Any

import attrs

from symnas.costs.pieces import Operation, flops_of

Sizes = tuple[int, ...]
_AXES = ("x", "y", "z")  # the last dimension of an image is x


class Untranslated(ValueError):
    """An operation that multiplies and accumulates, and is not one of the loop nests known here."""


@attrs.frozen
class Nest:
    """A grouped convolution; sizes of positions are in the order of the tensors' dimensions.

    Attributes:
        batch: examples that share the weights (b).
        groups: independent parts (g).
        outputs: channels of the output in a group (k).
        inputs: channels of the input in a group (c).
        positions: sizes of the output; one, two or three.
        kernel: sizes of the kernel.
        source: sizes of the input, without padding.
        stride, dilation, padding: as in torch.
        stored: whether the second operand is stored weights, and not an activation.
    """

    outputs: int
    inputs: int
    positions: Sizes
    batch: int = 1
    groups: int = 1
    kernel: Sizes = (1,)
    source: Sizes = ()
    stride: Sizes = (1,)
    dilation: Sizes = (1,)
    padding: Sizes = (0,)
    stored: bool = True

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations."""
        channels = self.batch * self.groups * self.outputs * self.inputs
        return channels * math.prod(self.positions) * math.prod(self.kernel)

    @property
    def kind(self) -> str:
        """For people and mappings: "convolution", "pointwise", "depthwise", "grouped", "matmul"."""
        if not self.source:
            return "matmul"
        if self.groups > 1:
            return "depthwise" if self.inputs == self.outputs == 1 else "grouped"
        return "pointwise" if math.prod(self.kernel) == 1 else "convolution"

    @property
    def key(self) -> str:
        """Equal for nests that cost the same."""
        return json.dumps(attrs.asdict(self), sort_keys=True, separators=(",", ":"))

    def as_zigzag(self, bits: int, partial_bits: int) -> dict[str, Any]:
        """The nest in ZigZag's workload format, as plain data; the layer is named by its kind."""
        axes = _AXES[: len(self.positions)][::-1]
        data: dict[str, Any] = {
            "id": 0,
            "name": self.kind,
            "operator_type": "Conv" if self.source else "Gemm",
            "operand_precision": {"W": bits, "I": bits, "O": partial_bits, "O_final": bits},
            "operand_source": {"I": 0, "W": 0} if self.stored else {"I": 0},
            "dimension_relations": [],
        }
        sizes = {"B": self.batch, "G": self.groups, "K": self.outputs, "C": self.inputs}
        sizes |= {f"O{a.upper()}": n for a, n in zip(axes, self.positions, strict=True)}
        if self.source:
            sizes |= {f"F{a.upper()}": n for a, n in zip(axes, self.kernel, strict=True)}
            data["dimension_relations"] = [
                f"i{a}={s}*o{a}+{d}*f{a}"
                for a, s, d in zip(axes, self.stride, self.dilation, strict=True)
            ]
            data["pr_loop_dims"] = [f"I{a.upper()}" for a in axes]
            data["pr_loop_sizes"] = list(self.source)
            data["padding"] = [[p, p] for p in self.padding]
        data["loop_dims"], data["loop_sizes"] = list(sizes), list(sizes.values())
        o, f, i = (
            "".join(f"[{letter}{a}]" for a in axes) if self.source or letter == "o" else ""
            for letter in "ofi"
        )
        data["equation"] = f"O[b][g][k]{o}+=W[g][k][c]{f}*I[b][g][c]{i or o}"
        return data


def nests_of(operation: Operation) -> tuple[Nest, ...]:
    """The loops of an operation; none where it multiplies and accumulates nothing.

    Raises:
        Untranslated: it does, and is neither convolution, matrix product nor attention.
    """
    if not flops_of(operation):
        return ()
    name = operation.op.overloadpacket.__name__.lstrip("_")
    args = operation.args
    if name == "convolution":
        return (_convolution(operation),)
    if name in ("mm", "bmm"):
        return (_product(args[0].shape, args[1].shape),)
    if name in ("addmm", "baddbmm"):
        return (_product(args[1].shape, args[2].shape),)
    if name.startswith("scaled_dot_product"):
        return _attention(*(tuple(t.shape) for t in args[:3]))
    raise Untranslated(
        f"{operation.op} multiplies and accumulates, and is no convolution, matrix product or "
        "attention, the operations that can be put on an accelerator's loops. Write the layer with "
        "those, or use cm.EnergyTable, which needs only its number of operations."
    )


def _product(left: Any, right: Any) -> Nest:
    """(..., rows, c) times (..., c, k); a batch of products has weights of its own for each."""
    *batch, rows, inputs = (int(n) for n in left)
    groups = math.prod(batch)
    return Nest(int(right[-1]), inputs, (rows,), groups=groups, stored=not batch)


def _attention(query: Sizes, key: Sizes, value: Sizes) -> tuple[Nest, Nest]:
    """Queries times keys, and the weights times the values: `(..., length, size)` each."""
    scores = _product(query, (*key[:-2], key[-1], key[-2]))
    return scores, _product((*query[:-1], key[-2]), value)


def _convolution(operation: Operation) -> Nest:
    source, weight, _, stride, padding, dilation, transposed, _, groups = operation.args[:9]
    fine, coarse = tuple(source.shape), tuple(operation.outputs[0].shape)
    outputs, inputs = int(weight.shape[0]) // groups, int(weight.shape[1])
    if transposed:
        # The same loops as the convolution whose gradient it is: what that one reads, it writes.
        fine, coarse = coarse, fine
    kernel = tuple(int(n) for n in weight.shape[2:])

    def each(values: Any) -> Sizes:
        return tuple(int(v) for v in values) * (len(kernel) // len(values))

    return Nest(
        outputs,
        inputs,
        coarse[2:],
        batch=fine[0],
        groups=int(groups),
        kernel=kernel,
        source=fine[2:],
        stride=each(stride),
        dilation=each(dilation),
        padding=each(padding),
    )
