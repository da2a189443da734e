"""An architecture as source text that runs without symnas.

The text imports what is installed anyway (torch, other packages) and holds the rest: the source
of the classes and functions that the program names, without symnas's decorators, and of what they
use in turn, in the order in which Python needs it.
"""

from __future__ import annotations

import ast
import inspect
import io
import sys
import sysconfig
import tokenize
from collections.abc import Callable, Iterator
from importlib import metadata
from types import ModuleType
from typing import Any

import attrs
import pyglove as pg
import torch

from symnas.errors import StorageError
from symnas.language import registry
from symnas.language.spec import Spec, call_of

WIDTH = 100


def to_python(program: Any) -> str:
    """Source text that defines `model()`, which returns the network with fresh weights.

    Raises:
        StorageError: a class has no source to be found (typed at a prompt), uses symnas in its
            methods, or the program has a module that was given by `sn.given`.

    >>> import symnas as sn
    >>> text = sn.Architecture(sn.nn.Linear(4, 2)).to_python()
    >>> print(text[text.index("def model"):text.index("if __name__")].strip())
    def model():
        return torch.nn.Linear(in_features=4, out_features=2)
    """
    writer = _Writer()
    for target in _callables(program):
        writer.need(target)
    body = writer.expression(program, 4, len("    return "))
    imports = "\n".join(sorted(writer.imports))
    definitions = "\n\n\n".join(writer.definitions)
    parts = [
        _docstring(writer.imports),
        "from __future__ import annotations",
        imports,
        definitions,
        f"def model():\n    return {body}",
    ]
    text = "\n\n".join(p for p in parts[:3] if p) + "\n"
    text += "".join(f"\n\n{p}\n" for p in parts[3:] if p)
    text += '\n\nif __name__ == "__main__":\n    print(model())\n'
    compile(text, "<architecture>", "exec")  # a text that does not parse must not leave here
    return text


@attrs.define
class _Module:
    """A module's top-level definitions, by name."""

    module: ModuleType
    lines: list[str]
    statements: dict[str, list[ast.stmt]]
    renamed: dict[str, str] = attrs.field(factory=dict)


