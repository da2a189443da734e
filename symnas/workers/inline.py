"""Evaluation in this process, one trial after the other."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from symnas.searching.evaluation import Assignment, Evaluator, Outcome

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture


class Inline:
    """Evaluates in this process, when asked for results, what was submitted.

    Args:
        evaluator: evaluates a trial.
        retries: how often a failed trial is tried again.
    """

    def __init__(self, evaluator: Evaluator, retries: int = 0) -> None:
        self._evaluator = evaluator
        self._attempts = 1 + retries
        self._waiting: deque[tuple[Assignment, Architecture]] = deque()

    def submit(self, assignment: Assignment, architecture: Architecture) -> None:
        """Takes a trial to be evaluated."""
        self._waiting.append((assignment, architecture))

    def collect(self, seconds: float | None = None) -> list[tuple[int, Outcome]]:
        """Evaluates the oldest trial that waits, however long: its number and how it ended."""
        assignment, architecture = self._waiting.popleft()
        for _ in range(self._attempts):
            outcome = self._evaluator(assignment, lambda: architecture)
            if outcome.reason is None:
                break
        return [(assignment.number, outcome)]

    def close(self, *, kill: bool = False) -> None:
        """Forgets what waits."""
        self._waiting.clear()
