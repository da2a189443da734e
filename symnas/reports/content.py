"""What the page about a study holds, as plain data."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from symnas.errors import SymnasError
from symnas.reports.association import associations
from symnas.reports.drawing import draw
from symnas.reports.measures import Measure, axes, brief, front, highest, lowest, measures
from symnas.reports.words import paragraph

if TYPE_CHECKING:
    from symnas.studies.study import Study
    from symnas.studies.trial import Trial

# Trials whose source, JSON and drawing are on the page, beside those of the front; of a front at
# most this many.
DETAILED = 100
_REASON = 2000  # characters of a failure's reason
_NUMBERS = 12  # trial numbers listed for a reason


@attrs.frozen
class Content:
    """A study, read once.

    Attributes:
        title: of the page.
        summary: a paragraph.
        data: JSON-able; floats are None where they are not finite.
        packed: more of it, as compressed text: choices of all trials, details of the best ones.
    """

    title: str
    summary: str
    data: dict[str, Any]
    packed: str


def content(study: Study, final: Mapping[str, Any] | None = None) -> Content:
    """Reads a study.

    Args:
        study: finished or not.
        final: results of a final training, by name.
    """
    trials = study.trials
    known = measures(study, trials)
    done = [trial for trial in trials if trial.state == "done"]
    best = _best(study)
    pareto = _pareto(study)
    shown = _trade_off(known, highest(done))
    detailed = _detailed(known, highest(done), best, pareto + shown)
    record = study.record
    data = {
        "name": study.name,
        "file": _file_name(study),
        "searches": [name for name in study.searches if name != study.name],
        "final": {name: _plain(value) for name, value in (final or {}).items()},
        "measures": [_measure(measure) for measure in known],
        "axes": list(axes(known)) if known else [0, None],
        "best": None if best is None else best.number,
        "front": [trial.number for trial in pareto],
        "trials": _columns(trials, known),
        "associations": _associations(study, lowest(done), known),
        "failures": _failures(trials),
        "constraints": [brief(text) for text in record.get("constraints", ())],
        "detailed": len(detailed),
        "record": _plain(record),
        "training": _plain(study.training),
    }
    packed = {
        "choices": _choices(study, trials),
        "details": {trial.number: _detail(trial) for trial in detailed},
    }
    summary = paragraph(study, trials, known, best, len(pareto))
    name = record.get("space", {}).get("name")
    title = f"{study.name}: {name}" if name and name != study.name else study.name
    return Content(title, summary, data, _pack(packed))


def _best(study: Study) -> Trial | None:
    try:
        return study.best
    except SymnasError:
        return None


def _pareto(study: Study) -> list[Trial]:
    return study.pareto() if len(study.objectives) > 1 else []


def _trade_off(known: Sequence[Measure], done: Sequence[Trial]) -> list[Trial]:
    """The front of the two measures that the page first shows."""
    if not known:
        return []
    up, right = axes(known)
    if right is None:
        return []
    x, y = known[right], known[up]
    indices = front(x.column(done), y.column(done), x.direction, y.direction)
    return [done[index] for index in indices]


def _detailed(
    known: Sequence[Measure], done: Sequence[Trial], best: Trial | None, front: Sequence[Trial]
) -> list[Trial]:
    chosen = {} if best is None else {best.number: best}
    chosen |= {trial.number: trial for trial in front[:DETAILED]}
    first = next((measure for measure in known if measure.objective), None)
    if first is not None:
        sign = -1 if first.direction == "maximize" else 1
        ranked = sorted(
            (sign * first.of(trial), trial.number, trial)
            for trial in done
            if math.isfinite(first.of(trial))
        )
        chosen |= {number: trial for _, number, trial in ranked[:DETAILED]}
    return [chosen[number] for number in sorted(chosen)]


def _file_name(study: Study) -> str | None:
    """The name of the study's file; not where it lies, and no URL, which may hold a password."""
    location = getattr(study, "location", None)
    return None if location is None or "://" in str(location) else Path(location).name


