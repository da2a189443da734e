"""Regressors of costs as functions of a space's rows, with cross-validated predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.learned.features import effects, sums_over_alike
from symnas.costs.learned.linear import LEAST, Linear, folds, foreign
from symnas.costs.learned.perceptron import Perceptrons
from symnas.costs.learned.robust import OWN, PAIR, SHARED, crossed
from symnas.costs.structure import structure_of
from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]
Features = Callable[[Space, Rows], Any]

# Interactions of pairs are learned where they are at most so many times the samples.
PAIRS = 4
# Networks that do not depend on their input are apart where they cost less than this share.
APART = 0.2


class Options(Protocol):
    """What a fit must know of its model: see `symnas.cost_models.Learned`."""

    @property
    def name(self) -> str: ...
    @property
    def regressor(self) -> Any: ...
    @property
    def features(self) -> Features | str | None: ...
    @property
    def connected(self) -> Features | None: ...
    @property
    def seed(self) -> int: ...


class Decisions:
    """Linear fits to indicators of decisions, `scopes`, and to more features beside them.

    How many there are of each candidate, over all decisions with the same candidates, is a feature
    for the fit; it follows from the indicators, and so it is put into their weights afterwards.
    """

    def __init__(self, space: Space, scopes: Sequence[tuple[int, ...]], seed: int) -> None:
        self.space, self.scopes, self.seed = space, scopes, seed
        self.sums = sums_over_alike(space, [scope[0] for scope in scopes if len(scope) == 1])

    def crossed(
        self, rows: Rows, costs: Floats, more: Floats | None = None, levels: Floats | None = None
    ) -> tuple[Linear, Floats]:
        """The fit to rows, and cross-validated predictions `(n,)` of their costs.

        Its weights are of `_indicators(scopes)`, and then of `more` `(n, m)`, which is penalised by
        `levels` `(m,)`.
        """
        hot = _indicators(self.space, self.scopes, rows)
        singles, sums = self.sums.shape
        counted = hot[:, :singles] @ self.sums
        more = np.empty((len(rows), 0)) if more is None else more
        own = np.where(np.arange(hot.shape[1]) < singles, OWN, PAIR)
        others = np.full(more.shape[1], OWN) if levels is None else levels
        all_levels = np.concatenate([np.full(sums, SHARED), own, others])
        features = np.concatenate([counted, hot, more], axis=1)
        linear, predicted = crossed(features, costs, all_levels, self.seed)
        weights = linear.weights[sums:].copy()
        weights[:singles] += self.sums @ linear.weights[:sums]
        return Linear(weights, linear.bias), predicted


class Fit:
    """Fits a model's regressor to rows, as a function of rows.

    Attributes:
        columns: the decisions with an indicator of each candidate.
        auto: whether features of what has an effect belong to it.
    """

    def __init__(self, model: Options, space: Space) -> None:
        self.model, self.space = model, space
        floats = structure_of(space).floats
        self.columns: list[tuple[int, ...]] = [(c,) for c in range(len(space)) if not floats[c]]
        first = np.empty((0, len(space)), np.int32)
        self.auto = model.features == "auto" and effects(space, first) is not None

    @property
    def simple(self) -> bool:
        """Whether the decisions are all that is known of a row."""
        return not (self.auto or callable(self.model.features) or self.model.connected)

    def more(self, rows: Rows) -> tuple[Floats, Floats, NDArray[np.bool_] | None]:
        """What is known beside the decisions, how to penalise it, and which rows are connected."""
        model = self.model
        connected = None
        features, levels = np.empty((len(rows), 0)), np.empty(0)
        if self.auto and (told := effects(self.space, rows)) is not None:
            features, connected = told.features, told.connected
            levels = np.where(told.shared, SHARED, OWN)
        elif callable(model.features):
            features = np.asarray(model.features(self.space, rows), np.float64)
            if features.ndim != 2 or len(features) != len(rows):
                raise ValueError(
                    f"{model.name}: `features` gave an array of shape {features.shape} for "
                    f"{len(rows)} rows; it must be (n, m)."
                )
            levels = np.full(features.shape[1], OWN)
        if model.connected is not None:
            connected = np.asarray(model.connected(self.space, rows), bool)
        return features, levels, connected

    def crossed(self, rows: Rows, costs: Floats) -> tuple[Predictor, Floats]:
        """The fit to rows, and cross-validated predictions `(n,)` of their costs."""
        more, levels, alive = self.more(rows)
        features = np.concatenate([_indicators(self.space, self.columns, rows), more], axis=1)
        constant, used = None, np.ones(len(rows), bool)
        predicted = np.empty(len(rows))
        if alive is not None:
            dead = costs[~alive]
            if len(dead) and alive.any() and np.median(dead) < APART * np.median(costs[alive]):
                constant, used = _weighted_median(dead), alive
                predicted[~alive] = _without(dead, self.model.seed)
        predict, predicted[used] = self._regress(
            rows[used], features[used], more[used], levels, costs[used]
        )
        least = LEAST * float(costs[used].min())
        predicted[used] = np.maximum(predicted[used], least)
        return Predictor(self, predict, constant, least), predicted

    def _regress(
        self, rows: Rows, features: Floats, more: Floats, levels: Floats, costs: Floats
    ) -> tuple[Any, Floats]:
        """The regressor as a function of features, and its cross-validated predictions."""
        regressor, seed = self.model.regressor, self.model.seed
        decisions = Decisions(self.space, self.columns, seed)
        if regressor == "linear":
            return decisions.crossed(rows, costs, more, levels)
        if regressor == "mlp":

            def linear(kept: NDArray[np.intp]) -> Linear:
                return decisions.crossed(rows[kept], costs[kept], more[kept], levels)[0]

            return Perceptrons.fitted(features, costs, linear, seed)
        predicted = np.empty(len(costs))
        for held in folds(len(costs), seed):
            kept = np.setdiff1d(np.arange(len(costs)), held)
            predicted[held] = foreign(regressor, features[kept], costs[kept])(features[held])
        return foreign(regressor, features, costs), predicted


@attrs.frozen(eq=False)
class Predictor:
    fit: Fit
    predict: Any
    constant: float | None
    least: float

    def __call__(self, rows: Rows) -> Floats:
        if not len(rows):
            return np.empty(0)
        more, _, alive = self.fit.more(rows)
        hot = _indicators(self.fit.space, self.fit.columns, rows)
        features = np.concatenate([hot, more], axis=1)
        if isinstance(self.predict, Perceptrons):
            with torch.no_grad():
                costs = self.predict(torch.from_numpy(features)).numpy()
        else:
            costs = self.predict(features)
        costs = np.maximum(costs, self.least)
        if self.constant is not None and alive is not None:
            costs = np.where(alive, costs, self.constant)
        return np.asarray(costs, np.float64)


def scopes(space: Space, n: int) -> list[tuple[int, ...]]:
    """Single decisions, and pairs of them where there are samples enough to tell them apart."""
    structure = structure_of(space)
    columns = [c for c in range(len(space)) if not structure.floats[c]]
    pairs = [(a, b) for i, a in enumerate(columns) for b in columns[i + 1 :]]
    entries = sum(structure.axes[a] * structure.axes[b] for a, b in pairs)
    return [*((c,) for c in columns), *(pairs if entries <= PAIRS * n else [])]


def _indicators(space: Space, scopes: Sequence[tuple[int, ...]], rows: Rows) -> Floats:
    """One column for each entry of tables over `scopes`, 1 at the entry of each row."""
    structure = structure_of(space)
    parts = [np.empty((len(rows), 0))]
    for scope in scopes:
        shape = structure.shape(scope)
        index = [np.where(rows[:, c] < 0, structure.axes[c] - 1, rows[:, c]) for c in scope]
        flat = np.ravel_multi_index(index, shape)
        part = np.zeros((len(rows), int(np.prod(shape))))
        part[np.arange(len(rows)), flat] = 1.0
        parts.append(part)
    return np.concatenate(parts, axis=1)


def _without(costs: Floats, seed: int) -> Floats:
    """For each cost, the one number that stands for the others: for those of other folds."""
    if len(costs) < 2:
        return costs.copy()
    predicted = np.empty(len(costs))
    for held in folds(len(costs), seed):
        predicted[held] = _weighted_median(np.delete(costs, held))
    return predicted


def _weighted_median(costs: Floats) -> float:
    """The number with the smallest mean relative error."""
    ordered = np.sort(costs)
    total = np.cumsum(1.0 / ordered)
    return float(ordered[np.searchsorted(total, total[-1] / 2)])
