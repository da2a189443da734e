"""Tasks that misbehave in every way that came to mind, in worker processes with limits."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import torch

import symnas as sn
from faulty.subject import Subject, Task, results
from faulty.tally import Setup, Tally

_TIMEOUT = 5.0
_MEMORY = "1GB"
_LINES = 50_000


def _raise() -> float:
    raise ValueError("too wide")


def _hang() -> float:
    time.sleep(3600)
    return 0.0


def _hoard() -> float:
    hoard = []
    while True:
        hoard.append(bytearray(b"x") * (1 << 27))


def _exit() -> float:
    os._exit(3)


def _fault() -> float:
    return float(ctypes.string_at(0)[0])


def _leave() -> float:
    sys.exit("enough")


def _interrupt() -> float:
    raise KeyboardInterrupt


def _print() -> None:
    for line in range(_LINES):
        print("a long line", line, file=(sys.stdout, sys.stderr)[line % 2])


def _fork_sleeper() -> None:
    if os.fork() == 0:
        time.sleep(3600)
        os._exit(0)


def _fork_twin() -> None:
    os.fork()  # both return


# What a trial does instead of its work, and what its reason then says.
FAILING: dict[str, tuple[Callable[[], Any], str]] = {
    "raises": (_raise, "ValueError: too wide"),
    "hangs": (_hang, "timeout: no result after 5 s"),
    "leaks memory": (_hoard, "memory: "),
    "returns NaN": (lambda: float("nan"), "The metric 'score' is nan."),
    "returns inf": (lambda: float("inf"), "The metric 'score' is inf."),
    "returns -inf": (lambda: -float("inf"), "The metric 'score' is -inf."),
    "returns 10**400": (lambda: 10**400, "too large"),
    "returns a string": (lambda: "0.9", "'0.9', not a number"),
    "returns None": (lambda: None, "None, not a number"),
    "returns a list": (lambda: [0.5, 0.6], "[0.5, 0.6], not a number"),
    "returns a tensor of shape (3,)": (
        lambda: torch.zeros(3),
        "tensor([0., 0., 0.]), not a number",
    ),
    "returns an array of shape (2, 2)": (lambda: np.zeros((2, 2)), "not a number"),
    "returns another metric": (lambda: {"loss": 0.1}, "no metric 'score'"),
    "calls os._exit": (_exit, "exit code 3"),
    "segmentation fault": (_fault, "SIGSEGV"),
    "calls sys.exit": (_leave, "SystemExit: enough"),
    "raises KeyboardInterrupt": (_interrupt, "KeyboardInterrupt"),
}
# What it does before its work, which it then ends well.
HARMLESS: dict[str, Callable[[], object]] = {
    f"prints {_LINES} lines": _print,
    "forks a child that stays": _fork_sleeper,
    "forks a child that returns": _fork_twin,
}
KINDS = (*FAILING, *HARMLESS)
_EVERY = 2  # so many trials to one that misbehaves


def kind_of(number: int, kinds: Sequence[str]) -> str | None:
    """How a trial misbehaves, if it does."""
    return kinds[number // _EVERY % len(kinds)] if number % _EVERY == 1 else None


@attrs.frozen
class Misbehaving(Task):
    """`Task`, of which every other trial misbehaves.

    Attributes:
        kinds: how, in turn.
        really: whether it does; otherwise it raises where it would fail.
    """

    kinds: tuple[str, ...] = KINDS
    really: bool = True

    def evaluate(self, architecture: sn.Architecture, trial: Any) -> Any:
        """The work, or what the kind of the trial is."""
        kind = kind_of(trial.number, self.kinds)
        score = super().evaluate(architecture, trial)
        if kind in FAILING:
            return FAILING[kind][0]() if self.really else _raise()
        if kind is not None and self.really:
            HARMLESS[kind]()
        return score


@attrs.define
class _Subject(Subject):
    """The search with that task."""

    kinds: tuple[str, ...] = KINDS

    def search(self, study: str | None, task: Task, **given: Any) -> sn.Study:
        """As `Subject.search`; the undisturbed search only raises."""
        really = study is not None
        task = Misbehaving(task.log, task.seconds, self.kinds, really)
        return Subject.search(self, study, task, **given)


def objectives(setup: Setup, kinds: tuple[str, ...] = KINDS) -> list[Tally]:
    """Every other trial misbehaves; it is recorded as failed with its reason, and the rest goes on."""
    tallies = {kind: Tally(f"task {kind}") for kind in kinds}
    others = Tally("trials beside them")
    workers = sn.Workers(n=2, timeout=_TIMEOUT, memory=_MEMORY)
    trials = _EVERY * len(kinds) * setup.rounds
    subject = _Subject(
        setup, others, str(setup.folder / "s.db"), trials=trials, ahead=2,
        given={"workers": workers}, prepare=_silence, kinds=kinds,
    )  # fmt: skip
    subject.finish()
    alone = results(subject.search(None, Task(os.devnull, 0.0)).trials)
    found = results(sn.Study.open(subject.study).trials)
    reasons = {t.number: t.reason or "" for t in sn.Study.open(subject.study).trials}
    counts = Counter(number for number, _ in subject.begun())
    for number in range(trials):
        kind = kind_of(number, kinds)
        tally = others if kind is None else tallies[kind]
        tally.injected += kind is not None
        tally.lost += number not in found
        tally.differing += found.get(number) != alone.get(number)
        # What is over the memory limit in a process that is not new is tried once more in one.
        tally.repeated += counts[number] - 1 - (counts[number] == 2 and kind == "leaks memory")
        reason = reasons.get(number, "")
        tally.differing += kind in FAILING and FAILING[kind][1] not in reason
        if kind is not None:
            tally.sees = f"failed: {reason.splitlines()[0]}" if reason else "nothing: it is done"
    others.sees = "nothing"
    setup.tick(float(setup.rounds))
    return [*tallies.values(), others]


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
