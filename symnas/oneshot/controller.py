"""A policy over networks, one softmax a decision, that learns by REINFORCE.

R. Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
learning", Machine Learning 1992; as in the code of G. Bender et al., "TuNAS", CVPR 2020,
arXiv:2008.06120.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from symnas.costs.independent import Independent
from symnas.errors import Infeasible, SymnasError
from symnas.oneshot.logits import Logits

if TYPE_CHECKING:
    from symnas.searching.problem import Problem

Row = NDArray[np.int32]

# Draws until one is `valid`; and rows from which the gradient of the log-probability to be feasible
# is estimated, where it is not known from tables.
DRAWS, ESTIMATED = 10_000, 64


class Controller:
    """Draws networks, and makes those likelier whose rewards are above the mean.

    All is even in the beginning. The mean is an exponential one of all rewards so far, this one
    included, without bias from the beginning: a weighted sum of rewards over that of the weights.
    Adam has no momentum, so that a step is of the network that was drawn alone.

    Args:
        problem: the space, the constraints, the seed.
        lr: of Adam.
        momentum: of the mean.
        feasible: draws only networks that keep the constraints; the gradient is then that of the
            logarithm of p(row) / P(feasible).
        device: where the logits are.

    Raises:
        SymnasError: the space has float decisions, or picks that must differ.

    >>> import symnas as sn
    >>> controller = Controller(sn.Problem(sn.Space(sn.oneof([1, 2, 3]))), lr=0.1)
    >>> row = controller.draw(step=0)
    >>> controller.learn(row, reward=1.0), controller.learn(row, reward=2.0)  # less the mean
    (0.0, 0.4871794871794872)
    """

    def __init__(
        self,
        problem: Problem,
        lr: float,
        momentum: float = 0.95,
        feasible: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.problem, self.lr, self.momentum = problem, lr, momentum
        self.constraints = problem.constraints if feasible else None
        _refuse_rules(problem)
        self.policy = Logits(problem.space).to(device or torch.device("cpu"))
        self.optimizer = (
            torch.optim.Adam(self.policy.parameters(), lr=lr, betas=(0.0, 0.999), eps=1e-8)
            if len(self.policy)
            else None
        )
        self.rewards = self.weights = 0.0

    @property
    def mean(self) -> float:
        """Of the rewards so far."""
        return self.rewards / self.weights if self.weights else math.nan

    def probabilities(self) -> dict[str, Tensor]:
        """Of the values of each decision, without gradient."""
        return {id_: p.detach() for id_, p in self.policy.probabilities().items()}

    def draw(self, step: int) -> Row:
        """The network of a step, `(columns,)`: it depends on the policy, the seed and the step.

        Raises:
            Infeasible: none was allowed among many.
        """
        problem, seed = self.problem, (self.problem.seed, 51, step)
        if self.constraints is not None:
            rows = self.constraints.sample_feasible(1, seed, self.probabilities())
            if len(rows):
                return np.asarray(rows[0], np.int32)
        else:
            rng = np.random.default_rng(seed)
            independent = Independent(problem.space, self.probabilities())
            for _ in range(DRAWS):
                rows = independent.sample(1, rng)
                if problem.space.is_valid(rows)[0]:
                    return np.asarray(rows[0], np.int32)
        raise Infeasible("The policy drew no allowed network.")

    def learn(self, row: Row, reward: float, rate: float = 1.0, step: int = 0) -> float:
        """One step on a network that was drawn.

        Args:
            row: the network.
            reward: a finite number, larger is better.
            rate: times the learning rate.
            step: for what has to be drawn.

        Returns:
            The reward less the mean.
        """
        rest = self.momentum
        self.rewards = rest * self.rewards + (1 - rest) * reward
        self.weights = rest * self.weights + (1 - rest)
        advantage = reward - self.mean
        if self.optimizer is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * rate
            self.optimizer.zero_grad(set_to_none=True)
            (-advantage * self.log_probability(row, step)).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return advantage

    def log_probability(self, row: Row, step: int = 0) -> Tensor:
        """Of a network under what it is drawn from, with gradient.

        Over its active decisions alone. Where P(feasible) is not known from tables, the value is
        off by a constant, and the gradient is estimated.
        """
        own = self.policy.log_probability(row[None])[0]
        if self.constraints is None:
            return own
        if self.constraints.exact:
            share, _ = self.constraints.feasible_fraction(self.policy.probabilities())
            if float(share.detach()) > 0:
                return own - torch.log(share).to(own)
        # The mean of the gradient of log p over feasible networks is that of log P(feasible).
        seed = (self.problem.seed, 53, step)
        rows = self.constraints.sample_feasible(ESTIMATED, seed, self.probabilities())
        return own - self.policy.log_probability(rows).mean()

    def state(self) -> dict[str, Any]:
        """All that has been learned."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer is not None else {},
            "rewards": self.rewards,
            "weights": self.weights,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Takes up what `state` gave."""
        self.policy.load_state_dict(state["policy"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.rewards, self.weights = state["rewards"], state["weights"]


def _refuse_rules(problem: Problem) -> None:
    space = problem.space
    columns = sorted({c for rule in space._compiled.rules for c in rule.columns})
    if columns:
        names = ", ".join(space.columns[c] for c in columns[:3])
        raise SymnasError(
            f"The picks of a `manyof` ({names}, ...) must differ or be in order, but the policy decides "
            "each by itself. Write one sn.oneof for each pick, or let them repeat (distinct=False)."
        )
