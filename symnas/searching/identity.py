"""What makes two tasks, algorithms or functions the same one, as JSON that a study records.

An address in memory is different in every process and a line number moves with every edit above
it, so neither may count; a changed body or a changed captured value must.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import inspect
import re
import textwrap
import types
from collections.abc import Callable
from typing import Any

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def text_of(value: object) -> str:
    """`repr` without addresses in memory.

    >>> text_of(object())
    '<object object>'
    """
    return _ADDRESS.sub("", repr(value))


def describe_task(task: Any) -> dict[str, Any]:
    """The identity of a task: what its `describe()` says, or of a plain callable its code.

    Two plain functions are the same task if their bodies are equal (comments and layout aside)
    and so are the defaults and outer variables that they hold.

    >>> describe_task(lambda architecture: 1.0) == describe_task(lambda architecture: 2.0)
    False
    """
    describe = getattr(task, "describe", None)
    if callable(describe):
        return {"task": type(task).__qualname__, **describe()}
    return describe_callable(task)


def describe_callable(function: Callable[..., Any]) -> dict[str, Any]:
    """The identity of a callable: its name, its code and the plain values that it holds."""
    if isinstance(function, functools.partial):
        return {
            "partial": describe_callable(function.func),
            "args": [_held(value) for value in function.args],
            "kwargs": {name: _held(value) for name, value in function.keywords.items()},
        }
    if isinstance(function, types.MethodType):
        return {**describe_callable(function.__func__), "self": _held(function.__self__)}
    if isinstance(function, types.FunctionType):
        return {"function": function.__qualname__, "code": _code(function), **_captured(function)}
    if isinstance(function, type) or not hasattr(type(function), "__call__"):  # noqa: B004
        return {"callable": text_of(function)}
    call = type(function).__call__
    described = {"object": type(function).__qualname__, "state": _held(function)}
    return described | ({"code": _code(call)} if isinstance(call, types.FunctionType) else {})


def _captured(function: types.FunctionType) -> dict[str, Any]:
    held: dict[str, Any] = {}
    if function.__defaults__:
        held["defaults"] = [_held(value) for value in function.__defaults__]
    if function.__kwdefaults__:
        held["kwdefaults"] = {name: _held(v) for name, v in function.__kwdefaults__.items()}
    if function.__closure__:
        names = function.__code__.co_freevars
        held["outer"] = {
            name: _held(cell.cell_contents)
            for name, cell in zip(names, function.__closure__, strict=True)
            if cell != types.CellType()
        }
    return held


def _held(value: Any) -> Any:
    """A value as JSON; of an object only what is plain, since its `repr` may say anything."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_held(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): _held(entry) for key, entry in value.items()}
    if isinstance(value, types.FunctionType):
        return {"function": value.__qualname__, "code": _code(value)}
    if isinstance(value, type):
        return value.__qualname__
    if getattr(type(value), "__attrs_attrs__", None) is not None:
        return text_of(value)
    state = {
        name: entry
        for name, entry in getattr(value, "__dict__", {}).items()
        if entry is None or isinstance(entry, bool | int | float | str)
    }
    return {"object": type(value).__qualname__, **state}


def _code(function: types.FunctionType) -> str:
    text = _bytecode(function.__code__)
    if function.__name__ != "<lambda>":  # its source would be the whole line around it
        with contextlib.suppress(OSError, TypeError, SyntaxError):  # none, as in a session
            text = ast.dump(ast.parse(textwrap.dedent(inspect.getsource(function))))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _bytecode(code: types.CodeType) -> str:
    return repr((code.co_code, code.co_names, [_constant(value) for value in code.co_consts]))


def _constant(value: object) -> str:
    if isinstance(value, types.CodeType):
        return _bytecode(value)
    if isinstance(value, frozenset):  # strings in it come in another order in each process
        return repr(sorted(map(repr, value)))
    return repr(value)
