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
    from symnas.searching.problem import Problem
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
    and measured what the objectives need, at a budget of the new algorithm (none, for one without
    fidelities). One whose decisions can be made in the new space, but give another program, or
    whose budget is none of them, is proposed again, at the lowest. The rest, and what breaks the
    constraints, is dropped.
    """
    decisions = [decision_of(entry) for entry in old.record["decisions"]]
    same_task = old.record["task"] == record["task"]
    budgets = setting.algorithm.budgets or (None,)
    problem = setting.problem()
    problem.budget = budgets[0]
    kept: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    matches = [
        (row, *_find(setting, row, decisions)) for row in store.trials(old.id, states=("done",))
    ]
    # Of those that become the same architecture, the one that has been it all along.
    matches.sort(key=lambda match: not match[2])
    for row, found, same in matches:
        if found is None or not (same and same_task) or row["budget"] not in budgets:
            continue
        finished = _finished(setting, found, row)
        if finished is not None and _is_new(problem, found, row["budget"]):
            problem.propose(found[None], row["budget"])
            kept.append(finished)
    for _, found, _ in matches:
        if found is not None and problem.fresh(found[None])[0]:
            problem.propose(found[None])
            again.append(_proposed(setting, found, budgets[0]))
    dropped = len(matches) - len(kept) - len(again)
    for index in np.flatnonzero(problem.fresh(setting.initial)):
        again.insert(index, _proposed(setting, setting.initial[index], budgets[0]))
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


def _is_new(problem: Problem, found: Row, budget: float | None) -> bool:
    """Whether it is feasible and was not taken over yet, at this budget."""
    at = problem.budgets_of(found)
    if not at:
        return bool(problem.fresh(found[None])[0])
    return budget not in at and bool(problem.feasible(found[None])[0])


def _proposed(
    setting: Setting, found: Row, budget: float | None, repeat: int = 0
) -> dict[str, Any]:
    """The columns of a trial that is to be evaluated; number and seed come with its place."""
    costs = setting.costs_of(found[None])
    entry = Entry(found[None], 0, Assignment(0, 0, "", budget, repeat), "running", None)
    return proposal(entry, setting.space.decode(found), costs)


def _finished(setting: Setting, found: Row, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The columns of a trial that keeps its result; None if it lacks what the objectives need."""
    try:
        scores, reason = setting.judge(loads(row["metrics"]), setting.costs_of(found[None]))
    except KeyError:
        return None
    values = _proposed(setting, found, row["budget"], row["repeat"])
    values |= {"seed": row["seed"]} | reuse(row, scores, reason)
    if row["reused_number"] is not None:  # the result of a third one: that is where its files are
        values |= {name: row[name] for name in ("reused_search", "reused_number")}
    return values
