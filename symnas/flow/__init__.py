"""Flows: searches made of searches. A flow is an algorithm, so `sn.search` takes it as any other."""

from __future__ import annotations

from symnas.flow.efficient import Efficient
from symnas.flow.flow import Flow
from symnas.flow.nested import nested
from symnas.flow.sequence import sequence
from symnas.flow.shrink import Best, refine
from symnas.flow.stage import Stage

__all__ = ["Best", "Efficient", "Flow", "Stage", "nested", "refine", "sequence"]
