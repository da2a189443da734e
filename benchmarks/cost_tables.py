"""Exact cost tables: how long they take to find, whether they are right, and what follows from them.

    python benchmarks/cost_tables.py [--rows 1000] [--json cost_tables.json]

For three spaces: NAS-Bench-201, one like MobileNetV3 of 10^44 architectures with tied widths, and
one of conditional depth. Times are the best of several repeats where one is short, since other
programs may run beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from symnas.spaces import Stage, mobilenet, mobilenetv3_like, nasbench201
from torch.utils.flop_counter import FlopCounterMode

import symnas as sn
from symnas import cost_models as cm
from symnas.costs.independent import Independent

Result = dict[str, Any]


def deep() -> sn.Space:
    """Stages of 1 to 6 blocks, each block with a kernel, an expansion, and squeeze-and-excitation."""
    stages = [Stage([width], range(1, 7), 2, (3, 5, 7), (3, 4, 6)) for width in (24, 40, 80)]
    return mobilenet(stages, resolution=64)


SPACES: dict[str, Callable[[], sn.Space]] = {
    "NAS-Bench-201": nasbench201,
    "MobileNetV3-like": mobilenetv3_like,
    "conditional depth": deep,
}


def best_of(repeats: int, run: Callable[[], Any]) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def truth(architecture: sn.Architecture) -> tuple[int, int]:
    """MACs and parameters of the network as it is built, by torch's own counter."""
    assert architecture.input is not None
    with torch.device("meta"), torch.no_grad():
        network = architecture.build().eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *architecture.input))
    return counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters())


def measure(name: str, rows: int, seed: int) -> Result:
    space = SPACES[name]()
    start = time.perf_counter()
    macs, parameters = cm.Macs().bind(space), cm.Parameters().bind(space)
    result: Result = {
        "space": name,
        "architectures": float(space.size),
        "decisions": len(space),
        "bind seconds": time.perf_counter() - start,
        "error": f"{macs.error}; {parameters.error}",
        "terms": len(macs.table.terms),
        "entries": macs.table.entries,
        "largest": macs.table.largest,
    }
    sample = space.sample(rows, seed)
    pairs = zip(macs(sample), parameters(sample), strict=True)
    built = track(sample, f"building {rows} of {name}", transient=True)
    result["wrong"] = sum(
        truth(space.decode(row)) != pair for row, pair in zip(built, pairs, strict=True)
    )
    million = space.sample(1_000_000, seed)
    result["seconds for 1,000,000 rows"] = best_of(3, lambda: macs(million))
    costs = macs(million)

    generator = torch.Generator().manual_seed(seed)
    logits = {
        d.id: torch.randn(d.size, generator=generator).requires_grad_() for d in space.decisions
    }

    def expected() -> torch.Tensor:
        mean = macs.expected({id_: torch.softmax(x, 0) for id_, x in logits.items()})
        mean.backward()
        return mean.detach()

    result["expected and gradient ms"] = 1e3 * best_of(20, expected)
    with torch.no_grad():
        probabilities = {id_: torch.softmax(x, 0) for id_, x in logits.items()}
        drawn = macs(Independent(space, probabilities).sample(400_000, np.random.default_rng(seed)))
        difference = float(macs.expected(probabilities)) - drawn.mean()
        result["expected against Monte Carlo, standard errors"] = abs(difference) / (
            drawn.std() / np.sqrt(len(drawn))
        )
    result["range"] = macs.range()[:2]
    result["range ms"] = 1e3 * best_of(3, macs.range)
    result["limits"] = [limit(space, costs, share, seed) for share in (0.1, 1e-3, 1e-6)]
    return result


def limit(space: sn.Space, costs: np.ndarray, share: float, seed: int) -> Result:
    """What a limit that so small a share of random rows keeps leads to."""
    at = float(np.quantile(costs, share))
    constraints = sn.Constraints.of(cm.Macs() <= at).bind(space)
    start = time.perf_counter()
    lower, upper = constraints.feasible_fraction()
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    found = constraints.sample_feasible(1000, seed)
    first = time.perf_counter() - start
    assert len(found) == 1000 and constraints.mask(found).all()
    again = best_of(10, lambda: constraints.sample_feasible(1000, seed))
    plain = best_of(10, lambda: space.sample(1000, seed))
    sampler = constraints.sampler()
    assert sampler is not None
    return {
        "limit": at,
        "of the sample": float((costs <= at).mean()),
        "lower": float(lower),
        "upper": float(upper),
        "fraction seconds": seconds,
        "first 1,000 ms": 1e3 * first,
        "next 1,000 ms": 1e3 * again,
        "times unconstrained": again / plain,
        "acceptance": sampler.accepted / sampler.drawn,
    }


def against_enumeration(seed: int) -> list[Result]:
    """Shares of feasible rows on spaces that can be enumerated."""
    small = mobilenet([Stage([8, 12], [1, 2], 2, (3, 5), (3, 6)), Stage([16], [1, 2])], 8, 16)
    results = []
    for name, space in (("NAS-Bench-201", nasbench201()), ("small, conditional", small)):
        rows = np.concatenate(list(space.enumerate()))
        weights = probability(space, rows)
        for model, share in itertools.product((cm.Macs(), cm.Parameters()), (0.5, 0.01)):
            costs = model.bind(space)(rows)
            at = float(np.quantile(costs, share))
            bound = sn.Constraints.of(model <= at).bind(space)
            lower, upper = bound.feasible_fraction()
            results.append(
                {
                    "space": f"{name} ({len(rows):,})",
                    "constraint": str(model <= at),
                    "enumerated": float(weights[costs <= at].sum()),
                    "lower": float(lower),
                    "upper": float(upper),
                }
            )
    return results


