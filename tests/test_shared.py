"""Several drivers of one search: together they make the trials that one alone would."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
from search_examples import noisy, space, total, trajectory

import symnas as sn
from symnas import algorithms as alg

AHEAD, TRIALS = 3, 30
EVOLUTION = alg.RegularizedEvolution(population_size=8, tournament_size=3)
ALGORITHMS = {
    "evolution": EVOLUTION,
    "asha": alg.ASHA(EVOLUTION, budgets=(1, 3, 9)),
    "flow": sn.flow.nested(
        EVOLUTION.over("args[0].scale", "args[1].scale", trials=5),
        alg.LocalSearch().over(trials=6),
    ),
}
# Forks have imported everything already.
PROCESSES = multiprocessing.get_context("fork")

Start = Callable[..., BaseProcess]


@attrs.frozen
class Noisy:
    """`noisy`, which writes down which process evaluates what, and takes its time."""

    log: str
    seconds: float
    forks: bool

    def describe(self) -> dict[str, Any]:
        """The same task, however long it takes."""
        return {}

    def evaluate(self, architecture: sn.Architecture, trial: Any) -> dict[str, float]:
        if self.forks:  # an orphan that outlives its driver
            orphan = os.fork()
            if orphan == 0:
                time.sleep(600)
                os._exit(0)
            Path(f"{self.log} of orphans").write_text(str(orphan))
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()} {trial.number}\n")
        time.sleep(self.seconds)
        return noisy(architecture, trial)


def drive(
    study: str | None,
    log: Path,
    *,
    algorithm: str = "evolution",
    takes: float = 0.0,
    forks: bool = False,
    **given: Any,
) -> sn.Study:
    """The call that all drivers of these tests make."""
    defaults = {"drivers": 3, "ahead": AHEAD, "trials": TRIALS, "seed": 3, "maximize": "score"}
    task = Noisy(str(log), takes, forks)
    options = {**defaults, **given, "study": study, "progress": False}
    return sn.search(space(5), ALGORITHMS[algorithm], task, **options)


def alone(tmp_path: Path, **given: Any) -> sn.Study:
    """The search with one driver."""
    return drive(None, tmp_path / "log of one", drivers=1, **given)


def in_process(log: Path, study: str, given: dict[str, Any]) -> None:
    os.chdir(log.parent)
    try:
        drive(study, log, **given)
    except sn.SymnasError as error:
        log.with_name(f"error {os.getpid()}").write_text(str(error))
        os._exit(1)
    os._exit(0)


@pytest.fixture(params=["sqlite", "postgresql"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A study that several processes can open."""
    if request.param == "sqlite":
        return str(tmp_path / "s.db")
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where tasks write down who evaluates what."""
    return tmp_path / "log"


@pytest.fixture
def start(study: str, log: Path) -> Iterator[Start]:
    """Starts a driver of the study; those that still run in the end are killed."""
    started: list[BaseProcess] = []

    def begin(**given: Any) -> BaseProcess:
        started.append(PROCESSES.Process(target=in_process, args=(log, study, given)))
        started[-1].start()
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.join()


def code(process: BaseProcess) -> int | None:
    """How a driver ended."""
    process.join(60)
    return process.exitcode


def evaluated(log: Path) -> list[tuple[int | None, int]]:
    """Which process evaluated which trial."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(process), int(number)) for process, number in map(str.split, lines)]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def drivers_of(study: str) -> list[int | None]:
    """Which driver each trial was evaluated by."""
    engine = sa.create_engine(study if "://" in study else f"sqlite:///{study}")
    with contextlib.closing(engine.connect()) as connection:
        found = list(connection.execute(sa.text("select driver from trials order by number")))
    engine.dispose()
    return [row[0] for row in found]


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_drivers_make_the_trials_of_one(
    study: str, start: Start, log: Path, tmp_path: Path, algorithm: str
) -> None:
    drivers = [start(algorithm=algorithm, takes=0.02) for _ in range(3)]
    assert [code(process) for process in drivers] == [0, 0, 0]
    shared = sn.Study.open(study)
    assert trajectory(shared) == trajectory(alone(tmp_path, algorithm=algorithm))
    assert sorted(number for _, number in evaluated(log)) == list(range(TRIALS))  # each once
    assert len({process for process, _ in evaluated(log)}) > 1
    assert len(set(drivers_of(study))) > 1 and None not in drivers_of(study)
    assert shared.ended == f"all {TRIALS} trials are done"


def test_survivors_repeat_the_trials_of_the_dead(
    study: str, start: Start, log: Path, tmp_path: Path
) -> None:
    drivers = [start(takes=0.05) for _ in range(3)]
    victims, survivor = drivers[:2], drivers[2]
    wait_for(lambda: len({process for process, _ in evaluated(log)}) == 3)
    for victim in victims:
        victim.kill()
    assert code(survivor) == 0
    assert trajectory(sn.Study.open(study)) == trajectory(alone(tmp_path))
    counts = Counter(number for _, number in evaluated(log))
    assert set(counts) == set(range(TRIALS))
    again = {number for number, count in counts.items() if count > 1}
    assert len(again) <= len(victims)  # one worker each
    assert all((survivor.pid, number) in evaluated(log) for number in again)


