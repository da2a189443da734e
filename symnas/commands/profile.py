"""`symnas profile`: the latency table of a space on this machine, as a file for another one."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from symnas.commands.find import UsageError, find_space
from symnas.costs.exchange import table_data, write_table
from symnas.costs.pieces import Piece


def profile(
    space: Annotated[
        str,
        typer.Argument(
            metavar="SPACE",
            help="MODULE:SPACE, FILE.py:SPACE, or a name of `symnas list spaces`.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("latency.json"),
    runtime: Annotated[str, typer.Option(help="torch or onnxruntime.")] = "torch",
    threads: Annotated[int, typer.Option(help="Of the runtime.", min=1)] = 1,
    batch: Annotated[int, typer.Option(help="Examples in a batch.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu, or cuda with torch.")] = "cpu",
    networks: Annotated[
        int, typer.Option(help="Whole networks to time, to fit the sums to.", min=1)
    ] = 20,
) -> None:
    """Time the operations of a space's networks here, and write the table for elsewhere.

    Takes from seconds to a few minutes. Another machine searches with the file:
    `cm.Table.load("latency.json") <= 20.0`.

    Example: `symnas profile mobilenet --runtime onnxruntime --out phone.json`
    """
    run_profile(
        find_space(space), out, runtime=runtime, threads=threads, batch=batch, device=device,
        networks=networks,
    )  # fmt: skip


def run_profile(space: Any, out: Path, **options: Any) -> Any:
    """Binds the latency to a space and writes its table; returns the bound cost.

    Raises:
        UsageError: the latency is no table on this space, or the folder does not exist.
    """
    if not out.resolve().parent.is_dir():
        raise UsageError(f"--out ({out}): the folder {out.resolve().parent} must exist.")
    # The command line finds plug-ins by name, as it finds those of other packages.
    (point,) = entry_points(group="symnas.cost_models", name="latency")
    latency = point.load()(**options)
    console = Console(highlight=False)
    bound = latency.bind(space)
    if bound.table is None:
        raise UsageError(f"The latency of this space is no table: {bound.note}.")
    path = write_table(table_data(bound, notes=_notes(latency)), out)
    reach = bound.range()
    console.print(f"{bound.device}, {_notes(latency)}", markup=False)
    console.print(f"{_distinct(space)} distinct operations, {len(bound.table.terms)} terms")
    console.print(f"against whole networks: {bound.error}", markup=False, soft_wrap=True)
    console.print(f"{reach.low:.3g} to {reach.high:.3g} {bound.unit}")
    console.print(f"Written: {path}", markup=False, soft_wrap=True)
    return bound


def _notes(latency: Any) -> str:
    return f"{latency.runtime}, threads {latency.threads}, batch {latency.batch}"


def _distinct(space: Any) -> int:
    """How many distinct operations or layers the space's networks have."""
    from symnas.costs.tabulate import pieces_of_space

    found = 0

    def count(pieces: Sequence[Piece]) -> list[float]:
        nonlocal found
        found = sum(bool(piece.operations) for piece in pieces)
        return [0.0] * len(pieces)

    pieces_of_space(space).tables(count)
    return found
