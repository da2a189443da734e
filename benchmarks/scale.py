"""How many workers one search keeps busy.

    python benchmarks/scale.py                    # ray, simulated, studies
    python benchmarks/scale.py ray                # 2 workers, 40 trials of one second
    python benchmarks/scale.py many --workers 32  # many small workers of a local Ray
    python benchmarks/scale.py simulated          # the driver alone, with workers that are simulated
    python benchmarks/scale.py order              # what it costs to tell results in order
    python benchmarks/scale.py studies            # 100,000 trials in SQLite and PostgreSQL

"ray": the share of their time that workers spend in trials, as processes and on a Ray that is
started for it; the trials sleep. "many" is the same with workers that reserve a hundredth of a core.

"simulated": the real loop, journal and study (a SQLite file), and workers that exist on a clock
only: it runs while the driver works, and jumps to the end of the next trial when the driver waits.
So a slow driver leaves workers idle on it. Printed is what a trial costs the driver (proposal,
records, result), on the clock and of the processor, and the idle share of workers whose trials take
60 seconds.

"order": proposal i waits for the result of trial i - ahead, although others may have ended before
it. The same clock, with a driver that costs nothing: the idle share for trials whose times are
log-normal around 60 seconds, `sigma` being the standard deviation of their logarithm, by how many
proposals are open beyond one a worker.

"studies": what so many trials of a task that costs nothing take; see `many_trials.py`.

Idle shares are taken from the moment when each worker has begun a trial until the last trial begins:
the start and the end of a search are not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import many_trials
import numpy as np
import torch

import symnas as sn
from symnas import algorithms as alg
from symnas.searching.evaluation import Assignment, Outcome
from symnas.searching.order import Order

MEAN_SECONDS = 60.0


@sn.symbolize
class Block(torch.nn.Linear):
    """A layer with two arguments to choose."""

    def __init__(self, width: int, kernel: int = 3, expansion: int = 6) -> None:
        super().__init__(width, width)


def space(decisions: int = 20) -> sn.Space:
    """A chain of blocks, two decisions each."""
    blocks = [
        Block(8, kernel=sn.oneof([3, 5, 7]), expansion=sn.oneof([3, 6]))
        for _ in range(decisions // 2)
    ]
    return sn.Space(sn.nn.Sequential(*blocks))


# --- busy and idle ------------------------------------------------------------------------------


@attrs.frozen
class Stay:
    """A trial on a worker, in seconds of some clock."""

    worker: Any
    start: float
    end: float


def idle_share(stays: list[Stay], workers: int) -> float:
    """The share of the workers' time in which they have no trial, while there is work for all."""
    first: dict[Any, float] = {}
    for stay in stays:
        first[stay.worker] = min(stay.start, first.get(stay.worker, np.inf))
    begin, end = max(first.values()), max(stay.start for stay in stays)
    busy = sum(max(0.0, min(stay.end, end) - max(stay.start, begin)) for stay in stays)
    return max(0.0, 1 - busy / (workers * (end - begin)))  # rounding may leave -1e-16


# --- real workers -------------------------------------------------------------------------------


def ray_part(options: argparse.Namespace) -> None:
    """Two workers, beside processes."""
    for place in (None, "ray"):
        measure_real(sn.Workers(place, n=options.workers or 2), options.trials or 40, 1.0)


def many_part(options: argparse.Namespace) -> None:
    """Many small workers of a local Ray."""
    n = options.workers or 32
    workers = sn.Workers("ray", n=n, cpus=0.01)
    measure_real(workers, options.trials or 5 * n, options.seconds)


def measure_real(workers: sn.Workers, trials: int, seconds: float) -> None:
    """A search whose trials sleep."""

    def task(architecture: sn.Architecture) -> dict[str, float]:
        time.sleep(seconds)
        return {"score": 0.0, "pid": os.getpid()}

    clock = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        study = sn.search(
            space(), alg.RandomSearch(), task, maximize="score", trials=trials, workers=workers,
            study=Path(folder) / "study.db", progress=False,
        )  # fmt: skip
        clock = time.perf_counter() - clock
        stays = [Stay(t.metrics["pid"], t.started, t.started + t.seconds) for t in study.trials]
    used = len({stay.worker for stay in stays})
    busy = 1 - idle_share(stays, used)
    print(
        f"{workers.place or 'processes'}: {used} workers, {trials} trials of {seconds:g} s: "
        f"{busy:.1%} busy ({1 - busy:.1%} idle); {clock:.1f} s with start and end",
        flush=True,
    )


# --- simulated workers --------------------------------------------------------------------------


