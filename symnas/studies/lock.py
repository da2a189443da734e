"""Who runs a search: one process alone, or several drivers that know of one another.

Nothing here reads a clock. A lock belongs to a process and is gone with it, however it died: the
system frees locks on files, and the server those of a session whose connection has closed. So a
driver is dead when the lock that it held as long as it lived can be had.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

import sqlalchemy as sa

from symnas.errors import SymnasError
from symnas.studies.store import Store

# A server notices after 30 + 3 * 10 s that the machine of a client is gone.
_KEEPALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}

_held: set[Path] = set()
_guard = threading.Lock()


class Locks(Protocol):
    """Locks by name, among the processes that have a study open."""

    def hold(self, name: str, *, shared: bool = False, wait: bool = False) -> bool:
        """Takes a lock; whether it was to be had.

        Args:
            name: of the lock.
            shared: whether others may hold it as well, who share it.
            wait: for other processes, until it is to be had.
        """

    def release(self, name: str) -> None:
        """Gives a lock back that is not shared; all are given back in the end."""


@contextlib.contextmanager
def taking_part(store: Store, name: str, *, shared: bool) -> Iterator[Locks | None]:
    """Holds the search `name` of a study for this process, alone or with others that share it.

    Yields the locks by which those who share it keep order; None for who is alone.

    Raises:
        SymnasError: another process is running the search, alone or not as we want it; or its
            database has no locks to share it by.
    """
    if store.database.location is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        locks: Locks
        if store.database.dialect == "postgresql":
            locks = stack.enter_context(_server_locks(store))
        else:
            if shared and (store.database.dialect != "sqlite" or _fcntl() is None):
                raise SymnasError(
                    f"`drivers`: `{store.database.label}` cannot be shared. Several drivers need "
                    "PostgreSQL, or a SQLite file on a system with POSIX file locks."
                )
            locks = stack.enter_context(_file_locks(store.database.files))
        if not locks.hold(name, shared=shared):
            raise _busy(store, name, shared)
        yield locks if shared else None


class _FileLocks:
    """Locks on files beside a SQLite study: for the processes of one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, IO[str]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def hold(self, name: str, *, shared: bool = False, wait: bool = False) -> bool:
        path = self._path(name)
        with _guard:  # the system does not keep the threads of one process apart
            if path in _held:
                return False
            _held.add(path)
        file = path.open("a+")
        if _lock(file, shared, wait):
            self._open[name] = file
            return True
        file.close()
        _held.discard(path)
        return False

    def release(self, name: str) -> None:
        self._open.pop(name).close()
        _held.discard(self._path(name))

    def _path(self, name: str) -> Path:
        return self._folder / f"{zlib.crc32(name.encode()):08x}.lock"

    def close(self) -> None:
        for name in list(self._open):
            self.release(name)


@contextlib.contextmanager
def _file_locks(folder: Path) -> Iterator[_FileLocks]:
    locks = _FileLocks(folder)
    try:
        yield locks
    finally:
        locks.close()


def _fcntl() -> object | None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return None
    return fcntl


def _lock(file: IO[str], shared: bool, wait: bool) -> bool:
    if _fcntl() is None:  # there two processes must be kept apart by hand
        return True
    import fcntl

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        # Not inherited by forks of the task, so an orphan of a killed search cannot hold it.
        fcntl.lockf(file, kind if wait else kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class _ServerLocks:
    """Advisory locks of PostgreSQL, held by a session of their own."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        for setting, value in _KEEPALIVE.items():
            connection.exec_driver_sql(f"set {setting} = {value}")
        # A server's locks are common to all schemas of a database: names are made ours by a table.
        query = "select to_regclass('searches')::oid::bigint"
        self._scope = connection.exec_driver_sql(query).scalar()

    def hold(self, name: str, *, shared: bool = False, wait: bool = False) -> bool:
        words = ("pg", "advisory", "lock") if wait else ("pg", "try", "advisory", "lock")
        taken = self._call("_".join((*words, "shared") if shared else words), name)
        return wait or bool(taken)

    def release(self, name: str) -> None:
        self._call("pg_advisory_unlock", name)

    def _call(self, function: str, name: str) -> object:
        digest = hashlib.sha256(f"symnas {self._scope} {name}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        return self._connection.execute(sa.select(getattr(sa.func, function)(key))).scalar()


@contextlib.contextmanager
def _server_locks(store: Store) -> Iterator[_ServerLocks]:
    # No transaction stays open on it, and none of the study's own is on this connection.
    connect = store.database.engine.connect
    with connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            yield _ServerLocks(connection)
        finally:
            connection.invalidate()  # closes it: with the session all its locks are gone


def _busy(store: Store, name: str, shared: bool) -> SymnasError:
    how = " by one driver alone" if shared else ""
    return SymnasError(
        f'The search "{name}" of `{store.database.label}` is running already{how}. Wait for it, or '
        "give another name= to search beside it. To use more cores for one search: workers=, or "
        "drivers= in each of the processes that shall share it."
    )
