"""What a step of a supernet costs, beside the same step written by hand and a plain network's.

    python benchmarks/supernet.py [--only steps memory mixtures masks] [--rows 40]
    python benchmarks/supernet.py --only equality --programs 200
    python benchmarks/supernet.py --only compile

A step is: select a network that never ran before, forward, backward, optimizer. The supernet is
warm: a thousand others were selected before, as in a training that is under way. Measurements are
interleaved, step by step in random order, and their ratios are taken network by network; the median
of the ratios is shown, with the quartiles. One thread, and its CPU time, which depends less on what
else runs. Convolutions have their channels last, as in the library's own training.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sliced_by_hand import SlicedCells, SlicedMobilenet
from symnas.spaces import Stage, mobilenet, mobilenet_28, nasbench201
from torch import Tensor, nn

import symnas as sn

console = Console(width=140)
Results = list[dict[str, Any]]

# The most that a selected step may take, as a multiple of the others.
LIMITS = {"by hand": 1.05, "plain network": 1.08}

SECTIONS = ("steps", "memory", "mixtures", "masks")
OPTIONAL = ("equality", "compile")


# The spaces ---------------------------------------------------------------------------------------

DIGITS = [
    Stage([8, 12, 16], [1, 2]),
    Stage([16, 24, 32], [1, 2, 3], 2),
    Stage([24, 32, 40], [1, 2, 3], 2),
]
ELASTIC = [
    Stage([16], [2, 3], 2, (3, 5, 7), (3, 4, 6), (False,)),
    Stage([24], [2, 3, 4], 2, (3, 5, 7), (3, 4, 6), (True,)),
    Stage([48], [2, 3, 4], 1, (3, 5, 7), (3, 4, 6), (True,), "hardswish"),
]


@attrs.frozen
class Case:
    """A space, the same by hand, and how it is trained.

    Attributes:
        name: for tables.
        space, hand: make them.
        batch: examples in a step.
    """

    name: str
    space: Callable[[], sn.Space]
    hand: Callable[[], nn.Module]
    batch: int


CASES = [
    Case("NAS-Bench-201", lambda: nasbench201(16, 5), lambda: SlicedCells(16, 5, 10), 32),
    Case("mobilenet_28", mobilenet_28, lambda: SlicedMobilenet(DIGITS, 8, 64, 10, 1), 64),
    Case(
        "elastic, 64x64",
        lambda: mobilenet(ELASTIC, 16, 256, 10, 64, activation="hardswish"),
        lambda: SlicedMobilenet(ELASTIC, 16, 256, 10, 3, "hardswish"),
        32,
    ),
]


def batch_of(space: sn.Space, n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, *space.input, generator=generator)
    y = torch.randint(0, 10, (n,), generator=generator)
    return x.contiguous(memory_format=torch.channels_last), y


def channels_last(module: nn.Module) -> Any:
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def optimizer_of(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4)


def step(
    network: nn.Module, batch: tuple[Tensor, Tensor], optimizer: torch.optim.Optimizer,
    before: Callable[[], Any] | None = None,
) -> float:  # fmt: skip
    """Seconds of one step of training."""
    start = time.process_time()
    if before is not None:
        before()
    loss = nn.functional.cross_entropy(network(batch[0]), batch[1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.process_time() - start


def interleaved(
    kinds: Mapping[str, Callable[[], float]],
    rounds: int = 1,
    rng: np.random.Generator | None = None,
) -> dict[str, float]:
    """The median seconds of each, run in turn in random order."""
    rng = rng or np.random.default_rng(0)
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in rng.permutation(list(kinds)):
            times[kind].append(kinds[kind]())
    return {kind: float(np.median(found)) for kind, found in times.items()}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(low), float(middle), float(high)


# Steps --------------------------------------------------------------------------------------------


def steps(rows: int) -> Results:
    """A selected step beside those by hand and of a plain network."""
    return [result for case in CASES for result in _steps(case, rows)]


def _steps(case: Case, rows: int) -> Results:
    space = case.space()
    net, hand = channels_last(sn.Supernet(space)), channels_last(case.hand())
    batch = batch_of(space, case.batch)
    ours, theirs = optimizer_of(net), optimizer_of(hand)
    warm = np.unique(space.sample(1000, 7), axis=0)
    new = [r for r in np.unique(space.sample(rows, 1), axis=0) if not (warm == r).all(1).any()]
    for row in warm:
        net.select(row)
    rng = np.random.default_rng(0)
    ratios: dict[str, list[float]] = {}
    selecting, seconds = [], []
    for row in rng.permutation(new):
        architecture, child = space.decode(row), channels_last(net.child(row))
        own = optimizer_of(child)
        kinds = {
            "by hand": lambda a=architecture: step(hand, batch, theirs, lambda: hand.select(a)),
            "plain network": lambda c=child, o=own: step(c, batch, o),
        }
        for run in kinds.values():
            run()  # a convolution of new shapes is slow the first time
        first: list[float] = []

        def select(row: Any = row, first: list[float] = first) -> None:
            start = time.process_time()
            net.select(row)
            first.append(time.process_time() - start)

        kinds["selected"] = lambda select=select: step(net, batch, ours, select)
        found = interleaved(kinds, rng=rng)
        selecting.append(first[0])
        seconds.append(found["selected"])
        again = interleaved(kinds, rng=rng)
        for kind in LIMITS:
            ratios.setdefault(kind, []).append(found["selected"] / found[kind])
            ratios.setdefault(f"{kind}, again", []).append(again["selected"] / again[kind])
        ratios.setdefault("hand", []).append(found["by hand"] / found["plain network"])
    result: dict[str, Any] = {
        "section": "steps", "space": case.name, "batch": case.batch, "networks": len(new),
        "milliseconds": 1e3 * float(np.median(seconds)),
        "selecting": 1e3 * float(np.median(selecting)),
        **{key: quartiles(values) for key, values in ratios.items()},
    }  # fmt: skip
    return [result]


def show_steps(results: Results) -> None:
    table = Table(
        title="A step of a network that was never selected before",
        caption="Multiples: median (quartiles) over networks, and of a second step of the same. "
        + "Limits: "
        + ", ".join(f"{limit} x {kind}" for kind, limit in LIMITS.items()),
    )
    headers = ["space", "batch", "networks", "step", "to select"]
    for kind in LIMITS:
        headers += [f"x {kind}", "second"]
    for header in (*headers, "by hand x plain"):
        table.add_column(header, justify="left" if header == "space" else "right")
    for r in results:
        cells = []
        for kind, limit in LIMITS.items():
            colour = "green" if r[kind][1] <= limit else "red"
            cells += [f"[{colour}]{spread(r[kind])}[/]", f"{r[f'{kind}, again'][1]:.3f}"]
        table.add_row(
            r["space"], str(r["batch"]), str(r["networks"]), f"{r['milliseconds']:.1f} ms",
            f"{r['selecting']:.2f} ms", *cells, f"{r['hand'][1]:.3f}",
        )  # fmt: skip
    console.print(table)


def spread(values: tuple[float, float, float]) -> str:
    low, middle, high = values
    return f"{middle:.3f} ({low:.2f} to {high:.2f})"


# Memory -------------------------------------------------------------------------------------------


def saved_bytes(network: nn.Module, x: Tensor, held: nn.Module) -> int:
    """Bytes of different tensors that the forward pass keeps for the backward pass."""
    weights = {t.untyped_storage().data_ptr() for t in (*held.parameters(), *held.buffers())}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in weights:
            kept[pointer] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        network(x).sum()
    return sum(t.untyped_storage().nbytes() for t in kept.values())


def memory(rows: int) -> Results:
    """What a step keeps, and what the weights and their gradients take."""
    found: Results = []
    for case in CASES:
        space = case.space()
        net, hand = channels_last(sn.Supernet(space)), channels_last(case.hand())
        x, _ = batch_of(space, case.batch)
        ours: list[float] = []
        by_hand: list[float] = []
        for row in space.sample(min(rows, 10), 3):
            child = channels_last(net.child(row))
            own = saved_bytes(child, x, child)
            ours.append(saved_bytes(net.select(row), x, net) / own)
            by_hand.append(saved_bytes(hand.select(space.decode(row)), x, hand) / own)
        count = sum(p.numel() for p in net.parameters())
        largest = max(
            sum(p.numel() for p in net.child(row).parameters()) for row in space.sample(100, 5)
        )
        found.append(
            {
                "section": "memory", "space": case.name, "saved": float(np.median(ours)),
                "saved by hand": float(np.median(by_hand)), "parameters": count,
                "parameters by hand": sum(p.numel() for p in hand.parameters()),
                "largest network": largest,
            }
        )  # fmt: skip
    return found


def show_memory(results: Results) -> None:
    table = Table(
        title="Memory",
        caption="kept for the backward pass, as a multiple of the plain network's; parameters held",
    )
    for header in ("space", "selected", "by hand", "parameters", "by hand", "largest of 100"):
        table.add_column(header, justify="left" if header == "space" else "right")
    for r in results:
        table.add_row(
            r["space"], f"{r['saved']:.3f}", f"{r['saved by hand']:.3f}", f"{r['parameters']:,}",
            f"{r['parameters by hand']:,}", f"{r['largest network']:,}",
        )  # fmt: skip
    console.print(table)


# Mixtures -----------------------------------------------------------------------------------------


def mixtures(rows: int) -> Results:
    """The relaxation of NAS-Bench-201 beside a hand-written `sum(w * operation(x))`."""
    space = nasbench201(16, 2)
    net, hand = channels_last(sn.Supernet(space)), channels_last(SlicedCells(16, 2, 10))
    batch = batch_of(space, 16)
    logits = {c: torch.randn(5, requires_grad=True) for c in space.columns}
    by_hand = [torch.randn(5, requires_grad=True) for _ in space.columns]
    rates = [
        torch.optim.SGD([*net.parameters(), *logits.values()], 1e-3, momentum=0.9),
        torch.optim.SGD([*hand.parameters(), *by_hand], 1e-3, momentum=0.9),
    ]
    start = time.perf_counter()
    net.mix({c: v.softmax(0) for c, v in logits.items()})
    begun = time.perf_counter() - start
    kinds = {
        "mixed": lambda: step(
            net, batch, rates[0], lambda: net.mix({c: v.softmax(0) for c, v in logits.items()})
        ),
        "by hand": lambda: step(
            hand, batch, rates[1], lambda: hand.mix([v.softmax(0) for v in by_hand])
        ),
    }
    interleaved(kinds)
    times = [interleaved(kinds, rng=np.random.default_rng(i)) for i in range(max(5, rows // 4))]
    return [
        {
            "section": "mixtures", "milliseconds": 1e3 * float(np.median([t["mixed"] for t in times])),
            "first": 1e3 * begun, "ratio": quartiles([t["mixed"] / t["by hand"] for t in times]),
        }
    ]  # fmt: skip


def show_mixtures(results: Results) -> None:
    table = Table(title="NAS-Bench-201, all operations of all edges at once (batch 16, 2 cells)")
    for header in ("step", "first mix()", "x sum(w * op(x)) by hand"):
        table.add_column(header, justify="right")
    for r in results:
        table.add_row(f"{r['milliseconds']:.1f} ms", f"{r['first']:.0f} ms", spread(r["ratio"]))
    console.print(table)


def masks(rows: int) -> Results:
    """Steps of relaxed widths, by the number of widths: masks cost one run of the largest."""
    counts = (2, 4, 8, 16)
    nets: dict[int, Any] = {n: _widths(n) for n in counts}
    kinds = {str(n): nets[n] for n in counts}
    interleaved(kinds, 2)
    times = [interleaved(kinds, rng=np.random.default_rng(i)) for i in range(max(7, rows // 3))]
    return [
        {
            "section": "masks", "widths": n,
            "milliseconds": 1e3 * float(np.median([t[str(n)] for t in times])),
            "ratio": quartiles([t[str(n)] / t["2"] for t in times]),
        }
        for n in counts
    ]  # fmt: skip


def _widths(n: int) -> Callable[[], float]:
    def width(name: str) -> Any:
        return sn.oneof([64 - 4 * i for i in range(n)], name=name)

    layers: list[Any] = []
    before: Any = 3
    for i in range(4):
        after = width(f"width {i}")
        layers += [
            sn.nn.Conv2d(before, after, 3, padding=1, bias=False),
            sn.nn.BatchNorm2d(after),
            sn.nn.ReLU(),
        ]
        before = after
    head = [sn.nn.AdaptiveAvgPool2d(1), sn.nn.Flatten(), sn.nn.Linear(before, 10)]
    space = sn.Space(sn.nn.Sequential(*layers, *head), input=(3, 16, 16))
    net = channels_last(sn.Supernet(space))
    logits = {d.id: torch.zeros(d.size, requires_grad=True) for d in space.decisions}
    optimizer = torch.optim.SGD([*net.parameters(), *logits.values()], 1e-3, momentum=0.9)
    batch = batch_of(space, 16)
    assert set(net.relaxation.roles.values()) == {"masks"}
    return lambda: step(
        net, batch, optimizer, lambda: net.mix({c: v.softmax(0) for c, v in logits.items()})
    )


def show_masks(results: Results) -> None:
    table = Table(title="Four relaxed widths, by the number of values of each")
    for header in ("values", "step", "x two values"):
        table.add_column(header, justify="right")
    for r in results:
        table.add_row(str(r["widths"]), f"{r['milliseconds']:.1f} ms", spread(r["ratio"]))
    console.print(table)


# Equality -----------------------------------------------------------------------------------------


def equality(programs: int, rows: int) -> Results:
    """How many networks are equal to those by themselves: outputs, gradients, statistics, in float64.

    The spaces of the library in small versions, and random programs. Supernets that are written by
    hand and have the weights of ours give the same outputs.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from supernet_equality import Programs, largest_difference, rows_of, scramble
    from test_supernet import SPACES

    torch.set_default_dtype(torch.float64)
    counts = {kind: [0, 0, 0.0] for kind in ("spaces", "random programs", "written by hand")}
    try:

        def count(kind: str, space: sn.Space, sharing: str, most: int) -> None:
            torch.manual_seed(0)
            net = sn.Supernet(space, sharing)
            scramble(net)
            found = counts[kind]
            found[0] += 1
            for row in rows_of(space, most):
                found[1] += 1
                x = torch.randn(3, *space.input)
                found[2] = max(found[2], largest_difference(net, row, x))

        for make in SPACES.values():
            count("spaces", make(), "entangled", rows)
        for seed in range(programs):
            space = Programs(random.Random(seed).choice).space()
            count("random programs", space, "separate" if seed % 3 == 0 else "entangled", 4)
        for case in CASES[1:]:
            net, hand = sn.Supernet(case.space()), case.hand()
            scramble(net)
            hand.take_over(net)
            counts["written by hand"][0] += 1
            x = torch.randn(2, *net.space.input)
            for row in rows_of(net.space, rows):
                own = counts["written by hand"]
                for mode in (True, False):
                    a = net.train(mode).select(row)(x)
                    b = hand.train(mode).select(net.space.decode(row))(x)
                    scale = max(1.0, float(b.abs().max()))
                    own[2] = max(own[2], float((a - b).abs().max()) / scale)
                own[1] += 1
    finally:
        torch.set_default_dtype(torch.float32)
    return [
        {"section": "equality", "kind": kind, "spaces": n, "rows": m, "largest difference": d}
        for kind, (n, m, d) in counts.items()
    ]


