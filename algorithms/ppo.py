"""PPO: a policy learns from each batch of architectures several times, but never moves far.

J. Schulman et al., "Proximal policy optimization algorithms", 2017, arXiv:1707.06347, Equation 7;
for architectures by B. Zoph et al., "Learning transferable architectures for scalable image
recognition", CVPR 2018, arXiv:1707.07012.
"""

from __future__ import annotations

import attrs
import torch
from symnas.algorithms.reinforce import PolicySearch

from symnas.searching.algorithm import Run
from symnas.searching.checks import at_least, number
from symnas.searching.policies.learning import Batch, Learner
from symnas.searching.policies.run import PolicyRun
from symnas.searching.problem import Problem


@attrs.frozen(kw_only=True)
class PPO(PolicySearch):
    """Proximal policy optimization with a running mean as baseline.

    Each batch moves the policy `epochs` times, up the mean of
    `min(r A, clip(r, 1 - clip, 1 + clip) A)`, where r is the probability of a row over that when it
    was drawn, and A its score less the mean. A row that is drawn again is not evaluated again, but
    its known score counts again.

    From the papers are the objective and the mean as baseline. Ours are all default values, that
    a row is one action, and that scores are standardized. Of infeasible rows, see `Reinforce`
    without correction.

    Args: as `PolicySearch`, and
        epochs: K, steps of Adam for one batch.
        clip: epsilon, by how much a ratio may differ from 1 before it gains nothing more.

    Raises:
        ValueError: a value is out of range.

    >>> from symnas.algorithms.ppo import PPO
    >>> PPO(policy="autoregressive").epochs
    4
    """

    epochs: int = attrs.field(default=4, validator=at_least(1))
    clip: float = attrs.field(default=0.2, validator=number(0, inside=True))

    def start(self, problem: Problem) -> Run:
        return PolicyRun(problem, _Proximal(self, problem), self.batch_size)


class _Proximal(Learner):
    def __init__(self, algorithm: PPO, problem: Problem) -> None:
        super().__init__(algorithm.made(problem), **algorithm.options())
        self.epochs, self.clip = algorithm.epochs, algorithm.clip

    def learn(self, batch: Batch) -> None:
        advantages = self.advantages(batch.rewards)
        for _ in range(self.epochs):
            logs, entropies = self.policy.evaluate(batch.rows)
            gained = clipped(torch.exp(logs - batch.logs), advantages, self.clip)
            self.step(-(gained.mean() + self.bonus(entropies)))


def clipped(ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """The paper's clipped objective of each draw, `(n,)`.

    >>> ratio, one = torch.tensor([0.5, 1.0, 1.5]), torch.ones(3)
    >>> clipped(ratio, one, 0.2).tolist(), clipped(ratio, -one, 0.2).tolist()
    ([0.5, 1.0, 1.2000000476837158], [-0.800000011920929, -1.0, -1.5])
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
