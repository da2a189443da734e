"""Programs as JSON: plain data that names registered callables, and nothing that could run.

Each value has one form:

    None, bool, int, float, str     themselves (floats that JSON lacks: {"float": "nan"})
    list                            [...]
    dict                            {"dict": {...}}
    tuple of plain values           {"tuple": [...]}
    torch dtype                     {"dtype": "float32"}
    registered callable             {"callable": "torch.nn:ReLU"}
    spec                            {"call": "torch.nn:Linear", "args": [...], "kwargs": {...}}

Reading makes specs of callables that this process has registered; it imports and calls nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pyglove as pg
import torch

from symnas.errors import DeclarationError, StorageError
from symnas.language import registry
from symnas.language.spec import Spec, call_of, make_spec

VERSION = 1
MAX_DEPTH = 100  # PyGlove walks programs by recursion: more would end in Python's own limit
MAX_CHARACTERS = 64_000_000
MAX_NAME = 1000

_DTYPES = {
    str(value).removeprefix("torch."): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype)
}


def dump(value: Any, defaults: bool = False, depth: int = 0) -> Any:
    """A part of a program as JSON-able data; with `defaults`, default arguments are written out.

    Raises:
        StorageError: the part cannot be stored, or not so that `load` could read it back.

    >>> import symnas as sn
    >>> dump(sn.nn.Linear(4, 2))
    {'call': 'torch.nn:Linear', 'args': [], 'kwargs': {'in_features': 4, 'out_features': 2}}
    """
    if depth > MAX_DEPTH:
        raise _too_deep()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Spec):
        target, args, kwargs = call_of(value, defaults)
        return {
            "call": registry.qualified_name(target),
            "args": [dump(v, defaults, depth + 1) for v in args],
            "kwargs": {k: dump(v, defaults, depth + 1) for k, v in kwargs.items()},
        }
    if isinstance(value, dict):
        return {"dict": {_text(k): dump(v, defaults, depth + 1) for k, v in value.items()}}
    if isinstance(value, list):
        return [dump(v, defaults, depth + 1) for v in value]
    if isinstance(value, tuple):
        return {"tuple": [dump(v, defaults, depth + 1) for v in value]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, pg.Object):
        # PyGlove's own objects are written for keys and for people; they are not read back.
        fields = {str(k): dump(v, defaults, depth + 1) for k, v in value.sym_init_args.items()}
        return {"object": registry.qualified_name(type(value)), "fields": fields}
    if callable(value):
        try:
            return {"callable": registry.name_of(value)}
        except DeclarationError as error:
            raise StorageError(str(error)) from None
    raise StorageError(
        f"A value of type {type(value).__name__} ({value!r:.60}) cannot be stored in a program."
    )


def load(data: Any, depth: int = 0) -> Any:
    """The part of a program that `dump` wrote.

    Raises:
        StorageError: the data is malformed, or names a callable that is not known here.
    """
    if depth > MAX_DEPTH:
        raise _too_deep()
    if data is None or isinstance(data, bool | int | float | str):
        return data
    if isinstance(data, list):
        return [load(item, depth + 1) for item in data]
    if not isinstance(data, dict):
        raise StorageError(f"A program cannot hold a {type(data).__name__}.")
    match data:
        case {"call": str(name), "args": list(args), "kwargs": dict(kwargs)} if len(data) == 3:
            target = _lookup(name)
            values = tuple(load(item, depth + 1) for item in args)
            named = {_text(k): load(item, depth + 1) for k, item in kwargs.items()}
            try:
                return make_spec(target, values, named)
            except (TypeError, KeyError, ValueError) as error:
                raise StorageError(f"`{name}` does not take these arguments: {error}") from None
        case {"dict": dict(items)} if len(data) == 1:
            return {_text(k): load(item, depth + 1) for k, item in items.items()}
        case {"tuple": list(items)} if len(data) == 1:
            return tuple(load(item, depth + 1) for item in items)
        case {"dtype": str(name)} if len(data) == 1 and name in _DTYPES:
            return _DTYPES[name]
        case {"float": "nan" | "inf" | "-inf" as text} if len(data) == 1:
            return float(text)
        case {"callable": str(name)} if len(data) == 1:
            return _lookup(name)
        case {"object": str(name)}:
            raise StorageError(
                f"`{name[:MAX_NAME]}` is a PyGlove object of its own; only specs are read back."
            )
    keys = ", ".join(sorted(map(str, data))[:8])
    raise StorageError(f"Not a part of a program: an object with the keys {keys[:MAX_NAME]}.")


def to_text(program: Any, task: dict[str, Any], input: tuple[int, ...] | None) -> str:
    """An architecture as text."""
    return joined_text(compact(dump(program)), compact(dump(task)), input)


def joined_text(program: str, task: str, input: tuple[int, ...] | None) -> str:
    """An architecture as text, from the texts of its program and task."""
    shape = compact(input)
    return f'{{"input":{shape},"program":{program},"symnas_architecture":{VERSION},"task":{task}}}'


def compact(data: Any) -> str:
    """What `dump` made as JSON: without spaces, keys in order, so that equal data is equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def from_text(text: str) -> tuple[Any, dict[str, Any], tuple[int, ...] | None]:
    """Program, task values and input of an architecture that `to_text` wrote.

    Raises:
        StorageError: it is not such a text, or names a callable that is not known here.
    """
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        raise StorageError(f"`text` must be a string of at most {MAX_CHARACTERS} characters.")
    try:
        record = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError:
        raise _too_deep() from None
    except StorageError:
        raise
    except ValueError as error:  # not JSON, or an int of more digits than Python reads
        raise StorageError(f"Not an architecture: {error}.") from None
    if not isinstance(record, dict) or set(record) != {
        "symnas_architecture",
        "program",
        "task",
        "input",
    }:
        raise StorageError("Not an architecture: it needs a version, a program, a task, an input.")
    version = record["symnas_architecture"]
    if type(version) is not int or version != VERSION:  # True == 1, and is no version
        raise StorageError(
            f"The architecture is of version {version!r:.60}; this symnas reads version {VERSION}."
        )
    shape = record["input"]
    if shape is not None and not (
        isinstance(shape, list) and all(type(n) is int and 0 < n < 2**63 for n in shape)
    ):
        raise StorageError(f"The input of an architecture ({shape!r:.60}) must be a list of sizes.")
    task = load(record["task"])
    if not isinstance(task, dict):
        raise StorageError("The task of an architecture must be a dict.")
    return _program(record["program"]), task, None if shape is None else tuple(shape)


