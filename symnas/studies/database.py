"""Opening the database of a study: a SQLite file, a private temporary one, or a URL."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import tempfile
import time
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from symnas.errors import MissingExtra, StorageError
from symnas.studies import schema
from symnas.studies.failures import damaged, explain_failures
from symnas.studies.migration import STEPS, migrate

_PATIENCE = 60.0  # seconds, with who else writes into a file
_SQLITE_HEADER = b"SQLite format 3\x00"
# PostgreSQL's number of the lock under which tables are made or changed.
_TABLES = zlib.crc32(b"symnas tables")


class Database:
    """The open tables of a study and the folder that lies beside them.

    Args:
        location: path of a SQLite file, an SQLAlchemy URL, or None for a study that is gone
            with the process (a temporary file of SQLite's own, so that memory stays flat).
        create: whether a file that is not there is made.

    Raises:
        FileNotFoundError: there is no such file, and it is not to be made.
        StorageError: the file is not a study, is damaged, was written by a newer symnas, or by an
            older one and cannot be brought up to date.
        MissingExtra: the URL's database driver is not installed.
    """

    def __init__(self, location: str | os.PathLike[str] | None, *, create: bool = True) -> None:
        self.location = None if location is None else os.fspath(location)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.engine = self._connect(create)
        explain_failures(self.engine, self.label)
        self._single = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._check_version(create)

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of the database: "sqlite", "postgresql"."""
        return self.engine.dialect.name

    @property
    def label(self) -> str:
        """The location as people may see it, without a password."""
        if self.location is None:
            return "in memory"
        shown = self.engine.url.render_as_string(hide_password=True)
        return shown if "://" in self.location else self.location

    @property
    def files(self) -> Path:
        """The folder of what trials keep: `tiny.db.files` beside `tiny.db`."""
        if self.location is None:
            if self._temporary is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="symnas-")
            return Path(self._temporary.name)
        url = self.engine.url
        if self.dialect == "sqlite":
            return Path(f"{url.database}.files").absolute()
        return Path(f"{quote(url.database or 'study', safe='')}.files").absolute()

    def close(self) -> None:
        """Closes the connections; a study without a file is gone then."""
        self.engine.dispose()

    @contextlib.contextmanager
    def writing(self, *, full: bool) -> Iterator[sa.Connection]:
        """A connection for one statement, which is committed at the end of the block.

        Args:
            full: whether the commit waits until the disk has it. If not, a power cut (or the crash
                of a server) may undo the last commits; the death of this process never does.
        """
        if self.dialect == "postgresql" and not full:
            # A statement is a transaction by itself: one message to the server instead of three.
            with self._single.connect() as connection:
                yield connection
            return
        with self.engine.connect() as connection:
            if self.dialect == "postgresql":
                connection.exec_driver_sql("set local synchronous_commit to default")
            elif self.dialect == "sqlite" and self.location is not None:
                self._synchronous(connection, full)
            yield connection
            connection.commit()

    @staticmethod
    def _synchronous(connection: sa.Connection, full: bool) -> None:
        if connection.info.get("full", False) != full:
            connection.exec_driver_sql(f"pragma synchronous={'full' if full else 'normal'}")
            connection.info["full"] = full

    def _connect(self, create: bool) -> sa.Engine:
        if self.location is None:
            engine = sa.create_engine(
                "sqlite://",
                creator=lambda: _Connection("", check_same_thread=False),
                poolclass=sa.StaticPool,
            )
            return engine
        if "://" in self.location:
            return _engine_of_url(self.location, create)
        return _engine_of_file(Path(self.location), create)

    def _check_version(self, create: bool) -> None:
        try:
            names = sa.inspect(self.engine).get_table_names()
        except sa.exc.OperationalError as error:
            raise StorageError(f"`{self.label}` cannot be opened: {error.orig}") from error
        if names and self.dialect == "sqlite":
            self._check_pages()
        if schema.versions.name not in names:
            if names:
                raise StorageError(
                    f"`study` ({self.label!r}) is a database that holds other tables "
                    f"({', '.join(sorted(names)[:3])}). Give another path."
                )
            if not create:
                raise StorageError(f"`{self.label}` holds no study of symnas.")
            self._create_tables()
        version = self._version()
        if version in STEPS:
            version = self._migrate(version)
        if version != schema.VERSION:
            raise StorageError(
                f"`{self.label}` has study format {version}, and this symnas reads formats up to "
                f"{schema.VERSION}. Open it with the version of symnas that wrote it, or a newer one."
            )

    def _check_pages(self) -> None:
        """Reads the file once: SQLite would notice some damage only where it happens to look."""
        with self.engine.connect() as connection:
            found = connection.exec_driver_sql("pragma quick_check(1)").scalar_one()
        if found != "ok":
            detail = " ".join(found.removeprefix("*** in database main ***").split())
            raise StorageError(damaged(self.label, detail))

    def _version(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(sa.select(schema.versions.c.version)).scalar_one())

    def _create_tables(self) -> None:
        # A kill in between leaves no half-made study.
        with self._alone() as connection:
            schema.metadata.create_all(connection)
            known = connection.execute(sa.select(schema.versions.c.version)).first()
            if known is None:
                connection.execute(schema.versions.insert(), {"version": schema.VERSION})

    def _migrate(self, version: int) -> int:
        try:
            with self._alone() as connection:
                now = connection.execute(sa.select(schema.versions.c.version)).scalar_one()
                if now in STEPS:  # nobody has been faster
                    migrate(connection, now, schema.VERSION)
        except sa.exc.DBAPIError as error:
            raise StorageError(
                f"`{self.label}` has study format {version}, and cannot be brought to format "
                f"{schema.VERSION}: {error.orig}. Open a copy that can be written."
            ) from error
        return self._version()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[sa.Connection]:
        """A transaction on the tables: of two processes, the second finds what the first has done."""
        with self.engine.begin() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("begin immediate")
            elif self.dialect == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_TABLES)))
            yield connection


