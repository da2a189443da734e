"""DARTS: a mixture of all candidates, whose weights are learned by gradients.

H. Liu, K. Simonyan and Y. Yang, "DARTS: Differentiable Architecture Search", ICLR 2019,
arXiv:1806.09055, Sections 2.2 and 2.3, Algorithm 1.
"""

from __future__ import annotations

import warnings
from typing import Any

import attrs
import torch
from torch import Tensor

from symnas.oneshot.algorithm import OneShotRun
from symnas.oneshot.relaxed import Mixed, Relaxed, RelaxedRun
from symnas.oneshot.workshop import Workshop
from symnas.searching.checks import at_least, number
from symnas.searching.problem import Problem
from symnas.tasks.batches import Batch

# The length of the step of weights in finite differences (below equation 8).
STEP = 0.01
# A warning is given where so large a share of at least so many decisions is without parameters.
COLLAPSED, FEWEST = 0.8, 4


@attrs.frozen(kw_only=True)
class DARTS(Relaxed):
    """Trains the mixture of all networks, and the probabilities of candidates in it by gradients.

    A step of the logits on one half of the training data, then one of the weights on the other
    (Algorithm 1). Of second order, the logits' step looks one step of the weights ahead (equations
    6 to 8; plain gradient descent with the weights' learning rate, without their momentum), which
    takes four passes instead of one.

    From the paper are the halves and Adam for the logits, with betas (0.5, 0.999), learning rate
    3e-4 and weight decay 1e-3: for 50 epochs of CIFAR-10; with fewer steps, take a larger
    `logits_lr`. Ours are: how widths, kernels and depths are mixed (`Supernet.mix`), batch norms
    that keep their scales, the penalty on costs, and that networks are derived as the likeliest
    that keep the constraints.

    DARTS is known to end in networks of skip connections. The counter-measures here are in the
    manner of their papers, not copies of them. `stop_free` and `patience`: H. Liang et al.,
    "DARTS+", arXiv:1909.06035, Section 3, which stops at two skip connections in a cell, or when
    the ranking of candidates stays the same for ten epochs. `skip_dropout`: X. Chen et al.,
    "Progressive Differentiable Architecture Search", ICCV 2019, arXiv:1904.12760, Section 3.3,
    which drops results of skip connections at a rate that decays; here whole candidates without
    parameters are left out of the mixture, whose other weights then add up to 1. A RuntimeWarning
    tells of a run in which four of five decisions have come to prefer a candidate without any.

    Default values are the paper's as far as we know them: its text was not at hand.

    Args:
        order: 1 or 2.
        stop_free: logits stay as they are after an epoch in which so many decisions prefer a
            candidate without parameters; None: never. Weights train on. Not only identities count,
            as in the paper, and what is preferred in the first epochs is mostly chance: give a
            `warmup`, and more than such a share as the candidates have.
        patience: the same after so many epochs in which no decision's preference changed.
        skip_dropout: probability with which each candidate without parameters is left out of a
            step, falling linearly to 0. Steps take longer then: other mixtures run in each.
        warmup, share, penalty: see `symnas.oneshot.relaxed`.
        logits_lr, logits_betas, logits_weight_decay: of Adam for the logits.

    >>> from symnas import algorithms as alg
    >>> alg.DARTS(epochs=50, stop_free=2, warmup=10)
    DARTS(epochs=50, sharing='entangled', retrain=True, warmup=10, share=0.5, logits_lr=0.0003, logits_betas=(0.5, 0.999), logits_weight_decay=0.001, penalty=1.0, order=1, stop_free=2, patience=None, skip_dropout=0.0)
    >>> alg.DARTS(order=3)
    Traceback (most recent call last):
    ValueError: DARTS: the value of `order` (3) must be 1 or 2.
    """

    order: int = attrs.field(default=1)
    stop_free: int | None = attrs.field(default=None, validator=at_least(1, optional=True))
    patience: int | None = attrs.field(default=None, validator=at_least(1, optional=True))
    skip_dropout: float = attrs.field(default=0.0, validator=number(0, 1))

    @order.validator
    def _check_order(self, attribute: Any, value: Any) -> None:
        if value not in (1, 2):
            raise ValueError(f"DARTS: the value of `order` ({value!r}) must be 1 or 2.")

    def start(self, problem: Problem) -> OneShotRun:
        return _DARTS(self, problem)