class _Writer:
    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.bound: dict[str, tuple[str, str]] = {}  # a name of the text: whose it is
        self.definitions: list[str] = []
        self.modules: dict[str, _Module] = {}
        self.names: dict[tuple[str, str], str] = {}  # (module, name) -> name in the text
        self.open: set[tuple[str, str]] = set()

    # What the program names -------------------------------------------------------------------

    def need(self, target: Callable[..., Any]) -> str:
        """Makes a callable available to the text; how the text calls it."""
        target = inspect.unwrap(target)
        name = registry.qualified_name(target)
        module, _, qualname = name.partition(":")
        if module.startswith(("symnas.language.", "symnas.searchspace.")):
            raise StorageError(
                f"`{name}` cannot be written as source: what sn.given copies and what sn.trace runs "
                "exists in this process only. Declare that part with @sn.symbolize."
            )
        if not _is_inlined(module):
            self.imports.add(f"import {module}")
            return f"{module}.{qualname}"
        if "." in qualname:
            raise StorageError(
                f"`{name}` is defined inside a function or class, so its source cannot stand "
                "alone. Move it to the top of its module."
            )
        return self.define(module, qualname)

    def define(self, module: str, name: str) -> str:
        """Inlines a top-level definition and all that it uses; its name in the text."""
        key = (module, name)
        if key in self.names:
            return self.names[key]
        source = self._module(module)
        if name not in source.statements:
            raise StorageError(
                f"The source of `{module}:{name}` was not found: it was made at a prompt or by "
                "exec. Put it into a file."
            )
        free = name
        while self.bound.get(free, key) != key:
            free = f"{free}_"  # another module has this name already
        self.bound[free] = key
        self.names[key] = free
        if free != name:
            source.renamed[name] = free
        texts = [self._text(source, name, statement) for statement in source.statements[name]]
        self.definitions.extend(texts)
        return free

    # One definition ---------------------------------------------------------------------------

    def _text(self, source: _Module, name: str, statement: ast.stmt) -> str:
        dropped = list(_replacements(statement, source))
        skipped = {id(n) for node, _ in dropped for n in ast.walk(node)}
        for used in _free_names(statement, skipped):
            if used != name:
                self._use(source, used, name)
        first = statement.lineno
        text = _segment(source, statement, dropped)
        comment = _comment_above(source.lines, min([first, *_decorator_lines(statement)]))
        return _rename(comment + text, source.renamed)

    def _use(self, source: _Module, used: str, user: str) -> None:
        statements = source.statements.get(used)
        if statements is None:
            return  # a builtin, or bound inside the definition
        first = statements[0]
        if not isinstance(first, ast.Import | ast.ImportFrom):
            self.define(source.module.__name__, used)
            return
        value = getattr(source.module, used, None)
        if isinstance(value, ModuleType):
            if _is_inlined(value.__name__):
                raise StorageError(
                    f"`{source.module.__name__}:{user}` uses `{used}` ({value.__name__}) in its "
                    "body, so its source cannot run without it. Use torch's own layers inside "
                    "classes, and symnas only where spaces are declared."
                )
        elif inspect.isclass(value) or inspect.isroutine(value):
            origin = inspect.unwrap(value)
            if _is_inlined(origin.__module__ or ""):
                self._inline_imported(source, used, origin, user)
                return
        line = _import_line(first, used, source.module)
        owner = (line, used)
        if self.bound.setdefault(used, owner) != owner:
            raise StorageError(
                f"Two modules of this program mean different things by `{used}` ({line}). "
                "Rename one import."
            )
        self.imports.add(line)

    def _inline_imported(self, source: _Module, used: str, origin: Any, user: str) -> None:
        if origin.__module__ == "symnas" or origin.__module__.startswith(
            ("symnas.language", "symnas.searchspace", "symnas.architecture")
        ):
            raise StorageError(
                f"`{source.module.__name__}:{user}` uses symnas's `{used}` in its body, so its "
                "source cannot run without symnas. Use it only where spaces are declared."
            )
        name = self.define(origin.__module__, origin.__qualname__)
        if name != used:
            source.renamed[used] = name

    def _module(self, name: str) -> _Module:
        if name not in self.modules:
            module = sys.modules.get(name)
            try:
                text = inspect.getsource(module) if module is not None else ""
            except (OSError, TypeError):
                text = ""
            if module is None or not text:
                raise StorageError(
                    f"The source of module `{name}` was not found: its classes were made at a "
                    "prompt or by exec. Put them into a file."
                )
            self.modules[name] = _Module(module, text.splitlines(), _definitions(ast.parse(text)))
        return self.modules[name]

    # The expression ---------------------------------------------------------------------------

    def expression(self, value: Any, indent: int, used: int) -> str:
        """A value as code: on one line where it fits, else one argument a line."""
        text = self._flat(value)
        if used + len(text) <= WIDTH - 1:
            return text
        head, parts, tail = self._parts(value)
        if not parts:
            return text
        inner = indent + 4
        lines = []
        for key, part in parts:
            lead = f"{key}" if key else ""
            lines.append(" " * inner + lead + self.expression(part, inner, inner + len(lead)) + ",")
        return head + "\n" + "\n".join(lines) + "\n" + " " * indent + tail

    def _flat(self, value: Any) -> str:
        head, parts, tail = self._parts(value)
        if not parts:
            return head + tail
        return head + ", ".join(key + self._flat(part) for key, part in parts) + tail

    def _parts(self, value: Any) -> tuple[str, list[tuple[str, Any]], str]:
        if isinstance(value, Spec):
            target, args, kwargs = call_of(value)
            parts = [("", v) for v in args] + [(f"{k}=", v) for k, v in kwargs.items()]
            return f"{self.need(target)}(", parts, ")"
        if isinstance(value, dict):
            return "{", [(f"{k!r}: ", v) for k, v in value.items()], "}"
        if isinstance(value, list):
            return "[", [("", v) for v in value], "]"
        if isinstance(value, torch.dtype):
            self.imports.add("import torch")
            return str(value), [], ""
        if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
            return f'float("{value}")', [], ""
        if value is None or isinstance(value, bool | int | float | str | tuple):
            return repr(value), [], ""
        if isinstance(value, pg.Object) or not callable(value):
            raise StorageError(f"A {type(value).__name__} cannot be written as source.")
        return self.need(value), [], ""


def _callables(program: Any) -> Iterator[Callable[..., Any]]:
    if isinstance(program, Spec):
        target, args, kwargs = call_of(program)
        yield target
        for part in (*args, *kwargs.values()):
            yield from _callables(part)
    elif isinstance(program, dict):
        for part in program.values():
            yield from _callables(part)
    elif isinstance(program, list):
        for part in program:
            yield from _callables(part)
    elif callable(program) and not isinstance(program, pg.Symbolic):
        yield program


def _is_inlined(module: str) -> bool:
    """Whether a module's code is copied into the text instead of imported."""
    if module == "__main__" or module == "symnas" or module.startswith("symnas."):
        return True
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in ("torch", "numpy", "builtins"):
        return False
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None) or ""
    paths = sysconfig.get_paths()
    if any(file.startswith(paths[key]) for key in ("purelib", "platlib", "stdlib")):
        values = list(vars(found).values()) if found is not None else []
        return any(isinstance(v, ModuleType) and v.__name__ == "symnas" for v in values)
    return True


