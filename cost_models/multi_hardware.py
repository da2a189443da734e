"""One cost for several devices, in the manner of multi-hardware models.

G. Chu et al., "Discovering Multi-Hardware Mobile Models via Architecture Search", CVPR Workshops
2021, arXiv:2008.08178: a model for many devices is searched for by a metric over their latencies.
What each latency is divided by is our choice: that of a reference architecture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, ClassVar

import attrs

from symnas.architecture.architecture import Architecture
from symnas.costs.bound import BoundCost
from symnas.costs.combined import in_units_of, maximum
from symnas.costs.model import CostModel
from symnas.errors import DeclarationError
from symnas.searching.checks import one_of
from symnas.searchspace.space import Space


def _costs(costs: Iterable[CostModel]) -> tuple[CostModel, ...]:
    costs = tuple(costs)
    if len(costs) < 2 or not all(isinstance(cost, CostModel) for cost in costs):
        raise DeclarationError(
            f"MultiHardware: `costs` {costs!r} must be two or more cost models, one a device, such "
            'as [cm.Table.load("pixel.json"), cm.Table.load("edge_tpu.json")].'
        )
    names = [cost.name for cost in costs]
    if len(set(names)) < len(names):
        raise DeclarationError(
            f"MultiHardware: the names of the costs {names} must differ: cost.named('latency_b')."
        )
    return costs


def _reference(reference: Any) -> Any:
    if isinstance(reference, Architecture):
        return reference
    if isinstance(reference, Sequence) and not isinstance(reference, str):
        return tuple(float(value) for value in reference)
    return reference


@attrs.frozen(order=False)
class MultiHardware(CostModel):
    """The mean or the largest of several devices' costs, each relative to a reference.

    `mean` is `1/n * sum of cost_k / reference_k`, `max` is `max over k of cost_k / reference_k`: an
    architecture that costs on each device what the reference does has the cost 1. An upper limit is
    as exact as the costs are; with "max" it is one limit for each device.

    Args:
        costs: one for each device; their names differ.
        reduce: "mean" or "max".
        reference: the cost of the reference on each device, or an architecture, whose costs are
            then measured.
        name: another one, where a search has two.

    Raises:
        DeclarationError: there are fewer than two costs, two of one name, or another number of
            references; or a reference is not positive.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])), input=(4,))
    >>> both = MultiHardware([cm.Macs(), cm.Parameters()], "max", reference=[64, 100])
    >>> both.bind(space)([[0], [1]])  # 32 and 64 MACs, 40 and 80 parameters
    array([0.5, 1. ])
    """

    costs: tuple[CostModel, ...] = attrs.field(converter=_costs)
    reduce: str = attrs.field(default="mean", validator=one_of(("mean", "max")))
    reference: tuple[float, ...] | Architecture = attrs.field(converter=_reference, kw_only=True)
    name: str = attrs.field(default="multi_hardware", kw_only=True)

    unit = "of the reference"
    expense: ClassVar[int] = 5

    def __attrs_post_init__(self) -> None:
        if isinstance(self.reference, Architecture):
            return
        if not isinstance(self.reference, tuple) or len(self.reference) != len(self.costs):
            raise DeclarationError(
                f"MultiHardware: `reference` {self.reference!r} must be an architecture, or "
                f"{len(self.costs)} numbers: one for each of the costs."
            )
        if not all(0 < value < math.inf for value in self.reference):
            raise DeclarationError(
                f"MultiHardware: `reference` {self.reference} must be positive numbers."
            )

    @property
    def parts(self) -> tuple[CostModel, ...]:
        return self.costs

    @property
    def needs_input(self) -> bool:
        return any(cost.needs_input for cost in self.costs)

    @property
    def device(self) -> str:
        return " + ".join(dict.fromkeys(cost.device for cost in self.costs))

    @property
    def device_name(self) -> str:
        return " + ".join(dict.fromkeys(cost.device_name for cost in self.costs))

    def measure(self, architecture: Architecture) -> float:
        return self._combined()(architecture)

    def bind(self, space: Space) -> BoundCost:
        return self._combined().bind(space).seen_as(self)

    def _combined(self) -> CostModel:
        references = self.reference
        if isinstance(references, Architecture):
            references = tuple(cost(references) for cost in self.costs)
        ratios = [
            in_units_of(cost, value, self.unit)
            for cost, value in zip(self.costs, references, strict=True)
        ]
        if self.reduce == "max":
            return maximum(*ratios)
        total = reduce(lambda a, b: a + b, ratios)
        return total / len(ratios)
