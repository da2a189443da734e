"""What policy gradients have in common: advantages, and steps of Adam."""

from __future__ import annotations

import abc
import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from symnas.searching.policies.rejection import Mean

if TYPE_CHECKING:
    from symnas.searching.policies.policy import Policy

Rows = NDArray[np.int32]


@attrs.frozen(eq=False)
class Batch:
    """Draws that a policy learns from.

    Attributes:
        rows: `(n, columns)`, with repetitions.
        rewards: larger is better, finite: `(n,)`.
        logs: the log-probabilities under the policy that drew them, `(n,)`.
        seed: for what has to be drawn while learning.
    """

    rows: Rows
    rewards: NDArray[np.float64]
    logs: Tensor
    seed: tuple[int, ...]


class Learner(abc.ABC):
    """Makes draws likelier whose rewards are above the mean.

    The mean is an exponential one of the means of batches, this one included, without bias from
    the beginning. With `standardized`, advantages are divided by the square root of such a mean of
    their squares, so that the weight of the entropy means the same for all metrics.

    Args:
        policy: what learns.
        lr: of Adam, whose other values are torch's.
        momentum: of the mean.
        entropy: the weight of the policy's entropy, in nats for each decision.
        standardized: whether advantages are divided by their usual size.
    """

    def __init__(
        self, policy: Policy, lr: float, momentum: float, entropy: float, standardized: bool
    ) -> None:
        self.policy, self.entropy, self.standardized = policy, entropy, standardized
        self.mean, self.square = Mean(momentum), Mean(momentum)
        self.optimizer = torch.optim.Adam(policy.parameters(), lr=lr) if policy.steps else None

    def advantages(self, rewards: NDArray[np.float64]) -> Tensor:
        """Rewards less the mean, `(n,)`."""
        found = rewards - self.mean.add(float(rewards.mean()))
        size = math.sqrt(self.square.add(float(np.square(found).mean())))
        if self.standardized and size > 0:
            found = found / size
        return torch.from_numpy(found)

    @abc.abstractmethod
    def learn(self, batch: Batch) -> None:
        """One batch of draws."""

    def step(self, loss: Tensor) -> None:
        """One step of Adam down a loss."""
        if self.optimizer is not None and loss.requires_grad:
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def bonus(self, entropies: Tensor) -> Tensor:
        """What the entropies of rows `(n,)` add to what is ascended."""
        return self.entropy * entropies.mean() / max(1, len(self.policy.steps))
