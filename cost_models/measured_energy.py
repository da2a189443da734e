"""Measured energy: the joules that a batch takes on this machine, by its own counters."""

from __future__ import annotations

import functools
import hashlib
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, ClassVar, Protocol

import attrs
import torch

from symnas.architecture.architecture import Architecture
from symnas.costs.bound import BoundCost, network_key
from symnas.costs.cache import MeasurementCache
from symnas.costs.code import code_digest
from symnas.costs.layers import network, shape_network
from symnas.costs.machine import cpu, cpu_name, gpu
from symnas.costs.model import CostFailed, CostModel
from symnas.costs.quiet import quiet
from symnas.errors import MissingExtra
from symnas.searching.checks import at_least
from symnas.searchspace.space import Space


class Monitor(Protocol):
    """What counts energy between two moments; `zeus.monitor.ZeusMonitor` is one."""

    def begin_window(self, key: str) -> None:
        """Begins to count."""

    def end_window(self, key: str) -> Any:
        """Joules by device since then: `gpu_energy`, `cpu_energy`, `dram_energy`, or None each."""


@attrs.frozen
class Joules:
    """A measured energy.

    Attributes:
        joules: of one call, the median of several windows.
        noise: the windows' range over their median.
        calls: how many were counted in all.
    """

    joules: float
    noise: float
    calls: int


@attrs.frozen(order=False)
class MeasuredEnergy(CostModel):
    """Joules for one batch on this machine, by its energy counters, through Zeus.

    The network is built with random weights, in evaluation mode without gradients, and run again
    and again while the counters run: RAPL for the processor's packages and memory, NVML for a GPU
    (J. You et al., "Zeus", NSDI 2023). What the device takes for other work meanwhile, and for
    being on, counts: measure on an idle machine.

    RAPL can be read by root, or through Zeus's daemon. Zeus starts a process that watches the
    counters, which imports the main module again: protect a script's own work by
    `if __name__ == "__main__"`.

    Measurements are kept on disk, as those of `Latency`.

    Args:
        device: "cpu", or "cuda" (only the GPU is counted).
        batch: examples in a batch.
        threads: how many torch may use on the processor.
        seconds: of one window, far more than the counters' period of 1 to 100 ms.
        windows: how many; the median counts.
        warmup: calls beforehand.
        name: another one, where a search has two energies.
        cache: whether to keep measurements on disk.

    Raises:
        ValueError: an option is out of range.
        MissingExtra: Zeus is not installed (when measuring or binding).
        CostFailed: this machine has no such counter (then too), or an architecture could not be
            built or run.

    >>> print(MeasuredEnergy(batch=8) <= 0.5)
    measured_energy <= 0.5 J
    """

    device: str = attrs.field(default="cpu", converter=str)
    batch: int = attrs.field(default=1, validator=at_least(1))
    threads: int = attrs.field(default=1, validator=at_least(1), kw_only=True)
    seconds: float = attrs.field(default=1.0, validator=attrs.validators.gt(0), kw_only=True)
    windows: int = attrs.field(default=3, validator=at_least(1), kw_only=True)
    warmup: int = attrs.field(default=5, validator=at_least(1), kw_only=True)
    name: str = attrs.field(default="measured_energy", kw_only=True)
    cache: bool = attrs.field(default=True, kw_only=True)

    unit = "J"
    expense: ClassVar[int] = 9

    def __attrs_post_init__(self) -> None:
        if self.device.partition(":")[0] not in ("cpu", "cuda"):
            raise ValueError(
                f"MeasuredEnergy: the value of `device` ({self.device!r}) must be 'cpu' or 'cuda'."
            )

    @property
    def device_name(self) -> str:
        """The model name of the processor or GPU."""
        if self._on_gpu and torch.cuda.is_available():
            return torch.cuda.get_device_name(self.device)
        return self.device if self._on_gpu else cpu_name()

    @property
    def needs_input(self) -> bool:
        return True

    def bind(self, space: Space) -> BoundCost:
        monitor_of(self.device)  # a missing counter is told before a search begins
        return super().bind(space)

    def measure(self, architecture: Architecture) -> float:
        return self.joules(architecture).joules

    def joules(self, architecture: Architecture) -> Joules:
        """The measurement, from disk if it was made before."""
        if not self.cache:
            return self._count(architecture)
        cache = MeasurementCache("energy", self._depends_on())
        key = _key(architecture)
        found = cache.get(key) or cache.put(key, attrs.asdict(self._count(architecture)))
        return Joules(float(found["joules"]), float(found["noise"]), int(found["calls"]))

    @property
    def _on_gpu(self) -> bool:
        return self.device != "cpu"

    def _depends_on(self) -> dict[str, Any]:
        monitor_of(self.device)
        fields = ("device", "batch", "threads", "seconds", "windows", "warmup")
        where = gpu(self.device) if self._on_gpu else cpu()
        versions = {"torch": str(torch.__version__), "zeus": version("zeus")}
        return {**where, **versions, **{name: getattr(self, name) for name in fields}}

    def _count(self, architecture: Architecture) -> Joules:
        monitor = monitor_of(self.device)
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with quiet(), torch.inference_mode():
                module = network(architecture).to(self.device)
                assert architecture.input is not None
                x = torch.randn(self.batch, *architecture.input).to(self.device)
                return count_joules(
                    lambda: module(x),
                    monitor,
                    seconds=self.seconds,
                    windows=self.windows,
                    warmup=self.warmup,
                )
        finally:
            torch.set_num_threads(threads)


