"""Learned costs: fitted to pairs of an architecture and a number from another device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from symnas.architecture.architecture import Architecture
from symnas.costs.accuracy import Accuracy
from symnas.costs.bound import BoundCost
from symnas.costs.bound_table import TableCost
from symnas.costs.independent import Independent, Probabilities
from symnas.costs.learning import LEAST, Linear, Network, folds, foreign
from symnas.costs.model import CostModel
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable, Term
from symnas.errors import DeclarationError
from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]
Features = Callable[[Space, Rows], Any]
Sample = tuple[Architecture, float]

# The fewest samples that anything can be learned from.
FEWEST = 5
# Interactions of pairs are learned where they are at most so many times the samples.
PAIRS = 4
# Networks that do not depend on their input are apart where they cost less than this share.
APART = 0.2


def _samples(samples: Iterable[Any]) -> tuple[Sample, ...]:
    found = []
    for index, sample in enumerate(samples):
        try:
            architecture, cost = sample
            cost = float(cost)
        except (TypeError, ValueError):
            raise DeclarationError(
                f"Learned: `samples[{index}]` ({sample!r:.80}) must be a pair of an architecture and "
                "a number. For rows of a space use Learned.of_rows(space, rows, costs)."
            ) from None
        if not isinstance(architecture, Architecture):
            architecture = Architecture(architecture)
        if not 0 < cost < np.inf:
            raise DeclarationError(
                f"Learned: the cost of `samples[{index}]` ({cost}) must be positive and finite: "
                "relative errors are fitted. Leave out what could not be measured."
            )
        found.append((architecture, cost))
    if len(found) < FEWEST:
        raise DeclarationError(
            f"Learned: `samples` has {len(found)} pairs; at least {FEWEST} are needed."
        )
    return tuple(found)


@attrs.frozen(order=False, eq=False)
class _FromSamples(CostModel):
    """What models that are fitted to samples have in common."""

    samples: tuple[Sample, ...] = attrs.field(converter=_samples)

    expense: ClassVar[int] = 2

    @property
    def digest(self) -> str:
        """Of the samples: equal for equal pairs."""
        pairs = [(architecture.key, cost) for architecture, cost in self.samples]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        told = attrs.evolve(self, samples=self.samples[:FEWEST])
        described = CostModel.describe(told)
        options = {k: v for k, v in described["options"].items() if not k.startswith("_")}
        options["samples"] = f"{len(self.samples)} pairs, {self.digest}"
        return {**described, "options": options}

    def measure(self, architecture: Architecture) -> float:
        """The prediction, for an architecture of a space."""
        if architecture.space is None:
            raise ValueError(
                f"{self.name} is learned on a space: bind it, or give an architecture of the space."
            )
        row = np.array([architecture.row], np.int32)
        return float(self.bind(architecture.space)(row)[0])

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((self.name, self.digest))

    def _data(self, space: Space) -> tuple[Rows, Floats]:
        rows = [
            a.row if a.space is space and a.row is not None else space.encode(a)
            for a, _ in self.samples
        ]
        return np.array(rows, np.int32), np.array([cost for _, cost in self.samples])


@attrs.frozen(order=False, eq=False, repr=False)
class Learned(_FromSamples):
    """A cost that is fitted to samples when it is bound to a space; `error` is cross-validated.

    In the manner of X. Xu et al., "Latency-Aware Differentiable Neural Architecture Search",
    arXiv:2001.06392: a regressor is trained on pairs, and then stands for the device. All kinds fit
    the relative error. With "table" the cost is a table of decisions and pairs of them, so that
    limits on it are as exact as those on counted costs, up to the error of the fit. With "mlp" the
    cost is a perceptron beside a linear part; its `expected` puts expected features in, which is
    the paper's relaxation and no expectation.

    Args:
        samples: pairs of an architecture (or a program) and a positive number.
        regressor: "table", "mlp", "linear" (in the features), or an object with `fit` and
            `predict`, such as one of scikit-learn, which is fitted to logarithms.
        features: what else than the decisions is known of rows: `features(space, rows)` gives
            `(n, m)` numbers. An operation that has no path to the output costs nothing on many
            devices, and something on others: see `symnas.spaces.nasbench201.cell_features`.
        connected: which rows' networks depend on their input at all: `connected(space, rows)`
            gives `(n,)` booleans. Others are folded to a constant by some compilers; where
            their samples are that cheap, one number stands for them.
        name, unit: of the cost.
        device: where the samples are from.
        seed: of the folds and the perceptron.

    Raises:
        DeclarationError: there are fewer than five samples, or one is no pair, or not positive.

    >>> import symnas as sn
    >>> space = sn.Space([sn.oneof([1, 2, 3], name="a"), sn.oneof([5, 7], name="b")])
    >>> rows = next(space.enumerate())
    >>> costs = 1.0 + rows[:, 0] + 2.0 * rows[:, 1]
    >>> bound = Learned.of_rows(space, rows, costs, regressor="table").bind(space)
    >>> bool(abs(bound(rows) - costs).max() < 0.05), bound.range().exact
    (True, True)
    """

    regressor: Any = attrs.field(default="mlp")
    features: Features | None = attrs.field(default=None, kw_only=True)
    connected: Features | None = attrs.field(default=None, kw_only=True)
    name: str = attrs.field(default="latency", kw_only=True)
    unit: str = attrs.field(default="ms", kw_only=True)
    device: str = attrs.field(default="learned", kw_only=True)
    seed: int = attrs.field(default=0, kw_only=True)
    _fitted: WeakKeyDictionary[Space, BoundCost] = attrs.field(
        factory=WeakKeyDictionary, init=False, repr=False
    )

    @regressor.validator
    def _check_regressor(self, attribute: Any, value: Any) -> None:
        known = value in ("table", "mlp", "linear") if isinstance(value, str) else False
        if not known and not (hasattr(value, "fit") and hasattr(value, "predict")):
            raise DeclarationError(
                f"Learned: `regressor` ({value!r:.60}) must be 'table', 'mlp', 'linear', or an "
                "object with `fit` and `predict`."
            )

    def __attrs_post_init__(self) -> None:
        if self.regressor == "table" and (self.features or self.connected):
            raise DeclarationError(
                "Learned: regressor='table' is a table of decisions, and can have no other "
                "`features`: use 'mlp' or 'linear'."
            )

    @classmethod
    def of_rows(cls, space: Space, rows: Any, costs: Any, **options: Any) -> Learned:
        """A learned cost from rows `(n, columns)` of a space and their costs `(n,)`."""
        rows = np.asarray(rows, np.int32)
        pairs = [(space.decode(row), cost) for row, cost in zip(rows, costs, strict=True)]
        return cls(pairs, **options)

    @staticmethod
    def adapt(sources: Sequence[CostModel], samples: Any, **options: Any) -> Adapted:
        """The cost on a new device, from 10 to 50 samples and known devices: see `Adapted`."""
        return Adapted(samples, tuple(sources), **options)

    def _bound(self, space: Space) -> BoundCost:
        if space not in self._fitted:
            self._fitted[space] = self._fit(space)
        return self._fitted[space]

    def _fit(self, space: Space) -> BoundCost:
        rows, costs = self._data(space)
        if self.regressor == "table":
            return self._table(space, rows, costs)
        fit = _Fit(self, space)
        predicted = np.empty(len(costs))
        for held in folds(len(costs), self.seed):
            kept = np.setdiff1d(np.arange(len(costs)), held)
            predicted[held] = fit(rows[kept], costs[kept])(rows[held])
        return LearnedCost(self, space, fit(rows, costs), Accuracy(predicted, costs))

    def _table(self, space: Space, rows: Rows, costs: Floats) -> TableCost:
        scopes = _scopes(space, len(costs))
        features = _indicators(space, scopes, rows)
        predicted = np.empty(len(costs))
        for held in folds(len(costs), self.seed):
            kept = np.setdiff1d(np.arange(len(costs)), held)
            predicted[held] = Linear.fitted(features[kept], costs[kept])(features[held])
        linear = Linear.fitted(features, costs)
        terms, start = [], 0
        for scope in scopes:
            shape = structure_of(space).shape(scope)
            size = int(np.prod(shape))
            terms.append(Term(scope, linear.weights[start : start + size].reshape(shape)))
            start += size
        table = CostTable(linear.bias, terms)
        return TableCost(self, space, table, Accuracy(predicted, costs))

    def __repr__(self) -> str:
        return (
            f"Learned({len(self.samples)} samples, {self.regressor!r:.40}, device={self.device!r})"
        )


class _Fit:
    """Fits a model's regressor to rows, as a function of rows."""

    def __init__(self, model: Learned, space: Space) -> None:
        self.model, self.space = model, space
        columns = [(c,) for c in range(len(space)) if not structure_of(space).floats[c]]
        self.columns: list[tuple[int, ...]] = columns

    def features(self, rows: Rows) -> Floats:
        own = _indicators(self.space, self.columns, rows)
        if self.model.features is None:
            return own
        more = np.asarray(self.model.features(self.space, rows), np.float64)
        if more.ndim != 2 or len(more) != len(rows):
            raise ValueError(
                f"{self.model.name}: `features` gave an array of shape {more.shape} for {len(rows)} "
                "rows; it must be (n, m)."
            )
        return np.concatenate([own, more], axis=1)

    def __call__(self, rows: Rows, costs: Floats) -> _Predictor:
        constant = None
        if self.model.connected is not None:
            alive = np.asarray(self.model.connected(self.space, rows), bool)
            dead = costs[~alive]
            if len(dead) and alive.any() and np.median(dead) < APART * np.median(costs[alive]):
                constant = _weighted_median(dead)
                rows, costs = rows[alive], costs[alive]
        features = self.features(rows)
        regressor = self.model.regressor
        predict: Any
        if regressor == "linear":
            predict = Linear.fitted(features, costs)
        elif regressor == "mlp":
            predict = Network.fitted(features, costs, self.model.seed)
        else:
            predict = foreign(regressor, features, costs)
        return _Predictor(self, predict, constant, LEAST * float(costs.min()))


