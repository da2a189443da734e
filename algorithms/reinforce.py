"""REINFORCE: a policy draws architectures, and makes those likelier that score above the mean.

R. Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
learning", Machine Learning 8, 1992; for architectures by B. Zoph and Q. Le, "Neural architecture
search with reinforcement learning", ICLR 2017, arXiv:1611.01578, Section 3.2.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from symnas.errors import SymnasError
from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import at_least, number, one_of
from symnas.searching.policies import Autoregressive, Factorised, Policy
from symnas.searching.policies.learning import Batch, Learner
from symnas.searching.policies.rejection import log_feasible, objective
from symnas.searching.policies.run import PolicyRun
from symnas.searching.problem import Problem


def positive(instance: Any, attribute: Any, value: Any) -> None:
    """An attrs validator for numbers above 0, or None."""
    if value is not None:
        number(0, inside=True)(instance, attribute, value)


@attrs.frozen(kw_only=True)
class PolicySearch(Algorithm):
    """What searches by policy gradients have in common.

    Args:
        policy: "factorised" has one softmax a decision; "autoregressive" is an LSTM that draws each
            decision given those before.
        batch_size: draws that the policy learns from at once.
        lr: of Adam; None is 0.3 for a factorised policy and 0.03 for an autoregressive one.
        momentum: of the running mean of scores that they are compared to.
        entropy: weight of the policy's entropy, which keeps it from settling early.
        temperature: by which logits are divided.
        tanh_constant: bounds logits, see `Policy`; None does not.
        standardized: divides differences from the mean by their usual size.
        width: of the LSTM.
        levels: of which a float decision is one; within it is drawn uniformly.
    """

    policy: str = attrs.field(
        default="factorised", validator=one_of(("factorised", "autoregressive"))
    )
    batch_size: int = attrs.field(default=5, validator=at_least(1))
    lr: float | None = attrs.field(default=None, validator=positive)
    momentum: float = attrs.field(default=0.9, validator=number(0, 1))
    entropy: float = attrs.field(default=0.1, validator=number(0))
    temperature: float = attrs.field(default=1.0, validator=number(0, inside=True))
    tanh_constant: float | None = attrs.field(default=None, validator=positive)
    standardized: bool = True
    width: int = attrs.field(default=32, validator=at_least(1))
    levels: int = attrs.field(default=10, validator=at_least(2))

    def __attrs_post_init__(self) -> None:
        if self.momentum == 1:
            raise ValueError(
                f"{type(self).__name__}: `momentum` (1) must be below 1, or there is no mean."
            )

    def made(self, problem: Problem) -> Policy:
        """A new policy for a problem."""
        options: dict[str, Any] = {
            "temperature": self.temperature,
            "tanh_constant": self.tanh_constant,
            "levels": self.levels,
        }
        if self.policy == "factorised":
            return Factorised(problem.space, **options)
        seed = (problem.seed, 80)
        return Autoregressive(problem.space, width=self.width, seed=seed, **options)

    def options(self) -> dict[str, Any]:
        """For `Learner`."""
        lr = self.lr or (0.3 if self.policy == "factorised" else 0.03)
        return {
            "lr": lr,
            "momentum": self.momentum,
            "entropy": self.entropy,
            "standardized": self.standardized,
        }


@attrs.frozen(kw_only=True)
class Reinforce(PolicySearch):
    """A policy gradient with a running mean as baseline.

    Each batch of draws moves the policy once, along the mean of `(score - mean) * grad log p(row)`.
    A row that is drawn again is not evaluated again, but its known score counts again. The score is
    the search's reward, where it has one.

    Only feasible rows are proposed and learned from. With `correction` the gradient is that of the
    policy given feasibility, of `log p(row) - log P(feasible)`, as in C. Yang et al., "TabNAS",
    NeurIPS 2022, arXiv:2204.07615: "monte-carlo" estimates it from `samples` draws, as the paper
    does; "exact" (ours) knows P(feasible), where limits are on costs that are tables (but for rows
    that are nearer to a limit than a ten-thousandth of the costs' range).

    From the papers are the gradient, the mean as baseline, Adam and the two kinds of policy. Ours are
    all default values (Zoph and Le have two layers of 35 and a learning rate of 0.0006 for 12,800
    trials), that scores are standardized, and what `PolicyRun` does with known rows.

    Args: as `PolicySearch`, and
        correction: "none", "monte-carlo" or "exact".
        samples: N, the draws of an estimate.

    Raises:
        ValueError: a value is out of range, or `correction="exact"` has no factorised policy.

    >>> from symnas.algorithms.reinforce import Reinforce
    >>> Reinforce(lr=0.05).batch_size
    5
    """

    correction: str = attrs.field(
        default="none", validator=one_of(("none", "monte-carlo", "exact"))
    )
    samples: int = attrs.field(default=256, validator=at_least(1))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.correction == "exact" and self.policy != "factorised":
            raise ValueError(
                f"Reinforce: `correction` ('exact') must not be combined with `policy` "
                f"({self.policy!r}), whose P(feasible) can only be estimated: use 'monte-carlo'."
            )

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if self.correction != "exact" or problem.constraints is None:
            return
        if not problem.constraints.exact:
            note = problem.constraints.note
            raise SymnasError(
                "Reinforce(correction='exact') needs constraints that are all limits on costs with "
                f"tables{': ' + note if note else ''}. Use correction='monte-carlo'."
            )
        policy = Factorised(problem.space, levels=self.levels)
        policy.probabilities()

    def start(self, problem: Problem) -> Run:
        return PolicyRun(problem, _Williams(self, problem), self.batch_size)


class _Williams(Learner):
    """Ascends the mean of `advantage * (log p - log P(feasible))`."""

    def __init__(self, algorithm: Reinforce, problem: Problem) -> None:
        super().__init__(algorithm.made(problem), **algorithm.options())
        self.algorithm, self.problem = algorithm, problem
        free = problem.constraints is None and problem.space.valid is None
        self.correction = "none" if free else algorithm.correction

    def learn(self, batch: Batch) -> None:
        advantages = self.advantages(batch.rewards)
        logs, entropies = self.policy.evaluate(batch.rows)
        # 1 for what the present policy has drawn; less for what an earlier one had liked more.
        weight = torch.exp(logs.detach() - batch.logs).clamp(max=1.0)
        share = self.log_share(batch.seed).expand(len(logs))
        ascended = objective(weight * advantages, logs, share).mean()
        self.step(-(ascended + self.bonus(entropies)))

    def log_share(self, seed: tuple[int, ...]) -> Tensor:
        """log P(feasible), a scalar with gradient; 0 without correction."""
        if self.correction == "none":
            return torch.zeros((), dtype=torch.float64)
        if self.correction == "exact":
            assert self.problem.constraints is not None and isinstance(self.policy, Factorised)
            lower, _ = self.problem.constraints.feasible_fraction(self.policy.probabilities())
            return torch.log(lower) if float(lower.detach()) > 0 else lower.detach() - torch.inf
        rows = self.policy.sample(self.algorithm.samples, seed)
        feasible = torch.from_numpy(self.problem.feasible(rows))
        return log_feasible(self.policy.log_prob(rows), feasible)
