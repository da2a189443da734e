"""Batch norms whose statistics are those of the whole batch, of which each process has a part.

torch's own `SyncBatchNorm` runs on accelerators alone, and takes the place of modules; here any call
of `torch.nn.functional.batch_norm` is meant, also on a CPU and in modules of the user's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# The sum over all processes, elementwise; and one tensor of each process, stacked: `(processes, ...)`.
Sum = Callable[[Tensor], Tensor]
Stack = Callable[[Tensor], Tensor]


class Synchronised(TorchFunctionMode):
    """Meanwhile, batch norms that use the statistics of a batch use those of all parts of it.

    Args:
        total: sums over processes.
        stacked: of all processes.
    """

    def __init__(self, total: Sum, stacked: Stack) -> None:
        super().__init__()
        self.total, self.stacked = total, stacked

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Takes the place of one function of torch."""
        if func is functional.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return functional.batch_norm(
                input, running_mean, running_var, weight, bias, False, momentum, eps
            )
        mean, var, count = self._statistics(input.detach())
        if count <= 1:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got input size {tuple(input.shape)}"
            )
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean), momentum)
                unbiased = var * (count / (count - 1))
                running_var.lerp_(unbiased.to(running_var), momentum)
        own = torch.promote_types(input.dtype, torch.float32)  # as torch has it for half precision
        made: Tensor = _Normalised.apply(  # type: ignore[no-untyped-call]
            input, mean.to(own), var.to(own), weight, bias, eps, count, self.total
        )
        return made

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, float]:
        """Mean and biased variance of each channel in all parts, float64, and how many values.

        From the parts' own: T. Chan, G. Golub and R. LeVeque, "Updating formulae and a pairwise
        algorithm for computing sample variances", 1979, equation 2.1; sums of squares would cancel.
        """
        dims = [0, *range(2, x.ndim)]
        var, mean = torch.var_mean(
            x.to(torch.promote_types(x.dtype, torch.float32)), dims, correction=0
        )
        own = x.numel() // x.shape[1]
        told = torch.cat([mean.double(), var.double(), mean.new_tensor([own]).double()])
        found = self.stacked(told)  # (processes, 2 channels + 1)
        means, variances = found[:, :-1].chunk(2, 1)
        counts = found[:, -1:]
        count = float(counts.sum())
        mean = (counts * means).sum(0) / count
        var = (counts * (variances + (means - mean).square())).sum(0) / count
        return mean, var, count


class _Normalised(torch.autograd.Function):
    """`(x - mean) / sqrt(var + eps) * weight + bias`, where mean and variance depend on all parts of x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mean: Tensor,
        var: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        count: float,
        total: Sum,
    ) -> Tensor:
        ctx.save_for_backward(x, mean, var, weight)
        ctx.eps, ctx.count, ctx.total = eps, count, total
        return functional.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, mean, var, weight = ctx.saved_tensors
        scale = torch.ones_like(mean) if weight is None else weight
        # As if mean and variance were constants; and the sums of the gradient, and of it times x hat.
        direct, times, plain = torch.ops.aten.native_batch_norm_backward(
            gradient, x, scale, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        sums = ctx.total(torch.cat([plain, times]).double()) / ctx.count
        mean_plain, mean_times = sums.to(mean).chunk(2)
        inverse = torch.rsqrt(var + ctx.eps)
        # w / s * (g - mean(g) - x hat * mean(g * x hat)), with x hat = (x - mean) / s
        slope = -scale * inverse.square() * mean_times
        offset = -scale * inverse * mean_plain - slope * mean
        shape = [1, -1] + [1] * (x.ndim - 2)
        whole = direct + (x * slope.view(shape) + offset.view(shape)).to(direct)
        if weight is None:
            return whole, None, None, None, None, None, None, None
        return whole, None, None, times.to(weight), plain.to(weight), None, None, None
