"""Parts of a space: fixed, restricted, around an architecture, split by group.

A part is a space of its own, whose rows `lift` turns into rows of its parent. It is the parent's
program with the excluded candidates taken away, so it builds, encodes and costs like any space.
"""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searchspace import conditions as cond
from symnas.searchspace.compile import Compiled
from symnas.searchspace.decision import FLOAT_LEVELS, unscale
from symnas.searchspace.moves import Moves
from symnas.searchspace.space import Seed, Space, seed_of

Rows = NDArray[np.int32]


class Part(Space):
    """A space that is part of another: some values of some decisions are excluded.

    It has the columns of its parent, less those that have one value left; `lift` gives rows of the
    parent, and `lower` the reverse.
    """

    parent: Space
    kept: tuple[tuple[int, ...] | None, ...]
    free: tuple[int, ...]
    _limit: tuple[tuple[int, ...], int] | None

    @classmethod
    def of(
        cls,
        parent: Space,
        kept: dict[int, tuple[int, ...]],
        limit: tuple[tuple[int, ...], int] | None = None,
    ) -> Part:
        """The part in which columns (by index) keep only these values.

        `limit` is a row and the number of decisions in which rows may differ from it.
        """
        made = cls.__new__(cls)
        made.parent = parent
        made.program = parent.program
        made.valid = _lifted_valid(made, limit)
        made.canonical = parent.canonical
        made.name = parent.name
        made._shape, made._task, made._extras = parent._shape, parent._task, parent._extras
        columns = parent._compiled.columns
        made.kept = tuple(kept.get(i) for i in range(len(columns)))
        made._compiled, made.free = _compiled_part(made.kept, parent._compiled)
        made.decisions = made._compiled.decisions()
        made.columns = tuple(d.id for d in made.decisions)
        made._moves = Moves(made._compiled)
        made._sizes = [d.size for d in made.decisions]
        made._code = "b" if max(made._sizes, default=1) < 127 else "i"
        made._limit = limit
        made.derived = {}
        return made

    def sample(self, n: int, seed: Seed = 0, uniform: str = "decisions") -> Rows:
        """As `Space.sample`; around an architecture, 1 to `changes` mutations of it."""
        if self._limit is None:
            return super().sample(n, seed, uniform)
        row, changes = self._limit
        rng = random.Random(seed_of(seed))
        rows = []
        for _ in range(n):
            changed = list(row)
            for _ in range(rng.randint(1, changes)):
                changed = self._moves.mutate(changed, rng)
            rows.append(changed)
        return self._array(rows)

    def with_task(self, arguments: dict[str, Any]) -> Space:
        """The part joined with the choices in a task's arguments; see `Space.with_task`."""
        parent = self.parent.with_task(arguments)
        if parent is self.parent:
            return self
        # What joins comes behind the columns that there are.
        kept = {i: values for i, values in enumerate(self.kept) if values is not None}
        limit = self._limit
        if limit is not None:
            row, changes = limit
            added = parent.sample(1, 0)[0, len(row) :].tolist()
            limit = ((*row, *added), changes)
        return Part.of(parent, kept, limit)

    def lift(self, rows: Any) -> Rows:
        """Rows of the parent for rows of this part: `(n, parent's columns)`."""
        rows = np.asarray(rows, np.int32)
        # A part without decisions has rows of no numbers, of which -1 cannot infer how many.
        rows = rows.reshape(-1, len(self)) if len(self) else np.atleast_2d(rows)
        lifted = np.full((len(rows), len(self.parent)), -1, np.int32)
        for position, i in enumerate(self.free):
            values = rows[:, position]
            kept = self.kept[i]
            if kept is not None:
                table = np.array([*kept, -1], np.int32)
                values = table[values]
            lifted[:, i] = values
        sizes = self.parent._sizes
        for i in self.parent._compiled.order:
            kept = self.kept[i]
            if kept is not None and len(kept) == 1:
                condition = self.parent._compiled.columns[i].condition
                lifted[cond.holds(condition, lifted, sizes), i] = kept[0]
        return lifted

    def lower(self, rows: Any) -> Rows:
        """Rows of this part for rows of the parent that lie in it."""
        lowered = []
        for k, row in enumerate(np.asarray(rows).reshape(-1, len(self.parent)).tolist()):
            found = self._lowered(row)
            if found is None:
                raise ValueError(f"`rows`: row {k} has a value that this part excludes.")
            lowered.append(found)
        return self._array(lowered)

    def decode(self, row: Any) -> Any:
        """The architecture of a row: one of the parent, with the parent's `.row` and `.choices`."""
        return self.parent.decode(self.lift([self._list(row)])[0])

    def _find(self, value: Any) -> list[int] | None:
        row = self.parent._find(value)
        if row is None:
            return None
        lowered = self._lowered(row)
        return lowered if lowered is not None and self.is_row(lowered) else None

    def _lowered(self, row: Sequence[int]) -> list[int] | None:
        result = []
        for i, value in enumerate(row):
            kept = self.kept[i]
            if kept is not None and value >= 0:
                if value not in kept:
                    return None
                value = kept.index(value)
            if i in self.free:
                result.append(value)
        return result

    def key_of(self, row: list[int]) -> bytes:
        """The parent's key, so that a part and its parent agree on what is the same."""
        return self.parent.key_of(self.lift([row])[0].tolist())