def _program(data: Any) -> Any:
    from symnas.language.symbolize import program_of

    try:
        return program_of(load(data))
    except StorageError:
        raise
    except DeclarationError as error:
        raise StorageError(f"Not the program of an architecture: {error}") from None
    except RecursionError:
        raise _too_deep() from None


def content_key(program: Any, task: dict[str, Any], input: tuple[int, ...] | None) -> str:
    """32 hex digits, equal for equal programs, task values and input in every process.

    Arguments that have their default value count as if they were given.
    """
    return joined_key(compact(dump(program, defaults=True)), compact(dump(task)), input)


def joined_key(program: str, task: str, input: tuple[int, ...] | None) -> str:
    """The content key, from the texts of the program (defaults written out) and the task."""
    text = f"[{program},{task},{compact(input)}]"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _lookup(name: str) -> Any:
    if len(name) > MAX_NAME:
        raise StorageError(f"`{name[:60]}...` is no name of a callable: it is too long.")
    return registry.lookup(name)


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise StorageError(f"The key {key!r:.60} of a dict must be a string.")
    return key


def _too_deep() -> StorageError:
    return StorageError(
        f"The program is nested more than {MAX_DEPTH} deep. Put layers beside one another, in "
        "one Sequential or list, instead of each inside the one before."
    )


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise StorageError(f"{text[:60]} is not finite; such floats are {{'float': 'inf'}}.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise StorageError("A key stands twice in one object.")
    return found


def _no_constant(name: str) -> Any:
    raise StorageError(f"{name} is not JSON; floats are written as {{'float': ...}}.")
