"""Whether DARTS ends in skip connections, and what the counter-measures do about it.

    python benchmarks/collapse.py [--space chain] [--seeds 3] [--epochs 100] [--only DARTS "drops skips"]

On 1,000 handwritten digits (16 x 16), 8 channels, in one of two spaces: a chain of ten layers, each a skip
connection or a 1 x 1 or 3 x 3 convolution; or the cell of NAS-Bench-201, one a stage. Shown are, for DARTS
and its variants, the mean numbers of skip connections, of convolutions and of zeros in the derived network,
and its accuracy when it is trained alone; of cells also the ranks in the table of 12 epochs on CIFAR-10
(`nasbench201/accuracy_12_epochs.csv.gz` in the folder named by --data or $SYMNAS_DATA), if it is there.
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
from symnas.spaces.nasbench201 import ReLUConvBN, nasbench201, to_string

import symnas as sn
from symnas import algorithms as alg

LINE = "{:<20} {:>6} {:>13} {:>6} {:>15} {:>5}  {}"
ALONE = 12  # epochs of a derived network

# The kinds of candidates, in the order of their values.
KINDS = {
    "chain": ("skip", "convolution", "convolution"),
    "cells": ("none", "skip", "convolution", "convolution", "pooling"),
}


def chain(layers: int = 10) -> sn.Space:
    nn = sn.nn
    kinds = [nn.Identity(), *(sn.spec(ReLUConvBN, 8, 8, size) for size in (1, 3))]
    return sn.Space(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            *[sn.oneof(kinds) for _ in range(layers)],
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 10),
        ),
        input=(3, 16, 16),
    )


def space_named(name: str) -> sn.Space:
    if name == "chain":
        return chain()
    return nasbench201(channels=8, cells=1, resolution=16, canonical=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(__file__).parents[1]
    default = Path(os.environ.get("SYMNAS_DATA", root.parent / "shared" / "data"))
    parser.add_argument("--space", choices=KINDS, default="chain")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant")
    parser.add_argument("--epochs", type=int, default=100, help="of each run")
    parser.add_argument("--data", type=Path, default=default, help="the folder of the tables")
    parser.add_argument("--only", nargs="*", help="names of variants")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)
    space, task = space_named(options.space), task_of(ALONE, 1000)
    kinds = np.array(KINDS[options.space])
    given = {"epochs": options.epochs, "logits_lr": 0.02}
    variants = {
        "DARTS": alg.DARTS(**given),
        "warm-up of 5 epochs": alg.DARTS(**given, warmup=5),
        "second order": alg.DARTS(**given, order=2),
        "stops at 2 skips": alg.DARTS(**given, stop_free=2),
        "drops skips": alg.DARTS(**given, skip_dropout=0.5),
        "GDAS": alg.GDAS(**given),
    }
    places = ranks(options.data) if options.space == "cells" else {}
    print(
        f"{options.space}: {len(space)} decisions, {options.epochs} epochs, {options.seeds} seeds"
    )
    print(LINE.format("variant", "skips", "convolutions", "none", "accuracy alone", "s", "ranks"))
    for name in options.only or variants:
        rows, alone, seconds = [], [], []
        for seed in range(options.seeds):
            clock = time.perf_counter()
            run, _, _ = trained(space, variants[name], task, seed)
            rows.append(run.derive(1)[0])
            seconds.append(time.perf_counter() - clock)
            torch.manual_seed(seed)
            alone.append(task.fit(space.decode(rows[-1]).build(), seed=seed)["accuracy"])
        found = kinds[np.array(rows)]
        told = [
            f"{(found == kind).sum(axis=1).mean():.1f}" for kind in ("skip", "convolution", "none")
        ]
        error = np.std(alone, ddof=1) / len(alone) ** 0.5 if len(alone) > 1 else np.nan
        cells = [f"{places[to_string(row)]:,}" for row in rows] if places else []
        accuracy = f"{np.mean(alone):.3f} ± {error:.3f}"
        taken = f"{np.mean(seconds):.0f}"
        print(LINE.format(name, *told, accuracy, taken, "  ".join(cells)), flush=True)


if __name__ == "__main__":
    main()
