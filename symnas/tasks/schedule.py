"""Learning-rate schedules: a factor of the base rate for each step."""

from __future__ import annotations

import math

# Share of the steps that the rate rises in, where the Task does not say.
WARMUP = {"constant": 0.0, "cosine": 0.05, "onecycle": 0.25}


def factor(schedule: str, step: int, steps: int, warmup: float | None = None) -> float:
    """What the learning rate is multiplied by at `step` of `steps` (from 0).

    All rise linearly to 1 over the first `warmup` share of the steps; then "constant" stays,
    "cosine" and "onecycle" fall to 0 along half a cosine (Loshchilov and Hutter 2017, eq. 5).
    "onecycle" differs in its long rise, along a cosine from 1/25 (Smith and Topin 2018).

    >>> [round(factor("cosine", step, 4, warmup=0.25), 2) for step in range(4)]
    [1.0, 1.0, 0.75, 0.25]
    """
    rise = (WARMUP[schedule] if warmup is None else warmup) * steps
    if step + 1 <= rise:
        share = (step + 1) / rise
        if schedule == "onecycle":
            return 1 / 25 + (1 - 1 / 25) * _half_cosine(1 - share)
        return share
    if schedule == "constant":
        return 1.0
    return _half_cosine((step - math.floor(rise)) / max(1.0, steps - math.floor(rise)))


def _half_cosine(share: float) -> float:
    """1 at 0, 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * share))
