"""`sn.flow.refine`: a stage that narrows the space of those after it."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.flow.sequence import Shrink
from symnas.flow.stage import Stage
from symnas.searching import pareto
from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Scores = NDArray[np.float64]


def refine(search: Stage, shrink: Shrink) -> Stage:
    """A stage of `sn.flow.sequence` after which only some candidates are left.

    Args:
        search: the stage, `algorithm.over(...)`.
        shrink: `shrink(space, rows, scores)`: from all results so far (rows `(n, columns)`, scores
            `(n, objectives)`, larger is better) which candidates of which decisions are kept, as for
            `space.restrict`; such as `sn.flow.Best(0.2)`.

    Raises:
        TypeError: `search` is no stage, or `shrink` cannot be called.

    >>> import symnas as sn
    >>> from symnas import algorithms as alg
    >>> space = sn.Space([sn.oneof(range(8)), sn.oneof(range(8))])
    >>> flow = sn.flow.sequence(sn.flow.refine(alg.RandomSearch().over(trials=20), sn.flow.Best(0.2)),
    ...                         alg.RandomSearch().over(trials=8))
    >>> study = sn.search(space, flow, lambda a: sum(a.build()), maximize="sum", progress=False)
    >>> scores = [t.metrics["sum"] for t in study.trials]
    >>> sum(scores[20:]) / 8 > sum(scores[:20]) / 20 + 2  # what is left is good
    True
    """
    if not isinstance(search, Stage):
        raise TypeError(
            f"refine: `search` ({search!r:.60}) must say what it searches, as "
            "alg.RandomSearch().over(trials=50)."
        )
    if not callable(shrink) or isinstance(shrink, type):
        raise TypeError(
            f"refine: `shrink` ({shrink!r:.60}) must be a function shrink(space, rows, scores), such as "
            "sn.flow.Best(0.2)."
        )
    return attrs.evolve(search, shrink=shrink)


def _share(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(f"Best: `share` ({value!r}) must be above 0 and at most 1.")


@attrs.frozen
class Best:
    """Keeps the candidates that stand in the best share of the architectures.

    A decision that none of those makes keeps all. Floats keep all.

    Args:
        share: of the results that count as the best; at least one does. Several objectives are
            compared by fronts (Deb et al. 2002, "NSGA-II").
    """

    share: float = attrs.field(default=0.25, validator=_share)

    def __call__(self, space: Space, rows: Rows, scores: Scores) -> dict[str, list[Any]]:
        count = max(1, round(self.share * len(rows)))
        best = rows[np.argsort(-pareto.places(scores), kind="stable")[:count]]
        kept: dict[str, list[Any]] = {}
        for column, decision in enumerate(space.decisions):
            values = np.unique(best[:, column]) if len(best) else np.zeros(0, int)
            values = values[values >= 0]
            if len(values) and decision.kind != "float":
                kept[decision.id] = [decision.labels[v] for v in values]
        return kept
