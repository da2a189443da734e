"""What an algorithm sees of a space: its decisions."""

from __future__ import annotations

import math
from typing import Any

import attrs

# Floats are quantised so that rows stay integers.
FLOAT_LEVELS = 2**20

# When a decision is active: any of these clauses, each a conjunction of (id, values).
When = tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]


@attrs.frozen
class Decision:
    """One column of a space.

    Attributes:
        id: unique, and PyGlove's where PyGlove can express the decision
            (`layers[0][=1/3].kernel_size`).
        name: the name given by the author, or None.
        kind: "categorical", "ordinal" (candidates are increasing or decreasing numbers) or "float".
        candidates: what is chosen from; for a float its two bounds.
        labels: the candidates for people, unique within the decision; empty for a float.
        when: the decision is active if any of these clauses holds; a clause holds if each of its
            `(id, values)` does. Empty: always active.
        group: the author's label for this part of the space, or None.
    """

    id: str
    name: str | None
    kind: str
    candidates: tuple[Any, ...] = attrs.field(repr=False, eq=False)
    labels: tuple[str, ...]
    when: When = ()
    group: str | None = None
    scale: str | None = None

    @property
    def size(self) -> int:
        """The number of values in the column (2**20 for a float)."""
        return FLOAT_LEVELS if self.kind == "float" else len(self.candidates)

    def label(self, value: int) -> str:
        """The label of one value of the column."""
        if self.kind == "float":
            return f"{self.number(value):.6g}"
        return self.labels[value]

    def number(self, value: int) -> float:
        """The number that a value of a float column stands for."""
        low, high = self.candidates
        return unscale(value / (FLOAT_LEVELS - 1), low, high, self.scale)

    def level(self, number: float) -> int:
        """The value of a float column that is nearest to a number."""
        low, high = self.candidates
        return round(rescale(number, low, high, self.scale) * (FLOAT_LEVELS - 1))


def unscale(share: float, low: float, high: float, scale: str | None) -> float:
    """The number at `share` (0 to 1) of the way from `low` to `high` on a scale."""
    if share <= 0:
        return low
    if share >= 1:
        return high
    if scale == "log":
        return float(low * (high / low) ** share)
    if scale == "rlog":
        return float(high + low - high * (low / high) ** share)
    return float(low + (high - low) * share)


def rescale(number: float, low: float, high: float, scale: str | None) -> float:
    """The inverse of `unscale`."""
    if scale == "log":
        return math.log(number / low) / math.log(high / low)
    if scale == "rlog":
        return math.log((high + low - number) / high) / math.log(low / high)
    return (number - low) / (high - low)
