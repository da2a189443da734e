"""What a study has numbers of: objectives, other metrics, costs; with units and limits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.studies.trial import level_of

if TYPE_CHECKING:
    from symnas.studies.study import Study
    from symnas.studies.trial import Trial

Numbers = NDArray[np.float64]

_LIMIT = re.compile(
    r"(?:metric )?(?P<name>.+?)\s*(?P<relation><=|>=|<|>)\s*"
    r"(?P<value>[-+]?[\d.,]+(?:[eE][-+]?\d+)?)(?:\s+(?P<unit>[^\s\[]+))?(?:\s+\[.*\])?"
)


@attrs.frozen
class Limit:
    """A constraint `name relation value`, as a study records it.

    Attributes:
        name: of the cost or metric.
        relation: "<=", "<", ">=" or ">".
        value: the limit itself.
        unit: of the value, or None.
        source: "costs" or "metrics": which of them is limited; None if that is not known.

    >>> Limit.parse("latency <= 2.0 ms")
    Limit(name='latency', relation='<=', value=2.0, unit='ms', source=None)
    >>> Limit.parse("<lambda> in the user's script") is None
    True
    """

    name: str
    relation: str
    value: float
    unit: str | None
    source: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> list[Limit]:
        """The limits in what a study records; older records have them as text alone."""
        if "limits" not in record:
            texts = record.get("constraints", ())
            return [limit for text in texts if (limit := cls.parse(text))]
        return [
            cls(
                entry["name"],
                sign if entry["strict"] else sign + "=",
                entry[end],
                entry["unit"],
                entry["of"] + "s",
            )
            for entry in record["limits"]
            for end, sign in (("lower", ">"), ("upper", "<"))
            if entry[end] is not None
        ]

    @classmethod
    def parse(cls, text: str) -> Limit | None:
        """The limit that a recorded text says; None where it is another kind of constraint."""
        match = _LIMIT.fullmatch(text.strip())
        if match is None:
            return None
        return cls(
            match["name"], match["relation"], float(match["value"].replace(",", "")), match["unit"]
        )


@attrs.frozen
class Measure:
    """One number that trials have.

    Attributes:
        name: of the metric or cost; "reward" for what the algorithm was told.
        source: "metrics", "costs" or "scores": where a trial holds it.
        unit: "ms", or None if it is not known.
        direction: "maximize" or "minimize"; None where neither is better, as for a plain metric.
        objective: whether the search improves it.
        limits: the constraints on it.
        key: the name within the source, where another measure has the same one.
    """

    name: str
    source: str
    unit: str | None = None
    direction: str | None = None
    objective: bool = False
    limits: tuple[Limit, ...] = ()
    key: str | None = None

    @property
    def label(self) -> str:
        """The name with its unit, for an axis.

        >>> Measure("latency", "costs", "ms").label
        'latency (ms)'
        """
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def of(self, trial: Trial) -> float:
        """The trial's number, NaN where it has none."""
        if self.source == "scores":
            return math.nan if not trial.scores else float(trial.scores[0])
        values: Mapping[str, Any] = trial.metrics if self.source == "metrics" else trial.costs
        value = values.get(self.key or self.name)
        return float(value) if isinstance(value, int | float) else math.nan

    def column(self, trials: Sequence[Trial]) -> Numbers:
        """The numbers of the trials, `(n,)`; what did not finish has no metric."""
        return np.array([self.of(trial) for trial in trials], dtype=float).reshape(len(trials))


def highest(trials: Sequence[Trial]) -> list[Trial]:
    """The trials of the highest budget: those that are compared, as in `study.best`."""
    top = max((level_of(trial.budget) for trial in trials), default=None)
    return [trial for trial in trials if level_of(trial.budget) == top]


def lowest(trials: Sequence[Trial]) -> list[Trial]:
    """The trials of the lowest budget: each architecture once, whether it did well or not."""
    bottom = min((level_of(trial.budget) for trial in trials), default=None)
    return [trial for trial in trials if level_of(trial.budget) == bottom]


