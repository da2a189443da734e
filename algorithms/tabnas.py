"""TabNAS: REINFORCE with rejection of infeasible networks, while weights are shared.

C. Yang et al., "TabNAS: Rejection sampling for neural architecture search on tabular datasets",
NeurIPS 2022, arXiv:2204.07615.
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np
import torch
from symnas.algorithms.tunas import TuNASRun

from symnas.errors import SymnasError
from symnas.oneshot.algorithm import OneShot, OneShotRun
from symnas.oneshot.controller import Controller
from symnas.oneshot.rejection import RejectionController
from symnas.searching.checks import at_least, number, one_of
from symnas.searching.problem import Problem


@attrs.frozen(kw_only=True)
class TabNAS(OneShot):
    """Trains single paths that a policy draws, and the policy by the quality of feasible ones.

    The policy is one softmax a decision, even in the beginning. A step draws a network; if it
    breaks a constraint, the step is over. Otherwise its weights are trained on a batch, it is
    measured with them on a batch of the other part of the training data, and the policy ascends
    `(Q - mean) * (log p(network) - log P(feasible))`. The mean is a running one of feasible networks.
    So, other than with a reward that weighs cost, nothing pulls towards or away from the limit.
    Networks are derived as the likeliest under the final policy that keep all constraints, as the
    likeliest of all are often infeasible.

    With `probability="monte-carlo"` P(feasible) is estimated from `samples` draws, as in the paper.
    With "exact" (ours) it is known with its gradient, and feasible networks are drawn directly, so
    that no step is lost, however tight the limits are; they must be on costs that are tables.

    The estimate, the rejection, the mean and a warm-up in the first quarter are the paper's, as far
    as we know it: its text was not at hand, its published toy examples were. In the warm-up, widths
    and kernels are the largest, each by itself with a probability that falls from 1 to 0 (as in
    TuNAS), and the policy rests. Ours are the default values, halves of the training data, and
    ranking by probability alone. For searches whose trials are trained alone,
    `Reinforce(correction=...)` has the same gradient.

    Args:
        probability: "monte-carlo" or "exact".
        samples: N, the draws of an estimate.
        share: of the training data that weights are trained on; the policy is on the rest.
        times: how many times as large the policy's batches are.
        controller_lr: of Adam for the policy.
        momentum: of the running mean of qualities.
        layer_warmup: share of the steps that are warm-up.
        stateless_norms: whether batch norms use the statistics of the policy's batch.

    Raises:
        ValueError: a value is out of range.

    >>> from symnas.algorithms.tabnas import TabNAS
    >>> TabNAS(probability="exact").layer_warmup
    0.25
    """

    probability: str = attrs.field(
        default="monte-carlo", validator=one_of(("monte-carlo", "exact"))
    )
    samples: int = attrs.field(default=3072, validator=at_least(1))
    share: float = attrs.field(default=0.5, validator=number(0, 1, inside=True))
    times: int = attrs.field(default=1, validator=at_least(1))
    controller_lr: float = attrs.field(default=0.05, validator=number(0, inside=True))
    momentum: float = attrs.field(default=0.9, validator=number(0, 1))
    layer_warmup: float = attrs.field(default=0.25, validator=number(0, 1))
    stateless_norms: bool = True

    # What the run shares with TuNAS, and does otherwise or not at all.
    op_warmup: ClassVar[float] = 0.0
    feasible_paths: ClassVar[bool] = True

    def __attrs_post_init__(self) -> None:
        for name in ("layer_warmup", "momentum"):
            if getattr(self, name) == 1:
                raise ValueError(
                    f"TabNAS: `{name}` (1) must be below 1, or the policy learns nothing."
                )

    @property
    def filter_warmup(self) -> float:
        """The warm-up, by TuNAS's name."""
        return self.layer_warmup

    @property
    def delay(self) -> float:
        """The policy rests as long: what is trained in the warm-up is not what it drew."""
        return self.layer_warmup

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if self.probability == "monte-carlo":
            return
        constraints, valid = problem.constraints, problem.space.valid
        if valid is not None or (constraints is not None and not constraints.exact):
            note = constraints.note if constraints is not None else ""
            raise SymnasError(
                "TabNAS(probability='exact') needs constraints that are all limits on costs with "
                f"tables{': ' + note if note else ''}. Use probability='monte-carlo'."
            )

    def start(self, problem: Problem) -> OneShotRun:
        return _TabNAS(self, problem)


class _TabNAS(TuNASRun):
    algorithm: TabNAS  # type: ignore[assignment]

    def made_controller(self, device: torch.device) -> Controller:
        settings = self.algorithm
        exact = settings.probability == "exact"
        return RejectionController(
            self.problem, settings.controller_lr, settings.momentum, settings.samples, exact, device
        )

    def epoch(self, number: int) -> dict[str, float]:
        totals: dict[str, list[float]] = {"feasible": []}
        shop, settings = self.workshop, self.algorithm
        for first, second in shop.halves(number, settings.share, settings.times):
            row = self.controller.draw(self.steps)
            feasible = bool(self.problem.feasible(row[None])[0])
            told = {"feasible": float(feasible)}
            if feasible:
                told["loss"] = self.update_weights(row, first)
                if self.steps >= settings.delay * self.total:
                    told.update(self.update_policy(row, self.quality(row, second)))
            for name, value in told.items():
                totals.setdefault(name, []).append(value)
            self.steps += 1
        means = {name: float(np.mean(values)) for name, values in totals.items()}
        return {**means, "entropy": float(self.controller.policy.entropy().detach())}

    def rate(self) -> float:
        return 1.0
