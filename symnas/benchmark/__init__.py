"""Benchmarks: tables of architectures whose results are known, and comparisons on them."""

from __future__ import annotations

from symnas.benchmark import readers
from symnas.benchmark.comparing import compare, simulate
from symnas.benchmark.comparison import Comparison
from symnas.benchmark.limits import Below
from symnas.benchmark.own import read
from symnas.benchmark.table import Column, Modelled, Table, Tabulated

__all__ = [
    "Below",
    "Column",
    "Comparison",
    "Modelled",
    "Table",
    "Tabulated",
    "compare",
    "read",
    "readers",
    "simulate",
]
