"""Networks and their accelerator together: accuracy against energy times delay, on a silicon budget.

python examples/codesign.py       # about two minutes on one core; codesign.png is the picture

Three searches with as many evaluations each: networks for a default accelerator; networks and
accelerators at once; and networks within accelerators, one search inside another. Accuracies on
handwritten digits come from one supernet, so that a trial takes a fraction of a second. The searches
use the roofline model; what they find is compared with ZigZag's mappings.
"""

from __future__ import annotations

import argparse
import math
import time

import moocore
import numpy as np
import torch
from symnas.cost_models.edge import EdgeArea, EdgeEnergy, EdgeLatency
from symnas.spaces import Stage, mobilenet
from symnas.spaces.accelerators import accelerator_of, edge_accelerator, with_accelerator

import symnas as sn
from symnas import algorithms as alg
from symnas import data
from symnas.costs.accelerators import hardware

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trials", type=int, default=200, help="evaluations of each search")
parser.add_argument("--epochs", type=int, default=6, help="of the supernet")
parser.add_argument("--area", type=float, default=2.2, help="budget in mm2")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

torch.manual_seed(options.seed)
digits = data.mnist5k()
# A margin of two pixels, to 32 x 32: halved again and again, sizes fill arrays of 8, 16 or 32.
train, test = (
    (torch.nn.functional.pad(x, (2, 2, 2, 2)), y) for x, y in (digits.train, digits.test)
)
task = sn.Task(train, test=test, epochs=4, lr=5e-3, schedule="onecycle")

# What is searched: 1,600 networks, 1,296 accelerators, and every pair of them.
stages = [Stage(w, [1, 2], 2, (3, 5), (2, 4), [False]) for w in ([8, 16], [16, 32])]
networks = mobilenet(stages, stem=8, head=64, resolution=32, in_channels=1)
accelerator = edge_accelerator()
space = with_accelerator(networks, accelerator)
default = {
    "array rows": 16, "array columns": 16, "local bytes": 64, "buffer kb": 128, "bandwidth": 2e9,
    "dataflow": "weight",
}  # fmt: skip

# What it costs. The product is an objective like any other; the area follows from hardware alone.
latency, energy = EdgeLatency(**accelerator), EdgeEnergy(**accelerator)
area = EdgeArea(**accelerator)
edp = (energy * latency).named("edp")


