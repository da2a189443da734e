"""A PostgreSQL server of the tests' own: started in a temporary folder, gone with them."""

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

import pytest
import sqlalchemy as sa

_PATIENCE = 30.0


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, of the newest version that is installed."""
    found = [Path(name).parent for name in glob.glob("/usr/lib/postgresql/*/bin/initdb")]
    if found:
        return max(found, key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of a server: the one that SYMNAS_POSTGRES names, or a private one on loopback."""
    if "SYMNAS_POSTGRES" in os.environ:
        yield os.environ["SYMNAS_POSTGRES"]
        return
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: neither SYMNAS_POSTGRES nor initdb")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with tempfile.TemporaryDirectory(prefix="symnas-postgres-") as folder:
        account = _account(folder)
        password, port = secrets.token_hex(16), _free_port()
        secret, data, log = (Path(folder, name) for name in ("password", "data", "log"))
        secret.write_text(password)
        if account is not None:
            shutil.chown(secret, *account)
        made = subprocess.run(
            [programs / "initdb", "-D", data, "-U", "symnas", f"--pwfile={secret}",
             "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"],
            capture_output=True, text=True, cwd=folder, **_as(account),
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        settings = {"port": port, "listen_addresses": "127.0.0.1", "fsync": "off",
                    "unix_socket_directories": "", "max_connections": 50}  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with log.open("w") as output:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, *options],
                stdout=output, stderr=output, cwd=folder, **_as(account),
            )  # fmt: skip
        try:
            url = f"postgresql+psycopg://symnas:{password}@127.0.0.1:{port}/postgres"
            _wait(url, process, log)
            yield url
        finally:
            process.send_signal(signal.SIGINT)  # ends sessions that a test left open
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()


@contextlib.contextmanager
def empty_study(server: str) -> Iterator[str]:
    """The URL of a schema of the server's database in which there is nothing yet."""
    schema = f"test_{secrets.token_hex(8)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"create schema {schema}")
    url = sa.make_url(server).update_query_dict({"options": f"-csearch_path={schema}"})
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"drop schema {schema} cascade")
        engine.dispose()


def _account(folder: str) -> tuple[int, int] | None:
    """PostgreSQL refuses to run as root: then as its own user, or as nobody."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            return entry.pw_uid, entry.pw_gid
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


def _as(account: tuple[int, int] | None) -> dict[str, object]:
    return {} if account is None else {"user": account[0], "group": account[1], "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    engine = sa.create_engine(url)
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            engine.connect().close()
            engine.dispose()
            return
        except sa.exc.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start: {log.read_text()}") from None
        time.sleep(0.05)
