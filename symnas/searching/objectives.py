"""What a search improves: metrics of the task, or costs, up or down."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from symnas.costs.model import CostModel


@attrs.frozen
class Objective:
    """One thing to improve.

    Attributes:
        name: of a metric that the task returns, or of a cost.
        direction: "maximize" or "minimize".
        cost: the cost model, where the objective is one; else the task's metrics are asked.
    """

    name: str
    direction: str = attrs.field(validator=attrs.validators.in_(("maximize", "minimize")))
    cost: CostModel | None = None

    @property
    def sign(self) -> int:
        """What makes larger better: 1 or -1."""
        return 1 if self.direction == "maximize" else -1

    def score(self, value: float) -> float:
        """The value with larger being better."""
        return self.sign * value

    def __str__(self) -> str:
        return f"{self.direction} {self.name}"


def objectives(maximize: Any = None, minimize: Any = None) -> tuple[Objective, ...]:
    """Objectives from what `sn.search` is given: names or cost models, one or several.

    Raises:
        ValueError: there is none, or a name is given twice.

    >>> [str(o) for o in objectives(maximize="accuracy", minimize=["size"])]
    ['maximize accuracy', 'minimize size']
    """
    found = tuple(
        _objective(value, direction)
        for direction, values in (("maximize", maximize), ("minimize", minimize))
        for value in _several(values)
    )
    if not found:
        raise ValueError(
            "Neither `maximize` nor `minimize` is given: name what the task returns, such as "
            'maximize="accuracy", or pass a cost model: minimize=[latency].'
        )
    names = [o.name for o in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"The objective {name!r} is given twice; each may stand once.")
    return found


def _several(values: Any) -> Iterable[Any]:
    if values is None:
        return ()
    return values if isinstance(values, list | tuple) else (values,)


def _objective(value: Any, direction: str) -> Objective:
    if isinstance(value, str) and value:
        return Objective(value, direction)
    if hasattr(value, "bind") and hasattr(value, "name"):
        return Objective(value.name, direction, value)
    raise ValueError(
        f"`{direction}` ({value!r}) must be the name of a metric that the task returns, or a cost "
        "model."
    )
