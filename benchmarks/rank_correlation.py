"""How well accuracy with shared weights ranks networks that are trained alone.

    python benchmarks/rank_correlation.py [--seeds 3] [--networks 30] [--epochs 20 100] [--data ../shared/data]

Two spaces on 1,000 handwritten digits (16 x 16): the cells of NAS-Bench-201 in a network of 8
channels, one cell a stage; and mobile blocks with kernels, expansions and depths. Random networks are
trained alone, --repeats times each; how well one such training ranks them as another does bounds what
can be hoped for. Then a supernet is trained by each algorithm, with both kinds of sharing, and the same
networks are measured with its weights, batch norms recalibrated: shown is Kendall's rank correlation with
the mean accuracy alone, mean and standard error over seeds, as each line is done. (All operations of
NAS-Bench-201 have weights of their own, so there both kinds of sharing are the same.)

For NAS-Bench-201 the cell that each algorithm derives is looked up in the table of 12 epochs on CIFAR-10,
if it is there (`nasbench201/accuracy_12_epochs.csv.gz` in the folder named by --data or $SYMNAS_DATA):
its rank among all 15,625 cells, beside the mean rank of random cells.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import sys
import tempfile
import time
from itertools import combinations, product
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from rich.progress import track
from scipy.stats import kendalltau
from symnas.spaces import Stage, mobilenet
from symnas.spaces.nasbench201 import nasbench201, to_string

import symnas as sn
from symnas import algorithms as alg
from symnas import data
from symnas.oneshot.training import Training
from symnas.searching.setting import Setting

LINE = "{:<14} {:<13} {:>6}  {:<10} {:>12} {:>5}  {}"
QUIET = not sys.stdout.isatty()
SHARING = {"NAS-Bench-201": ("entangled",), "mobile blocks": ("entangled", "separate")}


def spaces() -> dict[str, sn.Space]:
    stages = [
        Stage([16], [1, 2], 1, (3, 5), (3, 6), (False,)),
        Stage([24], [1, 2, 3], 2, (3, 5), (3, 6), (False,)),
    ]
    return {
        "NAS-Bench-201": nasbench201(channels=8, cells=1, resolution=16, canonical=False),
        "mobile blocks": mobilenet(stages, 8, 48, resolution=16, in_channels=3),
    }


def task_of(epochs: int, examples: int = 1000) -> sn.Task:
    """Few examples to train on, for networks to differ; many to measure on, for little noise."""
    x, y = data.mnist5k().train
    x = torch.nn.functional.interpolate(x, size=16, mode="bilinear", antialias=True)
    x = x.expand(-1, 3, -1, -1).contiguous()
    held_out = (x[2000:], y[2000:])
    return sn.Task((x[:examples], y[:examples]), held_out, epochs=epochs, lr=5e-3)


def alone(space: sn.Space, rows: np.ndarray, task: sn.Task, repeats: int) -> np.ndarray:
    """Accuracies of networks that are trained alone, `(rows, repeats)`."""
    found = np.zeros((len(rows), repeats))
    for index, row in enumerate(track(rows, f"{space.name}, alone", transient=True, disable=QUIET)):
        for repeat in range(repeats):
            torch.manual_seed(repeat)
            model = space.decode(row).build()
            found[index, repeat] = task.fit(model, seed=repeat)["accuracy"]
    return found


def trained(space: sn.Space, algorithm: Any, task: sn.Task, seed: int) -> tuple[Any, Any, float]:
    """The run of a one-shot algorithm after its training, its workshop, and the seconds."""
    setting = Setting.of(space, algorithm, task, maximize="accuracy", minimize=None, seed=seed)
    run = algorithm.start(setting.problem())
    clock = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        Training(run, task, Path(folder), lambda *_: None)()
    return run, run.workshop, time.perf_counter() - clock


def ranks(path: Path) -> dict[str, int]:
    """The rank of each cell by its accuracy on CIFAR-10 after 12 epochs; empty without the table."""
    table = path / "nasbench201" / "accuracy_12_epochs.csv.gz"
    if not table.exists():
        return {}
    with gzip.open(table, "rt", newline="") as file:
        accuracy = {r["arch"]: float(r["cifar10_test"]) for r in csv.DictReader(file)}
    order = sorted(accuracy, key=lambda cell: -accuracy[cell])
    return {cell: rank for rank, cell in enumerate(order, start=1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(__file__).parents[1]
    default = Path(os.environ.get("SYMNAS_DATA", root.parent / "shared" / "data"))
    parser.add_argument("--seeds", type=int, default=3, help="supernets of each kind")
    parser.add_argument("--networks", type=int, default=30, help="networks that are trained alone")
    parser.add_argument("--epochs", type=int, nargs="+", default=[20], help="of a supernet")
    parser.add_argument("--spaces", nargs="*", choices=SHARING, default=list(SHARING))
    parser.add_argument("--alone", type=int, default=6, help="epochs of a network alone")
    parser.add_argument("--repeats", type=int, default=2, help="trainings of each network alone")
    parser.add_argument("--data", type=Path, default=default, help="the folder of the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = task_of(options.alone)
    algorithms: dict[str, Any] = {
        "uniform path": alg.SinglePathOneShot(population=10, generations=4),
        "TuNAS": alg.TuNAS(),
        "DARTS": alg.DARTS(),
    }
    places = ranks(options.data)
    print(f"{options.networks} networks, supernets of {options.seeds} seeds")
    print(LINE.format("space", "training", "epochs", "sharing", "tau", "s", "ranks of derived"))
    for name in options.spaces:
        space = spaces()[name]
        rows = space.sample(options.networks, 11)
        clock = time.perf_counter()
        truth = alone(space, rows, task, options.repeats)
        pairs = list(combinations(truth.T, 2))
        again = np.mean([kendalltau(*pair).statistic for pair in pairs]) if pairs else np.nan
        seconds = (time.perf_counter() - clock) / truth.size
        print(
            LINE.format(
                name, "alone, again", options.alone, "", f"{again:.2f}", f"{seconds:.0f}", ""
            ),
            flush=True,
        )
        for label, algorithm in algorithms.items():
            for epochs, sharing in product(options.epochs, SHARING[name]):
                changed = attrs.evolve(algorithm, sharing=sharing, epochs=epochs)
                taus, times, derived = [], [], []
                for seed in track(
                    range(options.seeds), f"{name}, {label}", transient=True, disable=QUIET
                ):
                    run, shop, took = trained(space, changed, task, seed)
                    shared = [shop.quality(shop.measured(row)) for row in rows]
                    taus.append(kendalltau(truth.mean(axis=1), shared).statistic)
                    times.append(took)
                    if name == "NAS-Bench-201" and places:
                        derived.append(f"{places[to_string(run.derive(1)[0])]:,}")
                error = np.std(taus, ddof=1) / len(taus) ** 0.5 if len(taus) > 1 else np.nan
                tau, taken = f"{np.mean(taus):.2f} ± {error:.2f}", f"{np.mean(times):.0f}"
                print(
                    LINE.format(name, label, epochs, sharing, tau, taken, "  ".join(derived)),
                    flush=True,
                )
    if places:
        mean = np.mean(list(places.values()))
        print(f"A random cell has the mean rank {mean:,.0f} of {len(places):,}.")


if __name__ == "__main__":
    main()
