"""What can be read of a damaged study file, in a new one."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from symnas.errors import StorageError
from symnas.studies import schema
from symnas.studies.database import Database

_LEAST_BYTES = 100  # of a row in a file; a trial has more
_MOST_FILLED = 1000  # times the length of what is left; more is a header that is damaged itself
_JSON = {"searches": ("record",), "trials": ("row", "costs", "metrics", "scores", "reports")}
_STATES = ("running", "done", "failed")


def rescue(damaged: Path, to: Path) -> None:
    """Copies the rows that can be read, each by itself, from a SQLite file into a new study.

    A row whose texts are not JSON any more is left out. What SQLite and JSON cannot tell from what
    was there, such as another digit in a number, is taken over.

    Args:
        damaged: is only read.
        to: must not exist.

    Raises:
        FileNotFoundError: there is no damaged file.
        FileExistsError: there is something at `to`.
        StorageError: nothing can be read.
    """
    if not damaged.is_file():
        raise FileNotFoundError(f"There is no study at `{damaged}`.")
    if to.exists():
        raise FileExistsError(f"`to` ({str(to)!r}) is there already. Name a file that is not.")
    # A copy, for SQLite writes when it opens a file with a log beside it.
    with tempfile.TemporaryDirectory(prefix="symnas-") as folder:
        copy = Path(folder, "damaged.db")
        shutil.copyfile(damaged, copy)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{damaged}-wal", f"{copy}-wal")
        _fill(copy)
        with contextlib.closing(sqlite3.connect(copy)) as source:
            rows = {
                table.name: list(_read(source, table, copy.stat().st_size // _LEAST_BYTES))
                for table in (schema.searches, schema.drivers, schema.trials)
            }
    if not rows["searches"]:
        raise StorageError(
            f"`{damaged}`: nothing can be rescued, since what its searches were about cannot be "
            "read. Put back a copy of the file, or begin anew with another one."
        )
    _write(rows, to)


def _fill(copy: Path) -> None:
    """Gives a file that was cut its length again: otherwise SQLite reads nothing of it."""
    with copy.open("r+b") as file:
        header = file.read(32)  # https://www.sqlite.org/fileformat.html, section 1.3
        size, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
        length = pages * (size if size > 1 else 1 << 16)
        if copy.stat().st_size < length <= _MOST_FILLED * copy.stat().st_size:
            file.truncate(length)


def _read(source: sqlite3.Connection, table: sa.Table, most: int) -> Iterator[dict[str, Any]]:
    try:
        there = {row[1] for row in source.execute(f"pragma table_info({table.name})")}
    except sqlite3.Error:
        return
    if not there:
        return
    columns = [column.name for column in table.c if column.name in there]
    query = f"select {', '.join(columns)} from {table.name} where rowid = ?"
    with contextlib.suppress(sqlite3.Error):
        last = source.execute(f"select max(rowid) from {table.name}").fetchone()[0] or 0
        most = min(most, last)
    for number in range(1, most + 1):
        try:
            found = source.execute(query, (number,)).fetchone()
        except sqlite3.Error:
            continue
        row = dict.fromkeys(table.c.keys()) | dict(zip(columns, found or (), strict=bool(found)))
        if found and _sound(table, row):
            yield row


def _sound(table: sa.Table, row: Mapping[str, Any]) -> bool:
    """Whether a row can be one that was written."""
    if table.name == "trials" and row["state"] not in _STATES:
        return False
    try:
        for name in _JSON.get(table.name, ()):
            if row[name] is not None:
                json.loads(row[name])
    except (TypeError, ValueError):
        return False
    return all(row[c.name] is not None for c in table.c if not c.nullable)


def _write(rows: Mapping[str, list[dict[str, Any]]], to: Path) -> None:
    known = {row["id"] for row in rows["searches"]}
    drivers = {row["id"] for row in rows["drivers"] if row["search"] in known}
    for trial in rows["trials"]:
        trial["driver"] = trial["driver"] if trial["driver"] in drivers else None
    database = Database(to)
    with database.engine.begin() as connection:
        for table in (schema.searches, schema.drivers, schema.trials):
            for row in rows[table.name]:
                if row.get("search", row.get("id")) in known:
                    # Where bytes have changed, two rows may say that they are the same trial.
                    with contextlib.suppress(sa.exc.IntegrityError), connection.begin_nested():
                        connection.execute(table.insert(), row)
    database.close()