def _measure(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "label": measure.label,
        "unit": measure.unit,
        "source": measure.source,
        "direction": measure.direction,
        "objective": measure.objective,
        "limits": [[limit.relation, limit.value] for limit in measure.limits],
    }


def _columns(trials: Sequence[Trial], known: Sequence[Measure]) -> dict[str, Any]:
    return {
        "number": [trial.number for trial in trials],
        "state": [trial.state for trial in trials],
        "budget": _budgets(trials),
        "stage": [trial.stage for trial in trials] if any(t.stage for t in trials) else None,
        "seconds": [_number(trial.seconds) for trial in trials],
        "values": [
            [_number(value) for value in measure.column(trials).tolist()] for measure in known
        ],
        "reason": {
            trial.number: (trial.reason or "")[:_REASON] for trial in trials if trial.reason
        },
        "reused": {
            trial.number: list(trial.reused) for trial in trials if trial.reused is not None
        },
    }


def _budgets(trials: Sequence[Trial]) -> list[float | int | None] | None:
    """What each trial could spend; None for a study without budgets."""
    budgets = [_number(trial.budget) for trial in trials]
    return budgets if any(budget is not None for budget in budgets) else None


def _associations(
    study: Study, done: Sequence[Trial], known: Sequence[Measure]
) -> list[dict[str, Any]]:
    first = next((measure for measure in known if measure.objective), None)
    if first is None:
        return []
    return [attrs.asdict(found) for found in associations(study.decisions, done, first)]


def _failures(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Failed trials by the first line of their reason, numbers aside; the most frequent first."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.state not in ("done", "running"):
            line = ((trial.reason or "").strip().splitlines() or ["no reason was recorded"])[0]
            groups.setdefault(re.sub(r"\d+(\.\d+)?", "#", line), []).append(trial)
    return [
        {
            "first": ((group[0].reason or "no reason was recorded").strip())[:_REASON],
            "count": len(group),
            "numbers": [trial.number for trial in group[:_NUMBERS]],
        }
        for group in sorted(groups.values(), key=len, reverse=True)
    ]


def _choices(study: Study, trials: Sequence[Trial]) -> list[list[Any]]:
    """For each trial the index of each decision's label, -1 where inactive; a float's own label."""
    places = [
        None if decision.kind == "float" else {label: i for i, label in enumerate(decision.labels)}
        for decision in study.decisions
    ]
    ids = [decision.id for decision in study.decisions]
    rows = []
    for trial in trials:
        labels = [trial.choices.get(identity) for identity in ids]
        rows.append(
            [
                -1 if label is None else (label if place is None else place.get(label, label))
                for label, place in zip(labels, places, strict=True)
            ]
        )
    return rows


def _detail(trial: Trial) -> dict[str, Any]:
    """Source, JSON and drawing, each None where it cannot be had, with why.

    Anything may fail here: the code of the space may be gone, changed, or not traceable; the page
    is written nevertheless.
    """
    found: dict[str, Any] = {}
    why: dict[str, str] = {}
    makers: dict[str, Callable[[], Any]] = {
        "json": lambda: trial.architecture.to_json(),
        "source": lambda: trial.architecture.to_python(),
        "drawing": lambda: draw(trial.architecture).data(),
    }
    for name, make in makers.items():
        try:
            found[name] = make()
        except Exception as error:
            line = (str(error).strip().splitlines() or [""])[0]
            found[name] = None
            why[name] = f"{type(error).__name__}: {line}"[:300].rstrip(".")
    return {**found, "why": why}


def _number(value: float | None) -> float | int | None:
    """A number that JSON has, in 7 digits, which is more than anything on the page shows."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 2**53 else float(f"{value:.7g}")


def _plain(value: Any) -> Any:
    """Anything as JSON that browsers read: NaN and infinities as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    item = getattr(value, "item", None)  # a number of numpy or torch
    return _plain(item()) if callable(item) else str(value)


def _pack(value: Any) -> str:
    """Compressed JSON, which sources and programs shorten to a few per cent of."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()
