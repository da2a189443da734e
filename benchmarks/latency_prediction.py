"""Learning the latency of NAS-Bench-201 cells on 20 devices, from few samples.

    python benchmarks/latency_prediction.py [--seeds 3] [--data ../shared/data]

Latencies of all 15,625 cells are looked up in a table that is no part of symnas
(`nasbench201/latency_ms.csv.gz` in the folder named by --data or $SYMNAS_DATA). `cm.Learned` is
fitted to random cells of a device; the error is the mean relative error on all cells that it has not
seen. Then a device is adapted from the 19 others (each learned from 900 cells) with few samples, beside
a fit to those samples alone: shown is Spearman's rank correlation on all other cells.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from symnas.spaces.nasbench201 import from_string, nasbench201

from symnas import cost_models as cm
from symnas.costs.accuracy import Accuracy

SPACE = nasbench201(channels=4, cells=1, canonical=False)
FEW = (10, 20, 50)


def read(data: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rows of all cells `(15625, 6)`, and their latencies in ms by device."""
    path = data / "nasbench201" / "latency_ms.csv.gz"
    if not path.exists():
        raise SystemExit(f"{path} is not there: name its folder by --data or $SYMNAS_DATA.")
    with gzip.open(path, "rt", newline="") as file:
        records = list(csv.DictReader(file))
    rows = np.array([from_string(record["arch"]) for record in records], np.int32)
    devices = [name for name in records[0] if name != "arch"]
    return rows, {d: np.array([float(r[d]) for r in records]) for d in devices}


def learned(rows: np.ndarray, costs: np.ndarray, regressor: Any, device: str) -> cm.Learned:
    return cm.Learned.of_rows(
        SPACE,
        rows,
        costs,
        regressor=regressor,
        device=device,
    )


def prediction(
    rows: np.ndarray, costs: np.ndarray, n: int, seeds: int, regressor: Any, device: str
) -> dict[str, float]:
    """Errors on cells that were not seen, means over seeds."""
    found = []
    for seed in range(seeds):
        order = np.random.default_rng((seed, n)).permutation(len(rows))
        seen, unseen = order[:n], order[n:]
        bound = learned(rows[seen], costs[seen], regressor, device).bind(SPACE)
        truth = Accuracy(bound(rows[unseen]), costs[unseen])
        assert bound.error is not None
        found.append((truth.mean_relative, bound.error.mean_relative, truth.rank))
    error, told, rank = np.mean(found, axis=0)
    return {"error": error, "told": told, "rank": rank}


def adaptation(
    rows: np.ndarray,
    latencies: dict[str, np.ndarray],
    device: str,
    n: int,
    seeds: int,
    sources: dict[str, Any],
) -> dict[str, float]:
    """Rank correlations on other cells, adapted and from scratch."""
    found = []
    others = [model for name, model in sources.items() if name != device]
    for seed in range(seeds):
        order = np.random.default_rng((seed, n, 1)).permutation(len(rows))
        seen, unseen = order[:n], order[n:]
        costs = latencies[device]
        samples = [(SPACE.decode(rows[i]), costs[i]) for i in seen]
        adapted = cm.Learned.adapt(others, samples, device=device).bind(SPACE)
        scratch = learned(rows[seen], costs[seen], "linear", device).bind(SPACE)
        pair = [Accuracy(bound(rows[unseen]), costs[unseen]) for bound in (adapted, scratch)]
        found.append([x for a in pair for x in (a.rank, a.mean_relative)])
    rank, error, rank_alone, error_alone = np.mean(found, axis=0)
    return {"rank": rank, "error": error, "rank alone": rank_alone, "error alone": error_alone}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    root = Path(__file__).parents[1]
    default = Path(os.environ.get("SYMNAS_DATA", root.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default, help="the folder of the tables")
    parser.add_argument(
        "--seeds", type=int, default=3, help="random sets of samples for each number"
    )
    parser.add_argument("--regressors", nargs="*", default=["linear", "mlp"], help="of cm.Learned")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, latencies = read(options.data)
    results: dict[str, Any] = {"prediction": {}, "adaptation": {}}
    console = Console(width=150, highlight=False)
    for n in (100, 900):
        for regressor in options.regressors:
            results["prediction"][f"{regressor}, {n}"] = {
                device: prediction(rows, costs, n, options.seeds, regressor, device)
                for device, costs in track(latencies.items(), f"{regressor}, {n}", transient=True)
            }
    table = Table(
        title=f"Mean relative error (and rank correlation) on unseen cells, {options.seeds} seeds"
    )
    table.add_column("device")
    for column in results["prediction"]:
        table.add_column(f"{column} samples", justify="right")
    for device in latencies:
        cells = [results["prediction"][c][device] for c in results["prediction"]]
        table.add_row(device, *(f"{x['error']:.1%} ({x['rank']:.3f})" for x in cells))
    for limit in (0.05, 0.10, 0.12):
        counts = [
            sum(x["error"] < limit for x in found.values())
            for found in results["prediction"].values()
        ]
        table.add_row(f"devices below {limit:.0%}", *map(str, counts))
    told = [np.mean([x["told"] for x in f.values()]) for f in results["prediction"].values()]
    true = [np.mean([x["error"] for x in f.values()]) for f in results["prediction"].values()]
    table.add_row(
        "mean: told / true", *(f"{a:.1%} / {b:.1%}" for a, b in zip(told, true, strict=True))
    )
    console.print(table)

    order = np.random.default_rng(7).permutation(len(rows))[:900]
    sources = {
        device: learned(rows[order], costs[order], "linear", device).named(device)
        for device, costs in latencies.items()
    }
    for n in FEW:
        results["adaptation"][n] = {
            device: adaptation(rows, latencies, device, n, options.seeds, sources)
            for device in track(latencies, f"adapting, {n}", transient=True)
        }
    table = Table(title="Rank correlation (and mean relative error) on other cells: adapted, alone")
    table.add_column("device")
    for n in FEW:
        table.add_column(f"{n}, adapted", justify="right")
        table.add_column(f"{n}, alone", justify="right")
    for device in latencies:
        cells = []
        for n in FEW:
            x = results["adaptation"][n][device]
            cells += [
                f"{x['rank']:.3f} ({x['error']:.0%})",
                f"{x['rank alone']:.3f} ({x['error alone']:.0%})",
            ]
        table.add_row(device, *cells)
    means = []
    for n in FEW:
        found = results["adaptation"][n].values()
        means += [f"{np.mean([x[k] for x in found]):.3f}" for k in ("rank", "rank alone")]
    table.add_row("mean rank correlation", *means)
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
