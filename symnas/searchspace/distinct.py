"""Whether different rows are certainly different programs.

Where they are, a row is its own key; where two candidates could give equal programs, or a choice
shows only through what is computed from it, keys are made from the programs.
"""

from __future__ import annotations

from typing import Any

from symnas.searchspace import conditions as cond
from symnas.searchspace import nodes
from symnas.searchspace.compile import Compiled
from symnas.searchspace.match import equal


def rows_are_programs(compiled: Compiled, roots: list[nodes.Node]) -> bool:
    """True if no two rows can give equal programs. May err on the side of False."""
    shown: set[int] = set()
    for root in roots:
        if not _distinct(root, shown):
            return False
    return shown >= set(range(len(compiled.columns))) and _always_shown(compiled, roots)


def _distinct(node: nodes.Node, shown: set[int]) -> bool:
    if isinstance(node, nodes.Computed):
        return True  # decides nothing by itself; its columns must show elsewhere
    if isinstance(node, nodes.Number):
        shown.add(node.column)
    if isinstance(node, nodes.Choice | nodes.Subset):
        shown.add(node.column)
        if not _apart(node.candidates):
            return False
    if isinstance(node, nodes.Picks):
        shown.update(node.columns)
        if not all(_apart(candidates) for candidates in node.candidates):
            return False
    if isinstance(node, nodes.Repeated):
        # The number of blocks shows `times` if that is a plain choice of distinct integers.
        if isinstance(node.times, nodes.Choice):
            shown.add(node.times.column)
        return all(_distinct(block, shown) for block in node.blocks)
    return all(_distinct(child, shown) for child in nodes.children(node))


def _apart(candidates: tuple[nodes.Node, ...]) -> bool:
    return not any(_may_equal(a, b) for i, a in enumerate(candidates) for b in candidates[i + 1 :])


def _may_equal(a: nodes.Node, b: nodes.Node) -> bool:
    """Whether some value of `a` may equal some value of `b`."""
    if isinstance(a, nodes.Const) and isinstance(b, nodes.Const):
        return equal(a.constant, b.constant)
    if isinstance(a, nodes.Call) and isinstance(b, nodes.Call):
        if a.cls is not b.cls or len(a.args) != len(b.args):
            return False
        right = dict(b.kwargs)
        return all(map(_may_equal, a.args, b.args)) and all(
            k not in right or _may_equal(n, right[k]) for k, n in a.kwargs
        )
    if isinstance(a, nodes.Mapping) and isinstance(b, nodes.Mapping):
        left, right = dict(a.items), dict(b.items)
        return left.keys() == right.keys() and all(_may_equal(left[k], right[k]) for k in left)
    kinds = _kind(a), _kind(b)
    return kinds[0] is None or kinds[1] is None or kinds[0] == kinds[1]


def _kind(node: nodes.Node) -> type | None:
    """What a node's values are, where that is certain."""
    match node:
        case nodes.Const():
            value = node.constant
            if isinstance(value, dict | list):
                return dict if isinstance(value, dict) else list
            return type(value)
        case nodes.Call() | nodes.Object() | nodes.Repeated():
            return node.cls
        case nodes.Mapping():
            return dict
        case nodes.Items() | nodes.Picks() | nodes.Subset():
            return list
        case nodes.Number():
            return float
    return None


def _always_shown(compiled: Compiled, roots: list[nodes.Node]) -> bool:
    """Whether every column shows directly whenever it is active, not only where it is computed with."""
    sizes = [c.size for c in compiled.columns]
    raw: list[cond.Condition] = [[] for _ in compiled.columns]

    def visit(node: nodes.Node, when: cond.Condition) -> None:
        match node:
            case nodes.Computed() | nodes.Const():
                return
            case nodes.Choice():
                raw[node.column] = cond.either(raw[node.column], when)
                for i, child in enumerate(node.candidates):
                    visit(child, cond.both(when, node.column, frozenset([i])))
            case nodes.Number():
                raw[node.column] = cond.either(raw[node.column], when)
            case nodes.Subset():
                raw[node.column] = cond.either(raw[node.column], when)
                for i, child in enumerate(node.candidates):
                    having = frozenset(j for j, s in enumerate(node.subsets) if i in s)
                    visit(child, cond.both(when, node.column, having))
            case nodes.Picks():
                for column, candidates in zip(node.columns, node.candidates, strict=True):
                    raw[column] = cond.either(raw[column], when)
                    for i, child in enumerate(candidates):
                        visit(child, cond.both(when, column, frozenset([i])))
            case nodes.Repeated():
                _visit_repeated(node, when)
            case _:
                for child in nodes.children(node):
                    visit(child, when)

    def _visit_repeated(node: nodes.Repeated, when: cond.Condition) -> None:
        if isinstance(node.times, nodes.Choice):
            raw[node.times.column] = cond.either(raw[node.times.column], when)
            counts: Any = [c.constant for c in node.times.candidates if isinstance(c, nodes.Const)]
            for i, block in enumerate(node.blocks):
                longer = frozenset(j for j, count in enumerate(counts) if count > i)
                visit(block, cond.both(when, node.times.column, longer))

    for root in roots:
        visit(root, cond.ALWAYS)
    simple = [cond.reduce(c) for c in raw]
    return all(
        cond.drop_implied(simple[i], simple, sizes) == column.condition
        for i, column in enumerate(compiled.columns)
    )
