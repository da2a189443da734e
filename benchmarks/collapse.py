"""Whether DARTS ends in skip connections, and what the counter-measures do about it.

    python benchmarks/collapse.py [--seeds 3] [--epochs 25] [--only DARTS "drops skips"] [--data ../shared/data]

The cells of NAS-Bench-201 in a network of 8 channels with one cell a stage, on 1,000 handwritten digits
(16 x 16). Shown are, for DARTS and its variants, the mean number of skip connections and of convolutions
among the six edges of the derived cell, and the ranks of the derived cells in the table of 12 epochs on
CIFAR-10 (`nasbench201/accuracy_12_epochs.csv.gz` in the folder named by --data or $SYMNAS_DATA), if it is
there.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from rank_correlation import ranks, task_of, trained
from rich.console import Console
from rich.progress import track
from rich.table import Table
from symnas.spaces.nasbench201 import OPERATIONS, nasbench201, to_string

from symnas import algorithms as alg

SKIP = OPERATIONS.index("skip_connect")
CONVOLUTIONS = [i for i, name in enumerate(OPERATIONS) if "conv" in name]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(__file__).parents[1]
    default = Path(os.environ.get("SYMNAS_DATA", root.parent / "shared" / "data"))
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant")
    parser.add_argument("--epochs", type=int, default=25, help="of each run")
    parser.add_argument("--data", type=Path, default=default, help="the folder of the tables")
    parser.add_argument("--only", nargs="*", help="names of variants")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)
    space = nasbench201(channels=8, cells=1, resolution=16, canonical=False)
    task = task_of(1, 1000)
    given = {"epochs": options.epochs, "logits_lr": 0.02}
    variants = {
        "DARTS": alg.DARTS(**given),
        "warm-up of 5 epochs": alg.DARTS(**given, warmup=5),
        "second order": alg.DARTS(**given, order=2),
        "stops at 2 skips": alg.DARTS(**given, stop_free=2),
        "drops skips": alg.DARTS(**given, skip_dropout=0.5),
        "GDAS": alg.GDAS(**given),
    }
    places = ranks(options.data)
    table = Table(title=f"{options.epochs} epochs, {options.seeds} seeds")
    for column in ("variant", "skips of 6", "convolutions", "none", "ranks", "seconds"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name in options.only or variants:
        algorithm = variants[name]
        cells, seconds = [], []
        for seed in track(range(options.seeds), name, transient=True):
            clock = time.perf_counter()
            run, _, _ = trained(space, algorithm, task, seed)
            cells.append(run.derive(1)[0])
            seconds.append(time.perf_counter() - clock)
        found = np.array(cells)
        table.add_row(
            name, f"{(found == SKIP).sum(axis=1).mean():.1f}",
            f"{np.isin(found, CONVOLUTIONS).sum(axis=1).mean():.1f}",
            f"{(found == 0).sum(axis=1).mean():.1f}",
            ", ".join(f"{places[to_string(cell)]:,}" for cell in cells) if places else "",
            f"{np.mean(seconds):.0f}",
        )  # fmt: skip
    Console(width=100, highlight=False).print(table)


if __name__ == "__main__":
    main()
