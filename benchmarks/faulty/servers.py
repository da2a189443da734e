"""SIGKILL of the PostgreSQL server while a search writes into it."""

from __future__ import annotations

import os
import time

from faulty.postgres import Server, schema, server
from faulty.subject import Subject
from faulty.tally import Setup, Tally


def server_killed(setup: Setup) -> list[Tally]:
    """All processes of the server are killed; it is started again, and the same call made."""
    # Results of trials over 0.1 s wait for the server's disk; a crash of the server may undo the
    # last half second of shorter ones.
    long = Tally("PostgreSQL killed, trials of 0.12 s")
    short = Tally("PostgreSQL killed, trials of 0.01 s", tolerated=True)
    with server() as database:
        for tally, seconds in ((long, 0.12), (short, 0.01)):
            with schema(database.url) as url:
                _search(setup, tally, database, url, seconds)
            setup.log.unlink()
    return [long, short]


def _search(setup: Setup, tally: Tally, database: Server, url: str, seconds: float) -> None:
    rng, each = setup.rng(), round(0.8 / seconds)  # trials in a round
    subject = Subject(setup, tally, url, trials=each * setup.rounds, seconds=seconds, ahead=1)
    mended: float | None = None
    for _ in range(setup.rounds):
        process, since = subject.start(), len(subject.begun())
        first = subject.wait(process, rng.randint(1, each), since)
        if first is not None and mended is not None:
            tally.recoveries.append(first - mended)
        time.sleep(rng.uniform(0.0, seconds))
        database.kill()
        failed = os.waitpid(process, 0)[1] != 0
        tally.injected += failed
        database.start()
        mended = time.monotonic()
        subject.look_after(since)
        setup.tick(0.5)
    subject.finish()
    subject.look()
    subject.compare()
    tally.sees = f"the driver ends: {subject.error.read_text()}"
