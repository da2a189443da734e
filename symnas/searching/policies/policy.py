"""What all policies over rows have in common: they draw a row decision by decision."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from symnas.searching.policies.steps import Step, steps_of

if TYPE_CHECKING:
    from symnas.searchspace.space import Seed, Space

Rows = NDArray[np.int32]


class Policy(nn.Module, abc.ABC):
    """A distribution over the rows of a space, with parameters to be learned.

    Decisions are drawn in the order in which they depend on one another, those that are not active
    left out. With `temperature` T and `tanh_constant` c the logits l of a decision become
    `c * tanh(l / T)`, as in H. Pham et al., "Efficient Neural Architecture Search via Parameter
    Sharing", ICML 2018, arXiv:1802.03268, and its code: a tanh bounds how sure the policy can be.

    Args:
        space: whose rows; every kind of decision is drawn.
        temperature: by which logits are divided; above 1 draws are more even.
        tanh_constant: the bound of logits, or None for no bound.
        levels: outcomes of a float decision.
    """

    def __init__(
        self,
        space: Space,
        temperature: float = 1.0,
        tanh_constant: float | None = None,
        levels: int = 10,
    ) -> None:
        super().__init__()
        self.space, self.temperature, self.tanh_constant = space, temperature, tanh_constant
        self.steps = steps_of(space, levels)

    # What subclasses write --------------------------------------------------------------------

    @abc.abstractmethod
    def begin(self, n: int) -> Any:
        """What is carried along while `n` rows are gone through."""

    @abc.abstractmethod
    def logits(self, number: int, carried: Any, rows: Tensor) -> Tensor:
        """Of a step, for rows by index `(m,)`: `(m, size)`, or `(1, size)` if equal for all."""

    def told(self, number: int, carried: Any, rows: Tensor, outcomes: Tensor) -> None:
        """The outcomes `(m,)` of a step in rows `(m,)`."""

    # What they are used for -------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, n: int, seed: Seed, flatter: float = 1.0) -> Rows:
        """`n` rows `(n, columns)`, with repetitions; constraints and `valid` are not looked at.

        Args:
            n: how many.
            seed: of the draws.
            flatter: times the temperature.
        """
        rows = np.full((n, len(self.space)), -1, np.int32)
        self._walk(rows, np.random.default_rng(seed), flatter)
        return rows

    def log_prob(self, rows: Rows) -> Tensor:
        """The log-probability of rows over their active decisions, `(n,)`, with gradient."""
        return self.evaluate(rows)[0]

    def evaluate(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of rows, `(n,)` each, in nats, with gradient.

        The entropy of a row is the sum of those of its active decisions, each given what was drawn
        before. Its mean over rows drawn from the policy is the entropy of the policy; its gradient
        leaves out that other draws would activate other decisions.
        """
        return self._walk(np.asarray(rows, np.int32), None)

    def entropy(self, n: int = 256, seed: Seed = 0) -> Tensor:
        """Of the policy in nats, estimated from `n` rows: a scalar, with the gradient of `evaluate`."""
        return self.evaluate(self.sample(n, seed))[1].mean()

    def _walk(
        self, rows: Rows, rng: np.random.Generator | None, flatter: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Goes through rows step by step; with `rng` it draws them, in place."""
        total = torch.zeros(len(rows), dtype=torch.float64)
        entropy = torch.zeros(len(rows), dtype=torch.float64)
        carried = self.begin(len(rows))
        for number, step in enumerate(self.steps):
            active = step.active(rows)
            if step.size == 1 and rng is not None:
                rows[active, step.column] = 0
            if step.size == 1 or not len(active):
                continue
            places = torch.from_numpy(active)
            logs = self._logs(number, step, carried, rows[active], places, flatter)
            if rng is not None:
                drawn = _drawn(logs, rng)
                rows[active, step.column] = step.drawn(drawn, rng)
            else:
                drawn = step.outcomes(rows[active, step.column])
            outcomes = torch.from_numpy(drawn)
            total = total.index_add(0, places, logs.gather(1, outcomes[:, None])[:, 0])
            terms = logs.exp() * logs.masked_fill(torch.isinf(logs), 0.0)
            entropy = entropy.index_add(0, places, -terms.sum(1))
            self.told(number, carried, places, outcomes)
        return total, entropy

    def _logs(
        self, number: int, step: Step, carried: Any, rows: Rows, places: Tensor, flatter: float
    ) -> Tensor:
        """The log-probabilities of a step's outcomes, `(m, size)`."""
        logits = self.squashed(self.logits(number, carried, places), flatter)
        room = step.room(rows)
        if room is not None:
            logits = logits + torch.from_numpy(room)
        return torch.log_softmax(logits, 1).expand(len(places), -1)

    def squashed(self, logits: Tensor, flatter: float = 1.0) -> Tensor:
        """Logits after temperature and tanh."""
        logits = logits / (self.temperature * flatter)
        if self.tanh_constant is not None:
            logits = self.tanh_constant * torch.tanh(logits)
        return logits


def _drawn(logs: Tensor, rng: np.random.Generator) -> NDArray[np.int64]:
    """One outcome a row, `(m,)`, by the inverse of the cumulative distribution."""
    cumulative = logs.exp().numpy().cumsum(axis=1)
    u = rng.random((len(cumulative), 1)) * cumulative[:, -1:]
    # Never one of probability 0, as `u` is below the last sum and no sum before a value is above.
    found: NDArray[np.int64] = (cumulative <= u).sum(axis=1)
    return found.clip(0, cumulative.shape[1] - 1)
