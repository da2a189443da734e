"""Validators for the hyper-parameters of algorithms: errors name argument, value and requirement."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

_Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def at_least(minimum: int, *, optional: bool = False) -> _Validator:
    """An attrs validator for whole numbers of at least `minimum`, or also None if `optional`.

    Raises (when the value is made):
        TypeError: the value is not a whole number.
        ValueError: it is too small.

    >>> @attrs.frozen
    ... class Example:
    ...     population_size: int = attrs.field(default=100, validator=at_least(1))
    >>> Example(population_size=0)
    Traceback (most recent call last):
    ValueError: Example: the value of `population_size` (0) must be at least 1.
    """

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if optional and value is None:
            return
        where = f"{type(instance).__name__}: the value of `{attribute.name}` ({value!r})"
        if isinstance(value, bool) or not isinstance(value, int):
            alternative = " or None" if optional else ""
            raise TypeError(f"{where} must be a whole number{alternative}.")
        if value < minimum:
            raise ValueError(f"{where} must be at least {minimum}.")

    return check


def number(low: float, high: float = float("inf"), *, inside: bool = False) -> _Validator:
    """An attrs validator for numbers from `low` to `high`; with `inside`, without these two.

    Raises (when the value is made):
        TypeError: the value is no number.
        ValueError: it is outside.
    """

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        where = f"{type(instance).__name__}: the value of `{attribute.name}` ({value!r})"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{where} must be a number.")
        if not (low < value < high if inside else low <= value <= high) or value == float("inf"):
            between = f"and at most {high:g}" if high != float("inf") else "and finite"
            if inside:
                between = f"and below {high:g}" if high != float("inf") else "and finite"
            raise ValueError(
                f"{where} must be {'above' if inside else 'at least'} {low:g} {between}."
            )

    return check


def one_of(options: Iterable[str]) -> _Validator:
    """An attrs validator for one of a few words.

    Raises (when the value is made):
        ValueError: the value is none of them.

    >>> @attrs.frozen
    ... class Example:
    ...     move: str = attrs.field(default="best", validator=one_of(("best", "first")))
    >>> Example(move="last")
    Traceback (most recent call last):
    ValueError: Example: the value of `move` ('last') must be 'best' or 'first'.
    """
    allowed = tuple(options)

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(
                f"{type(instance).__name__}: the value of `{attribute.name}` ({value!r}) "
                f"must be {' or '.join(repr(word) for word in allowed)}."
            )

    return check
