"""Latency: how long a network takes on this machine, measured end to end."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, ClassVar

import attrs
import torch

from symnas.architecture.architecture import Architecture
from symnas.costs.bound import network_key
from symnas.costs.cache import MeasurementCache, cache_folder
from symnas.costs.code import code_digest
from symnas.costs.layers import network, shape_network
from symnas.costs.machine import cpu, cpu_name, gpu
from symnas.costs.model import CostModel
from symnas.costs.quiet import quiet
from symnas.costs.timing import Timing, time_calls
from symnas.errors import MissingExtra
from symnas.searching.checks import at_least, one_of

Call = Callable[[], object]


@attrs.frozen(order=False)
class Latency(CostModel):
    """Milliseconds for one batch, from the input to the output, on this machine.

    The network is built with random weights, in evaluation mode without gradients, and run again
    and again; the number is the median of repeated blocks of calls, see
    `symnas.costs.timing.time_calls`. What else runs on the machine counts: `noise` tells how much
    the blocks wavered.

    Measurements are kept on disk (`symnas.costs.cache.cache_folder`), one file for each machine,
    version and set of options. An architecture is found there by its program and the code of its
    modules, so edited code is measured anew; functions that are reached only through data are not
    seen. Keep the folder with a study: a search is repeated exactly with the same measurements.

    Args:
        runtime: "torch" (eager), or "onnxruntime" (the exported network: exporting takes about a
            second an architecture).
        threads: how many the runtime may use on the processor.
        batch: examples in a batch.
        device: "cpu", or "cuda" (with runtime "torch").
        repeats: the least number of timed blocks.
        warmup: calls beforehand.
        seconds: the most time for one architecture. It ends earlier when the median is known
            to `precision`.
        precision: relative half-width of the median's 95% interval.
        name: another one, where a search has two latencies.
        cache: whether to keep measurements on disk.

    Raises:
        ValueError: an option is out of range, or there is no such device.
        MissingExtra: the runtime is not installed (when measuring).
        CostFailed: an architecture could not be built or run (when measuring).

    >>> import symnas as sn
    >>> print(Latency(batch=8), Latency(batch=8) <= 2.0)
    latency latency <= 2 ms
    >>> net = sn.Architecture(sn.nn.Linear(64, 64), input=(64,))
    >>> Latency(seconds=0.02, cache=False)(net) > 0
    True
    """

    runtime: str = attrs.field(default="torch", validator=one_of(("torch", "onnxruntime")))
    threads: int = attrs.field(default=1, validator=at_least(1))
    batch: int = attrs.field(default=1, validator=at_least(1))
    device: str = attrs.field(default="cpu", kw_only=True)
    repeats: int = attrs.field(default=20, validator=at_least(3), kw_only=True)
    warmup: int = attrs.field(default=5, validator=at_least(1), kw_only=True)
    seconds: float = attrs.field(default=0.5, validator=attrs.validators.gt(0), kw_only=True)
    precision: float = attrs.field(default=0.01, validator=attrs.validators.gt(0), kw_only=True)
    name: str = attrs.field(default="latency", kw_only=True)
    cache: bool = attrs.field(default=True, kw_only=True)

    unit = "ms"
    expense: ClassVar[int] = 9

    def __attrs_post_init__(self) -> None:
        kind = str(self.device).partition(":")[0]
        if kind not in ("cpu", "cuda"):
            raise ValueError(
                f"Latency: the value of `device` ({self.device!r}) must be 'cpu' or 'cuda'."
            )
        if kind == "cuda" and self.runtime != "torch":
            raise ValueError(
                f"Latency: the value of `device` ({self.device!r}) must be 'cpu' with "
                f"runtime={self.runtime!r}. Use runtime='torch' for a GPU."
            )
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"Latency: the value of `device` ({self.device!r}) names a GPU, and torch finds none "
                "on this machine. Use device='cpu'."
            )

    @property
    def device_name(self) -> str:
        """The model name of the processor or GPU."""
        if self._on_gpu:
            return torch.cuda.get_device_name(self.device)
        return cpu_name()

    @property
    def needs_input(self) -> bool:
        return True

    def measure(self, architecture: Architecture) -> float:
        return self.timing(architecture).ms

    def noise(self, architecture: Architecture) -> float:
        """How much the machine wavered: the blocks' interquartile range over their median."""
        self(architecture)  # the checks and messages of a failure
        return self.timing(architecture).noise

    def timing(self, architecture: Architecture) -> Timing:
        """The measurement, from disk if it was made before."""
        if not self.cache:
            return self._time(architecture)
        cache = _opened(self._setting(), str(cache_folder()))
        key = _key(architecture)
        found = cache.get(key) or cache.put(key, attrs.asdict(self._time(architecture)))
        return Timing(float(found["ms"]), float(found["noise"]), int(found["blocks"]))

    @property
    def _on_gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"

    def _setting(self) -> tuple[tuple[str, Any], ...]:
        """What measurements depend on, besides the architecture."""
        where = gpu(self.device) if self._on_gpu else cpu()
        options = {
            field.name: getattr(self, field.name)
            for field in attrs.fields(type(self))
            if field.name not in ("name", "cache")
        }
        runtimes = {"torch": str(torch.__version__)}
        if self.runtime == "onnxruntime":
            _onnxruntime()
            runtimes["onnxruntime"] = version("onnxruntime")
        return tuple(sorted({**where, **options, **runtimes}.items()))

    def _time(self, architecture: Architecture) -> Timing:
        with quiet(), _threads(self.threads), contextlib.ExitStack() as stack:
            if self.runtime == "onnxruntime":
                call = self._in_onnxruntime(architecture)  # exporting wants no inference mode
            else:
                stack.enter_context(torch.inference_mode())
                call = self._in_torch(architecture)
            return time_calls(
                call,
                warmup=self.warmup,
                repeats=self.repeats,
                seconds=self.seconds,
                precision=self.precision,
                synchronize=(lambda: torch.cuda.synchronize(self.device)) if self._on_gpu else None,
            )

    def _in_torch(self, architecture: Architecture) -> Call:
        module = network(architecture).to(self.device)
        x = self._input(architecture).to(self.device)
        return lambda: module(x)

    def _in_onnxruntime(self, architecture: Architecture) -> Call:
        runtime = _onnxruntime()
        network(architecture)  # what cannot be built says so itself, not through the exporter
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model = architecture.to_onnx(None, batch=self.batch, check=False)
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: self._input(architecture).numpy()}
        return lambda: session.run(None, feed)

    def _input(self, architecture: Architecture) -> torch.Tensor:
        assert architecture.input is not None
        return torch.randn(self.batch, *architecture.input)

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in attrs.fields(type(self))
            if getattr(self, field.name) != field.default
        ]
        return f"Latency({', '.join(changed)})"


def _key(architecture: Architecture) -> str:
    """Equal for networks that take the same time: the program, and the code behind it."""
    module = shape_network(architecture)
    kinds = sorted(
        {type(part) for part in module.modules()}, key=lambda k: (k.__module__, k.__qualname__)
    )
    shapes = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    text = f"{network_key(architecture)} {code_digest(*kinds)} {module!r} {shapes}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@functools.lru_cache(maxsize=32)
def _opened(setting: tuple[tuple[str, Any], ...], folder: str) -> MeasurementCache:
    return MeasurementCache("latency", dict(setting))  # by folder, which a test may change


@contextlib.contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            "Latency(runtime='onnxruntime') needs onnxruntime: pip install 'symnas[onnx]'."
        ) from error
    return onnxruntime
