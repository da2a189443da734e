"""Copies of a foreign optimiser, each always the same number of results behind its proposals.

Such an optimiser's state depends on which results it knew at each proposal, while a continued
search knows only what was told. So a proposal with p open trials is by definition that of a copy
that always had p open. A search has the same number open all along, hence one copy, which only
ever goes forward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

# Copies that are kept; a caller who asks for more at once waits for one to be run again.
_MOST = 16


class Replica(Protocol):
    """A copy of an optimiser that makes proposal j knowing the results up to j - lag - 1."""

    lag: int

    def serves(self, lag: int) -> bool:
        """Whether it would be in the same state with another lag."""


_R = TypeVar("_R", bound=Replica)


class Replicas(Generic[_R]):
    """Replicas by lag.

    Args:
        make: gives a new replica of a lag.
    """

    def __init__(self, make: Callable[[int], _R]) -> None:
        self._make = make
        self._by_lag: dict[int, _R] = {}  # the last used at the end

    def of(self, lag: int) -> _R:
        """The replica that is `lag` results behind."""
        found = self._by_lag.pop(lag, None)
        if found is None:
            for other, replica in self._by_lag.items():
                if replica.serves(lag):
                    found = self._by_lag.pop(other)
                    found.lag = lag
                    break
            else:
                found = self._make(lag)
        self._by_lag[lag] = found
        if len(self._by_lag) > _MOST:
            self._by_lag.pop(next(iter(self._by_lag)))
        return found