@attrs.frozen(eq=False)
class _Predictor:
    fit: _Fit
    predict: Any
    constant: float | None
    least: float

    def __call__(self, rows: Rows) -> Floats:
        if not len(rows):
            return np.empty(0)
        features = self.fit.features(rows)
        if isinstance(self.predict, Network):
            with torch.no_grad():
                costs = self.predict(torch.from_numpy(features)).numpy()
        else:
            costs = self.predict(features)
        costs = np.maximum(costs, self.least)
        connected = self.fit.model.connected
        if self.constant is not None and connected is not None:
            alive = np.asarray(connected(self.fit.space, rows), bool)
            costs = np.where(alive, costs, self.constant)
        return np.asarray(costs, np.float64)


class LearnedCost(BoundCost):
    """A learned cost of rows that is no table."""

    def __init__(
        self, model: Learned, space: Space, predictor: _Predictor, error: Accuracy
    ) -> None:
        super().__init__(model, space, error)
        self._predictor = predictor

    def _costs(self, rows: Rows) -> Floats:
        return self._predictor(rows)

    def expected(self, probabilities: Probabilities | None = None) -> torch.Tensor:
        """The cost at the expected features, where those are the decisions alone ("mlp", "linear").

        With further features it is estimated from draws: see `BoundCost.expected`.
        """
        predict, model = self._predictor.predict, self.model
        simple = model.features is None and model.connected is None  # type: ignore[attr-defined]
        if not simple or not isinstance(predict, Network | Linear):
            return super().expected(probabilities)
        features = self._expected_features(Independent(self.space, probabilities))
        if isinstance(predict, Network):
            return predict(features[None])[0]  # type: ignore[no-any-return]
        return features @ torch.from_numpy(predict.weights) + predict.bias

    def _expected_features(self, independent: Independent) -> torch.Tensor:
        """The probability of each value of each decision; inactive ones have an entry too."""
        structure = structure_of(self.space)
        parts = []
        for (column,) in self._predictor.fit.columns:
            own = independent.tensor(column)
            if structure.conditional[column]:
                active = self._active(column)._multilinear(independent)
                own = torch.cat([own * active, (1.0 - active)[None]])
            parts.append(own)
        return torch.cat(parts)

    def _active(self, column: int) -> TableCost:
        structure = structure_of(self.space)
        values = np.ones(structure.axes[column])
        values[-1] = 0.0
        return TableCost(self.model, self.space, CostTable(0.0, [Term((column,), values)]))


