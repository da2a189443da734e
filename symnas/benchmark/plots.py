"""Figures of a comparison: regret curves, and mean ranks with critical distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from symnas.benchmark.writing import title, unit
from symnas.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from symnas.benchmark.comparison import Comparison
    from symnas.benchmark.ranks import Ranks

# Standard errors on either side of the mean.
BAND = 2.0
STYLES = ("-", "--", ":", "-.")


def plot_regret(comparison: Comparison, table: str | None = None, ax: Axes | None = None) -> Axes:
    """Mean regret over evaluations or simulated seconds, with a band of two standard errors.

    Args:
        comparison: with at least one finished search.
        table: by name; None: the first.
        ax: where to draw; by default a new figure.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    name = next(iter(comparison.tables)) if table is None else table
    ax = _axes(ax, (7.2, 4.4))
    x = comparison.points(name)
    lowest = np.inf
    for i, algorithm in enumerate(comparison.algorithms):
        regrets = comparison.regrets(algorithm, name, x)
        if not len(regrets):
            continue
        mean, n = regrets.mean(axis=0), len(regrets)
        error = regrets.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(len(x))
        style = STYLES[(i // 10) % len(STYLES)]
        (line,) = ax.step(x, mean, where="post", label=algorithm, linewidth=1.6, linestyle=style)
        low, high = mean - BAND * error, mean + BAND * error
        color = line.get_color()
        ax.fill_between(x, low, high, step="post", color=color, alpha=0.15, linewidth=0)
        positive = mean[mean > 0]
        lowest = min(lowest, positive.min() if len(positive) else np.inf)
    if np.isfinite(lowest):
        # Regret falls by orders of magnitude, and a search that has found the best has none.
        ax.set_yscale("log")
        ax.set_ylim(bottom=lowest / 1.5)
    label = "evaluations" if comparison.axis == "evaluations" else "simulated seconds"
    ax.set(xlabel=label, ylabel=f"regret ({unit(comparison, name)})", xlim=(x[0], x[-1]))
    ax.set_title(title(comparison, name), fontsize=10, loc="left")
    ax.grid(True, which="major", alpha=0.25)
    ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax


def plot_ranks(ranks: Ranks, ax: Axes | None = None) -> Axes:
    """A critical-difference diagram: mean ranks; bars join what does not differ significantly.

    Demšar, JMLR 7 (2006), Figure 1.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    k = len(ranks.names)
    rows = (k + 1) // 2
    groups = ranks.groups
    ax = _axes(ax, (7.2, 1.1 + 0.26 * rows + 0.12 * len(groups)))
    depth = 0.5 + 0.35 * len(groups)
    ax.set(xlim=(1 - 0.45 * (k - 1) - 0.2, k + 0.45 * (k - 1) + 0.2), ylim=(-depth - rows, 1.2))
    ax.axis("off")
    ax.plot([1, k], [0, 0], color="black", linewidth=1)
    for rank in range(1, k + 1):
        ax.plot([rank, rank], [0, 0.15], color="black", linewidth=1)
        ax.text(rank, 0.25, str(rank), ha="center", va="bottom", fontsize=8)
    for i, (name, mean) in enumerate(zip(ranks.names, ranks.mean, strict=True)):
        left = i < rows
        y = -depth - (i if left else k - 1 - i) - 0.3
        end = 1 - 0.05 * (k - 1) if left else k + 0.05 * (k - 1)
        ax.plot([mean, mean, end], [0, y, y], color="0.35", linewidth=0.8)
        text = f"{name}  {mean:.2f}" if left else f"{mean:.2f}  {name}"
        gap = -0.02 * (k - 1) if left else 0.02 * (k - 1)
        ax.text(end + gap, y, text, ha="right" if left else "left", va="center", fontsize=8)
    for i, (first, last) in enumerate(groups):
        y = -0.3 - 0.35 * i
        pad = 0.015 * (k - 1)
        ends = [ranks.mean[first] - pad, ranks.mean[last] + pad]
        ax.plot(ends, [y, y], color="#b3261e", linewidth=3, solid_capstyle="butt")
    p = "" if np.isnan(ranks.p) else f"; Friedman p = {ranks.p:.2g}"
    ax.set_title(
        f"Mean ranks of {ranks.blocks} blocks; critical distance {ranks.distance:.2f} (α = "
        f"{ranks.alpha:g}){p}",
        fontsize=9,
        loc="left",
    )
    return ax


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtra('Figures need matplotlib: pip install "symnas[benchmark]".') from error
    made: Axes = plt.subplots(figsize=size, layout="constrained")[1]
    return made
