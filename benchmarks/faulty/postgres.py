"""A PostgreSQL server of our own on loopback, that can be killed and started again."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from faulty.tally import Skipped

_PATIENCE = 30.0


class Server:
    """A server with its data in a folder.

    Args:
        folder: an empty one, which must be closed to others: it holds the password.

    Raises:
        Skipped: PostgreSQL or its driver is not installed, or may not run.
    """

    def __init__(self, folder: Path) -> None:
        programs = binaries()
        if programs is None:
            raise Skipped("PostgreSQL is not installed: there is no initdb")
        try:
            import psycopg  # noqa: F401
        except ImportError:
            raise Skipped("psycopg is not installed") from None
        self._programs, self._folder = programs, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._account = _account(folder)
        password, self._port = secrets.token_hex(16), _free_port()
        self.url = f"postgresql+psycopg://symnas:{password}@127.0.0.1:{self._port}/postgres"
        secret = folder / "password"
        secret.write_text(password)
        if self._account is not None:
            shutil.chown(secret, *self._account)
        made = subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "symnas", f"--pwfile={secret}",
             "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"],
            capture_output=True, text=True, cwd=folder, **self._as(),
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(made.stderr)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        settings = {"port": self._port, "listen_addresses": "127.0.0.1", "fsync": "off",
                    "unix_socket_directories": "", "max_connections": 50}  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = self._folder / "server.log"
        with log.open("a") as output:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", *options],
                stdout=output, stderr=output, cwd=self._folder, **self._as(),
            )  # fmt: skip
        engine = sa.create_engine(self.url)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                engine.connect().close()
                engine.dispose()
                return
            except sa.exc.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from None
            time.sleep(0.02)

    def kill(self) -> None:
        """Kills all its processes at once."""
        assert self._process is not None
        whole = psutil.Process(self._process.pid)
        children = whole.children(recursive=True)
        for process in (whole, *children):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        while any(map(_runs, children)):
            time.sleep(0.005)

    def stop(self) -> None:
        """Ends it with all sessions, and makes sure."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        self._process.wait()

    def _as(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account[0], "group": self._account[1], "extra_groups": []}


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A server that runs until the end of the block, and whose folder is then removed."""
    with tempfile.TemporaryDirectory(prefix="symnas-postgres-") as folder:
        made = Server(Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()


@contextlib.contextmanager
def schema(url: str) -> Iterator[str]:
    """The URL of a new schema of a database, with nothing in it; it is removed in the end."""
    name = f"symnas_{secrets.token_hex(8)}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"create schema {name}")
    named = sa.make_url(url).update_query_dict({"options": f"-csearch_path={name}"})
    try:
        yield named.render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"drop schema {name} cascade")
        engine.dispose()


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, of the newest version that is installed."""
    found = [Path(name).parent for name in glob.glob("/usr/lib/postgresql/*/bin/initdb")]
    if found:
        return max(found, key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _account(folder: Path) -> tuple[int, int] | None:
    """PostgreSQL refuses to run as root: then as its own user, or as nobody."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            return entry.pw_uid, entry.pw_gid
    raise Skipped("PostgreSQL does not run as root, and there is no other user")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
