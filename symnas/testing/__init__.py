"""Conformance suites: the laws that algorithms, spaces and cost models must obey.

Plug-in authors run them in their own tests; a failure is an AssertionError that says which law
is broken, and how.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from symnas.testing.algorithms import algorithm_laws, check_algorithm
    from symnas.testing.costs import check_cost_model
    from symnas.testing.examples import example_scores, example_spaces
    from symnas.testing.spaces import check_space

_LAZY = {
    "algorithm_laws": "symnas.testing.algorithms",
    "check_algorithm": "symnas.testing.algorithms",
    "check_cost_model": "symnas.testing.costs",
    "check_space": "symnas.testing.spaces",
    "example_scores": "symnas.testing.examples",
    "example_spaces": "symnas.testing.examples",
}

__all__ = [
    "algorithm_laws",
    "check_algorithm",
    "check_cost_model",
    "check_space",
    "example_scores",
    "example_spaces",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'symnas.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
