"""Rows as pandas frames, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

    from symnas.searchspace.space import Space


def to_frame(space: Space, rows: NDArray[Any]) -> pd.DataFrame:
    """One column a decision, by id: labels, or numbers for floats; None where inactive."""
    import pandas as pd

    columns: dict[str, list[Any]] = {}
    for i, decision in enumerate(space.decisions):
        show = decision.number if decision.kind == "float" else decision.label
        columns[decision.id] = [show(v) if v >= 0 else None for v in rows[:, i].tolist()]
    return pd.DataFrame(columns, dtype=object)


def from_frame(space: Space, frame: pd.DataFrame) -> NDArray[np.int32]:
    """The rows of a frame that `to_frame` made (or a person with the same labels).

    Raises:
        ValueError: a column is missing, or a label is not one of its decision.
    """
    missing = [d.id for d in space.decisions if d.id not in frame.columns]
    if missing:
        raise ValueError(f"`frame` lacks the columns {missing}.")
    rows = np.full((len(frame), len(space)), -1, np.int32)
    for i, decision in enumerate(space.decisions):
        index = {text: k for k, text in enumerate(decision.labels)}
        for k, value in enumerate(frame[decision.id].tolist()):
            if value is None or value != value:  # NaN
                continue
            if decision.kind == "float":
                rows[k, i] = decision.level(float(value))
            elif value in index:
                rows[k, i] = index[value]
            else:
                raise ValueError(
                    f"`frame`: {value!r} in row {k} is not a label of {decision.id!r}; "
                    f"labels: {list(decision.labels)}."
                )
    return rows
