"""`cost <= 20.0`: comparisons that make constraints."""

from __future__ import annotations

import math
import numbers
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from symnas.errors import DeclarationError

# Sums of the same numbers in another order differ by less than this, relative to the sum.
ROUNDING = 1e-12


@attrs.frozen
class Limits:
    """What a number must keep to.

    Attributes:
        lower: the smallest allowed number, or None.
        upper: the largest allowed number, or None.
        strict: whether the limits themselves are forbidden (`<` rather than `<=`).
    """

    lower: float | None = None
    upper: float | None = None
    strict: bool = False

    def hold(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Which values keep to the limits, in the shape of `values`; NaN does not."""
        values = np.asarray(values, np.float64)
        held: NDArray[np.bool_] = np.logical_not(np.isnan(values))
        if self.lower is not None:
            held &= values > self.lower if self.strict else values >= self.closest
        if self.upper is not None:
            held &= values < self.upper if self.strict else values <= self.closest
        return held

    @property
    def closest(self) -> float:
        """The allowed number that is closest to what is not allowed.

        A limit that is allowed itself is so up to the rounding of sums: one part in 10^12.
        """
        if self.upper is not None:
            rounding = ROUNDING * abs(self.upper)
            return math.nextafter(self.upper, -math.inf) if self.strict else self.upper + rounding
        assert self.lower is not None
        rounding = ROUNDING * abs(self.lower)
        return math.nextafter(self.lower, math.inf) if self.strict else self.lower - rounding

    def excess(self, value: float) -> float:
        """By how much `value` breaks the limits, relative to them; 0 where it keeps to them."""
        if self.hold(value):
            return 0.0
        limit = self.closest
        return abs(value - limit) / (abs(limit) or 1.0)

    def text(self, name: str, unit: str = "") -> str:
        """The limits for people: `latency <= 20 ms`."""
        suffix = f" {unit}" if unit else ""
        if self.upper is not None:
            return f"{name} {'<' if self.strict else '<='} {number_text(self.upper)}{suffix}"
        assert self.lower is not None
        return f"{name} {'>' if self.strict else '>='} {number_text(self.lower)}{suffix}"


class Comparable:
    """Gives `<=`, `>=`, `<` and `>` with a number on the other side.

    They are typed as Any, because mypy takes attrs classes for ordered among their own kind, which
    they are not; `@attrs.frozen(order=False)` tells it so.
    """

    # Without this, `np.float64(1.0) <= cost` would be computed by numpy, elementwise.
    __array_ufunc__: ClassVar[None] = None

    def _constrain(self, limits: Limits) -> Any:
        raise NotImplementedError

    def __le__(self, other: Any) -> Any:
        return self._constrain(Limits(upper=self._number(other, "<=")))

    def __lt__(self, other: Any) -> Any:
        return self._constrain(Limits(upper=self._number(other, "<"), strict=True))

    def __ge__(self, other: Any) -> Any:
        return self._constrain(Limits(lower=self._number(other, ">=")))

    def __gt__(self, other: Any) -> Any:
        return self._constrain(Limits(lower=self._number(other, ">"), strict=True))

    def _number(self, other: Any, sign: str) -> float:
        name = getattr(self, "name", type(self).__name__)
        if isinstance(other, bool | np.bool_) or not isinstance(other, numbers.Real):
            raise DeclarationError(
                f"`{name} {sign} ...`: the limit ({other!r}) must be a number, in the unit of {name}."
            )
        value = float(other)
        if not math.isfinite(value):
            raise DeclarationError(
                f"`{name} {sign} {value}`: the limit must be finite. Leave the constraint out if "
                f"there is no limit on {name}."
            )
        return value


def refuse_truth(constraint: object) -> bool:
    """The `__bool__` of constraints: Python's chained comparisons would lose one of two halves.

    Raises:
        DeclarationError: always.
    """
    raise DeclarationError(
        f"The constraint `{constraint}` has no truth value before an architecture is known. Python "
        "reads `a <= cost <= b` as `a <= cost and cost <= b`, which would drop one half: write two "
        "constraints, subject_to=[cost >= a, cost <= b]."
    )


def number_text(value: float) -> str:
    """A number for people: whole numbers with thousands, others with up to six digits.

    >>> number_text(1234567.0), number_text(1.30612345)
    ('1,234,567', '1.30612')
    """
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.6g}"
