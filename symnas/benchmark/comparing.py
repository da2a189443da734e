"""`compare` and `simulate`: any algorithms on any tables, each with many seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from symnas.benchmark.base import Table
from symnas.benchmark.cells import Cell
from symnas.benchmark.comparison import Comparison
from symnas.benchmark.driving import Contender, Setup, names_of, problem_of
from symnas.benchmark.limits import Below, limits_of
from symnas.benchmark.pool import run_cells

CHECKPOINTS = (50, 100, 200)


def compare(
    algorithms: Mapping[str, Contender],
    tables: Table | Sequence[Table] | Mapping[str, Table],
    *,
    seeds: int | Sequence[int] = 30,
    evaluations: int = 200,
    checkpoints: Sequence[int] | None = None,
    objectives: str | Sequence[str] | None = None,
    subject_to: Any = None,
    budget: float | None = None,
    workers: int = 1,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """Runs each algorithm on each table with each seed, one evaluation after another.

    Args:
        algorithms: by the name to show; algorithms of symnas, or of `sn.benchmark.peers`.
        tables: one or several, by name.
        seeds: how many, from 0, or which.
        evaluations: of each search. One at a lower fidelity counts by its share of the budget, and
            its architecture counts as found when it is evaluated at the full budget.
        checkpoints: numbers of evaluations at which regrets are told; None: 50, 100 and 200, as
            far as there are so many, and the last one.
        objectives: columns to improve, each in its direction; None: the first metric. With
            several, regret is in hypervolume; see `symnas.benchmark.regret`.
        subject_to: limits on cost columns: `Below("latency:raspi4", quantile=0.1)`, its text
            "latency:raspi4:0.1", or several of them, all of which are to be kept.
        budget: the fidelity at which architectures are judged; None: the table's largest.
        workers: processes. The results are the same for any number, but for the real seconds.
        folder: where finished searches are kept, so that no call repeats them; None: nowhere.
        progress: show a bar.

    Raises:
        TypeError, ValueError: an argument is not what it must be.
        Infeasible: no architecture of a table keeps the limits.

    >>> import symnas as sn
    >>> from symnas import algorithms as alg
    >>> space = sn.Space([sn.oneof([1, 2, 3]), sn.oneof([1, 2, 3])], name="squares")
    >>> rows = next(space.enumerate())
    >>> table = sn.benchmark.Tabulated("squares", space, [sn.benchmark.Column("score", "maximize")],
    ...                                rows, {"score": rows.sum(axis=1)})
    >>> found = compare({"random": alg.RandomSearch()}, table, seeds=2, evaluations=9, progress=False)
    >>> found.summary()["mean"].tolist()  # all nine have been found
    [0.0]
    """
    if checkpoints is None:
        checkpoints = [c for c in CHECKPOINTS if c < evaluations] + [evaluations]
    points = np.array(checkpoints, float)
    if not len(points) or (np.diff(points) <= 0).any() or points[0] < 1 or points[-1] > evaluations:
        raise ValueError(
            f"`checkpoints` ({list(checkpoints)}) must rise from at least 1 to at most "
            f"`evaluations` ({evaluations})."
        )
    setup = Setup((), evaluations, (), budget)
    study = _Study.of(algorithms, tables, seeds, objectives, subject_to, setup)
    return study.run(workers, folder, progress, "evaluations", tuple(float(p) for p in points))


def simulate(
    algorithms: Mapping[str, Contender],
    tables: Table | Sequence[Table] | Mapping[str, Table],
    *,
    workers: int = 4,
    seconds: str | None = None,
    seeds: int | Sequence[int] = 30,
    evaluations: int = 200,
    checkpoints: Sequence[float] | None = None,
    objectives: str | Sequence[str] | None = None,
    subject_to: Any = None,
    budget: float | None = None,
    processes: int = 1,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """As `compare`, on a simulated cluster: regrets are told by wall-clock time.

    Results are told in the order of `sn.search`, whose searches do not depend on which trial happens
    to end first: in order of proposal, or with budgets as if each trial took its budget. Proposal i
    is asked for when i - workers have been told. A slow trial therefore makes the others wait.
    Proposing takes no simulated time.

    Args:
        algorithms, tables, seeds, evaluations, objectives, subject_to, budget, folder, progress:
            as for `compare`.
        workers: simulated ones.
        seconds: the column that says how long the training took; None: the first of that kind. A
            cost may stand in for it, where a table has none.
        checkpoints: simulated seconds at which regrets are told; None: a quarter, a half and all
            of the time of the quickest search.
        processes: real ones.

    Raises:
        TypeError, ValueError: an argument is not what it must be, or a table has no seconds.
        Infeasible: no architecture of a table keeps the limits.
    """
    if checkpoints is not None and (
        not len(checkpoints) or checkpoints[0] <= 0 or (np.diff(checkpoints) <= 0).any()
    ):
        raise ValueError(f"`checkpoints` ({list(checkpoints)}) must rise from above 0.")
    setup = Setup((), evaluations, (), budget, workers, seconds or "")
    study = _Study.of(algorithms, tables, seeds, objectives, subject_to, setup)
    return study.run(
        processes, folder, progress, "seconds", tuple(float(c) for c in checkpoints or ())
    )


@attrs.frozen
class _Study:
    algorithms: Mapping[str, Contender]
    tables: Mapping[str, Table]
    setups: Mapping[str, Setup]
    seeds: tuple[int, ...]
    subject_to: str

    @classmethod
    def of(
        cls,
        algorithms: Any,
        tables: Any,
        seeds: Any,
        objectives: Any,
        subject_to: Any,
        setup: Setup,
    ) -> _Study:
        if not isinstance(algorithms, Mapping) or not algorithms:
            raise TypeError(
                f"`algorithms` ({algorithms!r:.80}) must be a mapping of names to algorithms, such as "
                '{"local": symnas.algorithms.LocalSearch()}.'
            )
        for name, algorithm in algorithms.items():
            if isinstance(algorithm, type) or not callable(getattr(algorithm, "start", None)):
                raise TypeError(f"`algorithms[{name!r}]` ({algorithm!r:.80}) must be an algorithm.")
        chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(s) for s in seeds)
        if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
            raise ValueError(
                f"`seeds` ({seeds!r}) must be how many, at least 1, or different numbers from 0 up."
            )
        limits = limits_of(subject_to)
        named = _named(tables)
        setups = {name: _setup(table, setup, objectives, limits) for name, table in named.items()}
        return cls(dict(algorithms), named, setups, chosen, ", ".join(map(str, limits)))

    def run(
        self,
        workers: int,
        folder: str | Path | None,
        progress: bool,
        axis: str,
        checkpoints: tuple[float, ...],
    ) -> Comparison:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ValueError(f"The number of processes ({workers!r}) must be at least 1.")
        cells = [
            Cell.of(name, algorithm, where, table, self.setups[where], seed)
            for seed in self.seeds  # all algorithms get ahead together
            for where, table in self.tables.items()
            for name, algorithm in self.algorithms.items()
        ]
        records, failures = run_cells(
            cells, self.algorithms, self.tables, self.setups, workers, folder, progress
        )
        if not checkpoints:
            last = min((r.finished.max() for r in records.values() if len(r.rows)), default=0.0)
            checkpoints = (last / 4, last / 2, last)
        return Comparison(
            tuple(self.algorithms),
            dict(self.tables),
            dict(self.setups),
            self.subject_to,
            axis,
            checkpoints,
            {_key(cell): record for cell, record in records.items()},
            {_key(cell): text for cell, text in failures.items()},
        )


def _key(cell: Cell) -> tuple[str, str, int]:
    return cell.algorithm, cell.table, cell.seed


def _named(tables: Any) -> dict[str, Table]:
    if isinstance(tables, Table):
        tables = [tables]
    if not isinstance(tables, Mapping):
        given: Iterable[Any] = tables
        found = [(getattr(table, "name", ""), table) for table in given]
        tables = dict(found)
        if len(tables) < len(found):
            raise ValueError(
                f"Two `tables` have the same name ({[name for name, _ in found]}): pass a mapping."
            )
    for name, table in tables.items():
        if not isinstance(table, Table):
            raise TypeError(f"`tables[{name!r}]` ({table!r:.80}) must be a sn.benchmark.Table.")
    if not tables:
        raise ValueError("`tables` is empty: there must be one.")
    return dict(tables)


def _setup(table: Table, setup: Setup, objectives: Any, limits: Sequence[Below]) -> Setup:
    """What is solved on one table, with quantiles as numbers."""
    level = table.level(setup.budget)
    budget = table.budgets[level] if table.budgets else None
    resolved = []
    for below in limits:
        constraint = below.constraint(table)
        resolved.append(Below(constraint.cost.name, limit=constraint.upper))
    seconds = setup.seconds
    if seconds is not None:
        known = table.of_kind("seconds")
        if not seconds and not known:
            raise ValueError(
                f"The table {table.name} has no seconds of training: name a column that stands for "
                "them, `seconds=`."
            )
        seconds = table.column(seconds).name if seconds else known[0].name
    made = attrs.evolve(
        setup,
        objectives=names_of(objectives, table),
        limits=tuple(resolved),
        budget=budget,
        seconds=seconds,
    )
    problem = problem_of(table, made, 0)
    if problem.constraints is not None:
        problem.constraints.check_possible()
    return made
