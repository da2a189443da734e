"""Measurements kept on disk: made once a machine, not once a process."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLE = "SYMNAS_CACHE"


def cache_folder() -> Path:
    """Where measurements are kept: `$SYMNAS_CACHE`, or the user's cache folder."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    import platformdirs

    return Path(platformdirs.user_cache_dir("symnas"))


class MeasurementCache:
    """Records by key, in one file of JSON lines for everything measured under one setting.

    A line is appended in one write, so several processes may write at once, and one that is killed
    leaves at most a torn line, which readers skip. The first record of a key counts: so all
    processes agree, also where two of them measured the same. Without a folder that can be
    written, records are kept in memory, with a warning.

    Args:
        name: of what is measured.
        setting: what the measurements depend on, as data for JSON: another setting, another file.
    """

    def __init__(self, name: str, setting: Mapping[str, Any]) -> None:
        text = json.dumps(setting, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        self.path = cache_folder() / "measurements" / f"{name}-{digest}.jsonl"
        self._setting = dict(setting)
        self._records: dict[str, dict[str, Any]] = {}
        self._read_to = 0
        self._warned = False

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of `key`, or None."""
        if key not in self._records:
            self._read()
        return self._records.get(key)

    def put(self, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Adds a record; returns the one that counts, which another process may have put first."""
        lines = [{"key": key, **record}]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                lines.insert(0, {"setting": self._setting})  # for people; readers skip it
            # A newline first: it ends the line that a killed process may have torn.
            text = "".join("\n" + json.dumps(line, allow_nan=False) for line in lines) + "\n"
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, text.encode())
            finally:
                os.close(file)
            self._read()
        except OSError as error:
            self._warn(error)
        return self._records.setdefault(key, dict(record))

    def _read(self) -> None:
        try:
            with open(self.path, "rb") as file:
                file.seek(self._read_to)
                data = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            self._warn(error)
            return
        end = data.rfind(b"\n") + 1  # what follows may still be in the course of being written
        self._read_to += end
        for line in data[:end].splitlines():
            try:
                record = json.loads(line)
                key = record.pop("key")
            except (ValueError, KeyError, AttributeError, TypeError):
                continue  # blank, torn, or the setting
            self._records.setdefault(key, record)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"Measurements cannot be kept in {self.path.parent} ({error}); they will be made "
                f"anew in each process. Set {VARIABLE} to a folder that can be written.",
                stacklevel=2,
            )
