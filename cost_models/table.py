"""A cost that is a table made elsewhere: measured on another machine, or written by hand."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs

from symnas.architecture.architecture import Architecture
from symnas.costs.accuracy import Accuracy
from symnas.costs.bound import BoundCost
from symnas.costs.bound_part import on_part
from symnas.costs.bound_table import TableCost
from symnas.costs.exchange import SCHEMA, VERSION, table_data, write_table
from symnas.costs.labelled import Columns, LabelledTerm, fields, number, term_of, text
from symnas.costs.model import CostModel
from symnas.costs.table import CostTable
from symnas.searchspace.parts import Part
from symnas.searchspace.space import Space

_REQUIRED = ("schema", "version", "name", "unit", "terms")
_OPTIONAL = ("device", "bias", "error", "notes")


def _terms(value: Any) -> tuple[LabelledTerm, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"terms ({value!r:.60}) must be a list of terms.")
    return tuple(term_of(entry, f"terms[{i}]") for i, entry in enumerate(value))


def _pairs(value: Any) -> tuple[tuple[float, float], ...]:
    return tuple((float(p), float(m)) for p, m in value)


@attrs.frozen(order=False)
class Table(CostModel):
    """A cost as a sum of small tables over decisions, which are named as in the space.

    A file holds it as JSON:

        {"schema": "symnas.cost_table", "version": 1,
         "name": "latency", "unit": "ms", "device": "Pixel 6",
         "bias": 3.5,
         "terms": [
           {"decisions": ["kernel", "expansion"],
            "costs": {"3": {"3": 1.0, "6": 1.5}, "5": {"3": 2.0, "6": 2.5}}},
           {"decisions": ["squeeze", "width"],
            "costs": [{"when": {"squeeze": "True", "width": "64"}, "cost": 0.7},
                      {"when": {"squeeze": "True", "width": "32"}, "cost": 0.4}]}]}

    The cost of an architecture is `bias` (0 if left out) and what each term adds. A term names its
    `decisions` by id or name, as in `space.decisions`. Its `costs` are nested by the decisions'
    labels in that order, and then there must be one for each combination; or they are a list, of
    which all entries add whose `when` holds. A decision that `when` leaves out can be anything;
    where a decision is not active, its label is `"(inactive)"`. `error` may hold
    `{"predicted": [...], "measured": [...]}` of architectures that the table was not made from,
    so that `upper(0.95)` knows how much safety is needed; `notes` is for people.

    Args:
        name: unique among the costs of a search.
        unit: what the numbers count, such as "ms".
        device: where they hold.
        bias: the cost of every architecture.
        terms: as in the file.
        error: pairs `(predicted, measured)` of held-out architectures.
        notes: for people.

    Raises:
        ValueError: something in the terms is wrong; the message says where.

    >>> import symnas as sn
    >>> space = sn.Space(sn.nn.Conv2d(3, 8, sn.oneof([3, 5], name="kernel")), input=(3, 32, 32))
    >>> costs = {"decisions": ["kernel"], "costs": {"3": 1.0, "5": 2.25}}
    >>> latency = Table("latency", "ms", device="my phone", bias=0.5, terms=[costs])
    >>> bound = latency.bind(space)
    >>> bound([[0], [1]])
    array([1.5 , 2.75])
    >>> float(bound.expected({"kernel_size": [0.5, 0.5]}))
    2.125
    """

    name: str = attrs.field(validator=attrs.validators.instance_of(str))
    unit: str = attrs.field(validator=attrs.validators.instance_of(str))
    device: str = attrs.field(default="any", kw_only=True)
    bias: float = attrs.field(
        default=0.0, converter=lambda value: number(value, "bias"), kw_only=True
    )
    terms: tuple[LabelledTerm, ...] = attrs.field(
        default=(), converter=_terms, kw_only=True, repr=len
    )
    error: tuple[tuple[float, float], ...] = attrs.field(
        default=(), converter=_pairs, kw_only=True, repr=len
    )
    notes: str = attrs.field(default="", kw_only=True)

    expense: ClassVar[int] = 1

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Table:
        """The table in a file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not JSON, or not as described above; the message says where.
        """
        content = Path(path).read_text(encoding="utf-8")
        try:
            data = json.loads(content, object_pairs_hook=_no_duplicates)
        except ValueError as problem:
            raise ValueError(f"{path} must be a JSON file: {problem}.") from problem
        try:
            return cls.from_data(data)
        except ValueError as problem:
            raise ValueError(f"{path}: {problem}") from problem

    @classmethod
    def from_data(cls, data: Any) -> Table:
        """The table in data that `data` made, or that a JSON file holds.

        Raises:
            ValueError: the data are not as described above.
        """
        fields(data, "the table", required=_REQUIRED, optional=_OPTIONAL)
        if data["schema"] != SCHEMA or data["version"] != VERSION:
            raise ValueError(
                f"schema and version ({data['schema']!r:.40}, {data['version']!r:.40}) must be "
                f"{SCHEMA!r} and {VERSION}: later versions need a later symnas."
            )
        error = data.get("error", {"predicted": [], "measured": []})
        fields(error, "error", required=("predicted", "measured"))
        return cls(
            text(data["name"], "name"),
            text(data["unit"], "unit"),
            device=text(data.get("device", "any"), "device"),
            bias=number(data.get("bias", 0.0), "bias"),
            terms=data["terms"],
            error=_held_out(error),
            notes=str(data.get("notes", "")),
        )

    @classmethod
    def from_bound(cls, bound: BoundCost, notes: str = "") -> Table:
        """The table of a bound cost, for another machine to load.

        Args:
            bound: such as `cm.Latency().bind(space)`.
            notes: for people.

        Raises:
            ValueError: the bound cost is not a table.

        >>> import symnas as sn
        >>> from symnas import cost_models as cm
        >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16], name="width")), input=(4,))
        >>> table = Table.from_bound(cm.Macs().bind(space))
        >>> table.terms[0].data()
        {'decisions': ['width'], 'costs': {'8': 0.0, '16': 32.0}}
        """
        return cls.from_data(table_data(bound, notes))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the file that `load` reads.

        Raises:
            OSError: the file cannot be written.
        """
        return write_table(self.data(), Path(path))

    def data(self) -> dict[str, Any]:
        """As data for JSON."""
        result: dict[str, Any] = {
            "schema": SCHEMA, "version": VERSION, "name": self.name, "unit": self.unit,
            "device": self.device, "bias": self.bias,
        }  # fmt: skip
        if self.notes:
            result["notes"] = self.notes
        if self.error:
            predicted, measured = map(list, zip(*self.error, strict=True))
            result["error"] = {"predicted": predicted, "measured": measured}
        return {**result, "terms": [term.data() for term in self.terms]}

    def bind(self, space: Space) -> BoundCost:
        """The cost of a space's rows. Parts of a space may lack labels that the table has.

        Raises:
            ValueError: the space has not the decisions or labels of the table, or the table not
                all of their costs.
        """
        if isinstance(space, Part):
            return on_part(self.bind(space.parent), space)
        columns = Columns(space)
        terms = [columns.term(t, f"{self.name}: terms[{i}]") for i, t in enumerate(self.terms)]
        error = Accuracy(*zip(*self.error, strict=True)) if self.error else None
        return TableCost(self, space, CostTable(self.bias, terms), error)

    def measure(self, architecture: Architecture) -> float:
        if architecture.space is None or architecture.row is None:
            raise ValueError(
                "a table knows architectures by their decisions, and this one stands outside any "
                "space: use space.decode(space.encode(architecture))"
            )
        return float(self.bind(architecture.space)([architecture.row])[0])

    def describe(self) -> dict[str, Any]:
        digest = hashlib.blake2b(json.dumps(self.data()).encode(), digest_size=16).hexdigest()
        return {
            "cost": f"{type(self).__module__}:{type(self).__qualname__}",
            "name": self.name,
            "unit": self.unit,
            "device": self.device,
            "options": {"bias": self.bias, "terms": len(self.terms), "content": digest},
            "code": "",
        }


def _held_out(error: dict[str, Any]) -> Sequence[tuple[float, float]]:
    for name, values in error.items():
        if not isinstance(values, list):
            raise ValueError(f"error.{name} ({values!r:.60}) must be a list of numbers.")
    predicted, measured = (
        [number(v, f"error.{name}[{i}]") for i, v in enumerate(error[name])]
        for name in ("predicted", "measured")
    )
    if len(predicted) != len(measured):
        raise ValueError(
            f"error: predicted ({len(predicted)}) and measured ({len(measured)}) must have as many "
            "numbers, one for each architecture."
        )
    return list(zip(predicted, measured, strict=True))


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found
