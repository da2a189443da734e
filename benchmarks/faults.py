"""Injects faults into running searches, and prints what they did to them.

    python benchmarks/faults.py                          # all, five rounds each
    python benchmarks/faults.py --only driver server --rounds 50
    python benchmarks/faults.py --only driver --rounds 200 --workers 2 --algorithm asha
    python benchmarks/faults.py --out faults.md          # or faults.csv

The columns, and what is expected of them:

- injected: how often the fault was made. It hits at random moments or places, by --seed.
- trials lost: results that were recorded before it and not, or differently, after it, without an
  error that says so. 0, but for three lines: a crash of a server may undo the last results of
  trials under 0.1 s, and who removes SQLite's write-ahead log removes the results in it.
- trials repeated: evaluations of trials whose result was recorded when they began. 0.
- trajectory differs: trials that are not those of an undisturbed search with the same seed, by
  state, row, budget or score, after the same call has continued. 0.
- time to recover: from the fault (or from when the server answers, the disk has space) until the
  next trial begins; for a damaged file, until the rescued one is read and its search has ended.
  Processes are forked where they can be: add the seconds that Python takes to import torch.
- what the user sees: the message of the last time, or what takes the place of one.

The faults:
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from faulty.clocks import clock
from faulty.disks import disk_full, file_limit
from faulty.drivers import driver, drivers_postgresql, drivers_sqlite
from faulty.files import damaged, log_lost
from faulty.objectives import objectives
from faulty.servers import server_killed
from faulty.subject import ALGORITHMS, warm_up
from faulty.tally import HEADER, Fault, Setup, Skipped, Tally
from faulty.workers import processes, ray_actors
from rich.console import Console
from rich.progress import Progress

FAULTS: dict[str, Fault] = {
    "driver": driver,
    "drivers-sqlite": drivers_sqlite,
    "drivers-postgresql": drivers_postgresql,
    "worker": processes,
    "ray-worker": ray_actors,
    "server": server_killed,
    "disk-full": disk_full,
    "file-limit": file_limit,
    "damaged-file": damaged,
    "log-lost": log_lost,
    "clock": clock,
    "objectives": objectives,
}


def injected(options: argparse.Namespace) -> Iterator[Tally]:
    """The lines of the table, fault by fault."""
    with Progress(console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        total = bar.add_task("", total=options.rounds * len(options.only))
        for name in options.only:
            bar.update(total, description=name, refresh=True)

            def tick(share: float) -> None:
                bar.update(total, advance=share, refresh=True)

            # Of its own for each, for a process that died late may still write there.
            with tempfile.TemporaryDirectory(prefix="symnas-faults-") as folder:
                setup = Setup(
                    options.rounds, Path(folder), options.seed, options.algorithm,
                    options.workers, tick,
                )  # fmt: skip
                try:
                    yield from FAULTS[name](setup)
                except Skipped as why:
                    tick(options.rounds)
                    yield Tally(name, sees=f"skipped: {why}")


def write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """The table as CSV or Markdown, by the name's end."""
    with path.open("w", newline="") as file:
        if path.suffix == ".csv":
            csv.writer(file).writerows([HEADER, *rows])
            return
        for row in (HEADER, ["---"] * len(HEADER), *rows):
            file.write(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n")


def main() -> int:
    """Prints a line a fault; the exit status is 1 if any is not as expected."""
    assert __doc__ is not None
    faults = "\n".join(f"  {name:<20}{(f.__doc__ or '').strip()}" for name, f in FAULTS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}{faults}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each fault (5)")
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS),
                        metavar="NAME", help="these faults, by default all")  # fmt: skip
    parser.add_argument("--algorithm", choices=list(ALGORITHMS), default="evolution")
    parser.add_argument("--workers", type=int, default=1, help="of the fault `driver`'s (1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a .csv or .md file for the table")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds ({options.rounds}) must be at least 1")
    if options.out is not None and options.out.suffix not in (".csv", ".md"):
        parser.error(f"--out ({options.out}) must end in .csv or .md")
    warm_up()
    print(" | ".join(HEADER), flush=True)
    tallies = []
    for tally in injected(options):
        tallies.append(tally)
        print(" | ".join(tally.cells()), flush=True)
    if options.out is not None:
        write(options.out, [tally.cells() for tally in tallies])
    return int(not all(tally.good for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
