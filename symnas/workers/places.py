"""From `workers=` to the place where trials are evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import attrs

from symnas.searching.crew import Workplace
from symnas.searching.evaluation import Evaluator
from symnas.workers.inline import Inline
from symnas.workers.pool import Pool
from symnas.workers.settings import Workers

if TYPE_CHECKING:
    from symnas.searching.setting import Setting


class Closable(Workplace, Protocol):
    """A workplace of one search."""

    def close(self, *, kill: bool = False) -> None:
        """Ends the workers; with `kill` without waiting for what they do."""


class Place(Protocol):
    """Where workers can be had.

    Attributes:
        n: how many there are.
    """

    @property
    def n(self) -> int:
        """How many workers there are."""

    def workplace(self, setting: Setting) -> Closable:
        """The workers of one search."""


@attrs.frozen
class Here:
    """This process or processes of this machine."""

    settings: Workers

    @property
    def n(self) -> int:
        """How many processes."""
        return self.settings.n or 1

    def workplace(self, setting: Setting) -> Closable:
        """The workers of one search."""
        if self.settings.inline:
            return Inline(Evaluator(setting.task, setting.metrics), self.settings.retries)
        return Pool(self.settings, setting.task, setting.metrics, setting.space)


@contextmanager
def opened(settings: Workers) -> Iterator[Place]:
    """The place that the settings name, connected to and checked before the first trial."""
    if settings.place is None:
        yield Here(settings)
        return
    from symnas.workers.ray_cluster import Cluster

    with Cluster(settings) as cluster:
        yield cluster
