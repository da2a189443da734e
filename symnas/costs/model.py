"""`CostModel`: a number with a unit that an architecture has."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import torch

from symnas.costs.bound import BoundCost
from symnas.costs.bound_measured import MeasuredCost
from symnas.costs.code import code_digest
from symnas.costs.comparison import Comparable, Limits
from symnas.costs.constraints import Constraint
from symnas.costs.layers import layer_cost
from symnas.costs.quiet import quiet
from symnas.errors import DeclarationError, SymnasError
from symnas.searchspace.parts import Part

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from symnas.architecture.architecture import Architecture
    from symnas.costs.pieces import Piece
    from symnas.searchspace.space import Space

__all__ = ["BoundCost", "CostFailed", "CostModel"]


class CostFailed(SymnasError, RuntimeError):
    """A cost model could not measure an architecture: the message names both."""


@attrs.frozen(auto_attribs=False, order=False)
class CostModel(Comparable):
    """What an architecture costs: a frozen value, written with one of two methods.

    Write `layer(module, inputs, outputs) -> number` for what is a sum over layers and follows from
    shapes, or `measure(architecture) -> number` for anything else. Options are attrs fields:
    decorate the class with `@attrs.frozen`. The same model is used as a constraint (`model <= 20`)
    and as an objective (`minimize=[model]`); called with an architecture it gives the number.

    Attributes:
        name: unique among the costs of a search; by default the class's name in small letters.
        unit: "ms", "bytes", "MACs": must be said.
        device: where the number holds; "any" if it follows from the architecture alone.
        expense: from 1 (instant) to 10 (as dear as training): constraints are checked in this
            order, and from 8 on the library measures as few architectures as it can.
        counts: for models with `price`: "calls" to be asked for the pieces of a run, or "storage"
            for the parameters that each module owns.

    Raises:
        DeclarationError: the class writes neither or both of `layer` and `measure`, or no unit.

    >>> import symnas as sn
    >>> class Activations(sn.CostModel):
    ...     unit = "bytes"
    ...     def layer(self, module, inputs, outputs):
    ...         return sum(o.numel() * o.element_size() for o in outputs)
    >>> net = sn.Architecture(sn.nn.Sequential(sn.nn.Linear(4, 3), sn.nn.ReLU()), input=(4,))
    >>> Activations()(net)  # two layers with three outputs of four bytes
    24.0
    >>> print(Activations() <= 100)
    activations <= 100 bytes
    """

    expense: ClassVar[int] = 5
    counts: ClassVar[str] = "calls"

    @property
    def name(self) -> str:
        """Unique among the costs of a search."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def unit(self) -> str:
        """What the number counts."""
        raise NotImplementedError

    @property
    def device(self) -> str:
        """Where the number holds."""
        return "any"

    @property
    def device_name(self) -> str:
        """The full name of the device, where `device` is only a kind of device ("cpu")."""
        return self.device

    def layer(
        self,
        module: torch.nn.Module,
        inputs: tuple[torch.Tensor, ...],
        outputs: tuple[torch.Tensor, ...],
    ) -> float:
        """The cost of one layer in one call, from shapes; summed over the network.

        The network runs once on the meta device, which has shapes but no numbers, in evaluation
        mode on one example. A layer is a module that calls no other module meanwhile. What is
        called twice costs twice, also where both calls share their weights; a quantity that
        shared weights have only once (memory for parameters) is written as `measure`. Operations
        between layers (`x + y`, `F.relu`) are not seen.

        Args:
            module: the layer.
            inputs: the tensors among its arguments.
            outputs: the tensors that it returns.
        """
        raise NotImplementedError

    def price(self, pieces: Sequence[Piece]) -> Sequence[float]:
        """The cost of each distinct piece of a space's networks, where the cost is their sum.

        For models of this library that price operations between layers too, or many pieces at
        once; `layer` is the simple form. All distinct pieces come in one call.
        """
        return [
            0.0
            if piece.module is None
            else layer_cost(self.layer, piece.module, piece.inputs, piece.outputs)
            for piece in pieces
        ]

    @property
    def tabular(self) -> bool:
        """Whether the cost is a sum over pieces of the network."""
        own = type(self)
        return own.layer is not CostModel.layer or own.price is not CostModel.price

    def measure(self, architecture: Architecture) -> float:
        """The cost of an architecture. Call the model itself, which checks and guards this."""
        from symnas.costs.layers import sum_layers

        return sum_layers(self.layer, architecture)

    def __call__(self, architecture: Architecture) -> float:
        """The cost of an architecture, in `unit`; the same whatever the random generators say.

        Raises:
            CostFailed: the architecture could not be built or run, or the cost is no number.
            ValueError: the architecture does not say its input shape, and the model needs it.
        """
        if self._has_choices:
            from symnas.costs.hardware import resolved

            return resolved(self, architecture)(architecture)
        if self.needs_input and architecture.input is None:
            raise ValueError(_no_input(self.name, "sn.Architecture(program, input=(3, 32, 32))"))
        try:
            with quiet():
                value = self.measure(architecture)
        except SymnasError:
            raise
        except Exception as error:
            raise CostFailed(
                self._failure(architecture, f"{type(error).__name__}: {error}")
            ) from error
        if isinstance(value, bool | str | bytes):
            raise CostFailed(self._failure(architecture, f"`measure` gave {value!r}, no number"))
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError):
            problem = f"`measure` gave {type(value).__name__}, no number"
            raise CostFailed(self._failure(architecture, problem)) from None
        if not math.isfinite(number):
            raise CostFailed(self._failure(architecture, f"the cost is {number}"))
        return number

    @property
    def parts(self) -> tuple[CostModel, ...]:
        """The costs that this one is made of, if it is made of others."""
        return ()

    @property
    def _has_choices(self) -> bool:
        """Whether its own options are to be searched; see `symnas.costs.hardware`."""
        from symnas.language.choices import contains_choice

        fields = attrs.fields(type(self))
        return any(contains_choice(getattr(self, field.name)) for field in fields)

    @property
    def needs_input(self) -> bool:
        """Whether architectures must say the shape of one example."""
        return type(self).layer is not CostModel.layer

    def bind(self, space: Space) -> BoundCost:
        """The cost as a function of a space's rows.

        A cost that is a sum over layers becomes a table, whose terms are found from the program
        by itself: a few hundred networks are run on shapes, and 100 others checked against it.
        Other costs are measured row by row; so is a sum where too many decisions act on the same
        layer, and then the bound cost's `note` says so.

        Raises:
            ValueError: the space does not say its input shape, and the model needs it.
            CostFailed: the space's architectures could not be built or run.
        """
        if self.needs_input and space.input is None:
            raise ValueError(_no_input(self.name, "sn.Space(program, input=(3, 32, 32))"))
        if isinstance(space, Part):
            from symnas.costs.bound_part import on_part

            return on_part(self.bind(space.parent), space)
        if self._has_choices:
            from symnas.costs.hardware import bind_hardware

            return bind_hardware(self, space)
        return self._bound(space)

    def _bound(self, space: Space) -> BoundCost:
        """`bind`, of a whole space and a model without choices; kinds of models override it."""
        if not self.tabular:
            return MeasuredCost(self, space)
        from symnas.costs.scopes import TooCoupled
        from symnas.costs.tabulate import tabulated

        try:
            return tabulated(self, space)
        except TooCoupled as problem:
            return MeasuredCost(self, space, note=str(problem))

    def describe(self) -> dict[str, Any]:
        """What makes this cost the one it is, as data for JSON: options, device, and own code."""
        own = type(self).__module__.startswith("symnas.")
        options = {
            field.name: _plain(getattr(self, field.name)) for field in attrs.fields(type(self))
        }
        return {
            "cost": f"{type(self).__module__}:{type(self).__qualname__}",
            "name": self.name,
            "unit": self.unit,
            "device": self.device_name,
            "options": options,
            # Releases of symnas may rewrite its own models; the record has the version besides.
            "code": "" if own else code_digest(type(self)),
        }

    def __add__(self, other: Any) -> CostModel:
        """The sum with a cost of the same unit, or with a number."""
        made: CostModel = _combined().added(self, other, 1.0)
        return made

    __radd__ = __add__

    def __sub__(self, other: Any) -> CostModel:
        made: CostModel = _combined().added(self, other, -1.0)
        return made

    def __rsub__(self, other: Any) -> CostModel:
        made: CostModel = _combined().added(-1.0 * self, other, 1.0)
        return made

    def __mul__(self, other: Any) -> CostModel:
        """A multiple, or the product with another cost (energy times latency)."""
        made: CostModel = _combined().multiplied(self, other)
        return made

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> CostModel:
        if isinstance(other, CostModel) or not other:
            raise DeclarationError(f"`{self.name} / ...`: {other!r:.60} must be a number, not 0.")
        made: CostModel = _combined().multiplied(self, 1.0 / other)
        return made

    def named(self, name: str) -> CostModel:
        """The same cost under another name."""
        made: CostModel = _combined().named(self, name)
        return made

    def upper(self, q: float = 0.95) -> CostModel:
        """The cost with so much safety that a share `q` of architectures costs no more.

        For predicted costs, from their errors on held-out architectures:
        `latency.upper(0.95) <= 20.0` is kept by 95% of what is proposed.

        Raises:
            DeclarationError: `q` is not between 0 and 1.
        """
        if not 0 < q < 1:
            raise DeclarationError(f"`q` ({q}) must be between 0 and 1, such as 0.95.")
        made: CostModel = _combined().Upper(self, q)
        return made

    def plot_breakdown(self, architecture: Architecture, **options: Any) -> Axes:
        """What each module of a network costs: see `symnas.reports.cost_plots`."""
        from symnas.reports.cost_plots import plot_cost_breakdown

        return plot_cost_breakdown(self, architecture, **options)

    def __str__(self) -> str:
        return self.name

    def _constrain(self, limits: Limits) -> Constraint:
        return Constraint(self, limits)

    def _failure(self, architecture: Architecture, problem: str) -> str:
        chosen = ", ".join(f"{k}={v}" for k, v in architecture.choices.items()) or "no choices"
        return (
            f"{self.name}: the architecture {_key(architecture)} ({chosen}; input "
            f"{architecture.input}) could not be measured: {problem}. Build and run it by hand to "
            "see why, and exclude such architectures with the space's `valid`."
        )

    def __new__(cls, *args: Any, **kwargs: Any) -> CostModel:
        if cls.layer is CostModel.layer and cls.measure is CostModel.measure:
            raise DeclarationError(
                f"{cls.__name__} says no cost: write `layer(self, module, inputs, outputs)` or "
                "`measure(self, architecture)`."
            )
        if getattr(cls, "unit", None) is CostModel.unit:
            raise DeclarationError(
                f'{cls.__name__} says no unit: write `unit = "ms"` in the class.'
            )
        return super().__new__(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.layer is not CostModel.layer and cls.measure is not CostModel.measure:
            raise DeclarationError(
                f"{cls.__name__} writes both `layer` and `measure`, and it would not be clear which "
                "one counts: keep one."
            )


def _combined() -> ModuleType:
    from symnas.costs import combined  # combinations are costs themselves

    return combined


def _no_input(name: str, remedy: str) -> str:
    return f"{name} needs the shape of one example, without the batch: pass it, as in {remedy}."


def _key(architecture: Architecture) -> str:
    try:
        return architecture.key
    except SymnasError:
        return "without a key"


def _plain(value: Any) -> Any:
    from symnas.architecture.architecture import Architecture
    from symnas.language.choices import contains_choice
    from symnas.searchspace.possible import possible_values

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, CostModel):
        return value.describe()
    if isinstance(value, Architecture):
        return value.key
    if contains_choice(value):
        return [_plain(possible) for possible in possible_values(value)]
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
