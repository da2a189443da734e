"""From times of operations to the time of a network: a factor for each kind, and a constant.

Operations timed alone do not quite add up: in a network, caches are colder, python runs between
the layers, and a runtime joins or reorders what stands side by side. All that differs between kinds
of operations more than between sizes of one kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.accuracy import Accuracy
from symnas.costs.bound import network_key
from symnas.costs.pieces import Piece

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.searchspace.space import Seed, Space

Values = NDArray[np.float64]

# With fewer networks than this, one factor or one constant is all that is fitted.
ENOUGH = 6
# How much factors are held together: as the squared errors of this share of the networks.
HELD = 0.03
_STEPS = 10


@attrs.frozen(eq=False)
class Sums:
    """The times of operations of some networks, added up by kind.

    Attributes:
        kinds: of operations.
        values: milliseconds, `(n, kinds)`.
    """

    kinds: tuple[str, ...]
    values: Values

    @classmethod
    def of(cls, runs: Sequence[Sequence[Piece]], times: Mapping[str, float]) -> Sums:
        """Those of networks, each as its pieces, with the time of each piece by its key."""
        kinds = tuple(sorted({piece.kind for run in runs for piece in run if times[piece.key]}))
        index = {kind: i for i, kind in enumerate(kinds)}
        values = np.zeros((len(runs), len(kinds)))
        for row, run in zip(values, runs, strict=True):
            for piece in run:
                if piece.kind in index:
                    row[index[piece.kind]] += times[piece.key]
        return cls(kinds, values)

    def __getitem__(self, rows: NDArray[np.bool_]) -> Sums:
        return Sums(self.kinds, self.values[rows])


@attrs.frozen(eq=False)
class Fit:
    """`constant + sum over kinds of factor * sum`.

    Attributes:
        factors: by kind.
        other: the factor of kinds that were not seen.
        constant: milliseconds.
    """

    factors: dict[str, float]
    other: float
    constant: float

    def factor(self, piece: Piece) -> float:
        """What a piece's time alone is multiplied with."""
        return self.factors.get(piece.kind, self.other)

    def __call__(self, sums: Sums) -> Values:
        """The predicted milliseconds, `(n,)`."""
        factors = np.array([self.factors.get(kind, self.other) for kind in sums.kinds])
        result: Values = sums.values @ factors + self.constant
        return result


def fitted(sums: Sums, measured: Values) -> Fit:
    """The factors and the constant with the least relative errors, none of them below 0.

    Ridge regression around one factor for all kinds (the median ratio) and no constant, so that
    kinds that always come together share the credit; reweighted as by P. Huber, "Robust estimation
    of a location parameter", Ann. Math. Stat. 1964, so that a network during whose measurement the
    machine was busy counts little.

    Args:
        sums: of the operations' times, with at least one that is not 0.
        measured: times of the networks, `(n,)`.

    >>> sums = Sums(("Conv2d", "ReLU"), np.array([[4.0 + i, 3.0 + i * i % 5] for i in range(20)]))
    >>> measured = sums.values @ [2.0, 3.0]
    >>> measured[4] *= 5  # something else ran
    >>> fit = fitted(sums, measured)
    >>> bool(abs(fit(sums) / (sums.values @ [2.0, 3.0]) - 1).max() < 0.02)
    True
    """
    total = sums.values.sum(axis=1)
    some = total > 0
    base = float(np.median(measured[some] / total[some]))
    if len(measured) < ENOUGH:
        lines = [Fit({}, base, 0.0), Fit({}, 1.0, max(0.0, float(np.median(measured - total))))]
        return min(lines, key=lambda fit: float(np.abs(fit(sums) / measured - 1).mean()))
    # Relative to the measurement, or to what is expected where far less was measured: a network
    # of which a runtime can leave out all but nothing must not outweigh all others.
    scale = np.maximum(measured, 0.5 * base * total)
    design = np.column_stack([sums.values * base, np.full(len(total), measured.mean())])
    design /= scale[:, None]
    prior = np.array([1.0] * len(sums.kinds) + [0.0])
    held = np.sqrt(HELD * len(total)) * np.diag(design.mean(axis=0))
    weights = np.ones(len(total))
    for _ in range(_STEPS):
        root = np.sqrt(weights)
        solution = _not_negative(
            np.concatenate([design * root[:, None], held]),
            np.concatenate([measured / scale * root, held @ prior]),
        )
        errors = np.abs(design @ solution - measured / scale)
        bound = max(2 * float(np.median(errors)), 1e-6)
        weights = np.minimum(1.0, bound / np.maximum(errors, 1e-12))
    *factors, constant = solution.tolist()
    by_kind = {kind: base * f for kind, f in zip(sums.kinds, factors, strict=True)}
    return Fit(by_kind, base, constant * float(measured.mean()))


def _not_negative(design: Values, target: Values) -> Values:
    """Least squares; what would be negative is 0."""
    free = np.ones(design.shape[1], bool)
    solution = np.zeros(design.shape[1])
    while free.any():
        solution[:] = 0.0
        solution[free] = np.linalg.lstsq(design[:, free], target, rcond=None)[0]
        if (solution >= 0).all():
            break
        free &= solution > 0
    return np.maximum(solution, 0.0)


def left_out(sums: Sums, measured: Values) -> Accuracy:
    """The error on each network when the fit is made without it."""
    n = len(measured)
    if n < 2:
        return Accuracy([], [])
    predicted = []
    for i in range(n):
        one = np.arange(n) == i
        predicted.append(float(fitted(sums[~one], measured[~one])(sums[one])[0]))
    return Accuracy(predicted, measured)


def random_networks(space: Space, n: int, seed: Seed = 0) -> list[Architecture]:
    """Up to `n` different networks of a space, drawn at random."""
    rows = space.sample(4 * n, seed)
    rows = rows[space.is_valid(rows)] if len(rows) else rows
    kept: dict[str, Architecture] = {}
    for row in rows:
        if len(kept) == n:
            break
        architecture = space.decode(row)
        kept.setdefault(network_key(architecture), architecture)
    return list(kept.values())
