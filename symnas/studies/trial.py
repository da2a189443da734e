"""`Trial`: one recorded evaluation, read back from a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from symnas.errors import StorageError
from symnas.searchspace.decision import Decision
from symnas.studies.text import loads

if TYPE_CHECKING:
    import torch

    from symnas.architecture.architecture import Architecture
    from symnas.searchspace.space import Space

WEIGHTS = "weights.pt"


@attrs.frozen
class Trial:
    """One recorded evaluation of an architecture.

    Attributes:
        number: counts the proposals of a search, from 0.
        state: "running", "done" or "failed".
        row: the architecture as integers, a column per decision, -1 where inactive.
        choices: decision id to the label of what was chosen, active decisions only.
        metrics: what the task measured.
        costs: what the cost models of the search say: constraints and objectives.
        scores: what the algorithm was told, one per objective; larger is better.
        reason: why the trial failed: the exception, its message and where it was raised.
        seconds: wall-clock time of the evaluation.
        started: seconds since 1970.
        seed: what the random generators were seeded with.
        stage: which search of a flow proposed it, such as "1.3"; "" outside flows.
        budget: what the evaluation could spend, in the task's unit (epochs for `sn.Task`); None,
            but for algorithms of several fidelities.
        reports: pairs (step, value) that the task reported on its way.
        reused: (search, number) of the trial whose result this is, or None.
        path: the folder of what the trial left behind; it may not exist.
    """

    number: int
    state: str
    key: str
    row: tuple[int, ...]
    choices: Mapping[str, str]
    metrics: Mapping[str, float]
    costs: Mapping[str, float]
    scores: tuple[float, ...] | None
    reason: str | None
    seconds: float | None
    started: float
    seed: int
    budget: float | None
    repeat: int
    stage: str
    reports: tuple[tuple[float, float], ...]
    reused: tuple[str, int] | None
    path: Path = attrs.field(repr=False)
    _text: str = attrs.field(repr=False)
    _space: Space | None = attrs.field(repr=False, eq=False)
    # A study without a file is gone, weights and all, when nothing refers to it any more.
    _owner: object = attrs.field(repr=False, eq=False)

    @property
    def architecture(self) -> Architecture:
        """The architecture, to be looked at, edited, built or exported."""
        from symnas.architecture.architecture import Architecture

        if self._space is not None:
            return self._space.decode(self.row)
        return Architecture.from_json(self._text).with_choices(self.choices)

    def model(self, device: str | torch.device | None = None) -> torch.nn.Module:
        """The trained network: built anew, with the weights that the task kept.

        Raises:
            FileNotFoundError: the task kept no weights for this trial.
            StorageError: the classes of the space are not known in this process, or build
                something that the weights do not fit.
        """
        import torch

        path = self.path / WEIGHTS
        if not path.exists():
            raise FileNotFoundError(
                f"No weights were kept for trial {self.number}: there is no `{path}`. A task keeps "
                "them with trial.save(model). For a network with fresh weights: "
                "trial.architecture.build()."
            )
        network = self.architecture.build()
        state = torch.load(path, map_location="cpu", weights_only=True)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise StorageError(
                f"The weights of trial {self.number} (`{path}`) do not fit what its architecture "
                f"builds now: {error}. Has the code of the space changed since?"
            ) from error
        return network if device is None else network.to(device)  # type: ignore[no-any-return]


def level_of(budget: float | None) -> float:
    """Budgets in order: a trial without one had all that its task wanted."""
    return math.inf if budget is None else budget


def read_trial(
    row: Mapping[str, Any],
    *,
    decisions: Sequence[Decision],
    names: Mapping[int, str],
    path: Path,
    space: Space | None,
    owner: object,
) -> Trial:
    """A trial from its row in the database.

    Args:
        row: all columns.
        decisions: the decisions of the recorded space.
        names: names of the file's searches by id.
        path: the folder of what the trial left behind.
        space: the space, where its code is at hand.
        owner: what must live as long as the trial does.
    """
    values = tuple(loads(row["row"]))
    scores = loads(row["scores"])
    reused = row["reused_number"]
    return Trial(
        number=row["number"],
        state=row["state"],
        key=row["key"],
        row=values,
        choices=choices_of(values, decisions),
        metrics=loads(row["metrics"]) or {},
        costs=loads(row["costs"]) or {},
        scores=None if scores is None else tuple(scores),
        reason=row["reason"],
        seconds=row["seconds"],
        started=row["started"],
        seed=row["seed"],
        budget=row["budget"],
        repeat=row["repeat"],
        stage=row["stage"] or "",
        reports=tuple((step, value) for step, value in loads(row["reports"]) or ()),
        reused=None if reused is None else (names.get(row["reused_search"], "?"), reused),
        path=path,
        text=row["architecture"],
        space=space,
        owner=owner,
    )


def choices_of(row: tuple[int, ...], decisions: Sequence[Decision]) -> dict[str, str]:
    """The labels of a row's active decisions, by id."""
    columns = zip(decisions, row, strict=True)
    return {decision.id: decision.label(value) for decision, value in columns if value >= 0}