def _engine_of_file(path: Path, create: bool) -> sa.Engine:
    if path.is_dir():
        raise StorageError(f"`study` ({str(path)!r}) is a folder. Name a file in it: study.db.")
    if not path.exists():
        if not create:
            raise FileNotFoundError(f"There is no study at `{path}`.")
        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(
                f"`study` ({str(path)!r}): the folder `{path.absolute().parent}` is not there. "
                "Make it first."
            )
    else:
        with path.open("rb") as file:
            header = file.read(16)
        if header not in (b"", _SQLITE_HEADER):
            raise StorageError(f"`study` ({str(path)!r}) is a file, but not a study.")
        files = Path(f"{path}.files")
        if not header and files.is_dir():  # which is made after a study's first page
            raise StorageError(
                f"`study` ({str(path)!r}) is an empty file, and `{files}` tells that a study was in "
                "it. Put back a copy of the file; or remove both to begin anew."
            )
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)), connect_args={"factory": _Connection}
    )
    return _tune_sqlite(engine)


def _engine_of_url(location: str, create: bool) -> sa.Engine:
    url = sa.make_url(location)
    if url.get_backend_name() == "sqlite":
        return _engine_of_file(Path(url.database or ""), create)
    if url.drivername == "postgresql":  # which driver that means depends on SQLAlchemy's version
        url = url.set(drivername="postgresql+psycopg")
    try:
        engine = sa.create_engine(url)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"`study` ({url.render_as_string()}) needs {error.name}: "
            "pip install 'symnas[postgres]'."
        ) from None
    return _tune_server(engine) if url.get_backend_name() == "postgresql" else engine


def _tune_sqlite(engine: sa.Engine) -> sa.Engine:
    @sa.event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        # A write-ahead log lets readers (reports, a second search in the file) see a study while
        # it is written, and makes a commit one append.
        connection.execute(f"pragma busy_timeout={_PATIENCE * 1000:.0f}")
        _write_ahead(connection)
        connection.execute("pragma synchronous=normal")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Gives the file a write-ahead log; SQLite itself does not wait for others who do so too."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("pragma journal_mode=wal")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _tune_server(engine: sa.Engine) -> sa.Engine:
    @sa.event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        _sessions.add(connection)
        # As SQLite's `synchronous=normal`; `Database.writing` asks for more where it is worth it.
        with connection.cursor() as cursor:
            cursor.execute("set synchronous_commit to off")
        connection.commit()

    return engine


class _Connection(sqlite3.Connection):
    """A connection that is known here as long as it lives."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _connections.add(self)


# A fork (a DataLoader's worker, say) inherits open connections of SQLite. Were one closed there,
# SQLite would take it for the last one and remove the write-ahead log, with results in it.
_connections: weakref.WeakSet[_Connection] = weakref.WeakSet()


def _never_close_in_child() -> None:
    for connection in list(_connections):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


# A fork inherits sessions with a server as well. One that outlives us would keep them open, and
# with them the locks by which other drivers see that we live; one that closes them would end ours.
_sessions: weakref.WeakSet[Any] = weakref.WeakSet()


def _disconnect_in_child() -> None:
    for session in list(_sessions):
        with contextlib.suppress(Exception):  # closed already
            number, nothing = session.fileno(), os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, number, inheritable=False)
            os.close(nothing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_never_close_in_child)
    os.register_at_fork(after_in_child=_disconnect_in_child)
