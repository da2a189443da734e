"""What may stand in a program, and what is said of anything else, at declaration."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import attrs
import numpy as np
import pyglove as pg
import torch

from symnas.errors import DeclarationError
from symnas.language import registry
from symnas.language.choices import contains_choice, is_choice

_PLAIN = (bool, int, float, str, torch.dtype)


def clean(value: Any, path: str) -> Any:
    """`value` as it is stored in a program, checked all the way down.

    Numpy's scalars become Python's; `sn.nn.ReLU` (not called) becomes `torch.nn.ReLU`.

    Raises:
        DeclarationError: with the path and the remedy, for what could not be stored or would lose
            a choice.
    """
    from symnas.language.spec import Spec, _Lazy

    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, Spec) or is_choice(value):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, _Lazy):
        return value.target
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise DeclarationError(f"{path}: the key {key!r} of a dict must be a string.")
        return {k: clean(v, f"{path}[{k!r}]") for k, v in value.items()}
    if isinstance(value, list | range):
        return [clean(v, f"{path}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, tuple):
        if _holds_choice(value):
            raise DeclarationError(
                f"{path}: a choice or spec inside a tuple would be lost. Write a list: "
                f"[...] instead of (...)."
            )
        return tuple(clean(v, f"{path}[{i}]") for i, v in enumerate(value))
    if isinstance(value, torch.nn.Module):
        raise DeclarationError(_live_module(value, path))
    if inspect.isroutine(value) or inspect.isclass(value):
        try:
            registry.name_of(value)
        except DeclarationError as error:
            raise DeclarationError(f"{path}: {error}") from None
        return value
    if isinstance(value, pg.Object):
        return value  # PyGlove's own symbolic objects keep their choices
    lost = _attribute_with_choice(value)
    if lost is not None:
        raise DeclarationError(
            f"{path}: the choice in `{lost}` of a {type(value).__name__} would be lost: PyGlove "
            "does not look into plain objects and dataclasses. Pass the choice as an argument of "
            "its own, or decorate the class with @sn.symbolize."
        )
    raise DeclarationError(
        f"{path}: a value of type {type(value).__name__} ({_clip(value)}) cannot be stored in a "
        "program. Allowed: None, bool, int, float, str, torch.dtype, lists, dicts, tuples of plain "
        "values, specs, and functions or classes made known by @sn.symbolize or @sn.register."
    )


def check_arguments(spec: Any) -> None:
    """Checks a spec's arguments again, after PyGlove's `rebind` has changed them."""
    for name, value in spec.sym_init_args.items():
        if isinstance(value, pg.Symbolic):
            if isinstance(value, dict | list):
                clean(value, f"{type(spec).__name__}({name})")
        elif not (value is None or isinstance(value, _PLAIN)) and value != pg.MISSING_VALUE:
            clean(value, f"{type(spec).__name__}({name})")


def check_program(program: Any) -> None:
    """Refuses a program that is a live module, or that has one or a lost choice in it."""

    def visit(value: Any, path: str) -> None:
        if isinstance(value, pg.Object):
            for key, child in value.sym_init_args.items():
                visit(child, f"{path}.{key}" if path else str(key))
        elif isinstance(value, dict):
            for key, child in value.items():
                visit(child, f"{path}.{key}" if path else str(key))
        elif isinstance(value, list):
            for index, child in enumerate(value):
                visit(child, f"{path}[{index}]")
        elif isinstance(value, tuple) and _holds_choice(value):
            raise DeclarationError(
                f"{path or 'program'}: a choice or spec inside a tuple would be lost. Write a list."
            )
        elif isinstance(value, torch.nn.Module):
            raise DeclarationError(_live_module(value, path or "program"))
        elif not isinstance(value, type) and not callable(value):
            lost = _attribute_with_choice(value)
            if lost is not None:
                raise DeclarationError(
                    f"{path or 'program'}: the choice in `{lost}` of a {type(value).__name__} "
                    "would be lost: PyGlove does not look into plain objects and dataclasses. "
                    "Use a dict, or a class decorated with @sn.symbolize."
                )

    visit(program, "")


def refuse_choice_defaults(target: Any) -> None:
    """Raises if an undecorated class has a choice among its default arguments."""
    from symnas.language.spec import signature_of

    if inspect.isclass(target) and "__symnas_signature__" in target.__dict__:
        return
    for name, parameter in signature_of(target).parameters.items():
        default = parameter.default
        if default is not parameter.empty and _contains_anywhere(default):
            raise DeclarationError(
                f"{target.__name__}: the default of `{name}` is a choice, but {target.__name__} is "
                "not decorated, so the choice would reach its code as it is. Decorate it with "
                "@sn.symbolize, or pass the choice as an argument."
            )


def _live_module(module: torch.nn.Module, path: str) -> str:
    lost = _attribute_with_choice(module)
    if lost is not None:
        return (
            f"{path}: the choice in the attribute `{lost}` of a live {type(module).__name__} would "
            f"be lost. Make a spec instead: sn.nn.{type(module).__name__}(...) for torch's own "
            "layers, or decorate the class with @sn.symbolize."
        )
    defaults = _default_with_choice(module)
    if defaults is not None:
        owner, name = defaults
        return (
            f"{path}: the default of `{name}` in the undecorated class {owner} is a choice, which "
            f"its code would take as it is. Decorate {owner} with @sn.symbolize."
        )
    return (
        f"{path}: a live module ({type(module).__name__}) in a program: all trials would share its "
        f"weights. Make a spec instead (sn.nn.{type(module).__name__}(...), or @sn.symbolize on the "
        "class), or say that it is meant: sn.given(module), which is copied for each build."
    )


def _default_with_choice(module: torch.nn.Module) -> tuple[str, str] | None:
    for part in module.modules():
        init = type(part).__init__
        for name, parameter in inspect.signature(init).parameters.items():
            if parameter.default is not parameter.empty and _contains_anywhere(parameter.default):
                return type(part).__name__, name
    return None


def _holds_choice(value: Any) -> bool:
    from symnas.language.spec import Spec

    if isinstance(value, tuple | list):
        return any(_holds_choice(v) for v in value)
    return isinstance(value, Spec) or _contains_anywhere(value)


def _contains_anywhere(value: Any) -> bool:
    return contains_choice(value) or _attribute_with_choice(value) is not None


def _attribute_with_choice(value: Any, depth: int = 0) -> str | None:
    """The first attribute of a plain object that holds a choice, such as `layers.0.slope`."""
    from symnas.language.spec import Spec

    if value is None or isinstance(value, (*_PLAIN, torch.Tensor, pg.Symbolic, type)) or depth > 4:
        return None
    if inspect.isroutine(value) or inspect.ismodule(value):
        return None
    if isinstance(value, torch.nn.Module):
        for name, part in value.named_modules():
            for key, attribute in vars(part).items():
                if not key.startswith("_") and contains_choice(attribute):
                    return f"{name}.{key}" if name else key
        return None
    if dataclasses.is_dataclass(value):
        items = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    elif attrs.has(type(value)):
        items = {f.name: getattr(value, f.name, None) for f in attrs.fields(type(value))}
    elif isinstance(value, list | tuple | set | frozenset):
        items = {str(i): v for i, v in enumerate(value)}
    elif isinstance(value, dict):
        items = {str(k): v for k, v in value.items()}
    else:
        items = dict(getattr(value, "__dict__", {}))
    for key, item in items.items():
        if isinstance(item, Spec) or contains_choice(item):
            return key
        inner = _attribute_with_choice(item, depth + 1)
        if inner is not None:
            return f"{key}.{inner}"
    return None


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
