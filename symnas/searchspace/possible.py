"""The values that an expression of choices may take, before a space is compiled."""

from __future__ import annotations

import itertools
from typing import Any

import pyglove as pg

from symnas.errors import DeclarationError
from symnas.language.choices import Derived, OneOf, Tied, is_choice

LIMIT = 65_536


def possible_values(expression: Any) -> list[Any]:
    """All values of a plain value, a `oneof` of plain values, or what is derived from those.

    Raises:
        DeclarationError: it has too many values, or is a choice whose values are not known here.
    """
    choices: dict[int, OneOf] = {}
    _collect(expression, choices)
    uids = list(choices)
    sizes = [len(choices[uid].candidates) for uid in uids]
    total = 1
    for size in sizes:
        total *= size
    if total > LIMIT:
        raise DeclarationError(f"{expression!r} has {total} possible values; the limit is {LIMIT}.")
    values: list[Any] = []
    for picks in itertools.product(*(range(size) for size in sizes)):
        value = _evaluate(expression, dict(zip(uids, picks, strict=True)))
        if value not in values:
            values.append(value)
    return values


def _collect(expression: Any, choices: dict[int, OneOf]) -> None:
    if isinstance(expression, Derived):
        for argument in expression.args:
            _collect(argument, choices)
    elif isinstance(expression, OneOf):
        if any(is_choice(c) for c in expression.candidates):
            raise DeclarationError(
                f"{expression!r}: candidates with choices of their own cannot stand here."
            )
        choices[expression.uid] = expression
    elif isinstance(expression, Tied):
        raise DeclarationError(
            f"sn.tied({expression.name!r}) cannot stand here, where its values must be known: "
            "pass the choice object itself."
        )
    elif isinstance(expression, pg.hyper.HyperValue):
        raise DeclarationError(f"{expression!r} cannot stand here: use sn.oneof or sn.intv.")


def _evaluate(expression: Any, picks: dict[int, int]) -> Any:
    if isinstance(expression, Derived):
        return expression.function(*(_evaluate(a, picks) for a in expression.args))
    if isinstance(expression, OneOf):
        return expression.candidates[picks[expression.uid]]
    return expression
