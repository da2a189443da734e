"""Readers of published benchmarks: each makes a `Table` of files in their published form."""

from __future__ import annotations

from symnas.benchmark.readers.nasbench201 import nasbench201

__all__ = ["nasbench201"]
