"""Figures of how good predicted costs are, on architectures that were held out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from symnas.reports.cost_canvas import (
    LIMIT,
    POINT,
    SOFT,
    STRESS,
    axes,
    finish,
    label,
    log_if_wide,
    share,
    ticks,
    title,
)
from symnas.reports.measures import Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from symnas.costs.accuracy import Accuracy
    from symnas.costs.bound import BoundCost

BAND = 0.1  # the relative error that is drawn as a band


def plot_predicted_against_measured(
    cost: BoundCost | Accuracy,
    name: str | None = None,
    unit: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Predicted costs against measured ones, on architectures that were held out.

    The diagonal is the truth, and what lies in the band around it is wrong by less than 10%.

    Args:
        cost: a bound cost that is a prediction, or the `Accuracy` of one.
        name, unit: for the axes; by default those of the bound cost.
        ax: where to draw; by default a new figure.

    Returns:
        What was drawn on.

    Raises:
        ValueError: nothing was held out: the cost is measured rather than predicted.
        MissingExtra: matplotlib is not installed.

    >>> from symnas.costs.accuracy import Accuracy
    >>> ax = plot_predicted_against_measured(Accuracy([1.0, 2.2], [1.0, 2.0]), "latency", "ms")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('measured latency (ms)', 'predicted latency (ms)')
    """
    error, of, where = _predictions(cost, name, unit)
    ax = axes(ax, 5.0, 5.0)
    x, y = error.measured, error.predicted
    inside = error.relative <= BAND
    ends, low, high = _ends(ax, np.concatenate([x, y]))
    ax.fill_between(
        ends, ends * (1 - BAND), ends * (1 + BAND), color=POINT, alpha=0.16, linewidth=0,
        label=f"within ±{BAND:.0%}: {share(float(inside.mean()))}",
    )  # fmt: skip
    ax.plot(ends, ends, color=SOFT, linewidth=1, label="prediction = measurement")
    ax.scatter(x[inside], y[inside], s=16, color=POINT, alpha=0.8, linewidths=0, zorder=3)
    if not inside.all():
        ax.scatter(
            x[~inside], y[~inside], s=16, color=STRESS, alpha=0.8, linewidths=0, zorder=3,
            label=f"further off: {share(float((~inside).mean()))}",
        )  # fmt: skip
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    for axis in (ax.xaxis, ax.yaxis):
        ticks(axis, high)
    ax.set_xlabel(f"measured {of}")
    ax.set_ylabel(f"predicted {of}")
    title(ax, where + _summary(error))
    finish(ax)
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax


def plot_cost_calibration(
    cost: BoundCost | Accuracy,
    q: float = 0.95,
    name: str | None = None,
    unit: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Measured over predicted costs against predicted ones, on held-out architectures.

    Where the medians leave 1, predictions of that size are biased. The upper line is the factor of
    `upper(q)`: a share `q` of architectures lies below it.

    Args:
        cost: a bound cost that is a prediction, or the `Accuracy` of one.
        q: the share of architectures that the safety factor covers.
        name, unit: for the axes; by default those of the bound cost.
        ax: where to draw; by default a new figure.

    Returns:
        What was drawn on.

    Raises:
        ValueError: nothing was held out, a prediction is not positive, or `q` is not between 0
            and 1.
        MissingExtra: matplotlib is not installed.
    """
    error, of, where = _predictions(cost, name, unit)
    factor = error.quantile(q)
    ax = axes(ax)
    ratio = error.measured / error.predicted
    ax.axhspan(1 - BAND, 1 + BAND, color=POINT, alpha=0.16, linewidth=0, label=f"±{BAND:.0%}")
    ax.axhline(1.0, color=SOFT, linewidth=1)
    ax.scatter(error.predicted, ratio, s=14, color=POINT, alpha=0.7, linewidths=0, zorder=2)
    ax.axhline(
        factor, color=LIMIT, linestyle="--", linewidth=1,
        label=f"upper({q:g}): {factor:.3f} × prediction",
    )  # fmt: skip
    groups = np.array_split(
        np.argsort(error.predicted, kind="stable"), max(1, min(8, error.n // 8))
    )
    if len(groups) > 1:
        places = [float(np.median(error.predicted[g])) for g in groups]
        quarters = np.array([np.quantile(ratio[g], [0.25, 0.5, 0.75]) for g in groups])
        spread = [quarters[:, 1] - quarters[:, 0], quarters[:, 2] - quarters[:, 1]]
        ax.errorbar(
            places, quarters[:, 1], yerr=spread, color=STRESS, marker="o", markersize=4,
            linewidth=1.2, capsize=2, zorder=3, label=f"median and quartiles of {len(groups)} parts",
        )  # fmt: skip
    log_if_wide(ax.xaxis, error.predicted)
    ticks(ax.xaxis, float(error.predicted.max()))
    ax.set_xlabel(f"predicted {of}")
    ax.set_ylabel("measured / predicted")
    title(ax, where + _summary(error))
    finish(ax)
    return ax


def _predictions(
    cost: BoundCost | Accuracy, name: str | None, unit: str | None
) -> tuple[Accuracy, str, str]:
    """The held-out pairs, what they are of with the unit, and for the title on which device."""
    from symnas.costs.accuracy import Accuracy

    if isinstance(cost, Accuracy):
        error: Accuracy | None = cost
        of, where = label(name or "cost", unit), ""
    else:
        error = cost.error
        of = label(name or cost.name, unit or cost.unit)
        where = "" if cost.device == "any" else f"{cost.device}\n"
    if error is None or not error.n:
        raise ValueError(
            f"`cost`: {of} has no predictions to compare: nothing was held out, as each "
            "architecture is measured. Give a bound cost whose `error` is not None."
        )
    return error, of, where


def _summary(error: Accuracy) -> str:
    if error.exact_kind:
        return str(error)
    rank = "" if math.isnan(error.rank) else f", Spearman {error.rank:.3f}"
    return f"mean relative error {error.mean_relative:.1%}{rank}, n = {error.n}"


def _ends(ax: Axes, values: Numbers) -> tuple[Numbers, float, float]:
    """The ends of both axes, which are logarithmic where values span much; 50 places between."""
    low, high = float(values.min()), float(values.max())
    if log_if_wide(ax.xaxis, values) and log_if_wide(ax.yaxis, values):
        low, high = low / 1.15, high * 1.15
        return np.geomspace(low, high, 50), low, high
    margin = 0.06 * ((high - low) or abs(high) or 1.0)
    low, high = low - margin, high + margin
    return np.linspace(low, high, 50), low, high
