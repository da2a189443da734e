"""A search by a policy that learns from what it draws."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.searching.policies.drawing import draw
from symnas.searching.policies.learning import Batch, Learner
from symnas.searching.sequential import SequentialRun

if TYPE_CHECKING:
    from symnas.searching.problem import Problem

Rows = NDArray[np.int32]

# Steps of the policy that one result may set off, where all that it draws is known already.
MOST_STEPS = 3
# So many times a batch is drawn beyond it, for workers that are free while a batch is open.
BEYOND = 3
# So many times more even the policy becomes while it draws nothing new, and rows drawn at each.
FLATTER, TRIED = (1.0, 2.0, 4.0, 8.0), 64


class PolicyRun(SequentialRun):
    """Draws batches of rows, and has the policy learn from each once all its scores are known.

    A row that is drawn again is not evaluated again: its score is known, and counts again, as the
    gradient is a mean over draws. So a batch may need few trials or none, and the policy may take
    several steps after one result, but at most `MOST_STEPS`: a policy that has settled draws
    nothing new, and then rows are proposed from more and more even versions of it, and at last any.

    While a batch waits for results, further draws of the same policy are proposed. The next batch
    learns from those too, weighed by how likely they are under the policy by then.

    A failed trial counts as the worst score so far. All draws depend on the seed, the number of
    steps and what was told before each step, so they are the same in a run that is recovered.

    Args:
        problem: what is solved.
        learner: the policy, and how it learns.
        size: draws in a batch.
    """

    def __init__(self, problem: Problem, learner: Learner, size: int) -> None:
        super().__init__(problem)
        self.learner, self.policy, self.size = learner, learner.policy, size
        self.steps = 0
        self._scores: dict[bytes, float] = {}  # of everything told, by architecture
        self._worst = math.inf
        self._idle = 0  # steps since the last result
        self._late: dict[bytes, tuple[Rows, float]] = {}  # draws beyond the last batch
        self._arrived: list[tuple[Rows, float, float]] = []  # those with a score: row, log p, score
        self._begin()

    def _begin(self) -> None:
        """Draws the next batch, and what may be proposed beyond it."""
        dear = self.problem.constraints is not None and self.problem.constraints.dear
        wanted = self.size * (1 if dear else 1 + BEYOND)
        self._drawn = draw(self.problem, self.policy, wanted, (self.problem.seed, 81, self.steps))
        self._keys = self.problem.space.keys(self._drawn)
        with torch.no_grad():
            self._logs = self.policy.log_prob(self._drawn)
        # Only to save time, as what is no longer fresh never is again.
        self._next = 0

    # Proposing --------------------------------------------------------------------------------

    def next(self) -> Rows:
        while self._next < len(self._drawn):
            row = self._drawn[self._next : self._next + 1]
            if self._keys[self._next] not in self._scores and self.problem.fresh(row)[0]:
                return row
            self._next += 1
        for flatter in FLATTER:
            seed = (self.problem.seed, 82, self.problem.count, int(flatter))
            rows = self.policy.sample(TRIED, seed, flatter)
            fresh = np.flatnonzero(self.problem.fresh(rows))
            if len(fresh):
                return rows[fresh[:1]]
        return self.problem.sample(1, (self.problem.count,))

    # Learning ---------------------------------------------------------------------------------

    def tell(self, rows: Rows, scores: NDArray[np.float64]) -> None:
        keys = self.problem.space.keys(rows)
        for row, key, score in zip(rows, keys, scores[:, 0].tolist(), strict=True):
            self._scores[key] = score if math.isfinite(score) else math.nan
            if math.isfinite(score):
                self._worst = min(self._worst, score)
            if key in self._late and key not in self._keys[: self.size]:
                _, log = self._late.pop(key)
                self._arrived.append((row.copy(), log, self._scores[key]))
            self._idle = 0
            self._learn()

    def _learn(self) -> None:
        """Steps of the policy, as long as all scores of the batch are known."""
        while self._idle < MOST_STEPS:
            keys = self._keys[: self.size]
            if not keys or not all(key in self._scores for key in keys):
                return
            self._step([self._scores[key] for key in keys])
            self._idle += 1
            self.steps += 1
            self._late = {
                key: (self._drawn[i], float(self._logs[i]))
                for i, key in enumerate(self._keys)
                if i >= self.size and key not in self._scores
            }
            self._arrived = []
            self._begin()

    def _step(self, scores: list[float]) -> None:
        if not math.isfinite(self._worst):
            return  # nothing but failures so far
        rows = np.concatenate(
            [self._drawn[: self.size], *(row[None] for row, _, _ in self._arrived)]
        )
        late = torch.tensor([log for _, log, _ in self._arrived], dtype=torch.float64)
        logs = torch.cat([self._logs[: self.size], late])
        rewards = np.array([*scores, *(score for _, _, score in self._arrived)])
        rewards = np.where(np.isnan(rewards), self._worst, rewards)
        seed = (self.problem.seed, 83, self.steps)
        self.learner.learn(Batch(rows, rewards, logs, seed))
