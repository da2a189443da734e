"""Checks of a task's arguments and data, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

import pyglove as pg
import torch
from torch import Tensor

from symnas.errors import DeclarationError
from symnas.language.choices import contains_choice
from symnas.language.spec import is_spec
from symnas.tasks.examples import AnyExamples
from symnas.tasks.metrics import LOSSES
from symnas.tasks.optimizers import OPTIMIZERS
from symnas.tasks.schedule import WARMUP

Rule = tuple[Callable[[Any], bool], str]


def _integer(least: int) -> Rule:
    return (
        lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= least,
        f"an integer of at least {least}",
    )


def _number(low: float, high: float, text: str) -> Rule:
    def fits(value: Any) -> bool:
        real = isinstance(value, int | float) and not isinstance(value, bool)
        return real and math.isfinite(value) and low <= value < high

    return fits, text


def _one_of(names: Iterable[str], also: str = "") -> Rule:
    known = tuple(names)
    text = f"one of {', '.join(map(repr, known))}{also}"
    return (lambda v: v in known if isinstance(v, str) else bool(also) and callable(v)), text


def _or_none(rule: Rule) -> Rule:
    return (lambda v: v is None or rule[0](v)), f"{rule[1]}, or None"


_POSITIVE = math.ulp(0.0)
_FUNCTION: Rule = (callable, "a function")
RULES: dict[str, Rule] = {
    "epochs": _integer(1),
    "batch_size": _integer(1),
    "optimizer": _one_of(OPTIMIZERS, ", or a function such as torch.optim.NAdam"),
    "lr": _number(_POSITIVE, math.inf, "a positive number"),
    "weight_decay": _number(0.0, math.inf, "a number of at least 0"),
    "momentum": _number(0.0, 1.0, "a number of at least 0 and less than 1"),
    "schedule": _one_of(WARMUP),
    "warmup": _or_none(_number(0.0, 1.0, "a share of the steps: at least 0 and less than 1")),
    "label_smoothing": _number(0.0, 1.0, "a number of at least 0 and less than 1"),
    "augment": _or_none((callable, "a function of a batch of inputs")),
    "patience": _or_none(_integer(1)),
    "precision": _one_of(("auto", "float32", "bfloat16")),
    "loss": _or_none((lambda v: callable(v) or isinstance(v, str), "a name or a function")),
    "keep_weights": (lambda v: isinstance(v, bool) or v == "best", "False, 'best' or True"),
    "device": (lambda v: isinstance(v, str | torch.device), "'auto' or the name of a device"),
    "seed": _integer(0),
    "loaders": _integer(0),
    "replicas": (
        lambda v: _integer(1)[0](v) or (isinstance(v, str) and v == "torchrun"),
        "an integer of at least 1, or 'torchrun'",
    ),
}
# A search over these would compare what cannot be compared: scores on other data or measures.
FIXED = (
    "train",
    "validation",
    "test",
    "kind",
    "classes",
    "metrics",
    "seed",
    "loaders",
    "device",
    "replicas",
)


def check_argument(name: str, value: Any) -> None:
    """Whether an argument, or each candidate of a choice, is one that can be trained with.

    Raises:
        DeclarationError: it is not.
    """
    if isinstance(value, pg.hyper.OneOf):
        for candidate in value.candidates:
            check_argument(name, candidate)
    elif isinstance(value, pg.hyper.Float):
        check_argument(name, value.min_value)
        check_argument(name, value.max_value)
    elif not contains_choice(value) and not is_spec(value) and name in RULES:
        fits, requirement = RULES[name]
        if not fits(value):
            raise DeclarationError(f"sn.Task: `{name}` ({value!r}) must be {requirement}.")


def check_fixed(arguments: dict[str, Any]) -> None:
    """Whether what is measured is the same for all trials.

    Raises:
        DeclarationError: there is a choice in an argument that decides what is measured.
    """
    for name in FIXED:
        if name in arguments and contains_choice(arguments[name]):
            raise DeclarationError(
                f"sn.Task: `{name}` holds a choice, but it decides what is measured: trials that "
                "differ in it cannot be compared. Make one Task for each and search each."
            )


def kind_of(kind: str | None, targets: Tensor) -> str:
    """ "classification" or "regression": what is asked for, or what the targets look like.

    Raises:
        DeclarationError: `kind` is unknown, or the targets are ambiguous.
    """
    if kind not in (None, "classification", "regression"):
        raise DeclarationError(
            f"sn.Task: `kind` ({kind!r}) must be 'classification', 'regression' or None (inferred)."
        )
    real = targets.dtype.is_floating_point
    if kind == "classification" and real:
        raise DeclarationError(
            "sn.Task: the targets of `train` are real numbers, but classification needs class "
            "labels: `y.astype('int64')`, or `y.argmax(1)` if they are one-hot."
        )
    if kind is None and real and targets.ndim == 2 and targets.shape[1] > 1:
        one_hot = ((targets == 0) | (targets == 1)).all() and (targets.sum(1) == 1).all()
        if one_hot:
            raise DeclarationError(
                "sn.Task: the targets of `train` look one-hot. Pass class labels, `y.argmax(1)`, "
                "or say kind='regression'."
            )
    return kind or ("regression" if real else "classification")


def classes_of(argument: str, targets: Tensor, classes: int | None) -> int:
    """The number of classes.

    Raises:
        DeclarationError: the labels are not 0 to classes - 1.
    """
    least, largest = int(targets.min()), int(targets.max())
    present: Tensor = targets.unique()  # type: ignore[no-untyped-call]
    expected = largest + 1 if classes is None else classes
    missing = classes is None and len(present) < expected
    if least >= 0 and largest < expected and not missing and expected >= 2:
        return expected
    shown = ", ".join(str(int(label)) for label in present[:6]) + (
        ", ..." if len(present) > 6 else ""
    )
    remedy = (
        "Relabel with `y = numpy.unique(y, return_inverse=True)[1]`; if some classes have no "
        "example here, say how many there are (classes=...); if these are amounts and no classes, "
        "say kind='regression'."
        if classes is None
        else "Pass the number of classes that the labels come from."
    )
    wanted = "each of 0 to C - 1, C at least 2" if classes is None else f"of 0 to {classes - 1}"
    raise DeclarationError(
        f"sn.Task: the class labels of `{argument}` ({shown}; {len(present)} different ones) must "
        f"be {wanted}. {remedy}"
    )


def check_same_input(argument: str, examples: AnyExamples, train: AnyExamples) -> None:
    """Whether held-out examples have the shape of those to train on.

    Raises:
        DeclarationError: they do not.
    """
    if examples.input != train.input or examples.targets.shape[1:] != train.targets.shape[1:]:
        raise DeclarationError(
            f"sn.Task: one example of `{argument}` has the shapes {examples.input} and "
            f"{tuple(examples.targets.shape[1:])} (input and target), one of `train` {train.input} "
            f"and {tuple(train.targets.shape[1:])}. Prepare both alike."
        )


def check_share(validation: Any) -> None:
    """Whether `validation` says what trials are measured on.

    Raises:
        DeclarationError: it is a number outside (0, 1), or None.
    """
    number = isinstance(validation, int | float)
    if validation is None or (number and not 0 < validation < 1):
        raise DeclarationError(
            f"sn.Task: `validation` ({validation!r}) must be a share of the training data between "
            "0 and 1 (0.2), or a pair (x, y), or a Dataset: trials are measured on it."
        )


def check_splits(sizes: dict[str, int]) -> None:
    """Whether there are examples to train on and to measure on.

    Raises:
        DeclarationError: there are none.
    """
    for name, size in sizes.items():
        if size == 0:
            raise DeclarationError(
                f"sn.Task: no example is left for {name!r} ({sizes}). Pass more data, or another "
                "share as `validation`."
            )


def check_has_split(name: str, splits: Collection[str]) -> None:
    """Whether a task has data of that name.

    Raises:
        DeclarationError: it has none.
    """
    if name not in splits:
        remedy = " Pass it: sn.Task(train, test=(x, y))." if name == "test" else ""
        raise DeclarationError(
            f"The task has no data for {name!r}; it has {', '.join(splits)}.{remedy}"
        )


def check_closed(choices: Collection[str]) -> None:
    """Whether all arguments of a task have values.

    Raises:
        DeclarationError: there are choices left.
    """
    if choices:
        raise DeclarationError(
            f"sn.Task: the choices in {', '.join(choices)} are still open. Search over the task, "
            "or pick values with task.with_arguments({...}); those of a trial are "
            "trial.architecture.task."
        )


def check_loss(loss: Any, kind: str, label_smoothing: Any) -> None:
    """Whether the loss is known and goes with the kind of task.

    Raises:
        DeclarationError: it does not.
    """
    known = LOSSES[kind]
    for value in loss.candidates if isinstance(loss, pg.hyper.OneOf) else [loss]:
        if isinstance(value, str) and value not in known:
            raise DeclarationError(
                f"sn.Task: `loss` ({value!r}) must be one of {', '.join(known)} for {kind}, or a "
                "function of (outputs, targets)."
            )
    smooth = contains_choice(label_smoothing) or label_smoothing > 0
    if smooth and (kind == "regression" or callable(loss)):
        raise DeclarationError(
            "sn.Task: `label_smoothing` goes with the loss 'cross_entropy' alone. Leave it at 0.0."
        )


def check_outputs(outputs: Any, targets: Tensor, kind: str, classes: int | None) -> None:
    """Whether what a model returns for a batch can be compared with the targets.

    Raises:
        DeclarationError: it is no tensor, or of a wrong shape.
    """
    if not isinstance(outputs, Tensor):
        raise DeclarationError(
            f"The model returns a {type(outputs).__name__}; it must return one tensor, or the Task "
            "must have a `loss` and `metrics` of its own."
        )
    shape = tuple(outputs.shape)
    if kind == "classification":
        if outputs.ndim != targets.ndim + 1 or shape[1] != classes:
            flat = outputs.ndim == targets.ndim + 1
            found = f"{shape[1]} outputs" if flat else f"outputs {shape}"
            raise DeclarationError(
                f"The model gives {found} for a batch of {len(targets)}, but the data has "
                f"{classes} classes: the last layer must give ({len(targets)}, {classes}"
                f"{''.join(f', {n}' for n in targets.shape[1:])}). Pass the number of classes to "
                "the space."
            )
        return
    if shape not in (tuple(targets.shape), (*targets.shape, 1)):
        width = 1 if targets.ndim == 1 else targets.shape[1]
        raise DeclarationError(
            f"The model gives outputs {shape}, but the targets of the batch are "
            f"{tuple(targets.shape)}: the last layer must give {width} number(s) an example."
        )
