"""`Driver`: this process, as one of several that share a search."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import attrs

from symnas.studies.lock import Locks
from symnas.studies.store import SearchRow, Store


@attrs.frozen
class Driver:
    """One of the processes that share a search.

    Attributes:
        id: its number, which no other driver of the study ever has.
        store: the study.
        search: what is shared.
        locks: how drivers keep order among themselves.
    """

    id: int
    store: Store
    search: SearchRow
    locks: Locks

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Waits until no other driver of the search has its turn, and keeps them waiting."""
        with turn(self.locks, self.search.name):
            yield

    def alive(self, other: int | None) -> bool:
        """Whether the process of another driver is still there; that of none is not."""
        if other is None:
            return False
        if other == self.id:
            return True
        lock = _life(self.search, other)
        if not self.locks.hold(lock):
            return True
        self.locks.release(lock)
        return False

    def leave(self, reason: str) -> None:
        """Records that this driver has stopped, and if it was the last one why the search has."""
        with self.turn():
            self.store.end_driver(self.id)
            if not any(self.alive(other) for other in self.store.drivers(self.search.id)):
                self.store.end_search(self.search.id, reason)


@contextlib.contextmanager
def turn(locks: Locks | None, name: str) -> Iterator[None]:
    """What `Driver.turn` does, for who is not a driver yet; nothing, if there are no others."""
    if locks is None:
        yield
        return
    lock = f"{name}\0turn"
    locks.hold(lock, wait=True)
    try:
        yield
    finally:
        locks.release(lock)


@contextlib.contextmanager
def driving(store: Store, search: SearchRow, locks: Locks | None) -> Iterator[Driver | None]:
    """Takes part in a search until the end of the block; None for who searches alone."""
    if locks is None:
        yield None
        return
    number = store.begin_driver(search.id)
    # Before it claims anything. Numbers are not used again: a dead driver never comes back.
    locks.hold(_life(search, number), wait=True)
    yield Driver(number, store, search, locks)
    locks.release(_life(search, number))


def _life(search: SearchRow, driver: int) -> str:
    return f"{search.name}\0driver {driver}"