def _definitions(tree: ast.Module) -> dict[str, list[ast.stmt]]:
    found: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        names: list[str] = []
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names = [statement.name]
        elif isinstance(statement, ast.Assign):
            names = [
                n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)
            ]
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            names = [statement.target.id] if statement.value is not None else []
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names = [(a.asname or a.name).partition(".")[0] for a in statement.names]
        for name in names:
            if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                found[name] = [statement]  # the last definition is the one that counts
            else:
                found.setdefault(name, []).append(statement)
    return found


def _replacements(statement: ast.stmt, source: _Module) -> Iterator[tuple[ast.AST, str | None]]:
    """Parts that are not copied: symnas's decorators, and default arguments made with symnas."""
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                if _is_symnas(decorator, source):
                    yield decorator, None
        if isinstance(node, ast.FunctionDef):
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None and any(_is_symnas(n, source) for n in ast.walk(default)):
                    # The program passes this argument, so its default never counts.
                    yield default, "None"


def _is_symnas(node: ast.AST, source: _Module) -> bool:
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    if not isinstance(node, ast.Name):
        return False
    value = getattr(source.module, node.id, None)
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    statements = source.statements.get(node.id, [])
    imported = bool(statements) and isinstance(statements[0], ast.Import | ast.ImportFrom)
    inside = isinstance(name, str) and (name == "symnas" or name.startswith("symnas."))
    return imported and inside and not inspect.isclass(value)


def _free_names(statement: ast.stmt, skipped: set[int]) -> list[str]:
    """Names that a definition uses, annotations left out (they are not evaluated)."""
    found: dict[str, None] = {}

    def visit(node: ast.AST) -> None:
        if id(node) in skipped:
            return
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.setdefault(node.id)
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child)

    visit(statement)
    return list(found)


def _segment(
    source: _Module, statement: ast.stmt, dropped: list[tuple[ast.AST, str | None]]
) -> str:
    lines = list(source.lines)
    gone: set[int] = set()
    # From the end, so that earlier positions stay right.
    for node, text in sorted(dropped, key=lambda d: (-d[0].lineno, -d[0].col_offset)):  # type: ignore[attr-defined]
        first, last = node.lineno - 1, node.end_lineno - 1  # type: ignore[attr-defined]
        if text is None:
            gone.update(range(first, last + 1))
            continue
        start = _bytes_to_index(lines[first], node.col_offset)  # type: ignore[attr-defined]
        end = _bytes_to_index(lines[last], node.end_col_offset)  # type: ignore[attr-defined]
        lines[first] = lines[first][:start] + text + lines[last][end:]
        gone.update(range(first + 1, last + 1))
    begin = min([statement.lineno, *_decorator_lines(statement)]) - 1
    end_line = statement.end_lineno or statement.lineno
    kept = [lines[i] for i in range(begin, end_line) if i not in gone]
    return "\n".join(kept).rstrip()


def _decorator_lines(statement: ast.stmt) -> list[int]:
    return [d.lineno for d in getattr(statement, "decorator_list", [])]


def _comment_above(lines: list[str], first: int) -> str:
    start = first - 1
    while start > 0 and lines[start - 1].startswith("#") and not lines[start - 1].startswith("#!"):
        start -= 1
    return "".join(line + "\n" for line in lines[start : first - 1])


def _bytes_to_index(line: str, offset: int) -> int:
    return len(line.encode()[:offset].decode())


def _rename(text: str, renamed: dict[str, str]) -> str:
    if not renamed:
        return text
    lines = text.splitlines()
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for before, token in reversed(list(zip([None, *tokens], tokens, strict=False))):
        after_dot = before is not None and before.string == "."
        if token.type == tokenize.NAME and token.string in renamed and not after_dot:
            row, column = token.start
            line = lines[row - 1]
            end = column + len(token.string)
            lines[row - 1] = line[:column] + renamed[token.string] + line[end:]
    return "\n".join(lines)


def _import_line(statement: ast.stmt, used: str, module: ModuleType) -> str:
    assert isinstance(statement, ast.Import | ast.ImportFrom)
    for alias in statement.names:
        if (alias.asname or alias.name).partition(".")[0] == used:
            renamed = f" as {alias.asname}" if alias.asname and alias.asname != alias.name else ""
            if isinstance(statement, ast.Import):
                return f"import {alias.name}{renamed}"
            origin = statement.module or ""
            if statement.level:
                package = (module.__package__ or "").split(".")
                base = package[: len(package) - statement.level + 1]
                origin = ".".join([*base, *([origin] if origin else [])])
            return f"from {origin} import {alias.name}{renamed}"
    raise StorageError(f"`{used}` is imported in a way that cannot be copied.")


def _docstring(imports: set[str]) -> str:
    packages = sorted(
        {line.split()[1].partition(".")[0] for line in imports} - set(sys.stdlib_module_names)
    )
    needs = []
    for package in packages:
        try:
            needs.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            needs.append(package)
    return (
        '"""A network found by architecture search. `model()` returns it with fresh weights.\n\n'
        f'Needs: {", ".join(needs) or "nothing but Python"}.\n"""'
    )
