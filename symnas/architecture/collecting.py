"""What the text of an architecture must hold: definitions to copy, and imports."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import attrs
import networkx

from symnas.architecture.modules import Imported, Source, exists, home, imported, is_copied, read
from symnas.architecture.names import Names, Use, bound_by, names_of
from symnas.errors import StorageError
from symnas.language import registry
from symnas.language.choices import contains_choice

# What only serves to declare spaces; building blocks such as symnas.spaces are copied.
_LANGUAGE = ("language", "searchspace", "architecture", "nn", "costs", "searching", "studies")


@attrs.frozen
class Definition:
    """A name that a copied module binds at its top."""

    module: str
    name: str


@attrs.frozen
class Package:
    """A name that `import package.module` binds."""

    name: str


@attrs.frozen
class External:
    """`import origin as name`, or `from origin import attr`."""

    origin: str
    attr: str | None


Entity = Definition | Package | External


@attrs.define(eq=False)
class Unit:
    """A top-level statement that is copied."""

    source: Source
    index: int
    dropped: list[tuple[ast.AST, str | None]]
    names: Names
    uses: list[tuple[Use, int, Entity]] = attrs.field(factory=list)
    # For imports below the top: what each name means; None: it is imported as before.
    local: list[tuple[ast.stmt, list[tuple[Imported, Entity | None]]]] = attrs.field(factory=list)

    @property
    def statement(self) -> ast.stmt:
        return self.source.statements[self.index]


class Collector:
    """Follows names from the callables of a program through the modules that define them."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.units: dict[tuple[str, int], Unit] = {}
        self.wanted: dict[Entity, str] = {}  # with the name that it has where it is used first
        self.respelled: set[Entity] = set()  # has several names in the copied code
        self.lines: set[str] = set()  # of imports that bind packages
        self.packages: set[str] = set()

    def target(self, target: Callable[..., Any]) -> tuple[Entity, str]:
        """What a program calls: an entity, and the attributes that lead to the callable.

        Raises:
            StorageError: the callable, or something that it uses, cannot stand in a text.
        """
        target = inspect.unwrap(target)
        name = registry.qualified_name(target)
        module, _, qualname = name.partition(":")
        if _is_language(module):
            raise StorageError(
                f"`{name}` cannot be written as source: what sn.given copies and what sn.trace runs "
                "exists in this process only. Declare that part with @sn.symbolize."
            )
        if not is_copied(module):
            path = f"{module}.{qualname}".partition(".")[2]
            return self._package(module), f".{path}"
        if "." in qualname:
            raise StorageError(
                f"`{name}` is defined inside a function or class, so its source cannot stand "
                "alone. Move it to the top of its module."
            )
        return self._define(module, qualname, name), ""

    def ordered(self) -> list[Unit]:
        """The statements to copy, each after what it needs when it is run.

        Within a module the module's own order is right; modules come after those they use. Where
        modules use one another, what runs at once decides.
        """
        uses = networkx.DiGraph()
        at_once = networkx.DiGraph()
        for unit in self.units.values():
            uses.add_node(unit.source.name)
            for use, _, entity in unit.uses:
                if isinstance(entity, Definition) and entity.module != unit.source.name:
                    uses.add_edge(entity.module, unit.source.name)
                    if use.at_once:
                        at_once.add_edge(entity.module, unit.source.name)
        groups = networkx.condensation(uses)
        ranks: dict[str, int] = {}
        for group in networkx.lexicographical_topological_sort(
            groups, key=lambda g: min(groups.nodes[g]["members"])
        ):
            members = groups.nodes[group]["members"]
            inner = at_once.subgraph(members).copy()
            inner.add_nodes_from(members)
            if networkx.is_directed_acyclic_graph(inner):
                names = list(networkx.lexicographical_topological_sort(inner))
            else:
                names = sorted(members, key=list(sys.modules).index)
            for name in names:
                ranks[name] = len(ranks)
        return sorted(self.units.values(), key=lambda unit: (ranks[unit.source.name], unit.index))

    # Following names --------------------------------------------------------------------------

    def _source(self, module: str, user: str) -> Source:
        if module not in self.sources:
            self.sources[module] = read(module, user)
        return self.sources[module]

    def _define(self, module: str, name: str, user: str) -> Entity:
        entity = Definition(module, name)
        if entity in self.wanted:
            return entity
        source = self._source(module, user)
        if name not in source.bound:
            found = self._find(source, name, user)
            if found is None or isinstance(found, ModuleType):
                raise StorageError(
                    f"The source of `{module}:{name}` was not found: it was made at a prompt or by "
                    "exec. Put it into a file."
                )
            return found
        self.wanted[entity] = name
        for index in source.bound[name]:
            self._copy(source, index)
        return entity

    def _copy(self, source: Source, index: int) -> None:
        if (source.name, index) in self.units:
            return
        statement = source.statements[index]
        dropped = list(_replacements(statement, source))
        unit = Unit(source, index, dropped, names_of(statement, [node for node, _ in dropped]))
        self.units[source.name, index] = unit
        bound = sorted(n for n in bound_by(statement) if index in source.bound.get(n, ()))
        user = f"{source.name}:{', '.join(bound)}"
        for name in bound:
            self._define(source.name, name, user)
        for use in unit.names.uses:
            found = self._resolve(source, use, user)
            if found is not None:
                entity, depth = found
                unit.uses.append((use, depth, entity))
                if depth or use.name.id != self.wanted[entity]:
                    self.respelled.add(entity)
        for node in unit.names.imports:
            unit.local.append((node, [self._local(source, i, user) for i in
                                      imported(node, source.module)]))  # fmt: skip

    def _resolve(self, source: Source, use: Use, user: str) -> tuple[Entity, int] | None:
        """What a name means, and how many of the attributes after it belong to it."""
        if not isinstance(use.name.ctx, ast.Load):
            bound = use.name.id in source.bound
            return (self._define(source.name, use.name.id, user), 0) if bound else None
        found = self._find(source, use.name.id, user)
        for depth, attribute in enumerate(use.chain, 1):
            if not isinstance(found, ModuleType):
                break
            name = found.__name__
            found = self._find(self._source(name, user), attribute.attr, user)
            if found is None:
                raise StorageError(f"`{user}` uses `{name}.{attribute.attr}`, which has no source.")
            if not isinstance(found, ModuleType):
                return found, depth
        if isinstance(found, ModuleType):
            raise StorageError(
                f"`{user}` uses the module {found.__name__} as a value, so its source cannot run "
                "without it. Use what is in it by name: module.function."
            )
        return None if found is None else (found, 0)

    def _find(self, source: Source, name: str, user: str) -> Entity | ModuleType | None:
        """What a module's top-level name means; None for builtins and unknown names."""
        value = vars(source.module).get(name)
        items = source.imported.get(name)
        if name not in source.bound and not items:
            return self._found_by_star(source, name, value, user)
        if _is_language(home(value)) or (items and _is_language(items[-1].origin)):
            raise StorageError(
                f"`{user}` uses `{name}` ({home(value) or 'symnas'}) in its body, so its source "
                "cannot run without symnas. Use torch's own layers inside classes, and symnas only "
                "where spaces are declared."
            )
        own = _definition_of(value)
        if own is not None and own.module != source.name:
            return self._define(own.module, own.name, user)
        if name in source.bound:
            return self._define(source.name, name, user)
        assert items
        return self._imported(items, value, user)

    def _found_by_star(
        self, source: Source, name: str, value: Any, user: str
    ) -> Entity | ModuleType | None:
        if isinstance(value, ModuleType):  # a submodule, which is an attribute of its package
            return value if is_copied(value.__name__) else self._external(value.__name__, None)
        for origin in source.starred:
            if name in vars(sys.modules[origin]):
                item = Imported(origin, name, name)
                return self._imported([item], value, user)
        return None

    def _imported(self, items: list[Imported], value: Any, user: str) -> Entity | ModuleType | None:
        item = items[-1]
        if item.attr is None and item.alias is None:
            if is_copied(item.origin):
                return sys.modules[item.name]
            for other in items:  # `import torch` and `import torch.utils.data` bind one name
                entity = self._package(other.origin)
            return entity
        if isinstance(value, ModuleType) and is_copied(value.__name__):
            return value
        if item.attr is None or not is_copied(item.origin):
            return self._external(item.origin, item.attr, item.name)
        return self._find(self._source(item.origin, user), item.attr, user)

    def _local(self, source: Source, item: Imported, user: str) -> tuple[Imported, Entity | None]:
        if _is_language(item.origin):
            raise StorageError(
                f"`{user}` imports {item.origin}, so its source cannot run without symnas. Use "
                "symnas only where spaces are declared."
            )
        if not exists(item.origin):
            return item, None
        if not is_copied(item.origin):
            self.packages.add(item.origin.partition(".")[0])
            return item, None
        found = None
        if item.attr is not None:
            found = self._find(self._source(item.origin, user), item.attr, user)
        if found is None or isinstance(found, ModuleType):
            raise StorageError(
                f"`{user}` imports the module {item.origin} inside of a function or block, so its "
                "source cannot be copied. Import it at the top of the file."
            )
        self.respelled.add(found)
        return item, found

    def _package(self, module: str) -> Package:
        entity = Package(module.partition(".")[0])
        self.wanted.setdefault(entity, entity.name)
        self.lines.add(f"import {module}")
        self.packages.add(entity.name)
        return entity

    def _external(self, origin: str, attr: str | None, name: str | None = None) -> External:
        entity = External(origin, attr)
        self.wanted.setdefault(entity, name or attr or origin.rpartition(".")[2])
        self.packages.add(origin.partition(".")[0])
        return entity


