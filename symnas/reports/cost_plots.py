"""Figures of costs in matplotlib: where they come from, how good predictions are, how they vary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from symnas.costs.model import CostModel
from symnas.reports.cost_canvas import (
    GROUPS,
    INK,
    LIMIT,
    POINT,
    SOFT,
    amount,
    axes,
    finish,
    label,
    small_share,
    ticks,
    title,
)
from symnas.reports.cost_layers import MODULES, ModuleCost, groups_of, module_costs
from symnas.reports.cost_shares import CostShare, cost_share
from symnas.reports.drawing import KINDS
from symnas.reports.measures import Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from symnas.architecture.architecture import Architecture
    from symnas.costs.bound import BoundCost

_MOST = 60  # bars, where the depth is asked for
_PATH = 34  # characters of a module's path that are written


def plot_cost_breakdown(
    cost: CostModel | BoundCost,
    architecture: Architecture,
    depth: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """What each module of a network costs, by sort of layer: bars in order of execution.

    Args:
        cost: a cost that is a sum over layers.
        architecture: whose network.
        depth: how many levels of modules are told apart, in 60 bars at most; None for as many
            levels as 24 bars allow.
        ax: where to draw; by default a new figure.

    Returns:
        What was drawn on; `ax.figure.savefig("cost.png")` saves it.

    Raises:
        ValueError: the cost is no sum over layers, or `depth` is less than 1; or the architecture
            does not say the shape of one example, and the cost needs it.
        MissingExtra: matplotlib is not installed.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> net = sn.nn.Sequential(sn.nn.Linear(4, 8), sn.nn.ReLU(), sn.nn.Linear(8, 2))
    >>> ax = plot_cost_breakdown(cm.Macs(), sn.Architecture(net, input=(4,)))
    >>> ax.get_xlabel(), [text.get_text() for text in ax.get_yticklabels()]
    ('MACs', ['0  Linear', '2  Linear'])
    """
    model = cost if isinstance(cost, CostModel) else cost.model
    modules = module_costs(model, architecture, depth, MODULES if depth is None else _MOST)
    totals = groups_of(modules)
    total = sum(totals.values())
    ax = axes(ax, 7.2, 1.6 + 0.26 * max(3, len(modules)))
    left = np.zeros(len(modules))
    places = np.arange(len(modules))
    whole = np.array([1.0 if module.single else 0.5 for module in modules])
    for group in totals:
        values = np.array([module.groups.get(group, 0.0) for module in modules])
        name = KINDS[group]
        if total:
            name += f": {small_share(totals[group] / total)}"
        bars = ax.barh(places, values, left=left, height=0.72, color=GROUPS[group], label=name)
        for bar, alpha in zip(bars, whole, strict=True):
            bar.set_alpha(alpha)
        left += values
    most = float(left.max(initial=0.0))
    for place, value in zip(places.tolist(), left.tolist(), strict=True):
        text = small_share(value / total) if total else amount(value)
        ax.text(max(value, 0.0) + 0.008 * most, place, text, va="center", fontsize="x-small",
                color=SOFT)  # fmt: skip
    ax.set_yticks(places, [_name(module) for module in modules], fontsize="small")
    ax.set_ylim(len(modules) - 0.4, -0.6)
    if most:
        ax.set_xlim(right=1.1 * most)
    ticks(ax.xaxis, most)
    ax.set_xlabel(label(model.name, model.unit))
    title(ax, _total(model, total))
    finish(ax, grid="x")
    _place_legend(ax, left, most)
    return ax


def plot_cost_distribution(
    cost: BoundCost,
    limit: Any = None,
    n: int | None = None,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """The cost of random architectures of a space, with limits and the share that keeps them.

    The share is exact where limits on the cost are exact (see `CostShare`), also where it is far
    too small to be seen among random architectures.

    Args:
        cost: bound to the space.
        limit: a number (the largest allowed cost), a constraint on this cost, or a list of those;
            None for no limit.
        n: random architectures; by default 2,000, or 64 where measuring costs is dear.
        seed: of the random architectures.
        ax: where to draw; by default a new figure.

    Returns:
        What was drawn on.

    Raises:
        ValueError: `limit` is something else, or on another cost; `n` is less than 2; or the
            space's `valid` excludes all that was drawn.
        MissingExtra: matplotlib is not installed.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16, 24])), input=(4,))
    >>> ax = plot_cost_distribution(cm.Macs().bind(space), limit=64, n=300)
    >>> ax.get_title("left")
    'macs ≤ 64: kept by 66.7% of random architectures'
    """
    found = cost_share(cost, limit, n, seed)
    ax = axes(ax)
    values = found.costs
    ends = [float(values.min()), float(values.max())]
    counts, edges = np.histogram(values, bins=_bins(values))
    ax.stairs(counts / len(values), edges, fill=True, color=POINT, alpha=0.75)
    ax.axvline(float(np.median(values)), color=INK, linewidth=1, linestyle=":",
               label=f"median {amount(float(np.median(values)), cost.unit)}")  # fmt: skip
    span = (max([*ends, *found.values]) - min([*ends, *found.values])) or abs(ends[1]) or 1.0
    low, high = min([*ends, *found.values]) - 0.04 * span, max([*ends, *found.values]) + 0.04 * span
    ax.set_xlim(low, high)
    for limits, text in zip(found.limits, found.texts, strict=True):
        value = limits.upper if limits.upper is not None else limits.lower
        assert value is not None
        reach = (value, high) if limits.upper is not None else (low, value)
        ax.axvspan(*reach, color=LIMIT, alpha=0.09, linewidth=0)
        ax.axvline(value, color=LIMIT, linestyle="--", linewidth=1, label=text)
    ticks(ax.xaxis, max(map(abs, ends)))
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    ax.set_xlabel(label(cost.name, cost.unit))
    ax.set_ylabel(f"share of {len(values):,} random architectures")
    title(ax, _kept(found) if found.limits else f"{cost.name} of random architectures")
    finish(ax, grid="y")
    return ax


# Texts --------------------------------------------------------------------------------------------


def _name(module: ModuleCost) -> str:
    """The path of a module, its beginning left out where it is long, and its class."""
    path = module.path or "between modules"
    if len(path) > _PATH:
        path = "…" + path[-(_PATH - 1) :]
    return f"{path}  {module.kind}".rstrip() if module.path else path


def _total(model: CostModel, total: float) -> str:
    """The sum over layers; what is timed layer by layer does not add up to the whole exactly."""
    same = model.unit.casefold() == model.name.casefold()
    alone = ", each layer measured alone" if model.expense >= 8 else ""
    return f"{'' if same else model.name + ': '}{amount(total, model.unit)} in all{alone}"


def _kept(found: CostShare) -> str:
    limits = " and ".join(found.texts)
    end = f"kept by {found} of random architectures"
    return f"{limits}: {end}" if len(limits) + len(end) < 64 else f"{limits}\n{end}"


# Places -------------------------------------------------------------------------------------------


def _bins(values: Numbers) -> Numbers | int:
    """Edges of bars: one for each value, where there are few."""
    distinct = np.unique(values)
    if len(distinct) == 1:
        return 1
    if len(distinct) <= 12:
        middles = (distinct[1:] + distinct[:-1]) / 2
        first, last = 2 * distinct[0] - middles[0], 2 * distinct[-1] - middles[-1]
        edges: Numbers = np.concatenate([[first], middles, [last]])
        return edges
    return int(min(60, max(12, round(len(values) ** 0.5))))


def _place_legend(ax: Axes, lengths: Numbers, most: float) -> None:
    """The legend where the bars are shortest (above, in the middle or below), or below them all."""
    if len(ax.containers) < 2:
        if ax.legend_ is not None:
            ax.legend_.remove()  # there is one sort of layer, which the labels tell
        return
    longest = [float(part.max(initial=0.0)) for part in np.array_split(lengths, 3)]
    if min(longest) <= 0.4 * most and len(lengths) >= 8:
        where = ["upper right", "center right", "lower right"][int(np.argmin(longest))]
        options: Any = {"frameon": False, "fontsize": "small", "loc": where}
        ax.legend(**options)
        return
    from matplotlib.transforms import ScaledTranslation

    figure: Any = ax.figure
    below = ax.transAxes + ScaledTranslation(0, -0.5, figure.dpi_scale_trans)
    ax.legend(
        frameon=False, fontsize="small", loc="upper right", ncols=2,
        bbox_to_anchor=(1, 0), bbox_transform=below,
    )  # fmt: skip