def test_drivers_join_and_leave(study: str, start: Start, tmp_path: Path) -> None:
    assert code(start(drivers=1, trials=8)) == 0
    assert set(drivers_of(study)) == {None}
    assert [code(process) for process in [start(trials=20), start(trials=20)]] == [0, 0]
    assert code(start(drivers=1)) == 0
    assert trajectory(sn.Study.open(study)) == trajectory(alone(tmp_path))


def test_an_orphan_of_a_dead_driver_holds_nothing(study: str, start: Start, log: Path) -> None:
    victim = start(takes=30.0, forks=True)
    wait_for(lambda: bool(evaluated(log)))
    victim.kill()
    victim.join()
    try:
        assert code(start(trials=2)) == 0
    finally:
        os.kill(int(log.with_name("log of orphans").read_text()), signal.SIGKILL)
    assert [number for _, number in evaluated(log)].count(0) == 2


def test_who_is_late_leaves_the_trials_of_others(study: str, start: Start, log: Path) -> None:
    slow = start(takes=30.0)
    wait_for(lambda: bool(evaluated(log)))
    quick = start(trials=None, seconds=0.5)  # may go on to trial 2; 3 has to wait for trial 0
    assert code(quick) == 0
    assert slow.is_alive()
    assert [number for process, number in evaluated(log) if process == quick.pid] == [1, 2]
    found = sn.Study.open(study)
    assert [trial.state for trial in found.trials] == ["running", "done", "done"]
    assert found.ended is None  # the other one goes on


@pytest.mark.parametrize("study", ["postgresql"], indirect=True)
def test_the_result_of_who_was_taken_for_dead_does_not_count(
    study: str, start: Start, log: Path, tmp_path: Path
) -> None:
    lost = start(takes=2.0)
    wait_for(lambda: bool(evaluated(log)))
    engine = sa.create_engine(study, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:  # as if its machine could not be reached any more
        ended = sa.text(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid in (select pid from "
            "pg_locks where locktype = 'advisory') and query like '%advisory%' and pid <> :me"
        )
        me = connection.execute(sa.text("select pg_backend_pid()")).scalar()
        assert len(list(connection.execute(ended, {"me": me}))) == 1
    engine.dispose()
    other = start(trials=4)
    assert code(other) == 0
    found = sn.Study.open(study)
    assert (other.pid, 0) in evaluated(log) and len(found) == 4
    assert code(lost) == 1
    assert "The same call continues" in log.with_name(f"error {lost.pid}").read_text()
    assert (
        trajectory(sn.Study.open(study))
        == trajectory(found)
        == trajectory(alone(tmp_path, trials=4))
    )


def test_drivers_have_workers_of_their_own(tmp_path: Path, log: Path) -> None:
    study = str(tmp_path / "s.db")
    given = {"drivers": 2, "takes": 0.05}
    second = PROCESSES.Process(target=in_process, args=(log, study, given))
    second.start()
    shared = drive(study, log, workers=sn.Workers(n=1, threads=1), **given)
    assert code(second) == 0
    assert trajectory(shared) == trajectory(alone(tmp_path))
    assert sorted(number for _, number in evaluated(log)) == list(range(TRIALS))
    assert len({process for process, _ in evaluated(log)}) == 2
    assert os.getpid() not in {process for process, _ in evaluated(log)}


def test_one_alone_and_several_keep_apart(study: str, start: Start, log: Path) -> None:
    shared = start(takes=0.3, trials=4)
    wait_for(lambda: bool(evaluated(log)))
    refused = start(drivers=1)
    assert code(refused) == 1
    assert "is running already." in log.with_name(f"error {refused.pid}").read_text()
    changed = start(seed=4)
    assert code(changed) == 1
    assert "seed: was 3, is 4" in log.with_name(f"error {changed.pid}").read_text()
    assert code(shared) == 0
    single = start(drivers=1, takes=0.3, trials=6)
    wait_for(lambda: any(process == single.pid for process, _ in evaluated(log)))
    refused = start()
    assert code(refused) == 1
    assert "by one driver alone" in log.with_name(f"error {refused.pid}").read_text()
    assert code(single) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"drivers": 0}, "`drivers`"),
        ({"drivers": 2}, "need a `study`"),
        ({"drivers": 2, "study": "s.db", "on_change": "carry"}, "is for one driver"),
    ],
)
def test_what_cannot_be_shared_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sn.search(space(), EVOLUTION, total, maximize="score", **wrong)


def test_supernets_are_not_shared(tmp_path: Path) -> None:
    one_shot = alg.SinglePathOneShot()
    flow = sn.flow.nested(EVOLUTION.over("args[0].scale", trials=3), one_shot.over("model"))
    shared = {"drivers": 2, "study": tmp_path / "s.db"}
    for algorithm in (one_shot, flow):
        with pytest.raises(ValueError, match="trains one supernet"):
            sn.search(space(), algorithm, total, maximize="score", **shared)
    assert not (tmp_path / "s.db").exists()