def _is_language(module: str) -> bool:
    top, _, rest = module.partition(".")
    return top == "symnas" and (not rest or rest.partition(".")[0] in _LANGUAGE)


def _definition_of(value: Any) -> Definition | None:
    """Where a class or function of a copied module is defined, if at the top."""
    if not inspect.isclass(value) and not inspect.isroutine(value):
        return None
    origin = inspect.unwrap(value)
    module, name = getattr(origin, "__module__", None), getattr(origin, "__qualname__", None)
    if not module or not name or not is_copied(module):
        return None
    known = vars(sys.modules[module]).get(name) if module in sys.modules else None
    same = known is value or (callable(known) and inspect.unwrap(known) is origin)
    return Definition(module, name) if same else None


def _replacements(statement: ast.stmt, source: Source) -> Iterator[tuple[ast.AST, str | None]]:
    """Parts that are not copied: symnas's decorators, and default arguments that are choices."""
    decorators: set[int] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                decorators.add(id(decorator))
                if _is_symnas(decorator, source):
                    yield decorator, None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None and any(_is_open(n, source) for n in ast.walk(default)):
                    # The program passes this argument, so its default never counts.
                    yield default, "None"
        if isinstance(node, ast.Call) and id(node) not in decorators and len(node.args) == 1:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            name = node.func.id if isinstance(node.func, ast.Name) else name
            if name in ("symbolize", "register") and _is_symnas(node.func, source):
                yield node.func, ""  # Block = sn.symbolize(Block)


def _is_open(node: ast.AST, source: Source) -> bool:
    if isinstance(node, ast.Name):
        value = vars(source.module).get(node.id)
        if not isinstance(value, ModuleType) and contains_choice(value):
            return True
    return _is_symnas(node, source)


def _is_symnas(node: ast.AST, source: Source) -> bool:
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    if not isinstance(node, ast.Name) or node.id not in source.imported:
        return False
    value = vars(source.module).get(node.id)
    return home(value).partition(".")[0] == "symnas" and not inspect.isclass(value)
