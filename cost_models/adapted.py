"""Adapted costs: a new device in terms of known ones, from few samples."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.accuracy import Accuracy
from symnas.costs.bound import BoundCost
from symnas.costs.bound_table import TableCost
from symnas.costs.learned.bound import AdaptedCost
from symnas.costs.learned.fit import APART
from symnas.costs.learned.linear import LEAST, Linear, folds
from symnas.costs.learned.samples import FromSamples
from symnas.costs.model import CostModel
from symnas.costs.table import CostTable
from symnas.errors import DeclarationError
from symnas.searchspace.space import Space

Floats = NDArray[np.float64]


@attrs.frozen(order=False, eq=False, repr=False)
class Adapted(FromSamples):
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


def _weights(known: Floats, costs: Floats) -> Linear:
    """The fit to costs that are not tiny.

    A network that a compiler folds to a constant costs a thousandth: its relative error would
    outweigh that of all others.
    """
    used = costs >= APART * np.median(costs)
    return Linear.fitted(known[used], costs[used])
