"""JSON as studies write it: compact, with sorted keys where texts are compared."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def dumps(value: Any) -> str:
    """Compact JSON; NaN and infinities are written as Python reads them back."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def loads(text: str | None) -> Any:
    """What `dumps` wrote; None for None."""
    return None if text is None else json.loads(text)


def digest(value: Any) -> str:
    """A hash by which equal JSON values are equal, whatever the order of their keys.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
