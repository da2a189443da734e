"""FBNetV2: Gumbel-softmax weights of masks on channels, and of input resolutions.

A. Wan et al., "FBNetV2: Differentiable Neural Architecture Search for Spatial and Channel
Dimensions", CVPR 2020, arXiv:2004.05565, Section 3 (DMaskingNAS).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from symnas.costs.bound import BoundCost
from symnas.errors import SymnasError
from symnas.oneshot.algorithm import OneShotRun
from symnas.oneshot.relaxed import Mixed, Relaxed, RelaxedRun
from symnas.oneshot.workshop import Workshop
from symnas.searching.checks import number
from symnas.searching.problem import Problem
from symnas.searchspace import nodes
from symnas.tasks.batches import Batch, batch_count


@attrs.frozen(kw_only=True)
class FBNetV2(Relaxed):
    """Trains the mixture that Gumbel-softmax weights give, and learns the logits behind them.

    Each epoch trains first weights on 80% of the training data with the task's optimizer, then
    logits on the other 20% with Adam. New weights of candidates, `softmax((logits + Gumbel noise) /
    temperature)`, are drawn for each batch; the temperature falls by a factor each epoch. Channels
    are masks on the largest layer, so that more options hardly take more time or memory
    (`Supernet.mix`, which puts the masks where channels are taken instead of where they are made).

    Two losses can train the logits. The paper's is `CE * alpha * log(cost)^beta`, where `cost` is
    that of the effective shapes: channels and resolutions times the weights that were drawn. Here
    it is the expected cost under these weights, the same for decisions that are independent. The
    logits' step is Adam's, which does not feel a constant factor: how much the cost matters is
    `beta`, and nothing pulls towards the limit. The default, ours, is `CE + penalty * (how far
    expected costs are beyond their limits)`. In either case what is derived keeps the limits.

    Also ours is how resolutions are mixed: the images are resized to each, the network runs on each,
    and the outputs are added, times the weights; so time grows with the number of resolutions. The
    paper mixes subsampled feature maps within the network.

    The temperature (5, times 0.956) and `alpha` and `beta` are those of B. Wu et al., "FBNet", CVPR
    2019, arXiv:1812.03443, on which the paper builds, and suit some 90 epochs; with few, let the
    temperature fall faster. The settings of Adam are common for FBNet.

    Args:
        temperature: of the Gumbel-softmax in the first epoch.
        decay: by which it is multiplied after each epoch.
        alpha: of the paper's loss (FBNet has 0.2); None takes the default loss.
        beta: of the paper's loss: how much costs matter.
        warmup, share, penalty: see `symnas.oneshot.relaxed`.
        logits_lr, logits_betas, logits_weight_decay: of Adam for the logits.

    >>> from symnas import algorithms as alg
    >>> paper = alg.FBNetV2(epochs=90, alpha=0.2)
    >>> paper.share, paper.temperature, paper.decay, paper.beta
    (0.8, 5.0, 0.956, 0.6)
    >>> alg.FBNetV2(decay=1.5)
    Traceback (most recent call last):
    ValueError: FBNetV2: the value of `decay` (1.5) must be at least 0 and at most 1.
    """

    temperature: float = attrs.field(default=5.0, validator=number(0, inside=True))
    decay: float = attrs.field(default=0.956, validator=number(0, 1))
    alpha: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(number(0, inside=True))
    )
    beta: float = attrs.field(default=0.6, validator=number(0))
    share: float = attrs.field(default=0.8, validator=number(0, 1, inside=True))
    logits_lr: float = attrs.field(default=0.01, validator=number(0, inside=True))
    logits_betas: tuple[float, float] = attrs.field(default=(0.9, 0.999), converter=tuple)
    logits_weight_decay: float = attrs.field(default=5e-4, validator=number(0))

    def start(self, problem: Problem) -> OneShotRun:
        return _FBNetV2(self, problem)


class _FBNetV2(RelaxedRun):
    resizes = True

    algorithm: FBNetV2

    def begin(self, workshop: Workshop) -> None:
        super().begin(workshop)
        settings = self.algorithm
        self.temperature = settings.temperature
        self.resolutions = _resolutions(self.problem, self.row, set(self.logits.logits()))
        self.factors = _factors(self.problem, self.limited) if settings.alpha is not None else []

    def mixture(self, purpose: str) -> Mixed:
        return self.logits.gumbel(self.temperature)

    # An epoch: weights first, then logits -------------------------------------------------------

    def epoch(self, number: int) -> dict[str, float]:
        shop, share = self.workshop, self.algorithm.share
        self.temperature = self.algorithm.temperature * self.algorithm.decay**number
        shop.net.train()
        losses, choice_losses = [], []
        for first, _ in shop.halves(number, share):
            shop.set_rate(self.weights_optimizer, self.steps, shop.epochs * self.steps_an_epoch)
            losses.append(self.update_weights(first))
            self.steps += 1
        if self.learns(number):
            # The same pairs once more, as far as the second parts have not been seen.
            for first, second in itertools.islice(shop.halves(number, share), self._choice_steps):
                choice_losses.append(self.update_logits(first, second))
        told = {"loss": float(np.mean(losses)), "temperature": self.temperature}
        if choice_losses:
            told["choice loss"] = float(np.mean(choice_losses))
        return {**told, "entropy": float(self.logits.entropy().detach())}

    @property
    def _choice_steps(self) -> int:
        """Batches in one pass over the examples that logits are trained on."""
        examples = len(self.workshop.task._splits["train"][1])
        first = min(examples - 1, max(1, round(self.algorithm.share * examples)))
        return batch_count(examples - first, self.workshop.task.batch_size)

    def update_weights(self, batch: Batch) -> float:
        weights = {id_: w.detach() for id_, w in self.mixture("weights").items()}
        loss = self.mixed_loss(weights, batch)
        self.weights_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.weights_optimizer.step()
        return float(loss.detach())

    def update_logits(self, first: Batch, second: Batch) -> float:
        weights = self.mixture("logits")
        loss = self.mixed_loss(weights, second)
        loss = self.times_costs(loss, weights) if self.factors else self.with_costs(loss)
        self.descend(torch.autograd.grad(loss, self.parameters, allow_unused=True))
        return float(loss.detach())

    def mixed_loss(self, weights: Mixed, batch: Batch) -> Tensor:
        """The task's loss of the mixture of networks, and of resolutions where they are chosen."""
        shop = self.workshop
        if not self.resolutions:
            self.mix(weights)
            return shop.loss(batch)
        resizing = {id_ for _, values in self.resolutions for id_ in values}
        others = {id_: w for id_, w in weights.items() if id_ not in resizing}
        total: Tensor | None = None
        for row, values in self.resolutions:
            weight = torch.stack([weights[id_][value] for id_, value in values.items()]).prod()
            if float(weight.detach()) == 0.0:
                continue
            shop.net.mix(others, row)
            outputs: Tensor = shop.task.outputs(shop.net, shop.resized(batch, row))
            if total is not None and outputs.shape != total.shape:
                raise SymnasError(
                    "FBNetV2 adds up what networks give for images of different sizes; here the shapes "
                    f"of that differ: {tuple(outputs.shape)} and {tuple(total.shape)}. Pool in the end "
                    "(AdaptiveAvgPool2d(1)), or fix the input."
                )
            total = weight * outputs if total is None else total + weight * outputs
        assert total is not None
        return shop.task.loss(total, batch)

    def times_costs(self, loss: Tensor, weights: Mixed) -> Tensor:
        """The paper's loss: times `alpha * log(cost)^beta`, for each cost."""
        assert self.algorithm.alpha is not None
        for cost in self.factors:
            expected = cost.expected(weights).to(loss)
            loss = loss * self.algorithm.alpha * torch.log(expected) ** self.algorithm.beta
        return loss


