"""Accel-NASBench: 5,138 MnasNet-like networks on ImageNet, with times on six accelerators.

A. Ahmad et al., "Accel-NASBench: Sustainable Benchmarking for Accelerator-Aware NAS", DAC 2024,
arXiv:2404.08005. Accuracies are those of its proxy training, one run each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symnas.benchmark.additive import Additive, Priced
from symnas.benchmark.base import Column
from symnas.benchmark.boosting import Boosting
from symnas.benchmark.readers.spaces import space_named
from symnas.benchmark.tabulated import Tabulated
from symnas.costs.labelled import Columns
from symnas.predictors.base import Predictor

if TYPE_CHECKING:
    import pandas as pd

    from symnas.searchspace.space import Space

BLOCKS = 7
DECISIONS = {"expansion": "e", "kernel": "k", "layers": "l", "squeeze": "se"}
"""The names of a block's decisions in the space, and in the file."""


def accel_nasbench_measured(path: str | Path, *, space: Space | None = None) -> Tabulated:
    """The 5,125 different networks that were trained and measured.

    Metrics are `val_top1` and `val_top5` in percent, and `train_seconds`; costs are `macs` and
    `parameters` in millions, `latency:DEVICE` in ms (zcu102, vck190), and `time:DEVICE`, the ms for
    one image of a large batch, a thousand divided by the published throughput (a100, 3090, tpuv2,
    tpuv3, zcu102, vck190). Of the 13 networks that are there twice, means are taken. The published
    `macs` count four for each output of a batch norm, and the inputs and outputs of poolings.

    Args:
        path: of a CSV file, which may be packed (`.gz`): columns `block0_e`, `block0_k`, `block0_l`,
            `block0_se` to `block6_se`, then results.
        space: with the decisions of the installed `mnasnet`; None: that one.

    Raises:
        ValueError: a column is missing, or a value is not one of the space.
        FileNotFoundError: there is no such file.
    """
    import pandas as pd

    frame = pd.read_csv(path)
    found = space_named("mnasnet", space)
    names = [f"block{b}_{short}" for b in range(BLOCKS) for short in DECISIONS.values()]
    missing = {*names, "val_top1", "params"} - set(frame.columns)
    if missing:
        raise ValueError(f"{path}: the columns {sorted(missing)} are missing.")
    frame = frame.groupby(names, as_index=False, sort=False).mean()
    known = {column.name: (column, values) for column, values in _results(frame)}
    return Tabulated(
        "accel_nasbench, measured",
        found,
        [column for column, _ in known.values()],
        _rows(frame, found, path),
        {name: values for name, (_, values) in known.items()},
    )


def accel_nasbench(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    predictor: Predictor | None = None,
    space: Space | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Priced:
    """A surrogate for all 10^11 networks of the space, fitted to the measured ones.

    As in the paper, accuracy is predicted by boosted trees: of those of scikit-learn (Kendall's tau
    0.917 on a held-out fifth), Gaussian process (0.918, in four times the time), random forest
    (0.80) and extra trees (0.79), they were taken. Everything else is the sum of what the blocks
    add, each with its own table of 36 or 48 numbers; parameters and MACs are exactly that, and times
    nearly. `table.errors()` says how well each column is predicted on held-out networks.

    Args:
        path: as for `accel_nasbench_measured`.
        columns: of that table; None: all but `val_top5`.
        predictor: of accuracies; None: `Boosting()`.
        space: with the decisions of the installed `mnasnet`; None: that one.
        folds: parts that are held out in turn to find the errors.
        seed: of the parts.

    Raises:
        ValueError, FileNotFoundError: as for `accel_nasbench_measured`.
        MissingExtra: scikit-learn is not installed.
    """
    measured = accel_nasbench_measured(path, space=space)
    wanted = [c for c in measured.columns if c != "val_top5"] if columns is None else columns
    groups = [[f"{name} {b}" for name in DECISIONS] for b in range(BLOCKS)]
    of_accuracy = Boosting() if predictor is None else predictor
    predictors: dict[str, Predictor] = {}
    for name in wanted:
        column = measured.column(name)
        predictors[column.name] = of_accuracy if column.kind == "metric" else Additive(groups)
    return Priced.fit_each(measured, predictors, folds=folds, seed=seed, name="accel_nasbench")


def _results(frame: pd.DataFrame) -> list[tuple[Column, Any]]:
    """The results that the file has, as columns of a table."""
    found: list[tuple[Column, Any]] = []

    def add(published: str, column: Column, inverse: bool = False) -> None:
        if published in frame.columns:
            values = frame[published].to_numpy()
            found.append((column, 1000 / values if inverse else values))

    add("val_top1", Column("val_top1", "maximize", "%"))
    add("val_top5", Column("val_top5", "maximize", "%"))
    add("train_time", Column("train_seconds", "minimize", "s", "seconds"))
    add("macs", Column("macs", "minimize", "millions", "cost"))
    add("params", Column("parameters", "minimize", "millions", "cost"))
    for name in frame.columns:
        if name.startswith("latency_") and name.endswith("_ms"):
            device = name.removeprefix("latency_").removesuffix("_ms")
            add(name, Column(f"latency:{device}", "minimize", "ms", "cost"))
        if name.startswith("throughput_"):
            device = name.removeprefix("throughput_").removesuffix("_images_per_s")
            add(name, Column(f"time:{device}", "minimize", "ms", "cost"), inverse=True)
    return found


def _rows(frame: pd.DataFrame, space: Space, path: str | Path) -> Any:
    by_name = Columns(space)
    rows = np.full((len(frame), len(space)), -1, np.int32)
    for b in range(BLOCKS):
        for name, short in DECISIONS.items():
            column = by_name.find(f"{name} {b}", "accel_nasbench")
            places = {label: i for i, label in enumerate(space.decisions[column].labels)}
            texts = frame[f"block{b}_{short}"].map(str)
            odd = texts[~texts.isin(places)]
            if len(odd):
                raise ValueError(
                    f"{path}: `block{b}_{short}` has {odd.iloc[0]!r}; the space has "
                    f"{', '.join(places)}."
                )
            rows[:, column] = texts.map(places)
    return rows
