"""One space, one task, one latency limit: each one-shot algorithm in turn, one line changed.

    python examples/one_shot.py           three of them on 500 digits, to see it run: half a minute
    python examples/one_shot.py --full    all of them on 2,000 digits: some ten minutes

Each trains one supernet, which shares the weights of all 10^10 networks, and gives one network that
keeps the limit; that network is then trained alone.
"""

import argparse
import time

import torch
from rich.console import Console
from rich.table import Table
from symnas.spaces import mobilenet_28

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas import data

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--full", action="store_true", help="all algorithms, more data and epochs")
options = parser.parse_args()
epochs, alone, examples = (8, 12, 2000) if options.full else (2, 8, 500)

torch.manual_seed(0)
digits = data.mnist5k()
x, y = digits.train
task = sn.Task(
    (x[:examples], y[:examples]), test=digits.test, epochs=alone, lr=5e-3, schedule="onecycle"
)
space = mobilenet_28()
latency = cm.Latency(runtime="torch", threads=1)
measured = latency.bind(space)
target = float(measured(space.sample(500)).mean())  # what a typical network takes

given = {"epochs": epochs}
learned = {**given, "logits_lr": 0.05}  # the papers' 3e-4 are for far more steps
algorithms = [
    alg.SinglePathOneShot(**given, population=epochs, generations=epochs // 2),
    alg.DARTS(**learned),
    alg.GDAS(**learned),
    alg.ProxylessNAS(**learned),
    alg.LatencyAwareDARTS(**learned),
    alg.FBNetV2(**given),
    alg.MSGDAS(**learned),
    alg.TuNAS(**given),
    alg.BigNAS(**given, coarse=2 * epochs, fine=2 * epochs),
]

if not options.full:  # one that draws paths, one with gradients, one with reinforcement learning
    quick = (alg.SinglePathOneShot, alg.DARTS, alg.TuNAS)
    algorithms = [algorithm for algorithm in algorithms if isinstance(algorithm, quick)]

table = Table(title=f"One-shot search under {latency.name} <= {target:.2f} ms")
for column in ("algorithm", "search", "accuracy alone", "predicted", "measured", "relaxed"):
    table.add_column(column, justify="left" if column == "algorithm" else "right")
for algorithm in algorithms:
    name = type(algorithm).__name__
    clock = time.perf_counter()
    study = sn.search(
        space, algorithm, task, maximize="accuracy", subject_to=[latency <= target], study="one_shot.db",
        name=name, progress=False,
    )  # fmt: skip
    best = study.best
    relaxed = study.training["result"].get(f"relaxed {latency.name}")
    table.add_row(
        name,
        f"{time.perf_counter() - clock - best.seconds:.0f} s",
        f"{best.metrics['accuracy']:.3f}",
        f"{best.costs[latency.name]:.2f} ms",
        f"{measured.measure(best.architecture):.2f} ms",
        "" if relaxed is None else f"{relaxed:.2f} ms",
    )
Console(width=100).print(table)
