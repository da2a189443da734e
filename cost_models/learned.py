"""Learned costs: fitted to pairs of an architecture and a number from another device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
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
from symnas.costs.learned.features import effects, sums_over_alike
from symnas.costs.learned.linear import LEAST, Linear, folds, foreign
from symnas.costs.learned.perceptron import Perceptrons
from symnas.costs.learned.robust import OWN, PAIR, SHARED, crossed
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
# The most architectures over which a mean is taken one by one.
LISTED = 2**15


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
        features: what else than the decisions is known of rows. An operation that has no path to
            the output costs nothing on many devices, and something on others; "auto" finds from
            the space's networks where there are such, and which operations they are (see
            `symnas.costs.learned.features.effects`; not for "table"). Or `features(space, rows)`
            that gives `(n, m)` numbers; or None.
        connected: which rows' networks depend on their input at all: `connected(space, rows)`
            gives `(n,)` booleans. Others are folded to a constant by some compilers; where
            their samples are that cheap, one number stands for them. Known by features="auto".
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
    features: Features | str | None = attrs.field(default="auto", kw_only=True)
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
        if isinstance(self.features, str) and self.features != "auto":
            raise DeclarationError(
                f"Learned: `features` ({self.features!r}) must be 'auto', None, or a function of a "
                "space and its rows."
            )
        given = self.features if callable(self.features) else None
        if self.regressor == "table" and (given or self.connected):
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
        predictor, predicted = fit.crossed(rows, costs)
        return LearnedCost(self, space, predictor, Accuracy(predicted, costs))

    def _table(self, space: Space, rows: Rows, costs: Floats) -> TableCost:
        scopes = _scopes(space, len(costs))
        linear, predicted = _Decisions(space, scopes, self.seed).crossed(rows, costs)
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


class _Decisions:
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


class _Fit:
    """Fits a model's regressor to rows, as a function of rows.

    Attributes:
        columns: the decisions with an indicator of each candidate.
        auto: whether features of what has an effect belong to it.
    """

    def __init__(self, model: Learned, space: Space) -> None:
        self.model, self.space = model, space
        columns = [(c,) for c in range(len(space)) if not structure_of(space).floats[c]]
        self.columns: list[tuple[int, ...]] = columns
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

    def crossed(self, rows: Rows, costs: Floats) -> tuple[_Predictor, Floats]:
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
        return _Predictor(self, predict, constant, least), predicted

    def _regress(
        self, rows: Rows, features: Floats, more: Floats, levels: Floats, costs: Floats
    ) -> tuple[Any, Floats]:
        """The regressor as a function of features, and its cross-validated predictions."""
        regressor, seed = self.model.regressor, self.model.seed
        decisions = _Decisions(self.space, self.columns, seed)
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
class _Predictor:
    fit: _Fit
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
        """The mean cost when each decision is drawn independently: a scalar, in float64.

        - With "linear" and "mlp" on the decisions alone: the cost at the expected features. For
          "mlp" that is a relaxation (that of the paper), and no mean.
        - Otherwise, in a space of at most 2**15 architectures: the mean over all of them.
        - Otherwise estimated from draws: see `BoundCost.expected`.

        All have gradients. The arguments and errors are those of `BoundCost.expected`.
        """
        predict = self._predictor.predict
        simple = self._predictor.fit.simple and isinstance(predict, Perceptrons | Linear)
        if not simple and not self._listable:
            return super().expected(probabilities)
        independent = Independent(self.space, probabilities)
        if not simple:
            return self._mean_over_all(independent)
        features = self._expected_features(independent)
        if isinstance(predict, Perceptrons):
            return predict(features[None])[0]
        return features @ torch.from_numpy(predict.weights) + predict.bias

    @property
    def _listable(self) -> bool:
        space = self.space
        whole = not structure_of(space).rules and space.valid is None and not space.has_floats
        return whole and space.size <= LISTED

    @cached_property
    def _all(self) -> tuple[torch.Tensor, torch.Tensor]:
        rows = np.concatenate(list(self.space.enumerate()))
        return torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(self(rows))

    def _mean_over_all(self, independent: Independent) -> torch.Tensor:
        rows, costs = self._all
        total = torch.ones(len(rows), dtype=torch.float64)
        for column in range(len(self.space)):
            # One behind the last probability stands 1: for where the decision is not active.
            own = torch.cat([independent.tensor(column), torch.ones(1, dtype=torch.float64)])
            total = total * own[rows[:, column]]
        return (total * costs).sum()

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
            predicted[held] = _weights(known[kept], costs[kept])(known[held])
        linear = _weights(known, costs)
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


def _weights(known: Floats, costs: Floats) -> Linear:
    """The fit to costs that are not tiny.

    A network that a compiler folds to a constant costs a thousandth: its relative error would
    outweigh that of all others.
    """
    used = costs >= APART * np.median(costs)
    return Linear.fitted(known[used], costs[used])


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
