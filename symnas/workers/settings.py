"""`sn.Workers`: where and how many processes evaluate trials, and what they may use."""

from __future__ import annotations

import math
import os
import re
from typing import Any

import attrs

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_MEMORY = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?I?B)\s*", re.IGNORECASE)
_NAMED = ("ray", "auto")
_ADDRESS = re.compile(r"(ray://)?[^\s/:]+(:[^\s/:]+)*:[0-9]+|(ray://)?\[[0-9a-fA-F:]+\]:[0-9]+")


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
    def check(settings: Any, attribute: Any, value: Any) -> None:
        optional = attribute.default is None or getattr(settings, "place", None) is not None
        if value is None and optional:
            return
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"Workers: `{attribute.name}` ({value!r}) must be an integer of at least {least}."
            )

    return check


def _positive(_: Any, attribute: Any, value: Any) -> None:
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise ValueError(f"Workers: `{attribute.name}` ({value!r}) must be more than 0.")


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and (value in _NAMED or bool(_ADDRESS.fullmatch(value)))


def _place(_: Any, attribute: Any, value: Any) -> None:
    if value is not None and not _is_place(value):
        raise ValueError(
            f'Workers: `place` ({value!r}) must be "ray", "auto", an address such as '
            '"ray://HOST:10001" or "HOST:6379", or None for processes of this machine. The number '
            "of workers goes by name: sn.Workers(n=4)."
        )


def _share(_: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise ValueError(f"Workers: `{attribute.name}` ({value!r}) must be a number of at least 0.")
    if value > 1 and value != int(value):
        raise ValueError(
            f"Workers: `{attribute.name}` ({value!r}) must be a whole number, or a share below 1."
        )


@attrs.frozen
class Workers:
    """Processes that evaluate trials, on this machine or on the machines of a Ray cluster.

    One worker without limits is this process itself. With a limit, a trial that breaks it is
    ended together with its process, and recorded as failed; the search goes on.

    On a cluster, a trial whose worker or node is lost begins again, three times at most, whatever
    `retries` says. Its nodes need symnas and the modules of the task and the space; what lies in
    `__main__` is sent. A worker has the environment variables of its node, looks for modules where
    its node does and then where the search does (as far as those folders exist there), and works
    in the search's working directory, if that exists there. `runtime_env` changes all of this, see
    Ray's documentation of it. What trials keep (`trial.path`, `trial.save`) lies under the study's
    folder: the nodes must share that file system.

    Args:
        place: None for processes of this machine. "ray": the Ray that this process is connected to,
            the one that `RAY_ADDRESS` names or that `ray start` has left running on this machine,
            or else one that is started for the search and shut down after it. "auto": what Ray
            finds under that address; none is started. "ray://HOST:10001" or "HOST:6379": the
            cluster at that address. Needs `symnas[ray]`.
        n: number of processes; by default 1, and in a cluster as many as it has room for.
        timeout: seconds that a trial may take.
        memory: what a trial's process and its children may use: bytes, "8GB", "512MiB". In a
            cluster, that much is also reserved.
        retries: how often a failed trial is tried again, with the same seed.
        threads: torch threads in each process; by default the cores are shared out, and in a
            cluster `cpus` rounded down.
        cpus: cores that a worker of a cluster reserves, 1 by default; may be a share such as 0.5.
        gpus: GPUs that a worker of a cluster reserves, 0 by default; may be a share.
        runtime_env: Ray's description of what workers find on their nodes, such as
            `{"working_dir": ".", "pip": [...], "env_vars": {...}}`.

    Raises:
        ValueError: a value is out of its range.

    >>> import symnas as sn
    >>> sn.Workers(n=4, timeout=600, memory="8GB").memory
    8000000000
    >>> sn.Workers("ray://head:10001", n=8, gpus=1).gpus
    1
    """

    place: str | None = attrs.field(default=None, validator=_place)
    n: int | None = attrs.field(
        default=attrs.Factory(lambda self: 1 if self.place is None else None, takes_self=True),
        validator=_at_least(1),
        kw_only=True,
    )
    timeout: float | None = attrs.field(default=None, validator=_positive, kw_only=True)
    memory: int | None = attrs.field(
        default=None, converter=_bytes, validator=_positive, kw_only=True
    )
    retries: int = attrs.field(default=0, validator=_at_least(0), kw_only=True)
    threads: int | None = attrs.field(default=None, validator=_at_least(1), kw_only=True)
    cpus: float | None = attrs.field(default=None, validator=_share, kw_only=True)
    gpus: float | None = attrs.field(default=None, validator=_share, kw_only=True)
    runtime_env: dict[str, Any] | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.place is None:
            for name in ("cpus", "gpus", "runtime_env"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"Workers: `{name}` ({getattr(self, name)!r}) is for the workers of a Ray "
                        f'cluster: sn.Workers("ray", {name}=...). Processes of this machine take '
                        "`threads` and `memory`."
                    )

    @classmethod
    def of(cls, value: int | str | Workers) -> Workers:
        """`workers=` as people pass it: a number, a place, or settings."""
        if isinstance(value, Workers):
            return value
        if isinstance(value, str) and _is_place(value):
            return cls(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(
                f'`workers` ({value!r}) must be a number, "ray" or the address of a Ray cluster, '
                "or sn.Workers(...)."
            )
        return cls(n=value)

    @property
    def inline(self) -> bool:
        """Whether trials run in this process."""
        limited = self.timeout is not None or self.memory is not None or bool(self.threads)
        return self.place is None and self.n == 1 and not limited

    @property
    def cpus_each(self) -> float:
        """Cores that a worker of a cluster reserves."""
        return 1.0 if self.cpus is None else self.cpus

    @property
    def threads_each(self) -> int:
        """Torch threads in each process."""
        import torch

        if self.place is not None:
            return self.threads or max(1, int(self.cpus_each))
        return self.threads or max(1, min(torch.get_num_threads(), cores() // (self.n or 1)))


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
