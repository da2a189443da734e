"""`Space`: a program with choices, compiled to columns; architectures are rows of integers."""

from __future__ import annotations

import hashlib
import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symnas.errors import DeclarationError
from symnas.language.symbolize import program_of
from symnas.searchspace import conditions as cond
from symnas.searchspace import nodes
from symnas.searchspace.compile import compile_program
from symnas.searchspace.count import Counter, allowed
from symnas.searchspace.decision import FLOAT_LEVELS, Decision
from symnas.searchspace.moves import Moves
from symnas.searchspace.sampling import sample_decisions

if TYPE_CHECKING:
    import pandas as pd

    from symnas.architecture.architecture import Architecture

Rows = NDArray[np.int32]
Seed = int | Sequence[int]


class Space:
    """All architectures that a program with choices stands for.

    Args:
        program: a spec, a choice, or lists and dicts of them; also any symbolic value of PyGlove.
        input: the shape of one example, without the batch; entries may be choices.
        valid: `valid(architecture) -> bool` excludes architectures.
        canonical: `canonical(architecture) -> hashable`, equal for what is the same network;
            by default, architectures are the same when their programs are equal.
        name: for tables and reports.

    Raises:
        DeclarationError: the program loses a choice, or its choices contradict one another.

    >>> import symnas as sn
    >>> space = sn.Space(sn.nn.Sequential(
    ...     sn.nn.Linear(4, sn.oneof([8, 16], name="width")), sn.oneof([sn.nn.ReLU(), sn.nn.GELU()])))
    >>> space.size, space.columns
    (4, ('args[0].out_features', 'args[1]'))
    >>> space.decode([1, 0]).build()
    Sequential(
      (0): Linear(in_features=4, out_features=16, bias=True)
      (1): ReLU()
    )
    """

    def __init__(
        self,
        program: Any,
        input: Any = None,
        valid: Callable[[Architecture], bool] | None = None,
        canonical: Callable[[Architecture], Any] | None = None,
        *,
        name: str | None = None,
        task: dict[str, Any] | None = None,
    ) -> None:
        self.program = program_of(program)
        self.valid = valid
        self.canonical = canonical
        self.name = name or type(self.program).__name__
        self._shape = None if input is None else program_of(list(input))
        self._task = dict(task or {})
        extras: dict[str, Any] = {}
        if self._shape is not None:
            extras["input"] = self._shape
        if self._task:
            extras["task"] = program_of(self._task)
        self._compiled, self._extras = compile_program(self.program, extras)
        self.decisions: tuple[Decision, ...] = self._compiled.decisions()
        self.columns: tuple[str, ...] = tuple(d.id for d in self.decisions)
        self._moves = Moves(self._compiled)
        # What costs have found out about the space: worth keeping as long as the space is.
        self.derived: dict[str, Any] = {}
        self._sizes = [d.size for d in self.decisions]
        # A key holds one short integer a decision.
        self._code = "b" if max(self._sizes, default=1) < 127 else "i"

    # What there is ----------------------------------------------------------------------------

    @property
    def input(self) -> tuple[int, ...] | None:
        """The shape of one example, or None; where it has choices, the largest of each."""
        if self._shape is None:
            return None
        from symnas.searchspace.possible import possible_values

        return tuple(max(possible_values(entry)) for entry in self._shape)

    @property
    def choice_uids(self) -> set[int]:
        """Identities of the choice objects that are part of the program."""
        return self._compiled.uids

    @cached_property
    def _counter(self) -> Counter:
        return Counter(self._compiled)

    @cached_property
    def size(self) -> int:
        """The exact number of rows, over discrete decisions; `valid` and `canonical` not counted."""
        return self._counter.total

    @cached_property
    def has_floats(self) -> bool:
        """Whether a decision is a float, so that rows cannot be enumerated."""
        return any(d.kind == "float" for d in self.decisions)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "derived": {}}

    def __len__(self) -> int:
        return len(self.decisions)

    def __repr__(self) -> str:
        size = self.size
        text = f"{size:,}" if size < 10**9 else f"{size:.2e}" if size < 10**300 else "over 1e300"
        return f"Space({self.name}: {len(self)} decisions, {text} architectures)"

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the space in a record: its decisions, as plain data."""
        return {
            "name": self.name,
            "size": str(self.size),
            "decisions": [
                {
                    "id": d.id,
                    "name": d.name,
                    "kind": d.kind,
                    "labels": list(d.labels)
                    if d.kind != "float"
                    else [str(c) for c in d.candidates],
                    "when": [[[i, list(v)] for i, v in clause] for clause in d.when],
                    "group": d.group,
                }
                for d in self.decisions
            ],
        }

    # Rows -------------------------------------------------------------------------------------

    def sample(self, n: int, seed: Seed = 0, uniform: str = "decisions") -> Rows:
        """`n` random rows, `(n, columns)` int32, -1 where a decision is inactive.

        Args:
            n: how many; with repetitions, and `valid` not applied.
            seed: an integer, or several.
            uniform: "decisions" gives each active decision's values equal probability (PyGlove's
                distribution); "architectures" gives each row of the space equal probability.

        >>> import symnas as sn
        >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])))
        >>> space.sample(3, seed=1).shape
        (3, 1)
        """
        rng = np.random.default_rng(seed)
        if uniform == "decisions":
            return sample_decisions(self._compiled, n, rng)
        if uniform != "architectures":
            raise ValueError(f"`uniform` ({uniform!r}) must be 'decisions' or 'architectures'.")
        rows = self._counter.sample(n, rng)
        for i, decision in enumerate(self.decisions):
            if decision.kind == "float":
                active = rows[:, i] >= 0
                rows[active, i] = rng.integers(0, FLOAT_LEVELS, int(active.sum()))
        return rows

    def enumerate(self, batch: int = 4096, levels: int | None = None) -> Iterator[Rows]:
        """All rows in order, the last decision changing fastest, in arrays of up to `batch`.

        Args:
            batch: the most rows of one array.
            levels: how many values, evenly spaced on its scale, stand for each float decision.

        Raises:
            DeclarationError: a decision is a float and `levels` is not given: there is no end.
        """
        if self.has_floats and levels is None:
            floats = [d.id for d in self.decisions if d.kind == "float"]
            raise DeclarationError(
                f"The space has float decisions ({', '.join(floats)}), so it cannot be "
                "enumerated. Pass `levels=`, fix them (space.fix) or replace floatv by oneof."
            )
        from symnas.searchspace.enumeration import all_rows

        pending: list[list[int]] = []
        for row in all_rows(self._compiled, levels):
            pending.append(row)
            if len(pending) == batch:
                yield np.array(pending, np.int32).reshape(batch, len(self))
                pending = []
        if pending:
            yield np.array(pending, np.int32).reshape(len(pending), len(self))

    def mutate(self, rows: Any, seed: Seed = 0) -> Rows:
        """Each row with one active decision changed, and what that activates drawn anew."""
        rng = random.Random(seed_of(seed))
        return self._array([self._moves.mutate(row, rng) for row in self._lists(rows)])

    def crossover(self, a: Any, b: Any, seed: Seed = 0) -> Rows:
        """Rows that take each decision from one of two parents: `a` and `b` are `(n, columns)`."""
        rng = random.Random(seed_of(seed))
        pairs = zip(self._lists(a), self._lists(b), strict=True)
        return self._array([self._moves.crossover(x, y, rng) for x, y in pairs])

    def neighbors(self, row: Any) -> Rows:
        """All rows that differ from `row` in one decision (a swap, for a permutation)."""
        return self._array(list(self._moves.neighbors(self._list(row))))

    def is_row(self, row: Any) -> bool:
        """Whether a sequence of integers is a row of this space, by activity, bounds and rules."""
        values = [int(v) for v in row]
        if len(values) != len(self):
            return False
        for i, column in enumerate(self._compiled.columns):
            active = cond.holds_row(column.condition, values)
            if active != (values[i] >= 0) or values[i] >= column.size or values[i] < -1:
                return False
        return all(
            allowed([values[c] for c in rule.columns if values[c] >= 0], rule)
            for rule in self._compiled.rules
        )

    def is_valid(self, rows: Any) -> NDArray[np.bool_]:
        """Which rows pass `valid`: `(n,)`."""
        rows = np.asarray(rows)
        if self.valid is None:
            return np.ones(len(rows), bool)
        return np.array([bool(self.valid(self.decode(row))) for row in rows], bool)

    def keys(self, rows: Any) -> list[bytes]:
        """One key a row, equal for what is the same architecture of this space."""
        return [self.key_of(row) for row in self._lists(rows)]

    def key_of(self, row: list[int]) -> bytes:
        """`keys` of one row, given as a list of integers."""
        if self.canonical is not None or not self._rows_are_programs:
            return self._program_key(row)
        return array(self._code, row).tobytes()

    def row_key(self, row: list[int]) -> bytes:
        """A row as a short key of its own, whatever other rows mean the same."""
        return array(self._code, row).tobytes()

    @cached_property
    def _rows_are_programs(self) -> bool:
        from symnas.searchspace.distinct import rows_are_programs

        return rows_are_programs(self._compiled, [self._compiled.root, *self._extras.values()])

    def _program_key(self, row: Any) -> bytes:
        architecture = self.decode(row)
        if self.canonical is None:
            return bytes.fromhex(architecture.key)
        same = (self.canonical(architecture), sorted(architecture.task.items()), architecture.input)
        return hashlib.blake2b(repr(same).encode(), digest_size=16).digest()

    # Architectures ----------------------------------------------------------------------------

    def decode(self, row: Any) -> Architecture:
        """The architecture of a row.

        Raises:
            ValueError: `row` is not a row of this space.
        """
        from symnas.architecture.architecture import Architecture

        values = tuple(self._list(row))
        if not self.is_row(values):
            raise ValueError(
                f"`row` ({list(values)}) is not a row of this space: it has {len(self)} decisions, "
                "each from 0 to its size - 1, or -1 where it is inactive."
            )
        return Architecture._of_row(self, values)

    def encode(self, architecture: Any) -> Rows:
        """The row of an architecture or program: `(columns,)`.

        Raises:
            ValueError: it is not an instance of this space.
        """
        row = self._find(architecture)
        if row is None:
            raise ValueError(
                f"The program is not an instance of {self!r}: a part differs that the space does "
                "not leave open, or takes a value that is not among the candidates."
            )
        return np.array(row, np.int32)

    def contains(self, program: Any) -> bool:
        """Whether an architecture or program is an instance of this space, `valid` included.

        >>> import symnas as sn
        >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])))
        >>> space.contains(sn.nn.Linear(4, 8)), space.contains(sn.nn.Linear(4, 9))
        (True, False)
        """
        row = self._find(program)
        return row is not None and bool(self.is_valid(np.array([row], np.int32))[0])

    def _find(self, value: Any) -> list[int] | None:
        from symnas.architecture.architecture import Architecture
        from symnas.searchspace.match import find_row

        if isinstance(value, Architecture):
            if value.space is self and value.row is not None:
                return list(value.row)
            parts = {
                "task": value.task,
                "input": None if value.input is None else list(value.input),
            }
            program = value.program
        else:
            parts, program = {}, value
        pairs = [(self._compiled.root, program)]
        for key, node in self._extras.items():
            if key == "task" or (parts.get(key) is not None and nodes.columns_of(node)):
                pairs.append((node, parts.get(key, {})))
        return find_row(self._compiled, pairs)

    # Tables, features, parts: each in a file of its own --------------------------------------

    def frame(self, rows: Any) -> pd.DataFrame:
        """A pandas frame with one column of labels a decision; None where inactive."""
        from symnas.searchspace.frame import to_frame

        return to_frame(self, np.asarray(rows))

    def rows(self, frame: pd.DataFrame) -> Rows:
        """The rows that `frame` was made from."""
        from symnas.searchspace.frame import from_frame

        return from_frame(self, frame)

    def features(self, rows: Any, kind: str = "onehot") -> Any:
        """Arrays for predictors: "onehot", "path" or "graph". See `symnas.searchspace.features`."""
        from symnas.searchspace.features import features

        return features(self, np.asarray(rows), kind)

    def fix(self, values: dict[str, Any]) -> Any:
        """The space in which decisions have these values: see `symnas.searchspace.parts`."""
        from symnas.searchspace.parts import fix

        return fix(self, values)

    def restrict(self, values: dict[str, Sequence[Any]]) -> Any:
        """The space in which decisions keep only these candidates; `**` matches any part of an id."""
        from symnas.searchspace.parts import restrict

        return restrict(self, values)

    def around(self, architecture: Any, changes: int = 2) -> Any:
        """The space of what differs from `architecture` in at most `changes` decisions."""
        from symnas.searchspace.parts import around

        return around(self, architecture, changes)

    def split(self, group: str) -> Any:
        """`(inner, outer)`: the decisions labelled `group` with all nested in them, and the rest."""
        from symnas.searchspace.parts import split

        return split(self, group)

    def join(self, inner: Any, inner_rows: Any, outer: Any, outer_rows: Any) -> Rows:
        """Full rows from rows of the two parts that `split` gave."""
        from symnas.searchspace.parts import join

        return join(self, inner, inner_rows, outer, outer_rows)

    def with_task(self, arguments: dict[str, Any]) -> Space:
        """The space joined with the choices in a task's arguments, as ids `task.<name>`."""
        arguments = {**self._task, **arguments}
        if arguments == self._task:
            return self
        return Space(
            self.program,
            input=None if self._shape is None else list(self._shape),
            valid=self.valid,
            canonical=self.canonical,
            name=self.name,
            task=arguments,
        )

    def with_hardware(self, costs: Sequence[Any]) -> Space:
        """The space joined with the choices among the options of cost models.

        Their ids are `task.hardware.<cost>.<option>`; like a task's, they are no part of the
        network. `sn.search` does this by itself.

        >>> import symnas as sn
        >>> from symnas import cost_models as cm
        >>> machine = cm.Roofline(peak=sn.oneof([1e6, 2e6], group="hardware"), bandwidth=1e9)
        >>> space = sn.Space(sn.nn.Linear(1000, sn.oneof([10, 20])), input=(1000,))
        >>> joined = space.with_hardware([machine])
        >>> joined.columns
        ('out_features', 'task.hardware.roofline.peak')
        >>> machine.bind(joined)([[0, 0], [0, 1], [1, 0]])
        array([10.,  5., 20.])
        """
        from symnas.costs.hardware import KEY, hardware_of

        found = hardware_of(costs)
        # What is joined already stays, so that its decisions keep their ids and order.
        return self.with_task({KEY: {**self._task.get(KEY, {}), **found}}) if found else self

    def summary(self, costs: Sequence[Any] = (), seed: int = 0) -> Any:
        """A table for people: decisions, size, costs, and whether constraints can be met.

        Args:
            costs: cost models, and constraints on them (`latency <= 20`): for each cost the
                smallest, the typical (the median of random architectures) and the largest one; for
                each constraint, and for all together, the share of random architectures that keep
                it, or the nearest that can be reached.
            seed: of the random architectures.

        >>> import symnas as sn
        >>> from symnas import cost_models as cm
        >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16, 32])), input=(4,))
        >>> for line in space.summary([cm.Macs() <= 100, cm.Parameters() <= 20]).costs:
        ...     print(line)
        macs: smallest 32, typical 64, largest 128; 0 wrong of 3 held-out architectures
        parameters: smallest 40, typical 80, largest 160; 0 wrong of 3 held-out architectures
        macs <= 100 MACs: met by a share of 0.667 of random architectures
        parameters <= 20: cannot be met. parameters <= 20: the smallest parameters of this space is 40.
        macs <= 100 MACs and parameters <= 20: cannot be met. parameters <= 20: the smallest parameters of this space is 40.
        """
        from symnas.searchspace.summary import summary

        return summary(self, costs, seed)

    def dna_spec(self) -> Any:
        """PyGlove's description of the space: native, or a flat list of categoricals."""
        return self._dna_spec

    @cached_property
    def _dna_spec(self) -> Any:
        from symnas.searchspace.dna import dna_spec

        return dna_spec(self)

    def to_dna(self, row: Any) -> Any:
        """A row as PyGlove's DNA."""
        from symnas.searchspace.dna import to_dna

        return to_dna(self, self._list(row))

    def from_dna(self, dna: Any) -> Rows:
        """A row from PyGlove's DNA."""
        from symnas.searchspace.dna import from_dna

        return from_dna(self, dna)

    # Helpers ----------------------------------------------------------------------------------

    def _list(self, row: Any) -> list[int]:
        return row.tolist() if isinstance(row, np.ndarray) else [int(v) for v in row]

    def _lists(self, rows: Any) -> list[list[int]]:
        return rows.tolist() if isinstance(rows, np.ndarray) else [self._list(r) for r in rows]

    def _array(self, rows: list[list[int]]) -> Rows:
        return np.array(rows, np.int32).reshape(len(rows), len(self))


def seed_of(seed: Seed) -> int:
    """One integer from one or several."""
    if isinstance(seed, int | np.integer):
        return int(seed)
    mixed = 0x9E3779B97F4A7C15
    for part in seed:
        mixed = ((mixed ^ int(part)) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**64 - 1)
        mixed ^= mixed >> 29
    return mixed