def fix(space: Space, values: dict[str, Any]) -> Part:
    """The part in which decisions have these values; keys are ids, names, or patterns with `**`.

    >>> import symnas as sn
    >>> space = sn.Space([sn.oneof([1, 2, 3], name="a"), sn.oneof([4, 5])])
    >>> space.fix({"a": 2}).size
    2
    """
    return restrict(space, {key: [value] for key, value in values.items()})


def restrict(space: Space, values: dict[str, Sequence[Any]]) -> Part:
    """The part in which decisions keep only these candidates, given as values or labels.

    Raises:
        ValueError: no decision matches a key, or a value is not among a decision's candidates.

    >>> import symnas as sn
    >>> space = sn.Space(sn.nn.Conv2d(1, 8, kernel_size=sn.oneof([3, 5, 7])))
    >>> space.restrict({"**kernel_size": [3, 5]}).size
    2
    """
    kept: dict[int, tuple[int, ...]] = {}
    for key, wanted in values.items():
        columns = matching(space, key)
        if not isinstance(wanted, list | tuple) or not wanted:
            raise ValueError(f"`{key}` ({wanted!r}) must be a list of the candidates to keep.")
        for column in columns:
            indices = tuple(sorted({_index(space, column, value) for value in wanted}))
            kept[column] = tuple(i for i in indices if i in kept.get(column, indices))
            if not kept[column]:
                raise ValueError(f"`{key}`: no candidate of {space.columns[column]!r} is left.")
    return Part.of(space, kept)


def around(space: Space, architecture: Any, changes: int) -> Part:
    """The part that differs from an architecture in at most `changes` decisions that both have.

    Decisions that only one of the two has do not count by themselves: they follow from others.
    """
    if changes < 1:
        raise ValueError(f"`changes` ({changes}) must be at least 1.")
    row = tuple(int(v) for v in space.encode(architecture))
    return Part.of(space, {}, limit=(row, changes))


def split(space: Space, group: str) -> tuple[Part, Part]:
    """`(inner, outer)`: the decisions labelled `group` with all nested in them, and the others.

    Each holds the other's decisions at their first values, so both lift to full rows; `join`
    puts rows of both together.

    Raises:
        ValueError: no decision is labelled `group`, or all are; or a decision of one part is active
            only for some values of the other's, so that neither stands alone.

    >>> import symnas as sn
    >>> space = sn.Space([sn.oneof([1, 2, 3], group="hardware"), sn.oneof([4, 5])])
    >>> inner, outer = space.split("hardware")
    >>> inner.size, outer.size
    (3, 2)
    """
    inside = {i for i, d in enumerate(space.decisions) if d.group == group}
    outside = set(range(len(space))) - inside
    if not inside or not outside:
        known = sorted({d.group for d in space.decisions if d.group})
        raise ValueError(
            f"`group` ({group!r}) must label some decisions and leave others; groups here: {known}."
        )
    for i, column in enumerate(space._compiled.columns):
        for parent in {p for clause in column.condition for p in clause}:
            if (parent in inside) != (i in inside):
                raise ValueError(
                    f"`group` ({group!r}): {column.path!r} depends on "
                    f"{space.columns[parent]!r}, which is in the other part. Label both."
                )
    inner = Part.of(space, dict.fromkeys(outside, (0,)))
    return inner, Part.of(space, dict.fromkeys(inside, (0,)))


def join(space: Space, inner: Part, inner_rows: Any, outer: Part, outer_rows: Any) -> Rows:
    """Full rows from rows of the two parts of a `split`."""
    rows = outer.lift(outer_rows)
    inside = [i for i, kept in enumerate(outer.kept) if kept is not None]
    rows[:, inside] = inner.lift(inner_rows)[:, inside]
    return rows


def flattened(part: Space, whole: Space) -> list[list[int] | None]:
    """What a part of a part of ... a space keeps: for each column of the whole, its values, or None.

    Raises:
        ValueError: it is no part of that space.
    """
    if part is whole:
        return [None] * len(whole)
    if not isinstance(part, Part):
        raise ValueError(f"{part!r} is no part of {whole!r}.")
    above = flattened(part.parent, whole)
    columns = columns_in(part.parent, whole)
    for i, kept in enumerate(part.kept):
        if kept is not None:
            values = above[columns[i]]
            above[columns[i]] = list(kept) if values is None else [values[v] for v in kept]
    return above


def columns_in(part: Space, whole: Space) -> list[int]:
    """The columns of the whole that those of a part are."""
    if part is whole or not isinstance(part, Part):
        return list(range(len(whole)))
    above = columns_in(part.parent, whole)
    return [above[i] for i in part.free]


