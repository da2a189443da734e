"""TuNAS: a policy learns by REINFORCE, with a reward that aims at a cost, while weights are shared.

G. Bender et al., "Can weight sharing outperform random architecture search? An investigation with
TuNAS", CVPR 2020, arXiv:2008.06120, and its published code.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from symnas.costs.bound_constraints import LimitedCost
from symnas.costs.comparison import Limits
from symnas.oneshot.algorithm import OneShot, OneShotRun
from symnas.oneshot.controller import Controller
from symnas.oneshot.derive import likeliest
from symnas.oneshot.relaxed import noted
from symnas.oneshot.warmup import own_statistics, widest
from symnas.oneshot.workshop import Workshop
from symnas.rewards import Absolute
from symnas.searching.checks import at_least, number
from symnas.searching.problem import Problem
from symnas.tasks.batches import Batch, batch_count

Rows = NDArray[np.int32]


def _quarter() -> Any:
    """A share of the steps that is as long as the delay, unless it is given."""
    default = attrs.Factory(lambda self: self.delay, takes_self=True)
    return attrs.field(default=default, validator=number(0, 1))


@attrs.frozen(kw_only=True)
class TuNAS(OneShot):
    """Trains single paths that a policy draws, and the policy by what they are worth.

    The policy is one softmax a decision, even in the beginning. Each step draws one network,
    trains its weights on a batch, measures it with the new weights on a larger batch of the other
    part of the training data, and makes it likelier the more its reward is above a running mean.
    The reward is that of the search; if there is none, `quality + beta * |cost / limit - 1|` for
    each cost with an upper limit (not where it is dear to measure). So one search ends near the
    limits, from either side: the policy leaves what is cheaper, too. Networks are derived as the
    likeliest under the final policy that keep all constraints.

    From the paper and its code are the absolute reward and its beta, the order of a step, the mean
    that includes the step's own reward, Adam without momentum, whose rate grows tenfold, and the
    two warm-ups in the first quarter, while the policy rests: candidates of a choice between
    modules are all averaged, and widths and kernels are the largest, each decision by itself with
    a probability that falls from 1 to 0. Ours are the learning rate (the paper's, 3e-4 for each 256
    examples of a batch, suits 90 epochs of ImageNet), the task's recipe for the weights, halves of
    the training data, that nothing is measured while the policy rests, and the last sentence of the
    paragraph above.

    With `feasible_paths` only networks that keep the constraints are drawn, and the gradient is that
    of the policy given that they do: of `log p(row) - log P(feasible)`. This is in the manner of
    C. Yang et al., "TabNAS", NeurIPS 2022, arXiv:2204.07615; here P(feasible) is exact where costs
    are tables. The quality alone is then the reward, if the search has none.

    Args:
        share: of the training data that weights are trained on; the policy is on the rest.
        times: how many times as large the policy's batches are.
        controller_lr: of Adam for the policy, in the beginning.
        momentum: of the running mean of rewards.
        delay: share of the steps in which the policy rests.
        op_warmup, filter_warmup: shares of the steps; by default as long as the delay. 0: none.
        beta: of the reward that limits make; not positive.
        stateless_norms: whether batch norms use the statistics of the policy's batch, as in the
            paper, instead of the running ones, which are of many networks.
        feasible_paths: whether only networks that keep the constraints are drawn.

    Raises:
        ValueError: a warm-up is longer than the delay (the policy would learn from what it has not
            drawn), or a value is out of range.

    >>> from symnas import algorithms as alg
    >>> alg.TuNAS(epochs=8, delay=0.5).op_warmup
    0.5
    >>> alg.TuNAS(delay=0.1, op_warmup=0.25)
    Traceback (most recent call last):
    ValueError: TuNAS: `op_warmup` (0.25) must not be above `delay` (0.1).
    """

    share: float = attrs.field(default=0.5, validator=number(0, 1, inside=True))
    times: int = attrs.field(default=4, validator=at_least(1))
    controller_lr: float = attrs.field(default=0.01, validator=number(0, inside=True))
    momentum: float = attrs.field(default=0.95, validator=number(0, 1))
    delay: float = attrs.field(default=0.25, validator=number(0, 1))
    op_warmup: float = _quarter()
    filter_warmup: float = _quarter()
    beta: float = attrs.field(default=-0.1, validator=number(-1e9, 0))
    stateless_norms: bool = True
    feasible_paths: bool = False

    def __attrs_post_init__(self) -> None:
        for name in ("op_warmup", "filter_warmup"):
            value = getattr(self, name)
            if value > self.delay:
                raise ValueError(
                    f"TuNAS: `{name}` ({value}) must not be above `delay` ({self.delay})."
                )
        for name in ("delay", "momentum"):
            if getattr(self, name) == 1:
                raise ValueError(
                    f"TuNAS: `{name}` (1) must be below 1, or the policy learns nothing."
                )

    def start(self, problem: Problem) -> OneShotRun:
        return TuNASRun(self, problem)


class TuNASRun(OneShotRun):
    algorithm: TuNAS

    def begin(self, workshop: Workshop) -> None:
        self.workshop, problem, settings = workshop, self.problem, self.algorithm
        self.controller = self.made_controller(workshop.device)
        self.optimizer = workshop.optimizer()
        examples = len(workshop.task._splits["train"][1])
        part = min(examples - 1, max(1, round(settings.share * examples)))
        self.total = workshop.epochs * batch_count(part, workshop.task.batch_size)
        self.steps = 0
        checks = problem.constraints.checks if problem.constraints is not None else ()
        self.limited = [check for check in checks if isinstance(check, LimitedCost)]
        self.costs = {**problem.costs, **{c.cost.name: c.cost for c in self.limited}}
        self.reward: Any = self._made_reward()
        columns = {id_: column for column, id_ in enumerate(problem.space.columns)}
        self.decisions = {columns[d.id]: d for d in self.controller.policy.decisions}
        # How decisions are relaxed is found out now, so that no epoch depends on where it is done.
        roles = workshop.net.roles if settings.op_warmup else {}
        self.operations = [c for c in self.decisions if roles.get(c) == "modules"]
        self.widest = widest(workshop.net) if settings.filter_warmup else {}

    def made_controller(self, device: torch.device) -> Controller:
        """The policy and how it learns."""
        settings = self.algorithm
        return Controller(
            self.problem, settings.controller_lr, settings.momentum, settings.feasible_paths, device
        )

    def _made_reward(self) -> Any:
        if self.problem.reward is not None or self.algorithm.feasible_paths:
            return self.problem.reward
        targets: dict[str, Absolute] = {}
        for check in self.limited:
            limit, name = check.constraint.limits.upper, check.cost.name
            if limit is None or check.cost.dear:
                continue
            if name not in targets or limit < targets[name].target:
                targets[name] = Absolute(check.constraint.cost, limit, self.algorithm.beta)
        return functools.reduce(operator.and_, targets.values()) if targets else None

    # Training -------------------------------------------------------------------------------

    def epoch(self, number: int) -> dict[str, float]:
        totals: dict[str, list[float]] = {}
        shop, settings = self.workshop, self.algorithm
        for first, second in shop.halves(number, settings.share, settings.times):
            row = self.controller.draw(self.steps)
            told = {"loss": self.update_weights(row, first)}
            if self.steps >= settings.delay * self.total:
                # With the weights that have just been updated.
                told.update(self.update_policy(row, self.quality(row, second)))
            for name, value in told.items():
                totals.setdefault(name, []).append(value)
            self.steps += 1
        means = {name: float(np.mean(values)) for name, values in totals.items()}
        return {**means, "entropy": float(self.controller.policy.entropy().detach())}

    def update_weights(self, row: Rows, batch: Batch) -> float:
        """One step of the shared weights, on a network or on what the warm-ups make of it."""
        shop = self.workshop
        shop.set_rate(self.optimizer, self.steps, self.total)
        row, mixture = self.warmed(row)
        shop.net.train()
        if mixture:
            shop.net.mix(mixture, row)
        else:
            shop.net.select(row)
        loss = shop.loss(shop.resized(batch, row))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())

    def warmed(self, row: Rows) -> tuple[Rows, dict[str, Tensor]]:
        """The network with the largest widths here and there, and the weights of what is averaged."""
        rng = self.workshop.rng(52, self.steps)
        chance = self._chance(self.algorithm.filter_warmup)
        forced = {c: value for c, value in self.widest.items() if rng.random() < chance}
        wide = row.copy()
        for column, value in forced.items():
            wide[column] = value if row[column] >= 0 else -1
        space = self.problem.space
        if not (space.is_row(wide) and space.is_valid(wide[None])[0]):
            wide = row
        chance = self._chance(self.algorithm.op_warmup)
        averaged = [c for c in self.operations if rng.random() < chance]
        if not averaged:
            return wide, {}
        mixture = {}
        for column, p in zip(self.decisions, self.controller.policy.values, strict=True):
            size, device = len(p), p.device
            if column in averaged:
                mixture[self.decisions[column].id] = torch.full((size,), 1 / size, device=device)
            elif row[column] < 0:
                # Candidates that were not drawn run too. The policy rests, so all values are even.
                value = forced.get(column, int(rng.integers(size)))
                chosen = nn.functional.one_hot(torch.tensor(value, device=device), size)
                mixture[self.decisions[column].id] = chosen.float()
        return wide, mixture

    def _chance(self, warmup: float) -> float:
        return max(0.0, 1.0 - self.steps / (warmup * self.total)) if warmup else 0.0

    @torch.no_grad()
    def quality(self, row: Rows, batch: Batch) -> float:
        """The search's metric of a network on a batch, larger is better."""
        shop = self.workshop
        batch = shop.resized(batch, row)
        shop.net.eval().select(row)
        stateless = self.algorithm.stateless_norms
        with own_statistics(shop.net) if stateless else contextlib.nullcontext():
            outputs = shop.task.outputs(shop.net, batch)
        return shop.quality(shop.task.metrics(outputs, batch))

    def update_policy(self, row: Rows, quality: float) -> dict[str, float]:
        """One step of the policy, on a network that it drew."""
        if not np.isfinite(quality):
            # Weights that are broken tell nothing of a network, and would break the policy too.
            return {}
        reward = quality
        if self.reward is not None:
            names = [c.name for c in getattr(self.reward, "costs", ())] or list(self.costs)
            costs = {name: float(self.costs[name](row[None])[0]) for name in names}
            reward = float(self.reward(quality, costs))
        self.controller.learn(row, reward, self.rate(), self.steps)
        return {"quality": quality, "reward": reward}

    def rate(self) -> float:
        """What the policy's learning rate is multiplied with."""
        start = self.algorithm.delay * self.total
        return float(10.0 ** ((self.steps - start) / (self.total - start)))

    # The result -----------------------------------------------------------------------------

    def derive(self, n: int) -> Rows:
        return likeliest(self.problem, self.controller.probabilities(), n)

    def notes(self) -> dict[str, float]:
        probabilities, rows = self.controller.probabilities(), self.derive(1)
        told = {"entropy": float(self.controller.policy.entropy().detach())}
        for part in getattr(self.reward, "rewards", (self.reward,)):
            if hasattr(part, "target"):
                limits = Limits(upper=part.target)
                told.update(noted(self.costs[part.cost.name], limits, probabilities, rows))
        # An upper limit is noted last: where a cost has two limits, it is the one to be told.
        for check in sorted(self.limited, key=lambda c: c.constraint.limits.upper is not None):
            told.update(noted(check.cost, check.constraint.limits, probabilities, rows))
        return told

    def state(self) -> dict[str, Any]:
        return {
            "controller": self.controller.state(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.controller.load(state["controller"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
