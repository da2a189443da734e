"""Copied statements as text: as their author wrote them, but for names that must change."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import sys
from collections.abc import Iterable

import attrs

from symnas.architecture.collecting import Collector, Definition, Entity, External, Package, Unit
from symnas.architecture.names import bound_by
from symnas.errors import StorageError

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@attrs.frozen
class _Edit:
    start: int
    end: int
    text: str


def name_all(collector: Collector) -> dict[Entity, str]:
    """A name of its own for each thing in the text: the one it has where that is free.

    Raises:
        StorageError: a package's name cannot be kept.
    """
    # What stands for a builtin in one module must not do so in the others.
    taken = {"model", *keyword.kwlist, *dir(builtins)}
    local = {name for unit in collector.units.values() for name in unit.names.local}
    names: dict[Entity, str] = {}
    for kind in (Package, Definition, External):
        for entity, wanted in collector.wanted.items():
            if not isinstance(entity, kind):
                continue
            name = wanted
            # A function's own variable would hide what the function now calls by that name.
            while name in taken or (
                name in local and (name != wanted or entity in collector.respelled)
            ):
                if kind is Package:
                    raise StorageError(f"`import {wanted}` clashes with another name of the text.")
                name += "_"
            taken.add(name)
            names[entity] = name
    return names


def imports_of(collector: Collector, names: dict[Entity, str]) -> str:
    """The imports, those of Python's own library first."""
    lines = set(collector.lines)
    for entity, name in names.items():
        if isinstance(entity, External):
            tail = entity.attr or entity.origin
            renamed = "" if tail == name else f" as {name}"
            head = f"from {entity.origin} " if entity.attr else ""
            lines.add(f"{head}import {tail}{renamed}")
    groups: list[list[str]] = [[], []]
    for line in sorted(lines, key=lambda text: (text.startswith("from"), text.lower())):
        top = line.split()[1].partition(".")[0]
        groups[top not in sys.stdlib_module_names].append(line)
    return "\n\n".join("\n".join(group) for group in groups if group)


def text_of(unit: Unit, names: dict[Entity, str]) -> str:
    """A statement, with the comment above it."""
    lines = unit.source.lines
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    text = "\n".join(lines) + "\n"

    def place(row: int, column: int) -> int:
        return starts[row - 1] + len(lines[row - 1].encode()[:column].decode())

    def over(node: ast.AST, replacement: str) -> _Edit:
        node_: ast.expr = node  # type: ignore[assignment]  # anything with a position
        assert node_.end_lineno is not None and node_.end_col_offset is not None
        start = place(node_.lineno, node_.col_offset)
        return _Edit(start, place(node_.end_lineno, node_.end_col_offset), replacement)

    edits: list[_Edit] = []
    for node, replacement in unit.dropped:
        if replacement is None:  # a decorator, with the @ before it
            assert isinstance(node, ast.expr) and node.end_lineno is not None
            edits.append(_Edit(starts[node.lineno - 1], starts[node.end_lineno], ""))
        else:
            edits.append(over(node, replacement))

    texts: dict[ast.JoinedStr, dict[int, str]] = {}
    for use, depth, entity in unit.uses:
        node = use.chain[depth - 1] if depth else use.name
        name = names[entity]
        if depth == 0 and use.name.id == name:
            continue
        if use.text is not None and sys.version_info < (3, 12):
            texts.setdefault(use.text, {})[id(node)] = name  # positions within are not kept
        else:
            edits.append(over(node, name))
    for outer, renamed in texts.items():
        edits.append(over(outer, ast.unparse(_Renamed(renamed).visit(outer))))

    for header in _headers(unit.statement):
        name = names.get(Definition(unit.source.name, header.name), header.name)
        if name != header.name:
            begin = place(header.lineno, header.col_offset)
            found = re.compile(rf"(?:async\s+)?(?:def|class)\s+({header.name})\b").match(
                text, begin
            )
            assert found is not None
            edits.append(_Edit(found.start(1), found.end(1), name))
    for declared in unit.names.declared:
        renames = [names.get(Definition(unit.source.name, n), n) for n in declared.names]
        if renames != declared.names:
            edits.append(over(declared, f"global {', '.join(renames)}"))
    edits.extend(_Edit(e.start, e.end, e.text) for e in _imports(unit, names, over))

    first, last = _extent(unit)
    begin = starts[first - 1]
    result = _applied(text, edits, begin, starts[last])
    return _comment_above(lines, first) + result.rstrip()


def is_definition(unit: Unit) -> bool:
    """Whether it is a class or a function, which stands apart."""
    return isinstance(unit.statement, _DEFINITIONS)


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[int, str]) -> None:
        self.names = names

    def visit(self, node: ast.AST) -> ast.AST:
        if id(node) in self.names:
            return ast.Name(self.names[id(node)], ast.Load())
        return self.generic_visit(node)


def _imports(unit: Unit, names: dict[Entity, str], over: object) -> Iterable[_Edit]:
    """Imports within functions and blocks: what is copied needs none."""
    assert callable(over)
    top = bound_by(unit.statement) if not is_definition(unit) else set()
    for node, items in unit.local:
        assert isinstance(node, ast.Import | ast.ImportFrom)
        parts, changed = [], isinstance(node, ast.ImportFrom) and node.level > 0
        for item, entity in items:
            bound = item.name
            if bound in top:
                bound = names.get(Definition(unit.source.name, bound), bound)
            if entity is not None:
                changed = True
                if names[entity] != bound:
                    parts.append(f"{bound} = {names[entity]}")
                continue
            changed = changed or bound != item.name
            tail = item.attr or item.origin
            plain = tail == bound or (item.attr is None and item.alias is None)
            head = f"from {item.origin} " if item.attr else ""
            parts.append(f"{head}import {tail}" + ("" if plain else f" as {bound}"))
        if changed:
            yield over(node, "; ".join(parts) or "pass")


def _headers(
    statement: ast.AST,
) -> Iterable[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    if isinstance(statement, _DEFINITIONS):
        yield statement
    elif not isinstance(statement, ast.expr):
        for child in ast.iter_child_nodes(statement):
            yield from _headers(child)


def _applied(text: str, edits: list[_Edit], begin: int, end: int) -> str:
    parts: list[str] = []
    at = begin
    # Of edits within one another, the outer one counts.
    for edit in sorted(edits, key=lambda e: (e.start, -e.end)):
        if edit.start >= at:
            parts += [text[at : edit.start], edit.text]
            at = edit.end
    return "".join([*parts, text[at:end]])


def _extent(unit: Unit) -> tuple[int, int]:
    statement = unit.statement
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(d.lineno for d in decorators)])
    return first, statement.end_lineno or statement.lineno


def _comment_above(lines: list[str], first: int) -> str:
    start = first - 1
    while start > 0 and lines[start - 1].startswith("#") and not lines[start - 1].startswith("#!"):
        start -= 1
    return "".join(line + "\n" for line in lines[start : first - 1])
