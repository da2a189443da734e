"""Independent distributions over a space's decisions, as parameters to be learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from symnas.errors import SymnasError

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]

# Decisions of these groups are not the network's.
OUTSIDE = ("task", "hardware")


class Logits(nn.Module):
    """One softmax for each decision of the networks, all even in the beginning.

    Args:
        space: whose decisions; those on a task or on hardware, and those with one value, are left
            out.
        spread: standard deviation of the first logits; 0 makes them exactly even.

    Raises:
        SymnasError: the space has float decisions, which have no such distribution.

    >>> import symnas as sn
    >>> logits = Logits(sn.Space([sn.oneof([1, 2, 3], name="a"), sn.oneof([5, 7], name="b")]))
    >>> {id: p.tolist() for id, p in logits.probabilities().items()}["[1]"]
    [0.5, 0.5]
    """

    def __init__(self, space: Space, spread: float = 0.0) -> None:
        super().__init__()
        self.space = space
        floats = [d.id for d in space.decisions if d.kind == "float" and d.group not in OUTSIDE]
        if floats:
            raise SymnasError(
                f"The decision {floats[0]!r} is a float, which has no softmax. Fix it "
                "(space.fix({...})), or give some of its values in sn.oneof([...])."
            )
        self.decisions = [d for d in space.decisions if d.group not in OUTSIDE and d.size > 1]
        self.values = nn.ParameterList(
            nn.Parameter(spread * torch.randn(d.size)) for d in self.decisions
        )

    def __len__(self) -> int:
        return len(self.decisions)

    def logits(self) -> dict[str, Tensor]:
        """The parameters themselves, by id."""
        return {d.id: value for d, value in zip(self.decisions, self.values, strict=True)}

    def probabilities(self, temperature: float = 1.0) -> dict[str, Tensor]:
        """Softmax of each decision's logits, `(values,)`, by id, with gradient."""
        return {id_: torch.softmax(v / temperature, 0) for id_, v in self.logits().items()}

    def gumbel(self, temperature: float, hard: bool = False) -> dict[str, Tensor]:
        """Gumbel-softmax samples, `(values,)`, by id (torch's generator).

        With `hard` they are one-hot, with the gradient of the soft ones (straight-through; E. Jang
        et al., "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017, Section 2.2).
        """
        return {
            id_: nn.functional.gumbel_softmax(v, tau=temperature, hard=hard, dim=0)
            for id_, v in self.logits().items()
        }

    def entropy(self) -> Tensor:
        """Mean over the decisions of the entropy, as a share of the largest possible."""
        found = [
            -(p * torch.log(p.clamp_min(1e-12))).sum() / np.log(len(p))
            for p in self.probabilities().values()
        ]
        return torch.stack(found).mean() if found else torch.tensor(0.0)

    def log_probability(self, rows: Rows) -> Tensor:
        """The log-probability of rows `(n, columns)`: over their active decisions, `(n,)`."""
        known = self.logits()
        total = torch.zeros(len(rows), device=self._device)
        for column, decision in enumerate(self.space.decisions):
            if decision.id in known:
                logs = torch.log_softmax(known[decision.id], 0)
                values = torch.as_tensor(rows[:, column], dtype=torch.long, device=logs.device)
                total = total + torch.where(values >= 0, logs[values.clamp_min(0)], 0.0)
        return total

    @property
    def _device(self) -> torch.device:
        return self.values[0].device if len(self.values) else torch.device("cpu")
