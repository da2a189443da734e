"""Mapping many layers on an accelerator: each distinct one once, in parallel, kept on disk."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

import attrs

from symnas.costs.accelerators.hardware import Hardware, zigzag_version
from symnas.costs.accelerators.nests import Nest
from symnas.costs.accelerators.worker import OBJECTIVES
from symnas.costs.cache import MeasurementCache
from symnas.errors import SymnasError

__all__ = ["OBJECTIVES", "Mapper", "MappingFailed"]

Record = dict[str, Any]


class MappingFailed(SymnasError, RuntimeError):
    """A layer cannot be put on an accelerator: the message names both."""


@attrs.frozen(eq=False)
class Mapper:
    """Finds the mappings of layers on an accelerator.

    Attributes:
        hardware: the accelerator.
        lpf_limit: the most loops that a layer is cut into before their orders are tried.
        spatial_mappings: how many ways to spread a layer over the array are tried.
        bits, partial_bits: of a number, and of a sum that is not complete.
        workers: processes.
    """

    hardware: Hardware
    lpf_limit: int = 6
    spatial_mappings: int = 3
    bits: int = 8
    partial_bits: int = 16
    workers: int = 2

    def map(self, nests: Iterable[Nest]) -> dict[Nest, dict[str, tuple[float, float]]]:
        """Picojoules and cycles of each layer, for each objective of the mapping.

        Raises:
            MappingFailed: a layer does not fit, or a process ended.
        """
        cache = MeasurementCache("accelerator", self._depends_on())
        keys = {nest: nest.key for nest in nests}
        found = {nest: cache.get(key) for nest, key in keys.items()}
        missing = [nest for nest, record in found.items() if record is None]
        if missing:
            with self._progress(len(missing)) as step:
                for nest, record in self._run(missing):
                    found[nest] = cache.put(keys[nest], record)
                    step()
        return {nest: _pairs(record) for nest, record in found.items() if record is not None}

    def _depends_on(self) -> Record:
        return {
            "accelerator": self.hardware.name,
            "description": self.hardware.digest,
            "zigzag": zigzag_version(),
            "lpf_limit": self.lpf_limit,
            "spatial_mappings": self.spatial_mappings,
            "bits": self.bits,
            "partial_bits": self.partial_bits,
        }

    def _run(self, nests: Sequence[Nest]) -> Iterator[tuple[Nest, Record]]:
        """The records of layers, as they become ready."""
        setting = {
            "hardware": self.hardware.data,
            "mapping": self.hardware.mapping,
            "mixed": self.hardware.mixed,
            "lpf_limit": self.lpf_limit,
            "spatial_mappings": self.spatial_mappings,
        }
        count = min(self.workers, len(nests))
        processes: list[_Process] = []
        idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()

        def run(nest: Nest) -> Record:
            process = idle.get()
            try:
                return process.ask(nest.as_zigzag(self.bits, self.partial_bits))
            finally:
                idle.put(process)

        threads = ThreadPoolExecutor(count)
        try:
            for _ in range(count):
                processes.append(_Process(setting))
                idle.put(processes[-1])
            futures: dict[Future[Record], Nest] = {threads.submit(run, n): n for n in nests}
            for future in as_completed(futures):
                nest = futures[future]
                answer = future.result()
                if "error" in answer:
                    raise MappingFailed(self._failure(nest, answer["error"]))
                yield nest, answer["best"]
        finally:
            # Ended first, so that threads which wait for an answer get one.
            for process in processes:
                process.end()
            threads.shutdown(cancel_futures=True)

    def _failure(self, nest: Nest, error: str) -> str:
        return (
            f"The {nest.kind} layer {nest.key} could not be mapped on {self.hardware.name!r} "
            f"(bits={self.bits}, partial_bits={self.partial_bits}): {error.strip()[:600]} "
            "Use another accelerator, other `bits`, or a hardware description of your own."
        )

    @contextlib.contextmanager
    def _progress(self, total: int) -> Iterator[Any]:
        """A bar in a terminal; elsewhere nothing."""
        from rich import progress
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
        bar = progress.Progress(
            progress.BarColumn(bar_width=24),
            progress.TextColumn(
                "{task.completed} of {task.total} {task.description}", markup=False
            ),
            progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        with bar:
            task = bar.add_task(f"layers on {self.hardware.name}", total=total)
            yield lambda: bar.advance(task)


class _Process:
    """One process that maps layers."""

    def __init__(self, setting: Record) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "agg",
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process lives
        self._process = subprocess.Popen(
            [sys.executable, "-m", "symnas.costs.accelerators.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )
        with contextlib.suppress(OSError):  # if it ended at once, `ask` says so
            self._write(setting)

    def ask(self, layer: Record) -> Record:
        """The worker's answer on a layer.

        Raises:
            MappingFailed: the process has ended.
        """
        answer = ""
        with contextlib.suppress(OSError, ValueError):
            self._write(layer)
            assert self._process.stdout is not None
            answer = self._process.stdout.readline()
        if not answer:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)  # for its last words
            raise MappingFailed(f"A process that maps layers has ended: {self._last_words()}")
        result: Record = json.loads(answer)
        return result

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()

    def _write(self, data: Record) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(data) + "\n")
        self._process.stdin.flush()

    def _last_words(self) -> str:
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()
        return text.splitlines()[-1] if text else "it said nothing."


def _pairs(record: Record) -> dict[str, tuple[float, float]]:
    return {o: (float(record[o][0]), float(record[o][1])) for o in OBJECTIVES}
