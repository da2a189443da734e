"""What a study records of a search, and what has changed when it is continued."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from symnas.errors import StudyChanged
from symnas.searchspace.decision import Decision

# What decides which trials follow. The rest of a record (versions, the program's text) informs.
DECISIVE = (
    "space", "task", "objectives", "reward", "constraints", "costs", "algorithm", "seed", "ahead",
    "initial",
)  # fmt: skip

_LINES = 12


def versions() -> dict[str, str]:
    """The versions with which a search is begun."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in ("symnas", "torch", "pyglove", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two records in what decides a search, a line each.

    >>> changes({"seed": 0, "algorithm": "A()"}, {"seed": 1, "algorithm": "A()"})
    ['seed: was 0, is 1']
    """
    return [line for name in DECISIVE for line in _difference(name, was.get(name), now.get(name))]


def check_unchanged(
    name: str, was: Mapping[str, Any], now: Mapping[str, Any], finished: int
) -> None:
    """Refuses to continue a search that has become another one.

    Raises:
        StudyChanged: says what was and what is, and what can be done.
    """
    lines = changes(was, now)
    if not lines:
        return
    shown = lines[:_LINES]
    if len(lines) > _LINES:
        shown.append(f"... and {len(lines) - _LINES} more")
    raise StudyChanged(
        f'The search "{name}" of this study was begun with something else:\n'
        + "".join(f"  {line}\n" for line in shown)
        + "Put it back as it was; or give another name= to begin a search beside it (finished "
        'trials of the same task are reused); or on_change="carry" to begin anew with those of '
        f"its {finished} finished trials that still fit."
    )


def _difference(path: str, was: Any, now: Any) -> list[str]:
    if was == now:
        return []
    if isinstance(was, dict) and isinstance(now, dict):
        names = [*was, *(name for name in now if name not in was)]
        return [
            line
            for name in names
            for line in _difference(f"{path}.{name}", was.get(name), now.get(name))
        ]
    if isinstance(was, list) and isinstance(now, list):
        return _lists(path, was, now)
    return [f"{path}: was {_short(was)}, is {_short(now)}"]


def _lists(path: str, was: list[Any], now: list[Any]) -> list[str]:
    named = all(isinstance(entry, dict) and "id" in entry for entry in (*was, *now))
    if named:  # decisions: matched by id, so that one more does not shift all the others
        return _difference(
            path,
            {entry["id"]: {k: v for k, v in entry.items() if k != "id"} for entry in was},
            {entry["id"]: {k: v for k, v in entry.items() if k != "id"} for entry in now},
        )
    return [f"{path}: was {_short(was)}, is {_short(now)}"]


def _short(value: Any, width: int = 160) -> str:
    if value is None:
        return "nothing"
    text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= width else text[: width - 3] + "..."


def decision_record(decision: Decision) -> dict[str, Any]:
    """A decision as a study records it."""
    return {
        "id": decision.id,
        "name": decision.name,
        "kind": decision.kind,
        "labels": list(decision.labels),
        "bounds": list(map(float, decision.candidates)) if decision.kind == "float" else None,
        "scale": decision.scale,
        "when": [[[name, list(values)] for name, values in clause] for clause in decision.when],
        "group": decision.group,
    }


def decision_of(entry: Mapping[str, Any]) -> Decision:
    """The inverse of `decision_record`; labels stand for the candidates."""
    return Decision(
        id=entry["id"],
        name=entry["name"],
        kind=entry["kind"],
        candidates=tuple(entry["bounds"] or entry["labels"]),
        labels=tuple(entry["labels"]),
        when=tuple(
            tuple((name, tuple(values)) for name, values in clause) for clause in entry["when"]
        ),
        group=entry["group"],
        scale=entry["scale"],
    )
