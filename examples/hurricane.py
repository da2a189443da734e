"""Each device has operations of its own; later layers are searched first, earlier ones afterwards.

    python examples/hurricane.py           400 digits, to see it run: about a minute
    python examples/hurricane.py --full    2,000 digits, more epochs, 3 seeds: many times as long

In the manner of L. Zhang et al., "Fast Hardware-Aware Neural Architecture Search" (HURRICANE), CVPR
Workshops 2020, arXiv:1910.11609, as a flow of steps that exist anyway. The same flow is compared with
one search of all layers at once, over the same operations, with as many epochs and networks. In the
small size, most of the search time goes into building supernets, of which two stages have more.
"""

import argparse
import time

import attrs
import torch
from rich.console import Console
from rich.table import Table
from symnas.cost_models.edge import EdgeLatency
from symnas.spaces.mobilenet import ConvBNAct, InvertedBottleneck
from torch import nn

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas import data

# The pool: what may stand in a layer, by name. Each is made of (channels in, channels out, stride).
POOL = {
    "skip": lambda i, o, s: nn.Identity() if (i, s) == (o, 1) else ConvBNAct(i, o, 1, s),
    "conv3": lambda i, o, s: ConvBNAct(i, o, 3, s),
    "conv5": lambda i, o, s: ConvBNAct(i, o, 5, s),
    "sep3": lambda i, o, s: InvertedBottleneck(i, o, 3, 1, s),
    "sep5": lambda i, o, s: InvertedBottleneck(i, o, 5, 1, s),
    "mb3x3": lambda i, o, s: InvertedBottleneck(i, o, 3, 3, s),
    "mb3x6": lambda i, o, s: InvertedBottleneck(i, o, 3, 6, s),
    "mb5x3": lambda i, o, s: InvertedBottleneck(i, o, 5, 3, s),
    "mb5x6": lambda i, o, s: InvertedBottleneck(i, o, 5, 6, s),
    "mb3x6se": lambda i, o, s: InvertedBottleneck(i, o, 3, 6, s, squeeze=True),
    "fused3x3": lambda i, o, s: nn.Sequential(
        ConvBNAct(i, 3 * i, 3, s), ConvBNAct(3 * i, o, 1, activation=None)
    ),
}
# Channels and stride of each layer; the second half are the later ones.
LAYERS = [(16, 1), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1)]


@sn.symbolize
class Layer(nn.Module):
    """One operation of the pool, a child of its own name: no two operations share weights."""

    def __init__(self, operation: str, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.operation = operation
        self.add_module(operation, POOL[operation](in_channels, out_channels, stride))

    def forward(self, x):
        return getattr(self, self.operation)(x)


@sn.space(input=(1, 28, 28))
def networks():
    layers = [ConvBNAct(1, 16, 3, 2)]
    before = 16
    for i, (width, stride) in enumerate(LAYERS):
        group = "early" if 2 * i < len(LAYERS) else "late"
        operation = sn.oneof(list(POOL), name=f"layer {i}", group=group)
        layers.append(Layer(operation, before, width, stride))
        before = width
    return sn.nn.Sequential(
        *layers, sn.nn.AdaptiveAvgPool2d(1), sn.nn.Flatten(), sn.nn.Linear(before, 10)
    )


def hurricane(space, one_shot, efficient):
    """The flow: the device's operations, then the later layers, then the earlier ones.

    While the later layers are searched, the earlier ones have their default operation, the best for
    the device. So the limit leaves as much for the later ones as these do not take.
    """
    default = space.restrict({name: best[:1] for name, best in efficient(space).items()})
    return sn.flow.sequence(
        efficient,
        attrs.evolve(one_shot, retrain=False).over("late"),
        one_shot.over("early"),
        start=default.decode([]),
    )


DEVICES = {
    # Arithmetic and memory take the time: a phone's processor.
    "phone": cm.Roofline(peak=4e9, bandwidth=4e9, elementwise="fused", name="phone"),
    # Each operation takes the same, which is that of its launch: a large GPU.
    "server": cm.Roofline(
        peak=5e12, bandwidth=1e12, overhead=0.005, elementwise="fused", name="server"
    ),
    # A systolic array, which depthwise convolutions leave almost empty.
    "edge": EdgeLatency(rows=64, columns=64, bandwidth=1e10, name="edge"),
}


def latency_of(latency, space, architecture):
    return float(latency.bind(space)(space.encode(architecture)[None])[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="more data, epochs and seeds")
    options = parser.parse_args()
    examples, epochs, alone, seeds = (2000, 8, 12, 3) if options.full else (400, 3, 6, 1)

    torch.manual_seed(0)
    digits = data.mnist5k()
    x, y = digits.train
    task = sn.Task(
        (x[:examples], y[:examples]),
        test=digits.test,
        epochs=alone,
        lr=5e-3,
        schedule="onecycle",
        batch_size=20,
    )
    space = networks()
    console = Console(width=110)
    table = Table(title=f"Two stages of {epochs} epochs against one of {2 * epochs}")
    for column in ("device", "search", "accuracy", "latency", "limit", "search time"):
        table.add_column(column, justify="left" if column in ("device", "search") else "right")
    for device, latency in DEVICES.items():
        efficient = sn.flow.Efficient(latency, keep=4, decisions="**.operation")
        console.print(f"[bold]{device}[/bold]")
        for (name, kept), decision in zip(efficient(space).items(), space.decisions, strict=True):
            assert name == decision.id
            console.print(f"  {decision.name} ({decision.group}): {', '.join(kept)}")
        one_shot = alg.SinglePathOneShot(epochs=epochs, population=6, generations=3)
        whole = attrs.evolve(one_shot, epochs=2 * epochs, generations=6)
        two_stages = hurricane(space, one_shot, efficient)
        flows = {
            "two stages": two_stages,
            "one stage": sn.flow.sequence(efficient, whole.over(), start=two_stages.start_from),
        }
        limit = 1.25 * latency_of(latency, space, two_stages.start_from)
        for name, flow in flows.items():
            for seed in range(seeds):
                clock = time.perf_counter()
                study = sn.search(
                    space, flow, task, maximize="accuracy", subject_to=[latency <= limit],
                    seed=seed, progress=False,
                )  # fmt: skip
                # The last one is that of the whole flow, trained alone; before it, there is the best
                # of the later layers, with shared weights.
                last = study.trials[-1]
                seconds = time.perf_counter() - clock - last.seconds
                table.add_row(
                    device, name, f"{last.metrics['accuracy']:.3f}",
                    f"{1e3 * last.costs[latency.name]:.1f} us", f"{1e3 * limit:.1f} us",
                    f"{seconds:.1f} s",
                )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
