"""Energy and cycles on accelerators, by ZigZag: what a first run takes, and what a cached one.

    python benchmarks/energy.py [--accelerators eyeriss_like edge_tpu_like] [--lpf-limit 5]
                                [--workers 2] [--space] [--json energy.json]

One architecture of `mobilenet_28` is priced in an empty cache and again from it, and shown by layer
type. With --space, the whole space is bound: its distinct layers are mapped, some 160 of them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from symnas.cost_models.energy import Cycles, Energy
from symnas.cost_models.energy_table import EnergyTable

import symnas as sn
from symnas import spaces
from symnas.costs.accelerators.nests import nests_of
from symnas.costs.pieces import macs_of
from symnas.costs.record import pieces_of

Result = dict[str, Any]


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and its seconds."""
    start = time.perf_counter()
    value = run()
    return value, time.perf_counter() - start


def by_type(architecture: sn.Architecture, energy: Energy, cycles: Cycles) -> dict[str, Result]:
    """Layers, MACs, energy and cycles of each kind of layer."""
    pieces = [piece for _, piece in pieces_of(architecture)]
    kinds: dict[str, Result] = defaultdict(lambda: {"layers": 0, "macs": 0, "uJ": 0, "cycles": 0})
    for piece, joules, clock in zip(
        pieces, energy.price(pieces), cycles.price(pieces), strict=True
    ):
        nests = [nest for operation in piece.operations for nest in nests_of(operation)]
        kind = nests[0].kind if nests else "no MACs (fused)"
        for what, number in (
            ("layers", 1), ("macs", macs_of(piece)), ("uJ", joules), ("cycles", clock)
        ):  # fmt: skip
            kinds[kind][what] += number
    return dict(kinds)


def accelerator(name: str, options: argparse.Namespace) -> Result:
    """The measurements on one accelerator."""
    space = spaces.mobilenet_28()
    architecture = space.decode(space.sample(1, seed=0)[0])
    energy = Energy(name, options.lpf_limit, options.workers)
    cycles = Cycles(name, options.lpf_limit, options.workers)
    result: Result = {"accelerator": energy.device_name}
    result["energy_uj"], result["first_s"] = timed(lambda: energy(architecture))
    result["cycles"], result["cached_s"] = timed(lambda: cycles(architecture))
    result["table_uj"], result["table_s"] = timed(lambda: EnergyTable()(architecture))
    result["types"] = by_type(architecture, energy, cycles)
    if options.space:
        bound, result["bind_s"] = timed(lambda: energy.bind(space))
        _, result["bind_again_s"] = timed(lambda: cycles.bind(space))
        spread = bound.range()
        result["range_uj"] = [spread.low, spread.high]
        result["error"] = str(bound.error)
    return result


def show(result: Result, console: Console) -> None:
    """One table for each accelerator."""
    table = Table(title=result["accelerator"])
    for column in ("layer type", "layers", "MACs", "uJ", "cycles", "pJ/MAC", "MACs/cycle"):
        table.add_column(column, justify="left" if column == "layer type" else "right")
    rows = sorted(result["types"].items(), key=lambda item: -item[1]["uJ"])
    total = {k: sum(row[k] for _, row in rows) for k in ("layers", "macs", "uJ", "cycles")}
    for kind, row in [*rows, ("all", total)]:
        macs, cycles = row["macs"], row["cycles"]
        table.add_row(
            kind,
            str(row["layers"]),
            f"{macs:,.0f}",
            f"{row['uJ']:.2f}",
            f"{cycles:,.0f}",
            f"{row['uJ'] * 1e6 / macs:.1f}" if macs else "",
            f"{macs / cycles:.1f}" if cycles else "",
        )
    console.print(table)
    console.print(
        f"first run {result['first_s']:.1f} s, cached {result['cached_s']:.3f} s; EnergyTable: "
        f"{result['table_uj']:.2f} uJ in {result['table_s']:.3f} s"
    )
    if "bind_s" in result:
        low, high = result["range_uj"]
        console.print(
            f"whole space: bound in {result['bind_s']:.0f} s, cycles after it in "
            f"{result['bind_again_s']:.1f} s; {low:.2f} to {high:.2f} uJ; {result['error']}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accelerators", nargs="+", default=["eyeriss_like", "edge_tpu_like"])
    parser.add_argument("--lpf-limit", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--space", action="store_true", help="bind the whole space as well")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    options = parser.parse_args()
    console = Console()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SYMNAS_CACHE"] = folder  # an empty cache: the first run is a first run
        try:
            for name in options.accelerators:
                results.append(accelerator(name, options))
                show(results[-1], console)
        except sn.errors.MissingExtra as error:
            console.print(f"skipped: {error}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
