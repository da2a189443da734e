"""A clock that jumps by hours and years, forward and back, in drivers and workers."""

from __future__ import annotations

import runpy
import sys

import symnas as sn
from faulty.subject import Subject
from faulty.tally import Setup, Tally

_DRIVERS = 2
_TIMEOUT = 30.0

# Python imports a module of this name at its start: so the workers' clocks jump as well. It is
# the machine's clock as Python's `time` tells it; nothing in symnas asks for the date otherwise.
_SITE = '''
"""A clock that jumps, at a tenth of the times that it is read."""
import os, random, time

_random, _true, _offset = random.Random(os.getpid()), time.time, 0.0

def _jumping():
    global _offset
    if _random.random() < 0.1:
        _offset = _random.choice((-1, 1)) * _random.choice((1, 3600, 86400, 10 * 365 * 86400))
        with open({log!r}, "a") as file:
            file.write(str(_offset) + "\\n")
    return _true() + _offset

time.time = _jumping
time.time_ns = lambda: int(_jumping() * 1e9)
'''


def clock(setup: Setup) -> list[Tally]:
    """Two drivers share a search, each with a worker that has a timeout; all their clocks jump."""
    tally = Tally("clocks jump by 1 s to 10 years")
    jumps, site = setup.folder / "jumps", setup.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITE.format(log=str(jumps)))

    def prepare() -> None:
        sys.path.insert(0, str(site))
        runpy.run_path(str(site / "sitecustomize.py"))

    subject = Subject(
        setup, tally, str(setup.folder / "s.db"), trials=30 * setup.rounds, seconds=0.02,
        given={"drivers": _DRIVERS, "workers": sn.Workers(n=1, timeout=_TIMEOUT)},
        prepare=prepare,
    )  # fmt: skip
    subject.finish(*[subject.start() for _ in range(_DRIVERS)])
    subject.look()
    begun = [number for number, _ in subject.begun()]
    tally.repeated += len(begun) - len(set(begun))
    subject.compare()
    tally.injected = len(jumps.read_text().splitlines())
    trials = sn.Study.open(subject.study).trials
    tally.differing += sum(not 0.0 <= (t.seconds or 0.0) < _TIMEOUT for t in trials)
    tally.sees = "nothing: no timeout fires, no driver is taken for dead; `started` is as the clock"
    setup.tick(float(setup.rounds))
    return [tally]
