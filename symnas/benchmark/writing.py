"""A comparison in the terminal, and as files."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symnas.errors import MissingExtra
from symnas.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from symnas.benchmark.comparison import Comparison

# Of what is printed to a file.
WIDTH = 120


def title(comparison: Comparison, table: str) -> str:
    """What was compared on a table: objectives, limits, and whose best is known."""
    setup = comparison.setups[table]
    columns = [comparison.tables[table].columns[name] for name in setup.objectives]
    text = f"{table}: " + ", ".join(f"{c.direction} {c.name}" for c in columns)
    if setup.limits:
        text += f", subject to {' and '.join(map(str, setup.limits))}"
    return text


def unit(comparison: Comparison, table: str) -> str:
    """What regrets are measured in."""
    names = comparison.setups[table].objectives
    if len(names) > 1:
        return "hypervolume, of the box from worst to best"
    return comparison.tables[table].columns[names[0]].unit or names[0]


def lines(comparison: Comparison, table: str) -> list[list[str]]:
    """A header, and one line an algorithm: regrets at the checkpoints, and how it proposed."""
    frame = comparison.summary()
    frame = frame[frame["table"] == table]
    suffix = " s" if comparison.axis == "seconds" else ""
    heads = [f"{point:g}{suffix}" for point in comparison.checkpoints]
    found = [["algorithm", *heads, "median", "distinct", "infeasible", "ms", "runs"]]
    for algorithm in comparison.algorithms:
        part = frame[frame["algorithm"] == algorithm]
        if not len(part):
            continue
        last: Any = part.iloc[-1]
        regrets = [_regret(m, e) for m, e in zip(part["mean"], part["stderr"], strict=True)]
        shares = [f"{last['distinct']:.2f}", f"{last['infeasible']:.2f}"]
        found.append(
            [
                algorithm,
                *regrets,
                f"{last['median']:.3g}",
                *shares,
                f"{last['ms']:.2f}",
                str(last["runs"]),
            ]
        )
    return found


def _regret(mean: float, error: float) -> str:
    return f"{mean:.3g}" if math.isnan(error) else f"{mean:.3g} ± {error:.2g}"


def notes(comparison: Comparison, table: str) -> list[str]:
    """What a reader has to know: the unit, and what failed."""
    least = "the best" if comparison.yardsticks[table].known else "the best that any search found"
    found = [
        f"Regret to {least} after so many {comparison.axis}, in {unit(comparison, table)}: mean ± "
        f"standard error; median at the last; ms of real time a proposal."
    ]
    if len(comparison.setups[table].objectives) > 1:
        found.append(_box(comparison, table))
    reasons: dict[str, list[str]] = {}
    for (algorithm, where, seed), record in comparison.records.items():
        if where == table and record.ending:
            reason = f"ended after {len(record.rows)} proposals: {record.ending}"
            reasons.setdefault(reason, []).append(f"{algorithm} (seed {seed})")
    for (algorithm, where, seed), reason in comparison.failures.items():
        if where == table:
            reasons.setdefault(f"failed: {reason}", []).append(f"{algorithm} (seed {seed})")
    for reason, who in reasons.items():
        shown = ", ".join(who[:3]) + (f" and {len(who) - 3} more" if len(who) > 3 else "")
        found.append(f"{shown} {reason}")
    return found


def _box(comparison: Comparison, table: str) -> str:
    """Between which values hypervolume is, and how much of it the best front has."""
    yardstick = comparison.yardsticks[table]
    names = comparison.setups[table].objectives
    worst, best = yardstick.signs * yardstick.worst, yardstick.signs * yardstick.best
    ranges = [f"{n} from {w:.5g} to {b:.5g}" for n, w, b in zip(names, worst, best, strict=True)]
    how = "" if yardstick.known else " (as local searches and these found them)"
    front = "The true front" if yardstick.known else "The front of all that was found"
    return f"The box is {', '.join(ranges)}{how}. {front} has {yardstick.top:.5g} of it."


def show(comparison: Comparison) -> None:
    """Prints the summary, one table a benchmark."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if console.width < WIDTH and not console.is_terminal:
        console = Console(width=WIDTH)  # a file or a pipe has no width of its own
    for name in comparison.tables:
        head, *body = lines(comparison, name)
        shown = Table(title=escape(title(comparison, name)), title_justify="left")
        for i, text in enumerate(head):
            shown.add_column(text, justify="right" if i else "left", overflow="fold")
        for line in body:
            shown.add_row(*map(escape, line))
        console.print(shown)
        for note in notes(comparison, name):
            console.print(escape(note), style="dim")


def markdown(comparison: Comparison) -> str:
    """The summary in Markdown."""
    parts = []
    for name in comparison.tables:
        head, *body = lines(comparison, name)
        rules = ["---", *["---:"] * (len(head) - 1)]
        table = [_line(line) for line in (head, rules, *body)]
        parts += [f"## {title(comparison, name)}", "\n".join(table), *notes(comparison, name)]
    return "\n\n".join(parts) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def save(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes all files; tables first, so that they are there where figures cannot be drawn."""
    summary, frame = comparison.summary(), comparison.frame()
    written = [
        write_whole(folder / "summary.csv", lambda part: summary.to_csv(part, index=False)),
        write_whole(folder / "results.csv", lambda part: frame.to_csv(part, index=False)),
        write_whole(
            folder / "summary.md", lambda part: part.write_text(markdown(comparison), "utf-8")
        ),
    ]
    if not comparison.records:
        return written
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtra('Figures need matplotlib: pip install "symnas[benchmark]".') from error
    for name in comparison.tables:
        ax = comparison.plot_regret(name)
        written.append(_saved(ax, folder / f"regret_{re.sub(r'[^0-9A-Za-z]+', '_', name)}.png"))
        plt.close(_figure(ax))
    if len(comparison.algorithms) > 1:
        try:
            ax = comparison.plot_ranks()
        except ValueError:  # no block is complete
            return written
        written.append(_saved(ax, folder / "ranks.png"))
        plt.close(_figure(ax))
    return written


def _figure(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def _saved(ax: Axes, path: Path) -> Path:
    return write_whole(path, lambda part: _figure(ax).savefig(part, dpi=150, format="png"))
