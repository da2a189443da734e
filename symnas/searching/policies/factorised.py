"""A policy whose decisions are drawn independently of one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from symnas.errors import SymnasError
from symnas.searching.policies.policy import Policy

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]


class Factorised(Policy):
    """One softmax a decision, all even in the beginning.

    Picks of a `manyof` that must differ have logits each; what earlier picks forbid is left out
    and the rest made to add up to 1.

    Args: as `Policy`.

    >>> import symnas as sn
    >>> policy = Factorised(sn.Space([sn.oneof([1, 2, 3]), sn.permutate(["a", "b"])]))
    >>> rows = policy.sample(4, seed=0)
    >>> [round(p, 12) for p in policy.log_prob(rows).exp().tolist()] == [round(1 / 6, 12)] * 4
    True
    """

    def __init__(self, space: Space, *args: Any, **options: Any) -> None:
        super().__init__(space, *args, **options)
        most = max((step.size for step in self.steps), default=1)
        # All in one table, so that all decisions are dealt with at once.
        self.values = nn.Parameter(torch.zeros(len(self.steps), most, dtype=torch.float64))
        self._none = torch.tensor(
            [[k >= step.size for k in range(most)] for step in self.steps], dtype=torch.bool
        ).reshape(len(self.steps), most)
        self._columns = [step.column for step in self.steps]
        self._ruled = any(
            step.room(np.zeros((1, len(space)), np.int32)) is not None for step in self.steps
        )

    def begin(self, n: int) -> None:
        """Nothing is carried along."""

    def logits(self, number: int, carried: Any, rows: Tensor) -> Tensor:
        """The same for all rows, `(1, size)`."""
        return self.values[number, None, : self.steps[number].size]

    @property
    def independent(self) -> bool:
        """Whether decisions are drawn independently: no picks that must differ, and no floats."""
        return not self._ruled and all(step.size == step.values for step in self.steps)

    def probabilities(self) -> dict[str, Tensor]:
        """Of the values of each decision, by id, with gradient: what costs and constraints take.

        Raises:
            SymnasError: the decisions are not independent of one another, or are floats.
        """
        if not self.independent:
            raise SymnasError(
                "Picks of a `manyof` that must differ, and floats, have no probabilities that are "
                "independent of one another. Use an estimate from drawn rows."
            )
        shares = self._all_logs().exp()
        return {
            self.space.columns[step.column]: shares[number, : step.size]
            for number, step in enumerate(self.steps)
            if step.size > 1
        }

    def _all_logs(self, flatter: float = 1.0) -> Tensor:
        """Log-probabilities of all outcomes, `(steps, most)`; -inf where there is none."""
        logits = self.squashed(self.values, flatter)
        return torch.log_softmax(logits.masked_fill(self._none, -torch.inf), 1)

    def _walk(
        self, rows: Rows, rng: np.random.Generator | None, flatter: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """As `Policy`, all decisions at once where none depends on what another one has drawn."""
        if self._ruled or not self.steps:
            return super()._walk(rows, rng, flatter)
        logs = self._all_logs(flatter)
        if rng is not None:
            self._draw(rows, logs, rng)
        values = rows[:, self._columns]
        sizes = np.array([step.size for step in self.steps], np.int64)
        many = np.array([step.values for step in self.steps], np.int64)
        active = torch.from_numpy((values >= 0).astype(np.float64))  # (n, steps)
        outcomes = torch.from_numpy(values.clip(0).astype(np.int64) * sizes // many)
        chosen = logs[torch.arange(len(sizes)), outcomes]
        entropies = -(logs.exp() * logs.masked_fill(self._none, 0.0)).sum(1)
        return (chosen * active).sum(1), active @ entropies

    def _draw(self, rows: Rows, logs: Tensor, rng: np.random.Generator) -> None:
        cumulative = logs.exp().numpy().cumsum(axis=1)
        uniform = rng.random((len(rows), len(self.steps)))
        for number, step in enumerate(self.steps):
            active = step.active(rows)
            if len(active):
                below = cumulative[number, : step.size]
                u = uniform[active, number] * below[-1]
                drawn = np.searchsorted(below, u, "right").clip(0, step.size - 1)
                rows[active, step.column] = step.drawn(drawn, rng)
