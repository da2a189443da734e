"""Cells: one search of one algorithm on one table with one seed, kept as one small file each."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from symnas.benchmark.base import Table
from symnas.benchmark.driving import Contender, Record, Setup
from symnas.files import write_whole
from symnas.searching.identity import text_of

FORMAT = 1


@attrs.frozen
class Cell:
    """Which search it is: names for people, and what makes it the one it is.

    Attributes:
        algorithm, table: their names in the comparison.
        seed: of everything random.
        settings: all that the result depends on, as JSON.
    """

    algorithm: str
    table: str
    seed: int
    settings: str = attrs.field(repr=False)

    @classmethod
    def of(
        cls, name: str, contender: Contender, table_name: str, table: Table, setup: Setup, seed: int
    ) -> Cell:
        """The cell of a search; other settings give another cell, and so does another release."""
        import symnas

        settings = {
            "format": FORMAT,
            "release": symnas.__version__,
            "algorithm": f"{type(contender).__module__}:{text_of(contender)}",
            "table": table.digest(),
            "space": _space_digest(table),
            "setup": attrs.asdict(setup),
            "seed": seed,
        }
        return cls(name, table_name, seed, json.dumps(settings, sort_keys=True))

    def path(self, folder: Path) -> Path:
        """Its file."""
        digest = hashlib.sha256(self.settings.encode()).hexdigest()[:24]
        return folder / "cells" / f"{digest}.json"

    def write(self, folder: Path, record: Record) -> Path:
        """Keeps a finished search, wholly or not at all."""
        data = {
            "algorithm": self.algorithm,
            "table": self.table,
            "seed": self.seed,
            "settings": json.loads(self.settings),
            "rows": record.rows.tolist(),
            "values": [[_plain(v) for v in values] for values in record.values.tolist()],
            "feasible": record.feasible.tolist(),
            "spent": record.spent.tolist(),
            "finished": record.finished.tolist(),
            "distinct": record.distinct,
            "seconds": record.seconds,
            "ending": record.ending,
        }
        text = json.dumps(data, allow_nan=False)
        return write_whole(self.path(folder), lambda part: part.write_text(text, "utf-8"))

    def read(self, folder: Path) -> Record | None:
        """The finished search, or None if it has not been done.

        Raises:
            ValueError: the file is malformed.
        """
        path = self.path(folder)
        if not path.is_file():
            return None
        try:
            data = json.loads(path.read_text("utf-8"))
            n = len(data["rows"])
            values = [[math.nan if v is None else v for v in row] for row in data["values"]]
            record = Record(
                np.array(data["rows"], np.int32).reshape(n, -1),
                np.array(values, float).reshape(n, -1),
                np.array(data["feasible"], bool),
                np.array(data["spent"], float),
                np.array(data["finished"], float),
                float(data["distinct"]),
                float(data["seconds"]),
                str(data["ending"]),
            )
            if not len(record.values) == len(record.feasible) == len(record.spent) == n:
                raise ValueError("its lists differ in length")
            return record
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is no whole result ({type(error).__name__}: {error}): delete it, and the "
                "search is done again."
            ) from error


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


@functools.lru_cache(maxsize=64)  # of each table once, not once a cell
def _space_digest(table: Table) -> str:
    space: Any = table.space
    told = (space.fingerprint(), text_of(space.canonical), text_of(space.valid))
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
