"""A policy over networks that learns given that they keep the constraints.

C. Yang et al., "TabNAS: Rejection sampling for neural architecture search on tabular datasets",
NeurIPS 2022, arXiv:2204.07615.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from symnas.costs.independent import Independent
from symnas.oneshot.controller import Controller
from symnas.searching.policies.rejection import log_feasible, objective

if TYPE_CHECKING:
    from symnas.searching.problem import Problem

Row = NDArray[np.int32]


class RejectionController(Controller):
    """As `Controller`, but with the gradient of `log p(row) - log P(feasible)`.

    With `exact`, only feasible networks are drawn, and P(feasible) is known from tables. Otherwise
    any network is drawn, those that are infeasible are to be left alone, and P(feasible) is
    estimated from `samples` further draws. The running mean is of feasible networks only. A step
    where no further draw is feasible changes the mean alone.

    Args:
        problem, lr, momentum, device: as for `Controller`.
        samples: N, the draws of an estimate.
        exact: whether P(feasible) is known.
    """

    def __init__(
        self,
        problem: Problem,
        lr: float,
        momentum: float = 0.9,
        samples: int = 3072,
        exact: bool = False,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(problem, lr, momentum, feasible=exact, device=device)
        self.samples, self.exact = samples, exact
        if self.optimizer is not None:
            # With momentum, as in the paper's toy example.
            self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=lr, eps=1e-8)

    def learn(self, row: Row, reward: float, rate: float = 1.0, step: int = 0) -> float:
        """One step on a feasible network that was drawn; see `Controller`."""
        rest = self.momentum
        self.rewards = rest * self.rewards + (1 - rest) * reward
        self.weights = rest * self.weights + (1 - rest)
        advantage = reward - self.mean
        share = self.log_share(step)
        if self.optimizer is not None and torch.isfinite(share.detach()):
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * rate
            log = self.policy.log_probability(row[None])[0]
            self.optimizer.zero_grad(set_to_none=True)
            ascended = objective(torch.tensor(advantage).to(log), log, share.to(log))
            (-ascended).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return advantage

    def log_share(self, step: int) -> Tensor:
        """log P(feasible), a scalar with gradient; 0 without constraints, -inf where none is met."""
        problem = self.problem
        if problem.constraints is None and problem.space.valid is None:
            return torch.zeros(())
        if self.exact:
            assert problem.constraints is not None
            return torch.log(problem.constraints.feasible_fraction(self.policy.probabilities())[0])
        rng = np.random.default_rng((problem.seed, 54, step))
        rows = Independent(problem.space, self.probabilities()).sample(self.samples, rng)
        logs = self.policy.log_probability(rows)
        return log_feasible(logs, torch.from_numpy(problem.feasible(rows)).to(logs.device))

    def draw(self, step: int) -> Row:
        """The network of a step, `(columns,)`; with `exact` a feasible one, otherwise any."""
        if self.constraints is not None:
            return super().draw(step)
        rng = np.random.default_rng((self.problem.seed, 51, step))
        row: Row = Independent(self.problem.space, self.probabilities()).sample(1, rng)[0]
        return row
