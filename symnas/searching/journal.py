"""`Journal`: what the search loop writes into a study, and reads back to continue."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching.evaluation import Assignment, Outcome, trial_seed
from symnas.studies.store import SearchRow, Store
from symnas.studies.text import dumps, loads

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.searching.setting import Setting

# Recorded trials that are read at once, and what is read of them.
_CHUNK = 500
_COLUMNS = ("number", "row", "told", "seed", "budget", "repeat", "state", "scores", "reason",
            "costs", "reused_number", "stage", "driver")  # fmt: skip


@attrs.frozen
class Entry:
    """A trial as the loop sees it: `row` is `(1, columns)`, `scores` None while it is open.

    `driver` is who evaluates it, where several processes share the search.
    """

    row: NDArray[np.int32]
    told: int
    assignment: Assignment
    state: str
    scores: list[float] | None
    reason: str | None = None
    reused: bool = False
    driver: int | None = None

    @property
    def number(self) -> int:
        """The trial's number."""
        return self.assignment.number


@attrs.define
class Journal:
    """The trials of one search, written one by one as they happen.

    A result is safe from the death of the process when `finish` returns. Open trials are kept in
    memory, finished ones only in the study.

    Attributes:
        store: where trials are kept.
        search: whose trials.
        setting: what the search is about: its seed, costs and scores.
        driver: who writes, where several processes share the search: others write as well.
    """

    store: Store
    search: SearchRow
    setting: Setting
    driver: int | None = None
    _among: tuple[int, ...] = attrs.field(init=False)
    _recorded: deque[Mapping[str, Any]] = attrs.field(factory=deque, init=False)
    _more: bool = attrs.field(default=True, init=False)
    _open: dict[int, tuple[Entry, dict[str, float]]] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._among = self.store.same_task(self.search)

    def recorded(self, number: int) -> Entry | None:
        """The recorded trial of this number, or None; to be asked for in order, from 0."""
        if not self._recorded and self._more:
            rows = self.store.trials(self.search.id, first=number, most=_CHUNK, columns=_COLUMNS)
            self._recorded.extend(rows)
            self._more = bool(self._recorded) or self.driver is not None
        if not self._recorded:
            return None
        if self._recorded[0]["number"] != number:  # of a damaged file not all was rescued
            return None
        row = self._recorded.popleft()
        with self.store.intact():
            entry = self._entry(row)
            if entry.scores is None:
                self._open[number] = (entry, loads(row["costs"]))
        return entry

    def again(self, numbers: Iterable[int]) -> list[Entry]:
        """What is recorded now of trials that were open: other drivers may have ended them."""
        rows = self.store.trials(self.search.id, numbers=list(numbers), columns=_COLUMNS)
        entries = [self._entry(row) for row in rows]
        for entry in entries:
            if entry.scores is not None:
                self._open.pop(entry.number, None)
        return entries

    def claim(self, entry: Entry) -> bool:
        """Takes an open trial over from a driver that is dead; False if another one has."""
        assert self.driver is not None
        return self.store.claim_trial(
            self.search.id, entry.number, of=entry.driver, driver=self.driver
        )

    def begin(
        self,
        number: int,
        row: NDArray[np.int32],
        architecture: Architecture,
        *,
        told: int,
        budget: float | None = None,
        stage: str = "",
    ) -> Entry:
        """Writes a proposal; finished at once if another search has evaluated the same."""
        costs = self.setting.costs_of(row)
        seed = trial_seed(self.setting.seed, number)
        assignment = self._assignment(number, seed, budget, stage=stage)
        entry = Entry(row, told, assignment, "running", None, driver=self.driver)
        values = proposal(entry, architecture, costs)
        reused = self._reusable(architecture.key, assignment, costs)
        if reused is not None:
            taken, scores = reused
            values |= taken
            entry = attrs.evolve(
                entry, state=taken["state"], scores=scores, reason=taken["reason"], reused=True
            )
        else:
            self._open[number] = (entry, costs)
        self.store.begin_trial(self.search.id, values)
        return entry

    def finish(self, number: int, outcome: Outcome) -> Entry | None:
        """Writes how a trial ended; None if another driver has taken it over."""
        entry, costs = self._open[number]
        scores, reason = self.setting.failure, outcome.reason
        if outcome.metrics is not None:
            scores, reason = self.setting.judge(outcome.metrics, costs)
        state = "done" if reason is None else "failed"
        if reason is not None:  # a server's texts hold all characters but these
            reason = reason.replace("\0", "\\0").encode("utf-8", "replace").decode()
        written = self.store.finish_trial(
            self.search.id,
            number,
            {
                "state": state,
                "started": outcome.started,
                "seconds": outcome.seconds,
                "metrics": dumps(outcome.metrics),
                "scores": dumps(scores),
                "reason": reason,
                "reports": dumps(outcome.reports),
            },
            driver=self.driver,
        )
        if not written:
            return None
        del self._open[number]
        return attrs.evolve(entry, state=state, scores=scores, reason=reason)

    def _entry(self, row: Mapping[str, Any]) -> Entry:
        number, seed, stage = row["number"], row["seed"], row["stage"]
        return Entry(
            row=np.array([loads(row["row"])], dtype=np.int32),
            told=row["told"],
            assignment=self._assignment(number, seed, row["budget"], row["repeat"], stage),
            state=row["state"],
            scores=loads(row["scores"]),
            reason=row["reason"],
            reused=row["reused_number"] is not None,
            driver=row["driver"],
        )

    def _assignment(
        self,
        number: int,
        seed: int,
        budget: float | None = None,
        repeat: int = 0,
        stage: str | None = "",
    ) -> Assignment:
        folder = str(self.store.folder(self.search, number))
        return Assignment(number, seed, folder, budget, repeat, stage or "")

    def _reusable(
        self, key: str, assignment: Assignment, costs: Mapping[str, float]
    ) -> tuple[dict[str, Any], list[float]] | None:
        if not self._among:
            return None
        found = self.store.reusable(self._among, key, assignment.budget, assignment.repeat)
        for row in found:
            try:
                scores, reason = self.setting.judge(loads(row["metrics"]), costs)
            except KeyError:  # that search wanted other metrics
                continue
            return reuse(row, scores, reason), scores
        return None


def proposal(
    entry: Entry, architecture: Architecture, costs: Mapping[str, float]
) -> dict[str, Any]:
    """The columns of a trial that has been proposed; each row of a study has all columns."""
    return {
        "number": entry.number,
        "state": "running",
        "key": architecture.key,
        "row": dumps(entry.row[0].tolist()),
        "architecture": architecture.to_json(),
        "budget": entry.assignment.budget,
        "repeat": entry.assignment.repeat,
        "stage": entry.assignment.stage,
        "seed": entry.assignment.seed,
        "told": entry.told,
        "costs": dumps(costs),
        "started": time.time(),
        "seconds": None,
        "metrics": None,
        "scores": None,
        "reason": None,
        "reports": None,
        "reused_search": None,
        "reused_number": None,
        "driver": entry.driver,
    }


def reuse(row: Mapping[str, Any], scores: list[float], reason: str | None) -> dict[str, Any]:
    """The columns of a trial that takes over the result of another one."""
    return {
        "state": "done" if reason is None else "failed",
        "reason": reason,
        "started": row["started"],
        "seconds": row["seconds"],
        "metrics": row["metrics"],
        "scores": dumps(scores),
        "reports": row["reports"],
        "reused_search": row["search"],
        "reused_number": row["number"],
    }
