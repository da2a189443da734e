"""What a study records of costs: their limits, and how they vary over the space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from symnas.costs.intervals import narrower

if TYPE_CHECKING:
    from symnas.costs.bound import BoundCost
    from symnas.costs.bound_constraints import BoundConstraints
    from symnas.searchspace.space import Space

# Random architectures, also where a space's `valid` has to be asked, and bars of a histogram.
DRAWN, DRAWN_VALID, BARS = 2000, 200, 40


def limits(constraints: BoundConstraints | None) -> list[dict[str, Any]]:
    """The limits on costs and metrics as data for JSON; not other constraints.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])), input=(4,))
    >>> limits(sn.Constraints.of([cm.Macs() <= 50]).bind(space))[0]["upper"]
    50.0
    """
    from symnas.costs.bound_constraints import LimitedCost

    if constraints is None:
        return []
    costs = [check for check in constraints.checks if isinstance(check, LimitedCost)]
    return [
        {
            "of": "cost",
            "name": c.cost.name,
            "unit": c.cost.unit,
            **attrs.asdict(c.constraint.limits),
        }
        for c in costs
    ] + [
        {"of": "metric", "name": c.name, "unit": None, **attrs.asdict(c.limits)}
        for c in constraints.metrics
    ]


def drawn(
    space: Space, costs: Mapping[str, BoundCost], constraints: BoundConstraints | None
) -> dict[str, Any]:
    """Costs of random architectures as data for JSON, so that they are known without code.

    Args:
        space: what is searched.
        costs: bound to it, by name; those that have to be measured are left out.
        constraints: bound to it, or None.

    Returns:
        `n`: random architectures; `costs`: for each cost `edges` and `counts` of a histogram, and
        `median`; `kept`: bounds on the share of architectures that keep all constraints, where
        that follows from tables, else None.
    """
    n = DRAWN if space.valid is None else DRAWN_VALID
    predicted = {k: c for k, c in costs.items() if c.table is not None or c.error is not None}
    found: dict[str, Any] = {"n": n, "costs": {}, "kept": None}
    if predicted:
        rows = space.sample(n, 0)
        if space.valid is not None:
            rows = rows[space.is_valid(rows)]
        found["n"] = len(rows)
        for name, cost in predicted.items() if len(rows) else ():
            values = cost(rows)
            counts, edges = np.histogram(values, bins=BARS)
            found["costs"][name] = {
                "edges": [float(f"{edge:.7g}") for edge in edges],
                "counts": counts.tolist(),
                "median": float(np.median(values)),
            }
        if constraints is not None and constraints.exact:
            certain = constraints.feasible_fraction()
            mask = constraints.mask(rows)
            bounds = narrower((float(certain[0]), float(certain[1])), mask)
            found["kept"] = list(bounds[:2])
    return found
