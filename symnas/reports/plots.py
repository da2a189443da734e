"""Figures of a study in matplotlib: for notebooks and papers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from symnas.errors import MissingExtra
from symnas.reports.measures import Measure, Numbers, axes, front, highest, measures, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from symnas.studies.study import Study

_POINT, _FRONT, _BEST, _LIMIT = "#7d8fa8", "#d9480f", "#e8a400", "#b3261e"


def progress(study: Study, ax: Axes | None = None) -> Axes:
    """The first objective of each trial, and the best so far, over the trial numbers.

    With several budgets, the best is that of the trials at the highest.

    Args:
        study: finished or not.
        ax: where to draw; by default a new figure.

    Returns:
        What was drawn on.

    Raises:
        MissingExtra: matplotlib is not installed.

    >>> import symnas as sn
    >>> from symnas import algorithms as alg
    >>> space = sn.Space({"width": sn.oneof([8, 16]), "depth": sn.oneof([1, 2])})
    >>> study = sn.search(space, alg.GridSearch(), lambda a: a.program.width * a.program.depth,
    ...                   maximize="score", trials=4, progress=False)
    >>> progress(study).get_ylabel()
    'score'
    """
    ax = _axes(ax)
    trials = study.trials
    known = measures(study, trials)
    measure = known[axes(known)[0]]
    done = [trial for trial in trials if trial.state == "done"]
    values = measure.column(done)
    numbers = np.array([trial.number for trial in done], dtype=float)[np.isfinite(values)]
    values = values[np.isfinite(values)]
    ax.scatter(numbers, values, s=16, color=_POINT, alpha=0.6, linewidths=0, label="trial")
    top = highest(done)
    values = measure.column(top)
    numbers = np.array([trial.number for trial in top], dtype=float)[np.isfinite(values)]
    values = values[np.isfinite(values)]
    if len(values):
        best = (np.maximum if measure.direction == "maximize" else np.minimum).accumulate(values)
        last = max(trial.number for trial in trials)
        ax.step(
            np.append(numbers, last), np.append(best, best[-1]), where="post", color=_FRONT,
            label="best so far",
        )  # fmt: skip
    failed = [trial.number for trial in trials if trial.state not in ("done", "running")]
    if failed:
        ax.plot(
            failed, np.zeros(len(failed)), "|", color=_LIMIT, markersize=10, clip_on=False,
            transform=ax.get_xaxis_transform(), label="failed",
        )  # fmt: skip
    _limits(ax, measure, "y")
    ax.set_xlabel("trial")
    ax.set_ylabel(measure.label)
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(ax)
    return ax


def pareto(
    study: Study, x: str | None = None, y: str | None = None, ax: Axes | None = None
) -> Axes:
    """The finished trials in two of their numbers, with the front that none beats in both.

    With several budgets, the front is that of the trials at the highest.

    Args:
        study: finished or not.
        x: name of a metric or cost; by default the second objective, or the first cost.
        y: name of a metric or cost; by default the first objective.
        ax: where to draw; by default a new figure.

    Returns:
        What was drawn on.

    Raises:
        ValueError: there is no such number; or `x` is not given, and there is nothing to set
            against the objective.
        MissingExtra: matplotlib is not installed.
    """
    trials = study.trials
    known = measures(study, trials)
    up, right = axes(known)
    upward = known[up] if y is None else named(known, y, "y")
    if x is None and right is None:
        raise ValueError(
            "`x` (None): the study has one objective and no cost to set against it. Name a metric, "
            "or use plots.progress(study)."
        )
    rightward = named(known, x, "x") if x is not None else known[right or 0]
    ax = _axes(ax)
    done = [trial for trial in trials if trial.state == "done"]
    xs, ys = rightward.column(done), upward.column(done)
    ax.scatter(xs, ys, s=18, color=_POINT, alpha=0.6, linewidths=0, label="trial")
    top = highest(done)
    xs, ys = rightward.column(top), upward.column(top)
    indices = front(xs, ys, rightward.direction, upward.direction)
    if indices:
        _steps(ax, xs[indices], ys[indices], rightward)
    _limits(ax, rightward, "x")
    _limits(ax, upward, "y")
    ax.set_xlabel(rightward.label)
    ax.set_ylabel(upward.label)
    _finish(ax)
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(
            'Plots need matplotlib: pip install "symnas[plot]". study.report("report.html") draws '
            "without it."
        ) from error
    import matplotlib.pyplot as plt

    figure: Figure = plt.figure(figsize=(6.4, 4.0), layout="constrained")
    made: Any = figure.add_subplot()
    return made  # type: ignore[no-any-return]


def _steps(ax: Axes, xs: Numbers, ys: Numbers, rightward: Measure) -> None:
    where: Any = "post" if rightward.direction == "minimize" else "pre"
    ax.step(xs, ys, where=where, color=_FRONT, linewidth=1.5, zorder=2)
    ax.scatter(
        xs, ys, s=34, color=_FRONT, edgecolors="white", linewidths=0.8, zorder=3, label="front"
    )


def _limits(ax: Axes, measure: Measure, axis: str) -> None:
    """The constraints on a measure, with the side that breaks them shaded."""
    for limit in measure.limits:
        low, high = ax.get_xlim() if axis == "x" else ax.get_ylim()
        span = high - low
        if not low - span <= limit.value <= high + span:
            continue  # so far away that it would squash the points
        above = limit.relation.startswith("<")
        reach = (
            (limit.value, max(high, limit.value + 0.05 * span))
            if above
            else (min(low, limit.value - 0.05 * span), limit.value)
        )
        sign = limit.relation.replace("<=", "≤").replace(">=", "≥")
        unit = f" {measure.unit}" if measure.unit else ""
        text = f"{measure.name} {sign} {limit.value:g}{unit}"
        (ax.axvspan if axis == "x" else ax.axhspan)(*reach, color=_LIMIT, alpha=0.09, linewidth=0)
        (ax.axvline if axis == "x" else ax.axhline)(
            limit.value, color=_LIMIT, linestyle="--", linewidth=1, label=text
        )
        limits = (min(low, reach[0]), max(high, reach[1]))
        (ax.set_xlim if axis == "x" else ax.set_ylim)(*limits)


def _finish(ax: Axes) -> None:
    ax.grid(True, color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small")
