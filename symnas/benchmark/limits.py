"""`Below`: a limit on one of a table's costs, as a number or as a share of its architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from symnas.benchmark.base import Table
from symnas.costs.constraints import Constraint

# Random rows from which a quantile is estimated where a table cannot list its architectures.
DRAWN = 20_000


@attrs.frozen
class Below:
    """A cost that must not be exceeded.

    Args:
        cost: the name of a cost column, or the end of it after a colon.
        quantile: the share of the table's architectures that are allowed, above 0 and up to 1.
        limit: the largest allowed cost, in its unit; instead of `quantile`.

    >>> str(Below("latency:raspi4", quantile=0.1))
    'latency:raspi4:0.1'
    """

    cost: str
    quantile: float | None = None
    limit: float | None = None

    def __attrs_post_init__(self) -> None:
        if (self.quantile is None) == (self.limit is None):
            raise ValueError(f"Below({self.cost!r}) needs one of `quantile` and `limit`.")
        if self.quantile is not None and not 0 < self.quantile <= 1:
            raise ValueError(f"`quantile` ({self.quantile}) must be above 0 and at most 1.")

    @classmethod
    def of(cls, text: str) -> Below:
        """`cost:quantile`, such as `latency:raspi4:0.1`, or `cost<=limit`.

        Raises:
            ValueError: the text has another form.

        >>> Below.of("parameters<=1.5").limit
        1.5
        """
        sign = "<=" if "<=" in text else ":"
        cost, _, number = text.rpartition(sign)
        try:
            value = float(number)
        except ValueError:
            value = np.nan
        if not cost or not np.isfinite(value):
            raise ValueError(
                f"The limit {text!r} must be COST:QUANTILE, such as 'latency:raspi4:0.1', or "
                "COST<=NUMBER, such as 'parameters<=1.5'."
            )
        return cls(cost, limit=value) if sign == "<=" else cls(cost, quantile=value)

    def __str__(self) -> str:
        if self.quantile is not None:
            return f"{self.cost}:{self.quantile:g}"
        return f"{self.cost}<={self.limit:g}"

    def constraint(self, table: Table) -> Constraint:
        """The constraint on a table's space.

        Raises:
            ValueError: the table has no such cost, or knows it of no architecture.
        """
        model = table.cost(self.cost)
        if self.limit is not None:
            limit = float(self.limit)
        else:
            rows = table.everything()
            values = table.values(model.name, table.space.sample(DRAWN) if rows is None else rows)
            values = values[np.isfinite(values)]
            if not len(values):
                raise ValueError(f"The table {table.name} knows {model.name} of no architecture.")
            assert self.quantile is not None
            # The cost of an architecture, so that the share is reached.
            limit = float(np.quantile(values, self.quantile, method="inverted_cdf"))
        made: Constraint = model <= limit
        return made


def limits_of(subject_to: Any) -> tuple[Below, ...]:
    """What `subject_to` is given: None, a limit or its text, or several of them.

    Raises:
        TypeError: it is something else.
        ValueError: a text has another form.
    """
    if subject_to is None:
        return ()
    given: Sequence[Any] = subject_to if isinstance(subject_to, list | tuple) else (subject_to,)
    found = [Below.of(item) if isinstance(item, str) else item for item in given]
    for item in found:
        if not isinstance(item, Below):
            raise TypeError(
                f"`subject_to` ({item!r:.80}) must be a Below, such as Below('latency', quantile=0.1), "
                "or its text, 'latency:0.1'."
            )
    return tuple(found)
