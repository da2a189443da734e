"""The base class of costs that are fitted to pairs of an architecture and a number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.architecture.architecture import Architecture
from symnas.costs.model import CostModel
from symnas.errors import DeclarationError
from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]
Sample = tuple[Architecture, float]

# The fewest samples that anything can be learned from.
FEWEST = 5


def _samples(samples: Iterable[Any]) -> tuple[Sample, ...]:
    found = []
    for index, sample in enumerate(samples):
        try:
            architecture, cost = sample
            cost = float(cost)
        except (TypeError, ValueError):
            raise DeclarationError(
                f"Learned: `samples[{index}]` ({sample!r:.80}) must be a pair of an architecture and "
                "a number. For rows of a space use Learned.of_rows(space, rows, costs)."
            ) from None
        if not isinstance(architecture, Architecture):
            architecture = Architecture(architecture)
        if not 0 < cost < np.inf:
            raise DeclarationError(
                f"Learned: the cost of `samples[{index}]` ({cost}) must be positive and finite: "
                "relative errors are fitted. Leave out what could not be measured."
            )
        found.append((architecture, cost))
    if len(found) < FEWEST:
        raise DeclarationError(
            f"Learned: `samples` has {len(found)} pairs; at least {FEWEST} are needed."
        )
    return tuple(found)


@attrs.frozen(order=False, eq=False)
class FromSamples(CostModel):
    """What models that are fitted to samples have in common."""

    samples: tuple[Sample, ...] = attrs.field(converter=_samples)

    expense: ClassVar[int] = 2

    @property
    def digest(self) -> str:
        """Of the samples: equal for equal pairs."""
        pairs = [(architecture.key, cost) for architecture, cost in self.samples]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        told = attrs.evolve(self, samples=self.samples[:FEWEST])
        described = CostModel.describe(told)
        options = {k: v for k, v in described["options"].items() if not k.startswith("_")}
        options["samples"] = f"{len(self.samples)} pairs, {self.digest}"
        return {**described, "options": options}

    def measure(self, architecture: Architecture) -> float:
        """The prediction, for an architecture of a space."""
        if architecture.space is None:
            raise ValueError(
                f"{self.name} is learned on a space: bind it, or give an architecture of the space."
            )
        row = np.array([architecture.row], np.int32)
        return float(self.bind(architecture.space)(row)[0])

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((self.name, self.digest))

    def _data(self, space: Space) -> tuple[Rows, Floats]:
        rows = [
            a.row if a.space is space and a.row is not None else space.encode(a)
            for a, _ in self.samples
        ]
        return np.array(rows, np.int32), np.array([cost for _, cost in self.samples])