class _DARTS(RelaxedRun):
    algorithm: DARTS

    def begin(self, workshop: Workshop) -> None:
        super().begin(workshop)
        self.stopped, self.unchanged = False, 0
        self.preferred: list[int] = []

    def mixture(self, purpose: str) -> Mixed:
        mixed = self.logits.probabilities()
        rate = self.algorithm.skip_dropout * (1 - self.progress)
        if rate == 0:
            return mixed
        for id_, free in self.free.items():
            kept = mixed[id_] * ~(free & (torch.rand(len(free), device=free.device) < rate))
            if float(kept.detach().sum()) > 0:
                mixed[id_] = kept / kept.sum()
        return mixed

    # The architecture's step ------------------------------------------------------------------

    def update_logits(self, first: Batch, second: Batch) -> float:
        if self.algorithm.order == 1:
            return super().update_logits(first, second)
        loss, gradients = self.second_order(first, second)
        self.descend(gradients)
        return loss

    def second_order(self, first: Batch, second: Batch) -> tuple[float, list[Tensor | None]]:
        """The loss after a step of the weights, and its gradients (equations 7 and 8)."""
        weights = [w for w in self.workshop.net.parameters() if w.requires_grad]
        saved = [w.detach().clone() for w in weights]
        rate = float(self.weights_optimizer.param_groups[0]["lr"])
        # Dropout and the like have to be the same in all passes: their differences are divided by a
        # small number.
        seed = int(torch.randint(2**62, ()))
        try:
            ahead = self._gradients(first, weights, seed)[1]
            _move(weights, saved, ahead, -rate)
            wanted = [*self.parameters, *weights]
            loss, found = self._gradients(second, wanted, seed, costs=True)
            direct, direction = found[: len(self.parameters)], found[len(self.parameters) :]
            norms = [g.norm() for g in direction if g is not None]
            norm = float(torch.stack(norms).norm()) if norms else 0.0
            if norm == 0:
                return loss, direct
            step = STEP / norm
            _move(weights, saved, direction, step)
            above = self._gradients(first, self.parameters, seed)[1]
            _move(weights, saved, direction, -step)
            below = self._gradients(first, self.parameters, seed)[1]
        finally:
            _move(weights, saved, [None] * len(weights), 0)
        gradients: list[Tensor | None] = []
        for plain, up, down in zip(direct, above, below, strict=True):
            if up is not None and down is not None:
                ahead_of = -rate * (up - down) / (2 * step)
                plain = ahead_of if plain is None else plain + ahead_of
            gradients.append(plain)
        return loss, gradients

    def _gradients(
        self, batch: Batch, of: list[Any], seed: int, costs: bool = False
    ) -> tuple[float, list[Tensor | None]]:
        device = self.workshop.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            self.mix(self.mixture("logits"))
            loss = self.workshop.loss(batch)
        if costs:
            loss = self.with_costs(loss)
        return float(loss.detach()), self.workshop.gradients(loss, of)

    # Against collapse -------------------------------------------------------------------------

    def learns(self, number: int) -> bool:
        return super().learns(number) and not self.stopped

    def epoch(self, number: int) -> dict[str, float]:
        learned = self.learns(number)
        told = super().epoch(number)
        if learned:
            self._judge()
        if not self.free:
            return told
        free = self.preferring_free()
        if (
            number + 1 == self.workshop.epochs
            and len(self.free) >= FEWEST
            and free >= COLLAPSED * len(self.free)
        ):
            warnings.warn(
                f"DARTS: {free} of {len(self.free)} decisions prefer a candidate without parameters, "
                "which is how DARTS is known to fail. Try skip_dropout=0.5, a warmup, or fewer such "
                "candidates.",
                RuntimeWarning,
                stacklevel=2,
            )
        return {**told, "parameter-free": free / len(self.free)}

    def preferring_free(self) -> int:
        """How many decisions find a candidate without parameters likelier than all with some."""
        logits = {id_: value.detach() for id_, value in self.logits.logits().items()}
        return sum(
            int(logits[id_][free].max() > logits[id_][~free].max())
            for id_, free in self.free.items()
        )

    def _judge(self) -> None:
        """Stops the logits, where it is time to."""
        preferred = [int(value.detach().argmax()) for value in self.logits.logits().values()]
        self.unchanged = self.unchanged + 1 if preferred == self.preferred else 0
        self.preferred = preferred
        stop_free, patience = self.algorithm.stop_free, self.algorithm.patience
        self.stopped = (stop_free is not None and self.preferring_free() >= stop_free) or (
            patience is not None and self.unchanged >= patience
        )

    def state(self) -> dict[str, Any]:
        told = {k: getattr(self, k) for k in ("stopped", "unchanged", "preferred")}
        return {**super().state(), **told}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.stopped, self.unchanged = state["stopped"], state["unchanged"]
        self.preferred = list(state["preferred"])


@torch.no_grad()
def _move(weights: list[Any], saved: list[Tensor], along: list[Any], step: float) -> None:
    """Sets weights to the saved ones and so much of a direction."""
    for weight, value, direction in zip(weights, saved, along, strict=True):
        weight.copy_(value if direction is None else value + step * direction)
