"""The stored form of a row's architecture, without making the program's objects first.

What `storage` writes for `space.decode(row).program`, a hundred times faster: each node of the
compiled program becomes a closure once, and what no choice touches is written once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from symnas.architecture.storage import compact, dump
from symnas.language import registry
from symnas.language.spec import Spec
from symnas.searchspace import nodes

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

Row = Sequence[int]
Writer = Callable[[Row], str]


@attrs.frozen
class Writers:
    """Row to JSON text: of the program, and of the values of the task's choices."""

    program: Writer
    full: Writer  # the program with default arguments written out, as keys want it
    task: Writer


_writers: weakref.WeakKeyDictionary[Space, Writers | None] = weakref.WeakKeyDictionary()


def writers(space: Space) -> Writers | None:
    """The writers of a space; None where only the program itself can tell."""
    if space not in _writers:
        _writers[space] = _compile(space)
    return _writers[space]


def _compile(space: Space) -> Writers | None:
    root, task = space._compiled.root, space._extras.get("task", nodes.Const({}))
    if space._compiled.pyglove_derived or not (_known(root) and _known(task)):
        return None
    return Writers(_writer(root, False), _writer(root, True), _writer(task, False))


def _known(node: nodes.Node) -> bool:
    # PyGlove's own objects have rules of their own for their fields.
    return not isinstance(node, nodes.Object) and all(map(_known, nodes.children(node)))


def _writer(node: nodes.Node, defaults: bool) -> Writer:
    write = _write(node, defaults)
    if nodes.columns_of(node):
        return write
    constant = write(())
    return lambda row: constant


def _write(node: nodes.Node, defaults: bool) -> Writer:
    def down(node: nodes.Node) -> Writer:
        return _writer(node, defaults)

    match node:
        case nodes.Const():
            constant = compact(dump(node.constant, defaults))
            return lambda row: constant
        case nodes.Items():
            return _list([down(item) for item in node.items])
        case nodes.Mapping():
            entries = _dict({key: down(item) for key, item in node.items})
            return lambda row: f'{{"dict":{entries(row)}}}'
        case nodes.Call():
            return _call(node, defaults)
        case nodes.Choice():
            candidates, column = [down(c) for c in node.candidates], node.column
            return lambda row: candidates[row[column]](row)
        case nodes.Picks():
            return _list(
                [
                    _write(nodes.Choice(column, candidates), defaults)
                    for column, candidates in zip(node.columns, node.candidates, strict=True)
                ]
            )
        case nodes.Subset():
            options = [down(c) for c in node.candidates]
            subsets = [_list([options[i] for i in subset]) for subset in node.subsets]
            return lambda row: subsets[row[node.column]](row)
        case nodes.Repeated():
            blocks = [down(block) for block in node.blocks]
            return _spec(
                node.cls,
                lambda row: _list(blocks[: node.times.value(row, nodes.PROGRAM)])(row),
                {},
            )
        case _:  # a number, or a value computed from choices
            return lambda row: compact(dump(node.value(row, nodes.PROGRAM), defaults))


def _call(node: nodes.Call, defaults: bool) -> Writer:
    kwargs = {key: _writer(arg, defaults) for key, arg in node.kwargs}
    if defaults:
        given = set(kwargs) | _by_position(node)
        for key, parameter in node.cls.signature.parameters.items():
            if key not in given and parameter.default is not parameter.empty:
                kwargs[key] = _writer(nodes.Const(parameter.default), True)
    return _spec(node.cls, _list([_writer(arg, defaults) for arg in node.args]), kwargs)


def _spec(cls: type[Spec], args: Writer, kwargs: dict[str, Writer]) -> Writer:
    named, name = _dict(kwargs), compact(registry.qualified_name(cls.target))
    return lambda row: f'{{"args":{args(row)},"call":{name},"kwargs":{named(row)}}}'


def _list(items: list[Writer]) -> Writer:
    return lambda row: "[" + ",".join([write(row) for write in items]) + "]"


def _dict(entries: dict[str, Writer]) -> Writer:
    pairs = [(f"{compact(key)}:", entries[key]) for key in sorted(entries)]
    return lambda row: "{" + ",".join([key + write(row) for key, write in pairs]) + "}"


def _by_position(node: nodes.Call) -> set[str]:
    """Names of the parameters before `*args`, which come by position if there are such."""
    names: set[str] = set()
    if node.args:
        for key, parameter in node.cls.signature.parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                break
            names.add(key)
    return names
