"""What figures of costs have in common: where they are drawn, their colours and their numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from symnas.errors import MissingExtra
from symnas.reports.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from symnas.costs.comparison import Limits
    from symnas.reports.measures import Numbers

POINT, STRESS, LIMIT, INK, SOFT = "#7d8fa8", "#d9480f", "#b3261e", "#1b1f27", "#5b6472"
# As on the page about a study; activations a little lighter than what they usually follow.
GROUPS = {
    "convolution": "#3b7dd8",
    "depthwise": "#179299",
    "linear": "#7c5cd6",
    "attention": "#c2428f",
    "pool": "#4c9a2a",
    "normalize": "#b98900",
    "activate": "#e3bd55",
    "combine": "#5b6472",
    "other": "#8a5a3c",
    "end": "#8b95a5",
}
_SCALES = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def axes(ax: Axes | None, width: float = 6.4, height: float = 4.0) -> Axes:
    """What to draw on: `ax`, or the axes of a new figure of so many inches.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtra('Plots need matplotlib: pip install "symnas[plot]".') from error
    made: Any = plt.figure(figsize=(width, height), layout="constrained").add_subplot()
    return made  # type: ignore[no-any-return]


def finish(ax: Axes, grid: str = "both") -> None:
    """Grid, frame and legend as in the other figures."""
    if grid:
        ax.grid(True, axis=grid, color="0.92", linewidth=0.8)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small")


def title(ax: Axes, text: str) -> None:
    """A title above the axes, on the left."""
    ax.set_title(text, loc="left", fontsize="medium")


def label(name: str, unit: str | None) -> str:
    """The name with its unit, for an axis.

    >>> label("latency", "ms"), label("parameters", "parameters"), label("macs", "MACs")
    ('latency (ms)', 'parameters', 'MACs')
    """
    if not unit or unit.casefold() == name.casefold():
        return unit or name
    return f"{name} ({unit})"


def amount(value: float, unit: str | None = None) -> str:
    """A number with its unit, in three digits where it is large.

    >>> amount(12_345_678, "MACs"), amount(0.98125, "ms"), amount(950.0)
    ('12.3 M MACs', '0.9812 ms', '950')
    """
    text = number(value)
    if abs(value) >= 1e4 and math.isfinite(value):
        scale, size = next((s, n) for s, n in _SCALES if abs(value) >= n)
        text = f"{value / size:.3g} {scale}" if abs(value) < 1e12 else f"{value:.3g}"
    return f"{text} {unit}" if unit else text


def share(value: float) -> str:
    """A share for people; small ones keep their first digits.

    >>> share(0.1234), share(0.00001234), share(1.0), share(3e-9)
    ('12.3%', '0.00123%', '100%', '3e-09')
    """
    if value in (0.0, 1.0):
        return f"{value:.0%}"
    if value < 1e-6:
        return f"{value:.2g}"
    if value >= 0.9995:
        return "nearly 100%"
    return f"{float(f'{100 * value:.3g}'):.9f}".rstrip("0").rstrip(".") + "%"


def small_share(value: float) -> str:
    """A share beside a bar: to a tenth of a per cent.

    >>> small_share(0.1234), small_share(0.0001), small_share(0.0)
    ('12.3%', '<0.1%', '0%')
    """
    if 0 < value < 0.0005:
        return "<0.1%"
    return f"{value:.1%}" if value else "0%"


def limit_text(name: str, limits: Limits, unit: str | None) -> str:
    """A limit for people.

    >>> from symnas.costs.comparison import Limits
    >>> limit_text("macs", Limits(upper=292674.72), "MACs"), limit_text("energy", Limits(1.5), "mJ")
    ('macs ≤ 292,675', 'energy ≥ 1.5 mJ')
    """
    upper = limits.upper is not None
    value = limits.upper if limits.upper is not None else limits.lower
    assert value is not None
    sign = ("<" if upper else ">") if limits.strict else ("≤" if upper else "≥")
    text = f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.6g}"
    suffix = f" {unit}" if unit and unit.casefold() != name.casefold() else ""
    return f"{name} {sign} {text}{suffix}"


def ticks(axis: Axis, most: float) -> None:
    """Writes numbers on an axis in full, and large ones as 20 k and 3 M.

    On a linear axis all have the scale of the largest, `most`.
    """
    from matplotlib.ticker import FuncFormatter, LogFormatter, NullFormatter

    if axis.get_scale() == "log":
        axis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
        low, high = axis.get_view_interval()
        few = not low > 0 or high / low > 30  # between powers of ten there is no room then
        axis.set_minor_formatter(NullFormatter() if few else LogFormatter())
    elif most >= 1e3:
        letter, size = next(((s, n) for s, n in _SCALES if most >= max(n, 1e4)), ("", 1.0))
        axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value / size, letter)))


def _tick(value: float, letter: str) -> str:
    return f"{float(f'{value:.6g}'):,g} {letter}".rstrip() if value else "0"


def log_if_wide(axis: Axis, values: Numbers) -> bool:
    """Makes an axis logarithmic where positive values span a factor of more than 30."""
    low, high = float(values.min()), float(values.max())
    wide = low > 0 and high / low > 30
    if wide:
        of_x = axis is axis.axes.xaxis
        scale = axis.axes.set_xscale if of_x else axis.axes.set_yscale
        scale("log")
    return wide
