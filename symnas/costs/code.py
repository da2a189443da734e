"""A digest of code, so that what was measured is not mistaken for what was edited since."""

from __future__ import annotations

import hashlib
import sys
import types
from typing import Any

# What these define is known by their versions.
_LIBRARIES = {"torch", "torchvision", "numpy", "pyglove", "attr", "attrs", "builtins"}
_SKIPPED = ("__doc__", "__module__", "__firstlineno__")
_OWN = ("symnas.language.", "symnas.costs.model.", "symnas.costs.comparison.")


def code_digest(*objects: Any) -> str:
    """16 hex digits that change with the byte code of classes and functions, not with comments.

    Follows base classes, and the functions and classes that are named in the code, outside of
    torch, numpy and the standard library. What is reached only through data is not seen.

    >>> one, same, other = (lambda x: x + 1), (lambda y: y + 1), (lambda x: x + 2)
    >>> code_digest(one) == code_digest(same), code_digest(one) == code_digest(other)
    (True, False)
    """
    digest = hashlib.blake2b(digest_size=8)
    _Walk(digest).visit_all(objects)
    return digest.hexdigest()


class _Walk:
    def __init__(self, digest: Any) -> None:
        self._digest = digest
        self._seen: set[int] = set()

    def visit_all(self, objects: Any) -> None:
        for value in objects:
            self.visit(value)

    def visit(self, value: Any) -> None:
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        elif isinstance(value, property):
            self.visit_all([value.fget])
            return
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, type) and not _foreign(value):
            self._class(value)

    def _class(self, cls: type) -> None:
        self._feed(f"class {cls.__qualname__}")
        for base in cls.__mro__:
            if _foreign(base):
                continue
            for name, member in sorted(vars(base).items()):
                if name.startswith("__symnas") or name in _SKIPPED:
                    continue
                if _is_plain(member):
                    self._feed(f"{name}={member!r}")
                else:
                    self.visit(member)

    def _function(self, function: types.FunctionType) -> None:
        if not _foreign(function):
            self._feed(_bytecode(function.__code__, function.__doc__))
            self._feed(repr([v for v in function.__defaults__ or () if _is_plain(v)]))
            named = [function.__globals__.get(name) for name in sorted(_names(function.__code__))]
            self.visit_all(v for v in named if isinstance(v, types.FunctionType | type))
        for cell in function.__closure__ or ():  # also of wrappers: they hold what they wrap
            try:
                held = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if _is_plain(held):
                self._feed(repr(held))
            elif isinstance(held, types.FunctionType | type):
                self.visit(held)

    def _feed(self, text: str) -> None:
        self._digest.update(text.encode() + b"\0")


def _foreign(value: Any) -> bool:
    module = getattr(value, "__module__", None) or "builtins"
    top = module.partition(".")[0]
    if top == "__main__":
        return False
    return top in _LIBRARIES or top in sys.stdlib_module_names or f"{module}.".startswith(_OWN)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _bytecode(code: types.CodeType, doc: str | None = None) -> str:
    constants = [_constant(v) for v in code.co_consts if not isinstance(v, str) or v != doc]
    return repr((code.co_code, code.co_names, code.co_argcount, constants))


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return _bytecode(value)
    if isinstance(value, frozenset):  # its order differs between processes
        return repr(sorted(map(repr, value)))
    return repr(value)


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            found |= _names(value)
    return found
