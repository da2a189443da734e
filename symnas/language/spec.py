"""Specs: a callable and its arguments, not yet called.

A spec is a PyGlove functor, one class per callable, so that programs keep PyGlove's `rebind`,
`clone`, `query`, `diff` and `to_html`. `build` turns a spec into what its callable returns.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pyglove as pg

from symnas.errors import DeclarationError
from symnas.language import registry

# Inside the body of an `@sn.space` function, decorated classes return specs.
_declaring: contextvars.ContextVar[bool] = contextvars.ContextVar("declaring", default=False)


class Spec(pg.Functor):  # type: ignore[misc]
    """Base class of all specs: what to call, with what, without calling it yet."""

    target: Callable[..., Any]
    signature: inspect.Signature

    # PyGlove would treat a value assigned to an attribute as an edit of a running program.
    allow_symbolic_assignment = False

    def _on_bound(self) -> None:
        super()._on_bound()
        self._check()

    def _on_change(self, field_updates: Any) -> None:
        super()._on_change(field_updates)
        self._check()  # `rebind` may bring in what could not be stored

    def _check(self) -> None:
        from symnas.language.check import check_arguments

        check_arguments(self)


_classes: dict[Callable[..., Any], type[Spec]] = {}


def spec_class(
    target: Callable[..., Any], signature: inspect.Signature | None = None
) -> type[Spec]:
    """The spec class of a callable, made at first use."""
    found = _classes.get(target)
    if found is not None:
        return found
    if signature is None:
        signature = signature_of(target)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            signature = _without_positional_only(signature)
            break

    def call(*args: Any, **kwargs: Any) -> Any:
        return target(*args, **kwargs)

    name = getattr(target, "__name__", type(target).__name__)
    call.__name__ = call.__qualname__ = name
    module = getattr(target, "__module__", None)
    call.__module__ = module if module in sys.modules else __name__  # PyGlove looks it up
    call.__doc__ = None
    call.__signature__ = signature  # type: ignore[attr-defined]
    made: type[Spec] = pg.symbolic.functor_class(call, base_class=Spec)
    made.target = staticmethod(target)
    made.signature = signature
    _classes[target] = made
    return made


def signature_of(target: Callable[..., Any]) -> inspect.Signature:
    """The signature of a class's constructor or of a function, without annotations."""
    patched = getattr(target, "__symnas_signature__", None)
    owner = target.__dict__.get("__symnas_signature__") if inspect.isclass(target) else patched
    if owner is not None:
        return owner  # type: ignore[no-any-return]
    try:
        if inspect.isclass(target):
            signature = inspect.signature(target.__init__)
            parameters = list(signature.parameters.values())[1:]
        else:
            signature = inspect.signature(target)
            parameters = list(signature.parameters.values())
    except (TypeError, ValueError):
        parameters = [
            inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
            inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
        ]
    empty = inspect.Parameter.empty
    return inspect.Signature([p.replace(annotation=empty) for p in parameters])


def _without_positional_only(signature: inspect.Signature) -> inspect.Signature:
    parameters = [
        p.replace(kind=p.POSITIONAL_OR_KEYWORD) if p.kind is p.POSITIONAL_ONLY else p
        for p in signature.parameters.values()
    ]
    return inspect.Signature(parameters)


