"""Bounds on the share of architectures that keep limits, from tables and from random rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a share.

    >>> low, high = wilson(0, 100)
    >>> low, round(high, 3)
    (0.0, 0.037)
    """
    share, spread = successes / n, z * z / n
    center = share + spread / 2
    margin = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    low, high = (center - margin) / (1 + spread), (center + margin) / (1 + spread)
    return (0.0 if successes == 0 else low, 1.0 if successes == n else high)


def narrower(
    certain: tuple[float, float] | None, kept: NDArray[np.bool_]
) -> tuple[float, float, bool]:
    """Of certain bounds and the interval from random rows the narrower one, and if it is certain.

    Args:
        certain: bounds from tables, if there are any.
        kept: of random rows, which keep the limits: `(n,)`.
    """
    seen = wilson(int(kept.sum()), len(kept))
    if certain is None or certain[1] - certain[0] > seen[1] - seen[0]:
        return *seen, False
    return *certain, True
