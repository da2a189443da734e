"""Distributions over rows under which decisions are independent of one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.structure import structure_of
from symnas.searchspace import conditions as cond
from symnas.searchspace.count import draw_picks

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]
Probabilities = Mapping[str, Any]

# Probabilities may miss 1 by the rounding of single precision.
ROUNDING = 1e-4


class Independent:
    """Each decision takes its values with its own probabilities, wherever it is active.

    Args:
        space: whose rows.
        probabilities: a tensor or array `(candidates,)` for each decision id; a decision that is
            not named is uniform.

    Raises:
        ValueError: an id is not of this space, or its probabilities have another shape, are
            negative, or do not add up to 1.
    """

    def __init__(
        self,
        space: Space,
        probabilities: Probabilities | None = None,
        *,
        arrays: dict[int, Floats] | None = None,
        counting: bool = False,
    ) -> None:
        self.space = space
        self.structure = structure_of(space)
        self.given: dict[int, torch.Tensor] = {}
        index = {id_: i for i, id_ in enumerate(space.columns)}
        names = {d.name: i for i, d in enumerate(space.decisions) if d.name}
        for id_, values in (probabilities or {}).items():
            column = index.get(id_, names.get(id_))
            if column is None:
                raise ValueError(
                    f"`probabilities` names the decision {id_!r}, which this space does not have. "
                    f"Its decisions: {_some(space.columns)}."
                )
            self.given[column] = self._checked(id_, column, values)
        self.counting = counting
        self._arrays: dict[int, Floats] = dict(arrays or {})
        self._own = frozenset(self._arrays)

    def _checked(self, id_: str, column: int, values: Any) -> torch.Tensor:
        tensor = torch.as_tensor(values)
        tensor = tensor.to("cpu", torch.float64)
        size = self.structure.sizes[column]
        if self.structure.floats[column] or tuple(tensor.shape) != (size,):
            wanted = "left out: it is a float" if self.structure.floats[column] else f"({size},)"
            raise ValueError(
                f"`probabilities[{id_!r}]` of shape {tuple(tensor.shape)} must be {wanted}."
            )
        total = float(tensor.detach().sum())
        if float(tensor.detach().min()) < -ROUNDING or not abs(total - 1.0) <= ROUNDING * 10:
            raise ValueError(
                f"`probabilities[{id_!r}]` must not be negative and add up to 1; they add up to "
                f"{total:.6g}. Use torch.softmax."
            )
        return tensor

    @property
    def differentiable(self) -> bool:
        """Whether gradients are asked for."""
        return any(tensor.requires_grad for tensor in self.given.values())

    def of(self, column: int) -> Floats:
        """The probabilities of a decision's values, `(size,)`."""
        found = self._arrays.get(column)
        if found is None:
            size = self.structure.sizes[column]
            if column in self.given:
                values = self.given[column].detach().numpy().clip(0.0)
                found = values / values.sum()
            else:
                found = np.full(size, 1.0 if self.counting else 1.0 / size)
            self._arrays[column] = found
        return found

    def tensor(self, column: int) -> torch.Tensor:
        """As `of`, with the gradient where one was given."""
        if column in self.given:
            return self.given[column]
        return torch.from_numpy(self.of(column))

    def refuse_rules(self, columns: set[int], what: str) -> None:
        """Refuses decisions that are not independent: picks that must differ.

        Raises:
            ValueError: there are such among `columns`.
        """
        for rule in self.structure.rules:
            if columns & set(rule.columns):
                names = ", ".join(self.space.columns[c] for c in rule.columns[:3])
                raise ValueError(
                    f"{what} needs decisions that are independent of one another; the picks of a "
                    f"`manyof` ({names}, ...) are not, and would be approximated. Use sampling."
                )

    def sample(self, n: int, rng: np.random.Generator, given: Rows | None = None) -> Rows:
        """`n` rows, `(n, columns)`.

        Args:
            n: how many.
            rng: the generator.
            given: rows in which some columns are set already, and the others -2.
        """
        structure = self.structure
        rows = np.full((n, len(structure)), -2, np.int32) if given is None else given
        ruled = {c: rule for rule in structure.rules for c in rule.columns}
        for column in structure.order:
            if n and rows[0, column] != -2:
                continue
            condition = structure.conditions[column]
            if condition == cond.ALWAYS:
                active = np.arange(n)
            else:
                active = np.flatnonzero(cond.holds(condition, rows, structure.sizes))
                rows[:, column] = -1
            rule = ruled.get(column)
            if rule is not None:
                for c in rule.columns:
                    rows[:, c] = -1
                picks = draw_picks(rule, structure.sizes[column], len(active), rng)
                rows[np.ix_(active, np.array(rule.columns))] = picks
            elif column in self.given or column in self._own:
                cumulative = self.of(column).cumsum()
                drawn = np.searchsorted(
                    cumulative / cumulative[-1], rng.random(len(active)), "right"
                )
                rows[active, column] = np.minimum(drawn, structure.sizes[column] - 1)
            else:
                rows[active, column] = rng.integers(0, structure.sizes[column], len(active))
        return rows

    def log_probability(self, rows: Rows) -> torch.Tensor:
        """The logarithm of each row's probability under the given decisions, `(n,)`."""
        total = torch.zeros(len(rows), dtype=torch.float64)
        for column, probabilities in self.given.items():
            active = np.flatnonzero(rows[:, column] >= 0)
            values = torch.from_numpy(rows[active, column].astype(np.int64))
            total = total.index_add(
                0, torch.from_numpy(active), probabilities[values].clamp_min(1e-300).log()
            )
        return total


def _some(columns: tuple[str, ...]) -> str:
    shown = ", ".join(columns[:6])
    return shown + (", ..." if len(columns) > 6 else "")
