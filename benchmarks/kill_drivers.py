"""Kills the drivers of a shared search at random moments, and compares it with one left in peace.

    python benchmarks/kill_drivers.py --kills 100
    python benchmarks/kill_drivers.py --kills 100 --url postgresql+psycopg://user:password@host/db

Several forked drivers share a search; one of them, any, gets SIGKILL at a random time and another
takes its place, so many times. Printed at the end, and 0 each if all is well:

- lost: results that were recorded before a kill and not, or differently, after it;
- repeated: evaluations of trials whose result had been recorded when they began, and of open trials
  more often than drivers were killed;
- differing: trials that are not those of one undisturbed driver, by row, budget or score.

The URL names a database of which a schema of its own is used, and removed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
import torch
from kill import ALGORITHMS, finished, space

import symnas as sn
from symnas import algorithms as alg


class Task:
    """Scores a row with noise, and appends the trial's number to a file."""

    def __init__(self, log: Path, seconds: float) -> None:
        self.log = log
        self.seconds = seconds

    def describe(self) -> dict[str, object]:
        """The same task, wherever it writes."""
        return {}

    def evaluate(self, architecture: sn.Architecture, trial: object) -> float:
        """As the task of kill.py."""
        with open(self.log, "a") as file:
            file.write(f"{trial.number}\n")  # type: ignore[attr-defined]
        time.sleep(self.seconds)
        assert architecture.row is not None
        noise = float(torch.rand(()))  # from the trial's seed: a repetition would show
        return sum((i + 1) * value for i, value in enumerate(architecture.row)) + noise


def search(study: str | None, task: Task, options: argparse.Namespace, drivers: int) -> sn.Study:
    """The call that all drivers make."""
    return sn.search(
        space(), ALGORITHMS[options.algorithm], task, maximize="score", trials=options.trials,
        study=study, drivers=drivers, ahead=options.drivers, progress=False,
    )  # fmt: skip


def began(log: Path) -> list[int]:
    """The numbers of the trials that were begun, in order."""
    return list(map(int, log.read_text().split())) if log.exists() else []


def start(study: str, task: Task, options: argparse.Namespace) -> int:
    """A driver in a fork; its process number."""
    child = os.fork()
    if child == 0:
        try:
            search(study, task, options, options.drivers)
        except BaseException as error:
            print("driver:", error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


@contextlib.contextmanager
def place(url: str | None, folder: str) -> Iterator[str]:
    """Where the study is kept."""
    if url is None:
        yield str(Path(folder, "shared.db"))
        return
    schema = f"symnas_{secrets.token_hex(4)}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"create schema {schema}")
    named = sa.make_url(url).update_query_dict({"options": f"-csearch_path={schema}"})
    try:
        yield named.render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"drop schema {schema} cascade")


def main() -> int:
    """Runs the comparison; the exit status is 1 if anything was lost, repeated or differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--drivers", type=int, default=3)
    parser.add_argument("--trials", type=int, default=None, help="by default 10 a kill")
    parser.add_argument("--seconds", type=float, default=0.02, help="a trial takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--algorithm", choices=list(ALGORITHMS), default="evolution")
    parser.add_argument("--url", help="of a PostgreSQL server; by default a SQLite file")
    options = parser.parse_args()
    options.trials = options.trials or 10 * options.kills
    rng = random.Random(options.seed)
    # What takes long is done before the forks, so that kills hit the search and not its imports.
    sn.search(
        space(), alg.RandomSearch(), lambda a: 0.0, maximize="score", trials=1, progress=False
    )
    with tempfile.TemporaryDirectory() as folder, place(options.url, folder) as study:
        os.chdir(folder)
        task = Task(Path(folder, "log"), options.seconds)
        running = [start(study, task, options) for _ in range(options.drivers)]
        known: dict[int, object] = {}
        kills = lost = repeated = read = 0
        for _ in range(options.kills):
            time.sleep(rng.uniform(0.0, 10 * options.seconds))
            victim = running.pop(rng.randrange(len(running)))
            os.kill(victim, signal.SIGKILL)
            kills += os.WIFSIGNALED(os.waitpid(victim, 0)[1])
            repeated += sum(number in known for number in began(task.log)[read:])
            now = finished(study)  # type: ignore[arg-type]
            lost += sum(now.get(number) != result for number, result in known.items())
            known, read = now, len(began(task.log))
            running.append(start(study, task, options))
        failed = sum(os.waitpid(process, 0)[1] != 0 for process in running)
        evaluations = began(task.log)
        repeated += sum(number in known for number in evaluations[read:])
        repeated += max(0, len(evaluations) - options.trials - kills)
        shared = finished(study)  # type: ignore[arg-type]
        calm = search(None, Task(Path(folder, "calm"), 0.0), options, 1)
        alone = {t.number: (t.row, t.budget, t.scores) for t in calm.trials}
        differing = sum(shared.get(n) != alone.get(n) for n in range(options.trials))
    print(
        f"kills {kills}, trials {options.trials}, evaluations {len(evaluations)}, "
        f"lost {lost}, repeated {repeated}, differing {differing}, failed drivers {failed}"
    )
    return int(bool(lost or repeated or differing or failed))


if __name__ == "__main__":
    sys.exit(main())
