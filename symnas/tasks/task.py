"""`sn.Task`: data, a training recipe, and how the result is measured."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from symnas.errors import DeclarationError
from symnas.language.choices import contains_choice
from symnas.language.spec import build, is_spec
from symnas.tasks import checks, training
from symnas.tasks.batches import Batch, batches, check_input
from symnas.tasks.examples import AnyExamples, examples_of, inputs_of
from symnas.tasks.identity import describe
from symnas.tasks.metrics import DEFAULTS, LOSSES, METRICS, check_metrics, measure
from symnas.tasks.seeding import derive, seeded
from symnas.tasks.split import hold_out
from symnas.tasks.trial import TrialContext

# Where a training runs and what is kept aside does not change what a trial's metrics mean.
_NO_IDENTITY = ("train", "validation", "test", "device", "loaders")


@attrs.frozen(eq=False, repr=False, slots=False)
class Task:
    """Trains an architecture and measures it on examples that it was not trained on.

    Any argument of the recipe may be a choice (`lr=sn.floatv(1e-4, 1e-1, scale="log")`): it joins
    the search as the decision `task.lr`.

    Args:
        train: `(x, y)`, numpy arrays or tensors, `(n, ...)` and `(n,)`; or a map-style torch
            Dataset of such pairs. It is read into memory once if it fits there and has no random
            transforms. Inputs are real (kept as float32) or integers (token ids).
        validation: what a trial is measured on: the share of `train` to hold out (the same
            examples in all trials; each class in proportion), or data of its own.
        test: data that no search sees, for `task.test(model)`.
        kind: "classification" (integer targets, 0 to C - 1) or "regression" (real targets).
        classes: how many, if `train` may not have an example of each.
        epochs: passes over the training data; a trial's budget overrides it.
        batch_size: examples a step.
        optimizer: "adamw", "adam", "sgd" (Nesterov), "rmsprop", or a function
            `(parameters, lr=..., weight_decay=...) -> torch.optim.Optimizer`.
        lr, weight_decay, momentum: of the optimizer.
        schedule: "cosine" or "onecycle" (to 0), or "constant".
        warmup: share of the steps in which the learning rate rises; None: 0.05, 0.25, 0.
        label_smoothing: share of a label that goes to all classes alike.
        augment: a function of a batch of inputs, `x -> x`, or `(x, generator) -> x`.
        patience: stop after that many epochs without a better first metric. None: never.
        precision: "float32", "bfloat16", or "auto": bfloat16 on CUDA where it is supported.
        device: "auto" (the trial's, else CUDA if there is one), or one for all trials.
        keep_weights: True stores the last epoch's weights as `weights.pt` in the trial's folder,
            "best" those of the epoch with the best first metric; the trial's metrics are those of
            the weights that are kept. With `patience`, the best are kept in mind in any case.
        metrics: names or functions `(outputs, targets) -> number`, larger is better; the first is
            reported. Known: "accuracy", "top5_accuracy", "balanced_accuracy"; "r2", "rmse",
            "mse", "mae".
        loss: "cross_entropy"; "mse", "l1", "huber"; or a function `(outputs, targets) -> scalar`.
        seed: of the split.
        loaders: processes that read a Dataset which is not in memory.

    Raises:
        DeclarationError: an argument or the data cannot be trained with.

    >>> import symnas as sn, torch
    >>> x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    >>> task = sn.Task((x, (x[:, 0] > 0).long()), epochs=20, lr=0.1)
    >>> task
    Task(32 + 8 x (3,), 2 classes, epochs=20, lr=0.1)
    >>> metrics = task.fit(torch.nn.Linear(3, 2))
    >>> metrics["accuracy"] > 0.5
    True
    """

    train: AnyExamples
    validation: Any = 0.2
    test_examples: Any = attrs.field(default=None, alias="test")
    kind: Any = attrs.field(default=None, kw_only=True)
    classes: int | None = attrs.field(default=None, kw_only=True)
    epochs: Any = attrs.field(default=10, kw_only=True)
    batch_size: Any = attrs.field(default=64, kw_only=True)
    optimizer: Any = attrs.field(default="adamw", kw_only=True)
    lr: Any = attrs.field(default=1e-3, kw_only=True)
    weight_decay: Any = attrs.field(default=0.0, kw_only=True)
    momentum: Any = attrs.field(default=0.9, kw_only=True)
    schedule: Any = attrs.field(default="cosine", kw_only=True)
    warmup: Any = attrs.field(default=None, kw_only=True)
    label_smoothing: Any = attrs.field(default=0.0, kw_only=True)
    augment: Any = attrs.field(default=None, kw_only=True)
    patience: Any = attrs.field(default=None, kw_only=True)
    precision: Any = attrs.field(default="auto", kw_only=True)
    device: Any = attrs.field(default="auto", kw_only=True)
    keep_weights: Any = attrs.field(default=False, kw_only=True)
    metric_functions: Any = attrs.field(default=None, alias="metrics", kw_only=True)
    loss_function: Any = attrs.field(default=None, alias="loss", kw_only=True)
    seed: Any = attrs.field(default=0, kw_only=True)
    loaders: int = attrs.field(default=0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        given = self._given()
        checks.check_fixed(given)
        for name, value in given.items():
            checks.check_argument(name, value)
        train = examples_of("train", self.train, self.loaders)
        kind = checks.kind_of(self.kind, train.targets)
        self._set("kind", kind)
        checks.check_loss(self.loss_function, kind, self.label_smoothing)
        metrics = DEFAULTS[kind] if self.metric_functions is None else self.metric_functions
        self._set("metric_functions", checks_metrics(metrics, kind))
        self._set("train", _as_kind(train, kind))
        if kind == "classification":
            self._set("classes", checks.classes_of("train", train.targets, self.classes))
        for name, attribute in (("validation", "validation"), ("test", "test_examples")):
            value = getattr(self, attribute)
            if value is not None and not isinstance(value, int | float):
                held_out = _as_kind(examples_of(name, value, self.loaders), kind)
                checks.check_same_input(name, held_out, self.train)
                if kind == "classification":
                    checks.classes_of(name, held_out.targets, self.classes)
                self._set(attribute, held_out)
        share = self.validation
        if share is None or (isinstance(share, int | float) and not 0 < share < 1):
            raise DeclarationError(
                f"sn.Task: `validation` ({share!r}) must be a share of the training data between "
                "0 and 1 (0.2), or a pair (x, y), or a Dataset: trials are measured on it."
            )
        if not all(len(index) for _, index in self._splits.values()):
            raise DeclarationError(
                f"sn.Task: `validation` ({share!r}) leaves no example on one side, of "
                f"{len(self.train)}. Pass more data, or another share."
            )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _given(self) -> dict[str, Any]:
        """All arguments by the name that the user knows."""
        fields = attrs.fields(type(self))
        return {f.alias: getattr(self, f.name) for f in fields}

    @cached_property
    def _splits(self) -> dict[str, training.Split]:
        everything = torch.arange(len(self.train))
        if isinstance(self.validation, float):
            flat = self.kind == "classification" and self.train.targets.ndim == 1
            labels = self.train.targets if flat else None
            kept, held = hold_out(len(self.train), self.validation, self.seed, labels)
            splits = {"train": (self.train, kept), "validation": (self.train, held)}
        else:
            held_out = self.validation
            splits = {
                "train": (self.train, everything),
                "validation": (held_out, torch.arange(len(held_out))),
            }
        if self.test_examples is not None:
            splits["test"] = (self.test_examples, torch.arange(len(self.test_examples)))
        return splits

    # What a search asks for.

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.train.input

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that hold a choice, by name."""
        return {k: v for k, v in self._given().items() if k not in _NO_IDENTITY and contains_choice(v)}

    def with_arguments(self, values: dict[str, Any]) -> Task:
        """The same task with arguments replaced: those of `values`.

        Raises:
            DeclarationError: there is no such argument, or a value cannot be trained with.

        >>> import symnas as sn, torch
        >>> task = sn.Task((torch.randn(10, 3), torch.arange(10) % 2), lr=sn.floatv(0.1, 1.0))
        >>> task.with_arguments({"lr": 0.5}).lr
        0.5
        """
        known = self._given()
        for name in values:
            if name not in known:
                raise DeclarationError(
                    f"sn.Task has no argument `{name}`. It has {', '.join(known)}."
                )
        made = {k: build(v) if is_spec(v) else _plain(v) for k, v in values.items()}
        return attrs.evolve(self, **made)

    def describe(self) -> dict[str, Any]:
        """What makes two tasks the same, JSON-able: data (hashed), recipe and measures.

        Left out is what changes no trial's metrics: the device and the test data.
        """
        recipe = {k: describe(v) for k, v in self._given().items() if k not in _NO_IDENTITY}
        given = isinstance(self.validation, float)
        data = {
            "train": self.train.digest,
            "validation": self.validation if given else self.validation.digest,
            "examples": {name: len(index) for name, (_, index) in self._splits.items() if name != "test"},
            "input": list(self.input),
        }
        return {"data": data, **recipe}

    def evaluate(self, architecture: Any, trial: Any = None) -> dict[str, float]:
        """Builds and trains an architecture, and measures it on the validation data.

        The same architecture and `trial.seed` give the same metrics, bit for bit, on the same
        machine (and the same number of threads).

        Args:
            architecture: an `sn.Architecture`.
            trial: its seed, budget (epochs), device, path and report; None for all defaults.

        Returns:
            The metrics and "loss" on the validation data, and "epochs", "train_loss" (of the last
            epoch), "train_seconds". All metrics are NaN when the loss was.

        Raises:
            DeclarationError: the model does not fit the data.
        """
        trial = TrialContext() if trial is None else trial
        chosen = {k: v for k, v in dict(architecture.task).items() if k in self.arguments}
        task = self.with_arguments(chosen) if chosen else self
        if task.arguments:
            raise DeclarationError(
                f"sn.Task: the choices in {', '.join(task.arguments)} are still open, and the "
                "architecture has no values for them. Search over the task, or pick values with "
                "task.with_arguments({...})."
            )
        check_input(architecture.input, self.input)
        device = task._device(trial.device)
        keep = task.keep_weights == "best" or task.patience is not None
        with seeded(derive(trial.seed, "training"), device):
            torch.manual_seed(derive(trial.seed, "weights"))
            model = architecture.build()
            if not isinstance(model, nn.Module):
                raise DeclarationError(
                    f"sn.Task: the architecture builds a {type(model).__name__}, which is no "
                    "torch.nn.Module to be trained. Pass a function as the task instead."
                )
            torch.manual_seed(derive(trial.seed, "training"))
            trained = training.train(
                task,
                model,
                task._splits["train"],
                task._splits["validation"],
                epochs=task.epochs if trial.budget is None else max(1, round(trial.budget)),
                generator=torch.Generator().manual_seed(derive(trial.seed, "order")),
                device=device,
                keep_best=keep,
                input=architecture.input,
                report=lambda epoch, metrics: trial.report(epoch, metrics[task._first]),
            )
        if task.keep_weights and trial.path is not None and math.isfinite(trained.train_loss):
            save_weights(model, Path(trial.path) / "weights.pt")
        return {
            **trained.metrics,
            "epochs": trained.epochs,
            "train_loss": trained.train_loss,
            "train_seconds": trained.train_seconds,
        }

    @property
    def _first(self) -> str:
        return metric_name(self.metric_functions[0])

    def _device(self, wanted: Any = None) -> torch.device:
        if self.device != "auto":
            return torch.device(self.device)
        if wanted is not None:
            return torch.device(wanted)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    # What is done with a model, by hand or by weight sharing.

    def fit(
        self,
        model: nn.Module,
        epochs: int | None = None,
        seed: int = 0,
        *,
        include_validation: bool = False,
        device: str | None = None,
        progress: Callable[[int, dict[str, float]], Any] | None = None,
    ) -> dict[str, float]:
        """Trains a model in place from the weights that it has, as `evaluate` would.

        Args:
            model: it stays on the device that it was trained on.
            epochs: instead of the task's.
            seed: of shuffling, augmentation and dropout.
            include_validation: train on the validation data too; nothing is measured then but the
                training loss, and `patience` is idle.
            device: instead of the task's.
            progress: `progress(epoch, metrics)` after each epoch.

        Returns:
            As `evaluate`.
        """
        self._need_values()
        at = torch.device(device) if device else self._device()
        data: training.Split = self._splits["train"]
        held_out: training.Split | None = self._splits["validation"]
        if include_validation:
            if not isinstance(self.validation, float):
                raise DeclarationError(
                    "Task.fit: `include_validation` needs a validation share of the training data; "
                    "here the validation data are of their own. Make a Task with both in `train`."
                )
            data, held_out = (self.train, torch.arange(len(self.train))), None
        with seeded(derive(seed, "training"), at):
            trained = training.train(
                self,
                model,
                data,
                held_out,
                epochs=self.epochs if epochs is None else epochs,
                generator=torch.Generator().manual_seed(derive(seed, "order")),
                device=at,
                keep_best=self.keep_weights == "best" or self.patience is not None,
                report=progress,
            )
        return {
            **trained.metrics,
            "epochs": trained.epochs,
            "train_loss": trained.train_loss,
            "train_seconds": trained.train_seconds,
        }

    def test(self, model: nn.Module, split: str = "test") -> dict[str, float]:
        """The metrics of a trained model on the test data (or another split).

        Raises:
            DeclarationError: the task has no test data.
        """
        examples, index = self._split(split)
        with training.evaluation_mode(model):
            return training.measure_split(self, model, (examples, index), _device_of(model))

    def predict(self, model: nn.Module, x: Any) -> Tensor:
        """Class labels `(n, ...)`, or the predicted numbers of a regression, for inputs `(n, ...)`."""
        examples = examples_of("x", (inputs_of("x", x), torch.zeros(len(x))))
        split = (examples, torch.arange(len(examples)))
        with training.evaluation_mode(model):
            found, _ = training.outputs_of_split(self, model, split, _device_of(model))
        if self.kind == "classification":
            return found.argmax(1)
        return found.squeeze(-1) if self.train.targets.ndim == 1 and found.ndim == 2 else found

    def batches(
        self, split: str = "train", seed: int | None = None, *, device: Any = None
    ) -> Iterator[Batch]:
        """The examples of a split ("train", "validation" or "test"), once each, in batches.

        Args:
            split: which examples.
            seed: shuffles, and augments those to train on; None gives them in order as they are.
            device: where the batches shall be; None: where the task would train.
        """
        self._need_values()
        examples, index = self._split(split)
        return batches(
            examples,
            index,
            size=self.batch_size,
            device=self._device(device),
            generator=None if seed is None else torch.Generator().manual_seed(derive(seed, "order")),
            augment=self.augment if split == "train" else None,
        )

    def outputs(self, model: nn.Module, batch: Batch) -> Any:
        """The model's outputs for a batch, in the task's precision."""
        return training.forward(model, batch.x, self.precision)

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar with gradient."""
        return self._loss(outputs, batch.y, self.label_smoothing)

    def _loss(self, outputs: Any, targets: Tensor, label_smoothing: float) -> Tensor:
        function = self.loss_function
        if callable(function):
            made: Tensor = function(outputs, targets)
            return made
        known = LOSSES[self.kind]
        function = known[function or next(iter(known))]
        if self.kind == "classification":
            return function(outputs, targets, label_smoothing=label_smoothing)  # type: ignore[call-arg, no-any-return]
        return function(_aligned(outputs, targets), targets)  # type: ignore[no-any-return]

    def metrics(self, outputs: Tensor, batch: Batch) -> dict[str, float]:
        """The metrics and the loss (without label smoothing) of outputs for a batch."""
        found = _aligned(outputs, batch.y) if self.kind == "regression" else outputs
        loss = float(self._loss(outputs, batch.y, 0.0))
        return {**measure(self.metric_functions, self.kind, found, batch.y), "loss": loss}

    def _split(self, name: str) -> training.Split:
        if name not in self._splits:
            remedy = "Pass it: sn.Task(train, test=(x, y))." if name == "test" else ""
            raise DeclarationError(
                f"The task has no data for {name!r}; it has {', '.join(self._splits)}. {remedy}"
            )
        return self._splits[name]

    def _need_values(self) -> None:
        if self.arguments:
            raise DeclarationError(
                f"sn.Task: the choices in {', '.join(self.arguments)} are still open. Pick values "
                "with task.with_arguments({...}); those of a trial are trial.architecture.task."
            )

    def __repr__(self) -> str:
        sizes = " + ".join(str(len(index)) for _, index in self._splits.values())
        goal = f"{self.classes} classes" if self.kind == "classification" else "regression"
        hidden = (*_NO_IDENTITY[:3], "kind", "classes")
        changed = []
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            default = DEFAULTS[self.kind] if field.alias == "metrics" else field.default
            if field.alias not in hidden and (contains_choice(value) or value != default):
                changed.append(f"{field.alias}={_short(value)}")
        return f"Task({', '.join([f'{sizes} x {self.input}', goal, *changed])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @cached_property
    def _identity(self) -> str:
        return json.dumps(self.describe(), sort_keys=True)


def save_weights(model: nn.Module, path: Path) -> None:
    """Writes a model's `state_dict` at once or not at all; read it with `weights_only=True`."""
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)
