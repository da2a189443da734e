"""GDAS: one path a step, drawn with Gumbel noise, with a straight-through gradient to the logits.

X. Dong and Y. Yang, "Searching for a Robust Neural Architecture in Four GPU Hours", CVPR 2019,
arXiv:1910.04465, Section 3.2 and Algorithm 1.
"""

from __future__ import annotations

import attrs

from symnas.oneshot.algorithm import OneShotRun
from symnas.oneshot.relaxed import Mixed, Relaxed, RelaxedRun
from symnas.searching.checks import number
from symnas.searching.problem import Problem
from symnas.tasks.batches import Batch


@attrs.frozen(kw_only=True)
class GDAS(Relaxed):
    """Trains one path a step, drawn anew by the Gumbel-max trick, and learns where to draw it.

    Each step of the weights and each of the logits draws `argmax(log p + Gumbel noise)` of each
    decision. Only that candidate runs; the gradient is that of the Gumbel-softmax at a temperature
    which falls linearly, and flows through the candidate that ran, as in the paper. So a step is as
    cheap as one network's, where candidates are modules; widths and kernels run at their largest.

    From the paper are the two alternating steps on two halves of the training data, weights first
    (Algorithm 1), the temperature from 10 to 0.1, and Adam with betas (0.5, 0.999), learning rate
    3e-4 and weight decay 1e-3 for the logits. These suit some hundred epochs: with fewer, take a
    larger `logits_lr`. The penalty and the warm-up are additions of this library, and so is that
    networks are derived as the likeliest that keep the constraints.

    Default values are the paper's as far as we know them: its text was not at hand.

    Args:
        temperature, last_temperature: of the Gumbel-softmax, in the beginning and in the end.
        warmup, share, penalty: see `symnas.oneshot.relaxed`.
        logits_lr, logits_betas, logits_weight_decay: of Adam for the logits.

    >>> from symnas import algorithms as alg
    >>> alg.GDAS(epochs=5, logits_lr=0.01)
    GDAS(epochs=5, sharing='entangled', retrain=True, warmup=0, share=0.5, logits_lr=0.01, logits_betas=(0.5, 0.999), logits_weight_decay=0.001, penalty=1.0, temperature=10.0, last_temperature=0.1)
    >>> alg.GDAS(temperature=0.1, last_temperature=1.0)
    Traceback (most recent call last):
    ValueError: GDAS: `last_temperature` (1.0) must not be above `temperature` (0.1).
    """

    temperature: float = attrs.field(default=10.0, validator=number(0, inside=True))
    last_temperature: float = attrs.field(default=0.1, validator=number(0, inside=True))

    def __attrs_post_init__(self) -> None:
        if self.last_temperature > self.temperature:
            raise ValueError(
                f"GDAS: `last_temperature` ({self.last_temperature}) must not be above `temperature` "
                f"({self.temperature})."
            )

    def start(self, problem: Problem) -> OneShotRun:
        return _GDAS(self, problem)


class _GDAS(RelaxedRun):
    algorithm: GDAS

    @property
    def temperature(self) -> float:
        """Of this step: linear in the steps."""
        first, last = self.algorithm.temperature, self.algorithm.last_temperature
        return first + (last - first) * self.progress

    def mixture(self, purpose: str) -> Mixed:
        return self.logits.gumbel(self.temperature, hard=True)

    def step(self, first: Batch, second: Batch | None) -> dict[str, float]:
        told = {"loss": self.update_weights(first)}
        if second is not None:
            told["choice loss"] = self.update_logits(first, second)
        return told

    def epoch(self, number: int) -> dict[str, float]:
        told = super().epoch(number)
        return {**told, "temperature": self.temperature}
