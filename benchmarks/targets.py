"""Each one-shot algorithm under three latency targets: the relaxed cost beside that of the network.

    python benchmarks/targets.py [--epochs 4] [--examples 1000] [--only TuNAS DARTS]

The space is `mobilenet_28` (for TopoNAS, which needs edges, the cell of NAS-Bench-201), the cost the latency on this machine's CPU as it is predicted from its
operations. The targets are kept by 1%, 25% and 75% of random networks. Shown are, for each algorithm and
target, the expected cost under the distribution that it learned (where it has one), the cost of the
network that it derives, and the accuracy of that network with shared weights. A network beyond its target
would be marked; none can be, as all are derived within the limits.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from symnas.spaces import mobilenet_28
from symnas.spaces.nasbench201 import nasbench201

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas import data
from symnas.oneshot.training import Training
from symnas.searching.setting import Setting

TARGETS = {"tight": 0.01, "medium": 0.25, "loose": 0.75}


def algorithms(epochs: int) -> list[Any]:
    faster = {"logits_lr": 0.02}
    return [
        alg.SinglePathOneShot(epochs=epochs, population=6, generations=3),
        alg.DARTS(epochs=epochs, **faster),
        alg.GDAS(epochs=epochs, **faster),
        alg.ProxylessNAS(epochs=epochs, **faster),
        alg.LatencyAwareDARTS(epochs=epochs, **faster),
        alg.FBNetV2(epochs=epochs),
        alg.MSGDAS(epochs=epochs, **faster),
        alg.TuNAS(epochs=epochs),
        alg.BigNAS(epochs=epochs, coarse=8, fine=8),
        alg.TopoNAS(epochs=epochs, **faster),
    ]


def space_of(algorithm: Any) -> sn.Space:
    if isinstance(algorithm, alg.TopoNAS):
        return nasbench201(channels=8, cells=1, resolution=28, canonical=False)
    return mobilenet_28()


def task_of(algorithm: Any, examples: int, epochs: int) -> sn.Task:
    x, y = data.mnist5k().train
    if isinstance(algorithm, alg.TopoNAS):  # of three channels there
        x = x.expand(-1, 3, -1, -1).contiguous()
    return sn.Task((x[:examples], y[:examples]), epochs=epochs, lr=3e-3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=4, help="of each supernet")
    parser.add_argument("--examples", type=int, default=1000, help="of MNIST")
    parser.add_argument("--only", nargs="*", help="names of algorithms")
    options = parser.parse_args()
    torch.set_num_threads(1)
    latency = cm.Latency(runtime="torch", threads=1)
    chosen = [a for a in algorithms(options.epochs) if not options.only or _name(a) in options.only]
    table = Table(title=f"Latency targets, {options.epochs} epochs on {options.examples} digits")
    for column in (
        "algorithm",
        "target",
        "limit (ms)",
        "relaxed",
        "network",
        "shared accuracy",
        "s",
    ):
        table.add_column(column, justify="left" if column in ("algorithm", "target") else "right")
    cases = [(a, name, share) for a in chosen for name, share in TARGETS.items()]
    for algorithm, name, share in track(cases, transient=True):
        space, task = space_of(algorithm), task_of(algorithm, options.examples, options.epochs)
        limit = float(np.quantile(latency.bind(space)(space.sample(5000, 1)), share))
        setting = Setting.of(
            space,
            algorithm,
            task,
            maximize="accuracy",
            minimize=None,
            subject_to=[latency <= limit],
        )
        run = algorithm.start(setting.problem())
        clock = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            Training(run, task, Path(folder), lambda *_: None)()
        row = run.derive(1)
        cost = float(setting.costs["latency"](row)[0])
        relaxed = run.notes().get("relaxed latency")
        table.add_row(
            _name(algorithm) if name == "tight" else "", name, f"{limit:.3f}",
            "" if relaxed is None else f"{relaxed:.3f}",
            f"{cost:.3f}" + (" BEYOND" if cost > limit else ""),
            f"{run.workshop.measured(row[0])['accuracy']:.3f}",
            f"{time.perf_counter() - clock:.0f}", end_section=name == "loose",
        )  # fmt: skip
    Console(width=100, highlight=False).print(table)


def _name(algorithm: Any) -> str:
    return type(algorithm).__name__


if __name__ == "__main__":
    main()
