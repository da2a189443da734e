"""`@sn.symbolize` and `@sn.space`: decorated classes and functions make specs where a space asks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import pyglove as pg

from symnas.errors import DeclarationError
from symnas.language import choices, registry
from symnas.language.spec import (
    Spec,
    building,
    declaring,
    is_declaring,
    is_spec,
    make_spec,
    signature_of,
)

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

T = TypeVar("T", bound=Callable[..., Any])
P = ParamSpec("P")

# Passed by pickle and copy, which call `__new__` to make an empty instance.
_EMPTY = "__symnas_empty_instance__"


def symbolize(target: T) -> T:
    """Lets a class or function be part of a search space; otherwise leaves it what it is.

    Called with plain arguments, a decorated class makes an ordinary instance. It returns a spec
    inside the body of an `@sn.space` function, and anywhere when a choice or a spec is among its
    arguments, nested containers and defaults included. A subclass makes specs of its own.

    Works as a decorator and on classes that no one here wrote: `Block = sn.symbolize(lib.Block)`.

    Raises:
        DeclarationError: the target is not a class or function at the top of a module.

    >>> import symnas as sn, torch
    >>> @sn.symbolize
    ... class Head(torch.nn.Module):
    ...     def __init__(self, width, classes=10):
    ...         super().__init__()
    ...         self.linear = torch.nn.Linear(width, classes)
    >>> isinstance(Head(4), torch.nn.Module)
    True
    >>> sn.Space(Head(sn.oneof([4, 8]))).size
    2
    """
    if inspect.isclass(target):
        if "__symnas_signature__" not in target.__dict__:
            _patch(target)
        registry.register(target)
        return target
    if not inspect.isfunction(target):
        raise DeclarationError(
            f"sn.symbolize: `target` ({target!r}) must be a class or a function. "
            "For other callables use sn.spec(callable, ...)."
        )

    @functools.wraps(target)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if _wants_spec(args, kwargs, signature_of(target)):
            return make_spec(wrapper, args, kwargs)
        return target(*args, **kwargs)

    registry.register(wrapper)
    return wrapper  # type: ignore[return-value]


def _patch(cls: type) -> None:
    # `inspect.signature(cls)` would see the patched `__new__`: keep the real one aside.
    cls.__symnas_signature__ = signature_of(cls)  # type: ignore[attr-defined]
    inherited: Any = cls.__new__

    def __new__(cls: type, *args: Any, **kwargs: Any) -> Any:
        if kwargs.pop(_EMPTY, False):
            return object.__new__(cls)
        if _wants_spec(args, kwargs, signature_of(cls)):
            registry.register(cls)  # a subclass without the decorator makes its own spec
            return make_spec(cls, args, kwargs)
        if inherited is object.__new__:
            return object.__new__(cls)
        return inherited(cls, *args, **kwargs)

    cls.__new__ = __new__  # type: ignore[method-assign, assignment]
    cls.__signature__ = cls.__symnas_signature__  # type: ignore[attr-defined]
    own = any(
        name in base.__dict__
        for base in cls.__mro__[:-1]
        for name in ("__getnewargs_ex__", "__getnewargs__", "__reduce__", "__reduce_ex__")
    )
    if not own:
        cls.__getnewargs_ex__ = lambda self: ((), {_EMPTY: True})  # type: ignore[attr-defined]


def _wants_spec(
    args: tuple[Any, ...], kwargs: dict[str, Any], signature: inspect.Signature
) -> bool:
    if is_declaring():
        return True
    if any(_is_lazy(value) for value in args) or any(_is_lazy(v) for v in kwargs.values()):
        return True
    defaults = [
        name
        for name, p in signature.parameters.items()
        if p.default is not p.empty and choices.contains_choice(p.default)
    ]
    if not defaults:
        return False
    try:
        given = signature.bind_partial(*args, **kwargs).arguments
    except TypeError:
        return False
    return any(name not in given for name in defaults)


def _is_lazy(value: Any) -> bool:
    if is_spec(value) or choices.is_choice(value):
        return True
    if isinstance(value, dict):
        return any(_is_lazy(v) for v in value.values())
    if isinstance(value, list | tuple):
        return any(_is_lazy(v) for v in value)
    return False


@overload
def space(function: Callable[P, Any]) -> Callable[P, Space]: ...


@overload
def space(
    *,
    input: Any = None,
    valid: Callable[[Any], bool] | None = None,
    canonical: Callable[[Any], Any] | None = None,
) -> Callable[[Callable[P, Any]], Callable[P, Space]]: ...


def space(
    function: Callable[..., Any] | None = None,
    *,
    input: Any = None,
    valid: Callable[[Any], bool] | None = None,
    canonical: Callable[[Any], Any] | None = None,
) -> Any:
    """Makes a function that returns a program with choices into one that returns a `Space`.

    Inside its body, and in functions that it calls, decorated classes return specs.

    Args:
        function: returns the program.
        input: the shape of one example, without the batch; entries may be choices.
        valid: `valid(architecture) -> bool` excludes architectures.
        canonical: `canonical(architecture) -> hashable`, equal for what is the same network.

    Raises:
        DeclarationError: a choice made in the body is not part of the program it returns.

    >>> import symnas as sn
    >>> @sn.space(input=(4,))
    ... def tiny(classes=3):
    ...     width = sn.oneof([8, 16, 24])
    ...     return sn.nn.Sequential(
    ...         sn.nn.Linear(4, width), sn.nn.ReLU(), sn.nn.Linear(width, classes))
    >>> tiny().size
    3
    """
    if function is None:
        return functools.partial(space, input=input, valid=valid, canonical=canonical)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Space:
        from symnas.searchspace.space import Space

        made: list[Any] = []
        choices._declared.append(made)
        try:
            with declaring():
                try:
                    program = function(*args, **kwargs)
                except TypeError as error:
                    if "not a Module subclass" in str(error) or "Spec" in str(error):
                        raise TypeError(
                            f"{error}. Inside an @sn.space body, decorated classes are specs: use "
                            "sn.nn instead of torch.nn for the layers around them."
                        ) from error
                    raise
        finally:
            choices._declared.pop()
        with building():
            result = Space(
                program, input=input, valid=valid, canonical=canonical, name=function.__name__
            )
            _check_all_used(result, made, function.__name__)
        return result

    wrapper.__symnas_space__ = True  # type: ignore[attr-defined]
    return wrapper


def _check_all_used(result: Space, made: list[Any], name: str) -> None:
    used = result.choice_uids
    for choice in made:
        uid = getattr(choice, "uid", None)
        if uid is not None and uid not in used:
            raise DeclarationError(
                f"{name}: the choice {choice!r} is not part of the program that the function "
                "returns, so no search would ever decide it. It was lost on the way: in an object "
                "that is not a spec, or in a value computed from it (use arithmetic or "
                "sn.derived); or it is not needed: remove it."
            )


def given(module: Any) -> Any:
    """A live module as part of a program, on purpose: copied, weights included, for each build.

    Raises:
        DeclarationError: `module` is not a torch.nn.Module.

    >>> import symnas as sn, torch
    >>> backbone = torch.nn.Linear(4, 4)
    >>> net = sn.build(sn.nn.Sequential(sn.given(backbone), sn.nn.ReLU()))
    >>> torch.equal(net[0].weight, backbone.weight)
    True
    """
    from symnas.language.given import remember

    return remember(module)


def program_of(value: Any) -> Any:
    """A program from what people pass for one: a spec, a structure, a PyGlove value."""
    from symnas.language.check import check_program

    if not isinstance(value, pg.Symbolic):
        if isinstance(value, dict):
            value = pg.Dict(value)
        elif isinstance(value, list):
            value = pg.List(value)
    check_program(value)
    if not isinstance(value, Spec | pg.Symbolic):
        raise DeclarationError(
            f"program ({value!r}) must be a spec, a choice, or a list or dict with choices."
        )
    return value
