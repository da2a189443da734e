"""Training a network by a task's recipe, and measuring it."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor, nn

from symnas.errors import DeclarationError
from symnas.tasks.batches import Batch, batch_count, batches
from symnas.tasks.checks import check_outputs
from symnas.tasks.metrics import SMALLER_IS_BETTER, metric_name
from symnas.tasks.optimizers import make_optimizer
from symnas.tasks.schedule import factor
from symnas.tasks.split import Split

if TYPE_CHECKING:
    from symnas.tasks.task import Task


@attrs.frozen
class Trained:
    """How a training went. `metrics` are those of the weights that the model has now."""

    metrics: dict[str, float]
    epochs: int
    train_loss: float
    train_seconds: float
    history: tuple[dict[str, float], ...]

    def summary(self) -> dict[str, float]:
        """What a trial returns."""
        return {
            **self.metrics,
            "epochs": self.epochs,
            "train_loss": self.train_loss,
            "train_seconds": self.train_seconds,
        }


def train(
    task: Task,
    model: nn.Module,
    data: Split,
    held_out: Split | None,
    *,
    epochs: int,
    generator: torch.Generator,
    device: torch.device,
    keep_best: bool,
    input: tuple[int, ...] | None = None,
    report: Callable[[int, dict[str, float]], Any] | None = None,
) -> Trained:
    """Trains `model` in place.

    Stops when `task.patience` epochs in a row brought no better metric, and at once when the loss
    is NaN or infinite (all metrics are NaN then). With `keep_best`, the model ends with the
    weights of its best epoch, and the metrics are those.
    """
    begin = time.perf_counter()
    channels_last = prepare(task, model, data, device, input)
    data = (data[0].on(device), data[1])
    held_out = None if held_out is None else (held_out[0].on(device), held_out[1])
    optimizer = _Optimizer.of(task, model, epochs * batch_count(len(data[1]), task.batch_size))
    metrics: dict[str, float] = {}
    history: list[dict[str, float]] = []
    best: tuple[float, dict[str, float], dict[str, Tensor]] | None = None
    stale = 0
    for epoch in range(epochs):
        stream = batches(
            data[0],
            data[1],
            size=task.batch_size,
            device=device,
            generator=generator,
            augment=task.augment,
            input=input,
        )
        train_loss = _train_epoch(task, model, optimizer, _formatted(stream, channels_last))
        failed = not math.isfinite(train_loss)
        if failed:
            metrics = dict.fromkeys([*map(metric_name, task.metric_functions), "loss"], math.nan)
        elif held_out is not None:
            metrics = measure_split(task, model, held_out, device, input, channels_last)
        history.append({**metrics, "train_loss": train_loss})
        if report is not None:
            report(epoch, history[-1])
        if failed:
            break
        score = _score(task, metrics)
        if best is None or score > best[0]:
            best, stale = (score, metrics, {}), 0
            if keep_best:
                best = (score, metrics, copy.deepcopy(model.state_dict()))
        else:
            stale += 1
            if task.patience is not None and held_out is not None and stale >= task.patience:
                break
    if keep_best and held_out is not None and best is not None and not failed:
        metrics = best[1]
        model.load_state_dict(best[2])
    seconds = time.perf_counter() - begin
    return Trained(metrics, len(history), train_loss, seconds, tuple(history))


@attrs.define
class _Optimizer:
    """An optimizer and its schedule. A model without parameters (a fixed rule) has none."""

    optimizer: torch.optim.Optimizer | None
    rates: list[float]
    task: Task
    steps: int
    taken: int = 0

    @classmethod
    def of(cls, task: Task, model: nn.Module, steps: int) -> _Optimizer:
        parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            return cls(None, [], task, steps)
        optimizer = make_optimizer(
            task.optimizer,
            parameters,
            lr=task.lr,
            weight_decay=task.weight_decay,
            momentum=task.momentum,
        )
        return cls(optimizer, [group["lr"] for group in optimizer.param_groups], task, steps)

    def step(self, loss: Tensor) -> None:
        if self.optimizer is not None:
            share = factor(self.task.schedule, self.taken, self.steps, self.task.warmup)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * share
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        self.taken += 1


def _train_epoch(
    task: Task, model: nn.Module, optimizer: _Optimizer, stream: Iterator[Batch]
) -> float:
    """Mean loss of one epoch; it ends early once the loss is NaN or infinite."""
    model.train()
    total: Tensor | float = 0.0
    seen = 0
    for number, batch in enumerate(stream):
        loss = task.loss(task.outputs(model, batch), batch)
        optimizer.step(loss)
        total = total + loss.detach().double() * len(batch.y)
        seen += len(batch.y)
        # On an accelerator, looking at the number waits for the device: not in every step.
        look = loss.device.type == "cpu" or number % 20 == 19
        if look and not math.isfinite(float(total)):
            break
    return float(total) / seen


def _score(task: Task, metrics: dict[str, float]) -> float:
    """The first metric, larger is better, NaN the worst."""
    name = metric_name(task.metric_functions[0])
    if name not in metrics:
        return -math.inf
    value = -metrics[name] if name in SMALLER_IS_BETTER else metrics[name]
    return value if math.isfinite(value) else -math.inf


def prepare(
    task: Task, model: nn.Module, data: Split, device: torch.device, input: tuple[int, ...] | None
) -> bool:
    """Moves the model to the device, tries it on two examples; whether it runs channels last.

    Convolutions take images with their channels last: 1.7 times as fast on a CPU (mobile blocks,
    28 x 28). A model with a `view` of such images cannot, and keeps the usual order.

    Raises:
        DeclarationError: the model's outputs do not fit the data.
    """
    model.to(device).eval()
    batch = next(iter(batches(data[0], data[1][:2], size=2, device=device, input=input)))
    with torch.no_grad():
        outputs = task.outputs(model, batch)
        if not callable(task.loss_function):
            check_outputs(outputs, batch.y, task.kind, task.classes)
        if batch.x.ndim != 4 or not any(p.ndim == 4 for p in model.parameters()):
            return False
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            task.outputs(model, next(_formatted([batch], True)))
        except RuntimeError:
            model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            return False
    return True


def forward(model: nn.Module, x: Tensor, precision: str) -> Any:
    """The model's outputs for inputs, as float32 where they are one tensor."""
    device = x.device.type
    if precision == "auto":
        able = device == "cuda" and torch.cuda.is_bf16_supported()
        precision = "bfloat16" if able else "float32"
    if precision == "float32":
        return model(x)
    with torch.autocast(device, dtype=torch.bfloat16):
        outputs = model(x)
    return outputs.float() if isinstance(outputs, Tensor) else outputs


