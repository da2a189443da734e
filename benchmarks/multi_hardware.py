"""One network for four devices, against the best network of each: on NAS-Bench-201.

    python benchmarks/multi_hardware.py [--seeds 20] [--trials 200] [--quantile 0.2] [--data ../shared/data]

Chu et al. 2020, "Discovering Multi-Hardware Mobile Models via Architecture Search" (arXiv:2008.08178):
latencies relative to a reference, their mean or their largest as one cost. Here each is a limit, kept
by construction: at most the reference on one device, on the mean of four, or on the worst of four. The
reference on a device is a quantile of its latencies over all cells, so that limits are equally tight.
Accuracies are those after 12 epochs on CIFAR-10. Means and standard errors over seeds; `broken` is the
share of networks that are slower than the reference on some device.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import symnas as sn
from symnas import algorithms as alg
from symnas import benchmark
from symnas import cost_models as cm

DEVICES = ("raspi4", "pixel3", "1080ti_1", "eyeriss")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("SYMNAS_DATA", "../shared/data")
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--quantile", type=float, default=0.2, help="of latencies: the reference")
    options = parser.parse_args()

    known = benchmark.readers.nasbench201(Path(options.data) / "nasbench201")
    rows = known.everything()
    assert rows is not None
    costs = {device: known.cost(f"latency:{device}") for device in DEVICES}
    bound = {device: cost.bind(known.space) for device, cost in costs.items()}
    reference = [float(np.quantile(bound[d](rows), options.quantile)) for d in DEVICES]
    limits = {f"{d} alone": costs[d] <= r for d, r in zip(DEVICES, reference, strict=True)}
    for reduce in ("mean", "max"):
        shared = cm.MultiHardware(list(costs.values()), reduce, reference=reference)
        limits[f"{'mean' if reduce == 'mean' else 'worst'} of four"] = shared <= 1.0

    table = Table(
        title=f"{options.trials} trials of evolution, {options.seeds} seeds: latency / reference"
    )
    for column in ("limit", "accuracy", *DEVICES, "mean", "worst", "broken"):
        table.add_column(column, justify="left" if column == "limit" else "right")
    for name, limit in limits.items():
        found = []
        for seed in range(options.seeds):
            study = sn.search(
                known.space, alg.RegularizedEvolution(), known.task(), maximize="val_accuracy",
                subject_to=[limit], trials=options.trials, seed=seed, progress=False,
            )  # fmt: skip
            row = np.array([study.best.row])
            relative = [bound[d](row)[0] / r for d, r in zip(DEVICES, reference, strict=True)]
            found.append([study.best.metrics["val_accuracy"], *relative])
        values = np.array(found)
        mean, worst = values[:, 1:].mean(axis=1), values[:, 1:].max(axis=1)
        numbers = np.column_stack([values, mean, worst])
        errors = numbers.std(axis=0, ddof=1) / np.sqrt(len(numbers)) if len(numbers) > 1 else None
        cells = [f"{m:.2f}" for m in numbers.mean(axis=0)]
        if errors is not None:
            cells[0] += f" ± {errors[0]:.2f}"
        table.add_row(name, *cells, f"{(worst > 1 + 1e-9).mean():.0%}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
