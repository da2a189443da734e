"""`algorithm.over(decisions, trials=n)`: one stage of a flow, and which decisions it searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from symnas.searching.algorithm import Algorithm
from symnas.searchspace.parts import matching

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

# The decisions without a group, where none of that name is labelled.
REST = "model"


def _check_algorithm(_: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, Algorithm):
        raise TypeError(
            f"Stage: `algorithm` ({value!r:.60}) must be an algorithm, such as "
            "alg.RegularizedEvolution()."
        )


def _check_decisions(_: Any, attribute: Any, value: Any) -> None:
    for name in value:
        if not isinstance(name, str) or not name:
            raise TypeError(
                f"over({name!r:.60}): decisions are told by text: a group, a name, an id or a pattern "
                "such as '**.kernel_size'."
            )


def _check_trials(_: Any, attribute: Any, value: Any) -> None:
    for number in value if isinstance(value, tuple) else (value,):
        if number is not None and (
            not isinstance(number, int) or isinstance(number, bool) or number < 1
        ):
            raise ValueError(
                f"over(trials={value!r}): must be at least 1; a stage without trials searches nothing."
            )
    if isinstance(value, tuple) and (not value or list(value) != sorted(set(value))):
        raise ValueError(f"over(trials={value!r}): several numbers must increase, as (4, 16).")


@attrs.frozen
class Stage:
    """An algorithm with the decisions that it searches within a flow, and for how many trials.

    Made by `algorithm.over(...)`.

    Attributes:
        algorithm: what searches; a flow, too.
        decisions: groups, names, ids or patterns; with what is nested in them. Empty: all that no
            other level of a nested flow has, or all there are.
        trials: how many; several increasing numbers, within a nested flow, for an inner search that
            goes on where it promises much.
        shrink: what narrows the space afterwards, see `sn.flow.refine`; or None.
    """

    algorithm: Algorithm = attrs.field(validator=_check_algorithm)
    decisions: tuple[str, ...] = attrs.field(default=(), validator=_check_decisions)
    trials: int | tuple[int, ...] | None = attrs.field(default=None, validator=_check_trials)
    shrink: Any = None

    @property
    def endless(self) -> bool:
        """Whether neither it nor its algorithm says for how many trials."""
        from symnas.flow.flow import Flow
        from symnas.oneshot.algorithm import OneShot

        if isinstance(self.algorithm, Flow):
            return self.trials is None and self.algorithm.endless
        return self.trials is None and not isinstance(self.algorithm, OneShot)

    def columns(self, space: Space) -> set[int] | None:
        """The columns of the decisions that it names; None if it names none.

        Raises:
            ValueError: something that it names is no decision of the space.
        """
        if not self.decisions:
            return None
        found: set[int] = set()
        for name in self.decisions:
            found |= set(_named(space, name))
        return found

    def __str__(self) -> str:
        head, *rest = told_shortly(self.algorithm).splitlines()
        told = f" over {', '.join(self.decisions)}" if self.decisions else ""
        if self.trials is not None:
            numbers = self.trials if isinstance(self.trials, tuple) else (self.trials,)
            told += f", {' to '.join(map(str, numbers))} trials"
        if self.shrink is not None:
            told += f", then shrink by {self.shrink}"
        return "\n".join([head + told, *rest])


def told_shortly(algorithm: Algorithm) -> str:
    """An algorithm with what is not as by default; a flow as a tree.

    >>> from symnas import algorithms as alg
    >>> told_shortly(alg.RegularizedEvolution(population_size=50))
    'RegularizedEvolution(population_size=50)'
    """
    kind = type(algorithm)
    if kind.__str__ is not object.__str__ or not attrs.has(kind):
        return str(algorithm)
    told = []
    for field in attrs.fields(kind):
        default = field.default
        if isinstance(default, attrs.Factory) and not default.takes_self:  # type: ignore[arg-type]
            default = default.factory()
        value = getattr(algorithm, field.name)
        if field.repr and field.init and value != default:
            told.append(f"{field.alias}={value!r}")
    return f"{kind.__name__}({', '.join(told)})"


def _named(space: Space, name: str) -> list[int]:
    groups = {d.group for d in space.decisions if d.group}
    if name in groups:
        return [i for i, d in enumerate(space.decisions) if d.group == name]
    if name == REST and not any(REST in (d.id, d.name) for d in space.decisions):
        return [i for i, d in enumerate(space.decisions) if not d.group]
    try:
        own = matching(space, name)
    except ValueError as error:
        raise ValueError(
            f"over({name!r}): {error} Groups here: {', '.join(sorted(groups)) or 'none'}."
        ) from None
    # What stands within a candidate goes along with the choice of it.
    heads = tuple(f"{space.decisions[i].id}[=" for i in own)
    nested = [i for i, d in enumerate(space.decisions) if d.id.startswith(heads)]
    return sorted({*own, *nested})
