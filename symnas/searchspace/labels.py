"""Short texts for candidates: what people see in tables, plots and reports."""

from __future__ import annotations

from typing import Any

import pyglove as pg

from symnas.language.choices import Derived, Tied, contains_choice
from symnas.language.spec import Spec

MAX_LENGTH = 60


def label(value: Any) -> str:
    """One candidate in a few words: `3`, `Conv2d(16, 32, kernel_size=3)`, `[3, 5]`."""
    text = _text(value)
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"


def labels_of(values: tuple[Any, ...]) -> tuple[str, ...]:
    """Labels of candidates, unique among them."""
    texts = [label(value) for value in values]
    seen: dict[str, int] = {}
    result = []
    for text in texts:
        if texts.count(text) > 1:
            seen[text] = seen.get(text, 0) + 1
            text = f"{text} #{seen[text]}"
        result.append(text)
    return tuple(result)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Spec):
        name = type(value).__name__
        given = [
            (key, child)
            for key, child in value.sym_init_args.items()
            if key in value.specified_args and not contains_choice(child)
        ]
        parts: list[str] = []
        for key, child in given:
            if isinstance(child, list):
                parts.extend(_text(v) for v in child)
            else:
                parts.append(f"{key}={_text(child)}")
        return f"{name}({', '.join(parts)})" if parts else name
    if isinstance(value, pg.hyper.HyperValue | Derived | Tied):
        return "?"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(v) for v in value) + "]"
    if isinstance(value, pg.Object):
        fields = [f"{k}={_text(v)}" for k, v in value.sym_init_args.items()]
        return f"{type(value).__name__}({', '.join(fields)})"
    if isinstance(value, type) or callable(value):
        return getattr(value, "__name__", repr(value))
    return repr(value)
