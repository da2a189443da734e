"""Costs made of costs: sums, multiples, products and maxima, with their units checked."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np

from symnas.costs.comparison import number_text
from symnas.costs.model import CostModel
from symnas.errors import DeclarationError

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.costs.bound import BoundCost
    from symnas.searchspace.space import Space


@attrs.frozen(order=False)
class _Combined(CostModel):
    """What all combinations have in common; they write `parts`, `name` and `unit`."""

    @property
    def needs_input(self) -> bool:
        return any(part.needs_input for part in self.parts)

    @property
    def device(self) -> str:
        return _joined([part.device for part in self.parts])

    @property
    def device_name(self) -> str:
        return _joined([part.device_name for part in self.parts])


@attrs.frozen(order=False)
class Weighted(_Combined):
    """`factor * cost + ... + constant`: made by `+`, `-`, `*` and `/`.

    >>> from symnas import cost_models as cm
    >>> print(2 * cm.Parameters() + 10, (cm.Macs() - cm.Macs(name="more")).unit)
    2*parameters + 10 MACs
    """

    costs: tuple[CostModel, ...]
    factors: tuple[float, ...]
    constant: float = 0.0
    renamed: str | None = None
    unit_: str | None = attrs.field(default=None, alias="unit_")
    expense: ClassVar[int] = 5

    @property
    def parts(self) -> tuple[CostModel, ...]:
        return self.costs

    @property
    def name(self) -> str:
        if self.renamed:
            return self.renamed
        text = ""
        for cost, factor in zip(self.costs, self.factors, strict=True):
            sign = ("- " if factor < 0 else "+ ") if text else ("-" if factor < 0 else "")
            size = "" if abs(factor) == 1 else f"{number_text(abs(factor))}*"
            inner = f"({cost.name})" if size and " " in cost.name else cost.name
            text += f"{' ' if text else ''}{sign}{size}{inner}"
        if self.constant:
            text += f" {'-' if self.constant < 0 else '+'} {number_text(abs(self.constant))}"
        return text

    @property
    def unit(self) -> str:
        return self.unit_ or self.costs[0].unit

    def measure(self, architecture: Architecture) -> float:
        values = [cost(architecture) for cost in self.costs]
        return float(np.dot(self.factors, values)) + self.constant

    def bind(self, space: Space) -> BoundCost:
        from symnas.costs.bound_combined import bound_sum

        return bound_sum(self, space, [cost.bind(space) for cost in self.costs])


@attrs.frozen(order=False)
class Product(_Combined):
    """`cost * cost`, such as energy times latency.

    >>> from symnas import cost_models as cm
    >>> edp = (cm.Macs() * cm.Parameters()).named("edp")
    >>> edp.name, edp.unit
    ('edp', 'MACs*parameters')
    """

    left: CostModel
    right: CostModel
    renamed: str | None = None

    @property
    def parts(self) -> tuple[CostModel, ...]:
        return (self.left, self.right)

    @property
    def name(self) -> str:
        return self.renamed or "*".join(
            f"({part.name})" if " " in part.name else part.name for part in self.parts
        )

    @property
    def unit(self) -> str:
        return f"{self.left.unit}*{self.right.unit}"

    def measure(self, architecture: Architecture) -> float:
        return self.left(architecture) * self.right(architecture)

    def bind(self, space: Space) -> BoundCost:
        from symnas.costs.bound_combined import ProductCost

        left = self.left.bind(space)
        right = left if self.right == self.left else self.right.bind(space)
        return ProductCost(self, space, left, right)


@attrs.frozen(order=False)
class Maximum(_Combined):
    """The largest of several costs: made by `sn.maximum`."""

    costs: tuple[CostModel, ...]
    renamed: str | None = None

    @property
    def parts(self) -> tuple[CostModel, ...]:
        return self.costs

    @property
    def name(self) -> str:
        return self.renamed or f"max({', '.join(cost.name for cost in self.costs)})"

    @property
    def unit(self) -> str:
        return self.costs[0].unit

    def measure(self, architecture: Architecture) -> float:
        return max(cost(architecture) for cost in self.costs)

    def bind(self, space: Space) -> BoundCost:
        from symnas.costs.bound_combined import MaximumCost

        return MaximumCost(self, space, [cost.bind(space) for cost in self.costs])


@attrs.frozen(order=False)
class Upper(_Combined):
    """A cost with so much safety that a share `q` of architectures costs no more."""

    cost: CostModel
    q: float

    @property
    def parts(self) -> tuple[CostModel, ...]:
        return (self.cost,)

    @property
    def name(self) -> str:
        return f"{self.cost.name} ({self.q:.0%} upper)"

    @property
    def unit(self) -> str:
        return self.cost.unit

    def measure(self, architecture: Architecture) -> float:
        return self.cost(architecture)

    def bind(self, space: Space) -> BoundCost:
        bound = self.cost.bind(space).upper(self.q)
        return bound.seen_as(self)


def maximum(*costs: CostModel) -> CostModel:
    """The largest of several costs of the same unit, as a cost.

    `maximum(a, b) <= 20` is as exact as `a <= 20` and `b <= 20` together are.

    Raises:
        DeclarationError: there are fewer than two, or their units differ.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> print(sn.maximum(cm.Macs(), 2 * cm.Macs(name="macs_b")) <= 1000)
    max(macs, 2*macs_b) <= 1,000 MACs
    """
    if len(costs) < 2 or not all(isinstance(cost, CostModel) for cost in costs):
        raise DeclarationError(
            f"sn.maximum takes at least two costs, such as sn.maximum(latency_a, latency_b); it was "
            f"given {costs!r}."
        )
    for cost in costs[1:]:
        check_units(costs[0], cost, "the maximum")
    return Maximum(tuple(costs))


def added(a: CostModel, b: Any, sign: float) -> CostModel:
    """`a + sign * b`."""
    costs, factors, constant = _linear(a)
    if isinstance(b, CostModel):
        check_units(a, b, "the sum" if sign > 0 else "the difference")
        more, more_factors, more_constant = _linear(b)
        merged = dict(zip(costs, factors, strict=True))
        for cost, factor in zip(more, more_factors, strict=True):
            merged[cost] = merged.get(cost, 0.0) + sign * factor
        return _weighted(merged, constant + sign * more_constant, a.unit)
    number = _number(a, b, "+" if sign > 0 else "-")
    return _weighted(dict(zip(costs, factors, strict=True)), constant + sign * number, a.unit)


def multiplied(a: CostModel, b: Any) -> CostModel:
    """`a * b`."""
    if isinstance(b, CostModel):
        return Product(a, b)
    number = _number(a, b, "*")
    costs, factors, constant = _linear(a)
    scaled = {cost: factor * number for cost, factor in zip(costs, factors, strict=True)}
    return _weighted(scaled, constant * number, a.unit)


def in_units_of(cost: CostModel, reference: float, unit: str) -> CostModel:
    """`cost / reference`, as a number in another unit: a ratio."""
    costs, factors, constant = _linear(cost)
    return Weighted(
        costs, tuple(f / reference for f in factors), constant / reference, cost.name, unit
    )


def named(cost: CostModel, name: str) -> CostModel:
    """A cost under another name."""
    if not isinstance(name, str) or not name:
        raise DeclarationError(f"`name` ({name!r}) must be a text that is not empty.")
    fields = {field.name for field in attrs.fields(type(cost))}
    if "renamed" in fields:
        return attrs.evolve(cost, renamed=name)  # type: ignore[call-arg]
    if "name" in fields:
        return attrs.evolve(cost, name=name)  # type: ignore[call-arg]
    return Weighted((cost,), (1.0,), 0.0, name)


def check_units(a: CostModel, b: CostModel, what: str) -> None:
    """Raises where two costs are counted in different units.

    Raises:
        DeclarationError: they are.
    """
    if a.unit != b.unit:
        raise DeclarationError(
            f"{a.name} is in {a.unit} and {b.name} in {b.unit}: {what} of the two means nothing. "
            "Divide each by what it is allowed to be, or give them as "
            "two constraints or two objectives."
        )


def _linear(cost: CostModel) -> tuple[tuple[CostModel, ...], tuple[float, ...], float]:
    if isinstance(cost, Weighted) and cost.renamed is None and cost.unit_ is None:
        return cost.costs, cost.factors, cost.constant
    return (cost,), (1.0,), 0.0


def _weighted(merged: dict[CostModel, float], constant: float, unit: str) -> CostModel:
    kept = {cost: factor for cost, factor in merged.items() if factor}
    if not kept:
        raise DeclarationError("The costs cancel one another: nothing is left that depends on any.")
    if constant == 0 and list(kept.values()) == [1.0]:
        return next(iter(kept))
    return Weighted(tuple(kept), tuple(kept.values()), constant)


def _number(cost: CostModel, value: Any, sign: str) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise DeclarationError(
            f"`{cost.name} {sign} ...`: {value!r:.60} must be a number or another cost."
        )
    if not np.isfinite(float(value)):
        raise DeclarationError(f"`{cost.name} {sign} {value}`: the number must be finite.")
    return float(value)


def _joined(texts: Sequence[str]) -> str:
    """Devices of several costs: `any` says nothing beside another."""
    told = list(dict.fromkeys(text for text in texts if text != "any"))
    return " + ".join(told) or "any"
