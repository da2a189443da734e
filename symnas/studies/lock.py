"""One process at a time continues a search: two would evaluate the same trials twice."""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from symnas.errors import SymnasError
from symnas.studies.store import Store

_held: set[Path] = set()
_guard = threading.Lock()


@contextlib.contextmanager
def only_one(store: Store, name: str) -> Iterator[None]:
    """Holds the search `name` of a study for this process; the system frees it when we die.

    Raises:
        SymnasError: another process is running the search.
    """
    if store.database.location is None:
        yield
        return
    hold = (
        _by_server(store, name) if store.database.dialect == "postgresql" else _by_file(store, name)
    )
    with hold:
        yield


@contextlib.contextmanager
def _by_file(store: Store, name: str) -> Iterator[None]:
    folder = store.database.files
    path = folder / f"{zlib.crc32(name.encode()):08x}.lock"
    folder.mkdir(parents=True, exist_ok=True)
    with _guard:
        if path in _held:
            raise _busy(store, name)
        _held.add(path)
    try:
        with path.open("w") as file:
            if not _lock(file):
                raise _busy(store, name)
            yield
    finally:
        _held.discard(path)


def _lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # not on Windows; there two processes must be kept apart by hand
        return True
    try:
        # Not inherited by forks of the task, so an orphan of a killed search cannot hold it.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _by_server(store: Store, name: str) -> Iterator[None]:
    key = zlib.crc32(f"symnas:{name}".encode())
    with store.database.engine.connect() as connection:
        taken = connection.execute(sa.select(sa.func.pg_try_advisory_lock(key))).scalar()
        connection.commit()
        if not taken:
            raise _busy(store, name)
        try:
            yield
        finally:
            connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))
            connection.commit()


def _busy(store: Store, name: str) -> SymnasError:
    return SymnasError(
        f'The search "{name}" of `{store.database.label}` is running already. Wait for it, or '
        "give another name= to search beside it. To use more cores for one search: workers=."
    )
