"""The search spaces of published benchmarks, by the names under which they are installed.

Readers know names and labels of decisions, as the published files do. The space itself is a
plug-in, found as the command line finds it, or passed.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from symnas.searchspace.space import Space


def space_named(name: str, space: Space | None = None, **arguments: Any) -> Space:
    """The space given, or the installed one of that name, made with these arguments.

    Raises:
        ValueError: none is installed under that name.
    """
    if space is not None:
        return space
    for point in entry_points(group="symnas.spaces"):
        if point.name == name:
            made: Space = point.load()(**arguments)
            return made
    raise ValueError(
        f"No search space is installed under the name {name!r} (entry points `symnas.spaces`). "
        "Pass it: `space=`."
    )
