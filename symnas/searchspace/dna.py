"""Rows as PyGlove's DNA, and back.

Native where PyGlove can express the space: then the DNA belongs to `pg.dna_spec(space.program)`.
Spaces with shared, tied, derived or repeated decisions become a flat list of categoricals, in
which inactive decisions are 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyglove as pg
from numpy.typing import NDArray

from symnas.searchspace import nodes
from symnas.searchspace.decision import FLOAT_LEVELS, rescale

if TYPE_CHECKING:
    from symnas.searchspace.space import Space


def is_native(space: Space) -> bool:
    """Whether PyGlove can express the space as it is."""
    return space._compiled.native and not space._extras.get("task")


def dna_spec(space: Space) -> Any:
    """PyGlove's description: of the program itself, or a flat list of categoricals."""
    if is_native(space):
        return pg.dna_spec(space.program)
    flat = []
    for d in space.decisions:
        if d.kind == "float":
            flat.append(pg.floatv(*d.candidates, scale=d.scale))
        else:
            flat.append(pg.oneof(list(d.labels) if len(set(d.labels)) > 1 else ["only", "other"]))
    return pg.dna_spec(pg.List(flat))


def to_dna(space: Space, row: list[int]) -> Any:
    """The DNA of a row, bound to `dna_spec(space)`."""
    spec = space.dna_spec()
    numbers: list[int | float] = []
    if is_native(space):
        _numbers(space._compiled.root, row, numbers)
    else:
        for decision, value in zip(space.decisions, row, strict=True):
            value = max(value, 0)
            numbers.append(decision.number(value) if decision.kind == "float" else value)
    return pg.DNA.from_numbers(numbers, spec)


def from_dna(space: Space, dna: Any) -> NDArray[np.int32]:
    """The row of a DNA: `(columns,)`."""
    numbers = list(dna.to_numbers())
    row = [-1] * len(space)
    if is_native(space):
        left = _read(space._compiled.root, row, numbers)
        if left:
            raise ValueError(f"`dna` ({dna}) has {len(left)} numbers too many for this space.")
    else:
        for i, (decision, value) in enumerate(zip(space.decisions, numbers, strict=True)):
            row[i] = decision.level(float(value)) if decision.kind == "float" else int(value)
        space._moves.repair(row, None)
    return np.array(row, np.int32)


def _numbers(node: nodes.Node, row: list[int], out: list[int | float]) -> None:
    match node:
        case nodes.Choice():
            out.append(row[node.column])
            _numbers(node.candidates[row[node.column]], row, out)
        case nodes.Subset():
            for i in node.subsets[row[node.column]]:
                out.append(i)
                _numbers(node.candidates[i], row, out)
        case nodes.Picks():
            for column, candidates in zip(node.columns, node.candidates, strict=True):
                out.append(row[column])
                _numbers(candidates[row[column]], row, out)
        case nodes.Number():
            out.append(node.value(row, nodes.PROGRAM))
        case _:
            for child in nodes.children(node):
                _numbers(child, row, out)


def _read(node: nodes.Node, row: list[int], numbers: list[Any]) -> list[Any]:
    match node:
        case nodes.Choice():
            row[node.column], rest = int(numbers[0]), numbers[1:]
            return _read(node.candidates[row[node.column]], row, rest)
        case nodes.Subset():
            chosen, rest = [], numbers
            for _ in node.subsets[0]:
                chosen.append(int(rest[0]))
                rest = _read(node.candidates[chosen[-1]], row, rest[1:])
            row[node.column] = node.subsets.index(tuple(chosen))
            return rest
        case nodes.Picks():
            rest = numbers
            for column, candidates in zip(node.columns, node.candidates, strict=True):
                row[column] = int(rest[0])
                rest = _read(candidates[row[column]], row, rest[1:])
            return rest
        case nodes.Number():
            share = rescale(float(numbers[0]), node.low, node.high, node.scale)
            row[node.column] = round(share * (FLOAT_LEVELS - 1))
            return numbers[1:]
    for child in nodes.children(node):
        numbers = _read(child, row, numbers)
    return numbers