def make_spec(target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Spec:
    """A spec of `target` with these arguments; the arguments are checked at once."""
    from symnas.language.check import clean
    from symnas.language.choices import contains_choice, fresh

    cls = spec_class(target)
    name = cls.__name__
    try:
        bound = cls.signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    cleaned_args = [
        clean(value, f"{name}({_position_name(cls, i)})") for i, value in enumerate(args)
    ]
    cleaned = {key: clean(value, f"{name}({key})") for key, value in kwargs.items()}
    for key, parameter in cls.signature.parameters.items():
        # A choice in a default argument is a new decision for each object that uses the default.
        default = parameter.default
        if (
            key not in bound.arguments
            and default is not parameter.empty
            and contains_choice(default)
        ):
            cleaned[key] = fresh(default)
    return cls(*cleaned_args, **cleaned)


def _position_name(cls: type[Spec], index: int) -> str:
    names = list(cls.signature.parameters)
    return names[index] if index < len(names) else f"argument {index}"


def is_spec(value: object) -> bool:
    """Whether `value` is a spec."""
    return isinstance(value, Spec)


Path = tuple[Any, ...]


def layout(spec: Spec, defaults: bool = False) -> tuple[list[tuple[Path, Any]], dict[str, Any]]:
    """How a spec's arguments are passed: those by position with their path, the others by name.

    Arguments are passed by name where the signature allows it. With `defaults`, the signature's
    own defaults are included.
    """
    values = spec.sym_init_args
    given = spec.specified_args
    parameters = spec.signature.parameters
    starred = next((p.name for p in parameters.values() if p.kind is p.VAR_POSITIONAL), None)
    # What stands before a *args that is given must come by position.
    by_position = starred is not None and len(values.get(starred) or ()) > 0
    args: list[tuple[Path, Any]] = []
    kwargs: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            args.extend(((name, i), v) for i, v in enumerate(values.get(name) or ()))
            by_position = False
        elif parameter.kind is parameter.VAR_KEYWORD:
            continue
        elif by_position:
            args.append(((name,), values[name]))
        elif name in values and (defaults or name in given) and values[name] != pg.MISSING_VALUE:
            kwargs[name] = values[name]
    kwargs.update((k, v) for k, v in values.items() if k not in parameters)
    return args, kwargs


def call_of(
    spec: Spec, defaults: bool = False
) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    """What a spec calls: the callable, its positional and its keyword arguments."""
    args, kwargs = layout(spec, defaults)
    return spec.target, [value for _, value in args], kwargs


def spec(target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A spec of anything that can be called: a class or function that no one here wrote.

    Raises:
        DeclarationError: an argument cannot be stored, or holds a choice where it would be lost.

    >>> import torch, symnas as sn
    >>> layer = sn.spec(torch.nn.Linear, 4, sn.oneof([2, 3]))
    >>> sn.Space(layer).size
    2
    """
    if isinstance(target, _Lazy):
        target = target.target
    if not callable(target):
        raise DeclarationError(f"sn.spec: `target` ({target!r}) must be a class or a function.")
    from symnas.language.check import refuse_choice_defaults

    refuse_choice_defaults(target)
    registry.register(target)
    return make_spec(target, args, kwargs)


class _Lazy:
    """`sn.nn.Linear`: called, it gives a spec; as an argument it stands for `torch.nn.Linear`."""

    def __init__(self, target: Callable[..., Any]) -> None:
        self.target = target
        self.__name__ = getattr(target, "__name__", repr(target))
        self.__doc__ = target.__doc__
        self.__wrapped__ = target

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return make_spec(self.target, args, kwargs)

    def __repr__(self) -> str:
        return f"symnas.nn.{self.__name__}"


def build(program: Any) -> Any:
    """Instantiates a program: calls every spec in it, innermost first.

    Lists and dicts of specs give lists and dicts. Each call makes fresh objects, so two builds
    share no weights.

    Raises:
        DeclarationError: a choice is left in the program.

    >>> import symnas as sn
    >>> sn.build(sn.nn.Linear(4, 2))
    Linear(in_features=4, out_features=2, bias=True)
    """
    with building():
        return _build(program)


def _build(value: Any) -> Any:
    if isinstance(value, Spec):
        target, args, kwargs = call_of(value)
        return target(*[_build(v) for v in args], **{k: _build(v) for k, v in kwargs.items()})
    if isinstance(value, pg.hyper.HyperValue | pg.hyper.DerivedValue) or _is_open(value):
        raise DeclarationError(
            f"The program still has a choice at `{getattr(value, 'sym_path', '')}`: {value!r}. "
            "Pick an architecture first: sn.Space(program).decode(row).build()."
        )
    if isinstance(value, dict):
        return {k: _build(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_build(v) for v in value]
    return value


def _is_open(value: Any) -> bool:
    from symnas.language.choices import is_choice

    return is_choice(value)


@contextlib.contextmanager
def declaring() -> Iterator[None]:
    """Decorated classes return specs within."""
    token = _declaring.set(True)
    try:
        yield
    finally:
        _declaring.reset(token)


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Decorated classes make ordinary instances within."""
    token = _declaring.set(False)
    try:
        yield
    finally:
        _declaring.reset(token)


def is_declaring() -> bool:
    """Whether the body of an `@sn.space` function is running."""
    return _declaring.get()