@attrs.frozen(order=False, eq=False, repr=False)
class Adapted(_FromSamples):
    """The cost on a new device as a weighted sum of costs on known ones, from few samples.

    Devices agree on what is dear more than on how dear it is: with 10 to 50 samples it pays to say
    the new device in terms of the known ones. Ridge regression of relative errors on their costs.
    If those are tables, so is this.

    Args:
        samples: pairs of an architecture and a positive number.
        sources: cost models of known devices; their names differ, or the devices.
        name, unit, device: of the new cost.

    Raises:
        DeclarationError: there are fewer than five samples, or no sources.
    """

    sources: tuple[CostModel, ...] = attrs.field(converter=tuple)
    name: str = attrs.field(default="latency", kw_only=True)
    unit: str = attrs.field(default="ms", kw_only=True)
    device: str = attrs.field(default="adapted", kw_only=True)
    seed: int = attrs.field(default=0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not self.sources or not all(isinstance(s, CostModel) for s in self.sources):
            raise DeclarationError(
                f"Learned.adapt: `sources` ({self.sources!r:.80}) must be cost models of known "
                "devices."
            )

    def _bound(self, space: Space) -> BoundCost:
        bounds = [source.bind(space) for source in self.sources]
        rows, costs = self._data(space)
        known = np.stack([bound(rows) for bound in bounds], axis=1)
        predicted = np.empty(len(costs))
        for held in folds(len(costs), self.seed):
            kept = np.setdiff1d(np.arange(len(costs)), held)
            predicted[held] = Linear.fitted(known[kept], costs[kept])(known[held])
        linear = Linear.fitted(known, costs)
        error = Accuracy(np.maximum(predicted, LEAST * costs.min()), costs)
        if all(isinstance(bound, TableCost) for bound in bounds):
            table = CostTable(linear.bias)
            for weight, bound in zip(linear.weights.tolist(), bounds, strict=True):
                assert bound.table is not None
                table = table + weight * bound.table
            return TableCost(self, space, table, error)
        return AdaptedCost(self, space, bounds, linear, LEAST * float(costs.min()), error)

    def __repr__(self) -> str:
        return (
            f"Adapted({len(self.samples)} samples, {len(self.sources)} sources, "
            f"device={self.device!r})"
        )


class AdaptedCost(BoundCost):
    """A weighted sum of other devices' costs."""

    def __init__(
        self,
        model: Adapted,
        space: Space,
        parts: Sequence[BoundCost],
        linear: Linear,
        least: float,
        error: Accuracy,
    ) -> None:
        super().__init__(model, space, error)
        self.parts, self._linear, self._least = tuple(parts), linear, least

    def _costs(self, rows: Rows) -> Floats:
        known = np.stack([part(rows) for part in self.parts], axis=1)
        return np.maximum(self._linear(known), self._least)

    def expected(self, probabilities: Probabilities | None = None) -> torch.Tensor:
        """The weighted sum of the known devices' expectations."""
        total = torch.tensor(self._linear.bias, dtype=torch.float64)
        for weight, part in zip(self._linear.weights.tolist(), self.parts, strict=True):
            total = total + weight * part.expected(probabilities)
        return total


def _scopes(space: Space, n: int) -> list[tuple[int, ...]]:
    """Single decisions, and pairs of them where there are samples enough to tell them apart."""
    structure = structure_of(space)
    columns = [c for c in range(len(space)) if not structure.floats[c]]
    pairs = [(a, b) for i, a in enumerate(columns) for b in columns[i + 1 :]]
    entries = sum(structure.axes[a] * structure.axes[b] for a, b in pairs)
    return [(c,) for c in columns] + (pairs if entries <= PAIRS * n else [])


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


def _weighted_median(costs: Floats) -> float:
    """The number with the smallest mean relative error."""
    ordered = np.sort(costs)
    total = np.cumsum(1.0 / ordered)
    return float(ordered[np.searchsorted(total, total[-1] / 2)])