def measures(study: Study, trials: Sequence[Trial]) -> list[Measure]:
    """Everything that trials have numbers of: the reward, objectives, costs, other metrics."""
    limits = Limit.of(study.record)
    found: list[Measure] = []
    if study.record.get("reward"):
        found.append(Measure("reward", "scores", None, "maximize", True))
    models = study.record.get("costs") or {}
    units = {name: model.get("unit") for name, model in models.items()}
    for entry in study.objectives:
        name, unit = entry["name"], entry.get("unit")
        # A metric may have the name of a cost; only costs have units.
        source = "costs" if name in models and unit is not None else "metrics"
        found.append(_measure(name, source, limits, unit, entry["direction"], True))
    cost_names = dict.fromkeys(name for trial in trials for name in trial.costs)
    metric_names = dict.fromkeys(name for trial in trials for name in trial.metrics)
    known = {(measure.source, measure.name) for measure in found}
    for name in cost_names:
        if ("costs", name) not in known:
            found.append(_measure(name, "costs", limits, units.get(name), "minimize"))
    for name in metric_names:
        if ("metrics", name) not in known:
            found.append(_measure(name, "metrics", limits))
    return _distinct(found)


def _distinct(found: Sequence[Measure]) -> list[Measure]:
    """A cost and a metric may have one name: the metric is what was measured."""
    costs = {measure.name for measure in found if measure.source == "costs"}
    return [
        attrs.evolve(measure, name=f"{measure.name}, measured", key=measure.name)
        if measure.source == "metrics" and measure.name in costs
        else measure
        for measure in found
    ]


def _measure(
    name: str,
    source: str,
    limits: Sequence[Limit],
    unit: str | None = None,
    direction: str | None = None,
    objective: bool = False,
) -> Measure:
    own = tuple(limit for limit in limits if limit.name == name and limit.source in (None, source))
    unit = unit or next((limit.unit for limit in own if limit.unit), None)
    if unit is not None and unit.casefold() == name.casefold():
        unit = None  # "parameters" are counted in parameters
    return Measure(name, source, unit or None, direction, objective, own)


def brief(constraint: str) -> str:
    """A recorded constraint for people, without the details that identify it.

    >>> brief("latency <= 2 ms [Latency(runtime='onnxruntime') on cpu]"), brief("metric loss <= 1")
    ('latency ≤ 2 ms', 'loss ≤ 1')
    """
    text = re.sub(r"\s+\[.*\]$", "", constraint, flags=re.DOTALL).removeprefix("metric ")
    return text.replace("<=", "≤").replace(">=", "≥")


def named(known: Sequence[Measure], name: str, argument: str) -> Measure:
    """The measure of that name.

    Raises:
        ValueError: there is none; says which there are.
    """
    for measure in known:
        if measure.name == name:
            return measure
    names = ", ".join(repr(measure.name) for measure in known) or "none"
    raise ValueError(f"`{argument}` ({name!r}) must be a number that the trials have: {names}.")


def axes(known: Sequence[Measure]) -> tuple[int, int | None]:
    """Which two measures show the trade-off: indices of the upward and of the rightward one.

    The first objective against the second, else against the first cost with a limit, else any
    cost; None where there is no second one.
    """
    first = next((i for i, m in enumerate(known) if m.objective), 0)
    second = [i for i, m in enumerate(known) if m.objective and i != first]
    limited = [i for i, m in enumerate(known) if m.source == "costs" and m.limits and i != first]
    costs = [i for i, m in enumerate(known) if m.source == "costs" and i != first]
    if known and known[first].source == "scores":  # a reward: against what it weighs
        return first, next(iter(costs + second), None)
    return first, next(iter(second + limited + costs), None)


def front(x: Numbers, y: Numbers, x_direction: str | None, y_direction: str | None) -> list[int]:
    """Indices of the points that no other one beats in both, from left to right.

    Args:
        x, y: `(n,)`; points with NaN are left out.
        x_direction, y_direction: "maximize" or "minimize"; None: there is no front.

    >>> front(np.array([1.0, 2.0, 3.0]), np.array([5.0, 4.0, 9.0]), "minimize", "maximize")
    [0, 2]
    """
    if x_direction is None or y_direction is None:
        return []
    a = x if x_direction == "minimize" else -x
    b = -y if y_direction == "maximize" else y
    kept: list[int] = []
    best = math.inf
    for index in np.lexsort((b, a)):
        if math.isfinite(a[index]) and b[index] < best:
            best = float(b[index])
            kept.append(int(index))
    return kept if x_direction == "minimize" else kept[::-1]
