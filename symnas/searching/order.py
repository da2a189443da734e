"""The order in which results are told: as if every trial took as long as its budget."""

from __future__ import annotations

import heapq

import attrs


@attrs.define
class Order:
    """Which of the open trials is told next.

    Results must be told in an order that does not depend on which worker happened to be fast, or a
    search that is killed could not go through the same states again. So a clock is imagined on
    which a trial takes its budget (1, where it has none), and results are told in the order in
    which trials end there. Without budgets that is the order of proposal; with them a long trial
    does not hold up the short ones after it.

    >>> order = Order()
    >>> for number, budget in enumerate([12.0, 3.0, 3.0]):
    ...     order.begin(number, budget)
    >>> order.next(), order.next(), order.now
    (1, 2, 3.0)
    >>> order.begin(3, 3.0)  # one of the workers that are free again takes it
    >>> order.next(), order.next(), order.now
    (3, 0, 12.0)

    Attributes:
        now: what the imagined clock shows.
    """

    now: float = 0.0
    _open: list[tuple[float, int]] = attrs.field(factory=list, init=False)  # (end, number), a heap

    def begin(self, number: int, budget: float | None) -> None:
        """A trial begins now."""
        heapq.heappush(self._open, (self.now + (1.0 if budget is None else budget), number))

    def next(self) -> int:
        """The number of the open trial that ends first, which is open no longer."""
        self.now, number = heapq.heappop(self._open)
        return number

    def __len__(self) -> int:
        """How many trials are open."""
        return len(self._open)
