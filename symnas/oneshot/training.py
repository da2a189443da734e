"""Training a supernet: epoch by epoch, with a checkpoint after each, from which it continues."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import torch

from symnas.errors import StorageError, SymnasError
from symnas.files import write_whole
from symnas.oneshot.algorithm import OneShot, OneShotRun, Rows
from symnas.oneshot.workshop import Workshop
from symnas.studies.store import TRAINING
from symnas.supernet.supernet import Supernet
from symnas.tasks.batches import check_input
from symnas.tasks.checks import check_closed
from symnas.tasks.seeding import derive, seeded
from symnas.tasks.task import Task

if TYPE_CHECKING:
    from symnas.oneshot.distributed.helpers import Helpers
    from symnas.oneshot.distributed.peers import Peers
    from symnas.oneshot.distributed.team import Team
    from symnas.searching.problem import Problem

CHECKPOINT = "supernet.pt"

Shown = Callable[[int, int, dict[str, float]], Any]


@attrs.define
class Training:
    """The training of one run's supernet.

    Attributes:
        run: what trains it.
        task: whose data and recipe.
        folder: where checkpoints are kept.
        show: `show(epochs done, epochs in all, numbers)`, called after each epoch.
        before: the checkpoint of another supernet, whose weights this one begins with; or None.
    """

    run: OneShotRun
    task: Task
    folder: Path
    show: Shown
    before: Path | None = None

    _helpers: Helpers | Peers | None = attrs.field(default=None, init=False)

    def __call__(self) -> Supernet:
        """Trains, or goes on where a killed training was; gives the supernet.

        Raises:
            SymnasError: processes that train with this one cannot be started, or one was lost.
        """
        if self.task.replicas == 1:
            net, history = self._trained(None)
            self._write({"epochs": history, "result": self.run.notes()})
            return net
        self._helpers = self._others()
        with self._helpers.watched():
            net, history = self._trained(self._helpers.team)
            self._write({"epochs": history, "result": self.run.notes()})
        return net

    def derive(self, n: int) -> Rows:
        """The networks that the run derives; those that helped to train may help to measure them."""
        if self._helpers is None:
            return self.run.derive(n)
        with self._helpers.watched():
            rows = self.run.derive(n)
        self._helpers.dismiss()
        return rows

    def close(self, kill: bool = False) -> None:
        """Lets those go that help, or that wait to; with `kill`, ends them."""
        if self._helpers is None and self.task.replicas == "torchrun" and not kill:
            self._helpers = self._others()
        if self._helpers is not None:
            (self._helpers.kill if kill else self._helpers.dismiss)()

    def _others(self) -> Helpers | Peers:
        # Here, as few trainings need it.
        from symnas.oneshot.distributed.helpers import Helpers
        from symnas.oneshot.distributed.peers import Peers

        if self.task.replicas == "torchrun":
            return Peers(self.task)
        return Helpers(self.task, self.run.algorithm, self.run.problem)

    def assist(self, team: Team) -> None:
        """Trains with the process that leads, and measures networks for it until it needs no more."""
        self._trained(team)

    def _trained(self, team: Team | None) -> tuple[Supernet, list[dict[str, float]]]:
        algorithm, problem = self.run.algorithm, self.run.problem
        device = self.task._device() if team is None else team.device
        leads = team is None or team.leads
        net = supernet_of(problem, algorithm, device)
        if leads and self.before is not None and self.before.exists():
            net.load_state_dict(self._read(self.before)["net"])
        if team is not None:
            state = team.share(net.state_dict())
            if state is None:  # the leader had nothing to train
                return net, []
            net.load_state_dict(state)
        workshop = Workshop(self.task, net, problem, algorithm.epochs, device, team)
        with seeded(derive(problem.seed, "begin"), device):
            self.run.begin(workshop)
        history = self._continued(net, team)
        for number in range(len(history), algorithm.epochs):
            clock = time.perf_counter()
            with (
                seeded(derive(problem.seed, f"epoch {number}"), device),
                nullcontext() if team is None else team.at_work(net),
            ):
                told = {k: float(v) for k, v in self.run.epoch(number).items()}
            if team is not None:
                team.check(net)
            history.append({**told, "seconds": time.perf_counter() - clock})
            if leads:
                self._save(net, history)
                self.show(number + 1, algorithm.epochs, history[-1])
        if not leads:
            workshop.serve()
        return net, history

    def _continued(self, net: Supernet, team: Team | None) -> list[dict[str, float]]:
        path, saved = self.folder / CHECKPOINT, None
        if team is None or team.leads:
            saved = self._read(path) if path.exists() else None
        if team is not None:
            saved = team.share(saved)
        if saved is None:
            return []
        try:
            net.load_state_dict(saved["net"])
            self.run.load(saved["run"])
            return list(saved["history"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise _unreadable(path, error) from error

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            return dict(torch.load(path, weights_only=True, map_location="cpu"))
        except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise _unreadable(path, error) from error

    def _save(self, net: Supernet, history: list[dict[str, float]]) -> None:
        saved = {"net": net.state_dict(), "run": self.run.state(), "history": history}
        write_whole(self.folder / CHECKPOINT, lambda path: torch.save(saved, path))
        self._write({"epochs": history})

    def _write(self, told: dict[str, Any]) -> None:
        text = json.dumps(told, indent=1)
        write_whole(self.folder / TRAINING, lambda path: path.write_text(text))


def assist(run: OneShotRun, task: Any, team: Team) -> None:
    """Trains a run's supernet with other processes, one of which leads and keeps all that is kept."""
    own = check_task(run.algorithm, run.problem, task)
    Training(run, own, Path(), lambda *_: None).assist(team)


def _unreadable(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"The checkpoint {path} cannot be read ({type(error).__name__}: {error}). Remove it to "
        "train the supernet anew."
    )


def supernet_of(problem: Problem, algorithm: OneShot, device: torch.device) -> Supernet:
    """The supernet of a run, with the initial weights that the seed gives."""
    with seeded(derive(problem.seed, "supernet"), torch.device("cpu")):
        return Supernet(problem.space, sharing=algorithm.sharing).to(device)


def check_task(algorithm: OneShot, problem: Problem, task: Any) -> Task:
    """The task, if weights can be shared in it.

    Raises:
        SymnasError: it is no `sn.Task`, or the objective is none of its metrics.
        DeclarationError: its data do not fit the space, or its arguments have choices.
    """
    name = type(algorithm).__name__
    if not isinstance(task, Task):
        raise SymnasError(
            f"{name} trains one supernet, so it needs to know the data, the loss and the optimizer: give "
            f"it a task such as sn.Task((x, y), epochs=10), instead of {task!r:.60}. A function that "
            "evaluates one architecture goes with alg.RandomSearch() and the like."
        )
    check_closed(task.arguments)
    if len(problem.objectives) != 1 or problem.objectives[0].cost is not None:
        names = ", ".join(str(objective) for objective in problem.objectives)
        raise SymnasError(
            f"{name} improves one metric of the task; the objectives are: {names or 'none'}. Put costs "
            "into subject_to=[...]."
        )
    example = problem.space.decode(problem.space.sample(1, 0)[0])
    check_input(example.input, task.input)
    return task