def show_equality(results: Results) -> None:
    table = Table(
        title="Selected networks beside the same networks by themselves, float64",
        caption="outputs in both modes, gradients of inputs and weights, statistics of batch norms",
    )
    for header in ("", "spaces", "rows", "largest difference"):
        table.add_column(header, justify="left" if not header else "right")
    for r in results:
        table.add_row(r["kind"], str(r["spaces"]), str(r["rows"]), f"{r['largest difference']:.1e}")
    console.print(table)


# Compiling ----------------------------------------------------------------------------------------


def compiling(backend: str = "inductor") -> Results:
    """`torch.compile` of a supernet of `mobilenet_28` on one path, and on another one then."""
    case = CASES[1]
    space = case.space()
    net = sn.Supernet(space)
    x, y = batch_of(space, case.batch)
    batch, optimizer = (x.contiguous(), y), optimizer_of(net)
    one, other = space.sample(2, 1)
    result: dict[str, Any] = {"section": "compile", "space": case.name, "backend": backend}
    compiled = torch.compile(net, backend=backend)
    try:
        for name, row in (("first network, s", one), ("another network, s", other)):
            net.select(row)
            expected = _gradients(net, batch)
            start = time.perf_counter()
            found = _gradients(compiled, batch, net)
            result[name] = time.perf_counter() - start
            key = "largest relative difference of a gradient"
            result[key] = max(result.get(key, 0.0), _differ(found, expected))
        # Single precision rounds a plain network's gradients as much.
        child = net.child(one)
        expected = _gradients(child, batch)
        plain = _gradients(torch.compile(child, backend=backend), batch, child)
        result["the same of a plain network"] = _differ(plain, expected)
        kinds = {
            "compiled": lambda: step(compiled, batch, optimizer),
            "eager": lambda: step(net, batch, optimizer),
        }
        net.select(one)
        interleaved(kinds, 2)
        times = [interleaved(kinds, rng=np.random.default_rng(i)) for i in range(9)]
        result["ratio"] = quartiles([t["compiled"] / t["eager"] for t in times])
    except Exception as error:
        result["error"] = f"{type(error).__name__}: {str(error)[:300]}"
    return [result]


