"""Which algorithms differ over many searches: mean ranks, Friedman's test, Nemenyi's distance.

J. Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7 (2006), Section
3.2.2. What is ours: a block is one table with one seed, so differences hold for these tables.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.errors import MissingExtra


@attrs.frozen(eq=False)
class Ranks:
    """Mean ranks of algorithms, 1 being the best.

    Attributes:
        names: of the algorithms, best first.
        mean: `(algorithms,)`.
        blocks: how many rankings there are.
        p: of Friedman's test that all are alike; NaN for two algorithms or one block.
        distance: two mean ranks that are further apart differ significantly (Nemenyi).
        alpha: the level of significance.
    """

    names: tuple[str, ...]
    mean: NDArray[np.float64]
    blocks: int
    p: float
    distance: float
    alpha: float

    @classmethod
    def of(cls, names: tuple[str, ...], regrets: NDArray[np.float64], alpha: float = 0.05) -> Ranks:
        """Ranks of regrets `(blocks, algorithms)`; equal ones share the mean of their ranks.

        Raises:
            ValueError: there are fewer than two algorithms, or no blocks.

        >>> ranks = Ranks.of(("a", "b", "c"), np.array([[1, 2, 3], [1, 3, 2], [1, 2, 2]]))
        >>> ranks.names, ranks.mean.round(3).tolist()
        (('a', 'b', 'c'), [1.0, 2.5, 2.5])
        """
        regrets = np.asarray(regrets, float)
        if (
            regrets.ndim != 2
            or regrets.shape[1] != len(names)
            or len(names) < 2
            or not len(regrets)
        ):
            raise ValueError(
                f"Ranks need at least two algorithms that all finished a search; there are {len(names)} "
                f"algorithms, and regrets of shape {regrets.shape}."
            )
        try:
            from scipy import stats
        except ImportError as error:
            raise MissingExtra('Ranks need scipy: pip install "symnas[benchmark]".') from error
        n, k = regrets.shape
        mean = stats.rankdata(regrets, axis=1).mean(axis=0)
        order = np.argsort(mean, kind="stable")
        p = float("nan")
        if k > 2 and n > 1 and np.ptp(regrets) > 0:
            p = float(stats.friedmanchisquare(*regrets.T).pvalue)
        q = stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2)
        distance = float(q * np.sqrt(k * (k + 1) / (6 * n)))
        return cls(tuple(names[i] for i in order), mean[order], n, p, distance, alpha)

    @property
    def groups(self) -> list[tuple[int, int]]:
        """First and last positions of algorithms that do not differ significantly, the longest."""
        found: list[tuple[int, int]] = []
        for first in range(len(self.mean)):
            last = int(np.flatnonzero(self.mean - self.mean[first] <= self.distance)[-1])
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found
