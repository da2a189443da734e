"""What each part of BigNAS does for the largest and for the smallest network of an elastic net.

    python benchmarks/bignas.py [--seeds 3] [--epochs 15] [--examples 1000] [--data mnist5k]

The net is of inverted bottlenecks in two stages: widths, depths, kernels and expansions are chosen, from
44 thousand to 928 thousand multiply-accumulates for 14 x 14 pixels. It is trained on 1,000 handwritten
digits once with all of BigNAS, and then with one part of it left out at a time:

  no sandwich      four random networks in each step, all from the labels, all regularised
  no distillation  smaller networks learn from the labels instead of from the largest network
  no zero scales   batch norms at the ends of residual branches begin at 1
  no floor         the learning rate falls to 1% of what it was, instead of staying at 5%

Shown are the accuracies of the largest and of the smallest network on digits that were not trained on,
with batch norms measured anew on training data ("recalibrated") and with those of the supernet. These
are statistics of four networks at once: what they are good for tells the part of recalibration. Numbers
are means over seeds, ± the standard error. "difference" is the mean over seeds of the smallest network's
recalibrated accuracy minus that with all of BigNAS, in percentage points: more than about twice its
standard error is more than chance.

In the paper (J. Yu et al., ECCV 2020, arXiv:2003.11142) the net has 200 to 1,000 million
multiply-accumulates and learns ImageNet for 360 epochs; what holds there need not show in 15 epochs of
small digits. With --data digits, 8 x 8 digits of scikit-learn are used, enlarged to 14 x 14.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from symnas.algorithms.bignas import BigNAS
from symnas.spaces.mobilenet import Stage, mobilenet

import symnas as sn
from symnas import data
from symnas.oneshot.training import Training
from symnas.supernet.extremes import extremes

SIDE = 14
VARIANTS = {
    "BigNAS": {},
    "no sandwich": {"sandwich": False},
    "no distillation": {"distill": False},
    "no zero scales": {"zero_gamma": False},
    "no floor": {"floor": 0.0},
}
# Of one training: accuracies of (recalibrated, not) x (largest, smallest).
KINDS = [(again, size) for again in (True, False) for size in ("largest", "smallest")]


def elastic_net() -> sn.Space:
    common = {"depths": [1, 2, 3], "kernels": [3, 5], "expansions": [2, 4], "squeeze": [False]}
    stages = [Stage([8, 12, 16], **common), Stage([16, 24, 32], stride=2, **common)]
    return mobilenet(stages, stem=8, head=32, resolution=SIDE, in_channels=1)


def task_of(name: str, examples: int, epochs: int) -> sn.Task:
    """The first so many digits to train on, and the test data to measure on."""
    found = getattr(data, name)()
    (x, y), (u, v) = found.train, found.test
    x, u = (torch.nn.functional.interpolate(i, (SIDE, SIDE), mode="area") for i in (x, u))
    return sn.Task(
        (x[:examples], y[:examples]), validation=(u, v), epochs=epochs, batch_size=64,
        optimizer="sgd", lr=0.3, weight_decay=1e-4,
    )  # fmt: skip


def accuracies(space: sn.Space, algorithm: BigNAS, task: sn.Task, seed: int) -> list[float]:
    """In percent, in the order of `KINDS`."""
    run = algorithm.start(sn.Problem(space, [sn.Objective("accuracy", "maximize")], seed=seed))
    with tempfile.TemporaryDirectory() as folder:
        Training(run, task, Path(folder), lambda *_: None)()
    smallest, largest = extremes(space)
    rows = {"largest": largest, "smallest": smallest}
    return [
        100 * run.workshop.measured(rows[size], **({} if again else {"recalibrate": 0}))["accuracy"]
        for again, size in KINDS
    ]


def shown(values: np.ndarray, sign: str = "") -> str:
    """The mean of values `(seeds,)`, and its standard error."""
    if len(values) == 1:
        return f"{values[0]:{sign}.1f}"
    return f"{values.mean():{sign}.1f} ± {values.std(ddof=1) / np.sqrt(len(values)):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each variant")
    parser.add_argument("--epochs", type=int, default=15, help="of each training")
    parser.add_argument("--examples", type=int, default=1000, help="to train on")
    parser.add_argument("--data", choices=("mnist5k", "digits"), default="mnist5k")
    options = parser.parse_args()
    torch.set_num_threads(1)
    space, task = elastic_net(), task_of(options.data, options.examples, options.epochs)
    console = Console(width=110, highlight=False)
    seconds: dict[str, float] = {}
    cases = [(name, seed) for name in VARIANTS for seed in range(options.seeds)]
    found: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    for name, seed in track(cases, "trainings", transient=True):
        clock = time.perf_counter()
        algorithm = BigNAS(epochs=options.epochs, coarse=1, fine=0, **VARIANTS[name])
        found[name].append(accuracies(space, algorithm, task, seed))
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - clock
    results = {name: np.array(runs) for name, runs in found.items()}
    table = Table(
        title=f"Parts of BigNAS: {options.epochs} epochs on {options.examples} digits "
        f"({options.data}), {options.seeds} seeds; accuracy in %"
    )
    table.add_column("variant")
    for again, size in KINDS:
        table.add_column(f"{size},\n{'recalibrated' if again else 'not'}", justify="right")
    table.add_column("difference,\nsmallest", justify="right")
    table.add_column("s", justify="right")
    best = KINDS.index((True, "smallest"))
    for name, runs in results.items():
        less = runs[:, best] - results["BigNAS"][:, best]
        table.add_row(
            name, *map(shown, runs.T), "" if name == "BigNAS" else shown(less, "+"),
            f"{seconds[name] / options.seeds:.0f}",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
