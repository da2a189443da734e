"""Latency-aware DARTS: mixtures learned by gradients of the loss and of an expected cost.

Y. Xu et al., "Latency-Aware Differentiable Neural Architecture Search", arXiv:2001.06392.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import attrs
import torch
from torch import Tensor

from symnas.costs.bound import BoundCost
from symnas.costs.comparison import Limits
from symnas.costs.model import CostModel
from symnas.errors import SymnasError
from symnas.oneshot.algorithm import OneShotRun
from symnas.oneshot.relaxed import Mixed, Relaxed, RelaxedRun, noted
from symnas.oneshot.workshop import Workshop
from symnas.searching.checks import number
from symnas.searching.problem import Problem
from symnas.tasks.batches import Batch

# So far from its target, relative to it, a relaxed cost has not landed there.
LANDED = 0.05

Pair = tuple[CostModel, float]


def _pairs(given: Any) -> Any:
    if not isinstance(given, Iterable):
        return given
    return tuple(tuple(pair) if isinstance(pair, Iterable) else pair for pair in given)


def _shown(pairs: tuple[Pair, ...]) -> str:
    return str([(cost.describe(), target) for cost, target in pairs]) if pairs else "()"


@attrs.frozen(kw_only=True)
class LatencyAwareDARTS(Relaxed):
    """DARTS of first order, with the logits trained on `loss + balance * LAT(logits)`.

    `LAT` is the expected cost under the probabilities of decisions: of any cost model, exact where
    it is a table. The paper has a regressor of latency, fitted beforehand to measured
    architectures; that is `cm.Learned(samples, regressor="mlp")`. Where a cost is no table,
    architectures are drawn to estimate it, so a regressor only sees what it was made for.

    Costs count relative to their targets: `balance * expected cost / target`. Without a `balance` it
    is found while training, so that each relaxed cost lands on its target. This is ours, an augmented
    Lagrangian (J. Nocedal and S. Wright, "Numerical Optimization", 2nd edition, Sections 17.3 and
    17.4). With `g = expected cost / target - 1`, the logits are trained on `loss + multiplier * g +
    stiffness / 2 * g^2`; after each of their steps that has brought the cost no nearer, the
    multiplier grows by `rate * g`. What is derived in the end keeps the limits in any case; a warning
    tells of a relaxed cost that has not landed.

    Logits come as far as about `logits_lr` times their steps: the default, of DARTS, is for thousands
    of them; with fewer, take a larger one. Where probabilities remain even, the likeliest network
    may cost much less than the mean that has landed. A `last_temperature` below 1 makes them
    sharper towards the end, and brings both together.

    Args:
        costs: pairs (cost model, target); default: the costs with limits in `subject_to`, and those
            limits. Only limits hold for what is derived.
        balance: a fixed coefficient; None: found automatically.
        exact: whether a cost below its target is drawn up to it, by a negative multiplier, as
            `sn.rewards.Absolute` does. With False the target is only a limit. A cost with a lower
            and an upper limit is kept between them in either case.
        stiffness, rate: of the augmented Lagrangian.
        last_temperature: of the softmax in the end; it falls from 1, by a factor each step.
        warmup, share: see `symnas.oneshot.relaxed`.
        logits_lr, logits_betas, logits_weight_decay: of Adam for the logits.

    >>> from symnas import algorithms as alg, cost_models as cm
    >>> alg.LatencyAwareDARTS(epochs=20, logits_lr=0.02, costs=[(cm.Macs(), 2e6)]).exact
    True
    >>> alg.LatencyAwareDARTS(costs=[cm.Macs() <= 2e6])
    Traceback (most recent call last):
    TypeError: LatencyAwareDARTS: `costs` must be pairs of a cost model and a target, such as (cm.Macs(), 1e6); limits go into subject_to=[...].
    """

    costs: tuple[Pair, ...] = attrs.field(default=(), converter=_pairs, repr=_shown)
    balance: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(number(0))
    )
    exact: bool = True
    stiffness: float = attrs.field(default=30.0, validator=number(0, inside=True))
    rate: float = attrs.field(default=2.0, validator=number(0, inside=True))
    last_temperature: float = attrs.field(default=1.0, validator=number(0.01, 1))
    # Instead of it there is the balance.
    penalty: float = attrs.field(default=0.0, init=False, repr=False)

    @costs.validator
    def _check_costs(self, attribute: Any, pairs: Any) -> None:
        for pair in pairs if isinstance(pairs, tuple) else (None,):
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], CostModel)):
                raise TypeError(
                    "LatencyAwareDARTS: `costs` must be pairs of a cost model and a target, such as "
                    "(cm.Macs(), 1e6); limits go into subject_to=[...]."
                )
            target = pair[1]
            if isinstance(target, bool) or not isinstance(target, int | float) or not target > 0:
                raise ValueError(
                    f"LatencyAwareDARTS: the target of {pair[0].name} ({target!r}) must be a positive "
                    f"number, in {pair[0].unit}."
                )

    def start(self, problem: Problem) -> OneShotRun:
        return _LatencyAware(self, problem)


@attrs.define
class _Aim:
    """One side of a limit on a cost: `g(probabilities)` is to be 0, or at most 0.

    Attributes:
        cost: of which the expectation counts.
        target: in its unit.
        sign: 1 where less is better, -1 for a lower limit.
        equal: whether g shall be 0.
        multiplier: of the augmented Lagrangian.
        before: g before the last step of the logits.
    """

    cost: BoundCost
    target: float
    sign: float
    equal: bool
    multiplier: float = 0.0
    before: float = 0.0

    def beyond(self, probabilities: Mixed) -> Tensor:
        return self.sign * (self.cost.expected(probabilities) / self.target - 1.0)

    def penalty(self, beyond: Tensor, stiffness: float) -> Tensor:
        """Its part of the augmented Lagrangian."""
        self.before = float(beyond.detach())
        if self.equal:
            return self.multiplier * beyond + stiffness / 2 * beyond**2
        slope = torch.relu(self.multiplier + stiffness * beyond)
        return (slope**2 - self.multiplier**2) / (2 * stiffness)

    def climb(self, beyond: float, rate: float) -> None:
        """A step of dual ascent, unless the last step has brought the cost nearer by itself.

        Otherwise the multiplier would grow all the long way to the target, and lead beyond it.
        """
        if abs(beyond) >= abs(self.before):
            self.multiplier += rate * beyond
        if not self.equal:
            self.multiplier = max(0.0, self.multiplier)


class _LatencyAware(RelaxedRun):
    algorithm: LatencyAwareDARTS

    def begin(self, workshop: Workshop) -> None:
        super().begin(workshop)
        self.aims = self._aims()
        if not self.aims:
            raise SymnasError(
                "LatencyAwareDARTS needs a cost with a target, one that can be predicted: give "
                "subject_to=[cost <= limit], or costs=[(cost, target)]."
            )

    def _aims(self) -> list[_Aim]:
        settings, known = self.algorithm, self.problem.costs
        if settings.costs:
            given = []
            for model, target in settings.costs:
                cost = known.get(model.name)
                if cost is None or cost.model != model:
                    cost = model.bind(self.problem.space)
                given.append(_Aim(cost, float(target), 1.0, settings.exact))
            return given
        found = []
        for check in self.limited:
            limits = check.constraint.limits
            for limit, sign in ((limits.upper, 1.0), (limits.lower, -1.0)):
                # What has to be measured, and is dear to, is kept below its limit in the end alone.
                if limit is not None and limit > 0 and not check.cost.dear:
                    found.append(_Aim(check.cost, limit, sign, settings.exact))
        for aim in found:
            aim.equal &= sum(other.cost.name == aim.cost.name for other in found) == 1
        return found

    def probabilities(self) -> Mixed:
        return self.logits.probabilities(self.algorithm.last_temperature**self.progress)

    def mixture(self, purpose: str) -> Mixed:
        return self.probabilities()

    def with_costs(self, loss: Tensor, probabilities: Mixed | None = None) -> Tensor:
        probabilities = probabilities or self.probabilities()
        loss = super().with_costs(loss, probabilities)
        settings = self.algorithm
        for aim in self.aims:
            beyond = aim.beyond(probabilities)
            if settings.balance is None:
                loss = loss + aim.penalty(beyond, settings.stiffness).to(loss)
            else:
                loss = loss + settings.balance * (beyond + aim.sign).to(loss)
        return loss

    def update_logits(self, first: Batch, second: Batch) -> float:
        loss = super().update_logits(first, second)
        if self.algorithm.balance is None:
            with torch.no_grad():
                probabilities = self.probabilities()
                for aim in self.aims:
                    aim.climb(float(aim.beyond(probabilities)), self.algorithm.rate)
        return loss

    def epoch(self, number: int) -> dict[str, float]:
        told = super().epoch(number)
        with torch.no_grad():
            probabilities = self.probabilities()
            for aim in self.aims:
                name = aim.cost.name
                told[f"relaxed {name}"] = float(aim.cost.expected(probabilities))
                if self.algorithm.balance is None:
                    told[f"balance {name}"] = aim.sign * aim.multiplier
        return told

    def notes(self) -> dict[str, float]:
        told = super().notes()
        with torch.no_grad():
            probabilities = self.probabilities()
            rows = self.derive(1) if self.algorithm.costs else None
            for aim in self.aims:
                if rows is not None:
                    told |= noted(aim.cost, Limits(upper=aim.target), probabilities, rows)
                beyond = float(aim.beyond(probabilities))
                missed = abs(beyond) if aim.equal else beyond
                if self.algorithm.balance is None and missed > LANDED:
                    warnings.warn(
                        f"LatencyAwareDARTS: the relaxed {aim.cost.name} is {1 + aim.sign * beyond:.2f} "
                        "times its target in the end. Give the logits a larger `logits_lr`, or more "
                        "epochs.",
                        RuntimeWarning,
                        stacklevel=2,
                    )
        return told

    def state(self) -> dict[str, Any]:
        return {**super().state(), "multipliers": [aim.multiplier for aim in self.aims]}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        for aim, multiplier in zip(self.aims, state["multipliers"], strict=True):
            aim.multiplier = multiplier
