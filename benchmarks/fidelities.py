"""Two fidelities on NAS-Bench-201: regret after 200 epochs, by the epochs that a search has spent.

Dong and Yang 2020, "NAS-Bench-201" (arXiv 2001.00326), CIFAR-10: validation accuracy after 12
epochs and test accuracy after 200, looked up in tables that are not part of symnas (Spearman
correlation of the two: 0.87). They are of separate trainings, each with its own schedule, so an
architecture that is promoted costs 12 + 200 epochs.

    python benchmarks/fidelities.py --seeds 50 --data ../shared/data

One of 16 is promoted (200 / 12), which is the default for such budgets; "1/3" promotes one of 3.

Regret is the best accuracy of the table after 200 epochs, minus that of what `study.best` would
be: the best at the highest budget that was reached. The search sees the very accuracy that it is
judged by, as the table has one only. With several workers, a trial takes as long as its epochs,
and proposals and results come in the order of `sn.search` (see `symnas.searching.order`); compared
are the same epochs in total, so in a fourth of the time for four workers.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import json
import os
import sys
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray
from symnas.algorithms.asha import ASHA
from symnas.algorithms.successive_halving import SuccessiveHalving
from symnas.spaces.nasbench201 import from_string, nasbench201

import symnas as sn
from symnas import algorithms as alg
from symnas.searching.order import Order

LOW, HIGH = 12, 200
COLUMNS = {LOW: "cifar10_val", HIGH: "test_cifar10"}
SPENT = (1000, 2000, 4000, 8000)  # epochs

RANDOM, EVOLUTION = alg.RandomSearch(), alg.RegularizedEvolution()
BUDGETS = (LOW, HIGH)


@attrs.frozen
class Plain:
    """A search at one budget; at the lower, its best is trained for long in the end."""

    algorithm: sn.Algorithm
    budget: int = HIGH

    @property
    def budgets(self) -> tuple[float, ...]:
        """Of its trials."""
        return (self.budget,)

    def start(self, problem: sn.Problem) -> sn.Run:
        """A run of the algorithm."""
        return self.algorithm.start(problem)


METHODS: dict[str, Plain | sn.Algorithm] = {
    "RandomSearch, 200 epochs": Plain(RANDOM),
    "RegularizedEvolution, 200 epochs": Plain(EVOLUTION),
    "RandomSearch, 12 epochs, best at 200": Plain(RANDOM, LOW),
    "RegularizedEvolution, 12 epochs, best at 200": Plain(EVOLUTION, LOW),
    "SuccessiveHalving(RandomSearch)": SuccessiveHalving(RANDOM, BUDGETS),
    "SuccessiveHalving(RegularizedEvolution)": SuccessiveHalving(EVOLUTION, BUDGETS),
    "ASHA(RandomSearch)": ASHA(RANDOM, BUDGETS),
    "ASHA(RegularizedEvolution)": ASHA(EVOLUTION, BUDGETS),
    "SuccessiveHalving(RegularizedEvolution), 1/3": SuccessiveHalving(
        EVOLUTION, BUDGETS, 1 / 3, size=27
    ),
    "ASHA(RegularizedEvolution), 1/3": ASHA(EVOLUTION, BUDGETS, 3),
}


@functools.cache
def tables(data: str) -> tuple[sn.Space, dict[float, NDArray[np.float64]]]:
    """The space, and accuracies in percent by epochs: one axis a decision, `(5, 5, 5, 5, 5, 5)`."""
    found = {}
    for epochs, column in COLUMNS.items():
        accuracy = np.full((5,) * 6, np.nan)
        path = Path(data) / "nasbench201" / f"accuracy_{epochs}_epochs.csv.gz"
        with gzip.open(path, "rt", newline="") as file:
            for record in csv.DictReader(file):
                accuracy[from_string(record["arch"])] = float(record[column])
        if np.isnan(accuracy).any():
            raise ValueError(f"{path} lacks {int(np.isnan(accuracy).sum())} of 15,625 cells.")
        found[float(epochs)] = accuracy
    return nasbench201(channels=4, cells=1), found


def search(
    method: Plain | sn.Algorithm, seed: int, data: str, workers: int = 1, most: int = max(SPENT)
) -> list[float]:
    """One search: the regrets when so many epochs were spent in all."""
    space, accuracy = tables(data)
    problem = sn.Problem(space, [sn.Objective("accuracy", "maximize")], seed=seed)
    run = method.start(problem)
    order = Order()
    ended: list[tuple[float, float, float, int]] = []  # when, budget, score, number
    rows: list[NDArray[np.int32]] = []
    levels: list[float] = []

    def tell() -> None:
        number = order.next()
        score = float(accuracy[levels[number]][tuple(rows[number][0])])
        ended.append((order.now, levels[number], score, number))
        run.tell(rows[number], np.array([[score]]))

    while order.now * workers < most:
        while len(order) >= workers:
            tell()
        asked = run.ask(1)
        while not len(asked) and len(order):
            tell()
            asked = run.ask(1)
        if not len(asked):
            break
        rows.append(asked)
        levels.append(float(next(reversed(problem.budgets_of(asked[0])), method.budgets[0])))
        order.begin(len(rows) - 1, levels[-1])
    while len(order):
        tell()
    regrets = []
    for spent in (s for s in SPENT if s <= most):
        last = HIGH if method.budgets[-1] == LOW else 0  # to train what was found
        known = [entry for entry in ended if entry[0] <= spent / workers - last]
        best = max(known, key=lambda entry: entry[1:3])
        final = accuracy[float(HIGH)]
        regrets.append(float(final.max() - final[tuple(rows[best[3]][0])]))
    return regrets


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", default=os.environ.get("SYMNAS_DATA", str(default)))
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 4], help="simulated ones")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), metavar="NAME")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    unknown = set(arguments.methods) - set(METHODS)
    if unknown:
        parser.error(f"--methods {sorted(unknown)} must be among {', '.join(METHODS)}")
    missing = [
        name
        for name in (f"accuracy_{epochs}_epochs.csv.gz" for epochs in COLUMNS)
        if not (Path(arguments.data) / "nasbench201" / name).exists()
    ]
    if missing:
        sys.exit(
            f"nasbench201/{missing[0]} is not in {arguments.data}. It is part of no package: pass "
            "the folder that holds it with --data or in SYMNAS_DATA."
        )
    results: dict[str, dict[str, list[list[float]]]] = {}
    for workers in arguments.workers:
        print(f"\n{workers} worker(s), {arguments.seeds} seeds: mean regret after epochs in total")
        print(f"{'':46}" + "".join(f"{spent:>15,}" for spent in SPENT))
        for name in arguments.methods:
            regrets = np.array(
                [
                    search(METHODS[name], seed, arguments.data, workers)
                    for seed in range(arguments.seeds)
                ]
            )
            error = regrets.std(axis=0, ddof=1) / np.sqrt(len(regrets))
            cells = [f"{m:.2f} ± {e:.2f}" for m, e in zip(regrets.mean(axis=0), error, strict=True)]
            print(f"{name:46}" + "".join(f"{cell:>15}" for cell in cells), flush=True)
            results.setdefault(str(workers), {})[name] = regrets.tolist()
    if arguments.json:
        arguments.json.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
