"""Latencies of 5,000 random networks of the FBNet space on 20 devices.

H. Lee et al., "HELP: Hardware-Adaptive Efficient Latency Prediction for NAS via Meta-Learning",
NeurIPS 2021, arXiv:2106.08630. Those of eyeriss, pixel3 and raspi4 are sums over layers to the last
digit, as HW-NAS-Bench (arXiv:2103.10584) makes them from what layers take; others were measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from symnas.benchmark.additive import Additive, Priced
from symnas.benchmark.base import Column
from symnas.benchmark.readers.spaces import space_named
from symnas.benchmark.tabulated import Tabulated
from symnas.costs.labelled import Columns

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

LAYERS = 22
OPERATIONS = (
    "k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip"
)  # fmt: skip
"""The operations, in the order of the numbers that stand for them in the file."""


def fbnet_measured(path: str | Path, *, space: Space | None = None) -> Tabulated:
    """The networks that were measured: costs `latency:DEVICE` in ms, and no accuracy.

    Args:
        path: of a CSV file, which may be packed (`.gz`): a column `arch` of 22 numbers from 0 to 8
            joined by `-`, and one column a device.
        space: with the decisions of the installed `fbnet`; None: that one, in which networks that
            skip other layers count as different, as in the file.

    Raises:
        ValueError: an architecture is malformed or there twice, or there are no devices.
        FileNotFoundError: there is no such file.
    """
    import pandas as pd

    frame = pd.read_csv(path)
    if "arch" not in frame.columns or len(frame.columns) < 2:
        raise ValueError(f"{path} must have a column 'arch', and one for each device.")
    found = space_named("fbnet", space, canonical=False)
    by_name = Columns(found)
    rows = np.full((len(frame), len(found)), -1, np.int32)
    chosen = np.array([_numbers(text, path) for text in frame["arch"]])
    for layer in range(1, LAYERS + 1):
        column = by_name.find(f"layer {layer}", "fbnet")
        labels = list(found.decisions[column].labels)
        if set(labels) != set(OPERATIONS):
            raise ValueError(f"'layer {layer}' has {labels}; it must have {', '.join(OPERATIONS)}.")
        places = np.array([labels.index(operation) for operation in OPERATIONS])
        rows[:, column] = places[chosen[:, layer - 1]]
    devices = [name for name in frame.columns if name != "arch"]
    columns = [Column(f"latency:{device}", "minimize", "ms", "cost") for device in devices]
    results = {f"latency:{device}": frame[device].to_numpy() for device in devices}
    return Tabulated("fbnet, measured", found, columns, rows, results)


def fbnet(
    path: str | Path,
    *,
    devices: list[str] | None = None,
    space: Space | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Priced:
    """Latencies of all 10^21 networks: what each layer adds, by ridge regression on the measured.

    `table.cost("pixel3")` is the cost of a device, an exact sum over layers; `table.errors()` says
    how far it is from measured latencies on held-out networks: nothing to 2% for most devices, but
    6% and 11% for the phones samsung_a50 and samsung_s7, whose measurements are coarse and noisy.

    Args:
        path: as for `fbnet_measured`.
        devices: of the file; None: all.
        space: as for `fbnet_measured`.
        folds: parts that are held out in turn to find the errors.
        seed: of the parts.

    Raises:
        ValueError, FileNotFoundError: as for `fbnet_measured`; or a device is not in the file.
    """
    measured = fbnet_measured(path, space=space)
    wanted = [measured.column(name).name for name in devices or measured.columns]
    predictors = dict.fromkeys(wanted, Additive())
    return Priced.fit_each(measured, predictors, folds=folds, seed=seed, name="fbnet")


def _numbers(text: object, path: str | Path) -> list[int]:
    parts = str(text).split("-")
    if len(parts) != LAYERS or not all(p.isdigit() and int(p) < len(OPERATIONS) for p in parts):
        raise ValueError(
            f"{path}: {str(text)!r:.80} must be {LAYERS} numbers from 0 to 8, joined by '-'."
        )
    return [int(part) for part in parts]
