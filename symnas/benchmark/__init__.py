"""Benchmarks: tables of architectures whose results are known, and comparisons on them."""

from __future__ import annotations

from symnas.benchmark.table import Column, Modelled, Table, Tabulated

__all__ = ["Column", "Modelled", "Table", "Tabulated"]
