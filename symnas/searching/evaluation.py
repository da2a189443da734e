"""One trial, evaluated in this process: seeds, the task, and what it may return."""

from __future__ import annotations

import functools
import inspect
import math
import os
import random
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch

from symnas.errors import TrialFailed
from symnas.tasks.weights import save_weights

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture

WEIGHTS = "weights.pt"

_FRAMES = 3
_MESSAGE = 2000


def trial_seed(seed: int, number: int, repeat: int = 0) -> int:
    """The seed of a trial: 32 bits, from the search's seed and the trial's number only.

    >>> trial_seed(0, 7) == trial_seed(0, 7), trial_seed(0, 7) == trial_seed(0, 8)
    (True, False)
    """
    return int(np.random.SeedSequence([seed, number, repeat]).generate_state(1)[0])


@attrs.frozen
class Assignment:
    """A trial to be evaluated: what a worker is told about it, plain data."""

    number: int
    seed: int
    folder: str
    budget: float | None = None
    repeat: int = 0
    stage: str = ""


@attrs.frozen
class Outcome:
    """How a trial ended: with metrics, or without them and a reason.

    `reports` are the pairs (step, value) that the task reported; `seconds` is wall-clock time.
    """

    metrics: dict[str, float] | None
    reason: str | None
    started: float
    seconds: float
    reports: tuple[tuple[float, float], ...] = ()


class TaskTrial:
    """What a task is told about the trial it evaluates.

    Attributes:
        number: the trial's number in its search, from 0.
        seed: 32 bits; `random`, `numpy` and `torch` are seeded with it before the task begins.
        budget: what successive halving grants (epochs, say), or None.
        stage: which search of a flow proposed it; "" outside flows.
        device: where to compute: "cpu", "cuda:1".
    """

    def __init__(
        self, assignment: Assignment, device: str, on_report: Callable[[float, float], None]
    ) -> None:
        self.number = assignment.number
        self.seed = assignment.seed
        self.budget = assignment.budget
        self.repeat = assignment.repeat
        self.stage = assignment.stage
        self.device = device
        self._folder = assignment.folder
        self._on_report = on_report

    @property
    def path(self) -> Path:
        """A folder for what this trial leaves behind, made at first use."""
        path = Path(self._folder)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def report(self, step: float, value: float) -> None:
        """Records an intermediate value, such as the accuracy after an epoch."""
        self._on_report(float(step), float(value))

    def save(self, model: torch.nn.Module) -> None:
        """Keeps the weights of `model`, so that `study.best.model()` returns it trained."""
        save_weights(model, self.path / WEIGHTS)


class Evaluator:
    """Evaluates trials with a task, and makes of whatever happens an `Outcome`.

    Args:
        task: an object with `evaluate(architecture, trial)`, or a callable `f(architecture)` or
            `f(architecture, trial)`, that returns a number or a dict of metrics.
        metrics: names that the task must measure; a plain number is taken for the only one.
        device: where the task shall train.
        interrupts: whether a KeyboardInterrupt is Ctrl-C and ends the search; where a process
            ignores Ctrl-C, only the task can have raised it.
    """

    def __init__(
        self,
        task: Any,
        metrics: tuple[str, ...],
        device: str | None = None,
        *,
        interrupts: bool = True,
    ) -> None:
        self._interrupts = interrupts
        self._call = call_of_task(task)
        self._metrics = metrics
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(
        self,
        assignment: Assignment,
        architecture: Callable[[], Architecture],
        on_report: Callable[[float, float], None] | None = None,
    ) -> Outcome:
        """Evaluates one architecture; of what it raises only Ctrl-C passes through."""
        reports: list[tuple[float, float]] = []
        trial = TaskTrial(
            assignment,
            self._device,
            on_report or (lambda step, value: reports.append((step, value))),
        )
        seed_everything(assignment.seed)
        started, clock = time.time(), time.perf_counter()
        metrics, reason = None, None
        process = os.getpid()
        try:
            metrics = self._checked(self._call(architecture(), trial))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and self._interrupts:
                raise
            reason = reason_of(error)
        finally:
            if os.getpid() != process:  # a child that the task has forked must not go on as we do
                os._exit(0)
        return Outcome(metrics, reason, started, time.perf_counter() - clock, tuple(reports))

    def _checked(self, result: Any) -> dict[str, float]:
        if not isinstance(result, Mapping):
            if len(self._metrics) != 1:
                raise TrialFailed(
                    f"The task returned {_short(result)}, and the search wants the metrics "
                    f"{', '.join(self._metrics) or '(none)'}. Return a dict of them."
                )
            result = {self._metrics[0]: result}
        missing = [name for name in self._metrics if name not in result]
        if missing:
            raise TrialFailed(
                f"The task returned no metric {missing[0]!r}; it returned "
                f"{', '.join(map(repr, result)) or 'none'}."
            )
        metrics = {str(name): _number(name, value) for name, value in result.items()}
        for name in self._metrics:
            if not math.isfinite(metrics[name]):
                raise TrialFailed(f"The metric {name!r} is {metrics[name]}.")
        return metrics


def call_of_task(task: Any) -> Callable[[Architecture, TaskTrial], Any]:
    """The function `f(architecture, trial)` of a task.

    Raises:
        TypeError: `task` is neither callable nor has `evaluate`, or wants other arguments.
    """
    evaluate = getattr(task, "evaluate", None)
    if callable(evaluate):
        return evaluate  # type: ignore[no-any-return]
    if not callable(task):
        raise TypeError(
            f"`task` ({_short(task)}) must be an object with evaluate(architecture, trial), or a "
            "function f(architecture) or f(architecture, trial)."
        )
    try:
        parameters = inspect.signature(task).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return lambda architecture, trial: task(architecture)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p.name for p in parameters if p.default is p.empty and p.kind in positional]
    starred = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(required) > 2 or not (required or starred or parameters):
        raise TypeError(
            f"`task` must be f(architecture) or f(architecture, trial), and requires "
            f"({', '.join(required)}). Give the rest beforehand, with functools.partial."
        )
    if len(required) == 2:
        return task  # type: ignore[no-any-return]
    return lambda architecture, trial: task(architecture)


def seed_everything(seed: int) -> None:
    """Seeds the global generators of `random`, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    if _has_accelerator():
        torch.manual_seed(seed)
    else:  # for the accelerators that are not there, the other takes a stack trace each time
        torch.default_generator.manual_seed(seed)


@functools.cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


def reason_of(error: BaseException) -> str:
    """An exception as a study records it: type, message, and the last frames of the task.

    >>> reason_of(ValueError("too wide"))
    'ValueError: too wide'
    """
    message = str(error)
    if isinstance(error, TrialFailed):
        return message[:_MESSAGE]
    text = f"{type(error).__name__}: {message}"[:_MESSAGE].rstrip(": ")
    traced = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in traced if frame.filename != __file__][-_FRAMES:]
    places = [f"  at {Path(f.filename).name}:{f.lineno} in {f.name}: {f.line}" for f in frames]
    return "\n".join([text, *places])


def _number(name: str, value: Any) -> float:
    if isinstance(value, str | bytes) or value is None:
        raise TrialFailed(f"The metric {name!r} is {_short(value)}, not a number.")
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # the last of a tensor with several numbers
        raise TrialFailed(f"The metric {name!r} is {_short(value)}, not a number.") from None
    except OverflowError:
        raise TrialFailed(f"The metric {name!r} is too large for a float.") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
