"""`CostModel`: a number with a unit for an architecture; bound to a space, for rows."""

from __future__ import annotations

import abc
import numbers
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from symnas.errors import DeclarationError

if TYPE_CHECKING:
    import torch

    from symnas.architecture.architecture import Architecture
    from symnas.costs.constraints import Constraint
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]


class CostModel(abc.ABC):
    """What an architecture costs: write `layer` or `measure`, and give a name and a unit.

    `layer(module, inputs, outputs) -> number` is summed over the leaf modules of one forward pass
    on the meta device, in eval mode, with one example of `architecture.input`; `inputs` and
    `outputs` are tuples of tensors that have shapes and no data. A module that is called twice
    counts twice. `measure(architecture) -> number` does everything itself.

    Attributes:
        name: unique within a search: `"latency"`.
        unit: `"ms"`, `"parameters"`, ...; "" for a bare number.
        device: what it holds for, or "".
        expense: 0 if it is computed from shapes, 2 if something has to run: dear costs are
            asked last.

    Raises:
        DeclarationError: a class defines both methods or none (when it is defined).

    >>> import symnas as sn
    >>> class Layers(sn.CostModel):
    ...     name, unit = "layers", "layers"
    ...     def layer(self, module, inputs, outputs):
    ...         return 1
    >>> net = sn.Architecture(sn.nn.Sequential(sn.nn.Linear(4, 2), sn.nn.ReLU()), input=(4,))
    >>> Layers().measure(net)
    2.0
    >>> Layers() <= 3
    layers <= 3 layers
    """

    name: str = ""
    unit: str = ""
    device: str = ""
    expense: ClassVar[int] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own_layer = cls.layer is not CostModel.layer
        own_measure = cls.measure is not CostModel.measure
        if own_layer == own_measure:
            found = "both" if own_layer else "neither"
            raise DeclarationError(
                f"{cls.__name__} defines {found} of `layer` and `measure`: a cost model defines "
                "exactly one. `layer(module, inputs, outputs)` is summed over layers; "
                "`measure(architecture)` does everything itself."
            )

    def layer(
        self,
        module: torch.nn.Module,
        inputs: tuple[torch.Tensor, ...],
        outputs: tuple[torch.Tensor, ...],
    ) -> float:
        """The cost of one call of a leaf module; shapes only."""
        raise TypeError(f"{type(self).__name__} has no `layer`.")

    def measure(self, architecture: Architecture) -> float:
        """The cost of an architecture, in `unit`.

        Raises:
            ValueError: the architecture has no `input`, or cannot be built or run.
        """
        from symnas.costs.layers import layer_sum

        return layer_sum(self, architecture)

    def bind(self, space: Space) -> BoundCost:
        """This cost for the rows of a space."""
        return BoundCost(self, space)

    def describe(self) -> dict[str, Any]:
        """What a study records of it, as plain data."""
        return {
            "model": f"{type(self).__module__}:{type(self).__qualname__}",
            "name": self.name,
            "unit": self.unit,
            "device": self.device,
        }

    def __le__(self, limit: float) -> Constraint:
        return _constraint(self, None, limit)

    def __ge__(self, limit: float) -> Constraint:
        return _constraint(self, limit, None)

    # Costs are real numbers: the difference between < and <= is below what can be measured.
    __lt__ = __le__
    __gt__ = __ge__


def _constraint(cost: CostModel, lower: Any, upper: Any) -> Constraint:
    from symnas.costs.constraints import Constraint

    limit = upper if lower is None else lower
    if isinstance(limit, bool) or not isinstance(limit, numbers.Real) or limit != limit:
        raise DeclarationError(
            f"{cost.name}: a cost is compared with a number of {cost.unit or 'its unit'}, not with "
            f"{limit!r}."
        )
    return Constraint(cost, lower, upper)


class BoundCost:
    """A cost model for the rows of one space; remembers what it has computed.

    Complexity: one evaluation of the model for each distinct architecture asked for.
    """

    def __init__(self, model: CostModel, space: Space) -> None:
        if not model.name:
            raise DeclarationError(f"{type(model).__name__}: a cost model needs a `name`.")
        self.model = model
        self.space = space
        self.name, self.unit, self.device = model.name, model.unit, model.device
        self._known: dict[bytes, float] = {}

    def __call__(self, rows: Any) -> NDArray[np.float64]:
        """Costs of rows `(n, columns)`: `(n,)` float64, in `unit`."""
        return np.array([self._of(row) for row in np.asarray(rows).tolist()], np.float64)

    def measure(self, architecture: Architecture) -> float:
        """The cost of an architecture, asked of the model itself."""
        return float(self.model.measure(architecture))

    def range(self, seed: int = 0) -> tuple[float, float, Rows, Rows]:
        """The smallest and the largest cost found, and rows that have them.

        An estimate: from the extremes of random rows, one decision is changed at a time while that
        helps, so the true range may be wider.
        """
        low_row, low, _ = self.descend(seed=seed)
        high_row, high, _ = self.descend(seed=seed, sign=-1)
        return low, high, low_row, high_row

    def descend(
        self, seed: int = 0, sign: int = 1, until: float | None = None
    ) -> tuple[Rows, float, int]:
        """A row of small cost (large, with `sign=-1`), the cost, and how many were asked for.

        Args:
            seed: of the random rows it starts from.
            sign: 1 to go down, -1 to go up.
            until: stop as soon as the cost is at most (at least) this.
        """
        random, moves = (24, 120) if self.model.expense else (128, 2_000)
        before = len(self._known)
        rows = self.space.sample(random, seed)
        rows = rows[self.space.is_valid(rows)]
        if not len(rows):
            rows = self.space.sample(1, seed)
        values = sign * self(rows)
        row, best = rows[int(values.argmin())], float(values.min())
        improved, asked = True, 0
        while improved and asked < moves:
            improved = False
            for other in self._order(self.space.neighbors(row), seed):
                if until is not None and best <= sign * until:
                    return row, sign * best, len(self._known) - before
                if not self.space.is_valid(other[None])[0]:
                    continue
                asked += 1
                value = sign * float(self(other[None])[0])
                if value < best:
                    row, best, improved = other, value, True
                    break
                if asked >= moves:
                    break
        return row, sign * best, len(self._known) - before

    def _order(self, rows: Rows, seed: int) -> Rows:
        return rows[np.random.default_rng((seed, 1)).permutation(len(rows))]

    def _of(self, row: list[int]) -> float:
        key = self.space.key_of(row)
        value = self._known.get(key)
        if value is None:
            value = self._known[key] = float(self.model.measure(self.space.decode(row)))
        return value

    def __repr__(self) -> str:
        return f"BoundCost({self.name}, {self.unit}, {len(self._known)} known)"
