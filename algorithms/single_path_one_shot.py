"""Single-path one-shot search: uniform paths through a supernet, then evolution on its weights.

Z. Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV 2020,
arXiv:1904.00420, Sections 3.2 to 3.4.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.oneshot.algorithm import OneShot, OneShotRun
from symnas.oneshot.evolve import evolved
from symnas.oneshot.workshop import Workshop
from symnas.searching.checks import at_least
from symnas.searching.problem import Problem

Rows = NDArray[np.int32]


@attrs.frozen(kw_only=True)
class SinglePathOneShot(OneShot):
    """Trains a supernet on uniform paths, then looks for the best path by evolution.

    Each step trains one network that is drawn uniformly among those that keep the constraints. The
    evolution's networks are measured with the shared weights on the validation data, their batch
    norms recalibrated; half of a generation are mutations of the ten best and half are crossovers,
    as in the paper (Section 3.4; its population is 50, and 20 generations).

    Args:
        population: networks in a generation.
        generations: how many.
        parents: the best so many of all have children.

    >>> from symnas import algorithms as alg
    >>> alg.SinglePathOneShot(epochs=5, population=10)
    SinglePathOneShot(epochs=5, sharing='entangled', retrain=True, population=10, generations=10, parents=10)
    """

    population: int = attrs.field(default=20, validator=at_least(2))
    generations: int = attrs.field(default=10, validator=at_least(1))
    parents: int = attrs.field(default=10, validator=at_least(1))

    def start(self, problem: Problem) -> OneShotRun:
        return _SinglePath(self, problem)


class _SinglePath(OneShotRun):
    algorithm: SinglePathOneShot

    def begin(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.optimizer = workshop.optimizer()
        self.steps = 0

    def epoch(self, number: int) -> dict[str, float]:
        shop = self.workshop
        rows = shop.feasible(shop.steps_an_epoch, number)
        total = 0.0
        shop.net.train()
        for row, batch in zip(rows, shop.batches("train", number), strict=False):
            shop.set_rate(self.optimizer, self.steps, shop.epochs * shop.steps_an_epoch)
            shop.net.select(row)
            loss = shop.loss(shop.resized(batch, row))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach())
            self.steps += 1
        return {"loss": total / len(rows)}

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "steps": self.steps}

    def load(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]

    def derive(self, n: int) -> Rows:
        return evolved(
            self.workshop,
            population=self.algorithm.population,
            generations=self.algorithm.generations,
            parents=self.algorithm.parents,
        )[:n]