@torch.no_grad()
def outputs_of_split(
    task: Task,
    model: nn.Module,
    split: Split,
    device: torch.device,
    input: tuple[int, ...] | None = None,
    channels_last: bool = False,
) -> tuple[Tensor, Tensor]:
    """Outputs and targets of all examples of a split, in order; leaves the model in eval mode."""
    model.eval()
    # No gradients are kept, so more fit. (Measuring works while the batch size is still open.)
    size = 4 * (task.batch_size if isinstance(task.batch_size, int) else 64)
    found = [
        (task.outputs(model, batch), batch.y)
        for batch in _formatted(
            batches(split[0], split[1], size=size, device=device, input=input), channels_last
        )
    ]
    if not isinstance(found[0][0], Tensor):
        raise DeclarationError(
            f"The model returns a {type(found[0][0]).__name__} in eval mode, but metrics need one "
            "tensor of outputs. Return the main output alone in eval mode."
        )
    return torch.cat([outputs for outputs, _ in found]), torch.cat([y for _, y in found])


def measure_split(
    task: Task,
    model: nn.Module,
    split: Split,
    device: torch.device,
    input: tuple[int, ...] | None = None,
    channels_last: bool = False,
) -> dict[str, float]:
    """The task's metrics of a model on a split."""
    outputs, targets = outputs_of_split(task, model, split, device, input, channels_last)
    return task.metrics(outputs, Batch(torch.empty(0), targets))


def _formatted(stream: Iterable[Batch], channels_last: bool) -> Iterator[Batch]:
    for batch in stream:
        if channels_last:
            batch = Batch(batch.x.contiguous(memory_format=torch.channels_last), batch.y)
        yield batch


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts the model in eval mode, and back after."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def device_of(model: nn.Module) -> torch.device:
    """The device that a model's parameters are on."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device
