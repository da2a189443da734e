"""Several objectives at once: non-dominated sorting, crowding, hypervolume. Larger is better.

Deb, Pratap, Agarwal and Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm:
NSGA-II" (IEEE Transactions on Evolutionary Computation 6(2)), section III; sorting and exact
hypervolumes are moocore's.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


def nondominated(scores: Scores) -> NDArray[np.bool_]:
    """Which rows of `scores` `(n, objectives)` no other one dominates: `(n,)`.

    A row is dominated by one that is nowhere worse and somewhere better, so equal rows stay
    together. What failed (a score that is no finite number) is out.

    >>> nondominated(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5], [np.nan, np.nan]])).tolist()
    [True, True, False, False]
    """
    first: NDArray[np.bool_] = ranks(scores) == 0
    return first & np.isfinite(scores).all(axis=1)


def ranks(scores: Scores) -> NDArray[np.intp]:
    """The front of each row of `scores` `(n, objectives)`: `(n,)`, 0 for what none dominates.

    Front k is what none dominates once the fronts before it are taken away (section III-A). What
    failed (a score that is no finite number) comes in one front after all others.

    >>> ranks(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5], [np.nan, np.nan]])).tolist()
    [0, 0, 1, 2]
    """
    fine = np.isfinite(scores).all(axis=1)
    found = np.zeros(len(scores), np.intp)
    if fine.any():
        found[fine] = moocore.pareto_rank(scores[fine], maximise=True)
        found[~fine] = found[fine].max() + 1
    return found


def crowding(scores: Scores, fronts: NDArray[np.intp]) -> Scores:
    """The crowding distance of each row of `scores` within its front: `(n,)`, larger is lonelier.

    It is the sum, over objectives, of the gap between a row's two neighbours in its front as a
    share of the front's range (section III-B); infinite for the ends of a front, 0 for failures.

    Args:
        scores: `(n, objectives)`.
        fronts: what `ranks` says of them, `(n,)`.

    >>> points = np.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]])
    >>> crowding(points, ranks(points)).tolist()
    [inf, 2.0, inf]
    """
    distance = np.zeros(len(scores))
    fine = np.isfinite(scores).all(axis=1)
    for front in np.unique(fronts[fine]):
        members = np.flatnonzero(fine & (fronts == front))
        for column in scores[members].T:
            order = np.argsort(column, kind="stable")
            values = column[order]
            distance[members[order[[0, -1]]]] = np.inf
            if values[-1] > values[0]:
                gaps = (values[2:] - values[:-2]) / (values[-1] - values[0])
                distance[members[order[1:-1]]] += gaps
    return distance


def places(scores: Scores) -> NDArray[np.intp]:
    """The place of each row of `scores` `(n, objectives)` from worst, 0, to best, n - 1: `(n,)`.

    Better is an earlier front, then more room (the crowded-comparison operator, section III-B);
    of equals, the later row. A failure is worse than what did not fail.

    >>> places(np.array([[0.0, 0.5], [1.0, 0.0], [0.0, 1.0], [np.nan, np.nan]])).tolist()
    [1, 2, 3, 0]
    """
    fronts = ranks(scores)
    order = np.lexsort((np.arange(len(scores)), crowding(scores, fronts), -fronts))
    found = np.empty(len(scores), np.intp)
    found[order] = np.arange(len(scores))
    return found


def hypervolume(scores: Scores, reference: Sequence[float]) -> float:
    """The volume between a reference point and what `scores` `(n, objectives)` reach, exactly.

    Args:
        scores: failures and what is worse than the reference in any objective add nothing.
        reference: the worst score that counts, of each objective.

    >>> hypervolume(np.array([[2.0, 1.0], [1.0, 3.0]]), [0.0, 0.0])
    4.0
    """
    fine = scores[np.isfinite(scores).all(axis=1)]
    if not len(fine):
        return 0.0
    return float(moocore.hypervolume(fine, ref=np.asarray(reference, float), maximise=True))
