"""`symnas benchmark`: algorithms against one another, on tables of known results."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from symnas.commands.find import (
    UsageError,
    find_algorithm,
    find_space,
    load_object,
    options_of,
    plug_ins,
)

PEER = "peer:"


class Several(TyperCommand):
    """A command whose options for several values take them one behind the other."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`--seeds 1 2` means `--seeds 1 --seeds 2`, for options that may be repeated."""
        several = {
            name for p in self.params if getattr(p, "multiple", False) for name in p.opts
        }  # fmt: skip
        spread: list[str] = []
        current, given = "", False
        for arg in args:
            if arg.startswith("--"):
                current, given = arg if arg in several else "", False
                spread.append(arg)
            elif current and given:
                spread += [current, arg]
            else:
                given = True
                spread.append(arg)
        return super().parse_args(ctx, spread)


def benchmark(
    tables: Annotated[
        list[str],
        typer.Option(
            help="Published tables (nasbench201, nas_bench_graph, ...), with options such as "
            "nasbench201:dataset=cifar100,epochs=200; or files and folders of your own results."
        ),
    ],
    algorithms: Annotated[
        list[str],
        typer.Option(
            help="NAME or NAME:key=value,... of `symnas list algorithms`, a class of "
            "symnas.algorithms, MODULE:ALGORITHM, or peer:NAME, such as peer:optuna-tpe."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of published tables, each in one of its name; an installed one needs none."
        ),
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="MODULE:SPACE or a name, for tables of your own.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Searches of each algorithm.", min=1)] = 30,
    evaluations: Annotated[int, typer.Option(help="Of each search.", min=1)] = 200,
    checkpoints: Annotated[
        list[float] | None, typer.Option(help="Evaluations (or seconds) at which to tell regrets.")
    ] = None,
    objectives: Annotated[
        list[str] | None, typer.Option(help="Columns to improve; by default the first metric.")
    ] = None,
    below: Annotated[
        list[str] | None,
        typer.Option(help="Limits: COST:QUANTILE (latency:raspi4:0.1) or 'COST<=NUMBER'."),
    ] = None,
    budget: Annotated[float | None, typer.Option(help="Fidelity; by default the largest.")] = None,
    simulate: Annotated[
        int | None, typer.Option(help="Tell regret by time on so many simulated workers.", min=1)
    ] = None,
    seconds: Annotated[
        str | None, typer.Option(help="Column that says how long a simulated training takes.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    out: Annotated[
        Path, typer.Option(help="Folder for tables, figures and finished searches.")
    ] = Path("benchmark"),
    progress: Annotated[bool, typer.Option(help="Show a bar.")] = True,
) -> None:
    """Compare algorithms on tables of known results. Called again, it continues where it was.

    Example: `symnas benchmark --tables nasbench201 --data tables/ --algorithms LocalSearch
    RegularizedEvolution peer:optuna-tpe --seeds 30 --evaluations 200 --below latency:raspi4:0.1
    --workers 2 --out results/`

    Leaves in the folder: `summary.md` and `summary.csv` (regret at checkpoints), `results.csv`
    (every evaluation), figures of regret and of mean ranks, and one small file a finished search.
    """
    from symnas import benchmark as bench

    found = {text: find_contender(text) for text in algorithms}
    named: dict[str, Any] = {}
    for text in tables:
        table = find_table(text, data, space)
        named[text if table.name in named else table.name] = table
    options: dict[str, Any] = {
        "seeds": seeds,
        "evaluations": evaluations,
        "objectives": objectives or None,
        "subject_to": below or None,
        "budget": budget,
        "folder": out,
        "progress": progress,
        "checkpoints": checkpoints or None,
    }
    if simulate is None:
        if seconds is not None:
            raise UsageError("--seconds is for --simulate: say on how many workers.")
        done = bench.compare(found, named, workers=workers, **options)
    else:
        done = bench.simulate(
            found, named, workers=simulate, seconds=seconds, processes=workers, **options
        )
    done.print()
    for path in done.save(out):
        typer.echo(f"Written: {path}")
    if done.failures:
        raise UsageError(f"{len(done.failures)} searches failed; see above.")


def find_contender(text: str) -> Any:
    """An algorithm of symnas, of another package, or of another library."""
    if text.startswith(PEER):
        from symnas.benchmark.peers import Peer

        name, _, options = text.removeprefix(PEER).partition(":")
        return Peer(name, options_of(options, f"--algorithms ({text!r})"))
    name, _, options = text.partition(":")
    if name in plug_ins("algorithms"):
        return find_algorithm(text)
    made = _class(name)
    if made is None:
        if options and "=" not in options:
            return load_object(text, "--algorithms")
        raise UsageError(
            f"--algorithms ({text!r}): no algorithm is named {name!r}. Known: "
            f"{', '.join(plug_ins('algorithms'))}, the classes of symnas.algorithms, MODULE:ALGORITHM, "
            f"and {PEER}NAME."
        )
    try:
        return made(**options_of(options, f"--algorithms ({text!r})"))
    except (TypeError, ValueError) as error:
        raise UsageError(f"--algorithms ({text!r}): {error}") from error


def _class(name: str) -> Any:
    found = getattr(importlib.import_module("symnas.algorithms"), name, None)
    return found if inspect.isclass(found) else None


def find_table(text: str, data: Path | None, space: str | None) -> Any:
    """A published table by its reader's name, or one's own by its path."""
    from symnas.benchmark import read, readers

    name, _, options = text.partition(":")
    if name in readers.__all__:
        reader = getattr(readers, name)
        given = options_of(options, f"--tables ({text!r})")
        first = next(iter(inspect.signature(reader).parameters.values()))
        if first.name not in given:
            needed = first.default is inspect.Parameter.empty
            # What is installed with a package needs no folder, whatever the others' is.
            own = data is not None and not needed and not (data / name).is_dir()
            place = None if own else _place(name, data, first.name)
            if place is None and needed:
                raise UsageError(f"--tables ({text!r}): say where its files are, with --data.")
            given |= {} if place is None else {first.name: place}
        if space is not None:
            given["space"] = find_space(space)
        try:
            return reader(**given)
        except TypeError as error:
            raise UsageError(f"--tables ({text!r}): {error}") from error
    if not Path(text).exists():
        raise UsageError(
            f"--tables ({text!r}) must be one of {', '.join(readers.__all__)}, or a file or folder of "
            "your own results."
        )
    if space is None:
        raise UsageError(f"--tables ({text!r}): say of which space, with --space.")
    return read(text, find_space(space))


def _place(name: str, data: Path | None, kind: str) -> Path | None:
    """Where a reader's files are: a folder of its name, or the only file in it."""
    if data is None:
        return None
    folder = data / name if (data / name).is_dir() else data
    if kind == "folder":
        return folder
    files: Sequence[Path] = [p for p in sorted(folder.iterdir()) if p.is_file()]
    if len(files) != 1:
        raise UsageError(f"--data: {folder} must hold the one file of {name}; it has {len(files)}.")
    return files[0]
