"""Metrics of outputs against targets, over all examples of a split at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from symnas.errors import DeclarationError

Metric = Callable[[Tensor, Tensor], Any]


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of examples whose largest output is the target's; classes are dimension 1."""
    return (outputs.argmax(1) == targets).double().mean()


def top5_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of examples whose target is among the five largest outputs."""
    best = outputs.topk(min(5, outputs.shape[1]), dim=1).indices
    return (best == targets.unsqueeze(1)).any(1).double().mean()


def balanced_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes of the share of each that is found."""
    found, present = outputs.argmax(1).flatten(), targets.flatten()
    classes: Tensor = present.unique()  # type: ignore[no-untyped-call]
    return torch.stack([(found[present == c] == c).double().mean() for c in classes]).mean()


def r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 - squared error / variance of the targets, averaged over the targets' columns."""
    outputs, targets = outputs.double(), targets.double()
    residual = ((outputs - targets) ** 2).sum(0)
    total = ((targets - targets.mean(0)) ** 2).sum(0)
    return (1 - residual / total).mean()


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error."""
    return ((outputs.double() - targets.double()) ** 2).mean()


def rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Root of the mean squared error, in the targets' unit."""
    return mse(outputs, targets).sqrt()


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error, in the targets' unit."""
    return (outputs.double() - targets.double()).abs().mean()


METRICS: dict[str, dict[str, Metric]] = {
    "classification": {
        "accuracy": accuracy,
        "top5_accuracy": top5_accuracy,
        "balanced_accuracy": balanced_accuracy,
    },
    "regression": {"r2": r2, "rmse": rmse, "mse": mse, "mae": mae},
}
DEFAULTS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy",),
    "regression": ("r2", "rmse", "mae"),
}
SMALLER_IS_BETTER = ("rmse", "mse", "mae", "loss")
LOSSES: dict[str, dict[str, Callable[..., Tensor]]] = {
    "classification": {"cross_entropy": functional.cross_entropy},
    "regression": {
        "mse": functional.mse_loss,
        "l1": functional.l1_loss,
        "huber": functional.huber_loss,
    },
}


def metric_name(metric: str | Metric) -> str:
    """The name under which a metric is returned."""
    return metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)


def check_metrics(metrics: Any, kind: str) -> tuple[str | Metric, ...]:
    """The metrics as a tuple.

    Raises:
        DeclarationError: a name is unknown or used twice, or there is none.
    """
    if isinstance(metrics, str) or callable(metrics):
        metrics = (metrics,)
    known = METRICS[kind]
    for metric in metrics:
        if not callable(metric) and metric not in known:
            raise DeclarationError(
                f"sn.Task: `metrics` has {metric!r}, which is no metric of {kind} here. Known: "
                f"{', '.join(known)}; or pass a function of (outputs, targets)."
            )
    names = [metric_name(metric) for metric in metrics]
    reserved = {"loss", "train_loss", "train_seconds", "epochs"}
    if not names or len({*names, *reserved}) < len(names) + len(reserved):
        raise DeclarationError(
            f"sn.Task: `metrics` ({names}) must be at least one name, each once, and none of "
            f"{', '.join(sorted(reserved))} (which are always returned). Rename your function."
        )
    return tuple(metrics)


def measure(
    metrics: Iterable[str | Metric], kind: str, outputs: Tensor, targets: Tensor
) -> dict[str, float]:
    """Each metric by name; all NaN where an output is NaN or infinite."""
    finite = bool(torch.isfinite(outputs).all())
    result = {}
    for metric in metrics:
        function = METRICS[kind][metric] if isinstance(metric, str) else metric
        result[metric_name(metric)] = float(function(outputs, targets)) if finite else math.nan
    return result


def aligned(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs `(n, 1)` as `(n,)` where the targets are: or a difference would be `(n, n)`."""
    return outputs.squeeze(-1) if outputs.ndim == targets.ndim + 1 else outputs


def loss_of(
    function: Any, kind: str, outputs: Any, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """The loss of outputs, a scalar: a function's, a named one's, or (None) that of the kind."""
    if callable(function):
        made: Tensor = function(outputs, targets)
        return made
    known = LOSSES[kind][function or next(iter(LOSSES[kind]))]
    if kind == "classification":
        return known(outputs, targets, label_smoothing=label_smoothing)
    return known(aligned(outputs, targets), targets)
