"""A disk that gets full, and a limit on the size of files, while a search writes its study."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from faulty.subject import Subject
from faulty.tally import Setup, Skipped, Tally

_PAGE = 4096
_ENDLESS = 10**6  # trials


def disk_full(setup: Setup) -> list[Tally]:
    """The study lies on a small disk of its own, which gets full, and is then enlarged."""
    tally, rng = Tally("disk full"), setup.rng()
    with _disk(setup.folder / "disk") as disk:
        subject = Subject(setup, tally, str(disk / "s.db"), trials=_ENDLESS)

        def mend() -> None:
            room = rng.randint(15, 150) * _PAGE
            _mount("remount,", disk, shutil.disk_usage(disk).used + room)

        _search(setup, subject, mend)
        _mount("remount,", disk, 1 << 28)
        _finish(subject)
    return [tally]


def file_limit(setup: Setup) -> list[Tally]:
    """The driver may not write files beyond a size (as a quota would have it); then beyond another."""
    tally, rng = Tally("limit on the size of files"), setup.rng()
    subject = Subject(setup, tally, str(setup.folder / "s.db"), trials=_ENDLESS)
    limit = 0

    def mend() -> None:
        nonlocal limit
        limit += rng.randint(15, 150) * _PAGE

    subject.prepare = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    _search(setup, subject, mend)
    subject.prepare = lambda: None
    _finish(subject)
    return [tally]


def _search(setup: Setup, subject: Subject, mend: Callable[[], None]) -> None:
    for index in range(setup.rounds):
        mend()
        mended, since = time.monotonic(), len(subject.begun())
        driver = subject.start()
        began = subject.wait(driver, since=since)
        if index and began is not None:
            subject.tally.recoveries.append(began - mended)
        subject.tally.injected += os.waitpid(driver, 0)[1] != 0
        subject.tally.sees = f"the driver ends: {subject.error.read_text()}"
        subject.look_after(since)  # the study opens as well while there is no space
        setup.tick(1.0)


def _finish(subject: Subject) -> None:
    subject.trials = len(subject.known) + 10
    subject.finish()
    subject.look()
    subject.compare()


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    """A file system in memory, with some pages."""
    folder.mkdir()
    _mount("", folder, 15 * _PAGE)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(options: str, folder: Path, size: int) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"{options}size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise Skipped("there is no `mount` here") from None
    if done.returncode:
        raise Skipped(f"a file system in memory may not be mounted: {done.stderr.strip()}")
