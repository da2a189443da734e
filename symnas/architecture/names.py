"""Which names a piece of source takes from its module, by Python's rules of scope."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

import attrs

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_OWN_SCOPE = (*_FUNCTIONS, *_COMPREHENSIONS, ast.ClassDef)


@attrs.frozen(eq=False)
class Use:
    """A name that belongs to the module, with the attributes that are read from it."""

    name: ast.Name
    chain: tuple[ast.Attribute, ...]  # for `a.b.c`: the nodes of a.b and a.b.c
    at_once: bool  # needed when the definition itself is run, and not only when it is called
    text: ast.JoinedStr | None  # the f-string around it, if any


@attrs.define
class Names:
    """What one top-level statement has to do with its module."""

    uses: list[Use] = attrs.field(factory=list)
    local: set[str] = attrs.field(factory=set)  # names bound within its functions
    imports: list[ast.Import | ast.ImportFrom] = attrs.field(factory=list)  # nested ones
    declared: list[ast.Global] = attrs.field(factory=list)


@attrs.define
class _Frame:
    bound: set[str]
    outer: set[str]  # declared global
    is_class: bool = False
    delays: bool = False  # its body runs later


def names_of(statement: ast.stmt, skipped: Iterable[ast.AST] = ()) -> Names:
    """The names that a top-level statement uses; annotations are left out, and `skipped` parts.

    >>> tree = ast.parse("def f(a, b=c): return a + d.e")
    >>> [use.name.id for use in names_of(tree.body[0]).uses]
    ['c', 'd']
    """
    visitor = _Visitor({id(node) for part in skipped for node in ast.walk(part)})
    visitor.visit(statement)
    return visitor.found


def bound_by(statement: ast.stmt) -> set[str]:
    """Names that a statement binds or changes in the scope where it stands.

    >>> sorted(bound_by(ast.parse("a, b = c").body[0]))
    ['a', 'b']
    >>> sorted(bound_by(ast.parse("table['x'] = 1").body[0]))
    ['table']
    """
    return set(_bound([statement], changes=True))


def _bound(body: Iterable[ast.AST], changes: bool = False) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
                continue
            case ast.Name(ctx=ast.Store() | ast.Del()):
                yield node.id
            case ast.Import() | ast.ImportFrom():
                yield from ((a.asname or a.name).partition(".")[0] for a in node.names)
            case ast.ExceptHandler(name=str(name)):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name
            case (
                ast.Attribute(ctx=ast.Store() | ast.Del())
                | ast.Subscript(ctx=ast.Store() | ast.Del())
            ) if changes:
                yield from _root(node)
            case ast.Expr(value=ast.Call(func=ast.Attribute() as method)) if changes:
                yield from _root(method)  # table.update(...)
        if isinstance(node, _OWN_SCOPE):
            if isinstance(node, _COMPREHENSIONS):
                walrus = (n for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
                yield from (n.target.id for n in walrus)
            continue
        yield from _bound(ast.iter_child_nodes(node), changes)


def _root(node: ast.AST) -> Iterator[str]:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


class _Visitor(ast.NodeVisitor):
    def __init__(self, skipped: set[int]) -> None:
        self.skipped = skipped
        self.found = Names()
        self.frames: list[_Frame] = []
        self.text: ast.JoinedStr | None = None

    def visit(self, node: ast.AST) -> None:
        if id(node) not in self.skipped:
            super().visit(node)

    def _is_global(self, name: str, load: bool) -> bool:
        for depth, frame in enumerate(reversed(self.frames)):
            if name in frame.outer:
                return True
            # A class's names are not seen in its methods; read in its body, they may still be
            # the module's, as in `size = size`.
            if frame.is_class and (depth > 0 or load):
                continue
            if name in frame.bound:
                return False
        return True

    def visit_Name(self, node: ast.Name) -> None:
        self._use(node, ())

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain: list[ast.Attribute] = []
        part: ast.expr = node
        while isinstance(part, ast.Attribute):
            chain.append(part)
            part = part.value
        if isinstance(part, ast.Name):
            self._use(part, tuple(reversed(chain)))
        else:
            self.visit(part)

    def _use(self, node: ast.Name, chain: tuple[ast.Attribute, ...]) -> None:
        if self._is_global(node.id, isinstance(node.ctx, ast.Load)):
            at_once = not any(frame.delays for frame in self.frames)
            self.found.uses.append(Use(node, chain, at_once, self.text))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        outer, self.text = self.text, self.text or node
        self.generic_visit(node)
        self.text = outer

    def visit_Import(self, node: ast.Import) -> None:
        self.found.imports.append(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.found.imports.append(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.found.declared.append(node)

    def visit_arg(self, node: ast.arg) -> None:
        return  # its annotation is not evaluated

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._function(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node.args, [node.body])

    def _function(self, args: ast.arguments, body: list[ast.stmt] | list[ast.expr]) -> None:
        self.visit(args)  # defaults, in the scope around
        outer = {n for node in body for n in _declared(node, ast.Global)}
        free = {n for node in body for n in _declared(node, ast.Nonlocal)}
        every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        bound = {arg.arg for arg in every if arg is not None} | (set(_bound(body)) - outer - free)
        self._within(_Frame(bound, outer, delays=True), body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(part)
        self._within(_Frame(set(_bound(node.body)), set(), is_class=True), node.body)

    def _comprehension(self, node: ast.AST) -> None:
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        self.visit(generators[0].iter)  # in the scope around
        self.skipped.add(id(generators[0].iter))
        bound = {n for g in generators for n in _bound([g.target])}
        self._within(_Frame(bound, set()), list(ast.iter_child_nodes(node)))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _within(self, frame: _Frame, body: Iterable[ast.AST]) -> None:
        if not frame.is_class:
            self.found.local |= frame.bound
        self.frames.append(frame)
        for node in body:
            self.visit(node)
        self.frames.pop()


def _declared(node: ast.AST, kind: type[ast.Global] | type[ast.Nonlocal]) -> Iterator[str]:
    if isinstance(node, kind):
        yield from node.names
    elif not isinstance(node, _OWN_SCOPE):
        for child in ast.iter_child_nodes(node):
            yield from _declared(child, kind)
