"""NAS-Bench-201: 15,625 cells with accuracies on three data sets, and latencies on 20 devices.

X. Dong and Y. Yang, "NAS-Bench-201", ICLR 2020, arXiv:2001.00326. Latencies on raspi4, pixel3 and
eyeriss are those of HW-NAS-Bench (C. Li et al., ICLR 2021, arXiv:2103.10584), the others those of
HELP (H. Lee et al., NeurIPS 2021, arXiv:2106.08630).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symnas.benchmark.base import Column
from symnas.benchmark.readers.spaces import space_named
from symnas.benchmark.tabulated import Tabulated
from symnas.costs.labelled import Columns

if TYPE_CHECKING:
    import pandas as pd

    from symnas.searchspace.space import Space

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
EPOCHS = (12, 200)


def nasbench201(
    folder: str | Path,
    dataset: str = "cifar10",
    epochs: int | Sequence[int] = 12,
    *,
    space: Space | None = None,
) -> Tabulated:
    """The cells of NAS-Bench-201.

    Metrics are `test_accuracy` and, after 12 epochs, `val_accuracy`, in percent; costs are
    `parameters` in millions and `latency:DEVICE` in ms. `folder` has `accuracy_12_epochs.csv`,
    `accuracy_200_epochs.csv` and `latency_ms.csv`, or the same with `.gz`: a column `arch` with
    published names of cells, and one column a result. Of latencies and of accuracies that are not
    asked for, the file may be missing; parameters are read from that of 200 epochs.

    Args:
        folder: of the files.
        dataset: "cifar10", "cifar100" or "ImageNet16-120".
        epochs: 12, 200, or (12, 200) for a table of two fidelities.
        space: with the decisions of the installed `nasbench201`; None: that one, with all 15,625
            cells told apart, as in the table (published accuracies of equivalent cells differ).

    Raises:
        ValueError: `dataset` or `epochs` is another one, or a file is malformed.
        FileNotFoundError: there is no file of these epochs.
    """
    budgets = (epochs,) if isinstance(epochs, int) else tuple(epochs)
    if dataset not in DATASETS:
        raise ValueError(f"`dataset` ({dataset!r}) must be one of {', '.join(DATASETS)}.")
    if not budgets or not set(budgets) <= set(EPOCHS) or list(budgets) != sorted(set(budgets)):
        raise ValueError(f"`epochs` ({epochs!r}) must be 12, 200, or (12, 200).")
    folder = Path(folder)
    accuracies = {n: _file(folder, f"accuracy_{n}_epochs.csv", n in budgets) for n in EPOCHS}
    frames = [_read(accuracies[n]) for n in budgets]
    cells = frames[0].index
    for n, frame in zip(budgets[1:], frames[1:], strict=True):
        if set(frame.index) != set(cells):
            raise ValueError(
                f"{accuracies[n]}: its cells are not those of {accuracies[budgets[0]]}."
            )
    wanted = {  # the names in the two files differ
        "val_accuracy": {12: f"{dataset}_val"},
        "test_accuracy": {12: f"{dataset}_test", 200: f"test_{dataset}"},
    }
    columns: list[Column] = []
    results: dict[str, Any] = {}
    for name, names in wanted.items():
        known = [
            frame[names[n]].reindex(cells).to_numpy() if n in names else np.full(len(cells), np.nan)
            for n, frame in zip(budgets, frames, strict=True)
        ]
        if any(n in names for n in budgets):
            columns.append(Column(name, "maximize", "%"))
            results[name] = np.stack(known, axis=1) if len(budgets) > 1 else known[0]
    if accuracies[200] is not None:
        columns.append(Column("parameters", "minimize", "millions", "cost"))
        results["parameters"] = _read(accuracies[200])["params_millions"].reindex(cells).to_numpy()
    latencies = _file(folder, "latency_ms.csv", False)
    if latencies is not None:
        frame = _read(latencies).reindex(cells)
        for device in frame.columns:
            columns.append(Column(f"latency:{device}", "minimize", "ms", "cost"))
            results[f"latency:{device}"] = frame[device].to_numpy()
    found = space_named("nasbench201", space, canonical=False)
    name = f"nasbench201 {dataset}"
    fidelities = tuple(float(n) for n in budgets) if len(budgets) > 1 else ()
    return Tabulated(name, found, columns, cell_rows(found, cells), results, fidelities)


def cell_rows(space: Space, cells: Sequence[str]) -> Any:
    """The rows `(n, 6)` of cells given by their published names, `|op~0|+|op~0|op~1|+...`.

    Raises:
        ValueError: a text is not such a name, or the space lacks a decision or an operation.
    """
    by_name = Columns(space)
    places: dict[str, tuple[int, dict[str, int]]] = {}
    for target in (1, 2, 3):
        for source in range(target):
            column = by_name.find(f"{target}<-{source}", "nasbench201")
            labels = space.decisions[column].labels
            places[f"{target}<-{source}"] = column, {label: i for i, label in enumerate(labels)}
    rows = np.full((len(cells), len(space)), -1, np.int32)
    for i, cell in enumerate(cells):
        nodes = enumerate(str(cell).split("+"), start=1)
        edges = [(t, o, s) for t, node in nodes for o, s in re.findall(r"(\w+)~(\d)", node)]
        if [f"{t}<-{s}" for t, _, s in edges] != list(places):
            raise ValueError(f"{cell!r} must have the form '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|'.")
        for target, operation, source in edges:
            column, known = places[f"{target}<-{source}"]
            if operation not in known:
                raise ValueError(f"{cell!r}: {operation!r} must be one of {', '.join(known)}.")
            rows[i, column] = known[operation]
    return rows


def _file(folder: Path, name: str, needed: bool) -> Path | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    if needed:
        raise FileNotFoundError(f"There is no file {folder / name} (or {name}.gz).")
    return None


def _read(path: Path | None) -> pd.DataFrame:
    import pandas as pd

    assert path is not None
    frame = pd.read_csv(path)
    if "arch" not in frame.columns:
        raise ValueError(f"{path}: the column 'arch' is missing; it has {list(frame.columns)[:6]}.")
    twice = frame["arch"][frame["arch"].duplicated()]
    if len(twice):
        raise ValueError(f"{path}: the cell {twice.iloc[0]!r} is there twice.")
    return frame.set_index("arch")
