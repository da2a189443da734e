"""`Study`: what a search has found, read from its file when asked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symnas.errors import SymnasError
from symnas.searchspace.decision import Decision
from symnas.studies.record import decision_of
from symnas.studies.store import SUPERNET, TRAINING, SearchRow, Store
from symnas.studies.text import loads
from symnas.studies.trial import Trial, level_of, read_trial

if TYPE_CHECKING:
    import pandas as pd

    from symnas.searchspace.space import Space


class Study:
    """A named search of a study file: its trials, the best of them, tables and plots.

    `sn.search` returns one; `sn.Study.open` reads one back, also without the code of the space
    (only building a network needs that).
    """

    def __init__(self, store: Store, search: SearchRow, space: Space | None = None) -> None:
        self._store = store
        self._space = space
        self._search = search
        self._decisions = [decision_of(entry) for entry in search.record["decisions"]]

    @classmethod
    def open(cls, location: str | os.PathLike[str], name: str | None = None) -> Study:
        """Opens a recorded study.

        Args:
            location: path of the file, or URL of the database.
            name: which search of the file; by default the one begun last.

        Raises:
            FileNotFoundError: there is no such file.
            KeyError: there is no search of that name in it.
            StorageError: it is not a study, or of a newer format.

        >>> import symnas as sn
        >>> sn.Study.open("nowhere.db")
        Traceback (most recent call last):
        FileNotFoundError: There is no study at `nowhere.db`.
        """
        store = Store(location, create=False)
        rows = {row.name: row for row in store.searches()}
        if name is None and rows:
            name = next(reversed(rows))
        if name not in rows:
            known = ", ".join(map(repr, rows)) or "none yet"
            raise KeyError(
                f"`name` ({name!r}): the searches in `{store.database.label}` are: {known}."
            )
        return cls(store, rows[name])

    @classmethod
    def rescue(cls, damaged: str | os.PathLike[str], to: str | os.PathLike[str]) -> Study:
        """Copies what can be read of a damaged study file into a new one.

        The same call of `sn.search` with the new file continues, and begins again the trials that
        are missing. A trial whose record is no longer sound is left out; but what has changed and
        still looks like a record, such as another digit in a score, is taken over. So a copy of
        the study is better, if there is one. What trials have kept stays in the folder
        `<damaged>.files`: name it `<to>.files`.

        Args:
            damaged: path of the file; it is only read.
            to: path of the new file.

        Returns:
            The search of it that was begun last.

        Raises:
            FileNotFoundError, FileExistsError: there is no such file; or one that is to be made.
            StorageError: nothing can be rescued.
        """
        from symnas.studies.rescue import rescue

        rescue(Path(damaged), Path(to))
        return cls.open(to)

    # --- what was searched --------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of this search within its file."""
        return self._search.name

    @property
    def location(self) -> str | None:
        """Path or URL of the study; None for one that is gone with the process."""
        return self._store.database.location

    @property
    def files(self) -> Path:
        """The folder that holds what trials left behind, a folder per trial."""
        return self._store.database.files / self._search.folder

    @property
    def searches(self) -> tuple[str, ...]:
        """The names of all searches in the file, oldest first."""
        return tuple(row.name for row in self._store.searches())

    @property
    def record(self) -> Mapping[str, Any]:
        """What was recorded when the search began: space, task, algorithm, seed, versions."""
        return self._search.record

    @property
    def objectives(self) -> tuple[Mapping[str, str], ...]:
        """The objectives: `name`, `direction` and `unit` of each."""
        return tuple(self.record["objectives"])

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions of the space, as they were recorded (without candidates)."""
        return tuple(self._decisions)

    @property
    def training(self) -> dict[str, Any]:
        """How the supernet of a one-shot search was trained; empty if there is none.

        `epochs` is a list of numbers by name, one for each epoch; `result` what the algorithm says
        of its result, such as the relaxed and the discrete cost, once it is there.
        """
        path = self._store.folder(self._search, SUPERNET) / TRAINING
        return dict(json.loads(path.read_text())) if path.exists() else {}

    @property
    def ended(self) -> str | None:
        """Why the search stopped; None while it runs or after it was killed."""
        found = self._store.find(self.name)
        return None if found is None else found.ended

    # --- trials -------------------------------------------------------------------------------

    @property
    def trials(self) -> list[Trial]:
        """All trials in the order in which they were proposed."""
        return self._read()

    @property
    def failed(self) -> list[Trial]:
        """The trials that failed, each with its `reason`."""
        return self._read(states=("failed",))

    def trial(self, number: int) -> Trial:
        """One trial.

        Raises:
            IndexError: there is no trial of that number.
        """
        found = self._read(number=number)
        if not found:
            raise IndexError(f"`number` ({number}): the study has {len(self)} trials.")
        return found[0]

    def __len__(self) -> int:
        """The number of trials, running and failed ones included."""
        return sum(self._store.count(self._search.id).values())

    @property
    def spent(self) -> float | None:
        """The sum of the budgets of what was evaluated: epochs, say; None without budgets.

        A trial that failed counts as if it had spent all, one whose result was reused as nothing.
        """
        columns = ("budget", "reused_number")
        rows = self._store.trials(self._search.id, states=("done", "failed"), columns=columns)
        budgets = [(row["budget"], row["reused_number"]) for row in rows]
        if all(budget is None for budget, _ in budgets):
            return None
        return float(sum(b for b, reused in budgets if b is not None and reused is None))

    @property
    def best(self) -> Trial:
        """The finished trial with the best score; of equal ones the first.

        Only trials of the highest budget that any has finished at are compared: a score after few
        epochs says little about one after many. A trial without budget had all it wanted, which
        counts as the highest.

        Raises:
            SymnasError: no trial has finished, or there are several objectives.
        """
        if len(self.objectives) != 1:
            names = ", ".join(entry["name"] for entry in self.objectives)
            raise SymnasError(
                f"With several objectives ({names}) no trial is the best one: see study.pareto()."
            )
        numbers, scores = self._scores()
        if not len(numbers):
            raise SymnasError(f"No trial of the study has finished yet{self._why_none()}.")
        return self.trial(int(numbers[int(np.argmax(scores[:, 0]))]))

    def pareto(self) -> list[Trial]:
        """The finished trials that no other one beats in every objective, in order of number.

        As for `best`, only trials of the highest budget count.
        """
        import moocore

        numbers, scores = self._scores()
        if not len(numbers):
            return []
        keep = set(numbers[moocore.is_nondominated(scores, maximise=True, keep_weakly=True)])
        return [trial for trial in self._read(states=("done",)) if trial.number in keep]

    def hypervolume(self, reference: Mapping[str, float] | Sequence[float]) -> float:
        """The volume that the finished trials of the highest budget dominate, up to a point.

        Args:
            reference: the worst value that counts, of each objective: by name, or in the order of
                `study.objectives`; in the objectives' own units and directions.

        Raises:
            ValueError: the reference lacks an objective.
        """
        import moocore

        names = [entry["name"] for entry in self.objectives]
        values = [reference.get(n) for n in names] if isinstance(reference, Mapping) else reference
        if len(values) != len(names) or any(value is None for value in values):
            raise ValueError(
                f"`reference` ({reference!r}) must have a value for each of {', '.join(names)}."
            )
        _, scores = self._scores()
        if not len(scores):
            return 0.0
        signs = [1.0 if o["direction"] == "maximize" else -1.0 for o in self.objectives]
        point = np.asarray(values, dtype=float) * signs
        return float(moocore.hypervolume(scores, ref=point, maximise=True))

    def frame(self) -> pd.DataFrame:
        """One row a trial: number, state, metrics, costs, a labelled column a decision.

        Where trials have budgets, there is a column "budget" after "state"; in a flow "stage".
        A metric or cost that has the name of another column is prefixed with "metric." or "cost.".
        """
        import pandas as pd

        ids = [decision.id for decision in self._decisions]
        trials = self._read()
        budgets = ("budget",) if any(trial.budget is not None for trial in trials) else ()
        stages = ("stage",) if any(trial.stage for trial in trials) else ()
        fixed = ("number", "state", *budgets, *stages, "seconds", "reason")
        rows = []
        for trial in trials:
            row: dict[str, Any] = {"number": trial.number, "state": trial.state}
            row |= dict.fromkeys(budgets, trial.budget) | dict.fromkeys(stages, trial.stage)
            taken = {*fixed, *ids}
            for prefix, values in (("metric", trial.metrics), ("cost", trial.costs)):
                for name, value in values.items():
                    row[name if name not in taken else f"{prefix}.{name}"] = value
                taken |= set(values)
            row |= {name: trial.choices.get(name) for name in ids}
            rows.append(row | {"seconds": trial.seconds, "reason": trial.reason})
        return pd.DataFrame(rows, columns=None if rows else [*fixed[:2], *ids, *fixed[2:]])

    # --- for people ---------------------------------------------------------------------------

    def plot_progress(self) -> Any:
        """A figure of the best score over the trials."""
        from symnas.reports import plots

        return plots.progress(self)

    def plot_pareto(self) -> Any:
        """A figure of the finished trials and those that no other one beats."""
        from symnas.reports import plots

        return plots.pareto(self)

    def report(
        self, path: str | os.PathLike[str], *, final: Mapping[str, Any] | None = None
    ) -> Path:
        """Writes a self-contained HTML page about the study; returns its path.

        Args:
            path: where to write it.
            final: results of a final training to show, such as `{"test accuracy": 0.98}`.
        """
        from symnas.reports import page

        return page.write(self, path, final=final)

    def __repr__(self) -> str:
        return f"Study({self._store.database.label!r}, name={self.name!r}, trials={len(self)})"

    # --- reading ------------------------------------------------------------------------------

    def _read(self, **selection: Any) -> list[Trial]:
        names = {row.id: row for row in self._store.searches()}
        labels = {identity: row.name for identity, row in names.items()}
        trials = []
        for row in self._store.trials(self._search.id, **selection):
            # A reused result's weights lie where they were trained.
            source = names.get(row["reused_search"], self._search)
            reused = row["reused_number"]
            number = row["number"] if reused is None else reused
            path = self._store.folder(source, number)
            with self._store.intact():
                trials.append(
                    read_trial(
                        row,
                        decisions=self._decisions,
                        names=labels,
                        path=path,
                        space=self._space,
                        owner=self._store,
                    )
                )
        return trials

    def _scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers `(n,)` and scores `(n, objectives)` of what is compared: finished, without NaN,
        of the highest budget.
        """
        numbers, scores, levels = [], [], []
        columns = ("number", "scores", "budget")
        for row in self._store.trials(self._search.id, states=("done",), columns=columns):
            numbers.append(row["number"])
            with self._store.intact():
                scores.append(loads(row["scores"]))
            levels.append(level_of(row["budget"]))
        array = np.asarray(scores, dtype=float).reshape(len(scores), len(self.objectives))
        good = ~np.isnan(array).any(axis=1)
        level = np.asarray(levels, dtype=float)
        good &= level == level[good].max(initial=-np.inf)
        return np.asarray(numbers, dtype=int)[good], array[good]

    def _why_none(self) -> str:
        failed = self._read(states=("failed",))
        if not failed:
            return ""
        first = (failed[0].reason or "").splitlines()[0]
        return f"; {len(failed)} have failed, the first with: {first}"
