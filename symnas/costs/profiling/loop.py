"""Timing many short calls side by side, so that a disturbance does not fall on a single one."""

from __future__ import annotations

import contextlib
import gc
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs
import numpy as np

from symnas.costs.profiling.real import Call

# Rounds where blocks waver by more than this (relative) are followed by as many more.
WAVERING = 0.1
LEAST = 3


@attrs.frozen
class Effort:
    """How long things are timed.

    Attributes:
        block: the least time (seconds) that calls are timed for at once.
        rounds: how many blocks of each; up to twice as many where they waver by more than 10%.
        longest: about the most time (seconds) for one thing; a long call gets fewer rounds then,
            but at least three.
    """

    block: float = 1e-3
    rounds: int = 8
    longest: float = 0.1


@attrs.frozen(eq=False)
class Probe:
    """What is run to know a time: `factor * (time of call - time of baseline)`.

    Attributes:
        call: what is timed.
        baseline: what is timed in the same rounds, to be subtracted; None: nothing.
        factor: such as one over the number of copies in `call` that `baseline` has not.
    """

    call: Call
    baseline: Call | None = None
    factor: float = 1.0

    @property
    def calls(self) -> list[Call]:
        """What is timed."""
        return [self.call] if self.baseline is None else [self.call, self.baseline]


class _Clocked:
    """The blocks of one call."""

    def __init__(
        self,
        call: Call,
        effort: Effort,
        clock: Callable[[], float],
        wait: Callable[[], object],
    ) -> None:
        self.call, self.clock, self.wait = call, clock, wait
        self.times: list[float] = []
        self.calls = 1
        once = min(self._block() for _ in range(LEAST))
        self.calls = max(1, math.ceil(effort.block / max(once, 1e-9)))
        affordable = int(effort.longest / max(once, effort.block))
        self.rounds = max(LEAST, min(effort.rounds, affordable))
        self.most = self.rounds * (2 if affordable > effort.rounds else 1)

    def _block(self) -> float:
        self.wait()
        begin = self.clock()
        for _ in range(self.calls):
            self.call()
        self.wait()
        return (self.clock() - begin) / self.calls

    def time(self) -> None:
        self.times.append(self._block())

    @property
    def wanted(self) -> bool:
        if len(self.times) < self.rounds:
            return True
        if len(self.times) >= self.most:
            return False
        low, median, high = np.percentile(self.times, [25, 50, 75])
        return bool(high - low > WAVERING * median)

    @property
    def seconds(self) -> float:
        # What else runs on a machine only ever adds time; the minimum would be luck.
        return float(np.percentile(self.times, 25))


def timed(
    probes: Mapping[str, Probe],
    effort: Effort | None = None,
    *,
    seed: int = 0,
    synchronize: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """The milliseconds of each probe, never below 0.

    Blocks of calls go round all probes, in a new order each time, so that a change in the
    machine's load meets all of them. The lower quartile of the blocks counts, which what else
    runs on the machine touches least.

    Args:
        probes: by key.
        effort: how long they are timed.
        seed: of the orders.
        synchronize: waits until what was begun is done (on a GPU).
        clock: seconds, as a float.

    >>> now = [0.0]
    >>> def call(seconds):
    ...     now[0] += seconds
    >>> probe = Probe(lambda: call(0.005), baseline=lambda: call(0.001), factor=0.25)
    >>> {k: round(ms, 6) for k, ms in timed({"x": probe}, clock=lambda: now[0]).items()}
    {'x': 1.0}
    """
    wait = _nothing if synchronize is None else synchronize
    effort = effort or Effort()
    order = random.Random(seed)
    with _no_garbage_collection():
        clocked = {
            k: [_Clocked(c, effort, clock, wait) for c in p.calls] for k, p in probes.items()
        }
        waiting = list(clocked)
        while waiting:
            order.shuffle(waiting)
            for key in waiting:
                for each in clocked[key]:  # a call and its baseline in the same round
                    each.time()
            waiting = [key for key in sorted(waiting) if any(c.wanted for c in clocked[key])]
    result = {}
    for key, probe in probes.items():
        call, *baseline = (each.seconds for each in clocked[key])
        result[key] = max(0.0, call - sum(baseline)) * probe.factor * 1e3
    return result


def groups(sizes: Iterable[tuple[str, int]], limit: int) -> list[list[str]]:
    """Keys in order, in groups of at most `limit` in all (or of one).

    >>> groups([("a", 2), ("b", 2), ("c", 3), ("d", 9)], limit=5)
    [['a', 'b'], ['c'], ['d']]
    """
    result: list[list[str]] = []
    room = -1
    for key, size in sizes:
        if size > room:
            result.append([])
            room = limit
        result[-1].append(key)
        room -= size
    return result


def _nothing() -> None:
    pass


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
