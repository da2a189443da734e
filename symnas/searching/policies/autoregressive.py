"""A policy that draws each decision given those before: a recurrent network over decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from symnas.searching.policies.policy import Policy

if TYPE_CHECKING:
    from symnas.searchspace.space import Seed, Space

# Weights begin uniformly within this of 0, as Zoph and Le have it.
SPREAD = 0.08


@attrs.define(eq=False)
class _Carried:
    """State and next input of the network, `(n, width)` each."""

    hidden: Tensor
    cell: Tensor
    input: Tensor


class Autoregressive(Policy):
    """An LSTM that goes from decision to decision, and is shown what was drawn last.

    In the manner of B. Zoph and Q. Le, "Neural architecture search with reinforcement learning",
    ICLR 2017, arXiv:1611.01578, Section 3.1. Each decision has a linear layer for its logits and an
    embedding of its outcomes; a decision that is not active is skipped, as if it were not there.

    Args:
        space, temperature, tanh_constant, levels: as for `Policy`.
        width: of the LSTM (one layer) and the embeddings.
        seed: of the first weights.

    >>> import symnas as sn
    >>> policy = Autoregressive(sn.Space(sn.oneof([1, sn.oneof([2, 3])])), width=8, seed=1)
    >>> rows = np.array([[0, -1], [1, 0], [1, 1]], np.int32)
    >>> round(policy.log_prob(rows).exp().sum().item(), 12)
    1.0
    """

    def __init__(
        self, space: Space, *args: Any, width: int = 32, seed: Seed = 0, **options: Any
    ) -> None:
        super().__init__(space, *args, **options)
        # Made without values, as torch would draw them from its global generator.
        make: Any = nn.utils.skip_init
        double = torch.float64
        self.cell = make(nn.LSTMCell, width, width, dtype=double)
        self.heads = nn.ModuleList(
            make(nn.Linear, width, step.size, dtype=double) for step in self.steps
        )
        self.first = nn.Parameter(torch.zeros(width, dtype=double))
        self.embeddings = nn.ParameterList(
            nn.Parameter(torch.zeros(step.size, width, dtype=double)) for step in self.steps
        )
        rng = np.random.default_rng(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                drawn = rng.uniform(-SPREAD, SPREAD, tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(drawn))

    def begin(self, n: int) -> _Carried:
        """A state of zeros, and the first input."""
        zeros = torch.zeros(n, len(self.first), dtype=torch.float64)
        return _Carried(zeros, zeros, self.first.expand(n, -1))

    def logits(self, number: int, carried: _Carried, rows: Tensor) -> Tensor:
        """`(m, size)`: of the next state of the rows that have this decision."""
        inputs = carried.input.index_select(0, rows)
        before = carried.hidden.index_select(0, rows), carried.cell.index_select(0, rows)
        hidden, cell = self.cell(inputs, before)
        carried.hidden = carried.hidden.index_copy(0, rows, hidden)
        carried.cell = carried.cell.index_copy(0, rows, cell)
        found: Tensor = self.heads[number](hidden)
        return found

    def told(self, number: int, carried: _Carried, rows: Tensor, outcomes: Tensor) -> None:
        """What was drawn becomes the next input."""
        shown = self.embeddings[number].index_select(0, outcomes)
        carried.input = carried.input.index_copy(0, rows, shown)
