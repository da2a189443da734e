"""What is known about many architectures: `Table`, and its two kinds."""

from __future__ import annotations

from symnas.benchmark.base import Column, Table
from symnas.benchmark.modelled import Modelled
from symnas.benchmark.tabulated import Tabulated

__all__ = ["Column", "Modelled", "Table", "Tabulated"]
