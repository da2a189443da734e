"""Other libraries in the same comparison, by the name `symnas benchmark` knows them under.

A peer proposes as it is: what it proposes twice, or against a limit, counts as an evaluation. Where
it has constraints of its own (Optuna's samplers but the random one; pymoo), it is told by how much a
proposal breaks them; else such a proposal has failed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from symnas.errors import MissingExtra

if TYPE_CHECKING:
    from symnas.benchmark.driving import Asked
    from symnas.searching.problem import Problem

# Peer: the module that runs it, the package, and how to install that.
MODULES = {
    "optuna": ("symnas.benchmark.peers_optuna", "optuna", 'pip install "symnas[optuna]"'),
    "synetune": ("symnas.benchmark.peers_synetune", "syne-tune", 'pip install "symnas[peers]"'),
    "pymoo": ("symnas.benchmark.peers_pymoo", "pymoo", 'pip install "symnas[peers]"'),
    "pyglove": ("symnas.benchmark.peers_pyglove", "pyglove", "pip install pyglove"),
}
NAMES = (
    "optuna-random",
    "optuna-tpe",
    "optuna-nsga2",
    "optuna-gp",
    "synetune-evolution",
    "pyglove-evolution",
    "pyglove-nsga2",
    "pymoo-nsga2",
    "pymoo-smsemoa",
)


def _known(instance: Any, attribute: Any, value: Any) -> None:
    if value not in NAMES:
        raise ValueError(f"Peer: `name` ({value!r}) must be one of {', '.join(NAMES)}.")


@attrs.frozen
class Peer:
    """An algorithm of another library.

    Args:
        name: `optuna-random`, `optuna-tpe`, `optuna-nsga2`, `optuna-gp`, `synetune-evolution`,
            `pyglove-evolution`, `pyglove-nsga2`, `pymoo-nsga2` or `pymoo-smsemoa`.
        options: of the library's own class, by name, where they are not to be its defaults.

    Raises:
        ValueError: the name is another one.
        MissingExtra: the library is not installed.

    >>> Peer("pyglove-evolution", {"population_size": 20}).name
    'pyglove-evolution'
    """

    peer: ClassVar[bool] = True

    name: str = attrs.field(validator=_known)
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=dict, hash=False)
    release: str = attrs.field(init=False)  # another release may search otherwise

    @release.default
    def _release(self) -> str:
        if self.name not in NAMES:
            return ""  # refused by the validator
        _, package, install = MODULES[self.name.partition("-")[0]]
        try:
            return f"{package} {version(package)}"
        except ImportError as error:
            raise MissingExtra(f"The peer {self.name} needs {package}: {install}.") from error

    def start(self, problem: Problem) -> Asked:
        """A run on a problem, seeded with the problem's seed.

        Raises:
            MissingExtra: a library that the peer needs is not installed.
            ValueError: the peer cannot express the problem.
        """
        library, _, kind = self.name.partition("-")
        module, package, install = MODULES[library]
        try:
            found = importlib.import_module(module)
            run: Asked = found.start(kind, problem, self.options)
        except ImportError as error:
            raise MissingExtra(
                f"The peer {self.name} needs what is not installed ({error}): {install}, and what it "
                f"asks for besides {package}."
            ) from error
        return run
