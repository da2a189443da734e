"""What a recorded trial costs: milliseconds and bytes, with a task that does nothing.

    python benchmarks/durability.py --trials 2000

Random search over 20 decisions. "file" is a study on the local disk (folder `--folder`), "none"
a study that is gone with the process. Memory is what Python holds at the end of the search for
each trial beyond the first quarter; it is measured in a run of its own, since that slows down.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from pathlib import Path

import torch

import symnas as sn
from symnas import algorithms as alg


@sn.symbolize
class Block(torch.nn.Linear):
    """A layer with two arguments to choose."""

    def __init__(self, width: int, kernel: int = 3, expansion: int = 6) -> None:
        super().__init__(width, width)


def space(decisions: int) -> sn.Space:
    """A chain of blocks, two decisions each."""
    blocks = [
        Block(8, kernel=sn.oneof([3, 5, 7]), expansion=sn.oneof([3, 6]))
        for _ in range(decisions // 2)
    ]
    return sn.Space(sn.nn.Sequential(*blocks))


def search(study: Path | None, decisions: int, trials: int, algorithm: sn.Algorithm) -> None:
    """A search that only records."""
    sn.search(
        space(decisions), algorithm, lambda architecture: float(architecture.row[0]),
        maximize="score", trials=trials, study=study, progress=False,
    )  # fmt: skip


def milliseconds(
    study: Path | None, decisions: int, trials: int, algorithm: sn.Algorithm
) -> tuple[float, float]:
    """Per trial: on the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    search(study, decisions, trials, algorithm)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    return clock / trials * 1e3, processor / trials * 1e3


def bytes_each(study: Path, decisions: int, trials: int, algorithm: sn.Algorithm) -> float:
    """Python memory per recorded trial, between a quarter of the trials and all of them."""
    held = []

    def task(architecture: sn.Architecture, trial: object) -> float:
        if trial.number in (trials // 4, trials - 1):  # type: ignore[attr-defined]
            held.append(tracemalloc.get_traced_memory()[0])
        return 0.0

    tracemalloc.start()
    sn.search(
        space(decisions), algorithm, task, maximize="score", trials=trials, study=study,
        progress=False,
    )  # fmt: skip
    tracemalloc.stop()
    return (held[1] - held[0]) / (trials - 1 - trials // 4)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--decisions", type=int, default=20)
    parser.add_argument("--folder", default=None, help="where the study lies, on a local disk")
    options = parser.parse_args()
    sizes = (options.decisions, options.trials)
    print(f"{options.trials} trials, {options.decisions} decisions")
    print(f"{'algorithm':<24}{'study':<8}{'ms a trial':>12}{'CPU ms':>10}{'bytes a trial':>16}")
    for algorithm in (alg.RandomSearch(), alg.RegularizedEvolution()):
        name = type(algorithm).__name__
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            search(None, options.decisions, 20, algorithm)  # imports
            none = milliseconds(None, *sizes, algorithm)
            file = milliseconds(Path(folder, "time.db"), *sizes, algorithm)
            memory = bytes_each(Path(folder, "memory.db"), *sizes, algorithm)
        print(f"{name:<24}{'none':<8}{none[0]:>12.3f}{none[1]:>10.3f}")
        print(f"{name:<24}{'file':<8}{file[0]:>12.3f}{file[1]:>10.3f}{memory:>16.0f}")


if __name__ == "__main__":
    main()
