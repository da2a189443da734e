"""Accuracy against latency on tables: hypervolume by evaluations, beside Optuna, PyGlove and pymoo.

On NAS-Bench-201 (arXiv:2001.00326), CIFAR-10 validation accuracy after 12 epochs and latency on a
Raspberry Pi 4; on the surrogate of Accel-NASBench (arXiv:2404.08005), accuracy on ImageNet and
latency on a ZCU102. Their files are not part of symnas:

    python benchmarks/hypervolume.py --data ../shared/data --seeds 20 --workers 2 --out results/

What is told is the hypervolume that the evaluations reach, as a share of the true front's; on
Accel-NASBench, whose 10^11 networks nobody can list, of the front of all that any search of the
comparison found, so that other contenders or seeds change the numbers there. The reference point is
the worst of each objective: in the table, or else among all that was found. The settings of NSGA2
were chosen on NAS-Bench-201 and Accel-NASBench, so its row is somewhat better than on unseen tables.

symnas evaluates nothing twice. Other libraries may, and each counts. Called again with the same
`--out`, only what is missing is done.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from symnas import benchmark
from symnas.commands.benchmark import find_contender, find_table
from symnas.commands.find import UsageError

OBJECTIVES = {
    "nasbench201": ("val_accuracy", "latency:raspi4"),
    "accel_nasbench": ("val_top1", "latency:zcu102"),
}
CONTENDERS = (
    "NSGA2",
    "BayesianOptimization",
    "LocalSearch",
    "RegularizedEvolution",
    "RandomSearch",
    "Optuna",  # TPE, kept from repeating itself
    "peer:pymoo-nsga2",  # 100 at once, as pymoo has it
    "peer:pymoo-nsga2:pop_size=20",
    "peer:optuna-nsga2",
    "peer:optuna-tpe",
    "peer:pyglove-nsga2",
)
CHECKPOINTS = (50, 100, 200, 500)


def shares(found: benchmark.Comparison, algorithm: str, table: str, at: Any = None) -> Any:
    """Hypervolumes as shares of the best that is known: `(seeds, checkpoints)`."""
    return 1 - found.regrets(algorithm, table, at) / found.yardsticks[table].top


def show(found: benchmark.Comparison, table: str) -> None:
    """Prints shares in percent at the checkpoints."""
    from rich.console import Console
    from rich.table import Table

    yardstick = found.yardsticks[table]
    whose = "the true front's" if yardstick.known else "that of the front of all found here"
    worst = ", ".join(f"{value:g}" for value in yardstick.signs * yardstick.worst)
    objectives = " and ".join(found.setups[table].objectives)
    title = f"{table}, {objectives}: hypervolume, % of {whose}, ± standard error"
    printed = Table(title=title, caption=f"Reference point: {worst}")
    printed.add_column("algorithm", no_wrap=True)
    for checkpoint in found.checkpoints:
        printed.add_column(f"{checkpoint:g}", justify="right")
    for name in ("distinct", "ms", "seeds"):
        printed.add_column(name, justify="right")
    summary = found.summary().groupby("algorithm").last()
    for algorithm in found.algorithms:
        reached = 100 * shares(found, algorithm, table)
        if not len(reached):
            continue
        mean, n = reached.mean(axis=0), len(reached)
        error = reached.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(len(mean), np.nan)
        line = summary.loc[algorithm]
        printed.add_row(
            algorithm,
            *(f"{m:.2f} ± {e:.2f}" for m, e in zip(mean, error, strict=True)),
            f"{line['distinct']:.2f}",
            f"{line['ms']:.1f}",
            str(n),
        )
    Console(width=max(120, Console().width)).print(printed)


def main() -> None:
    """Runs what is missing, prints a table for each benchmark and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("SYMNAS_DATA", str(default)))
    )
    parser.add_argument("--tables", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--algorithms", nargs="+", default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path("hypervolume"), help="folder of results")
    given = parser.parse_args()
    failed = 0
    try:
        contenders = {name: find_contender(name) for name in given.algorithms}
        tables = {name: find_table(name, given.data, None) for name in given.tables}
    except (UsageError, OSError, ValueError) as error:
        sys.exit(str(error))
    for name, table in tables.items():
        found = benchmark.compare(
            contenders,
            {name: table},
            seeds=given.seeds,
            evaluations=given.evaluations,
            checkpoints=[*(c for c in CHECKPOINTS if c < given.evaluations), given.evaluations],
            objectives=OBJECTIVES[name],
            workers=given.workers,
            folder=given.out,
        )
        failed += len(found.failures)
        for (algorithm, _, seed), reason in found.failures.items():
            print(f"{algorithm} (seed {seed}) failed: {reason}", file=sys.stderr)
        if not found.records:
            continue
        show(found, name)
        for path in found.save(given.out / name):
            print(f"Written: {path}")
    if failed:
        sys.exit(f"{failed} searches failed.")


if __name__ == "__main__":
    main()