def _resolutions(
    problem: Problem, row: NDArray[np.int32], learned: set[str]
) -> list[tuple[NDArray[np.int32], dict[str, int]]]:
    """A row for each shape of the input, and the values of decisions that make it; [] if one."""
    space = problem.space
    node = space._extras.get("input")
    columns = sorted(nodes.columns_of(node)) if node is not None else []
    columns = [c for c in columns if space.columns[c] in learned]
    found = []
    for values in itertools.product(*(range(space.decisions[c].size) for c in columns)):
        own = row.copy()
        own[columns] = values
        found.append((own, {space.columns[c]: v for c, v in zip(columns, values, strict=True)}))
    return found if columns else []


def _factors(problem: Problem, limited: list[Any]) -> list[BoundCost]:
    """The costs in the paper's loss, each once."""
    known = {check.cost.name: check.cost for check in limited if not check.cost.dear}
    if not known or problem.reward is not None:
        trouble = "there is a reward already" if known else "there is no cost with a limit"
        raise SymnasError(
            f"FBNetV2: `alpha` multiplies the loss with costs, but {trouble}. Leave it out"
            f"{'' if known else ', or give a limit that can be predicted in subject_to=[...]'}."
        )
    for cost in known.values():
        low = cost.range().low
        if not low > 1.0:
            raise SymnasError(
                f"FBNetV2: the loss has log({cost.name}) as a factor, which is not positive for "
                f"{low:.4g} {cost.unit}. Take a larger multiple of the cost, such as "
                f"{10 ** math.ceil(-math.log10(max(low, 1e-9)) + 0.1)} * cost <= limit."
            )
    return list(known.values())
