"""Neural Predictor: a graph convolutional network that predicts results from architectures.

Wen, Liu, Li, Chen, Bender and Kindermans 2019, "Neural Predictor for Neural Architecture Search"
(arXiv 1912.00848), section 3: the network, its training, and the two stages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from symnas.predictors.base import Fitted, Floats, Predictor, Rows, checked
from symnas.predictors.graph_network import Batch, Network, dense
from symnas.predictors.graphs import Graphs, graphs_of
from symnas.predictors.inputs import Inputs, Signal, as_signals
from symnas.predictors.screening import screen
from symnas.searching.checks import at_least

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

# Nodes that are worked on at once.
NODES = 800_000


def _between(low: float, high: float, *, optional: bool = False) -> Any:
    """An attrs validator for numbers from `low` to, and without, `high`."""

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if optional and value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < high:
            raise ValueError(
                f"{type(instance).__name__}: the value of `{attribute.name}` ({value!r}) must be a "
                f"number from {low:g} to below {high:g}{' or None' if optional else ''}."
            )

    return check


@attrs.frozen
class GCN(Predictor):
    """A graph convolutional network over the operations of an architecture.

    The defaults are the paper's. Dropout, the initial weights (Xavier) and that results are scaled
    to mean 0 and deviation 1 are of its reproductions.

    Args:
        layers: graph convolutions.
        hidden: their width.
        width: of the fully connected layer behind them.
        epochs: passes over the known results. The paper trains with 119 or more; a few results
            alone make few steps, and may want more epochs.
        batch_size: results in a step; a last, smaller batch of an epoch is left out.
        learning_rate: of Adam; it falls to 0 by a cosine.
        weight_decay: of Adam.
        dropout: probability, behind each layer.
        quantile: with a number, there are two stages: a classifier is trained to tell which results
            are above this quantile of the known ones, and a second network to predict those alone.
            What the classifier rejects is ranked behind all else, by its doubts. Results are
            supposed to be better the larger they are. The paper's threshold, an accuracy of 91% on
            NAS-Bench-101, is a constant there; `threshold` takes one.
        threshold: the same, with a result instead of a quantile.
        inputs: more that is known of each architecture: see `symnas.predictors.inputs`. Appended,
            scaled, to the mean over nodes; not of the paper.

    >>> import symnas as sn
    >>> nn = sn.nn
    >>> space = sn.Space(
    ...     nn.Sequential(*[nn.Conv2d(2, 2, sn.oneof([1, 3]), padding="same") for _ in range(4)]),
    ...     input=(2, 8, 8))
    >>> rows = space.sample(16)
    >>> fitted = GCN(epochs=20, learning_rate=1e-2).fit(space, rows, rows.sum(axis=1))
    >>> bool(np.diff(fitted.predict([[0, 0, 0, 0], [1, 1, 1, 1]]))[0] > 1)
    True
    """

    layers: int = attrs.field(default=3, validator=at_least(1))
    hidden: int = attrs.field(default=144, validator=at_least(1))
    width: int = attrs.field(default=128, validator=at_least(1))
    epochs: int = attrs.field(default=300, validator=at_least(1), kw_only=True)
    batch_size: int = attrs.field(default=10, validator=at_least(1), kw_only=True)
    learning_rate: float = attrs.field(default=1e-4, validator=_between(0, 10), kw_only=True)
    weight_decay: float = attrs.field(default=1e-3, validator=_between(0, 10), kw_only=True)
    dropout: float = attrs.field(default=0.1, validator=_between(0, 1), kw_only=True)
    quantile: float | None = attrs.field(
        default=None, validator=_between(0, 1, optional=True), kw_only=True
    )
    threshold: float | None = attrs.field(default=None, kw_only=True)
    inputs: tuple[Signal, ...] = attrs.field(default=(), converter=as_signals, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.quantile is not None and self.threshold is not None:
            raise ValueError(
                f"GCN: `quantile` ({self.quantile}) and `threshold` ({self.threshold}) say the same "
                "thing twice; give one of them."
            )

    def fit(self, space: Space, rows: Any, values: Any, seed: int = 0) -> FittedGCN:
        rows, values = checked(space, rows, values)
        inputs = Inputs(self.inputs, space, rows)
        batch = dense(graphs_of(space, rows), inputs(rows))
        above = self._above(values)
        if above is None:
            return FittedGCN(space, inputs, self._trained(batch, values, seed))
        best = np.flatnonzero(above)
        return FittedGCN(
            space,
            inputs,
            self._trained(batch.some(torch.from_numpy(best)), values[best], seed),
            self._trained(batch, above.astype(np.float64), seed, classify=True),
            low=float(values[~above].mean()),
            high=float(values[best].min()),
        )

    def _above(self, values: Floats) -> NDArray[np.bool_] | None:
        """Which results the second stage is for; None if there is one stage, or nothing to tell."""
        limit = self.threshold
        if self.quantile is not None:
            limit = float(np.quantile(values, self.quantile))
        if limit is None:
            return None
        above: NDArray[np.bool_] = values > limit
        return above if 0 < above.sum() < len(above) else None

    def _trained(self, batch: Batch, values: Floats, seed: int, classify: bool = False) -> Scaled:
        rng = np.random.default_rng((seed, classify))
        mean, deviation = (0.0, 1.0) if classify else (values.mean(), values.std() or 1.0)
        net = Network(batch, self.layers, self.hidden, self.width, self.dropout, rng)
        target = torch.from_numpy((values - mean) / deviation).float()
        size = min(self.batch_size, len(values))
        optimizer = torch.optim.Adam(
            net.parameters(), self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
        loss_of = (
            nn.functional.binary_cross_entropy_with_logits if classify else nn.functional.mse_loss
        )
        for _ in range(self.epochs):
            order = torch.from_numpy(rng.permutation(len(values)))
            for start in range(0, len(values) - size + 1, size):
                some = order[start : start + size]
                optimizer.zero_grad()
                loss = loss_of(net(batch.some(some)), target[some])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            schedule.step()
        net.eval()
        return Scaled(net, float(mean), float(deviation))


@attrs.frozen(eq=False)
class Scaled:
    """A trained network, and the scale of what it predicts."""

    network: Network
    mean: float
    deviation: float

    def __call__(self, graphs: Graphs, extra: Floats) -> Floats:
        found = screen(self.network, graphs, extra).astype(np.float64)
        return found * self.deviation + self.mean


@attrs.frozen(eq=False)
class FittedGCN(Fitted):
    """One network, or two behind each other.

    Attributes:
        regressor: predicts results.
        classifier: with two stages, the logit that a result is above the threshold.
        low: the mean result of those below it.
        high: the smallest result above it.
    """

    _space: Space
    _inputs: Inputs
    regressor: Scaled
    classifier: Scaled | None = None
    low: float = 0.0
    high: float = 0.0

    def predict(self, rows: Any) -> Floats:
        rows = np.ascontiguousarray(rows, np.int32).reshape(-1, len(self._space))
        size = max(1, NODES // max(1, graphs_of(self._space, rows[:1]).codes.shape[1]))
        parts = [self._predict(rows[i : i + size]) for i in range(0, len(rows), size)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _predict(self, rows: Rows) -> Floats:
        graphs, extra = graphs_of(self._space, rows), self._inputs(rows)
        predicted = self.regressor(graphs, extra)
        if self.classifier is None:
            return predicted
        # Accepted ones stay above `floor`, rejected ones come below it, the likelier the higher.
        floor = (self.low + self.high) / 2
        likely = 1 / (1 + np.exp(-self.classifier(graphs, extra)))
        rejected = self.low + (floor - self.low) * 2 * likely
        return np.where(likely > 0.5, np.maximum(predicted, floor), rejected)