def count_joules(
    call: Callable[[], object],
    monitor: Monitor,
    *,
    seconds: float = 1.0,
    windows: int = 3,
    warmup: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Joules:
    """The energy of one call: that of a window full of calls, divided by their number.

    The monitor waits for a GPU to finish at both ends of a window. A window that counts nothing is
    shorter than the counter's period, and is made anew, up to eight times as long.

    Args:
        call: what is measured.
        monitor: what counts.
        seconds: the least length of a window.
        windows: how many.
        warmup: calls beforehand.
        clock: seconds; tests pass their own.

    Raises:
        CostFailed: the counters stood still.
    """
    for _ in range(warmup):
        call()
    each: list[float] = []
    total = 0
    longest = 8 * seconds
    while len(each) < windows:
        calls = 0
        monitor.begin_window("symnas")
        try:
            end = clock() + seconds
            while calls == 0 or clock() < end:
                call()
                calls += 1
        finally:  # a window that stays open could not be begun again
            measurement = monitor.end_window("symnas")
        counted = _sum(measurement)
        if counted > 0:
            each.append(counted / calls)
            total += calls
        elif seconds < longest:
            seconds *= 2
        else:
            raise CostFailed(
                f"The energy counters did not move in a window of {seconds:g} s: the machine shows "
                "counters that it does not keep, as virtual machines do. Measure on the bare "
                "machine, or use cm.Energy or cm.EnergyTable."
            )
    median = statistics.median(each)
    return Joules(median, (max(each) - min(each)) / median, total)


@functools.cache
def monitor_of(device: str) -> Monitor:
    """A monitor of the device's energy.

    Args:
        device: "cpu", "cuda" or "cuda:1".

    Raises:
        MissingExtra: Zeus is not installed.
        CostFailed: this machine has no counter for it, or it may not be read.
    """
    try:
        from zeus.device import get_cpus, get_gpus
        from zeus.device.cpu.common import ZeusCPUNoPermissionError
        from zeus.exception import ZeusBaseError
        from zeus.monitor.energy import ZeusMonitor
    except ImportError as error:
        raise MissingExtra("MeasuredEnergy needs Zeus: pip install 'symnas[energy]'.") from error
    if device == "cpu":
        try:
            count = len(get_cpus())
        except (ZeusCPUNoPermissionError, PermissionError) as error:
            raise CostFailed(
                "MeasuredEnergy may not read the processor's energy counters (RAPL, "
                "/sys/class/powercap/intel-rapl): run as root, or through Zeus's daemon, zeusd."
            ) from error
        except (ZeusBaseError, OSError) as error:
            raise CostFailed(_no_counter("RAPL, /sys/class/powercap/intel-rapl", device)) from error
        if not count:
            raise CostFailed(_no_counter("RAPL, /sys/class/powercap/intel-rapl", device))
        monitor: Monitor = ZeusMonitor(gpu_indices=[])
        return monitor
    index = torch.device(device).index or 0
    try:
        found = len(get_gpus())
    except (ZeusBaseError, OSError) as error:
        raise CostFailed(_no_counter("NVML, the library of NVIDIA's driver", device)) from error
    if index >= found or not torch.cuda.is_available():
        raise CostFailed(_no_counter(f"NVML shows {found} GPUs, torch", device))
    monitor = ZeusMonitor(gpu_indices=[index], cpu_indices=[])
    return monitor


def _no_counter(what: str, device: str) -> str:
    return (
        f"MeasuredEnergy finds no energy counter for device={device!r} on this machine ({what}: not "
        "there; virtual machines and containers hide it). Measure on a machine that has one, or "
        "use cm.Energy or cm.EnergyTable, which need none."
    )


def _sum(measurement: Any) -> float:
    parts = (measurement.gpu_energy, measurement.cpu_energy, measurement.dram_energy)
    return float(sum(sum(part.values()) for part in parts if part))


def _key(architecture: Architecture) -> str:
    """Equal for networks that take the same energy: the program, and the code behind it."""
    module = shape_network(architecture)
    kinds = sorted(
        {type(part) for part in module.modules()}, key=lambda k: (k.__module__, k.__qualname__)
    )
    shapes = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    text = f"{network_key(architecture)} {code_digest(*kinds)} {module!r} {shapes}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
