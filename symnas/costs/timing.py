"""How long a call takes: repeated until the median is known well enough."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import numpy as np

# A block of calls takes at least this long (seconds), far above the clock's resolution.
_BLOCK = 1e-3
# Even a call that uses up all time is made this often.
_LEAST = 3


@attrs.frozen
class Timing:
    """A measured time.

    Attributes:
        ms: the median of the blocks, in milliseconds a call.
        noise: the interquartile range of the blocks over the median: how much the machine wavered.
        blocks: how many blocks were timed.
    """

    ms: float
    noise: float
    blocks: int


def time_calls(
    call: Callable[[], object],
    *,
    warmup: int = 5,
    repeats: int = 20,
    seconds: float = 1.0,
    precision: float = 0.01,
    synchronize: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """The time that `call()` takes.

    Calls are timed in blocks of at least a millisecond: `repeats` blocks, and more until the
    median's 95% interval (1.57 IQR / sqrt(n), McGill, Tukey and Larsen 1978, "Variations of box
    plots") is within `precision` of it. When `seconds` are used up, it ends, at the earliest after
    three blocks. Garbage is not collected meanwhile.

    Args:
        call: what is timed.
        warmup: calls beforehand that do not count, for at most a quarter of `seconds`.
        repeats: the least number of blocks, time permitting.
        seconds: how long all this may take.
        precision: of the median, relative.
        synchronize: waits until what `call` began is done (on a GPU).
        clock: seconds, as a float.
    """
    wait = synchronize or (lambda: None)

    def block(calls: int) -> float:
        wait()
        begin = clock()
        for _ in range(calls):
            call()
        wait()
        return (clock() - begin) / calls

    start = clock()
    once = block(1)
    for _ in range(warmup - 1):
        if clock() - start > seconds / 4:
            break
        once = min(once, block(1))
    calls = max(1, math.ceil(_BLOCK / max(once, 1e-9)))
    times: list[float] = []
    with _no_garbage_collection():
        while not _is_enough(times, repeats, precision):
            if len(times) >= _LEAST and clock() - start > seconds:
                break
            times.append(block(calls))
    median, noise = _median_and_noise(times)
    return Timing(median * 1e3, noise, len(times))


def _is_enough(times: list[float], repeats: int, precision: float) -> bool:
    if len(times) < max(repeats, _LEAST):
        return False
    return 1.57 * _median_and_noise(times)[1] / math.sqrt(len(times)) <= precision


def _median_and_noise(times: list[float]) -> tuple[float, float]:
    low, median, high = np.percentile(times, [25, 50, 75]).tolist()
    return median, (high - low) / median if median > 0 else 0.0


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
