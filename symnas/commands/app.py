"""The command line: `symnas --help`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from symnas.commands.benchmark import Several, benchmark
from symnas.commands.find import (
    KINDS,
    UsageError,
    find_algorithm,
    find_constraint,
    find_cost,
    find_objective,
    find_space,
    find_task,
    first_line,
    plug_ins,
)
from symnas.commands.profile import profile
from symnas.errors import SymnasError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Neural-architecture search on ordinary PyTorch code, under real hardware costs.\n\n"
    "Begin with `symnas demo`. Then look at a space (`symnas show mobilenet`) and search it "
    "(`symnas search mobilenet --task mnist5k`).",
)

SpaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPACE",
        help="MODULE:SPACE, FILE.py:SPACE, or a name of `symnas list spaces`. A Space, or a "
        "function that returns one.",
    ),
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    trials: Annotated[int, typer.Option(help="Networks to train in the search.", min=1)] = 24,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
) -> None:
    """Search a space of convolutional networks on real digits, under a measured latency.

    Measures the latency of random networks on this machine, bounds it at their median, searches
    with regularized evolution, trains the best network to convergence, and leaves in the folder:
    the study, the network as source text and ONNX file, and a report. Takes two to three minutes.
    Called again, it continues.
    """
    from symnas.commands.demo import run_demo

    run_demo(out, trials, seed)


@app.command()
def search(
    space: SpaceArgument,
    task: Annotated[
        str,
        typer.Option(
            help="MODULE:TASK (an sn.Task, or a function of an architecture), or data to classify: "
            "mnist5k, digits, iris, wine, breast_cancer."
        ),
    ],
    algorithm: Annotated[
        str, typer.Option(help="NAME or NAME:key=value,..., see `symnas list algorithms`.")
    ] = "evolution",
    maximize: Annotated[list[str] | None, typer.Option(help="Metric to maximize.")] = None,
    minimize: Annotated[
        list[str] | None, typer.Option(help="Metric or cost to minimize, such as macs.")
    ] = None,
    subject_to: Annotated[
        list[str] | None,
        typer.Option(help="Constraint such as 'latency_ms<=2'; may be repeated."),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Total number of trials.", min=1)] = None,
    seconds: Annotated[float | None, typer.Option(help="Begin no trial after so long.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of each training, for data by name.")] = None,
    study: Annotated[str, typer.Option(help="File to record every trial in.")] = "study.db",
    name: Annotated[str | None, typer.Option(help="Of this search within the study.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
) -> None:
    """Search a space. Called again with the same study, it continues where it was.

    Example: `symnas search mobilenet --task mnist5k --epochs 2 --subject-to "latency_ms<=1.5"
    --trials 30 --study digits.db`
    """
    from symnas.searching.search import search as run_search

    wanted = maximize or ([] if minimize else ["accuracy"])
    if trials is None and seconds is None:
        trials = 50
    found = run_search(
        find_space(space),
        find_algorithm(algorithm),
        find_task(task, epochs),
        maximize=[find_objective(m) for m in wanted],
        minimize=[find_objective(m) for m in minimize or []],
        subject_to=[find_constraint(c) for c in subject_to or []],
        trials=trials,
        seconds=seconds,
        study=study,
        name=name,
        workers=workers,
        seed=seed,
    )
    typer.echo(found.frame().tail(10).to_string())
    typer.echo(f"\nReport: symnas report {study}")


@app.command()
def show(
    space: SpaceArgument,
    cost: Annotated[
        list[str] | None, typer.Option(help="Show the spread of a cost: macs, parameters, latency.")
    ] = None,
    sample: Annotated[int, typer.Option(help="Show so many random architectures.", min=0)] = 1,
    seed: Annotated[int, typer.Option(help="Of the random architectures.", min=0)] = 0,
) -> None:
    """Summarise a space: its decisions, its exact size, what it costs.

    Example: `symnas show nasbench201 --cost macs --cost parameters`
    """
    found = find_space(space)
    typer.echo(str(found.summary([find_cost(c) for c in cost or []], seed)))
    for row in found.sample(sample, seed):
        typer.echo("\nA random architecture:")
        for decision, label in found.decode(row).choices.items():
            typer.echo(f"  {decision} = {label}")


@app.command()
def report(
    study: Annotated[str, typer.Argument(help="The study's file or URL.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path(
        "report.html"
    ),
    name: Annotated[str | None, typer.Option(help="Of the search within the study.")] = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="SPACE",
            help="MODULE:SPACE of the search: with its code, networks are drawn. Installed spaces "
            "are found without it.",
        ),
    ] = None,
) -> None:
    """Write a study as one self-contained page: front, progress, best network, all trials."""
    from symnas.studies.study import Study

    # A file never says what is imported: installed packages and the user do.
    for point in plug_ins("spaces").values():
        with contextlib.suppress(Exception):
            point.load()
    if space is not None:
        find_space(space)
    typer.echo(f"Written: {Study.open(study, name).report(output)}")


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="algorithms, spaces or costs.")],
) -> None:
    """List what is installed: symnas's own and other packages' plug-ins."""
    if kind not in KINDS:
        raise UsageError(f"{kind!r} must be one of: {', '.join(KINDS)}.")
    points = plug_ins(kind)
    width = max((len(name) for name in points), default=0)
    for name, point in points.items():
        typer.echo(f"{name.ljust(width)}  {first_line(point)}")


app.command()(profile)
app.command(cls=Several)(benchmark)


def main() -> None:
    """The entry point: mistakes of the user end as one line, not as a traceback."""
    try:
        app()
    except (UsageError, SymnasError, ValueError, TypeError, FileNotFoundError) as error:
        if isinstance(error, ValueError | TypeError) and not _is_ours(error):
            raise
        typer.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(2)


def _is_ours(error: BaseException) -> bool:
    """Whether symnas raised it on purpose, about what it was given."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("symnas")


if __name__ == "__main__":
    main()
