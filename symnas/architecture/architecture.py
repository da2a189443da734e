"""`Architecture`: one program without choices, and everything that can be made of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from symnas.errors import DeclarationError
from symnas.language.choices import contains_choice
from symnas.language.spec import build, building
from symnas.searchspace import nodes

if TYPE_CHECKING:
    import networkx

    from symnas.searchspace.space import Space


class Architecture:
    """A program without choices: found by a search, edited by hand, or loaded from a file.

    Args:
        program: a spec (or another value) without choices.
        input: the shape of one example, without the batch.
        task: values of the choices among a task's arguments.

    Raises:
        DeclarationError: the program still has choices.

    >>> import symnas as sn
    >>> net = sn.Architecture(sn.nn.Linear(4, 2))
    >>> net.build()
    Linear(in_features=4, out_features=2, bias=True)
    """

    space: Space | None
    row: tuple[int, ...] | None

    def __init__(
        self,
        program: Any,
        input: tuple[int, ...] | None = None,
        task: dict[str, Any] | None = None,
    ) -> None:
        from symnas.language.symbolize import program_of

        if isinstance(program, Architecture):
            program, input, task = program.program, input or program.input, task or program.task
        self._program = program_of(program)
        if contains_choice(self._program):
            raise DeclarationError(
                "An architecture has no choices left; this program has. "
                "Pick one: sn.Space(program).decode(row)."
            )
        self._input = None if input is None else tuple(input)
        self._task = dict(task or {})
        self._key: str | None = None
        self._choices: dict[str, str] = {}
        self.space = None
        self.row = None

    @classmethod
    def _of_row(cls, space: Space, row: tuple[int, ...]) -> Architecture:
        made = cls.__new__(cls)
        made._program = made._input = made._task = made._key = None  # type: ignore[assignment]
        made._choices = {}
        made.space = space
        made.row = row
        return made

    @property
    def program(self) -> Any:
        """The spec tree: PyGlove objects, for `rebind`, `clone`, `query`, `diff`, `to_html`."""
        if self._program is None:
            assert self.space is not None and self.row is not None
            with building():
                value = self.space._compiled.root.value(self.row, nodes.PROGRAM)
            self._program = _symbolic(value, self.space._compiled.pyglove_derived)
        return self._program

    @property
    def task(self) -> dict[str, Any]:
        """Values of the choices among the task's arguments; `{}` if there are none."""
        if self._task is None:
            self._task = {}
            if self.space is not None and "task" in self.space._extras:
                assert self.row is not None
                self._task = self.space._extras["task"].value(self.row, nodes.PROGRAM)
        return self._task

    @property
    def input(self) -> tuple[int, ...] | None:
        """The shape of one example, without the batch, or None if it was not given."""
        if self._input is None and self.space is not None and "input" in self.space._extras:
            assert self.row is not None
            self._input = tuple(self.space._extras["input"].value(self.row, nodes.PROGRAM))
        return self._input

    @property
    def key(self) -> str:
        """A hash of the content, 32 hex digits: equal for equal programs, in every process."""
        if self._key is None:
            from symnas.architecture import storage

            written = self._writers()
            if written is None:
                self._key = storage.content_key(self.program, self.task, self.input)
            else:
                full, task = written.full(self.row), written.task(self.row)
                self._key = storage.joined_key(full, task, self.input)
        return self._key

    def with_choices(self, choices: Mapping[str, str]) -> Architecture:
        """The same architecture, with the labels of the decisions that made it, as recorded."""
        self._choices = dict(choices)
        return self

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen: the label of each active decision, by id."""
        if self.space is None or self.row is None:
            return self._choices
        return {
            d.id: d.label(value)
            for d, value in zip(self.space.decisions, self.row, strict=True)
            if value >= 0
        }

    def __getitem__(self, name: str) -> Any:
        """The value of a named decision."""
        if self.space is not None and self.row is not None:
            node = self.space._compiled.names.get(name)
            if node is not None:
                if all(self.row[c] >= 0 for c in _own_columns(node)):
                    return node.value(self.row, nodes.PROGRAM)
                raise KeyError(f"The decision {name!r} is inactive in this architecture.")
            known = ", ".join(map(repr, self.space._compiled.names)) or "none"
            raise KeyError(f"No decision of this space is named {name!r}; names: {known}.")
        raise KeyError(
            f"{name!r}: this architecture stands outside any space, so it has no decisions. "
            "Use space.decode(space.encode(architecture))."
        )

    def build(self, device: str | torch.device | None = None) -> Any:
        """Makes it real: an `nn.Module` with fresh weights (or whatever the root is).

        Weights come from torch's global generator: `torch.manual_seed(...)` before repeats them.

        Args:
            device: where the parameters are made ("cuda", "meta"); None for torch's default.
        """
        with building():
            if device is None:
                return self._build()
            with torch.device(device):
                return self._build()

    def _build(self) -> Any:
        if (
            self._program is None
            and self.space is not None
            and not self.space._compiled.pyglove_derived
        ):
            assert self.row is not None
            return self.space._compiled.root.value(self.row, nodes.BUILD)
        return build(self.program)

    def to_json(self) -> str:
        """The program as text that `from_json` reads."""
        from symnas.architecture import storage

        written = self._writers()
        if written is None:
            return storage.to_text(self.program, self.task, self.input)
        return storage.joined_text(written.program(self.row), written.task(self.row), self.input)

    def _writers(self) -> Any:
        """What writes the row without making the program; None if the program is to be asked."""
        if self._program is not None or self.space is None:
            return None  # it may have been edited
        from symnas.architecture.rows import writers

        return writers(self.space)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """The architecture that `to_json` wrote; nothing in `text` is executed or imported.

        Raises:
            StorageError: the text is malformed, or names a callable that is not known here.
        """
        from symnas.architecture.storage import from_text

        program, task, input_ = from_text(text)
        return cls(program, input=input_, task=task)

    def to_python(self) -> str:
        """Source text of the network that runs without symnas: see `symnas.architecture.source`."""
        from symnas.architecture.source import to_python

        return to_python(self.program)

    def to_onnx(self, path: str | os.PathLike[str] | None = None, **options: Any) -> Path | bytes:
        """An ONNX file, checked against torch's output: see `symnas.architecture.onnx`."""
        from symnas.architecture.onnx import to_onnx

        return to_onnx(self, path, **options)

    def graph(self) -> networkx.DiGraph:
        """The network as a graph of operations: see `symnas.architecture.graph`."""
        from symnas.architecture.graph import graph

        return graph(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        if self.row is not None:
            chosen = ", ".join(f"{k}={v}" for k, v in list(self.choices.items())[:6])
            more = "" if len(self.choices) <= 6 else ", ..."
            return f"Architecture({chosen}{more})"
        return f"Architecture({type(self.program).__name__}, key={self.key})"


def _own_columns(node: nodes.Node) -> tuple[int, ...]:
    if isinstance(node, nodes.Picks):
        return node.columns
    return (node.column,) if isinstance(node, nodes.Choice | nodes.Subset | nodes.Number) else ()


def _symbolic(value: Any, derived: bool) -> Any:
    import pyglove as pg

    if isinstance(value, list) and not isinstance(value, pg.List):
        value = pg.List(value)
    elif isinstance(value, dict) and not isinstance(value, pg.Dict):
        value = pg.Dict(value)
    if derived:
        _derive(value, value)
    return value


def _derive(root: Any, value: Any) -> None:
    """Replaces PyGlove's derived values by what they derive, in place."""
    import pyglove as pg

    updates = {}
    for path, node in pg.query(root, where=lambda v: isinstance(v, pg.hyper.DerivedValue)).items():
        updates[path] = node()
    if updates:
        root.rebind(updates, raise_on_no_change=False)
