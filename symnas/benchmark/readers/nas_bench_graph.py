"""NAS-Bench-Graph: 26,206 graph networks, trained on nine graphs.

Y. Qin et al., "NAS-Bench-Graph: Benchmarking Graph Neural Architecture Search", NeurIPS 2022,
arXiv:2206.09166. The package `nas-bench-graph` (Apache-2.0) brings the files; nothing of it is run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symnas.benchmark.base import Column
from symnas.benchmark.readers import graph_cells as cells
from symnas.benchmark.readers.numbers_in_pickle import read_numbers
from symnas.benchmark.readers.spaces import space_named
from symnas.benchmark.tabulated import Tabulated
from symnas.costs.labelled import Columns
from symnas.errors import MissingExtra
from symnas.files import write_whole

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

DATASETS = (
    "cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv", "proteins"
)  # fmt: skip

_COLUMNS = {  # by our name: the published name, what it is multiplied by
    "val_accuracy": ("valid_perf", 100.0, Column("val_accuracy", "maximize", "%")),
    "test_accuracy": ("perf", 100.0, Column("test_accuracy", "maximize", "%")),
    "parameters": ("para", 1.0, Column("parameters", "minimize", "millions", "cost")),
    "latency": ("latency", 1000.0, Column("latency", "minimize", "ms", "cost")),
}


def nas_bench_graph(
    folder: str | Path | None = None,
    dataset: str = "cora",
    *,
    cache: str | Path | None = None,
    space: Space | None = None,
) -> Tabulated:
    """The graph networks of NAS-Bench-Graph.

    Metrics are `val_accuracy` and `test_accuracy` in percent (on proteins, of the area under the
    ROC curve), means over three trainings; costs are `parameters` in millions and `latency` in ms,
    on a graphics processor. The table has all 59,040 ways to write the 26,206 architectures (2,021
    in 5,616 ways on proteins, with five operations), so that any row can be looked up.

    Args:
        folder: with `cora.bench` and so on, or `cora.npz` and so on, which `cache` made; None: that
            of the installed package.
        dataset: one of `DATASETS`.
        cache: a folder for a plain copy `cora.npz` of what was read; it is read instead as long as
            the file is the same.
        space: with the decisions of the installed `nas_bench_graph`; None: that one.

    Raises:
        ValueError: `dataset` is another one, a file is malformed, or a pickle holds anything
            besides numbers (it is refused before it runs anything).
        FileNotFoundError: there is no file of this dataset.
        MissingExtra: the package is not installed, and there is no folder.
    """
    if dataset not in DATASETS:
        raise ValueError(f"`dataset` ({dataset!r}) must be one of {', '.join(DATASETS)}.")
    source = _installed() if folder is None else Path(folder)
    published = _published(source, dataset, None if cache is None else Path(cache))
    found = space_named("nas_bench_graph", space, dataset=dataset)
    rows, numbers = all_rows(found)
    places = {int(number): place for place, number in enumerate(published["number"])}
    try:
        index = [places[number] for number in numbers]
    except KeyError as problem:
        raise ValueError(
            f"{source}: {dataset} has no cell {problem} ({cells.cell(problem.args[0])})."
        ) from None
    unused = set(places) - set(numbers)
    if unused:
        raise ValueError(
            f"{source}: {dataset} has the cell {min(unused)} ({cells.cell(min(unused))}), of which "
            f"{found!r} lacks an operation."
        )
    results = {name: published[name][index] for name in _COLUMNS}
    columns = [column for _, _, column in _COLUMNS.values()]
    return Tabulated(f"nas_bench_graph {dataset}", found, columns, rows, results)


def all_rows(space: Space) -> tuple[Any, list[int]]:
    """All rows `(n, 5)` of a space but that of skips alone, and the published number of each.

    Raises:
        ValueError: the space lacks a decision, or has a link or an operation that has no number.
    """
    by_name = Columns(space)
    names = ("links", "node 1", "node 2", "node 3", "node 4")
    columns = [by_name.find(name, "nas_bench_graph") for name in names]
    labels = [space.decisions[column].labels for column in columns]
    for name, own in zip(names, labels, strict=True):
        known = cells.LINKS if name == "links" else cells.OPERATIONS
        if not set(own) <= set(known):
            raise ValueError(f"{name!r} has {own}; it may have {', '.join(known)}.")
    rows, numbers = [], []
    for values in itertools.product(*(range(len(own)) for own in labels)):
        links, *operations = (own[i] for own, i in zip(labels, values, strict=True))
        if set(operations) != {"skip"}:
            row = [-1] * len(space)
            for column, value in zip(columns, values, strict=True):
                row[column] = value
            rows.append(row)
            numbers.append(cells.number(*cells.canonical_cell(links, tuple(operations))))
    return np.array(rows, np.int32), numbers


def convert(pickled: Path, plain: Path) -> Path:
    """Writes what a published file holds as an `.npz` of plain arrays, wholly or not at all.

    The arrays are `number` `(m,)` of cells, one of each column of the table `(m,)`, and `source`,
    the SHA-256 of the published file.

    Raises:
        ValueError: the file holds anything else than the published ones.
    """
    arrays = _arrays(read_numbers(pickled), pickled)
    arrays["source"] = np.array(_digest(pickled))

    def write(part: Path) -> None:
        with part.open("wb") as file:  # numpy would rename a path
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    return write_whole(plain, write)


def _published(folder: Path, dataset: str, cache: Path | None) -> Mapping[str, NDArray[Any]]:
    pickled, plain = folder / f"{dataset}.bench", folder / f"{dataset}.npz"
    if not pickled.is_file():
        if plain.is_file():
            return _load(plain)
        raise FileNotFoundError(f"There is no file {pickled} (or {plain.name}).")
    if cache is None:
        return _arrays(read_numbers(pickled), pickled)
    copy = cache / f"{dataset}.npz"
    if copy.is_file():
        arrays = _load(copy)
        if str(arrays["source"]) == _digest(pickled):
            return arrays
    return _load(convert(pickled, copy))


def _arrays(found: Mapping[int, Mapping[str, float]], path: Path) -> dict[str, NDArray[Any]]:
    names = {published for published, _, _ in _COLUMNS.values()}
    for number, entry in found.items():
        if set(entry) != names:
            raise ValueError(f"{path}: {number} has {sorted(entry)}; it must have {sorted(names)}.")
        try:
            cells.cell(number)
        except ValueError as problem:
            raise ValueError(f"{path}: {problem}") from None
    arrays: dict[str, NDArray[Any]] = {"number": np.array(list(found), np.int64)}
    for name, (published, factor, _) in _COLUMNS.items():
        arrays[name] = factor * np.array([entry[published] for entry in found.values()])
    return arrays


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as problem:
        raise ValueError(f"{path} must be a file that `convert` wrote: {problem}.") from problem
    wanted = {"number", "source", *_COLUMNS}
    sizes = {arrays[name].shape for name in arrays if name != "source"}
    if set(arrays) != wanted or len(sizes) != 1 or len(sizes.pop()) != 1:
        raise ValueError(f"{path} must have the arrays {sorted(wanted)}, of equal length.")
    return arrays


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _installed() -> Path:
    """The folder of the package's files; the package is found, not imported."""
    spec = importlib.util.find_spec("nas_bench_graph")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(
            "The tables of NAS-Bench-Graph come with the package nas-bench-graph: install it with "
            "`pip install nas-bench-graph`, or name a `folder` with its `.bench` files."
        )
    return Path(spec.submodule_search_locations[0]) / "light"
