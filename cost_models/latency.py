"""Latency: how long a network takes on this machine, added up from its operations or measured."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from symnas.architecture.architecture import Architecture
from symnas.costs.accuracy import Accuracy
from symnas.costs.bound import BoundCost
from symnas.costs.bound_measured import MeasuredCost
from symnas.costs.bound_table import TableCost
from symnas.costs.cache import MeasurementCache, cache_folder
from symnas.costs.machine import cpu, cpu_name, gpu
from symnas.costs.model import CostFailed, CostModel
from symnas.costs.pieces import Piece
from symnas.costs.profiling.bar import say
from symnas.costs.profiling.calibration import Fit, Sums, fitted, left_out, random_networks
from symnas.costs.profiling.fusion import Fusion
from symnas.costs.profiling.kept import Item, Kept, Memory, kept_times
from symnas.costs.profiling.loop import Effort, Probe
from symnas.costs.profiling.networks import network_call, timed_key, torch_threads
from symnas.costs.profiling.prices import Profiler
from symnas.costs.quiet import quiet
from symnas.costs.record import pieces_of
from symnas.costs.scopes import TooCoupled
from symnas.costs.tabulate import pieces_of_space
from symnas.costs.timing import Timing, time_calls
from symnas.errors import MissingExtra, SymnasError
from symnas.searching.checks import at_least, one_of

if TYPE_CHECKING:
    from symnas.searchspace.space import Space


@attrs.frozen(order=False)
class Latency(CostModel):
    """Milliseconds for one batch, from the input to the output, on this machine.

    Called with an architecture it measures the whole network: built with random weights, in
    evaluation mode without gradients, run again and again; the number is the median of repeated
    blocks of calls, see `symnas.costs.timing.time_calls`. What else runs on the machine counts:
    `noise` tells how much the blocks wavered.

    Bound to a space it is a table, added up from the times of the operations in the space's
    networks. Each distinct operation is timed once; what onnxruntime fuses with the operation
    before it (batch norms, activations) takes no time of its own there. A factor for each kind of
    operation and a constant are fitted to random networks timed as a whole, and `error` is that on
    networks that were left out of the fit. (Tables of operations' times are those of H. Cai et al.,
    "ProxylessNAS", ICLR 2019, arXiv:1812.00332, Section 3.2, and B. Wu et al., "FBNet", CVPR 2019,
    arXiv:1812.03443, Section 3.2.) With `by="network"`, or where the tables would couple too many
    decisions, each architecture is measured as a whole.

    Measurements are kept on disk (`symnas.costs.cache.cache_folder`), one file for each machine,
    version and set of options. An architecture is found there by its program and the code of its
    modules, so edited code is measured anew; functions that are reached only through data are not
    seen. Keep the folder with a study: a search is repeated exactly with the same measurements.

    Args:
        runtime: "torch" (eager), or "onnxruntime" (the exported network: exporting takes about a
            second an architecture).
        threads: how many the runtime may use on the processor.
        batch: examples in a batch.
        by: "operations" or "network": what is measured when bound to a space.
        device: "cpu", or "cuda" (with runtime "torch").
        networks: how many random networks are timed to fit the operations' sum to.
        repeats: the least number of timed blocks of a network.
        warmup: calls beforehand.
        seconds: the most time for one network. It ends earlier when the median is known
            to `precision`.
        precision: relative half-width of the median's 95% interval.
        name: another one, where a search has two latencies.
        cache: whether to keep measurements on disk.

    Raises:
        ValueError: an option is out of range, or there is no such device.
        MissingExtra: the runtime is not installed (when measuring).
        CostFailed: an architecture, or an operation alone, could not be run (when measuring).

    >>> import symnas as sn
    >>> print(Latency(batch=8), Latency(batch=8) <= 2.0)
    latency latency <= 2 ms
    >>> net = sn.Architecture(sn.nn.Linear(64, 64), input=(64,))
    >>> Latency(seconds=0.02, cache=False)(net) > 0
    True
    >>> space = sn.Space(sn.nn.Linear(64, sn.oneof([64, 2048])), input=(64,))
    >>> small, large = Latency(seconds=0.02, cache=False).bind(space)([[0], [1]])
    >>> bool(small < large)
    True
    """

    runtime: str = attrs.field(default="torch", validator=one_of(("torch", "onnxruntime")))
    threads: int = attrs.field(default=1, validator=at_least(1))
    batch: int = attrs.field(default=1, validator=at_least(1))
    by: str = attrs.field(
        default="operations", validator=one_of(("operations", "network")), kw_only=True
    )
    device: str = attrs.field(default="cpu", kw_only=True)
    networks: int = attrs.field(default=20, validator=at_least(1), kw_only=True)
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

    @property
    def tabular(self) -> bool:
        return self.by == "operations"

    def measure(self, architecture: Architecture) -> float:
        return self.timing(architecture).ms

    def _bound(self, space: Space) -> BoundCost:
        if not self.tabular:
            return MeasuredCost(self, space)
        try:
            found = pieces_of_space(space)
        except TooCoupled as problem:
            return MeasuredCost(self, space, note=str(problem))
        fusion = Fusion.of_space(found) if self.runtime == "onnxruntime" else None
        kept = self._kept("operations")
        fit, error = self._fit(space, fusion, kept)

        def price(pieces: Sequence[Piece]) -> list[float]:
            times = self._prices(pieces, fusion, kept)
            return [fit.factor(piece) * ms for piece, ms in zip(pieces, times, strict=True)]

        table, _ = found.tables(price)
        if error.n:
            where = f"{self.name} ({self.runtime}, batch {self.batch}), added up from operations"
            say(f"{where}: {error}.")
        return TableCost(self, space, table + fit.constant, error)

    def price(self, pieces: Sequence[Piece]) -> list[float]:
        """The milliseconds of each piece alone, as `(n,)` numbers, without any calibration.

        In onnxruntime, batch norms and activations are taken to stand after a convolution or a
        matrix product, and cost nothing; bound to a space, it is seen where they stand.
        """
        fusion = Fusion() if self.runtime == "onnxruntime" else None
        return self._prices(pieces, fusion, self._kept("operations"))

    def _fit(self, space: Space, fusion: Fusion | None, kept: Kept) -> tuple[Fit, Accuracy]:
        """How operations add up in random networks, and the error when each is left out."""
        architectures = random_networks(space, self.networks)
        runs = [[piece for _, piece in pieces_of(a)] for a in architectures]
        pieces = list({piece.key: piece for run in runs for piece in run}.values())
        times = self._prices(pieces, fusion, kept)
        by_key = {piece.key: ms for piece, ms in zip(pieces, times, strict=True)}
        sums = Sums.of(runs, by_key)
        if not sums.values.any():  # nothing is computed: there is nothing to be scaled
            return Fit({}, 1.0, 0.0), Accuracy([], [])
        measured = self.networks_ms(architectures)
        return fitted(sums, measured), left_out(sums, measured)

    def noise(self, architecture: Architecture) -> float:
        """How much the machine wavered: the blocks' interquartile range over their median."""
        self(architecture)  # the checks and messages of a failure
        return self.timing(architecture).noise

    def timing(self, architecture: Architecture) -> Timing:
        """The measurement, from disk if it was made before."""
        if not self.cache:
            return self._time(architecture)
        cache = _opened("latency", self._setting(), str(cache_folder()))
        key = timed_key(architecture)
        found = cache.get(key) or cache.put(key, attrs.asdict(self._time(architecture)))
        return Timing(float(found["ms"]), float(found["noise"]), int(found["blocks"]))

    def _prices(self, pieces: Sequence[Piece], fusion: Fusion | None, kept: Kept) -> list[float]:
        if self.runtime == "onnxruntime":
            _onnxruntime()
        try:
            with quiet(), torch_threads(self.threads):
                times = self._profiler.times(pieces, kept)
        except RuntimeError as problem:
            raise CostFailed(f"{self.name}: {problem}.") from problem
        if fusion is None:
            return times
        return [ms * (1 - fusion.share(p)) for ms, p in zip(times, pieces, strict=True)]

    def networks_ms(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """The milliseconds of whole networks, `(n,)`, timed side by side.

        Their blocks take turns, and the lower quartile counts: what else runs on the machine for a
        while meets all of them alike, and so they compare better than by `measure`.

        Raises:
            CostFailed: an architecture could not be built or run.
        """
        by_key = {timed_key(architecture): architecture for architecture in architectures}
        items = {key: Item(partial(self._probe, a)) for key, a in by_key.items()}
        with quiet(), torch_threads(self.threads):
            found = kept_times(
                items,
                self._kept("networks"),
                f"timing networks in {self.runtime}",
                Effort(self.seconds / 25, rounds=12, longest=2 * self.seconds),
                self._profiler.synchronize,
            )
        return np.array([found[timed_key(a)] for a in architectures], np.float64)

    def _probe(self, architecture: Architecture) -> Probe:
        try:
            return Probe(network_call(architecture, self._profiler))
        except SymnasError:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise CostFailed(self._failure(architecture, problem)) from error

    @property
    def _profiler(self) -> Profiler:
        return Profiler(self.runtime, self.threads, self.batch, self.device)

    def _kept(self, name: str) -> Kept:
        """Where what is timed side by side is kept."""
        if not self.cache:
            return Memory()
        setting = {**self._machine(), **attrs.asdict(self._profiler)}
        if name == "networks":
            setting["seconds"] = self.seconds
        return _opened(name, tuple(sorted(setting.items())), str(cache_folder()))

    @property
    def _on_gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"

    def _setting(self) -> tuple[tuple[str, Any], ...]:
        """What measurements of networks depend on, besides the architecture."""
        options = {
            field.name: getattr(self, field.name)
            for field in attrs.fields(type(self))
            if field.name not in ("name", "cache", "by", "networks")
        }
        return tuple(sorted({**self._machine(), **options}.items()))

    def _machine(self) -> dict[str, Any]:
        """The machine and the versions, as data for JSON."""
        where = gpu(self.device) if self._on_gpu else cpu()
        runtimes = {"torch": str(torch.__version__)}
        if self.runtime == "onnxruntime":
            _onnxruntime()
            runtimes["onnxruntime"] = version("onnxruntime")
        return {**where, **runtimes}

    def _time(self, architecture: Architecture) -> Timing:
        with quiet(), torch_threads(self.threads):
            call = network_call(architecture, self._profiler)
            with torch.inference_mode():
                return time_calls(
                    call,
                    warmup=self.warmup,
                    repeats=self.repeats,
                    seconds=self.seconds,
                    precision=self.precision,
                    synchronize=self._profiler.synchronize,
                )

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in attrs.fields(type(self))
            if getattr(self, field.name) != field.default
        ]
        return f"Latency({', '.join(changed)})"


@functools.lru_cache(maxsize=32)
def _opened(name: str, setting: tuple[tuple[str, Any], ...], folder: str) -> MeasurementCache:
    return MeasurementCache(name, dict(setting))  # by folder, which a test may change


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            "Latency(runtime='onnxruntime') needs onnxruntime: pip install 'symnas[onnx]'."
        ) from error
    return onnxruntime
