"""What a study costs: many trials of a task that costs nothing, in SQLite and PostgreSQL.

    python benchmarks/many_trials.py --trials 100000
    python benchmarks/many_trials.py --trials 100000 --url postgresql+psycopg://user:password@host/db

Random search on a space of 4^20 architectures. Each search runs in a process of its own. Printed
of each study: milliseconds a trial, of them of this process's processor, and of them in writing
proposals and results; the most memory of the process, and by how much it grew; seconds to go
through all trials again on resuming, and to read them as a table; the size of the study. PostgreSQL
is started for it where it is installed; of a database that a URL names, a schema of its own is used
and removed.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from faulty import postgres
from faulty.subject import space
from faulty.tally import Skipped

import symnas as sn
from symnas import algorithms as alg

DECISIONS = 20


def task(architecture: sn.Architecture) -> float:
    """The sum of the row."""
    assert architecture.row is not None
    return float(sum(architecture.row))


def search(study: str | None, trials: int) -> sn.Study:
    """The call that is measured."""
    return sn.search(
        space(DECISIONS),
        alg.RandomSearch(),
        task,
        maximize="score",
        trials=trials,
        study=study,
        progress=False,
    )


def memory() -> float:
    """The most MB that this process has ever used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measured(study: str | None, trials: int) -> dict[str, float]:
    """Runs and reads a study: see the module's text."""
    search(None, 10)  # what is imported and made once
    before = memory()
    with Stopwatch(("begin_trial", "finish_trial")) as writing:
        began, clock = time.perf_counter(), time.process_time()
        found = search(study, trials)
        searched, computed = time.perf_counter() - began, time.process_time() - clock
    grown = memory() - before
    spent = {"ms/trial": searched, "ms computing": computed, "ms writing": writing.seconds}
    results = {name: 1e3 * seconds / trials for name, seconds in spent.items()}
    results |= {"memory MB": memory(), "grown MB": grown}
    if study is not None:
        began = time.perf_counter()
        search(study, trials)
        results["resume s"] = time.perf_counter() - began
    began = time.perf_counter()
    assert len(found.frame()) == trials
    results["frame s"] = time.perf_counter() - began
    return results


class Stopwatch:
    """The seconds in some methods of the store."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.seconds = 0.0
        self._names = names

    def __enter__(self) -> Stopwatch:
        from symnas.studies.store import Store

        self._kept = {name: getattr(Store, name) for name in self._names}
        for name, method in self._kept.items():
            setattr(Store, name, self._timed(method))
        return self

    def __exit__(self, *_: object) -> None:
        from symnas.studies.store import Store

        for name, method in self._kept.items():
            setattr(Store, name, method)

    def _timed(self, method: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def in_process(study: str | None, trials: int) -> dict[str, float]:
    """`measured`, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (study, trials))


def on_server(url: str, trials: int) -> tuple[dict[str, float], float]:
    """Results and MB of a study in a schema of its own, which is removed."""
    with postgres.schema(url) as named:
        results = in_process(named, trials)
        engine = sa.create_engine(named)
        with engine.connect() as connection:
            size = connection.exec_driver_sql("select pg_total_relation_size('trials'::regclass)")
            return results, size.scalar_one() / 1e6


def compare(trials: int, url: str | None = None) -> None:
    """Prints a line a study."""

    def show(name: str, results: dict[str, float], size: float) -> None:
        shown = ", ".join(f"{key} {value:.3g}" for key, value in results.items())
        print(f"{name}: {trials} trials, {shown}, size MB {size:.3g}", flush=True)

    show("no study", in_process(None, trials), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "study.db")
        results = in_process(str(path), trials)
        show("sqlite", results, path.stat().st_size / 1e6)
    with contextlib.ExitStack() as stack:
        if url is None:
            try:
                url = stack.enter_context(postgres.server()).url
            except Skipped as why:
                print(f"postgresql: skipped, {why}")
                return
        show("postgresql", *on_server(url, trials))


def main() -> None:
    """Compares what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--url", help="of a PostgreSQL server, instead of one of our own")
    options = parser.parse_args()
    compare(options.trials, options.url)


if __name__ == "__main__":
    main()
