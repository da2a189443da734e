"""Any regressor of scikit-learn as a predictor."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.errors import MissingExtra
from symnas.predictors.base import Fitted, Floats, Predictor, Rows, checked
from symnas.predictors.graph_network import normalized
from symnas.predictors.graphs import graphs_of
from symnas.predictors.inputs import Inputs, Signal, as_signals
from symnas.searching.checks import one_of

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

# Architectures that are predicted at once.
CHUNK = 65_536


def _settings(regressor: Any) -> Any:
    """What makes two regressors equal: estimators compare by identity."""
    return type(regressor).__qualname__, repr(sorted(regressor.get_params().items(), key=str))


@attrs.frozen
class Sklearn(Predictor):
    """A regressor of scikit-learn over features of architectures.

    How sure it is, is told by regressors that say so themselves (Gaussian processes, Bayesian
    ridge), and by the members of forests, of bagging and of voting: the deviation between them.

    Args:
        regressor: with `fit` and `predict`. It is copied, never changed; where its `random_state`
            is None, it is set by the seed.
        features: "onehot" (one column a candidate), "path" (how often each part of a program stands
            in it), or "graph": the mean over the operations of the graph that `sn.predictors.GCN`
            sees of what each one is, of what its sources are and of what takes its result; and
            their number.
        inputs: more that is known of each architecture, appended: cost models, or functions of an
            architecture that give a number or several.

    Raises:
        TypeError: `regressor` is none.

    >>> from sklearn.ensemble import RandomForestRegressor
    >>> import symnas as sn
    >>> space = sn.Space([sn.oneof([1, 2, 3]) for _ in range(4)])
    >>> rows = space.sample(40)
    >>> forest = Sklearn(RandomForestRegressor(20), features="onehot")
    >>> mean, deviation = forest.fit(space, rows, rows.sum(axis=1)).uncertain([[0, 0, 0, 0]])
    >>> bool(mean[0] < 2.5), bool(deviation[0] > 0)
    (True, True)
    """

    regressor: Any = attrs.field(eq=_settings)
    features: str = attrs.field(default="onehot", validator=one_of(("onehot", "path", "graph")))
    inputs: tuple[Signal, ...] = attrs.field(default=(), converter=as_signals, kw_only=True)

    @regressor.validator
    def _check(self, attribute: Any, value: Any) -> None:
        if isinstance(value, type) or not all(
            hasattr(value, name) for name in ("fit", "predict", "get_params")
        ):
            raise TypeError(
                f"Sklearn: the value of `regressor` ({value!r}) must be a regressor of "
                "scikit-learn, such as RandomForestRegressor()."
            )

    def fit(self, space: Space, rows: Any, values: Any, seed: int = 0) -> FittedSklearn:
        try:
            from sklearn.base import clone
        except ImportError as problem:
            raise MissingExtra(
                'Sklearn needs scikit-learn: pip install "symnas[train]".'
            ) from problem
        rows, values = checked(space, rows, values)
        inputs = Inputs(self.inputs, space, rows)
        describe = _DESCRIBE[self.features]
        regressor = clone(self.regressor)
        for name, value in regressor.get_params().items():
            if name.rpartition("__")[2] == "random_state" and value is None:
                regressor.set_params(**{name: seed})
        regressor.fit(np.concatenate([describe(space, rows), inputs(rows)], axis=1), values)
        return FittedSklearn(space, inputs, describe, regressor)


@attrs.frozen(eq=False)
class FittedSklearn(Fitted):
    """A fitted copy of a regressor.

    Attributes:
        regressor: the copy.
    """

    _space: Space
    _inputs: Inputs
    _describe: Callable[[Space, Rows], NDArray[Any]]
    regressor: Any

    def predict(self, rows: Any) -> Floats:
        return self._of_chunks(rows, lambda x: [self.regressor.predict(x)])[0]

    def uncertain(self, rows: Any) -> tuple[Floats, Floats]:
        found = self._of_chunks(rows, self._uncertain)
        return found[0], found[1]

    def _uncertain(self, x: NDArray[Any]) -> list[Any]:
        from sklearn import ensemble

        if "return_std" in inspect.signature(self.regressor.predict).parameters:
            return list(self.regressor.predict(x, return_std=True))
        several = (
            ensemble.RandomForestRegressor,
            ensemble.ExtraTreesRegressor,
            ensemble.BaggingRegressor,
            ensemble.VotingRegressor,
        )
        if not isinstance(self.regressor, several):
            super().uncertain([])  # raises
        columns = getattr(self.regressor, "estimators_features_", None)
        members = [
            member.predict(x if columns is None else x[:, columns[i]])
            for i, member in enumerate(self.regressor.estimators_)
        ]
        return [self.regressor.predict(x), np.std(members, axis=0)]

    def _of_chunks(self, rows: Any, ask: Callable[[NDArray[Any]], list[Any]]) -> list[Floats]:
        rows = np.ascontiguousarray(rows, np.int32).reshape(-1, len(self._space))
        parts = []
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            x = np.concatenate([self._describe(self._space, some), self._inputs(some)], axis=1)
            parts.append(ask(x))
        if not parts:
            return [np.zeros(0), np.zeros(0)]
        return [np.concatenate(part, dtype=np.float64) for part in zip(*parts, strict=True)]


def _onehot(space: Space, rows: Rows) -> NDArray[Any]:
    found: NDArray[Any] = space.features(rows, "onehot")
    return found


def _path(space: Space, rows: Rows) -> NDArray[Any]:
    found: NDArray[Any] = space.features(rows, "path")
    return found


def _graph(space: Space, rows: Rows) -> NDArray[Any]:
    parts = []
    for start in range(0, max(1, len(rows)), 4096):
        graphs = graphs_of(space, rows[start : start + 4096])
        forward, backward = (part.numpy() for part in normalized(graphs.patterns))
        nodes, present = graphs.nodes, graphs.present[:, :, None]
        count = present.sum(axis=1)
        looks = [nodes, forward[graphs.pattern] @ nodes, backward[graphs.pattern] @ nodes]
        means = [(look * present).sum(axis=1) / np.maximum(count, 1) for look in looks]
        parts.append(np.concatenate([*means, count, graphs.context], axis=1))
    return np.concatenate(parts)


_DESCRIBE: dict[str, Callable[[Space, Rows], NDArray[Any]]] = {
    "onehot": _onehot,
    "path": _path,
    "graph": _graph,
}
