"""Policy gradients given that what is drawn is feasible, and running means of rewards.

C. Yang et al., "TabNAS: Rejection sampling for neural architecture search on tabular datasets",
NeurIPS 2022, arXiv:2204.07615. Everything works on one search or on many at once: leading axes are
kept.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor


def log_feasible(logs: Tensor, feasible: Tensor) -> Tensor:
    """The logarithm of the estimated probability that a draw is feasible, `(...)`, with gradient.

    The paper's estimate, `P(V) = 1/N sum_k [z_k in V] p(z_k) / q(z_k)`, with q = p held fixed: its
    value is the share of feasible draws, and its logarithm has the mean of the gradients of
    log p(z) over the feasible draws for gradient. That is the gradient of log P(V) on average,
    given that a draw is feasible (our derivation; the paper claims consistency).

    Args:
        logs: log p of N draws of the policy, `(..., N)`.
        feasible: which of them are feasible, `(..., N)`. Where none is, the result is -inf, without
            gradient.

    >>> logs = torch.tensor([-1.0, -2.0, -3.0, -1.5], requires_grad=True)
    >>> log = log_feasible(logs, torch.tensor([True, False, True, False]))
    >>> log.backward()
    >>> round(float(log.exp().detach()), 6), logs.grad.tolist()
    (0.5, [0.5, 0.0, 0.5, 0.0])
    """
    ratio = torch.exp(logs - logs.detach())
    kept = torch.where(feasible, ratio, torch.zeros_like(ratio)).sum(-1)
    none = kept.detach() == 0
    share = torch.where(none, torch.ones_like(kept), kept) / logs.shape[-1]
    return torch.where(none, torch.full_like(kept, -torch.inf), share.log())


def objective(advantage: Tensor, log_probability: Tensor, log_share: Tensor) -> Tensor:
    """What a step ascends, `(...)`: `advantage * (log p(y) - log P(V))`, the advantage held fixed.

    Args:
        advantage: the reward of y less the running mean.
        log_probability: log p(y) of the feasible y that was drawn.
        log_share: log P(V), estimated or exact; where it is -inf there is nothing to be learned,
            and the result is 0 without gradient.

    >>> float(objective(torch.tensor(2.0), torch.tensor(-1.0), torch.tensor(-0.5)))
    -1.0
    """
    none = torch.isinf(log_share.detach())
    given = log_probability - torch.where(none, torch.zeros_like(log_share), log_share)
    return torch.where(none, torch.zeros_like(given), advantage.detach() * given)


@attrs.define
class Mean:
    """An exponential running mean without bias from the beginning: a weighted sum over weights.

    Args:
        momentum: the share of the old mean that is left after one value.

    >>> mean = Mean(0.9)
    >>> round(mean.add(1.0), 6), round(mean.add(2.0), 6)  # (0.1 * 2 + 0.09 * 1) / 0.19
    (1.0, 1.526316)
    """

    momentum: float
    values: Any = 0.0
    weights: Any = 0.0

    def add(self, value: Any) -> Any:
        """The mean with one more value, which may be a number, an array or a tensor."""
        rest = self.momentum
        self.values = rest * self.values + (1 - rest) * value
        self.weights = rest * self.weights + (1 - rest)
        return self.values / self.weights
