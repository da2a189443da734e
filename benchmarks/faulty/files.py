"""Study files that are damaged: what symnas says of them, and what can be rescued."""

from __future__ import annotations

import contextlib
import gc
import random
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import symnas as sn
from faulty.subject import Subject, kill
from faulty.tally import Setup, Tally

_TRIALS = 200
Damage = Callable[[Path, random.Random], None]


def damaged(setup: Setup) -> list[Tally]:
    """The study of a killed search is cut, overwritten, emptied; opened; rescued as told; continued."""
    whole = setup.folder / "whole.db"
    subject = Subject(setup, Tally("none"), str(whole), trials=_TRIALS)
    driver = subject.start()
    subject.wait(driver, _TRIALS - 5)
    kill(driver)
    before = _all(whole)
    with contextlib.closing(sqlite3.connect(whole)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    return [_damaged(setup, name, damage, whole, before) for name, damage in _DAMAGES.items()]


def log_lost(setup: Setup) -> list[Tally]:
    """After a kill, the write-ahead log beside the file is truncated or removed; then continued."""
    kinds = {"-wal truncated after a kill": _truncate, "-wal removed after a kill": _remove}
    return [_log_lost(setup, name, damage) for name, damage in kinds.items()]


def _truncate(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * rng.uniform(0.2, 0.8)))


def _overwrite(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        file.seek(rng.randrange(4096, path.stat().st_size - 4096))
        file.write(rng.randbytes(4096))


def _invert(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        place = rng.randrange(4096, path.stat().st_size - 16)
        file.seek(place)
        content = file.read(16)
        file.seek(place)
        file.write(bytes(byte ^ 0xFF for byte in content))


def _empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def _remove(path: Path, rng: random.Random) -> None:
    path.unlink()


_DAMAGES: dict[str, Damage] = {
    "file truncated": _truncate,
    "4096 bytes overwritten": _overwrite,
    "16 bytes inverted": _invert,
    "file emptied": _empty,
}


def _damaged(setup: Setup, name: str, damage: Damage, whole: Path, before: dict[int, Any]) -> Tally:
    tally, rng = Tally(name), setup.rng()
    rescued = told = 0
    for index in range(setup.rounds):
        copy = setup.folder / f"{damage.__name__}{index}.db"
        shutil.copy(whole, copy)
        shutil.copytree(f"{whole}.files", f"{copy}.files")
        damage(copy, rng)
        tally.injected += 1
        try:
            after = _all(copy)
        except sn.StorageError as error:
            tally.sees = str(error)
            told += 1
            rescued += _rescue(setup, tally, str(error))
        else:  # in bytes that mean nothing, or that SQLite takes as they are
            tally.lost += sum(after.get(number) != was for number, was in before.items())
        setup.tick(1 / len(_DAMAGES))
    kept = f"; of {len(before)} trials, {rescued / told:.0f} rescued" if told else ""
    tally.sees = f"told {told} of {tally.injected} times{kept}: {tally.sees}"
    return tally


def _all(path: Path) -> dict[int, Any]:
    """All that a study says of its trials."""
    told = ("state", "row", "choices", "metrics", "costs", "scores", "reason", "seed", "key")
    return {t.number: [repr(getattr(t, n)) for n in told] for t in sn.Study.open(path).trials}


def _rescue(setup: Setup, tally: Tally, advice: str) -> int:
    """Does what the message says, and continues; how many trials were rescued."""
    command = re.search(r"sn\.Study\.rescue\('([^']*)', '([^']*)'\)", advice)
    if command is None:
        return 0
    try:
        sn.Study.rescue(command[1], command[2])
    except sn.StorageError:  # what was damaged tells what the study is
        return 0
    subject = Subject(setup, tally, command[2], trials=_TRIALS, seconds=0.0)
    setup.log.unlink(missing_ok=True)
    began = time.monotonic()
    subject.look()
    count = len(subject.known)
    subject.finish()
    tally.recoveries.append(time.monotonic() - began)
    subject.look()
    subject.compare()
    return count


class _Aside(Subject):
    """Reads a copy of the study: who opens one and closes it leaves no log behind."""

    def finished(self) -> dict[int, object]:
        """As `Subject.finished`."""
        copy = self.setup.folder / "aside.db"
        for end in ("", "-wal"):
            Path(f"{copy}{end}").unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(f"{self.study}{end}", f"{copy}{end}")
        there, self.study = self.study, str(copy)
        try:
            return super().finished()
        finally:
            self.study = there
            gc.collect()  # closes the copy


def _log_lost(setup: Setup, name: str, damage: Damage) -> Tally:
    tally, rng = Tally(name, tolerated=True), setup.rng()
    subject = _Aside(setup, tally, str(setup.folder / "s.db"), trials=_TRIALS)
    mended: float | None = None
    for _ in range(setup.rounds):
        driver, since = subject.start(), len(subject.begun())
        first = subject.wait(driver, rng.randint(5, 25), since)
        if mended is not None and first is not None:
            tally.recoveries.append(first - mended)
        if not kill(driver):
            break
        subject.look()
        damage(Path(f"{subject.study}-wal"), rng)
        tally.injected += 1
        mended = time.monotonic()
        subject.look()
        subject.trials += 20
        setup.tick(0.5)
    subject.finish()
    subject.look()
    subject.compare()
    tally.sees = "nothing: SQLite goes back to what is left, and what was only in there is repeated"
    for path in setup.folder.glob("s.db*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    setup.log.unlink()
    return tally
