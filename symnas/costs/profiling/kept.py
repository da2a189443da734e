"""Times that are made side by side and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch

from symnas.costs.cache import MeasurementCache
from symnas.costs.profiling.bar import Bar
from symnas.costs.profiling.loop import Effort, Probe, groups, timed

# What is held in memory at once (bytes), and how many things at most.
MEMORY = 256 * 2**20
AT_ONCE = 64


@attrs.frozen(eq=False)
class Item:
    """Something to be timed.

    Attributes:
        make: what is timed, ready to be run; called outside of torch's inference mode.
        size: about how many bytes it holds.
        kind: for people who read the file of times.
    """

    make: Callable[[], Probe]
    size: int = 0
    kind: str = ""


class Memory:
    """A cache of times that ends with the process."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, Any]] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of `key`, or None."""
        return self._records.get(key)

    def put(self, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Adds a record; returns the one that counts, the first."""
        return self._records.setdefault(key, dict(record))


Kept = MeasurementCache | Memory


def kept_times(
    items: Mapping[str, Item],
    cache: Kept,
    what: str,
    effort: Effort | None = None,
    synchronize: Callable[[], object] | None = None,
) -> dict[str, float]:
    """The milliseconds of each item: from the cache, or timed now, with a progress bar.

    Args:
        items: by a key that is the same in every process.
        cache: where times are looked up and kept.
        what: they are, in the plural.
        effort: how long they are timed.
        synchronize: waits for a GPU.
    """
    found: dict[str, float] = {}
    for key in items:
        record = cache.get(key)
        if record is not None:
            found[key] = float(record["ms"])
    # In the order of the keys: neighbours in a network are then not neighbours in time.
    missing = sorted(key for key in items if key not in found)
    sizes = [(key, max(items[key].size, MEMORY // AT_ONCE)) for key in missing]
    with Bar(what, len(missing)) as bar:
        for group in groups(sizes, MEMORY):
            probes = {key: items[key].make() for key in group}
            with torch.inference_mode():
                times = timed(probes, effort, synchronize=synchronize)
            for key, ms in times.items():
                found[key] = float(cache.put(key, {"ms": ms, "kind": items[key].kind})["ms"])
            bar.advance(len(group))
    return found
