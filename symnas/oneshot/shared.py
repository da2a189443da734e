"""Trials of one-shot searches: networks that are trained alone, or have the supernet's weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import torch

from symnas.errors import SymnasError
from symnas.oneshot.algorithm import OneShot, OneShotRun
from symnas.oneshot.training import CHECKPOINT, Shown, Training, assist, check_task
from symnas.oneshot.workshop import Workshop
from symnas.searching.identity import text_of
from symnas.searching.problem import Problem
from symnas.supernet.supernet import Supernet
from symnas.tasks.task import Task

if TYPE_CHECKING:
    from symnas.searching.setting import Setting
    from symnas.searchspace.space import Space


@attrs.define(eq=False)
class SharedTask:
    """A task whose networks are not trained, but taken from a supernet.

    Attributes:
        task: whose data and metrics.
        algorithm: what trains the supernet.
        space: of the supernet; it and what follows are known once the search has begun.
        folder: where the supernet's checkpoint is.
        seed: of the search.
    """

    task: Task
    algorithm: OneShot
    space: Space | None = None
    folder: Path | None = None
    seed: int = 0
    _workshop: Workshop | None = attrs.field(default=None, init=False)

    @property
    def arguments(self) -> dict[str, Any]:
        """The task's arguments that hold a choice: none."""
        return self.task.arguments

    def describe(self) -> dict[str, Any]:
        """What makes two such tasks the same."""
        return {"task": self.task.describe(), "weights of": text_of(self.algorithm)}

    def evaluate(self, architecture: Any, trial: Any = None) -> dict[str, float]:
        """The metrics of a network with shared weights; its weights are kept."""
        shop = self._shop()
        row = shop.net.space.encode(architecture)
        model, metrics = shop.inherited(row)
        if trial is not None:
            trial.save(model)
        return metrics

    def _shop(self) -> Workshop:
        if self._workshop is None:
            assert self.space is not None and self.folder is not None
            device = self.task._device()
            net = Supernet(self.space, sharing=self.algorithm.sharing)
            saved = torch.load(self.folder / CHECKPOINT, weights_only=True, map_location="cpu")
            net.load_state_dict(saved["net"])
            problem = Problem(self.space, seed=self.seed)
            self._workshop = Workshop(self.task, net.to(device), problem, 0, device)
        return self._workshop

    def __getstate__(self) -> dict[str, Any]:
        fields = [field.name for field in attrs.fields(type(self))]
        return {**{name: getattr(self, name) for name in fields}, "_workshop": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def task_of(algorithm: OneShot, task: Any) -> Any:
    """What evaluates the trials of a one-shot search."""
    return task if algorithm.retrain or not isinstance(task, Task) else SharedTask(task, algorithm)


def followed(setting: Setting) -> bool:
    """Does the part of a search that is this process's, if it is torchrun's and does not lead.

    It trains the supernet with the others; whether it did.

    Raises:
        SymnasError: the search is a flow, whose trainings are not known beforehand; or as `prepare`.
    """
    task = setting.task.task if isinstance(setting.task, SharedTask) else setting.task
    if not isinstance(task, Task) or task.replicas != "torchrun":
        return False
    algorithm = setting.algorithm
    if not isinstance(algorithm, OneShot):
        raise SymnasError(
            f'replicas="torchrun" is for one-shot algorithms by themselves, and this is '
            f"{type(algorithm).__name__}. Give a number of processes of this machine."
        )
    from symnas.oneshot.distributed.peers import Peers, leads

    if leads():
        return False
    run = algorithm.start(setting.problem())
    assert isinstance(run, OneShotRun)
    peers = Peers(task)
    with peers.watched():
        assist(run, task, peers.team)
    return True


def prepare(
    run: OneShotRun, task: Any, folder: Path, show: Shown, before: Path | None = None
) -> None:
    """Has the run train its supernet when it is first asked.

    Args:
        run: at its beginning.
        task: of the search.
        folder: where the supernet's checkpoint is kept.
        show: `show(epochs done, epochs in all, numbers)`, called after each epoch.
        before: the checkpoint of another supernet, whose weights this one begins with.

    Raises:
        SymnasError: the task or the objective is not what a supernet can be trained for.
    """
    own = task.task if isinstance(task, SharedTask) else task
    training = Training(run, check_task(run.algorithm, run.problem, own), folder, show, before)
    run.train_with(training, training.derive, training.close)
    if isinstance(task, SharedTask):
        task.space, task.folder, task.seed = run.problem.space, folder, run.problem.seed