def starvation(seed: int, parents: int = 40, rounds: int = 25) -> Result:
    """How often each decision changes in mutations of parents at a limit that one in 1,000 keeps.

    By drawing mutations until one is feasible, and as symnas does it: by repairing those that are
    not. Only decisions that are always active are looked at.
    """
    space = mobilenetv3_like()
    macs = cm.Macs().bind(space)
    at = float(np.quantile(macs(space.sample(100_000, seed)), 1e-3))
    constraints = sn.Constraints.of(cm.Macs() <= at).bind(space)
    problem = sn.Problem(space, constraints=constraints, seed=seed)
    drawn = constraints.sample_feasible(20 * parents, seed)
    rows = drawn[np.argsort(-macs(drawn))[:parents]]  # those that are closest to the limit
    always = [i for i, d in enumerate(space.decisions) if not d.when]
    changed = {"drawn again": np.zeros(len(always)), "repaired": np.zeros(len(always))}
    for k in track(range(rounds), "mutating", transient=True):
        children = problem.mutate(rows, key=k)
        changed["repaired"] += (children[:, always] != rows[: len(children), always]).mean(axis=0)
        for row in rows:
            tries = (space.mutate(row[None], (seed, k, n)) for n in itertools.count())
            child = next(c for c in tries if constraints.mask(c)[0])
            changed["drawn again"] += (child[0, always] != row[always]) / len(rows)
    result: Result = {"limit": at, "mutations": parents * rounds}
    for name, counts in changed.items():
        shares = counts / rounds
        result[name] = {
            "least": float(shares.min()),
            "tenth": float(np.quantile(shares, 0.1)),
            "median": float(np.median(shares)),
            "most": float(shares.max()),
            "never changed": int((shares == 0).sum()),
        }
    return result


def probability(space: sn.Space, rows: np.ndarray) -> np.ndarray:
    """Of each row, when each active decision is uniform."""
    sizes = np.array([d.size for d in space.decisions])
    return np.prod(np.where(rows >= 0, 1.0 / sizes, 1.0), axis=1)


def show(results: list[Result], enumerated: list[Result], starved: Result) -> None:
    console = Console(width=150, highlight=False)
    table = Table(title="Tables of MACs and parameters")
    for column in ("", *(r["space"] for r in results)):
        table.add_column(column, justify="left" if not column else "right")
    lines: list[tuple[str, Callable[[Result], str]]] = [
        ("architectures", lambda r: f"{r['architectures']:.1e}"),
        ("decisions", lambda r: str(r["decisions"])),
        ("bind, with 100 held-out rows", lambda r: f"{r['bind seconds']:.1f} s"),
        ("told by `error`", lambda r: r["error"].split(" held")[0]),
        ("wrong on other rows, built", lambda r: str(r["wrong"])),
        (
            "terms / entries / most decisions",
            lambda r: f"{r['terms']} / {r['entries']:,} / {r['largest']}",
        ),
        ("1,000,000 rows", lambda r: f"{r['seconds for 1,000,000 rows']:.2f} s"),
        ("expected, with gradient", lambda r: f"{r['expected and gradient ms']:.1f} ms"),
        (
            "expected against 400,000 draws",
            lambda r: f"{r['expected against Monte Carlo, standard errors']:.1f} std. errors",
        ),
        ("range", lambda r: f"{r['range ms']:.0f} ms"),
    ]
    for name, text in lines:
        table.add_row(name, *(text(r) for r in results))
    console.print(table)
    table = Table(title="Limits on MACs")
    for column in (
        "space", "share of 1,000,000 rows", "lower bound", "upper bound", "upper / lower", "bounds",
        "first 1,000", "next 1,000", "x unconstrained", "acceptance",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "space" else "right")
    for result in results:
        for x in result["limits"]:
            table.add_row(
                result["space"],
                f"{x['of the sample']:.1e}",
                f"{x['lower']:.4e}",
                f"{x['upper']:.4e}",
                f"{x['upper'] / x['lower']:.4f}",
                f"{x['fraction seconds']:.2f} s",
                f"{x['first 1,000 ms']:.0f} ms",
                f"{x['next 1,000 ms']:.1f} ms",
                f"{x['times unconstrained']:.1f}",
                f"{x['acceptance']:.2f}",
            )
    console.print(table)
    table = Table(title="Feasible shares against enumeration")
    for column in ("space", "constraint", "enumerated", "lower bound", "upper bound"):
        table.add_column(column, justify="left" if column in ("space", "constraint") else "right")
    for x in enumerated:
        table.add_row(
            x["space"],
            x["constraint"],
            *(f"{x[k]:.10f}" for k in ("enumerated", "lower", "upper")),
        )
    console.print(table)
    table = Table(
        title=f"Share of {starved['mutations']:,} mutations that change a decision, MobileNetV3-like, "
        "parents at the limit"
    )
    for column in ("infeasible mutations are", "least", "10% quantile", "median", "most", "never"):
        table.add_column(column, justify="left" if "are" in column else "right")
    for name in ("drawn again", "repaired"):
        x = starved[name]
        shares = (f"{x[k]:.4f}" for k in ("least", "tenth", "median", "most"))
        table.add_row(name, *shares, f"{x['never changed']} decisions")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, default=1000, help="networks that are built and counted"
    )
    parser.add_argument("--seed", type=int, default=1, help="of all randomness")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(name, options.rows, options.seed) for name in SPACES]
    enumerated = against_enumeration(options.seed)
    starved = starvation(options.seed)
    show(results, enumerated, starved)
    if options.json:
        found = {"spaces": results, "enumerated": enumerated, "mutations": starved}
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
