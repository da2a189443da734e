"""`sn.Task`: data, a training recipe, and how the result is measured."""

from __future__ import annotations

import json
import math
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
from symnas.tasks.examples import examples_of, inputs_of
from symnas.tasks.identity import changes, describe, plain
from symnas.tasks.metrics import DEFAULTS, aligned, check_metrics, loss_of, measure, metric_name
from symnas.tasks.preparation import prepared
from symnas.tasks.seeding import derive, seeded
from symnas.tasks.split import Split, splits
from symnas.tasks.trial import TrialContext
from symnas.tasks.weights import save_weights

# Where a training runs and what is kept aside does not change what a trial's metrics mean.
_NO_IDENTITY = ("train", "validation", "test", "device", "loaders", "replicas")


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
        replicas: processes of this machine that train a supernet together, each on its part of every
            batch; "torchrun": those that torchrun has started, on any machines, all of which make
            the same call. Networks that are trained alone are trained by one.

    Raises:
        DeclarationError: an argument or the data cannot be trained with.

    >>> import symnas as sn, torch
    >>> x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    >>> task = sn.Task((x, (x[:, 0] > 0).long()), epochs=60, lr=0.1)
    >>> task
    Task(32 + 8 x (3,), 2 classes, epochs=60, lr=0.1)
    >>> _ = torch.manual_seed(0)
    >>> metrics = task.fit(torch.nn.Linear(3, 2))
    >>> metrics["accuracy"] > 0.5
    True
    """

    train: Any
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
    replicas: Any = attrs.field(default=1, kw_only=True)

    def __attrs_post_init__(self) -> None:
        given = self._given()
        checks.check_fixed(given)
        for name, value in given.items():
            checks.check_argument(name, value)
        data = prepared(
            self.train, self.validation, self.test_examples, self.kind, self.classes, self.loaders
        )
        checks.check_loss(self.loss_function, data.kind, self.label_smoothing)
        metrics = DEFAULTS[data.kind] if self.metric_functions is None else self.metric_functions
        self._set("metric_functions", check_metrics(metrics, data.kind))
        self._set("train", data.train)
        self._set("validation", data.validation)
        self._set("test_examples", data.test)
        self._set("kind", data.kind)
        self._set("classes", data.classes)
        checks.check_splits({name: len(index) for name, (_, index) in self._splits.items()})

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _given(self) -> dict[str, Any]:
        """All arguments by the name that the user knows."""
        fields = attrs.fields(type(self))
        return {f.alias: getattr(self, f.name) for f in fields}

    @cached_property
    def _splits(self) -> dict[str, Split]:
        return splits(self.train, self.validation, self.test_examples, self.kind, self.seed)

    # What a search asks for.

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of one example."""
        shape: tuple[int, ...] = self.train.input
        return shape

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that hold a choice, by name."""
        given = self._given().items()
        return {k: v for k, v in given if k not in _NO_IDENTITY and contains_choice(v)}

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
        made = {k: build(v) if is_spec(v) else plain(v) for k, v in values.items()}
        return attrs.evolve(self, **made)

    def describe(self) -> dict[str, Any]:
        """What makes two tasks the same, JSON-able: data (hashed), recipe and measures.

        Left out is what changes no trial's metrics: where and by how many processes, the test data.
        """
        recipe = {k: describe(v) for k, v in self._given().items() if k not in _NO_IDENTITY}
        share = isinstance(self.validation, float)
        data = {
            "train": self.train.digest,
            "validation": self.validation if share else self.validation.digest,
            "examples": {name: len(self._splits[name][1]) for name in ("train", "validation")},
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
        checks.check_closed(task.arguments)
        check_input(architecture.input, self.input)
        device = task._device(trial.device)
        with seeded(derive(trial.seed, "training"), device):
            torch.manual_seed(derive(trial.seed, "weights"))
            model = architecture.build()
            if not isinstance(model, nn.Module):
                raise DeclarationError(
                    f"sn.Task: the architecture builds a {type(model).__name__}, which is no "
                    "torch.nn.Module to be trained. Pass a function as the task instead."
                )
            torch.manual_seed(derive(trial.seed, "training"))
            trained = task._train(
                model,
                (task._splits["train"], task._splits["validation"]),
                epochs=task.epochs if trial.budget is None else max(1, round(trial.budget)),
                seed=trial.seed,
                device=device,
                input=architecture.input,
                report=lambda epoch, metrics: trial.report(epoch, metrics[task._first]),
            )
        if task.keep_weights and trial.path is not None and math.isfinite(trained.train_loss):
            save_weights(model, Path(trial.path) / "weights.pt")
        return trained.summary()

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
        input: tuple[int, ...] | None = None,
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
            input: resize images to this shape (`architecture.input`), where resolution is chosen.
            device: instead of the task's.
            progress: `progress(epoch, metrics)` after each epoch.

        Returns:
            As `evaluate`.
        """
        checks.check_closed(self.arguments)
        checks.check_argument("epochs", self.epochs if epochs is None else epochs)
        at = torch.device(device) if device else self._device()
        data: Split = self._splits["train"]
        held_out: Split | None = self._splits["validation"]
        if include_validation:
            if not isinstance(self.validation, float):
                raise DeclarationError(
                    "Task.fit: `include_validation` needs a validation share of the training data; "
                    "here the validation data are of their own. Make a Task with both in `train`."
                )
            data, held_out = (self.train, torch.arange(len(self.train))), None
        with seeded(derive(seed, "training"), at):
            trained = self._train(
                model,
                (data, held_out),
                epochs=self.epochs if epochs is None else epochs,
                seed=seed,
                device=at,
                input=input,
                report=progress,
            )
        return trained.summary()

    def _train(
        self, model: nn.Module, parts: tuple[Split, Split | None], *, seed: int, **arguments: Any
    ) -> training.Trained:
        return training.train(
            self,
            model,
            *parts,
            generator=torch.Generator().manual_seed(derive(seed, "order")),
            keep_best=self.keep_weights == "best" or self.patience is not None,
            **arguments,
        )

    def test(
        self, model: nn.Module, split: str = "test", *, input: tuple[int, ...] | None = None
    ) -> dict[str, float]:
        """The metrics of a trained model on the test data (or another split).

        `input` is as for `fit`.

        Raises:
            DeclarationError: the task has no test data.
        """
        checks.check_has_split(split, self._splits)
        checks.check_closed({"loss"} & self.arguments.keys())
        examples, index = self._splits[split]
        with training.evaluation_mode(model):
            at = training.device_of(model)
            return training.measure_split(self, model, (examples, index), at, input)

    def predict(self, model: nn.Module, x: Any, *, input: tuple[int, ...] | None = None) -> Tensor:
        """Class labels `(n, ...)`, or the numbers of a regression, for inputs `(n, ...)`."""
        examples = examples_of("x", (inputs_of("x", x), torch.zeros(len(x))))
        split = (examples, torch.arange(len(examples)))
        with training.evaluation_mode(model):
            at = training.device_of(model)
            found, _ = training.outputs_of_split(self, model, split, at, input)
        if self.kind == "classification":
            return found.argmax(1)
        return found.squeeze(-1) if self.train.targets.ndim == 1 and found.ndim == 2 else found

    def batches(
        self,
        split: str = "train",
        seed: int | None = None,
        *,
        input: tuple[int, ...] | None = None,
        device: Any = None,
    ) -> Iterator[Batch]:
        """The examples of a split ("train", "validation" or "test"), once each, in batches.

        Args:
            split: which examples.
            seed: shuffles, and augments those to train on; None gives them in order as they are.
            input: as for `fit`.
            device: where the batches shall be; None: where the task would train.
        """
        checks.check_closed(self.arguments)
        checks.check_has_split(split, self._splits)
        examples, index = self._splits[split]
        order = None if seed is None else torch.Generator().manual_seed(derive(seed, "order"))
        return batches(
            examples,
            index,
            size=self.batch_size,
            device=self._device(device),
            generator=order,
            augment=self.augment if split == "train" else None,
            input=input,
        )

    def outputs(self, model: nn.Module, batch: Batch) -> Any:
        """The model's outputs for a batch, in the task's precision."""
        precision = self.precision if isinstance(self.precision, str) else "auto"
        return training.forward(model, batch.x, precision)

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar with gradient."""
        return loss_of(self.loss_function, self.kind, outputs, batch.y, self.label_smoothing)

    @torch.no_grad()
    def metrics(self, outputs: Tensor, batch: Batch) -> dict[str, float]:
        """The metrics and the loss (without label smoothing) of outputs for a batch."""
        found = aligned(outputs, batch.y) if self.kind == "regression" else outputs
        loss = float(loss_of(self.loss_function, self.kind, outputs, batch.y))
        return {**measure(self.metric_functions, self.kind, found, batch.y), "loss": loss}

    def __repr__(self) -> str:
        sizes = " + ".join(str(len(index)) for _, index in self._splits.values())
        goal = f"{self.classes} classes" if self.kind == "classification" else "regression"
        hidden = ("train", "validation", "test", "kind", "classes")
        shown = {k: v for k, v in self._given().items() if k not in hidden}
        defaults = {f.alias: f.default for f in attrs.fields(type(self))}
        changed = changes(shown, {**defaults, "metrics": DEFAULTS[self.kind]})
        return f"Task({', '.join([f'{sizes} x {self.input}', goal, *changed])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @cached_property
    def _identity(self) -> str:
        return json.dumps(self.describe(), sort_keys=True)
