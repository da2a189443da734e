"""Flows as a short tree for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def tree(head: str, parts: Sequence[Any]) -> str:
    """A head and its parts below it, each of which may have several lines.

    >>> print(tree("sequence", ["one", "two\\n└── three"]))
    sequence
    ├── one
    └── two
        └── three
    """
    lines = [head]
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        first, *rest = str(part).splitlines()
        lines.append(("└── " if last else "├── ") + first)
        lines += [("    " if last else "│   ") + line for line in rest]
    return "\n".join(lines)
