"""The connection to a Ray cluster: found or started, checked for room, and given up again."""

from __future__ import annotations

import importlib
import logging
import math
import os
import socket
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import attrs

from symnas.errors import MissingExtra, SymnasError
from symnas.workers.settings import Workers, cores

if TYPE_CHECKING:
    from symnas.searching.setting import Setting
    from symnas.workers.ray_pool import RayPool

_INSTALL = "pip install 'symnas[ray]'"
_CONNECT_SECONDS = 5.0


class Cluster:
    """A Ray cluster in use, as a context.

    Args:
        settings: where it is (`place`), and what each worker needs.

    Attributes:
        address: of the cluster, for people.
        settings: with the number of workers, where that was left to the cluster.
        started: whether this object has started Ray, and will shut it down.

    Raises:
        MissingExtra: Ray is not installed.
        SymnasError: the cluster is not reached, or none of its nodes has room for a worker.
    """

    def __init__(self, settings: Workers) -> None:
        self.ray = _imported()
        self.started = self._connected = False
        self.address = self._connect(settings)
        try:
            room = self._room(settings)
        except BaseException:
            self.close()
            raise
        self.settings = attrs.evolve(settings, n=settings.n or room)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def n(self) -> int:
        """How many workers."""
        assert self.settings.n is not None
        return self.settings.n

    def workplace(self, setting: Setting) -> RayPool:
        """The workers of one search."""
        from symnas.workers.ray_pool import RayPool

        return RayPool(self, setting.task, setting.metrics, setting.space)

    def close(self) -> None:
        """Disconnects, and ends a Ray that was started here; one that was found goes on."""
        if self._connected:
            self.ray.shutdown()
        self._connected = False

    def _connect(self, settings: Workers) -> str:
        place = settings.place
        assert place is not None
        wanted = {} if settings.runtime_env is None else {"runtime_env": settings.runtime_env}
        if self.ray.is_initialized():
            if place not in ("ray", "auto"):
                raise SymnasError(
                    f"Workers: this process is connected to a Ray cluster already; say "
                    f'workers=sn.Workers("auto") to use that one, or ray.shutdown() before '
                    f"{place!r} is connected to."
                )
            if wanted:
                raise SymnasError(
                    "Workers: this process is connected to a Ray cluster already: give "
                    "`runtime_env` to ray.init() instead."
                )
            return "this process is connected to"
        address = place if place not in ("ray", "auto") else os.environ.get("RAY_ADDRESS")
        try:
            if address is None and place == "ray":
                return self._find_or_start(wanted)
            address = address or "auto"
            if address not in ("auto", "local"):
                _check_listening(address)
            self._init(address=address, **wanted)
        except ValueError as error:
            if "ray[client]" in str(error):  # Ray's own words where its client is missing
                raise MissingExtra(f"Ray's client is not installed: {_INSTALL}.") from error
            raise
        except (OSError, RuntimeError) as error:
            found = "no Ray runs on this machine" if address == "auto" else str(error)
            raise SymnasError(
                f"The Ray cluster at {address!r} cannot be reached: {found}. Is it running, and "
                "is the port that of the client server (ray://HOST:10001) or of the head node "
                '(HOST:6379)? workers="ray" starts a Ray on this machine where none runs.'
            ) from error
        return f"at {address!r}"

    def _find_or_start(self, wanted: Mapping[str, Any]) -> str:
        """The Ray that `ray start` has left running here, or one of our own.

        Not "auto": that also finds the Ray that another program has started for itself, and Ray
        ends all processes that use it when that program ends.
        """
        try:
            self._init(num_cpus=cores(), include_dashboard=False, **wanted)
        except ValueError:  # Ray wants no number of cores where it finds a cluster
            self._init(**wanted)
        else:
            self.started = True
        return "on this machine"

    def _init(self, **options: Any) -> None:
        with warnings.catch_warnings():  # of a change to come, in variables that are set here
            warnings.simplefilter("ignore", FutureWarning)
            self.ray.init(logging_level=logging.WARNING, **options)
        self._connected = True

    def _room(self, settings: Workers) -> int:
        """How many workers the nodes can hold that are there now."""
        needs = needs_of(settings)
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        room = sum(room_in(node, needs) for node in nodes)
        if not room:
            asked = ", ".join(f"{name} {_amount(name, value)}" for name, value in needs.items())
            most = {name: max((n.get(name, 0.0) for n in nodes), default=0.0) for name in needs}
            have = ", ".join(f"{name} {_amount(name, value)}" for name, value in most.items())
            raise SymnasError(
                f"No node of the Ray cluster {self.address} has room for a worker with {asked}: "
                f"the most that any of its {len(nodes)} nodes has is {have}. Ask for less of "
                "`cpus`, `gpus` or `memory`, or start such a node first."
            )
        return room


def needs_of(settings: Workers) -> dict[str, float]:
    """What a worker takes of a node, under Ray's names of resources.

    >>> needs_of(Workers("ray", gpus=0.5, memory="1GB"))
    {'CPU': 1.0, 'GPU': 0.5, 'memory': 1000000000.0}
    """
    needs = {"CPU": settings.cpus_each, "GPU": settings.gpus or 0.0}
    if settings.memory is not None:
        needs["memory"] = float(settings.memory)
    return {name: float(value) for name, value in needs.items() if value}


def room_in(node: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """How many workers fit into a node.

    >>> room_in({"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 0.5})
    4
    >>> room_in({"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0})
    0
    >>> room_in({"CPU": 8.0}, {})  # they reserve nothing: one a core
    8
    """
    if not needs:
        return max(1, math.floor(node.get("CPU", 1.0)))
    rounding = 1e-9  # 0.1 fits ten times into 1
    return min(math.floor(node.get(name, 0.0) / need + rounding) for name, need in needs.items())


def _imported() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise MissingExtra(f"Ray is not installed: {_INSTALL}.") from error
    except Exception as error:  # Ray asks every maker's library for accelerators
        raise MissingExtra(
            f"Ray is installed, but cannot be imported: {type(error).__name__}: {error}. "
            f"Repair it: {_INSTALL}."
        ) from error


def _check_listening(address: str) -> None:
    """Whether anything listens there: Ray itself would try for a minute, and end this process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS):
        pass


def _amount(name: str, value: float) -> str:
    return f"{value / 1e9:.3g} GB" if name == "memory" else f"{value:g}"
