"""`space.summary()`: a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from symnas.costs.bound import BoundCost
    from symnas.costs.bound_constraints import BoundConstraints
    from symnas.searchspace.space import Space

# Random architectures that are costed for the typical cost, and where costing is dear.
COSTED, DEAR_COSTED = 1000, 16


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
    """Decisions, exact size, the spread of each cost, and whether constraints can be met."""
    lines = []
    for d in space.decisions:
        if d.kind == "float":
            low, high = d.candidates
            values = f"{low:g} to {high:g}" + (f" ({d.scale})" if d.scale else "")
        else:
            values = _clip(", ".join(d.labels), 48)
        lines.append((d.id, d.name or "", d.kind, str(len(d.labels) or "-"), values, _when(d.when)))
    header = ("decision", "name", "kind", "values", "candidates", "active when")
    return Summary(repr(space), header, tuple(lines), tuple(_cost_lines(space, costs, seed)))


def _cost_lines(space: Space, costs: Sequence[Any], seed: int) -> list[str]:
    if not costs:
        return []
    from symnas.costs.bound import BoundCost
    from symnas.costs.constraints import Constraint, Constraints

    limits = [item for item in costs if isinstance(item, Constraint)]
    models = [item.cost if isinstance(item, Constraint) else item for item in costs]
    space = space.with_hardware([item for item in models if not isinstance(item, BoundCost)])
    bound: dict[str, BoundCost] = {}
    for item in models:
        if item.name not in bound:
            bound[item.name] = item if isinstance(item, BoundCost) else item.bind(space)
    lines = [_cost_line(space, cost, seed) for cost in bound.values()]
    for group in [[limit] for limit in limits] + ([limits] if len(limits) > 1 else []):
        lines.append(_limit_line(Constraints.of(group).bind(space), seed))
    return lines


def _cost_line(space: Space, bound: BoundCost, seed: int) -> str:
    import numpy as np

    from symnas.costs.comparison import number_text

    drawn = DEAR_COSTED if bound.dear else COSTED
    rows = space.sample(drawn, seed)
    values = bound(rows[space.is_valid(rows)])
    typical = number_text(float(np.median(values))) if len(values) else "unknown"
    found = bound.range()
    unit = "" if bound.unit.casefold() == bound.name.casefold() else f" ({bound.unit})"
    how = "" if found.exact else f", found among {found.evaluations} architectures"
    line = (
        f"{bound.name}{unit}: smallest {number_text(found.low)}, typical {typical}, "
        f"largest {number_text(found.high)}{how}"
    )
    if bound.error is not None:
        line += f"; {bound.error}"
    return line + (f"; measured one by one, as {bound.note}" if bound.note else "")


def _limit_line(constraints: BoundConstraints, seed: int) -> str:
    from symnas.errors import Infeasible

    text = " and ".join(str(check) for check in constraints.checks)
    try:
        constraints.check_possible(seed=seed)
    except Infeasible as problem:
        return f"{text}: cannot be met. {problem}"
    lower, upper = (float(x) for x in constraints.feasible_fraction(seed=seed))
    share = f"{lower:.3g}" if upper - lower <= 0.01 * upper else f"{lower:.3g} to {upper:.3g}"
    return f"{text}: met by a share of {share} of random architectures"


def _when(when: Any) -> str:
    if not when:
        return "always"
    clauses = [" and ".join(f"{i} in {list(v)}" for i, v in clause) for clause in when]
    return _clip(" or ".join(clauses), 60)


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
