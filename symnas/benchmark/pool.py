"""Running many cells in processes, keeping each as soon as it is done."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import attrs
import cloudpickle

from symnas.benchmark.base import Table
from symnas.benchmark.cells import Cell
from symnas.benchmark.driving import Contender, Record, Setup, drive
from symnas.errors import SymnasError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@attrs.frozen
class _Work:
    """What every process needs: unpickled once in each. It comes from this process alone."""

    algorithms: Mapping[str, Contender]
    tables: Mapping[str, Table]
    setups: Mapping[str, Setup]
    callables: Sequence[Callable[..., Any]] = ()

    def do(self, cell: Cell) -> Record | str:
        """A search, or why it failed."""
        try:
            return drive(
                self.tables[cell.table],
                self.algorithms[cell.algorithm],
                self.setups[cell.table],
                cell.seed,
            )
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


def run_cells(
    cells: Sequence[Cell],
    algorithms: Mapping[str, Contender],
    tables: Mapping[str, Table],
    setups: Mapping[str, Setup],
    workers: int,
    folder: str | Path | None,
    progress: bool,
) -> tuple[dict[Cell, Record], dict[Cell, str]]:
    """Does the cells that have not been done; returns all results, and why others failed."""
    place = None if folder is None else Path(folder)
    records: dict[Cell, Record] = {}
    failures: dict[Cell, str] = {}
    if place is not None:
        for cell in cells:
            known = cell.read(place)
            if known is not None:
                records[cell] = known
    left = [cell for cell in cells if cell not in records]
    work = _Work(algorithms, tables, setups)
    with _bar(len(cells), len(records), progress) as advance:
        done = _inline(work, left) if workers == 1 else _parallel(work, left, workers)
        for cell, result in done:
            if isinstance(result, str):
                failures[cell] = result
            else:
                records[cell] = result
                if place is not None:
                    cell.write(place, result)
            advance(cell)
    # In the order of the cells, however many processes there were.
    return (
        {cell: records[cell] for cell in cells if cell in records},
        {cell: failures[cell] for cell in cells if cell in failures},
    )


def _inline(work: _Work, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Record | str]]:
    for cell in cells:
        yield cell, work.do(cell)


def _parallel(
    work: _Work, cells: Sequence[Cell], workers: int
) -> Iterator[tuple[Cell, Record | str]]:
    if not cells:
        return
    payload = _packed(work)
    context = multiprocessing.get_context("spawn")
    with _one_thread(), ProcessPoolExecutor(
        min(workers, len(cells)), context, initializer=_begin, initargs=(payload,)
    ) as pool:  # fmt: skip
        futures: dict[Future[Record | str], Cell] = {pool.submit(_do, c): c for c in cells}
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool:
                    yield (
                        futures[future],
                        "a process died (killed, out of memory, or a script without `if __name__ == "
                        "'__main__':`); call again for what is left",
                    )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _packed(work: _Work) -> bytes:
    from symnas.workers.payload import callables_of

    found = {
        id(target): target
        for table in work.tables.values()
        for target in callables_of(table.space.program)
    }
    try:
        return bytes(cloudpickle.dumps(attrs.evolve(work, callables=list(found.values()))))
    except Exception as error:
        raise SymnasError(
            f"The algorithms and tables cannot be sent to other processes: {type(error).__name__}: "
            f"{error}. Compare with one process, or leave open files and the like out of them."
        ) from error


_work: _Work | None = None


def _begin(payload: bytes) -> None:
    """In a new process."""
    import torch

    from symnas.language import registry

    global _work
    torch.set_num_threads(1)
    _work = cloudpickle.loads(payload)
    for target in _work.callables:
        registry.register(target)


def _do(cell: Cell) -> Record | str:
    assert _work is not None
    return _work.do(cell)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """New processes compute in one thread each; the numeric libraries read that as they start."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _bar(total: int, done: int, shown: bool) -> Iterator[Callable[[Cell], None]]:
    if not shown:
        yield lambda cell: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    text = TextColumn("{task.description}")
    with Progress(*columns, text, console=Console(stderr=True)) as progress:
        task = progress.add_task("searches", total=total, completed=done)

        def advance(cell: Cell) -> None:
            last = f"{cell.algorithm} on {cell.table}, seed {cell.seed}"
            progress.update(task, advance=1, description=last)

        yield advance
