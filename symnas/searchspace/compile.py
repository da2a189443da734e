"""From a program with choices to columns and nodes.

A choice object has an identity, and a program may use it in several places. All uses are one
decision, unless they stand inside one candidate of a `manyof` that may be picked several times:
then a decision belongs to the smallest part of the program that contains all its uses, and each
pick of that part has its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import attrs
import pyglove as pg
import torch
from pyglove.core.geno import ConditionalKey

from symnas.errors import DeclarationError
from symnas.language.choices import Derived, Repeat, Tied, contains_choice
from symnas.language.spec import Spec, layout, spec_class
from symnas.searchspace import conditions as cond
from symnas.searchspace import nodes
from symnas.searchspace.decision import FLOAT_LEVELS, Decision
from symnas.searchspace.labels import labels_of
from symnas.searchspace.walk import (
    Position,
    children_of,
    common_start,
    describe_choice,
    same_choice,
)

# Up to this many subsets, a distinct and ordered `manyof` is one column.
MAX_SUBSETS = 4096
# Up to this many assignments are tried to see when a computed number of blocks exceeds i.
MAX_TIMES = 65_536


@attrs.define
class Column:
    """A column in the making."""

    path: str
    choice: Any
    kind: str
    size: int
    labels: tuple[str, ...]
    candidates: tuple[Any, ...]
    condition: cond.Condition
    group: str | None
    scale: str | None = None


@attrs.frozen
class Rule:
    """Columns of one `manyof` that constrain one another."""

    columns: tuple[int, ...]
    distinct: bool
    sorted: bool


@attrs.define
class Compiled:
    """What `Space` is made of."""

    root: nodes.Node
    columns: list[Column] = attrs.field(factory=list)
    rules: list[Rule] = attrs.field(factory=list)
    uids: set[int] = attrs.field(factory=set)
    names: dict[str, nodes.Node] = attrs.field(factory=dict)
    order: list[int] = attrs.field(factory=list)
    native: bool = True
    pyglove_derived: bool = False

    def decisions(self) -> tuple[Decision, ...]:
        """The columns as algorithms see them."""
        ids = [c.path for c in self.columns]
        return tuple(
            Decision(
                id=c.path,
                name=c.choice.name,
                kind=c.kind,
                candidates=c.candidates,
                labels=c.labels,
                when=()
                if c.condition == cond.ALWAYS
                else tuple(
                    tuple((ids[i], tuple(sorted(values))) for i, values in sorted(clause.items()))
                    for clause in c.condition
                ),
                group=c.group,
                scale=c.scale,
            )
            for c in self.columns
        )


def compile_program(program: Any, extras: dict[str, Any]) -> tuple[Compiled, dict[str, nodes.Node]]:
    """Compiles a program, and further structures whose ids are prefixed by their key.

    Raises:
        DeclarationError: names clash, a tied name is missing, or a decision depends on itself.
    """
    compiler = _Compiler({"": program, **extras})
    compiled = compiler.result
    compiled.root = compiler.compile(program, pg.KeyPath(), ("",), None)
    others = {}
    for key, value in extras.items():
        # What is prefixed so is the group's own: hyper-parameters of the task.
        others[key] = compiler.compile(value, pg.KeyPath(key), (key,), key)
    compiler.finish()
    return compiled, others


@attrs.frozen
class _Place:
    """Where the compiler is in a program, and when what stands there is active.

    Attributes:
        path: as PyGlove writes it, for ids.
        at: the same for all picks of a `manyof`; see `walk.children_of`.
        when: the condition.
        picks: which pick of the `manyof` at a position this is inside of.
        group: the author's label.
    """

    path: pg.KeyPath
    at: Position
    when: cond.Condition = attrs.field(factory=lambda: cond.ALWAYS)
    picks: dict[Position, int] = attrs.field(factory=dict)
    group: str | None = None

    def below(self, keys: Iterable[Any], at: Hashable, **changes: Any) -> _Place:
        """A part of what stands here."""
        path = pg.KeyPath([*self.path.keys, *keys])
        return attrs.evolve(self, path=path, at=(*self.at, at), **changes)

    def picked(self, pick: int, of: int) -> _Place:
        """One pick of the `manyof` that stands here."""
        path = self.path if of == 1 else pg.KeyPath([*self.path.keys, pick])
        return attrs.evolve(self, path=path, picks={**self.picks, self.at: pick})


class _Compiler:
    def __init__(self, roots: dict[str, Any]) -> None:
        self.result = Compiled(root=nodes.Const(None))
        self.named: dict[str, Any] = {}
        self.uses: dict[Hashable, list[Position]] = {}
        self.made: dict[Hashable, Any] = {}  # scoped key -> column, or columns of a manyof
        for root in roots.values():
            self._find_names(root, "")
        for key, root in roots.items():
            self._find_uses(root, (key,), ())
        self.home = {key: common_start(positions) for key, positions in self.uses.items()}

    # Names and uses ---------------------------------------------------------------------------

    def _find_names(self, value: Any, path: str) -> None:
        if isinstance(value, pg.hyper.HyperPrimitive) and value.name is not None:
            known = self.named.setdefault(value.name, value)
            if known is not value and not same_choice(known, value):
                raise DeclarationError(
                    f"The name {value.name!r} is given to two decisions with other candidates: "
                    f"{describe_choice(known)} and {describe_choice(value)} (at `{path}`). Use another name; "
                    "the same name means the same decision."
                )
        for key, child in children_of(value):
            self._find_names(child, f"{path}.{key}" if path else str(key))

    def _find_uses(self, value: Any, at: Position, ties: tuple[str, ...]) -> None:
        if isinstance(value, Tied):
            target = self._target(value, at)
            if value.name in ties:
                raise DeclarationError(
                    f"sn.tied({value.name!r}) is used inside its own candidates."
                )
            self._find_uses(target, at, (*ties, value.name))
            return
        if isinstance(value, pg.hyper.HyperPrimitive):
            self.uses.setdefault(self._key(value, at), []).append(at)
            uid = getattr(value, "uid", 0)
            if uid:
                self.result.uids.add(uid)
        for key, child in children_of(value):
            self._find_uses(child, (*at, key), ties)

    def _target(self, tie: Tied, at: Position) -> Any:
        if tie.name not in self.named:
            known = ", ".join(repr(n) for n in sorted(self.named)) or "none"
            raise DeclarationError(
                f"sn.tied({tie.name!r}) at `{_text(at)}`: no decision has this name (names here: "
                f"{known}). Give it to a choice: sn.oneof([...], name={tie.name!r})."
            )
        return self.named[tie.name]

    def _key(self, choice: Any, at: Position) -> Hashable:
        if choice.name is not None and hasattr(choice, "uid"):
            return ("name", choice.name)
        uid: Any = getattr(choice, "uid", None)
        return ("uid", uid) if uid else ("at", at)

    def _scoped(self, choice: Any, place: _Place) -> Hashable:
        key = self._key(choice, place.at)
        home = self.home[key]
        inside = [
            (p, i) for p, i in place.picks.items() if len(home) > len(p) and home[: len(p)] == p
        ]
        return (key, tuple(sorted(inside, key=repr)))

    # Compilation ------------------------------------------------------------------------------

    def compile(self, value: Any, path: pg.KeyPath, at: Position, group: str | None) -> nodes.Node:
        return self._visit(value, _Place(path, at, group=group))

    def _visit(self, value: Any, place: _Place) -> nodes.Node:
        if isinstance(value, pg.hyper.DerivedValue):
            self.result.pyglove_derived = True
            return nodes.Const(value)
        if not contains_choice(value):
            return nodes.Const(value)

        def down(child: Any, *keys: Any, at: Hashable = None) -> nodes.Node:
            return self._visit(child, place.below(keys, keys[-1] if at is None else at))

        match value:
            case Tied():
                self.result.native = False
                return self._visit(self._target(value, place.at), place)
            case Derived():
                self.result.native = False
                args = tuple(down(a, "args", i, at=("arg", i)) for i, a in enumerate(value.args))
                return nodes.Computed(value.function, args)
            case Repeat():
                return self._repeat(value, place)
            case pg.hyper.Float():
                return self._named(value, self._float(value, place))
            case pg.hyper.Choices():
                return self._named(value, self._choices(value, place))
            case pg.hyper.HyperValue():
                raise DeclarationError(
                    f"`{place.path}`: {type(value).__name__} cannot be compiled to columns; symnas "
                    "knows PyGlove's oneof, manyof, permutate and floatv."
                )
            case Spec():
                args_, kwargs_ = layout(value)
                return nodes.Call(
                    type(value),
                    tuple(down(v, *keys, at=keys) for keys, v in args_),
                    tuple((k, down(v, k, at=(k,))) for k, v in kwargs_.items()),
                )
            case pg.Object():
                fields = value.sym_init_args.items()
                return nodes.Object(type(value), tuple((k, down(v, k)) for k, v in fields))
            case dict():
                return nodes.Mapping(tuple((k, down(v, k)) for k, v in value.items()))
            case list():
                return nodes.Items(tuple(down(v, i) for i, v in enumerate(value)))
        raise DeclarationError(f"`{place.path}`: a choice inside a {type(value).__name__} is lost.")

    def _named(self, choice: Any, node: nodes.Node) -> nodes.Node:
        if choice.name is not None:
            self.result.names.setdefault(choice.name, node)
        return node

    def _column(self, key: Hashable, place: _Place, column: Column) -> int:
        """The column of a decision: a new one, or the one that an earlier use has made."""
        found: int | None = self.made.get(key)
        if found is None:
            column.condition = place.when
            self.result.columns.append(column)
            found = self.made[key] = len(self.result.columns) - 1
        else:
            self.result.native = False
            known = self.result.columns[found]
            known.condition = cond.either(known.condition, place.when)
        return found

    def _float(self, choice: Any, place: _Place) -> nodes.Node:
        bounds = (choice.min_value, choice.max_value)
        own = getattr(choice, "group", None) or place.group
        column = Column(
            str(place.path), choice, "float", FLOAT_LEVELS, (), bounds, [], own, choice.scale
        )
        index = self._column(self._scoped(choice, place), place, column)
        return nodes.Number(index, *bounds, choice.scale)

    def _choices(self, choice: Any, place: _Place) -> nodes.Node:
        place = attrs.evolve(place, group=getattr(choice, "group", None) or place.group)
        key = self._scoped(choice, place)
        n, k = len(choice.candidates), choice.num_choices
        values = tuple(choice.candidates)
        labels = labels_of(values)

        def column(key: Hashable, place: _Place, labels: tuple[str, ...], values: Any) -> int:
            kind = "ordinal" if _monotone(values) else "categorical"
            return self._column(
                key,
                place,
                Column(
                    str(place.path), choice, kind, len(values), labels, tuple(values), [],
                    place.group,
                ),
            )  # fmt: skip

        def candidate(i: int, place: _Place, index: int, chosen: Iterable[int]) -> nodes.Node:
            """Candidate i, which is there when the column has one of these values."""
            when = cond.both(place.when, index, frozenset(chosen))
            return self._visit(values[i], place.below((ConditionalKey(i, n),), i, when=when))

        if isinstance(choice, pg.hyper.OneOf):
            index = column(key, place, labels, values)
            return nodes.Choice(index, tuple(candidate(i, place, index, [i]) for i in range(n)))
        if choice.choices_distinct and choice.choices_sorted and math.comb(n, k) <= MAX_SUBSETS:
            subsets = tuple(itertools.combinations(range(n), k))
            names = tuple(" + ".join(labels[i] for i in s) or "(none)" for s in subsets)
            index = column(key, place, names, [[values[i] for i in s] for s in subsets])
            having = [[j for j, s in enumerate(subsets) if i in s] for i in range(n)]
            return nodes.Subset(
                index, subsets, tuple(candidate(i, place, index, having[i]) for i in range(n))
            )
        places = [place.picked(pick, k) for pick in range(k)]
        indices = tuple(column((key, pick), p, labels, values) for pick, p in enumerate(places))
        rule = Rule(indices, choice.choices_distinct, choice.choices_sorted)
        if k > 1 and (rule.distinct or rule.sorted) and rule not in self.result.rules:
            self.result.rules.append(rule)
        return nodes.Picks(
            indices,
            tuple(
                tuple(candidate(i, p, index, [i]) for i in range(n))
                for p, index in zip(places, indices, strict=True)
            ),
        )

    def _repeat(self, value: Repeat, place: _Place) -> nodes.Node:
        self.result.native = False
        times = self._visit(value.times, place.below(("times",), "times"))
        cases = list(self._cases(times))
        blocks = []
        for i, block in enumerate(value.blocks):
            longer: cond.Condition = [dict(clause) for clause, count in cases if count > i]
            when = cond.conjunction(place.when, cond.reduce(longer))
            blocks.append(self._visit(block, place.below(("blocks", i), ("block", i), when=when)))
        return nodes.Repeated(times, tuple(blocks), spec_class(torch.nn.Sequential))

    def _cases(self, node: nodes.Node) -> Iterator[tuple[cond.Clause, int]]:
        """Every assignment of the columns that a node depends on, and the value it gives."""
        columns = sorted(nodes.columns_of(node))
        sizes = [self.result.columns[c].size for c in columns]
        if math.prod(sizes) > MAX_TIMES:
            raise DeclarationError(
                f"A number of blocks depends on {math.prod(sizes)} combinations of choices; "
                f"the limit is {MAX_TIMES}. Derive it from fewer choices."
            )
        row = [-1] * len(self.result.columns)
        for values in itertools.product(*(range(size) for size in sizes)):
            for column, v in zip(columns, values, strict=True):
                row[column] = v
            clause = {c: frozenset([v]) for c, v in zip(columns, values, strict=True)}
            yield clause, node.value(row, nodes.PROGRAM)

    # The end ----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Simplifies conditions and finds an order in which parents come first."""
        columns = self.result.columns
        taken: dict[str, int] = {}
        for column in columns:
            if column.path in taken:  # one choice object of a manyof shared by unequal picks
                taken[column.path] += 1
                column.path = f"{column.path}#{taken[column.path]}"
            taken[column.path] = 1
        sizes = [c.size for c in columns]
        raw = [cond.reduce(c.condition) for c in columns]
        for i, column in enumerate(columns):
            column.condition = cond.drop_implied(raw[i], raw, sizes)
        parents = [{p for clause in c.condition for p in clause} for c in columns]
        done: set[int] = set()
        order: list[int] = []
        while len(order) < len(columns):
            ready = [i for i in range(len(columns)) if i not in done and parents[i] <= done]
            if not ready:
                stuck = [columns[i].path for i in range(len(columns)) if i not in done]
                raise DeclarationError(
                    f"These decisions depend on one another in a circle: {', '.join(stuck[:5])}."
                )
            order.extend(ready)
            done.update(ready)
        self.result.order = order


def _monotone(values: Any) -> bool:
    if len(values) < 2 or not all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in values
    ):
        return False
    pairs = list(itertools.pairwise(values))
    return all(a < b for a, b in pairs) or all(a > b for a, b in pairs)


def _text(at: Position) -> str:
    parts = [str(step) for part in at for step in (part if isinstance(part, tuple) else (part,))]
    return ".".join(p for p in parts if p)
