"""How well latencies added up from operations tell those of whole networks, on this machine.

    python benchmarks/added_latency.py

Binds `cm.Latency` to the demo's space in torch and onnxruntime, and compares it with whole
networks that it was not fitted to. "raw" is the plain sum of the operations' times; "again" is how
far a second measurement of the same networks lies from the first: no prediction can do better.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from symnas.spaces.mobilenet import mobilenet_28

from symnas import cost_models as cm
from symnas.costs.accuracy import Accuracy
from symnas.costs.bound_table import TableCost
from symnas.costs.tabulate import tabulated

NETWORKS = 30
SEED = 1_000  # other networks than those of the fit, which are drawn from seed 0


def compare(runtime: str) -> list[tuple[str, str, Accuracy]]:
    """The errors on networks that are not among those of the fit."""
    space = mobilenet_28()
    latency = cm.Latency(runtime)
    began = time.monotonic()
    bound = latency.bind(space)
    print(f"{runtime}: bound in {time.monotonic() - began:.0f} s; held out there: {bound.error}")
    assert isinstance(bound, TableCost)
    rows = space.sample(NETWORKS, seed=SEED)
    architectures = [space.decode(row) for row in rows]
    # Side by side, as the networks of the fit: what else runs on the machine meets all alike.
    measured = latency.networks_ms(architectures)
    again = cm.Latency(runtime, cache=False).networks_ms(architectures)
    alone = np.array([latency.measure(a) for a in architectures])
    raw = tabulated(latency, space)(rows)
    predicted = bound(rows)
    return [
        (runtime, "table", Accuracy(predicted, measured)),
        (runtime, "table, one by one", Accuracy(predicted, alone)),
        (runtime, "raw sum", Accuracy(raw, measured)),
        (runtime, "again", Accuracy(again, measured)),
    ]


def main() -> int:
    """Prints the table; 1 if a mean relative error is 10% or more."""
    results = [entry for runtime in ("torch", "onnxruntime") for entry in compare(runtime)]
    print(f"\nrelative error on {NETWORKS} unseen networks of mobilenet_28")
    print(f"{'runtime':12} {'':18} {'mean':>7} {'median':>7} {'largest':>7} {'Spearman':>8}")
    for runtime, what, error in results:
        median = float(np.median(error.relative))
        print(
            f"{runtime:12} {what:18} {error.mean_relative:7.1%} {median:7.1%} "
            f"{error.largest_relative:7.1%} {error.rank:8.3f}"
        )
    return int(any(e.mean_relative >= 0.1 for _, what, e in results if what == "table"))


if __name__ == "__main__":
    sys.exit(main())
