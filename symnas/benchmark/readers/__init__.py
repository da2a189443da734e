"""Readers of published benchmarks: each makes a `Table` of files in their published form."""

from __future__ import annotations

from symnas.benchmark.readers.accel_nasbench import accel_nasbench, accel_nasbench_measured
from symnas.benchmark.readers.fbnet import fbnet, fbnet_measured
from symnas.benchmark.readers.nas_bench_graph import nas_bench_graph
from symnas.benchmark.readers.nasbench201 import nasbench201

__all__ = [
    "accel_nasbench",
    "accel_nasbench_measured",
    "fbnet",
    "fbnet_measured",
    "nas_bench_graph",
    "nasbench201",
]
