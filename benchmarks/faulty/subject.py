"""The search that faults are injected into, and how it is compared with one left in peace."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch

import symnas as sn
from faulty.tally import Setup, Tally
from symnas import algorithms as alg

PATIENCE = 120.0
EVOLUTION = alg.RegularizedEvolution(population_size=20, tournament_size=5)
ALGORITHMS = {
    "evolution": EVOLUTION,
    "asha": alg.ASHA(EVOLUTION, budgets=(1, 3, 9)),
    "halving": alg.SuccessiveHalving(EVOLUTION, budgets=(1, 3, 9)),
}


@sn.symbolize
class Layer(torch.nn.Linear):
    """A linear layer with an argument to choose."""

    def __init__(self, width: int, scale: float = 1.0) -> None:
        super().__init__(width, width)
        self.scale = scale


def space(decisions: int = 12) -> sn.Space:
    """Decisions of four values."""
    layers = [Layer(4, scale=sn.oneof([0.5, 1.0, 2.0, 4.0])) for _ in range(decisions)]
    return sn.Space(sn.nn.Sequential(*layers))


@attrs.frozen
class Task:
    """Scores a row with noise, takes its time, and writes down which process began which trial."""

    log: str
    seconds: float

    def describe(self) -> dict[str, object]:
        """The same task, wherever it writes and however long it takes."""
        return {}

    def evaluate(self, architecture: sn.Architecture, trial: Any) -> float:
        """The noise is from the trial's seed: another one would show."""
        with open(self.log, "a") as file:
            file.write(f"{trial.number} {os.getpid()}\n")
        time.sleep(self.seconds)
        assert architecture.row is not None
        noise = float(torch.rand(()))
        return sum((i + 1) * value for i, value in enumerate(architecture.row)) + noise


@attrs.define
class Subject:
    """A search of a study, run in forks of this process that can be hurt.

    Attributes:
        setup: algorithm and folder.
        tally: where what happened to it is counted.
        study: path or URL.
        trials: how many in the end.
        seconds: a trial takes.
        ahead: how many trials may be open.
        given: further arguments of `sn.search`.
        prepare: is called in each fork before it searches.
    """

    setup: Setup
    tally: Tally
    study: str
    trials: int
    seconds: float = 0.003
    ahead: int = 2
    given: dict[str, Any] = attrs.field(factory=dict)
    prepare: Callable[[], object] = lambda: None
    known: dict[int, object] = attrs.field(factory=dict, init=False)
    _read: int = attrs.field(default=0, init=False)

    @property
    def log(self) -> Path:
        """What the task writes."""
        return self.setup.log

    @property
    def error(self) -> Path:
        """What the last driver that failed has said."""
        return self.setup.folder / "error"

    def search(self, study: str | None, task: Task, **given: Any) -> sn.Study:
        """The call that is made again and again."""
        return sn.search(
            space(), ALGORITHMS[self.setup.algorithm], task, maximize="score",
            trials=self.trials, study=study, ahead=self.ahead, progress=False, **given,
        )  # fmt: skip

    def start(self) -> int:
        """A driver in a fork; its process number."""
        driver = os.fork()
        if driver == 0:
            code = 1
            try:
                # In the background of a shell it is ignored.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.chdir(self.setup.folder)
                self.prepare()
                self.search(self.study, Task(str(self.log), self.seconds), **self.given)
                code = 0
            except BaseException as error:
                self.error.write_text(f"{type(error).__name__}: {error}")
            finally:
                os._exit(code)
        return driver

    def finish(self, *drivers: int) -> None:
        """Waits for drivers, which must end well; without any, starts one."""
        for driver in drivers or (self.start(),):
            if os.waitpid(driver, 0)[1]:
                raise RuntimeError(f"a driver failed: {self.error.read_text()}")

    def begun(self) -> list[tuple[int, int]]:
        """The trials that were begun in order, and by which process."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(int(number), int(process)) for number, process in map(str.split, lines)]

    def wait(self, driver: int, more: int = 1, since: int | None = None) -> float | None:
        """Waits until `more` trials have begun (since there were `since`) or the driver has ended.

        Returns:
            When the first of them began, of `time.monotonic()`; None if none has.
        """
        since = len(self.begun()) if since is None else since
        first, deadline = None, time.monotonic() + PATIENCE
        while (count := len(self.begun())) < since + more:
            first = first or (time.monotonic() if count > since else None)
            if gone(driver) or time.monotonic() > deadline:
                return first
            time.sleep(0.002)
        return first or time.monotonic()

    def finished(self) -> dict[int, object]:
        """Row, budget and scores of the finished trials by number; {} before there is a study."""
        try:
            trials = sn.Study.open(self.study).trials
        except (FileNotFoundError, KeyError):
            return {}
        except sn.StorageError as error:
            if "holds no study" in str(error):  # killed before there was one
                return {}
            raise
        return results(trials)

    def look(self) -> None:
        """Counts what was lost and repeated since the last look."""
        now = self.finished()  # before the log: what is known by now was begun before
        begun = self.begun()
        self.tally.repeated += sum(number in self.known for number, _ in begun[self._read :])
        self.tally.lost += sum(now.get(number) != known for number, known in self.known.items())
        self._read, self.known = len(begun), now

    def look_after(self, since: int) -> None:
        """`look` after the death of the only driver, or of its study's server.

        Args:
            since: how many trials had begun when it started.

        Of what it has begun since then, all must have been recorded but what could be open.
        """
        before = len(self.known)
        self.look()
        recorded = len(self.known) - before
        self.tally.lost += max(0, len(self.begun()) - since - recorded - self.ahead)

    def undisturbed(self) -> dict[int, object]:
        """The results of the search left in peace."""
        which = (self.setup.algorithm, self.trials, self.ahead)
        if which not in _undisturbed:
            calm = self.search(None, Task(os.devnull, 0.0))
            _undisturbed[which] = results(calm.trials)
        return _undisturbed[which]

    def compare(self) -> None:
        """Counts the trials that are not those of an undisturbed search."""
        alone, found = self.undisturbed(), self.finished()
        self.tally.differing += sum(found.get(n) != alone.get(n) for n in range(self.trials))


_undisturbed: dict[tuple[object, ...], dict[int, object]] = {}


def results(trials: Any) -> dict[int, object]:
    """Row, budget and scores of the trials that have ended; as text, in which NaN equals NaN."""
    ended = [trial for trial in trials if trial.state != "running"]
    return {t.number: (t.state, t.row, t.budget, repr(t.scores)) for t in ended}


def gone(process: int) -> bool:
    """Whether a child has ended; it can still be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill(process: int) -> bool:
    """Kills a child; whether it was still running."""
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def warm_up() -> None:
    """What takes long is done before forks, so that faults hit searches and not their imports."""
    sn.search(space(), EVOLUTION, lambda a: 0.0, maximize="score", trials=1, progress=False)
