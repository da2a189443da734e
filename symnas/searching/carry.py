"""`on_change="carry"`: the trials of an earlier search that fit a changed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.architecture.architecture import Architecture
from symnas.errors import SymnasError
from symnas.searching.evaluation import Assignment, trial_seed
from symnas.searching.journal import Entry, proposal, reuse
from symnas.searchspace.decision import FLOAT_LEVELS, Decision, rescale
from symnas.studies.record import decision_of
from symnas.studies.store import SearchRow, Store
from symnas.studies.text import loads

if TYPE_CHECKING:
    from symnas.searching.setting import Setting

Row = NDArray[np.int32]


@attrs.frozen
class Carried:
    """What is taken over: columns of the new trials, and how many were (not)."""

    trials: list[dict[str, Any]]
    finished: int
    again: int
    dropped: int

    def __str__(self) -> str:
        return (
            f"carried over {self.finished} finished trials and {self.again} to be evaluated again; "
            f"{self.dropped} no longer fit"
        )


def carry(store: Store, old: SearchRow, setting: Setting, record: Mapping[str, Any]) -> Carried:
    """Maps the finished trials of `old` to the new setting.

    A trial whose program is the same in the new space keeps its result, if the task is unchanged
    and measured what the objectives need. One whose decisions can be made in the new space, but
    give another program, is proposed again. The rest, and what breaks the constraints, is dropped.
    """
    decisions = [decision_of(entry) for entry in old.record["decisions"]]
    same_task = old.record["task"] == record["task"]
    problem = setting.problem()
    kept: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    dropped = 0
    matches = [
        (row, *_find(setting, row, decisions)) for row in store.trials(old.id, states=("done",))
    ]
    # Of those that become the same architecture, the one that has been it all along.
    for row, found, same in sorted(matches, key=lambda match: not match[2]):
        if found is None or not problem.fresh(found[None])[0]:
            dropped += 1
            continue
        problem.propose(found[None])
        finished = _finished(setting, found, row) if same and same_task else None
        if finished is not None:
            kept.append(finished)
        else:
            again.append(_proposed(setting, found, row))
    for index in np.flatnonzero(problem.fresh(setting.initial)):
        again.insert(index, _proposed(setting, setting.initial[index], None))
    trials = [{**values, "number": number} for number, values in enumerate([*kept, *again])]
    for values in trials[len(kept) :]:
        values["seed"] = trial_seed(setting.seed, values["number"])
    return Carried(trials, len(kept), len(again), dropped)


def _find(
    setting: Setting, row: Mapping[str, Any], decisions: Sequence[Decision]
) -> tuple[Row | None, bool]:
    """The row in the new space, and whether it is the same architecture there."""
    space = setting.space
    chosen = {d.id: (d, value) for d, value in zip(decisions, loads(row["row"]), strict=True)}
    mapped = [
        _value(decision, *chosen.get(decision.id, (decision, -1))) for decision in space.decisions
    ]
    by_choices = None
    if None not in mapped and space.is_row(mapped):
        by_choices = np.array(mapped, dtype=np.int32)
        if space.decode(mapped).key == row["key"]:
            return by_choices, True
    try:  # a decision may have become a constant, or the other way round
        return space.encode(Architecture.from_json(row["architecture"])), True
    except (SymnasError, ValueError):
        return by_choices, False


def _value(decision: Decision, was: Decision, value: int) -> int | None:
    """The value of a column of the new space for one of the old; None if there is none."""
    if value < 0:
        return -1
    if (decision.kind == "float") != (was.kind == "float"):
        return None
    if decision.kind != "float":
        label = was.labels[value]
        return decision.labels.index(label) if label in decision.labels else None
    low, high = decision.candidates
    number = was.number(value)
    if not low <= number <= high:
        return None
    return round(rescale(number, low, high, decision.scale) * (FLOAT_LEVELS - 1))


def _proposed(setting: Setting, found: Row, row: Mapping[str, Any] | None) -> dict[str, Any]:
    """The columns of a trial that is to be evaluated; number and seed come with its place."""
    costs = setting.costs_of(found[None])
    budget, repeat = (None, 0) if row is None else (row["budget"], row["repeat"])
    entry = Entry(found[None], 0, Assignment(0, 0, "", budget, repeat), "running", None)
    return proposal(entry, setting.space.decode(found), costs)


def _finished(setting: Setting, found: Row, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The columns of a trial that keeps its result; None if it lacks what the objectives need."""
    try:
        scores, reason = setting.judge(loads(row["metrics"]), setting.costs_of(found[None]))
    except KeyError:
        return None
    values = _proposed(setting, found, row) | {"seed": row["seed"]} | reuse(row, scores, reason)
    if row["reused_number"] is not None:  # the result of a third one: that is where its files are
        values |= {name: row[name] for name in ("reused_search", "reused_number")}
    return values
