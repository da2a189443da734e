"""What the source of a module defines at its top, and which modules are copied into a text."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import attrs

from symnas.architecture.names import bound_by
from symnas.errors import StorageError

_CORE = ("torch", "numpy", "builtins")


@attrs.frozen
class Imported:
    """One name of an import: `import origin [as name]`, or `from origin import attr [as name]`."""

    origin: str
    attr: str | None
    alias: str | None

    @property
    def name(self) -> str:
        """The name that it binds."""
        return self.alias or (self.attr or self.origin).partition(".")[0]


@attrs.define
class Source:
    """A module's text, and where its top-level names come from."""

    name: str
    module: ModuleType
    lines: list[str]
    statements: list[ast.stmt]
    bound: dict[str, list[int]]  # name -> the statements that bind or change it
    imported: dict[str, list[Imported]]
    starred: list[str]  # modules whose names are all imported


def read(name: str, user: str) -> Source:
    """The source of a module that this process has imported.

    Raises:
        StorageError: there is none; `user` is named as what needs it.
    """
    module = sys.modules.get(name)
    try:
        text = inspect.getsource(module) if module is not None else ""
    except (OSError, TypeError):
        text = ""
    if module is None or not text:
        raise StorageError(
            f"The source of `{user}` was not found (module {name}): it was made at a prompt or by "
            "exec. Put it into a file, and import it from there."
        )
    tree = ast.parse(text)
    source = Source(name, module, text.splitlines(), tree.body, {}, {}, [])
    for index, statement in enumerate(tree.body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for item in imported(statement, module):
                if item.attr == "*":
                    source.starred.append(item.origin)
                else:
                    source.imported.setdefault(item.name, []).append(item)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            source.bound[statement.name] = [index]  # the last definition is the one that counts
        elif not _is_main_block(statement):
            for bound in bound_by(statement):
                imports = bound in source.imported and bound not in source.bound
                if imports and not _assigns(statement, bound):
                    continue  # `torch.manual_seed(0)` does not define torch
                source.bound.setdefault(bound, []).append(index)
    return source


def imported(statement: ast.Import | ast.ImportFrom, module: ModuleType) -> list[Imported]:
    """The names of an import statement, with absolute origins."""
    if isinstance(statement, ast.Import):
        return [Imported(alias.name, None, alias.asname) for alias in statement.names]
    origin = statement.module or ""
    if statement.level:
        origin = importlib.util.resolve_name("." * statement.level + origin, module.__package__)
    return [Imported(origin, alias.name, alias.asname or alias.name) for alias in statement.names]


def is_copied(name: str) -> bool:
    """Whether a module's code is copied into the text, instead of imported by it.

    Copied are `__main__`, symnas's own building blocks, what is not installed, and what is
    installed but imports symnas.
    """
    top = name.partition(".")[0]
    if name == "__main__" or top == "symnas":
        return True
    if top in sys.stdlib_module_names or top in _CORE:
        return False
    places = _places(name)
    if not places or not all(map(_is_installed, places)):
        return True
    module = sys.modules.get(name)
    values = list(vars(module).values()) if module is not None else []
    return any(home(value).partition(".")[0] == "symnas" for value in values)


def exists(name: str) -> bool:
    """Whether a module is there, imported or not; False for what an `except ImportError` awaits."""
    return name in sys.modules or bool(_places(name))


def home(value: object) -> str:
    """The module that a value is from: itself for a module; "" where that cannot be told."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    return name if isinstance(name, str) else ""


def _places(name: str) -> list[str]:
    module = sys.modules.get(name)
    if module is None:
        # Nothing is imported by this: the spec of a name without dots is only looked up.
        try:
            spec = importlib.util.find_spec(name.partition(".")[0])
        except (ImportError, ValueError):
            return []
        if spec is None:
            return []
        file, parts = spec.origin, spec.submodule_search_locations
    else:
        file, parts = getattr(module, "__file__", None), getattr(module, "__path__", None)
    return [file] if file else [str(part) for part in parts or ()]


def _is_installed(place: str) -> bool:
    path = Path(place)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    paths = sysconfig.get_paths()
    return any(path.is_relative_to(paths[k]) for k in ("purelib", "platlib", "stdlib"))


def _is_main_block(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.If) or not isinstance(statement.test, ast.Compare):
        return False
    parts = [statement.test.left, *statement.test.comparators]
    return any(isinstance(p, ast.Name) and p.id == "__name__" for p in parts)


def _assigns(statement: ast.stmt, name: str) -> bool:
    """Whether the name itself is bound, and not only an attribute or item of it changed."""
    return any(
        (isinstance(n, ast.Name) and n.id == name and not isinstance(n.ctx, ast.Load))
        or (isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name)
        or (
            isinstance(n, ast.Import | ast.ImportFrom)
            and any((a.asname or a.name).partition(".")[0] == name for a in n.names)
        )
        for n in ast.walk(statement)
    )
