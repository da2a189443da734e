"""Reading one's own table: a CSV file, or one a fidelity.

A file has a header and one line an architecture. First, in any order, a column for each decision,
under its id or its name: labels, empty where the decision is inactive (numbers for floats). Then a
column for each result, whose head is `name;direction;unit;kind`: `accuracy;maximize;%`,
`ms;minimize;ms;cost`, `hours;minimize;s;seconds`. Unit and kind may be left out: the kind is then
metric. Empty means unknown.

A folder holds one such file a fidelity, `12.csv` and `200.csv`, whose name is the budget. What a
file lacks is unknown at that budget; costs must be the same in all that have them.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from symnas.benchmark.base import DIRECTIONS, KINDS, Column, Values
from symnas.benchmark.tabulated import Tabulated
from symnas.costs.labelled import INACTIVE, Columns
from symnas.searchspace.space import Space

HEAD = "'name;direction;unit;kind', such as 'accuracy;maximize;%' or 'latency;minimize;ms;cost'"


def read(path: str | Path, space: Space, name: str | None = None) -> Tabulated:
    """A table of one's own results, from a CSV file or a folder of them; see the module.

    Args:
        path: `results.csv`, `results.csv.gz`, or a folder with one file a budget.
        space: of the architectures.
        name: of the table; None: that of the file or folder.

    Raises:
        FileNotFoundError: there is no such file, or the folder has none.
        ValueError: something is malformed; says in which file, line and column.

    >>> import tempfile, symnas as sn
    >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16], name="width")))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.csv"
    ...     _ = path.write_text("width,accuracy;maximize;%,ms;minimize;ms;cost\\n8,71.5,2\\n16,74,\\n")
    ...     table = read(path, space)
    >>> table.name, table.look_up([[0], [1]])["ms"].tolist()
    ('mine', [2.0, nan])
    """
    path = Path(path)
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"There is no file or folder {path}.")
        part = _File(path, space)
        return Tabulated(name or _stem(path), space, part.columns, part.rows, part.results)
    files = sorted(p for p in path.iterdir() if p.name.endswith((".csv", ".csv.gz")))
    if not files:
        raise FileNotFoundError(f"The folder {path} has no file BUDGET.csv, such as 12.csv.")
    found = sorted(((_budget(p), p) for p in files), key=lambda pair: pair[0])
    return _merged(name or path.name, space, [(b, _File(p, space)) for b, p in found])


class _File:
    """One file: rows, columns, results."""

    def __init__(self, path: Path, space: Space) -> None:
        self.path, self.space = path, space
        opened: Any = gzip.open if path.suffix == ".gz" else open
        try:
            with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
                lines = list(csv.reader(file))
        except (UnicodeDecodeError, OSError, csv.Error) as error:
            raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from error
        if not lines:
            raise ValueError(
                f"{path} is empty; it must have a header and one line an architecture."
            )
        head, self._body = lines[0], lines[1:]
        by_name = Columns(space)
        self._decisions: dict[int, int] = {}  # place in the line to column of the row
        self.columns: list[Column] = []
        self._places: list[int] = []
        for place, text in enumerate(head):
            if ";" in text:
                self.columns.append(self._column(text))
                self._places.append(place)
            else:
                column = by_name.find(text.strip(), f"{path}, header")
                if column in self._decisions.values():
                    raise ValueError(f"{path}, header: the decision {text!r} has two columns.")
                self._decisions[place] = column
        missing = set(range(len(space))) - set(self._decisions.values())
        if missing:
            names = ", ".join(repr(by_name.name(c)) for c in sorted(missing))
            raise ValueError(f"{path}, header: the decisions {names} have no column.")
        if not self.columns:
            raise ValueError(f"{path}, header: no result; there must be one with a head {HEAD}.")
        self.rows, values = self._read(len(head))
        self.results = {c.name: values[:, i] for i, c in enumerate(self.columns)}

    def _column(self, text: str) -> Column:
        name, direction, unit, kind = ([t.strip() for t in text.split(";")] + ["", ""])[:4]
        kind = kind or "metric"
        wrong = text.count(";") > 3 or not name or direction not in DIRECTIONS or kind not in KINDS
        if wrong:
            raise ValueError(
                f"{self.path}, header: {text!r} must be {HEAD}; directions are "
                f"{', '.join(DIRECTIONS)}, kinds {', '.join(KINDS)}."
            )
        if any(column.name == name for column in self.columns):
            raise ValueError(f"{self.path}, header: the result {name!r} has two columns.")
        return Column(name, direction, unit, kind)

    def _read(self, width: int) -> tuple[Any, Values]:
        rows: list[list[int]] = []
        values: list[list[float]] = []
        lines: dict[tuple[int, ...], int] = {}
        for line, cells in enumerate(self._body, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{self.path}, line {line}"
            if len(cells) != width:
                raise ValueError(f"{where}: {len(cells)} values; the header has {width}.")
            row = [-1] * len(self.space)
            for place, column in self._decisions.items():
                row[column] = self._value(cells[place].strip(), column, where)
            if not self.space.is_row(row):
                raise ValueError(
                    f"{where}: no architecture of {self.space!r}: a decision is empty that is active "
                    "there, or the other way round, or picks that must differ do not."
                )
            first = lines.setdefault(tuple(row), line)
            if first != line:
                raise ValueError(f"{where}: the same architecture as in line {first}.")
            rows.append(row)
            numbers = zip(self._places, self.columns, strict=True)
            values.append([_number(cells[p].strip(), f"{where}, {c.name!r}") for p, c in numbers])
        if not rows:
            raise ValueError(f"{self.path} has a header and no architecture.")
        return np.array(rows, np.int32), np.array(values, float)

    def _value(self, text: str, column: int, where: str) -> int:
        decision = self.space.decisions[column]
        if text in ("", INACTIVE):
            return -1
        if decision.kind == "float":
            number = _number(text, f"{where}, {decision.name or decision.id!r}")
            low, high = decision.candidates
            if not low <= number <= high:
                raise ValueError(f"{where}: {text} is not from {low} to {high}: {decision.id!r}.")
            return decision.level(number)
        if text not in decision.labels:
            raise ValueError(
                f"{where}: {text!r} is no label of {decision.name or decision.id!r}; its labels are "
                f"{', '.join(decision.labels)}."
            )
        return decision.labels.index(text)


def _number(text: str, where: str) -> float:
    if not text:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if math.isinf(number):
        raise ValueError(f"{where}: {text!r} must be a finite number, or empty if unknown.")
    return number


def _merged(name: str, space: Space, files: Sequence[tuple[float, _File]]) -> Tabulated:
    columns: dict[str, Column] = {}
    places: dict[tuple[int, ...], int] = {}
    for _, file in files:
        for column in file.columns:
            if columns.setdefault(column.name, column) != column:
                raise ValueError(
                    f"{file.path}, header: {column.name!r} is declared otherwise than in "
                    f"{files[0][1].path.parent}'s other files."
                )
        for row in file.rows.tolist():
            places.setdefault(tuple(row), len(places))
    results = {c: np.full((len(places), len(files)), np.nan) for c in columns}
    for level, (_, file) in enumerate(files):
        at = [places[tuple(row)] for row in file.rows.tolist()]
        for column_name, values in file.results.items():
            results[column_name][at, level] = values
    for column in columns.values():
        if column.kind == "cost":
            results[column.name] = _same(results[column.name], column.name, files)
    budgets = tuple(budget for budget, _ in files)
    return Tabulated(name, space, columns, np.array(list(places), np.int32), results, budgets)


def _same(values: Values, name: str, files: Sequence[tuple[float, _File]]) -> Values:
    """A cost does not depend on the budget: what is known of it anywhere holds."""
    known = np.where(np.isnan(values), -np.inf, values).max(axis=1)
    if (~np.isnan(values) & (values != known[:, None])).any():
        raise ValueError(
            f"{files[0][1].path.parent}: the cost {name!r} of an architecture differs between files; "
            "what depends on the budget is a metric."
        )
    return np.where(np.isinf(known), np.nan, known)


def _budget(path: Path) -> float:
    try:
        budget = float(_stem(path))
    except ValueError:
        budget = math.nan
    if not 0 < budget < math.inf:
        raise ValueError(f"{path}: the name must be a budget, such as 12.csv: a number above 0.")
    return budget


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")
