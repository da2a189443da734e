"""symnas: ordinary PyTorch code as neural-architecture search spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from symnas import nn
from symnas.architecture.architecture import Architecture
from symnas.errors import (
    DeclarationError,
    Infeasible,
    MissingExtra,
    StorageError,
    StudyChanged,
    SymnasError,
    TrialFailed,
)
from symnas.language.choices import (
    derived,
    floatv,
    intv,
    manyof,
    oneof,
    permutate,
    repeat,
    tied,
)
from symnas.language.registry import register
from symnas.language.spec import build, spec
from symnas.language.symbolize import given, space, symbolize
from symnas.searchspace.decision import Decision
from symnas.searchspace.space import Space

if TYPE_CHECKING:
    from symnas.costs.combined import maximum
    from symnas.costs.constraints import Constraint, Constraints, metric
    from symnas.costs.model import BoundCost, CostModel
    from symnas.language.trace import trace
    from symnas.searching.algorithm import Algorithm, Run
    from symnas.searching.objectives import Objective
    from symnas.searching.problem import Problem
    from symnas.searching.sample import sample
    from symnas.searching.search import search
    from symnas.studies.study import Study
    from symnas.studies.trial import Trial
    from symnas.supernet.supernet import Supernet
    from symnas.tasks.task import Task
    from symnas.workers.settings import Workers

__version__ = "0.1.0"

# What needs SQL, processes or training is imported at first use, so that `import symnas` is quick.
_LAZY = {
    "Algorithm": "symnas.searching.algorithm",
    "BoundCost": "symnas.costs.model",
    "Constraint": "symnas.costs.constraints",
    "Constraints": "symnas.costs.constraints",
    "CostModel": "symnas.costs.model",
    "Objective": "symnas.searching.objectives",
    "Problem": "symnas.searching.problem",
    "Run": "symnas.searching.algorithm",
    "Study": "symnas.studies.study",
    "Supernet": "symnas.supernet.supernet",
    "Task": "symnas.tasks.task",
    "Trial": "symnas.studies.trial",
    "Workers": "symnas.workers.settings",
    "maximum": "symnas.costs.combined",
    "metric": "symnas.costs.constraints",
    "sample": "symnas.searching.sample",
    "search": "symnas.searching.search",
    "trace": "symnas.language.trace",
}

__all__ = [
    "Algorithm",
    "Architecture",
    "BoundCost",
    "Constraint",
    "Constraints",
    "CostModel",
    "Decision",
    "DeclarationError",
    "Infeasible",
    "MissingExtra",
    "Objective",
    "Problem",
    "Run",
    "Space",
    "StorageError",
    "Study",
    "StudyChanged",
    "Supernet",
    "SymnasError",
    "Task",
    "Trial",
    "TrialFailed",
    "Workers",
    "build",
    "derived",
    "floatv",
    "given",
    "intv",
    "manyof",
    "maximum",
    "metric",
    "nn",
    "oneof",
    "permutate",
    "register",
    "repeat",
    "sample",
    "search",
    "space",
    "spec",
    "symbolize",
    "tied",
    "trace",
]


# Submodules that people reach as attributes: `sn.data.mnist5k()`.
_SUBMODULES = ("benchmark", "data", "flow", "predictors", "rewards", "testing")


def __getattr__(name: str) -> Any:
    import importlib

    if name in _SUBMODULES:
        return importlib.import_module(f"symnas.{name}")
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'symnas' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
