"""What the refusals of a database mean to who keeps a study in it: what is wrong, and what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from symnas.errors import StorageError

_DISK_FULL = "53100"  # of PostgreSQL: Appendix A of its manual


def explain_failures(engine: sa.Engine, label: str) -> None:
    """Has the engine raise `StorageError` instead of errors that name neither the study nor a remedy.

    Args:
        engine: of a study.
        label: where the study is, as people may see it.
    """

    @sa.event.listens_for(engine, "handle_error")
    def _(context: Any) -> StorageError | None:
        error = context.original_exception
        if isinstance(error, sqlite3.Error):
            meaning = _of_file(label, str(error))
        else:
            meaning = _of_server(label, error, context.connection is None, context.is_disconnect)
        return None if meaning is None else StorageError(meaning)


def damaged(label: str, detail: str) -> str:
    """What is told about a file whose content cannot be right.

    >>> print(damaged("a.db", "page 3 is never used").splitlines()[0])
    `a.db` is damaged: page 3 is never used.
    """
    path = Path(label)
    rescued = path.with_name(f"{path.stem}-rescued{path.suffix or '.db'}")
    return (
        f"`{label}` is damaged: {detail}.\n"
        "Put back a copy of it; or rescue the trials that can be read, with "
        f"sn.Study.rescue({str(path)!r}, {str(rescued)!r}). The same call with that file begins "
        "again what is missing."
    )


def _of_file(label: str, text: str) -> str | None:
    if "is full" in text:
        return (
            f"The disk of `{label}` is full, and nothing more could be written. What was recorded "
            f"until then is kept. Free space in `{Path(label).absolute().parent}`, and make the "
            "same call again: it continues, and repeats only the trials that were open."
        )
    if any(sign in text for sign in ("malformed", "not a database", "decode to UTF-8")):
        return damaged(label, text)
    if "disk I/O error" in text:
        return (
            f"`{label}` could not be read or written: {text}. Look after the disk of "
            f"`{Path(label).absolute().parent}` (its space, a quota, a limit on the size of files: "
            "ulimit -f). What was recorded until then is kept; the same call continues."
        )
    if "readonly" in text:
        return (
            f"`{label}` could not be written: {text}. Who searches must be allowed to write the "
            f"file and its folder `{Path(label).absolute().parent}`; the same call continues."
        )
    if "is locked" in text:
        return (
            f"`{label}` could not be written: another program has kept it locked for a minute. "
            "End that program; the same call continues."
        )
    return None


def _of_server(label: str, error: BaseException, connecting: bool, lost: bool) -> str | None:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if getattr(error, "sqlstate", None) == _DISK_FULL:
        return (
            f"The disk of the server of `{label}` is full ({first}), and nothing more could be "
            "written. What was recorded until then is kept; when there is space, the same call "
            "continues."
        )
    if connecting:
        return (
            f"`{label}` cannot be opened: {first}. When the server can be reached, the same call "
            "begins the search, or continues it."
        )
    if lost:
        return (
            f"The connection with `{label}` is lost ({first}), and with it this process's trials "
            "that are open. The same call continues, when the server can be reached."
        )
    return None
