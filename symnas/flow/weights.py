"""One-shot searches within flows: where each keeps its supernet, and which it begins with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from symnas.files import write_whole
from symnas.flow.flow import Flow
from symnas.flow.run import FlowRun
from symnas.oneshot.algorithm import OneShot, OneShotRun
from symnas.oneshot.shared import SharedTask, prepare
from symnas.oneshot.training import CHECKPOINT, Shown
from symnas.searchspace.parts import Part, flattened
from symnas.searchspace.space import Space
from symnas.tasks.task import Task

# What a stage's supernet is of: JSON beside its checkpoint.
PART = "part.json"


@attrs.define(eq=False)
class StagedTask:
    """A task that takes networks from the supernet of the stage that proposed them, if it shares
    weights, and else trains them.

    Attributes:
        task: whose data and metrics.
        algorithms: of the stages that share weights.
        space: of the search; it and what follows are known once the search has begun.
        root: the folder in which those of the supernets are.
        seed: of the search.
    """

    task: Task
    algorithms: tuple[OneShot, ...]
    space: Space | None = None
    root: Path | None = None
    seed: int = 0
    _latest: tuple[str, SharedTask | None] = attrs.field(default=("", None), init=False)

    @property
    def arguments(self) -> dict[str, Any]:
        """The task's arguments that hold a choice."""
        return self.task.arguments

    def describe(self) -> dict[str, Any]:
        """What makes two such tasks the same."""
        described = sorted({repr(algorithm) for algorithm in self.algorithms})
        return {"task": self.task.describe(), "weights of": described}

    def evaluate(self, architecture: Any, trial: Any) -> dict[str, float]:
        """The metrics of a network, with shared weights where its stage has a supernet."""
        stage = trial.stage
        if self._latest[0] != stage:
            self._latest = (stage, self._shared(stage))
        shared = self._latest[1]
        if shared is None:
            return dict(self.task.evaluate(architecture, trial))
        return shared.evaluate(architecture, trial)

    def _shared(self, stage: str) -> SharedTask | None:
        assert self.space is not None and self.root is not None
        folder = folder_of(self.root, stage)
        if not stage or not (folder / PART).exists():
            return None
        told = json.loads((folder / PART).read_text())
        kept = {i: tuple(values) for i, values in enumerate(told["kept"]) if values is not None}
        algorithm = self.algorithms[told["algorithm"]]
        part = Part.of(self.space, kept)
        return SharedTask(self.task, algorithm, part, folder, self.seed)

    def __getstate__(self) -> dict[str, Any]:
        names = ("task", "algorithms", "space", "root", "seed")
        return {**{name: getattr(self, name) for name in names}, "_latest": ("", None)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def folder_of(root: Path, stage: str) -> Path:
    """Where the supernet of a stage is kept."""
    return root / f"stage-{stage}"


def staged_task(flow: Flow, task: Any) -> Any:
    """What evaluates the trials of a flow."""
    sharing = tuple(
        leaf for leaf in flow.leaves() if isinstance(leaf, OneShot) and not leaf.retrain
    )
    return StagedTask(task, sharing) if sharing and isinstance(task, Task) else task


def equip(run: FlowRun, task: Any, root: Path, show: Shown) -> None:
    """Has the one-shot searches of a flow train their supernets, when each is first asked.

    Args:
        run: at its beginning.
        task: of the search, from `staged_task`.
        root: folder of the supernets.
        show: `show(epochs done, epochs in all, numbers)`, called after each epoch.
    """
    space = run.problem.space
    if isinstance(task, StagedTask):
        task.space, task.root, task.seed = space, root, run.problem.seed

    def prepared(inner: OneShotRun, stage: str, before: str | None) -> None:
        folder = folder_of(root, stage)
        own = task.task if isinstance(task, StagedTask) else task
        earlier = None if before is None else folder_of(root, before) / CHECKPOINT
        if isinstance(task, StagedTask) and not inner.algorithm.retrain:
            told = {
                "algorithm": task.algorithms.index(inner.algorithm),
                "kept": flattened(inner.problem.space, space),
            }
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / PART, lambda path: path.write_text(json.dumps(told)))
        prepare(inner, own, folder, show, earlier)

    run.equip(prepared)
