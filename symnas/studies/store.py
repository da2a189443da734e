"""Reading and writing the rows of a study; nothing here knows what a search is."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import sqlalchemy as sa

from symnas.errors import StorageError
from symnas.studies.database import Database
from symnas.studies.failures import damaged
from symnas.studies.schema import drivers, searches, trials
from symnas.studies.text import digest, dumps, loads

# A trial that took longer than this is worth waiting for the disk: it then survives a power cut
# as well. Every commit survives the death of the process.
_FLUSH_SECONDS = 0.1

_mine = (trials.c.search == sa.bindparam("of_search"), trials.c.number == sa.bindparam("of_number"))
_begin = trials.insert()
_finish = trials.update().where(*_mine)
# `is not distinct from`: nobody's is a driver as well.
_held = (
    trials.c.state == "running",
    trials.c.driver.is_not_distinct_from(sa.bindparam("of_driver", type_=sa.Integer)),
)
_finish_held = _finish.where(*_held)
_reusable = (
    sa.select(trials)
    .where(
        trials.c.key == sa.bindparam("key"),
        trials.c.state == "done",
        trials.c.repeat == sa.bindparam("repeat"),
        trials.c.reused_number.is_(None),
        trials.c.search.in_(sa.bindparam("among", expanding=True)),
    )
    .order_by(trials.c.search, trials.c.number)
)


# The folder of a search's supernet, and the file in it that tells how it was trained.
SUPERNET, TRAINING = "supernet", "training.json"


@attrs.frozen
class SearchRow:
    """One named search of a file."""

    id: int
    name: str
    folder: str
    created: float
    record: dict[str, Any]
    ended: str | None


class Store:
    """The rows of one study database: searches and their trials.

    Args:
        location: as for `Database`.
        create: whether a file that is not there is made.
    """

    def __init__(self, location: Any, *, create: bool = True) -> None:
        self.database = Database(location, create=create)
        self._engine = self.database.engine

    @contextlib.contextmanager
    def intact(self) -> Iterator[None]:
        """For the reading of what was recorded: tells of texts that cannot have been written."""
        try:
            yield
        except (json.JSONDecodeError, IndexError) as error:
            detail = f"what was recorded of a trial or search cannot be read ({error})"
            raise StorageError(damaged(self.database.label, detail)) from error

    # --- searches -----------------------------------------------------------------------------

    def searches(self) -> list[SearchRow]:
        """All searches, in the order in which they were begun."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(searches).order_by(searches.c.id)).mappings()
            with self.intact():
                return [_search_row(dict(row)) for row in rows]

    def find(self, name: str) -> SearchRow | None:
        """The search of that name."""
        return next((row for row in self.searches() if row.name == name), None)

    def begin_search(
        self,
        name: str,
        record: Mapping[str, Any],
        *,
        archive: SearchRow | None = None,
        carried: Sequence[Mapping[str, Any]] = (),
    ) -> SearchRow:
        """Writes a new search, in one transaction with what it takes over from an older one.

        Args:
            name: the new search's name.
            record: what the search is, see `symnas.studies.record`.
            archive: the older search that has this name and gives it up.
            carried: trials of the new search, columns by name without `search`.
        """
        taken = {row.name for row in self.searches()} | {name}
        folders = {row.folder for row in self.searches()}
        values = {
            "name": name,
            "folder": _free(quote(name, safe=" "), folders),
            "created": time.time(),
            "task": digest(record["task"]),
            "record": dumps(record),
        }
        with self._engine.begin() as connection:
            if archive is not None:
                renamed = _free(f"{name} (before change)", taken)
                rename = searches.update().where(searches.c.id == archive.id)
                connection.execute(rename.values(name=renamed))
            inserted = connection.execute(searches.insert(), values)
            search = inserted.inserted_primary_key[0]  # type: ignore[index]
            if carried:
                connection.execute(_begin, [{**row, "search": search} for row in carried])
        found = self.find(name)
        assert found is not None
        return found

    def end_search(self, search: int, reason: str | None) -> None:
        """Records why a search stopped; None while it runs."""
        with self._engine.begin() as connection:
            connection.execute(
                searches.update().where(searches.c.id == search).values(ended=reason)
            )

    def begin_driver(self, search: int) -> int:
        """Writes that this process takes part in a search; returns the driver's number."""
        values = {
            "search": search,
            "host": platform.node()[:255],
            "process": os.getpid(),
            "began": time.time(),
        }
        with self._engine.begin() as connection:
            inserted = connection.execute(drivers.insert(), values)
            return int(inserted.inserted_primary_key[0])  # type: ignore[index]

    def end_driver(self, driver: int) -> None:
        """Writes that a driver has left."""
        with self._engine.begin() as connection:
            connection.execute(
                drivers.update().where(drivers.c.id == driver).values(ended=time.time())
            )

    def drivers(self, search: int) -> tuple[int, ...]:
        """The drivers of a search that have not said that they left; some may be dead."""
        query = sa.select(drivers.c.id).where(drivers.c.search == search, drivers.c.ended.is_(None))
        with self._engine.connect() as connection:
            return tuple(connection.execute(query).scalars())

    def same_task(self, search: SearchRow) -> tuple[int, ...]:
        """The other searches of this file that have the same task."""
        query = sa.select(searches.c.id).where(
            searches.c.task == digest(search.record["task"]), searches.c.id != search.id
        )
        with self._engine.connect() as connection:
            return tuple(connection.execute(query).scalars())

    def folder(self, search: SearchRow, number: int | str) -> Path:
        """Where a trial keeps its files; or something else of the search, by name."""
        return self.database.files / search.folder / str(number)

    # --- trials -------------------------------------------------------------------------------

    def begin_trial(self, search: int, values: Mapping[str, Any]) -> None:
        """Writes a trial that was proposed."""
        self._write(_begin, {**values, "search": search}, seconds=0.0)

    def finish_trial(
        self, search: int, number: int, values: Mapping[str, Any], *, driver: int | None = None
    ) -> bool:
        """Writes the result of a trial; False if it is not the driver's to finish any more."""
        given = {"of_search": search, "of_number": number, **values}
        statement = _finish
        if driver is not None:
            statement, given = _finish_held, {**given, "of_driver": driver}
        return self._write(statement, given, seconds=values["seconds"] or 0.0) == 1

    def claim_trial(self, search: int, number: int, *, of: int | None, driver: int) -> bool:
        """Takes an open trial over from another driver, or from none; False if it is too late."""
        given = {"of_search": search, "of_number": number, "of_driver": of, "driver": driver}
        return self._write(_finish_held, given, seconds=0.0) == 1

    def reusable(
        self, among: Sequence[int], key: str, budget: float | None, repeat: int
    ) -> Iterator[Mapping[str, Any]]:
        """Finished trials of these searches with the same architecture, budget and repeat."""
        values = {"key": key, "repeat": repeat, "among": list(among)}
        with self._engine.connect() as connection:
            for row in connection.execute(_reusable, values).mappings():
                if row["budget"] == budget:
                    yield dict(row)

    def trials(
        self,
        search: int,
        *,
        states: Sequence[str] = (),
        number: int | None = None,
        numbers: Sequence[int] = (),
        first: int = 0,
        most: int | None = None,
        columns: Sequence[str] = (),
    ) -> Iterator[Mapping[str, Any]]:
        """The trials of a search in the order of their numbers, read as they are asked for.

        Args:
            search: whose trials.
            states: only trials in these.
            number, numbers: only this trial; only these.
            first, most: from this number on; no more than so many.
            columns: what is read of each; by default all.
        """
        query = sa.select(*[trials.c[name] for name in columns] or trials.c)
        query = query.where(trials.c.search == search).order_by(trials.c.number)
        if states:
            query = query.where(trials.c.state.in_(list(states)))
        if number is not None:
            query = query.where(trials.c.number == number)
        if numbers:
            query = query.where(trials.c.number.in_(list(numbers)))
        if first:
            query = query.where(trials.c.number >= first)
        if most is not None:
            query = query.limit(most)
        with self._engine.connect() as connection:
            lazily = connection.execution_options(yield_per=500)
            yield from map(dict, lazily.execute(query).mappings())

    def count(self, search: int) -> dict[str, int]:
        """How many trials there are of each state."""
        query = sa.select(trials.c.state, sa.func.count()).where(trials.c.search == search)
        with self._engine.connect() as connection:
            rows = connection.execute(query.group_by(trials.c.state))
            return {state: int(number) for state, number in rows}

    def _write(self, statement: Any, values: Mapping[str, Any], *, seconds: float) -> int:
        with self.database.writing(full=seconds > _FLUSH_SECONDS) as connection:
            return int(connection.execute(statement, dict(values)).rowcount)


def _search_row(row: Mapping[str, Any]) -> SearchRow:
    return SearchRow(
        id=row["id"],
        name=row["name"],
        folder=row["folder"],
        created=row["created"],
        record=loads(row["record"]),
        ended=row["ended"],
    )


def _free(name: str, taken: set[str]) -> str:
    """`name`, or `name 2`, `name 3`... if it is taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name} {number}" in taken:
        number += 1
    return f"{name} {number}"
