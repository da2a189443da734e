"""`sn.Workers`: how many processes evaluate trials, and what they may use."""

from __future__ import annotations

import os
import re
from typing import Any

import attrs

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_MEMORY = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?I?B)\s*", re.IGNORECASE)


def _bytes(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    match = _MEMORY.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(
            f"Workers: `memory` ({value!r}) must be a number of bytes or a text such as "
            '"8GB" or "512MiB".'
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _at_least(least: int) -> Any:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if value is None and attribute.default is None:
            return
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"Workers: `{attribute.name}` ({value!r}) must be an integer of at least {least}."
            )

    return check


def _positive(_: Any, attribute: Any, value: Any) -> None:
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise ValueError(f"Workers: `{attribute.name}` ({value!r}) must be more than 0.")


@attrs.frozen(kw_only=True)
class Workers:
    """Processes that evaluate trials.

    One worker without limits is this process itself. With a limit, a trial that breaks it is
    ended together with its process, and recorded as failed; the search goes on.

    Args:
        n: number of processes.
        timeout: seconds that a trial may take.
        memory: what a trial's process and its children may use: bytes, "8GB", "512MiB".
        retries: how often a failed trial is tried again, with the same seed.
        threads: torch threads in each process; by default the cores are shared out.

    Raises:
        ValueError: a value is out of its range.

    >>> import symnas as sn
    >>> sn.Workers(n=4, timeout=600, memory="8GB").memory
    8000000000
    """

    n: int = attrs.field(default=1, validator=_at_least(1))
    timeout: float | None = attrs.field(default=None, validator=_positive)
    memory: int | None = attrs.field(default=None, converter=_bytes, validator=_positive)
    retries: int = attrs.field(default=0, validator=_at_least(0))
    threads: int | None = attrs.field(default=None, validator=_at_least(1))

    @classmethod
    def of(cls, value: int | Workers) -> Workers:
        """`workers=` as people pass it: a number, or settings."""
        if isinstance(value, Workers):
            return value
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"`workers` ({value!r}) must be a number or sn.Workers(...).")
        return cls(n=value)

    @property
    def inline(self) -> bool:
        """Whether trials run in this process."""
        return self.n == 1 and self.timeout is None and self.memory is None and not self.threads

    @property
    def threads_each(self) -> int:
        """Torch threads in each process."""
        import torch

        return self.threads or max(1, min(torch.get_num_threads(), cores() // self.n))


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
