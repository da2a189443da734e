"""What a task is, as plain data: equal for equal tasks, in every process."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import textwrap
from typing import Any

import attrs
import pyglove as pg

from symnas.language.choices import contains_choice

_DEPTH = 6


def describe(value: Any, depth: int = 0) -> Any:
    """`value` as JSON-able data that is the same in every process.

    Functions are described by their name and a hash of their source without comments and
    formatting, objects by their type and attributes, choices by their candidates.

    >>> describe({"sizes": (1, 2.5), "kind": None})
    {'sizes': [1, 2.5], 'kind': None}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth > _DEPTH:
        return _type_name(value)
    deeper = functools.partial(describe, depth=depth + 1)
    if isinstance(value, dict):
        return {str(key): deeper(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [deeper(child) for child in value]
    if isinstance(value, pg.hyper.Float):
        scale = value.scale or "linear"
        return {"float": [value.min_value, value.max_value], "scale": scale}
    if isinstance(value, pg.hyper.Choices):
        picked = {} if isinstance(value, pg.hyper.OneOf) else {"choose": value.num_choices}
        return {"choice": [deeper(candidate) for candidate in value.candidates], **picked}
    if isinstance(value, pg.Object):
        arguments = {k: v for k, v in value.sym_init_args.items() if k not in ("uid", "hints")}
        return {"type": _type_name(value), **deeper(arguments)}
    if hasattr(value, "digest"):
        return value.digest
    if isinstance(value, functools.partial):
        return {"partial": deeper(value.func), "args": deeper(value.args), **deeper(value.keywords)}
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        closure = {"closure": deeper(cells)} if cells else {}
        return {
            "function": f"{value.__module__}:{value.__qualname__}",
            "source": _source(value),
            **closure,
        }
    if inspect.isclass(value) or inspect.isbuiltin(value):
        return f"{value.__module__}:{value.__qualname__}"
    if attrs.has(type(value)):
        fields = {f.name: getattr(value, f.name) for f in attrs.fields(type(value))}
        return {"type": _type_name(value), **deeper(fields)}
    if hasattr(value, "__array__"):
        return hashlib.sha256(memoryview(value.__array__().tobytes())).hexdigest()[:32]
    held = {k: v for k, v in getattr(value, "__dict__", {}).items() if not k.startswith("__")}
    return {"type": _type_name(value), **deeper(held)} if held else _type_name(value)


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _source(function: Any) -> str:
    # Several lambdas may share their lines, and those may not stand alone: the byte code has to do,
    # as for what was typed into a prompt.
    try:
        if function.__name__ == "<lambda>":
            raise OSError
        text = textwrap.dedent(inspect.getsource(function))
        text = ast.unparse(ast.parse(text))
    except (OSError, TypeError, SyntaxError):
        code = function.__code__
        text = f"{code.co_code.hex()} {code.co_names} {code.co_varnames}"
        text += "".join(repr(c) for c in code.co_consts if not inspect.iscode(c))
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """A value of an architecture without PyGlove's containers."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    return [plain(child) for child in value] if isinstance(value, list) else value


def short(value: Any) -> str:
    """An argument in few words, for the repr of a task."""
    if contains_choice(value):
        return json.dumps(describe(value))
    if isinstance(value, tuple):
        return f"({', '.join(map(short, value))})"
    return getattr(value, "__name__", None) or repr(value)


def changes(arguments: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    """`name=value` of each argument that is not its default."""
    return [
        f"{name}={short(value)}"
        for name, value in arguments.items()
        if contains_choice(value) or value != defaults[name]
    ]
