"""BigNAS: one supernet whose networks are used as they are, without training them again.

J. Yu et al., "BigNAS: Scaling Up Neural Architecture Search with Big Single-Stage Models", ECCV 2020,
arXiv:2003.11142, Section 3.
"""

from __future__ import annotations

import contextlib
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from symnas.costs.bound_constraints import LimitedCost
from symnas.errors import SymnasError
from symnas.oneshot.algorithm import OneShot, OneShotRun
from symnas.oneshot.coarse import coarse_to_fine
from symnas.oneshot.regularized import squares, without_dropout
from symnas.oneshot.residual import zero_residuals
from symnas.oneshot.workshop import Workshop
from symnas.searching.checks import at_least
from symnas.searching.checks import number as real
from symnas.searching.problem import Problem
from symnas.supernet.extremes import extremes, valid_rows
from symnas.tasks.batches import Batch
from symnas.tasks.metrics import aligned

Rows = NDArray[np.int32]

# Random networks that are looked at to find the ends of residual branches.
LOOKED_AT = 14


@attrs.frozen(kw_only=True)
class BigNAS(OneShot):
    """Trains all networks of a space together, so that any can be taken for whatever budget.

    Each step trains four networks on one batch and adds their gradients: the largest, two random
    ones, and the smallest (the sandwich rule). The largest learns from the labels, the others from
    its predictions alone. Random networks are of the whole space: limits act when networks are
    selected, with their batch norms measured anew on training data.

    From the paper (Section 3.1) are the sandwich rule, in-place distillation at temperature 1, the
    scales of zero at the ends of residual branches, the learning rate that decays exponentially and
    stays at 5% of what it was in the beginning, dropout and weight decay for the largest network
    alone, and the new statistics of batch norms; and that networks are selected coarse to fine, from
    a grid by mutation (Section 3.2).

    Ours are: that sizes are MACs, with parameters to tell equals apart; how residual branches are
    found (see `symnas.oneshot.residual`); that each network takes images at its own resolution; that
    weight decay is a term of the largest network's loss, the task's `weight_decay` times half the
    sum of its squared weights; and the grid, whose points set all decisions with the same candidates
    alike, with random networks added to it. The task's `lr` is the first learning rate; its `warmup`
    counts where it is given, its `schedule` does not. The paper uses RMSProp, and its grid is written
    by hand for its space.

    Args:
        retrain: whether proposed networks are trained alone in the end, which the paper spares.
        sandwich: whether the largest and the smallest network are in each step. Otherwise all are
            random and learn from the labels, with dropout and weight decay.
        children: random networks in each step besides the two; without the sandwich, two more.
        distill: whether smaller networks learn from the largest; otherwise from the labels. Where
            targets are numbers, its outputs take their place in the task's loss.
        zero_gamma: whether scales at the ends of residual branches begin at zero.
        decay: what the learning rate would be in the end, of what it is in the beginning, without
            `floor`. The paper's 0.97 each 2.4 of 360 epochs makes about 0.01.
        floor: below which share of the first learning rate it does not fall; 0: none.
        coarse: networks that are measured first.
        fine: mutations of the best that are measured then.
        parents: how many of the best are mutated at a time.

    >>> from symnas.algorithms.bignas import BigNAS
    >>> BigNAS(epochs=50, coarse=100)
    BigNAS(epochs=50, sharing='entangled', retrain=False, sandwich=True, children=2, distill=True, zero_gamma=True, decay=0.01, floor=0.05, coarse=100, fine=50, parents=10)
    """

    retrain: bool = False
    sandwich: bool = True
    children: int = attrs.field(default=2, validator=at_least(0))
    distill: bool = True
    zero_gamma: bool = True
    decay: float = attrs.field(default=0.01, validator=real(0, inside=True))
    floor: float = attrs.field(default=0.05, validator=real(0, 1))
    coarse: int = attrs.field(default=100, validator=at_least(1))
    fine: int = attrs.field(default=50, validator=at_least(0))
    parents: int = attrs.field(default=10, validator=at_least(1))

    def start(self, problem: Problem) -> OneShotRun:
        return _BigNAS(self, problem)

    def rate(self, progress: float) -> float:
        """What the learning rate is multiplied by after a share of the training.

        >>> [round(BigNAS().rate(progress), 3) for progress in (0, 0.25, 0.5, 0.75, 1)]
        [1.0, 0.316, 0.1, 0.05, 0.05]
        """
        return float(max(self.floor, self.decay**progress))


