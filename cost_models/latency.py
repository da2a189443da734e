"""Latency, measured end to end on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch

from symnas import Architecture, CostModel, MissingExtra
from symnas.costs.layers import example, run

RUNTIMES = ("torch", "onnxruntime")


@attrs.frozen
class Latency(CostModel):
    """Milliseconds of one forward pass on this machine: the median of many, after a warm-up.

    Measured once for each architecture and configuration, and kept on disk: the file is named by
    `symnas.cost_models.latency.cache_file()`. Weights are random, the mode is eval.

    Args:
        runtime: "torch" (eager) or "onnxruntime" (the exported network; export takes a second or
            so an architecture).
        threads: of the runtime, on the CPU.
        batch: examples a pass.
        device: "cpu" or "cuda".
        seconds: how long to measure one architecture, at most. Measuring ends earlier when the
            median is known to 1%.
        cache: whether to use the disk.

    >>> import symnas as sn
    >>> latency = Latency(seconds=0.02, cache=False)
    >>> latency.measure(sn.Architecture(sn.nn.Linear(64, 64), input=(64,))) > 0
    True
    """

    expense: ClassVar[int] = 2

    runtime: str = attrs.field(default="torch", validator=attrs.validators.in_(RUNTIMES))
    threads: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    batch: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    device: str = attrs.field(default="cpu")
    seconds: float = attrs.field(default=0.2, validator=attrs.validators.gt(0))
    cache: bool = True
    name: str = "latency"
    unit: str = "ms"

    def __attrs_post_init__(self) -> None:
        if self.device != "cpu" and self.runtime == "onnxruntime":
            raise ValueError(f"`device` ({self.device!r}) must be 'cpu' with runtime='onnxruntime'.")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"`device` ({self.device!r}): torch finds no CUDA device here.")

    def measure(self, architecture: Architecture) -> float:
        """Milliseconds of one forward pass."""
        return self.reading(architecture)["median_ms"]

    def noise(self, architecture: Architecture) -> float:
        """The machine's noise in that measurement: interquartile range over median."""
        return self.reading(architecture)["noise"]

    def reading(self, architecture: Architecture) -> dict[str, float]:
        """Median, noise and number of passes of an architecture, measured or from the disk."""
        key = json.dumps([self._configuration(), architecture.key])
        if self.cache and (found := _cached().get(key)) is not None:
            return found
        x = example(architecture, "The cost 'latency'", self.batch, "cpu")
        # A trial's weights must not depend on whether something was measured before it.
        cuda = [self.device] if self.device.startswith("cuda") else []
        with torch.random.fork_rng(cuda), _threads(self.threads), torch.inference_mode():
            once = getattr(self, f"_{self.runtime}")(architecture, x)
            reading = _time(once, self.seconds)
        if self.cache:
            _remember(key, reading)
        return reading

    def describe(self) -> dict[str, Any]:
        """What a study records of it, the machine included."""
        return {**super().describe(), "configuration": self._configuration()}

    def _torch(self, architecture: Architecture, x: torch.Tensor) -> Callable[[], Any]:
        module = architecture.build().eval().to(self.device)
        x = x.to(self.device)
        run(module, x, architecture)

        def once() -> None:
            module(x)
            if self.device != "cpu":
                torch.cuda.synchronize(self.device)

        return once

    def _onnxruntime(self, architecture: Architecture, x: torch.Tensor) -> Callable[[], Any]:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra(
                "Latency(runtime='onnxruntime') needs onnxruntime: pip install 'symnas[onnx]'."
            ) from error
        with torch.inference_mode(False):
            model = architecture.to_onnx(None, batch=self.batch, check=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: x.numpy()}
        return lambda: session.run(None, feed)

    def _configuration(self) -> list[Any]:
        return [machine(), _version(self.runtime), self.runtime, self.threads, self.batch, self.device]


def _time(once: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Median milliseconds of `once`, its relative interquartile range, and the number of passes."""
    clock = time.perf_counter
    end = clock() + seconds
    for _ in range(3):
        once()
    times: list[float] = []
    while len(times) < 5 or clock() < end:
        start = clock()
        once()
        times.append(1000 * (clock() - start))
        if len(times) % 20 == 0 and _known(times):
            break
    low, median, high = statistics.quantiles(times, n=4)
    return {"median_ms": median, "noise": (high - low) / median, "passes": len(times)}


def _known(times: list[float]) -> bool:
    # The standard error of a median is about 1.25 sigma / sqrt(n), sigma about 0.74 of the IQR.
    low, median, high = statistics.quantiles(times, n=4)
    error = 1.25 * 0.74 * (high - low) / len(times) ** 0.5
    return len(times) >= 40 and error < 0.01 * median


@contextlib.contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache
def machine() -> str:
    """The processor and its number of cores."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {os.cpu_count()} cores"


def _version(runtime: str) -> str:
    if runtime == "torch":
        return str(torch.__version__)
    from importlib.metadata import version

    return version("onnxruntime")


def cache_file() -> Path:
    """Where readings are kept: in the user's cache folder, or in `$SYMNAS_CACHE`."""
    import platformdirs

    folder = os.environ.get("SYMNAS_CACHE") or platformdirs.user_cache_dir("symnas")
    return Path(folder) / "latency.jsonl"


_readings: dict[Path, dict[str, dict[str, float]]] = {}


def _cached() -> dict[str, dict[str, float]]:
    path = cache_file()
    if path not in _readings:
        _readings[path] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_text().splitlines():
                # A process that was killed while it wrote leaves half a line.
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    record = json.loads(line)
                    _readings[path][record["key"]] = {
                        k: float(record[k]) for k in ("median_ms", "noise", "passes")
                    }
    return _readings[path]


def _remember(key: str, reading: dict[str, float]) -> None:
    path = cache_file()
    _cached()[key] = reading
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"key": key, **reading}) + "\n"
    # One short write in append mode: several processes do not mix their lines.
    with path.open("a") as file:
        file.write(line if _ends_line(path) else "\n" + line)


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        if file.tell() == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
