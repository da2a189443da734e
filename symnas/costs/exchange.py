"""Cost tables as data that another machine can read: the schema that `cm.Table` documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from symnas.costs.bound import BoundCost
from symnas.costs.labelled import Columns
from symnas.files import write_whole

SCHEMA = "symnas.cost_table"
VERSION = 1


def table_data(bound: BoundCost, notes: str = "") -> dict[str, Any]:
    """The table of a bound cost, by the names and labels of its space's decisions.

    Args:
        bound: such as `cm.Latency().bind(space)`.
        notes: for people.

    Raises:
        ValueError: the bound cost is not a table.
    """
    if bound.table is None:
        raise ValueError(
            f"`bound` ({bound.name}) must be a table to be written as one; it is measured "
            f"row by row{': ' + bound.note if bound.note else ''}. Bind a cost that is a sum "
            "over operations, such as cm.Latency(by='operations')."
        )
    columns = Columns(bound.space)
    data: dict[str, Any] = {
        "schema": SCHEMA, "version": VERSION, "name": bound.name, "unit": bound.unit,
        "device": bound.device, "bias": bound.table.bias,
    }  # fmt: skip
    if notes:
        data["notes"] = notes
    if bound.error is not None and bound.error.n and not bound.error.exact_kind:
        data["error"] = {
            "predicted": bound.error.predicted.tolist(),
            "measured": bound.error.measured.tolist(),
        }
    data["terms"] = [columns.labelled(term).data() for term in bound.table.terms]
    return data


def write_table(data: dict[str, Any], path: Path) -> Path:
    """Writes data as a JSON file, wholly or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    return write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