def whole_of(space: Space) -> Space:
    """The space that a part of a part of ... is of; a whole space itself."""
    while isinstance(space, Part):
        space = space.parent
    return space


def matching(space: Space, key: str) -> list[int]:
    """The columns that an id, a name, or a pattern (`**` for anything) matches."""
    found = [i for i, d in enumerate(space.decisions) if key in (d.id, d.name)]
    if not found and "*" in key:
        pattern = key.replace("[", "[[]").replace("**", "*")
        found = [i for i, d in enumerate(space.decisions) if fnmatch.fnmatchcase(d.id, pattern)]
    if not found:
        some = ", ".join(space.columns[:6]) + (", ..." if len(space) > 6 else "")
        raise ValueError(f"`{key}` matches no decision of this space; ids: {some}.")
    return found


def _index(space: Space, column: int, value: Any) -> int:
    decision = space.decisions[column]
    if decision.kind == "float":
        low, high = decision.candidates
        if not low <= value <= high:
            raise ValueError(f"{value!r} is outside the bounds of {decision.id!r}.")
        return decision.level(float(value))
    from symnas.searchspace.match import equal

    for i, candidate in enumerate(decision.candidates):
        if equal(candidate, value) or decision.labels[i] == value:
            return i
    raise ValueError(
        f"{value!r} is not a candidate of {decision.id!r}; candidates: {list(decision.labels)}."
    )


def _compiled_part(
    kept: tuple[tuple[int, ...] | None, ...], parent: Compiled
) -> tuple[Compiled, tuple[int, ...]]:
    """The parent's columns with values excluded, and which of them are left."""
    for rule in parent.rules:
        if any(kept[c] is not None for c in rule.columns) and not all(
            kept[c] is not None and len(kept[c] or ()) == 1 for c in rule.columns
        ):
            raise ValueError(
                "Picks of a distinct or sorted manyof cannot be restricted one by one: "
                f"{[parent.columns[c].path for c in rule.columns]}."
            )
    # Conditions in the parent's numbers: what asks for a fixed column asks for its activity.
    conditions: dict[int, cond.Condition] = {}
    for i in parent.order:
        condition: cond.Condition = []
        for clause in parent.columns[i].condition:
            extended: cond.Condition = [{}]
            for column, values in clause.items():
                allowed_ = kept[column]
                left = values if allowed_ is None else values & frozenset(allowed_)
                if not left:
                    extended = []
                elif allowed_ is not None and len(allowed_) == 1:
                    extended = cond.conjunction(extended, conditions[column])
                else:
                    extended = cond.both(extended, column, left)
            condition += extended
        conditions[i] = cond.reduce(condition)
    # A decision with one value left is none, and one that can never be active neither.
    free = tuple(i for i, k in enumerate(kept) if conditions[i] and (k is None or len(k) > 1))
    position = {i: k for k, i in enumerate(free)}

    def renumbered(clause: cond.Clause) -> cond.Clause:
        result = {}
        for column, values in clause.items():
            allowed_ = kept[column]
            own = values if allowed_ is None else frozenset(allowed_.index(v) for v in values)
            result[position[column]] = own
        return result

    columns = []
    for i in free:
        own = parent.columns[i]
        changes: dict[str, Any] = {"condition": [renumbered(c) for c in conditions[i]]}
        chosen = kept[i]
        if chosen is not None and own.kind == "float":
            low, high = own.candidates
            shares = [v / (FLOAT_LEVELS - 1) for v in chosen]
            numbers = tuple(unscale(share, low, high, own.scale) for share in shares)
            changes |= {"kind": "ordinal", "size": len(numbers), "candidates": numbers}
            changes |= {"labels": tuple(f"{x:.6g}" for x in numbers)}
        elif chosen is not None:
            changes |= {"size": len(chosen), "labels": tuple(own.labels[v] for v in chosen)}
            changes |= {"candidates": tuple(own.candidates[v] for v in chosen)}
        columns.append(attrs.evolve(own, **changes))
    sizes = [c.size for c in columns]
    raw = [c.condition for c in columns]
    for k, part in enumerate(columns):
        part.condition = cond.drop_implied(raw[k], raw, sizes)
    compiled = Compiled(
        root=parent.root,
        columns=columns,
        rules=[
            attrs.evolve(rule, columns=tuple(position[c] for c in rule.columns))
            for rule in parent.rules
            if all(c in position for c in rule.columns)
        ],
        uids=parent.uids,
        names=parent.names,
        order=[position[i] for i in parent.order if i in position],
        native=False,
        pyglove_derived=parent.pyglove_derived,
    )
    return compiled, free


def _lifted_valid(part: Part, limit: tuple[tuple[int, ...], int] | None) -> Any:
    parent = part.parent
    if parent.valid is None and limit is None:
        return None

    def valid(architecture: Any) -> bool:
        if limit is not None:
            row, changes = limit
            pairs = zip(architecture.row, row, strict=True)
            if sum(a != b and a >= 0 and b >= 0 for a, b in pairs) > changes:
                return False
        return parent.valid is None or bool(parent.valid(architecture))

    return valid
