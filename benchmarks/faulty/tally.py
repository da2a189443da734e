"""What a fault did to searches, and what is common to all faults."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from pathlib import Path

import attrs

HEADER = (
    "fault", "injected", "trials lost", "trials repeated", "trajectory differs",
    "time to recover (median, worst)", "what the user sees",
)  # fmt: skip


class Skipped(Exception):
    """The fault cannot be injected here; says why."""


@attrs.frozen
class Setup:
    """How faults are injected.

    Attributes:
        rounds: how often each.
        folder: for files.
        seed: of the moments and places.
        algorithm: a name of `faulty.subject.ALGORITHMS`.
        workers: processes of a driver that is killed.
        tick: is called with the share of a round that is done.
    """

    rounds: int
    folder: Path
    seed: int = 0
    algorithm: str = "evolution"
    workers: int = 1
    tick: Callable[[float], object] = lambda share: None

    @property
    def log(self) -> Path:
        """Where tasks write which trials they begin."""
        return self.folder / "log"

    def rng(self) -> random.Random:
        """A fault's own generator."""
        return random.Random(self.seed)


@attrs.define
class Tally:
    """One line of the table.

    Attributes:
        fault: what was done.
        injected: how often.
        lost: results that were recorded before a fault and not, or differently, after it, and
            nobody said so.
        repeated: evaluations of trials whose result was recorded.
        differing: trials that are not those of the undisturbed search, by row, budget or score.
        recoveries: seconds from each fault (or from when what it broke was mended) until another
            trial began; without the start of Python and its imports.
        sees: what the user sees.
        tolerated: whether results may be lost, by what the documentation says.
    """

    fault: str
    injected: int = 0
    lost: int = 0
    repeated: int = 0
    differing: int = 0
    recoveries: list[float] = attrs.field(factory=list)
    sees: str = ""
    tolerated: bool = False

    @property
    def good(self) -> bool:
        """Whether nothing was lost that may not be, repeated or changed."""
        return not ((self.lost and not self.tolerated) or self.repeated or self.differing)

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        numbers = (self.injected, self.lost, self.repeated, self.differing)
        times = "-"
        if self.recoveries:
            times = f"{statistics.median(self.recoveries):.2f} s, {max(self.recoveries):.2f} s"
        return (self.fault, *map(str, numbers), times, " ".join(self.sees.split()))


Fault = Callable[[Setup], list[Tally]]
