"""`space.summary()`: a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

# Random architectures that are costed for the typical cost.
COSTED = 16


@attrs.frozen
class Summary:
    """What a space is: prints as text, shows as a table in notebooks."""

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    costs: tuple[str, ...]

    def __str__(self) -> str:
        rows = [self.header, *self.lines]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.header))]
        text = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        text.insert(1, "  ".join("-" * w for w in widths))
        return "\n".join([self.title, "", *text, *([""] if self.costs else []), *self.costs])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        def row(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in cells) + "</tr>"

        body = "".join(row(line, "td") for line in self.lines)
        costs = "".join(f"<p>{escape(c)}</p>" for c in self.costs)
        return f"<p>{escape(self.title)}</p><table>{row(self.header, 'th')}{body}</table>{costs}"


def summary(space: Space, costs: Sequence[Any], seed: int) -> Summary:
    """Decisions, exact size, and for each cost its smallest, typical and largest value seen."""
    lines = []
    for d in space.decisions:
        if d.kind == "float":
            low, high = d.candidates
            values = f"{low:g} to {high:g}" + (f" ({d.scale})" if d.scale else "")
        else:
            values = _clip(", ".join(d.labels), 48)
        lines.append((d.id, d.name or "", d.kind, str(len(d.labels) or "-"), values, _when(d.when)))
    notes = [_cost_line(space, cost, seed) for cost in costs]
    header = ("decision", "name", "kind", "values", "candidates", "active when")
    return Summary(repr(space), header, tuple(lines), tuple(notes))


def _cost_line(space: Space, cost: Any, seed: int) -> str:
    import numpy as np

    bound = cost.bind(space) if hasattr(cost, "bind") else cost
    values = np.sort(bound(space.sample(COSTED, seed)))
    low, high = bound.range()[:2]
    return (
        f"{bound.name} ({bound.unit}): smallest {low:.4g}, typical {np.median(values):.4g} "
        f"(median of {COSTED} random architectures), largest {high:.4g}"
    )


def _when(when: Any) -> str:
    if not when:
        return "always"
    clauses = [" and ".join(f"{i} in {list(v)}" for i, v in clause) for clause in when]
    return _clip(" or ".join(clauses), 60)


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
