"""Which callables a stored program may name.

A program is data: it is written as names of callables and their arguments. Reading it back must
never import a module or call anything that its author did not mean to be called, so a name is
looked up here and nowhere else: what this process has declared (by `sn.symbolize`, `sn.spec` or
`sn.register`), and a closed list of public torch names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from symnas.errors import DeclarationError, StorageError

F = TypeVar("F", bound=Callable[..., Any])

_registered: dict[str, Callable[..., Any]] = {}

# Elementwise functions of torch that people pass as arguments ("activation=torch.relu").
_TORCH_FUNCTIONS = ("relu", "sigmoid", "tanh", "celu", "selu", "rrelu", "prelu", "sin", "cos")


def qualified_name(target: Callable[..., Any]) -> str:
    """The name `module:qualname` of a callable.

    Raises:
        DeclarationError: the callable has no importable name (a lambda, a local function of
            another function, a bound method of an object).

    >>> import torch
    >>> qualified_name(torch.nn.Conv2d)
    'torch.nn:Conv2d'
    """
    public = _public_torch_name(target)
    if public is not None:
        return public
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", None)
    if not module or not name or "<lambda>" in name:
        raise DeclarationError(
            f"The callable {target!r} has no name by which a stored program could find it again. "
            "Define it with `def` or `class` at the top of a module."
        )
    return f"{module}:{name}"


def register(target: F) -> F:
    """Lets programs name `target`, a class or function at the top of a module.

    `sn.symbolize` and `sn.spec` register what they are given; this is for callables that only
    appear as arguments (an activation, a normalisation).

    >>> import symnas as sn
    >>> @sn.register
    ... def swish(x):
    ...     return x * x.sigmoid()
    """
    _registered[qualified_name(target)] = target
    return target


def is_registered(target: Callable[..., Any]) -> bool:
    """Whether a program may name `target`."""
    if _public_torch_name(target) is not None:
        return True
    try:
        return _registered.get(qualified_name(target)) is target
    except DeclarationError:
        return False


def name_of(target: Callable[..., Any]) -> str:
    """The name under which a registered callable is stored.

    Raises:
        DeclarationError: it is not registered.
    """
    name = qualified_name(target)
    if not is_registered(target):
        raise DeclarationError(
            f"`{name}` is not known to symnas, so a program that names it could not be stored. "
            "Decorate it with @sn.symbolize (a class that is part of the program) or @sn.register "
            "(a function or class that is passed as an argument)."
        )
    return name


def lookup(name: str) -> Callable[..., Any]:
    """The callable that is stored as `name`; imports nothing.

    Raises:
        StorageError: nothing of that name is registered in this process.

    >>> lookup("torch.nn:Linear")
    <class 'torch.nn.modules.linear.Linear'>
    """
    found = _registered.get(name)
    if found is not None:
        return found
    module, _, qualname = name.partition(":")
    candidate: Any = None
    if module == "torch.nn" and qualname.isidentifier():
        candidate = getattr(torch.nn, qualname, None)
    elif module == "torch.nn.functional" and qualname.isidentifier():
        candidate = getattr(torch.nn.functional, qualname, None)
    elif module == "torch" and qualname in _TORCH_FUNCTIONS:
        candidate = getattr(torch, qualname)
    if candidate is not None and _public_torch_name(candidate) == name:
        return candidate  # type: ignore[no-any-return]
    raise StorageError(
        f"`{name}` is not known here. If the program is yours, import the module that declares it "
        f"({module or 'unknown'}) and load again; symnas never imports what a file names."
    )


def _public_torch_name(target: object) -> str | None:
    if not callable(target):
        return None
    name = getattr(target, "__name__", None)
    if not isinstance(name, str) or name.startswith("_"):
        return None
    if inspect.isclass(target):
        is_layer = issubclass(target, torch.nn.Module)
        if is_layer and getattr(torch.nn, name, None) is target:
            return f"torch.nn:{name}"
        return None
    if name in _TORCH_FUNCTIONS and getattr(torch, name, None) is target:
        return f"torch:{name}"
    functional = getattr(torch.nn.functional, name, None)
    module = getattr(target, "__module__", "") or ""
    if functional is target and (
        module.startswith("torch.nn.functional") or module == "torch._C._nn"
    ):
        return f"torch.nn.functional:{name}"
    return None
