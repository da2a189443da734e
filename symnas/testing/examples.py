"""Small spaces of every kind, for conformance suites and tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import symnas as sn


def example_spaces() -> dict[str, sn.Space]:
    """One small space of each kind, by name; all but "float" can be enumerated.

    >>> {name: space.size for name, space in example_spaces().items() if not space.has_floats}
    {'flat': 36, 'conditional': 20, 'repeated': 14, 'subset': 12, 'picks': 18, 'permutation': 24}
    """
    return {
        "flat": sn.Space({"a": _abc(), "b": sn.oneof(["p", "q", "r", "s"]), "c": _abc()}),
        "conditional": sn.Space(
            {
                "width": sn.oneof([8, 16]),
                "block": sn.oneof(
                    [
                        "skip",
                        {"kernel": sn.oneof([3, 5, 7]), "pool": sn.oneof(["max", "mean"])},
                        ["deep", _abc()],
                    ]
                ),
            }
        ),
        "repeated": sn.Space(
            sn.repeat(
                lambda i: sn.nn.Linear(4, 4, bias=sn.oneof([True, False])), times=sn.intv(1, 3)
            )
        ),
        "subset": sn.Space(
            {"heads": sn.manyof(2, ["a", "b", "c", "d"], sorted=True), "n": sn.oneof([1, 2])}
        ),
        "picks": sn.Space(
            {"ops": sn.manyof(2, ["a", "b", "c"], distinct=False), "n": sn.oneof([1, 2])}
        ),
        "permutation": sn.Space({"order": sn.permutate(["a", "b", "c", "d"])}),
        "float": sn.Space({"rate": sn.floatv(1e-4, 1e-1, scale="log"), "op": _abc()}),
    }


def _abc() -> object:
    return sn.oneof(["a", "b", "c"])


def example_scores(rows: NDArray[np.int32], objectives: int = 1) -> NDArray[np.float64]:
    """Scores that depend on the rows alone, with local optima and some ties: `(n, objectives)`."""
    columns = np.arange(1, rows.shape[1] + 1)
    wave = np.sin(rows * (1.7 * columns) + columns)  # (n, columns)
    pairs = np.cos((rows[:, :-1] + 2.0 * rows[:, 1:]) * 1.3)
    total = np.round(wave.sum(axis=1) + pairs.sum(axis=1), 1)
    return np.stack([total * (-1) ** k + k for k in range(objectives)], axis=1)