def trained_supernet(epochs: int) -> sn.Supernet:
    """All networks at once: each step trains one that is drawn anew (single-path one-shot)."""
    net = sn.Supernet(networks)
    x, y = (part[:3200] for part in train)  # the others tell networks apart
    steps = epochs * (len(x) // 64)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for row in networks.sample(steps, seed=options.seed):
        batch = torch.randint(len(x), (64,))
        loss = torch.nn.functional.cross_entropy(net.select(row)(x[batch]), y[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return net


known: dict[bytes, float] = {}


@torch.no_grad()
def accuracy(architecture: sn.Architecture) -> float:
    """Of the network with the supernet's weights, its batch norms recalibrated."""
    row = networks.encode(architecture)
    if row.tobytes() not in known:
        model = supernet.child(row).train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # the mean over what follows
        x, y = train
        for start in range(0, 512, 128):
            model(x[start : start + 128])
        right = model.eval()(x[3200:]).argmax(1) == y[3200:]
        known[row.tobytes()] = float(right.float().mean())
    return known[row.tobytes()]


def searched(where: sn.Space, algorithm: sn.Algorithm) -> sn.Study:
    """The same call for all three."""
    return sn.search(
        where, algorithm, accuracy, maximize="accuracy", minimize=[edp],
        subject_to=[area <= options.area], trials=options.trials, seed=options.seed, progress=False,
    )  # fmt: skip


def nested() -> sn.Algorithm:
    """Each accelerator gets a search of networks of its own; those make the next accelerators."""
    candidates = max(2, options.trials // 10)
    return sn.flow.nested(
        alg.RegularizedEvolution(population_size=4, tournament_size=2).over(
            "hardware", trials=candidates
        ),
        alg.NSGA2(population_size=6, initial_samples=4).over("model", trials=10),
    )


clock = time.perf_counter()
supernet = trained_supernet(options.epochs)
print(f"supernet: {options.epochs} epochs in {time.perf_counter() - clock:.0f} s")
searches = {
    "default hardware": lambda: searched(space.fix(default), alg.NSGA2()),
    "joint": lambda: searched(space, alg.NSGA2()),
    "nested": lambda: searched(space, nested()),
}
studies = {}
for name, run in searches.items():
    clock = time.perf_counter()
    studies[name] = run()
    print(f"{name}: {len(studies[name].trials)} trials in {time.perf_counter() - clock:.0f} s")


def points(trials) -> np.ndarray:
    """Errors and logarithms of products, both to be small: `(n, 2)`."""
    return np.array([(1 - t.metrics["accuracy"], math.log10(t.costs["edp"])) for t in trials])


reference = np.concatenate([points(study.trials) for study in studies.values()]).max(axis=0)
volume = {name: moocore.hypervolume(points(s.trials), ref=reference) for name, s in studies.items()}

# One of each front: the smallest product among those no more than a point behind the best network of
# the first search.
wanted = max(t.metrics["accuracy"] for t in studies["default hardware"].trials) - 0.01
picks = {}
for name, study in studies.items():
    good = [t for t in study.trials if t.metrics["accuracy"] >= wanted] or study.pareto()
    picks[name] = min(good, key=lambda t: t.costs["edp"])

print(f"\naccuracy (shared weights) of at least {wanted:.3f} on at most {options.area:g} mm2:")
print(f"{'':18}{'EDP':>9}{'area':>7}{'latency':>9}{'energy':>8}{'accuracy':>10}{'alone':>7}"
      f"{'hypervolume':>13}")  # fmt: skip
print(f"{'':18}{'pJ s':>9}{'mm2':>7}{'us':>9}{'uJ':>8}{'shared':>10}{'test':>7}")
for name, trial in picks.items():
    architecture = trial.architecture
    model = architecture.build()
    task.fit(model)
    print(f"{name:18}{1e3 * trial.costs['edp']:9.2f}{area(architecture):7.2f}"
          f"{1e3 * latency(architecture):9.2f}{energy(architecture):8.2f}"
          f"{trial.metrics['accuracy']:10.3f}{task.test(model)['accuracy']:7.3f}"
          f"{volume[name]:13.3f}")  # fmt: skip

print("\nthe same by ZigZag, every activation through external memory (roofline in brackets):")
for name, trial in picks.items():
    edge = accelerator_of(trial.architecture)
    print(f"{name:18}{edge.rows} x {edge.columns}, {edge.local_bytes} bytes each, {edge.buffer_kb} KB, "
          f"{edge.bandwidth / 1e9:g} GB/s, {edge.dataflow} stays")  # fmt: skip
    if not hardware.installed():
        print(f"{'':18}skipped: pip install 'symnas[accelerators]'")
        continue
    numbers = {}
    for by in ("zigzag", "roofline"):
        how = {"by": by, "activations": "memory", "lpf_limit": 4, "workers": 1}
        us = 1e3 * EdgeLatency(**accelerator, **how)(trial.architecture)
        numbers[by] = us, EdgeEnergy(**accelerator, **how)(trial.architecture)
    (us, uj), (roof_us, roof_uj) = numbers["zigzag"], numbers["roofline"]
    print(f"{'':18}latency {us:.2f} us ({roof_us:.2f}, {roof_us / us - 1:+.0%}), energy {uj:.2f} uJ "
          f"({roof_uj:.2f}, {roof_uj / uj - 1:+.0%})")  # fmt: skip


def picture(path: str) -> None:
    """All trials, and the front of each search as a staircase."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    markers = {"default hardware": "o", "joint": "^", "nested": "s"}
    for (name, study), color in zip(
        studies.items(), ("tab:gray", "tab:blue", "tab:orange"), strict=True
    ):
        every = np.array([(1e3 * t.costs["edp"], t.metrics["accuracy"]) for t in study.trials])
        axes.scatter(*every.T, s=10, alpha=0.35, color=color, marker=markers[name], linewidths=0)
        front = np.array([(1e3 * t.costs["edp"], t.metrics["accuracy"]) for t in study.pareto()])
        front = front[np.argsort(front[:, 0])]
        axes.step(*front.T, where="post", color=color, linewidth=1.5)
        axes.scatter(*front.T, s=28, color=color, marker=markers[name],
                     label=f"{name} ({volume[name]:.3f})")  # fmt: skip
    best = max(t.metrics["accuracy"] for s in studies.values() for t in s.trials)
    axes.set(
        xscale="log", ylim=(max(0.5, best - 0.2), best + 0.01),
        xlabel="energy x delay (pJ s), by roofline", ylabel="accuracy, shared weights",
        title=f"{options.trials} evaluations each, at most {options.area:g} mm2",
    )  # fmt: skip
    axes.grid(alpha=0.3)
    axes.legend(title="front (hypervolume)", loc="lower right")
    figure.savefig(path, dpi=120)


try:
    picture("codesign.png")
except ImportError:
    print("\nno picture: pip install 'symnas[plot]'")
else:
    print("\npicture: codesign.png")