class Simulated:
    """Workers on a clock that runs while the driver works, and jumps while it waits.

    Args:
        workers: how many.
        times: seconds of each trial.
        driver: seconds that the driver has worked so far.
    """

    def __init__(
        self, workers: int, times: Callable[[int], float], driver: Callable[[], float]
    ) -> None:
        self._times, self._driver = times, driver
        self._free = list(range(workers))
        self._waiting: deque[int] = deque()
        self._running: list[tuple[float, int, float, int]] = []  # end, number, start, worker
        self._ended: list[tuple[int, float]] = []
        self._waited = 0.0
        self._began = driver()
        self.stays: list[Stay] = []

    @property
    def now(self) -> float:
        """What the clock shows."""
        return self._waited + self._driver() - self._began

    def submit(self, assignment: Assignment, architecture: Any) -> None:
        """Takes a trial."""
        self.begin(assignment.number)

    def collect(self, seconds: float | None = None) -> list[tuple[int, Outcome]]:
        """The trials that have ended, and at least one."""
        return [
            (number, Outcome({"score": 0.0}, None, start, self._times(number)))
            for number, start in self.ended()
        ]

    def close(self, *, kill: bool = False) -> None:
        """Nothing."""

    def begin(self, number: int) -> None:
        """A trial begins, or waits for a worker."""
        self._release(self.now)
        self._waiting.append(number)
        self._start(self.now)

    def ended(self) -> list[tuple[int, float]]:
        """Numbers and starts of the trials that have ended; jumps to the first, if none has."""
        self._release(self.now)
        if not self._ended:
            end = self._running[0][0]
            self._waited += max(0.0, end - self.now)
            self._release(end)
        found, self._ended = self._ended, []
        return found

    def _release(self, now: float) -> None:
        """Notes what has ended by now; a worker begins what waits the moment it is free."""
        while self._running and self._running[0][0] <= now:
            end, number, start, worker = heapq.heappop(self._running)
            self.stays.append(Stay(worker, start, end))
            self._ended.append((number, start))
            self._free.append(worker)
            self._start(end)

    def _start(self, now: float) -> None:
        while self._free and self._waiting:
            number, worker = self._waiting.popleft(), self._free.pop()
            heapq.heappush(self._running, (now + self._times(number), number, now, worker))


@attrs.frozen
class Place:
    """Where `sn.search` finds the simulated workers."""

    n: int
    simulated: Simulated

    def workplace(self, setting: Any) -> Simulated:
        """The workers."""
        return self.simulated


def lognormal(sigma: float) -> Callable[[int], float]:
    """Times of trials: log-normal with the mean `MEAN_SECONDS`, the same for the same number."""
    drawn = np.random.default_rng(0).normal(size=1 << 18)
    times = MEAN_SECONDS * np.exp(sigma * drawn - sigma**2 / 2)
    return lambda number: float(times[number % len(times)])


def simulated_part(options: argparse.Namespace) -> None:
    """The real driver, with simulated workers."""
    print(
        "algorithm             workers  trials  s a trial  of the processor  idle at 60 s  "
        "sigma 0.5, ahead = n / 2n"
    )
    sizes = [options.workers] if options.workers else [10, 100, 1000]
    algorithms: list[Any] = [alg.RandomSearch(), alg.RegularizedEvolution()]
    for algorithm in algorithms:
        for n in sizes:
            trials = options.trials or max(500, 4 * n)
            steady = drive(algorithm, n, n, lognormal(0.0), trials)
            varied = [drive(algorithm, n, ahead, lognormal(0.5), trials) for ahead in (n, 2 * n)]
            print(
                f"{type(algorithm).__name__:20}  {n:7}  {trials:6}  {steady[0]:9.5f}  "
                f"{steady[1]:16.5f}  {steady[2]:12.2%}  {varied[0][2]:.1%} / {varied[1][2]:.1%}",
                flush=True,
            )


def drive(
    algorithm: Any, n: int, ahead: int, times: Callable[[int], float], trials: int
) -> tuple[float, float, float]:
    """Seconds a trial of the driver, on the clock and of the processor; the workers' idle share."""
    simulated = Simulated(n, times, time.perf_counter)

    @contextlib.contextmanager
    def opened(settings: Any) -> Iterator[Place]:
        yield Place(n, simulated)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("symnas.searching.search.opened", opened),
    ):
        clock, processor = time.perf_counter(), time.process_time()
        sn.search(
            space(), algorithm, lambda architecture: 0.0, maximize="score", trials=trials,
            ahead=ahead, study=Path(folder) / "study.db", progress=False,
        )  # fmt: skip
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
    return clock / trials, processor / trials, idle_share(simulated.stays, n)


def order_part(options: argparse.Namespace) -> None:
    """What the order costs, with a driver that costs nothing."""
    factors = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
    print("workers  sigma  idle share at ahead = " + "  ".join(f"{f:g}n".rjust(6) for f in factors))
    for n in [options.workers] if options.workers else [10, 100, 1000]:
        for sigma in (0.0, 0.1, 0.25, 0.5, 1.0):
            shares = [
                idle_of_order(n, int(f * n), lognormal(sigma), options.trials or max(500, 20 * n))
                for f in factors
            ]
            print(
                f"{n:7}  {sigma:5}" + " " * 24 + "  ".join(f"{s:6.1%}" for s in shares), flush=True
            )


def idle_of_order(n: int, ahead: int, times: Callable[[int], float], trials: int) -> float:
    """The loop's order on simulated workers, without anything else of the loop."""
    simulated, order, known = Simulated(n, times, lambda: 0.0), Order(), set[int]()
    for number in range(trials):
        while len(order) >= ahead:
            wanted = order.next()
            while wanted not in known:
                known.update(ended for ended, _ in simulated.ended())
        order.begin(number, None)
        simulated.begin(number)
    while len(known) < trials:
        known.update(ended for ended, _ in simulated.ended())
    return idle_share(simulated.stays, n)


def studies_part(options: argparse.Namespace) -> None:
    """Time, memory and size of studies."""
    many_trials.compare(options.trials or 100_000)


PARTS = {
    "ray": ray_part, "many": many_part, "simulated": simulated_part, "order": order_part,
    "studies": studies_part,
}  # fmt: skip
USUAL = ["ray", "simulated", "studies"]


def main() -> None:
    """Runs the parts that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=USUAL, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--workers", type=int, help="how many, instead of those of the part")
    parser.add_argument("--trials", type=int, help="how many, instead of those of the part")
    parser.add_argument("--seconds", type=float, default=10.0, help="a trial of 'many' sleeps")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for part in options.parts:
        PARTS[part](options)


if __name__ == "__main__":
    main()
