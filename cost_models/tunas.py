"""The latency of the ProxylessNAS space on a Pixel 1 phone, as a linear model that TuNAS fitted.

G. Bender et al., "Can weight sharing outperform random architecture search? An investigation with
TuNAS", CVPR 2020, arXiv:2008.06120, Section 4.1 and Appendix; weights as published with its code.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import os
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np

from symnas.architecture.architecture import Architecture
from symnas.costs.bound_table import TableCost
from symnas.costs.labelled import INACTIVE, Columns, LabelledTerm
from symnas.costs.model import CostModel
from symnas.costs.table import CostTable
from symnas.searchspace.space import Space

KERNELS = ("3", "5", "7")
EXPANSIONS = ("3", "6")
# Layers of each stage after the separable convolution; only a stage's first one is never skipped.
STAGES = (4, 4, 4, 4, 4, 1)
BIAS_MS = 92.135994
_WEIGHTS = len(KERNELS) + sum(6 + 7 * (layers - 1) for layers in STAGES)


@attrs.frozen(order=False)
class TunasProxyless(CostModel):
    """Milliseconds on a Pixel 1, for one 224x224 image, of networks of the ProxylessNAS space.

    The space has a decision named `kernel` for the separable convolution after the stem, and
    `kernel s.b` and `expansion s.b` for layer b of stage s, both counted from 0, with candidates
    3, 5, 7 and 3, 6. The layers of a stage from the second on can be skipped: then their decisions
    are not active. All other layers and widths are fixed: 32, 16, stages of 32, 40, 80, 96, 192, 320
    channels with 4, 4, 4, 4, 4, 1 layers, and 1280.

    Args:
        weights: 144 milliseconds, one for each candidate: of the separable convolution by kernel,
            then of each layer by kernel and expansion, and for skipping it.

    >>> TunasProxyless([0.0] * 144).unit
    'ms'
    """

    weights: tuple[float, ...] = attrs.field(
        converter=lambda values: tuple(map(float, values)), repr=len
    )
    name: str = attrs.field(default="latency", kw_only=True)

    unit = "ms"
    device = "Pixel 1"  # type: ignore[assignment]
    expense: ClassVar[int] = 1

    @weights.validator
    def _check(self, attribute: Any, value: tuple[float, ...]) -> None:
        if len(value) != _WEIGHTS or not np.isfinite(value).all():
            raise ValueError(
                f"`weights` must be {_WEIGHTS} finite numbers; these are {len(value)}."
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TunasProxyless:
        """The model in a file: base64 of 144 big-endian float32, as in TuNAS's own code.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else.
        """
        try:
            raw = base64.b64decode("".join(Path(path).read_text().split()), validate=True)
            weights = np.frombuffer(raw, ">f4")
        except (binascii.Error, UnicodeDecodeError, ValueError) as problem:
            raise ValueError(f"{path} must hold base64 of float32 numbers: {problem}.") from problem
        try:
            return cls(weights.tolist())
        except ValueError as problem:
            raise ValueError(f"{path}: {problem}") from problem

    @property
    def terms(self) -> list[LabelledTerm]:
        """The model as terms over named decisions, as `cm.Table` takes them."""
        left = iter(self.weights)
        first = tuple(((kernel,), next(left)) for kernel in KERNELS)
        result = [LabelledTerm(("kernel",), first, complete=True)]
        for stage, layers in enumerate(STAGES):
            for layer in range(layers):
                labels: list[tuple[str, str]] = list(itertools.product(KERNELS, EXPANSIONS))
                if layer > 0:
                    labels.append((INACTIVE, INACTIVE))
                costs = tuple((pair, next(left)) for pair in labels)
                names = (f"kernel {stage}.{layer}", f"expansion {stage}.{layer}")
                result.append(LabelledTerm(names, costs, complete=True))
        return result

    def bind(self, space: Space) -> TableCost:
        """The latency of a space's rows.

        Raises:
            ValueError: the space has not the decisions of the ProxylessNAS space.
        """
        columns = Columns(space)
        terms = [columns.term(t, f"{self.name}: terms[{i}]") for i, t in enumerate(self.terms)]
        return TableCost(self, space, CostTable(BIAS_MS, terms))

    def measure(self, architecture: Architecture) -> float:
        if architecture.space is None or architecture.row is None:
            raise ValueError(
                "a table knows architectures by their decisions, and this one stands outside any "
                "space: use space.decode(space.encode(architecture))"
            )
        return float(self.bind(architecture.space)([architecture.row])[0])
