"""An architecture as source text that runs without symnas.

The text imports what is installed anyway (torch, other packages) and holds the rest: the source
of the classes and functions that the program names, without symnas's decorators, and of what they
use in turn, in the order in which Python needs it.
"""

from __future__ import annotations

import keyword
import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import pyglove as pg
import torch

from symnas.architecture.collecting import Collector, Entity
from symnas.architecture.rewriting import imports_of, is_definition, name_all, text_of
from symnas.errors import StorageError
from symnas.language.spec import Spec, call_of

WIDTH = 100


def to_python(program: Any) -> str:
    """Source text that defines `model()`, which returns the network with fresh weights.

    Classes and functions are copied from `__main__`, from modules that are not installed, from
    those that import symnas, and from symnas's own building blocks, with all that they use;
    where two modules use one name for different things, one of the things gets another name.

    Raises:
        StorageError: a class has no source to be found (typed at a prompt), uses symnas in its
            methods, or the program has a module that was given by `sn.given`.

    >>> import symnas as sn
    >>> text = sn.Architecture(sn.nn.Linear(4, 2)).to_python()
    >>> print(text[text.index("def model"):text.index("if __name__")].strip())
    def model():
        return torch.nn.Linear(in_features=4, out_features=2)
    """
    collector = Collector()
    paths = {target: collector.target(target) for target in _callables(program)}
    if any(isinstance(part, torch.dtype) for part in _parts_of(program)):
        paths[torch.nn.Identity] = collector.target(torch.nn.Identity)  # for `import torch`
    names = name_all(collector)
    body = _Writer(paths, names).expression(program, 4, len("    return "))
    head = [
        _docstring(collector.packages),
        "from __future__ import annotations",
        imports_of(collector, names),
    ]
    text = "\n\n".join(part for part in head if part) + "\n"
    above = True  # what comes next stands apart
    for unit in collector.ordered():
        apart = above or is_definition(unit)
        text += ("\n\n" if apart else "") + text_of(unit, names) + "\n"
        above = is_definition(unit)
    text += f"\n\ndef model():\n    return {body}\n"
    text += '\n\nif __name__ == "__main__":\n    print(model())\n'
    compile(text, "<architecture>", "exec")  # a text that does not parse must not leave here
    return text


class _Writer:
    """Writes values as expressions, with the names that callables have in the text."""

    def __init__(
        self, paths: dict[Callable[..., Any], tuple[Entity, str]], names: dict[Entity, str]
    ) -> None:
        self.paths = paths
        self.names = names

    def expression(self, value: Any, indent: int, used: int) -> str:
        """A value as code: on one line where it fits, else one argument a line."""
        text = self._flat(value)
        if used + len(text) <= WIDTH - 1:
            return text
        head, parts, tail = self._parts(value)
        if not parts:
            return text
        inner = indent + 4
        lines = [
            " " * inner + key + self.expression(part, inner, inner + len(key)) + ","
            for key, part in parts
        ]
        return head + "\n" + "\n".join(lines) + "\n" + " " * indent + tail

    def _flat(self, value: Any) -> str:
        head, parts, tail = self._parts(value)
        inside = ", ".join(key + self._flat(part) for key, part in parts)
        comma = "," if isinstance(value, tuple) and len(parts) == 1 else ""
        return head + inside + comma + tail

    def _parts(self, value: Any) -> tuple[str, list[tuple[str, Any]], str]:
        if isinstance(value, Spec):
            target, args, kwargs = call_of(value)
            parts: list[tuple[str, Any]] = [("", v) for v in args]
            parts += [(f"{k}=", v) for k, v in kwargs.items() if _is_name(k)]
            others = {k: v for k, v in kwargs.items() if not _is_name(k)}
            if others:
                parts.append(("**", others))
            return f"{self._name(target)}(", parts, ")"
        if isinstance(value, dict):
            return "{", [(f"{k!r}: ", v) for k, v in value.items()], "}"
        if isinstance(value, list):
            return "[", [("", v) for v in value], "]"
        if isinstance(value, tuple):
            return "(", [("", v) for v in value], ")"
        if isinstance(value, torch.dtype):
            return str(value), [], ""
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")', [], ""
        if value is None or isinstance(value, bool | int | float | str):
            return repr(value), [], ""
        if isinstance(value, pg.Object) or not callable(value):
            raise StorageError(f"A {type(value).__name__} cannot be written as source.")
        return self._name(value), [], ""

    def _name(self, target: Callable[..., Any]) -> str:
        entity, path = self.paths[target]
        return self.names[entity] + path


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


def _callables(program: Any) -> Iterator[Callable[..., Any]]:
    for part in _parts_of(program):
        if isinstance(part, Spec):
            yield call_of(part)[0]
        elif callable(part) and not isinstance(part, pg.Symbolic | torch.dtype):
            yield part


def _parts_of(program: Any) -> Iterator[Any]:
    """All values in a program, itself first."""
    yield program
    inner: list[Any] = []
    if isinstance(program, Spec):
        _, args, kwargs = call_of(program)
        inner = [*args, *kwargs.values()]
    elif isinstance(program, dict):
        inner = list(program.values())
    elif isinstance(program, list | tuple):
        inner = list(program)
    for part in inner:
        yield from _parts_of(part)


def _docstring(packages: set[str]) -> str:
    needs = []
    for package in sorted(packages - set(sys.stdlib_module_names)):
        name, version = _distribution(package)
        needs.append(f"{name} {version}" if version else name)
    text = textwrap.fill(f"Needs: {', '.join(needs) or 'nothing but Python'}.", WIDTH)
    return (
        '"""A network found by architecture search. `model()` returns it with fresh weights.\n\n'
        f'{text}\n"""'
    )


def _distribution(package: str) -> tuple[str, str | None]:
    """The name under which pip knows a package, such as scikit-learn for sklearn."""
    try:
        return package, metadata.version(package)
    except metadata.PackageNotFoundError:
        names = metadata.packages_distributions().get(package)
        return (names[0], metadata.version(names[0])) if names else (package, None)
