"""Choices: the values of a program that a search decides.

`oneof`, `manyof`, `permutate` and `floatv` keep PyGlove's names and arguments; a choice made here
has an identity besides, so that one object used in two places is one decision.
"""

from __future__ import annotations

import itertools
import math
import operator
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pyglove as pg

from symnas.errors import DeclarationError

_uids = itertools.count(1)
# What has been declared inside the body of an `@sn.space` function: see `symbolize.space`.
_declared: list[list[Any]] = []


class Arithmetic:
    """`width * 4`, `width // 2`, `depth + 1`: computing from a choice gives a derived value."""

    def __add__(self, other: Any) -> Any:
        return derived(operator.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return derived(operator.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return derived(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return derived(operator.sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return derived(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return derived(operator.mul, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return derived(operator.floordiv, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return derived(operator.floordiv, other, self)

    def __truediv__(self, other: Any) -> Any:
        return derived(operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return derived(operator.truediv, other, self)

    def __mod__(self, other: Any) -> Any:
        return derived(operator.mod, self, other)

    def __pow__(self, other: Any) -> Any:
        return derived(operator.pow, self, other)

    def __neg__(self) -> Any:
        return derived(operator.neg, self)

    def __bool__(self) -> bool:
        raise DeclarationError(
            "A choice has no truth value while a space is declared: an `if` would decide it for "
            "every architecture. Put both branches into sn.oneof([...]), or compute with "
            "sn.derived(function, choice)."
        )

    def _no_number(self, *_: Any) -> Any:
        raise DeclarationError(
            "A choice is not a number yet: it would be fixed for every architecture here. "
            "Compute with arithmetic (choice * 2) or with sn.derived(function, choice)."
        )

    __int__ = __float__ = __index__ = __round__ = __lt__ = __gt__ = __le__ = __ge__ = _no_number


@pg.members(
    [
        ("uid", pg.typing.Int(default=0), "Equal for all uses of one choice object."),
        ("group", pg.typing.Str().noneable(), "Label of this decision and all nested in it."),
    ]
)
class OneOf(Arithmetic, pg.hyper.OneOf):  # type: ignore[misc]
    """One of several candidates."""


@pg.members(
    [
        ("uid", pg.typing.Int(default=0), "Equal for all uses of one choice object."),
        ("group", pg.typing.Str().noneable(), "Label of this decision and all nested in it."),
    ]
)
class ManyOf(pg.hyper.ManyOf):  # type: ignore[misc]
    """Several of several candidates."""


@pg.members(
    [
        ("uid", pg.typing.Int(default=0), "Equal for all uses of one choice object."),
        ("group", pg.typing.Str().noneable(), "Label of this decision."),
    ]
)
class Float(Arithmetic, pg.hyper.Float):  # type: ignore[misc]
    """A number between two bounds."""


@pg.members(
    [
        ("function", pg.typing.Any(), "What computes the value."),
        ("args", pg.typing.List(pg.typing.Any()), "Choices, derived values or plain values."),
    ]
)
class Derived(Arithmetic, pg.Object):  # type: ignore[misc]
    """A value computed from choices."""


@pg.members([("name", pg.typing.Str(), "The name of the decision that decides.")])
class Tied(Arithmetic, pg.Object):  # type: ignore[misc]
    """Another use of the choice of that name."""


@pg.members(
    [
        ("times", pg.typing.Any(), "How many of the blocks are used: a choice of integers."),
        ("blocks", pg.typing.List(pg.typing.Any()), "The blocks, first to last."),
    ]
)
class Repeat(pg.Object):  # type: ignore[misc]
    """The first `times` of `blocks`, in one Sequential."""


def oneof(
    candidates: Iterable[Any],
    *,
    name: str | None = None,
    hints: Any = None,
    group: str | None = None,
) -> Any:
    """One of `candidates`: values, specs, or structures with choices of their own.

    Args:
        candidates: at least one; equal ones are merged, with a warning.
        name: for `architecture["name"]` and `tied("name")`. The same name twice means the same
            decision, and asks for the same candidates.
        hints: anything; kept on the choice, as in PyGlove.
        group: a label for this decision and all nested in its candidates.

    Raises:
        DeclarationError: there are no candidates, or one of them cannot be stored.

    >>> import symnas as sn
    >>> sn.Space(sn.nn.Linear(8, sn.oneof([16, 32, 64]))).size
    3
    """
    values = _candidates("oneof", candidates)
    kept: list[Any] = []
    for value in values:
        if not any(_same(value, other) for other in kept):
            kept.append(value)
    if len(kept) < len(values):
        warnings.warn(
            f"sn.oneof{f' named {name!r}' if name else ''}: {len(values) - len(kept)} of "
            f"{len(values)} candidates are equal to an earlier one and were merged; "
            f"left: {_short(kept)}.",
            stacklevel=2,
        )
    traced = _trace("oneof", kept, name)
    if traced is not _NOT_TRACED:
        return traced
    return _declare(OneOf(candidates=kept, name=name, hints=hints, uid=next(_uids), group=group))


def manyof(
    k: int,
    candidates: Iterable[Any],
    distinct: bool = True,
    sorted: bool = False,
    *,
    name: str | None = None,
    hints: Any = None,
    group: str | None = None,
) -> Any:
    """`k` of `candidates`, as a list.

    Args:
        k: how many.
        candidates: what to pick from.
        distinct: no candidate twice.
        sorted: in the order of the candidates; with `distinct`, the picks are then a subset.
        name, hints, group: as for `oneof`.

    Raises:
        DeclarationError: `k` is negative, or larger than the number of distinct candidates.

    >>> import symnas as sn
    >>> sn.Space(sn.manyof(2, ["a", "b", "c"], sorted=True)).size
    3
    """
    values = _candidates("manyof", candidates)
    if not isinstance(k, int) or isinstance(k, bool) or k < 0:
        raise DeclarationError(f"sn.manyof: `k` ({k!r}) must be an integer of at least 0.")
    if distinct and k > len(values):
        raise DeclarationError(
            f"sn.manyof: `k` ({k}) must be at most the number of candidates ({len(values)}) when "
            "they are distinct. Give more candidates, or distinct=False."
        )
    return _declare(
        ManyOf(
            num_choices=k,
            candidates=values,
            choices_distinct=distinct,
            choices_sorted=sorted,
            name=name,
            hints=hints,
            uid=next(_uids),
            group=group,
        )
    )


def permutate(
    candidates: Iterable[Any],
    *,
    name: str | None = None,
    hints: Any = None,
    group: str | None = None,
) -> Any:
    """The candidates in some order, as a list.

    >>> import symnas as sn
    >>> sn.Space(sn.permutate(["conv", "norm", "relu"])).size
    6
    """
    values = _candidates("permutate", candidates)
    return manyof(len(values), values, distinct=True, name=name, hints=hints, group=group)


def floatv(
    min_value: float,
    max_value: float,
    scale: str | None = None,
    *,
    name: str | None = None,
    hints: Any = None,
    group: str | None = None,
) -> Any:
    """A number from `min_value` to `max_value`, in steps of a 2**20th of the range.

    Args:
        min_value, max_value: the bounds, both included.
        scale: None or "linear", "log" (even in the logarithm) or "rlog" (the reverse).
        name, hints, group: as for `oneof`.

    Raises:
        DeclarationError: the bounds are the wrong way round, or not positive on a log scale.

    >>> import symnas as sn
    >>> rate = sn.floatv(1e-4, 1e-1, scale="log")
    """
    for argument, value in (("min_value", min_value), ("max_value", max_value)):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise DeclarationError(f"sn.floatv: `{argument}` ({value!r}) must be a finite number.")
    if not min_value < max_value:
        raise DeclarationError(
            f"sn.floatv: `min_value` ({min_value}) must be less than `max_value` ({max_value}). "
            "Swap the two."
        )
    if scale not in (None, "linear", "log", "rlog"):
        raise DeclarationError(
            f"sn.floatv: `scale` ({scale!r}) must be None, 'linear', 'log' or 'rlog'."
        )
    if scale in ("log", "rlog") and min_value <= 0:
        raise DeclarationError(
            f"sn.floatv: `min_value` ({min_value}) must be positive on a {scale} scale."
        )
    return _declare(
        Float(
            min_value=float(min_value),
            max_value=float(max_value),
            scale=scale,
            name=name,
            hints=hints,
            uid=next(_uids),
            group=group,
        )
    )


def intv(
    min_value: int,
    max_value: int,
    step: int = 1,
    *,
    name: str | None = None,
    hints: Any = None,
    group: str | None = None,
) -> Any:
    """An integer from `min_value` to `max_value`, both included, in steps of `step`.

    Raises:
        DeclarationError: the bounds are the wrong way round, or the step is not positive.

    >>> import symnas as sn
    >>> sn.Space(sn.nn.Linear(4, sn.intv(8, 32, step=8))).size
    4
    """
    for argument, value in (("min_value", min_value), ("max_value", max_value), ("step", step)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise DeclarationError(f"sn.intv: `{argument}` ({value!r}) must be an integer.")
    if min_value > max_value:
        raise DeclarationError(
            f"sn.intv: `min_value` ({min_value}) must be at most `max_value` ({max_value}). "
            "Swap the two."
        )
    if step < 1:
        raise DeclarationError(f"sn.intv: `step` ({step}) must be at least 1.")
    return oneof(range(min_value, max_value + 1, step), name=name, hints=hints, group=group)


def tied(name: str) -> Any:
    """Another use of the choice named `name`, from anywhere in the program.

    >>> import symnas as sn
    >>> net = sn.nn.Sequential(
    ...     sn.nn.Linear(4, sn.oneof([8, 16], name="width")), sn.nn.Linear(sn.tied("width"), 2))
    >>> sn.Space(net).size
    2
    """
    if not isinstance(name, str) or not name:
        raise DeclarationError(f"sn.tied: `name` ({name!r}) must be the name of a choice.")
    return _declare(Tied(name=name))


def derived(function: Callable[..., Any], *args: Any) -> Any:
    """A value computed from choices: `function(*args)` with the chosen values.

    `function` must depend on its arguments alone. Where no argument holds a choice, the result is
    computed at once.

    >>> import symnas as sn
    >>> width = sn.oneof([10, 20])
    >>> def rounded(channels, multiple):
    ...     return max(multiple, channels // multiple * multiple)
    >>> net = sn.nn.Linear(width, sn.derived(rounded, width * 2, 8))
    >>> [net.build().weight.shape for net in map(sn.Space(net).decode, [[0], [1]])]
    [torch.Size([16, 10]), torch.Size([40, 20])]
    """
    if not callable(function):
        raise DeclarationError(f"sn.derived: `function` ({function!r}) must be callable.")
    if not any(contains_choice(argument) for argument in args):
        return function(*args)
    from symnas.language.check import clean

    name = getattr(function, "__name__", "function")
    cleaned = [clean(a, f"derived({name}, argument {i})") for i, a in enumerate(args)]
    return Derived(function=function, args=cleaned)


def repeat(block: Any, times: Any) -> Any:
    """`times` blocks in one `torch.nn.Sequential`.

    Args:
        block: a function of the block's index (from 0) that returns a spec, or one spec. The
            choices of one spec are made anew for each block, unless they are also used elsewhere
            by `tied` names; a function decides that by itself.
        times: an integer, or a choice of integers (`sn.intv(2, 5)`).

    Raises:
        DeclarationError: `times` is not a number of blocks, or may be negative.

    >>> import symnas as sn
    >>> stage = sn.repeat(lambda i: sn.nn.Linear(8, 8, bias=sn.oneof([True, False])), sn.intv(1, 3))
    >>> sn.Space(stage).size  # 2 + 4 + 8
    14
    """
    from symnas.language.check import clean
    from symnas.language.spec import Spec, make_spec
    from symnas.searchspace.possible import possible_values

    counts = possible_values(times)
    if not counts or not all(isinstance(c, int) and not isinstance(c, bool) for c in counts):
        raise DeclarationError(
            f"sn.repeat: `times` ({times!r}) must be an integer or a choice of integers, "
            "such as sn.intv(2, 5)."
        )
    if min(counts) < 0:
        raise DeclarationError(f"sn.repeat: `times` may be {min(counts)}; it must be at least 0.")
    is_function = callable(block) and not isinstance(block, Spec | pg.hyper.HyperValue)
    blocks = []
    for index in range(max(counts)):
        made = block(index) if is_function else (block if index == 0 else fresh(block))
        blocks.append(clean(made, f"repeat(block {index})"))
    if not contains_choice(times):
        import torch

        return make_spec(torch.nn.Sequential, tuple(blocks), {})
    return Repeat(times=times, blocks=blocks)


def is_choice(value: Any) -> bool:
    """Whether `value` stands for something still to be chosen or computed from a choice."""
    return isinstance(value, pg.hyper.HyperValue | pg.hyper.DerivedValue | Derived | Tied | Repeat)


def contains_choice(value: Any) -> bool:
    """Whether there is a choice in `value` or in the structures, specs and objects within it."""
    if is_choice(value):
        return True
    if isinstance(value, dict):
        return any(contains_choice(v) for v in value.values())
    if isinstance(value, list | tuple):
        return any(contains_choice(v) for v in value)
    if isinstance(value, pg.Object):
        return any(contains_choice(v) for v in value.sym_init_args.values())
    return False


def fresh(value: Any) -> Any:
    """A copy of `value` whose unnamed choices are new decisions (each still shared within it)."""
    renewed: dict[int, int] = {}
    copy = value.clone(deep=True) if isinstance(value, pg.Symbolic) else value

    def renew(node: Any) -> None:
        if isinstance(node, OneOf | ManyOf | Float) and node.name is None:
            if node.uid not in renewed:
                renewed[node.uid] = next(_uids)
            node.rebind(uid=renewed[node.uid], notify_parents=False)
            _note(node)
        if isinstance(node, dict):
            children = list(node.values())
        elif isinstance(node, list | tuple):
            children = list(node)
        elif isinstance(node, pg.Object):
            children = list(node.sym_init_args.values())
        else:
            children = []
        for child in children:
            renew(child)

    renew(copy)
    return copy


_NOT_TRACED = object()


def _trace(kind: str, candidates: list[Any], name: str | None) -> Any:
    from symnas.language.trace import active_tracer

    tracer = active_tracer()
    return _NOT_TRACED if tracer is None else tracer.choose(kind, candidates, name)


def _declare(choice: Any) -> Any:
    _note(choice)
    return choice


def _note(choice: Any) -> None:
    if _declared:
        _declared[-1].append(choice)


def _candidates(function: str, candidates: Iterable[Any]) -> list[Any]:
    from symnas.language.check import clean

    if isinstance(candidates, str) or not isinstance(candidates, Iterable):
        raise DeclarationError(
            f"sn.{function}: `candidates` ({candidates!r}) must be a list of values."
        )
    values = list(candidates)
    if not values:
        raise DeclarationError(
            f"sn.{function}: `candidates` is empty: there is nothing to choose from. "
            "Give at least one."
        )
    return [clean(value, f"{function}(candidate {i})") for i, value in enumerate(values)]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    if isinstance(a, int | float) and isinstance(b, int | float):
        return type(a) is type(b) and a == b
    return bool(pg.eq(a, b))


def _short(values: list[Any]) -> str:
    text = repr(values)
    return text if len(text) <= 120 else text[:117] + "..."