class _BigNAS(OneShotRun):
    algorithm: BigNAS

    def begin(self, workshop: Workshop) -> None:
        self.workshop, space = workshop, self.problem.space
        self.smallest, self.largest = extremes(space)
        # Weight decay is a term of the loss of one network, not of the optimizer.
        self.optimizer = workshop.optimizer(weight_decay=0.0)
        self.decay = float(workshop.task.weight_decay) / 2
        self.steps = 0
        self.chosen: tuple[int, Rows] | None = None
        if self.algorithm.zero_gamma:
            others = valid_rows(space, LOOKED_AT, (self.problem.seed, 44))
            rows = [self.largest, self.smallest, *others]
            zero_residuals(workshop.net, rows, workshop.task.input)

    def epoch(self, number: int) -> dict[str, float]:
        shop, settings = self.workshop, self.algorithm
        count = settings.children + (0 if settings.sandwich else 2)
        drawn = valid_rows(
            self.problem.space, count * shop.steps_an_epoch, (self.problem.seed, 43, number)
        ).reshape(shop.steps_an_epoch, count, -1)
        shop.net.train()
        losses = []
        for rows, batch in zip(drawn, shop.batches("train", number), strict=False):
            self.set_rate()
            losses.append(self.step(batch, rows))
            self.steps += 1
        largest, smallest = np.mean(losses, axis=0)
        if not settings.sandwich:
            return {"loss": float(np.mean([largest, smallest]))}
        return {"loss": largest, "smallest's loss": smallest}

    def set_rate(self) -> None:
        """The learning rate of the next step."""
        shop = self.workshop
        steps = shop.epochs * shop.steps_an_epoch
        share = self.algorithm.rate(self.steps / steps)
        rise = (shop.task.warmup or 0.0) * steps
        if self.steps + 1 <= rise:
            share = (self.steps + 1) / rise
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * share

    def step(self, batch: Batch, drawn: Rows) -> tuple[float, float]:
        """One step of the optimizer; the losses of its first and its last network.

        Args:
            batch: of training data.
            drawn: random rows, `(n, columns)`.
        """
        net, settings = self.workshop.net, self.algorithm
        rows = [self.largest, *drawn, self.smallest] if settings.sandwich else list(drawn)
        taught: Tensor | None = None
        losses = []
        self.optimizer.zero_grad(set_to_none=True)
        for place, row in enumerate(rows):
            net.select(row)
            own = self.workshop.resized(batch, row)
            regular = place == 0 or not settings.sandwich
            with contextlib.nullcontext() if regular else without_dropout(net):
                outputs = self.workshop.task.outputs(net, own)
            loss = self.loss(outputs, own, taught)
            losses.append(float(loss.detach()))
            if regular and self.decay:
                loss = loss + self.decay / (1 if settings.sandwich else len(rows)) * squares(net)
            loss.backward()  # type: ignore[no-untyped-call]
            if place == 0 and settings.sandwich and settings.distill:
                taught = self.teaching(outputs)
        self.optimizer.step()
        return losses[0], losses[-1]

    def teaching(self, outputs: Any) -> Tensor:
        """What the largest network teaches: its outputs, without gradient.

        Raises:
            SymnasError: it gives something else than one tensor.
        """
        if not isinstance(outputs, Tensor):
            raise SymnasError(
                f"BigNAS: the network gives a {type(outputs).__name__} in training, but smaller networks "
                "learn from one tensor of outputs. Give one, or go without: distill=False."
            )
        return outputs.detach()

    def loss(self, outputs: Any, batch: Batch, taught: Tensor | None) -> Tensor:
        """The loss of a network: by the labels, or by what the largest predicted."""
        task = self.workshop.task
        if taught is None:
            return task.loss(outputs, batch)
        if task.kind == "classification":
            return nn.functional.cross_entropy(outputs, torch.softmax(taught, 1))
        return task.loss(outputs, Batch(batch.x, aligned(taught, batch.y)))

    # The result -------------------------------------------------------------------------------

    def derive(self, n: int) -> Rows:
        if self.chosen is None or self.chosen[0] != self.steps:
            settings, ends = self.algorithm, np.stack([self.largest, self.smallest])
            found = coarse_to_fine(
                self.workshop, settings.coarse, settings.fine, settings.parents, ends
            )
            self.chosen = self.steps, found
        return self.chosen[1][:n]

    def notes(self) -> dict[str, float]:
        shop, metric = self.workshop, self.problem.objectives[0].name
        told = {
            f"{size} {metric}": shop.measured(row)[metric]
            for size, row in (("largest", self.largest), ("smallest", self.smallest))
        }
        checks = self.problem.constraints.checks if self.problem.constraints is not None else ()
        rows = self.derive(1)
        for check in checks:
            if isinstance(check, LimitedCost) and len(rows):
                limits = check.constraint.limits
                target = limits.upper if limits.upper is not None else limits.lower
                told[f"discrete {check.cost.name}"] = float(check.cost(rows)[0])
                told[f"target {check.cost.name}"] = float(target or 0.0)
        return told

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "steps": self.steps}

    def load(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
