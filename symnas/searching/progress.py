"""What a search shows while it runs: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from symnas.studies.trial import level_of

if TYPE_CHECKING:
    from symnas.searching.journal import Entry
    from symnas.searching.setting import Setting

_LINE_SECONDS = 10.0
_REFRESH_SECONDS = 0.1
_SHOW_REASON = 5  # failures from the beginning, all with the same reason
_WARN = 20  # failures from the beginning


class Progress:
    """Counts what happens in a search, and shows it.

    Args:
        setting: what the search is about.
        total: number of trials, if it is known.
        show: whether anything is shown; the warning that every trial fails always is.
    """

    def __init__(self, setting: Setting, total: int | None, show: bool = True) -> None:
        self.done = self.failed = 0
        self.best: float | None = None
        self.best_number: int | None = None
        self.spent = 0.0
        self._level: tuple[float, float] = (-math.inf, -math.inf)  # budget and score of the best
        self._budget: float | None = None
        self._setting = setting
        self._problem: Any = None
        self._total = total
        self._reasons: set[str] = set()
        self._training: str | None = None
        self._began = self._shown = time.monotonic()
        self._show = show
        self._console: Any = None
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self._show:
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False)
            if self._console.is_terminal:
                self._start_bar()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._refresh(force=True)
            self._bar.stop()

    def watch(self, problem: Any) -> None:
        """Names the problem whose share of feasible architectures is shown."""
        self._problem = problem

    def began(self, entry: Entry) -> None:
        """A trial is handed to the workers."""
        self._refresh()

    def finished(self, entry: Entry) -> None:
        """A trial has ended, or is known to have."""
        assert entry.scores is not None
        budget = entry.assignment.budget
        self.spent += 0.0 if budget is None or entry.reused else budget
        if entry.state == "failed":
            self.failed += 1
            self._failure(entry)
        else:
            self.done += 1
            score = entry.scores[0]
            level = (level_of(budget), score)  # as `study.best`
            if level > self._level:
                self.best, self.best_number = score, entry.number
                self._level, self._budget = level, budget
        self._refresh()

    def training(self, done: int, epochs: int, told: Mapping[str, float]) -> None:
        """An epoch of a supernet's training has ended."""
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in told.items())
        self._training = f"supernet: epoch {done} of {epochs}, {numbers}" if done < epochs else None
        self._refresh(force=done == epochs)

    def say(self, text: str) -> None:
        """One line for people, beside the bar."""
        if self._console is not None:
            self._console.print(text, markup=False, soft_wrap=True)

    def status(self) -> str:
        """Where the search stands, in a line.

        Like "12 of 200 trials, best accuracy 0.931, 1 failed, 40% feasible, 0:03:10 left".
        """
        if self._training is not None:
            return self._training
        count = self.done + self.failed
        parts = [f"{count} of {self._total} trials" if self._total else f"{count} trials"]
        if self.spent:
            parts.append(f"{self.spent:,.6g} budget spent")
        if self.best is not None and len(self._setting.objectives) == 1:
            parts.append(f"best {self.best_text()}")
        if self.failed:
            parts.append(f"{self.failed} failed")
        share = getattr(self._problem, "feasible_share", None)
        if share is not None:
            parts.append(f"{share:.0%} feasible" if share >= 0.01 else f"{share:.2g} feasible")
        if self._bar is None and self._total and 0 < count < self._total:
            left = (time.monotonic() - self._began) / count * (self._total - count)
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def best_text(self) -> str:
        """The best score, in the units of the objective."""
        assert self.best is not None
        at = "" if self._budget is None else f" at budget {self._budget:g}"
        if self._setting.reward is not None:
            return f"reward {self.best:.6g}{at}"
        objective = self._setting.objectives[0]
        return f"{objective.name} {objective.sign * self.best:.6g}{at}"

    def seconds(self) -> float:
        """Since the search began or was continued."""
        return time.monotonic() - self._began

    def _failure(self, entry: Entry) -> None:
        first = (entry.reason or "").splitlines()[0] if entry.reason else "no reason"
        if self.done or self.failed > _WARN:
            return
        self._reasons.add(first)
        if self.failed == _SHOW_REASON and len(self._reasons) == 1:
            self.say(f"The first {_SHOW_REASON} trials have all failed: {entry.reason}")
        if self.failed == _WARN:
            warnings.warn(
                f"All of the first {_WARN} trials have failed, the last with: {entry.reason}\n"
                "The search goes on. Ctrl-C ends it; study.failed lists the reasons.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _start_bar(self) -> None:
        from rich import progress

        # No thread of its own: a task may fork, and a lock held by a thread stays locked there.
        self._bar = progress.Progress(
            progress.BarColumn(bar_width=24),
            progress.TextColumn("{task.description}", markup=False),
            progress.TimeRemainingColumn(),
            console=self._console,
            auto_refresh=False,
        )
        self._bar.add_task(self.status(), total=self._total)
        self._bar.start()

    def _refresh(self, force: bool = False) -> None:
        if self._console is None:
            return
        now = time.monotonic()
        every = _LINE_SECONDS if self._bar is None else _REFRESH_SECONDS
        if not force and now - self._shown < every:
            return
        self._shown = now
        if self._bar is None:
            self.say(self.status())
        else:
            count = self.done + self.failed
            self._bar.update(0, description=self.status(), completed=count, refresh=True)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(3725.4)
    '1:02:05'
    """
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
