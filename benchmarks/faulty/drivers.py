"""SIGKILL of the driver of a search, and of one of several that share it."""

from __future__ import annotations

import time

from faulty.postgres import schema, server
from faulty.subject import Subject, gone, kill
from faulty.tally import Setup, Tally

SHARING = 3


def driver(setup: Setup) -> list[Tally]:
    """The only driver is killed, and the same call made again."""
    tally, rng = Tally("driver killed (SQLite)"), setup.rng()
    subject = Subject(
        setup, tally, str(setup.folder / "s.db"), trials=max(60, 20 * setup.rounds),
        ahead=max(2, setup.workers), given={"workers": setup.workers},
    )  # fmt: skip
    killed: float | None = None
    for _ in range(setup.rounds):
        process, since = subject.start(), len(subject.begun())
        if rng.random() < 0.8:  # the others hit it while it starts and goes through the record
            first = subject.wait(process, rng.randint(1, 25), since)
            if first is not None and killed is not None:
                tally.recoveries.append(first - killed)
        time.sleep(rng.uniform(0.0, 0.01))
        tally.injected += kill(process)
        killed = time.monotonic()
        subject.look_after(since)
        setup.tick(1.0)
    subject.finish()
    subject.look()
    subject.compare()
    tally.sees = "nothing: the same call goes on where it was"
    return [tally]


def drivers_sqlite(setup: Setup) -> list[Tally]:
    """One of three drivers is killed, and another one started; the study is a file."""
    return [_shared(setup, Tally("1 of 3 drivers killed (SQLite)"), str(setup.folder / "s.db"))]


def drivers_postgresql(setup: Setup) -> list[Tally]:
    """The same with a server."""
    tally = Tally("1 of 3 drivers killed (PostgreSQL)")
    with server() as database, schema(database.url) as url:
        return [_shared(setup, tally, url)]


def _shared(setup: Setup, tally: Tally, study: str) -> Tally:
    rng = setup.rng()
    subject = Subject(
        setup, tally, study, trials=10 * SHARING * setup.rounds, seconds=0.02, ahead=SHARING,
        given={"drivers": SHARING},
    )  # fmt: skip
    running = [subject.start() for _ in range(SHARING)]
    for _ in range(setup.rounds):
        subject.wait(running[0], rng.randint(1, 15))
        time.sleep(rng.uniform(0.0, subject.seconds))
        victim = running.pop(rng.randrange(SHARING))
        tally.injected += kill(victim)
        killed, since = time.monotonic(), len(subject.begun())
        again = subject.wait(running[0], since=since)
        if again is not None and not gone(running[0]):
            tally.recoveries.append(again - killed)
        subject.look()
        running.append(subject.start())
        setup.tick(1.0)
    subject.finish(*running)
    subject.look()
    # An open trial is begun again, but no oftener than drivers were killed.
    tally.repeated += max(0, len(subject.begun()) - subject.trials - tally.injected)
    subject.compare()
    tally.sees = "nothing: the others take its open trials over"
    return tally
