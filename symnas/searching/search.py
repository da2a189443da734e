"""`sn.search`: a whole search in one call, which continues where it was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from symnas.errors import StudyChanged
from symnas.flow.flow import Flow
from symnas.flow.run import FlowRun
from symnas.flow.weights import equip, staged_task
from symnas.oneshot.algorithm import OneShot, OneShotRun
from symnas.oneshot.shared import followed, prepare, task_of
from symnas.searching.algorithm import Algorithm
from symnas.searching.carry import carry
from symnas.searching.crew import Alone
from symnas.searching.evaluation import call_of_task
from symnas.searching.journal import Journal
from symnas.searching.loop import Limits, Loop
from symnas.searching.progress import Progress, duration
from symnas.searching.setting import Setting
from symnas.searching.shared import Together
from symnas.searchspace.space import Space
from symnas.studies.driver import Driver, driving, turn
from symnas.studies.lock import taking_part
from symnas.studies.record import check_unchanged
from symnas.studies.store import SUPERNET, SearchRow, Store
from symnas.studies.study import Study
from symnas.workers.places import Place, opened
from symnas.workers.settings import Workers


def search(
    space: Space,
    algorithm: Algorithm,
    task: Any,
    *,
    maximize: Any = None,
    minimize: Any = None,
    subject_to: Any = (),
    reward: Any = None,
    trials: int | None = None,
    seconds: float | None = None,
    study: str | os.PathLike[str] | None = None,
    name: str | None = None,
    workers: int | str | Workers = 1,
    drivers: int = 1,
    ahead: int | None = None,
    initial: Sequence[Any] = (),
    seed: int = 0,
    progress: bool = True,
    on_change: str = "error",
) -> Study:
    """Searches a space with an algorithm, and records every trial.

    Called again with the same study, it continues: nothing that finished is lost or repeated,
    whenever it was killed, and the trials are those that one undisturbed search would have made.
    Trials that another search of the study has made with the same task are reused. A trial that
    raises, or returns something else than finite numbers, is recorded as failed, with its reason.

    Args:
        space: what is searched.
        algorithm: what proposes architectures.
        task: what evaluates them: an object with `evaluate(architecture, trial)`, or a function
            `f(architecture)` or `f(architecture, trial)`; returns a number or a dict of metrics.
        maximize, minimize: names of metrics, or cost models; one or a list.
        subject_to: constraints, such as `[latency <= 2.0]`; what breaks one is never proposed.
        reward: weighs the one objective against costs, see `symnas.rewards`.
        trials: the total number, those of earlier calls included; an architecture that is evaluated
            at two budgets counts twice. By default until nothing is left
            to propose; one for a one-shot algorithm: the network that its supernet gives.
        seconds: no trial begins later than this after the call.
        study: path of a SQLite file, a database URL, or None to keep nothing beyond the process.
        name: of this search within the study, by default "search".
        workers: number of processes, 1 is this process; "ray" or "ray://HOST:10001" for a Ray
            cluster; or `sn.Workers(...)` with limits.
        drivers: how many processes make this same call, at once, to share the search; on other
            machines as well, if the study is PostgreSQL. They may come and go, and be killed.
        ahead: proposal i uses results up to i - ahead, so any number of workers up to it makes the
            same trials; by default drivers * workers, or what the study recorded. Where trials
            have budgets, one with a high budget does not hold up cheaper ones.
        initial: architectures, programs or rows to evaluate first.
        seed: everything random follows from it.
        progress: whether to show what happens, on standard error.
        on_change: when the study was begun with something else: "error", or "carry" to begin anew
            with the trials that still fit; the old search stays under another name.

    Returns:
        The study. Ctrl-C ends a search early and returns it as well.

    Raises:
        TypeError, ValueError: an argument is not what it must be.
        Infeasible: no architecture meets the constraints.
        StudyChanged: the study was begun with something else.

    >>> import symnas as sn
    >>> from symnas import algorithms as alg
    >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16, 32])))
    >>> study = sn.search(
    ...     space, alg.RandomSearch(), lambda architecture: architecture.build().out_features,
    ...     maximize="width", trials=3, progress=False)
    >>> study.best.metrics
    {'width': 32.0}
    """
    settings = Workers.of(workers)
    call_of_task(task)
    _check_limits(trials, seconds, ahead, on_change)
    _check_drivers(drivers, study, algorithm, on_change)
    if isinstance(algorithm, Flow):
        task = staged_task(algorithm, task)
    if isinstance(algorithm, OneShot):
        task = task_of(algorithm, task)
        trials = 1 if trials is None and seconds is None else trials
    setting = Setting.of(
        space, algorithm, task, maximize=maximize, minimize=minimize, subject_to=subject_to,
        reward=reward, initial=initial, seed=seed,
    )  # fmt: skip
    _check_ends(setting.space, trials, seconds)
    if followed(setting):
        # This is a process of torchrun that has helped to train; the leading one records the rest.
        kept = Store(None)
        return Study(kept, kept.begin_search(name or "search", setting.record(1)), setting.space)
    store = Store(study)
    total = trials if seconds is None or trials else None
    name = name or "search"
    with (
        taking_part(store, name, shared=drivers > 1) as locks,
        opened(settings) as place,
        Progress(setting, total, progress) as shown,
    ):
        with turn(locks, name):
            row = _begin(store, name, setting, place.n * drivers, ahead, on_change, shown)
        if drivers > 1 and row.record["ahead"] < place.n * drivers:
            shown.say(
                f"Workers will idle: this search has at most {row.record['ahead']} trials open."
            )
        with driving(store, row, locks) as driver:
            ending = _run(store, row, setting, place, Limits(trials, seconds), shown, driver)
    found = Study(store, row, setting.space)
    _summarize(found, shown, ending)
    return found


def _begin(
    store: Store,
    name: str,
    setting: Setting,
    workers: int,
    ahead: int | None,
    on_change: str,
    shown: Progress,
) -> SearchRow:
    """The recorded search of that name: continued, begun, or begun anew with what fits."""
    old = store.find(name)
    if old is None:
        record = setting.record(ahead or workers)
        return store.begin_search(name, _with_costs(record, setting))
    record = setting.record(ahead or old.record["ahead"])
    try:
        check_unchanged(name, old.record, record, store.count(old.id).get("done", 0))
    except StudyChanged:
        if on_change == "error":
            raise
        carried = carry(store, old, setting, record)
        shown.say(f'The search "{name}" has changed: {carried}.')
        begun = _with_costs(record, setting)
        return store.begin_search(name, begun, archive=old, carried=carried.trials)
    return old


def _with_costs(record: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """A record with how costs vary over the space, which is computed once."""
    from symnas.searching.cost_record import drawn

    return {**record, "drawn": drawn(setting.space, setting.costs, setting.constraints)}


def _run(
    store: Store,
    row: SearchRow,
    setting: Setting,
    place: Place,
    limits: Limits,
    shown: Progress,
    driver: Driver | None,
) -> str:
    problem = setting.problem()
    shown.watch(problem)
    workplace = place.workplace(setting)
    run = setting.algorithm.start(problem)
    if isinstance(run, FlowRun):
        equip(run, setting.task, store.folder(row, SUPERNET), shown.training)
    if isinstance(run, OneShotRun):
        prepare(run, setting.task, store.folder(row, SUPERNET), shown.training)
        if len(setting.initial) and not run.algorithm.retrain:
            run.train()  # those that are not asked for are measured with its weights as well
    journal = Journal(store, row, setting, None if driver is None else driver.id)
    loop = Loop(
        problem=problem,
        run=run,
        journal=journal,
        crew=(
            Alone(journal, workplace)
            if driver is None
            else Together(journal, workplace, place.n, driver)
        ),
        progress=shown,
        ahead=row.record["ahead"],
        initial=setting.initial,
    )
    store.end_search(row.id, None)
    interrupted = True
    try:
        ending = loop(limits)
        interrupted = False
    except KeyboardInterrupt:
        ending = "interrupted; the same call continues it"
    finally:
        workplace.close(kill=interrupted)
        if isinstance(run, OneShotRun):
            run.close(kill=interrupted)
    if driver is None:
        store.end_search(row.id, ending)
    else:
        driver.leave(ending)
    return ending


def _check_drivers(drivers: int, study: Any, algorithm: Algorithm, on_change: str) -> None:
    if not isinstance(drivers, int) or isinstance(drivers, bool) or drivers < 1:
        raise ValueError(f"`drivers` ({drivers!r}) must be an integer of at least 1.")
    if drivers == 1:
        return
    if study is None:
        raise ValueError(f"`drivers` ({drivers}) need a `study` that all of them can open.")
    if on_change != "error":
        raise ValueError(
            f"`on_change` ({on_change!r}) is for one driver, `drivers` is {drivers}. Make the call "
            'with drivers=1 and trials=1 first, then start them all with on_change="error".'
        )
    leaves = algorithm.leaves() if isinstance(algorithm, Flow) else [algorithm]
    if any(isinstance(leaf, OneShot) for leaf in leaves):
        raise ValueError(
            f"`drivers` ({drivers}): {type(algorithm).__name__} trains one supernet, in one process."
        )


def _check_limits(
    trials: int | None, seconds: float | None, ahead: int | None, on_change: str
) -> None:
    for name, value in (("trials", trials), ("ahead", ahead)):
        if value is not None and (
            not isinstance(value, int) or isinstance(value, bool) or value < 1
        ):
            raise ValueError(f"`{name}` ({value!r}) must be an integer of at least 1.")
    if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
        raise ValueError(f"`seconds` ({seconds!r}) must be a number above 0.")
    if on_change not in ("error", "carry"):
        raise ValueError(f'`on_change` ({on_change!r}) must be "error" or "carry".')


def _check_ends(space: Space, trials: int | None, seconds: float | None) -> None:
    if trials is None and seconds is None and space.has_floats:
        raise ValueError(
            "Give `trials` or `seconds`: the space has float decisions, so it is never exhausted."
        )


def _summarize(study: Study, shown: Progress, ending: str) -> None:
    """Three lines: how it ended, what was found, where it is."""
    shown.say(f"{shown.status()} in {duration(shown.seconds())}: {ending}.")
    if len(study.objectives) > 1:
        names = ", ".join(entry["name"] for entry in study.objectives)
        shown.say(f"No trial beats the {len(study.pareto())} of study.pareto() in {names}.")
    elif shown.best_number is not None:
        choices = ", ".join(f"{k}={v}" for k, v in study.trial(shown.best_number).choices.items())
        shown.say(f"Best: {shown.best_text()}, trial {shown.best_number}: {choices}")
    else:
        shown.say("No trial has finished; study.failed lists why.")
    shown.say(repr(study))