def _differ(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return max(
        float((a - b).abs().max() / b.abs().max().clamp_min(1e-3))
        for a, b in zip(found, expected, strict=True)
    )


def _gradients(
    run: Any, batch: tuple[Tensor, Tensor], net: nn.Module | None = None
) -> list[Tensor]:
    held = net if net is not None else run
    held.zero_grad()
    nn.functional.cross_entropy(run(batch[0]), batch[1]).backward()
    return [p.grad.clone() for p in held.parameters() if p.grad is not None]


def show_compile(results: Results) -> None:
    table = Table(title="torch.compile of a supernet")
    for header in ("", ""):
        table.add_column(header)
    for r in results:
        for key, value in r.items():
            if key != "section":
                if isinstance(value, tuple):
                    value = f"{spread(value)} x eager"
                table.add_row(key, f"{value:.2g}" if isinstance(value, float) else str(value))
    console.print(table)


# All ----------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=[*SECTIONS, *OPTIONAL], default=SECTIONS,
        help=f"what to measure (default: {' '.join(SECTIONS)})",
    )  # fmt: skip
    parser.add_argument("--rows", type=int, default=32, help="networks of each space")
    parser.add_argument("--programs", type=int, default=100, help="random programs (equality)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", "Converting a tensor")
    rows = arguments.rows
    sections: dict[str, tuple[Callable[[], Results], Callable[[Results], None]]] = {
        "steps": (lambda: steps(rows), show_steps),
        "memory": (lambda: memory(rows), show_memory),
        "mixtures": (lambda: mixtures(rows), show_mixtures),
        "masks": (lambda: masks(rows), show_masks),
        "equality": (lambda: equality(arguments.programs, 8), show_equality),
        "compile": (compiling, show_compile),
    }
    found: Results = []
    for name in arguments.only:
        measure, show = sections[name]
        results = measure()
        show(results)
        found += results
        gc.collect()
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
