"""`Supernet`: all networks of a space in one module that shares their weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from symnas.architecture.architecture import Architecture
from symnas.errors import SymnasError
from symnas.supernet.mixtures import Weights
from symnas.supernet.network import Network
from symnas.supernet.parts import put_together
from symnas.supernet.relaxation import Relaxation
from symnas.supernet.survey import Survey
from symnas.supernet.templates import Pool
from symnas.supernet.weights import Store, real

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

# Templates and networks that are kept: a network of 20 blocks is some 200 modules.
TEMPLATES, NETWORKS = 4096, 32


class Supernet(nn.Module):
    def __init__(self, space: Space, sharing: str = "entangled") -> None:
        super().__init__()
        if sharing not in ("entangled", "separate"):
            raise ValueError(f'`sharing` ({sharing!r}) must be "entangled" or "separate".')
        self.space = space
        self.sharing = sharing
        self._pool = Pool(TEMPLATES)
        survey = Survey(space, self._pool, sharing == "separate")
        self.weights = Store(space, survey)
        self._networks: OrderedDict[bytes, Network] = OrderedDict()
        self._mixed: OrderedDict[object, Network] = OrderedDict()
        self._selected: Network | None = None

    def _row(self, row: Any) -> list[int]:
        if isinstance(row, Architecture):
            row = self.space.encode(row) if row.space is not self.space else row.row
        found = np.asarray(row, np.int32).reshape(-1)
        if not self.space.is_row(found):
            raise ValueError(f"`row` ({found.tolist()}) is no row of {self.space!r}.")
        return [int(value) for value in found]

    def _network(self, row: Any) -> Network:
        key = np.asarray(row.row if isinstance(row, Architecture) else row, np.int32).tobytes()
        found = self._networks.get(key)
        if found is None:
            root, own = self.space._compiled.root, self._row(row)
            found = self._networks[key] = Network(
                lambda make: put_together(root, own, make), self._pool, self.weights
            )
            if len(self._networks) > NETWORKS:
                self._networks.popitem(last=False)
        else:
            self._networks.move_to_end(key)
        return found

    def select(self, row: Any) -> Supernet:
        self._selected = self._network(row)
        return self

    @cached_property
    def relaxation(self) -> Relaxation:
        """How each decision can be relaxed: found at the first use, see `Relaxation`."""
        return Relaxation(self)

    def mix(self, weights: Mapping[str, Tensor], row: Any = None) -> Supernet:
        columns = {d.id: c for c, d in enumerate(self.space.decisions)}
        unknown = set(weights) - set(columns)
        if unknown:
            raise ValueError(
                f"`weights` has {min(unknown)!r}, which is no decision of {self.space!r}."
            )
        roles = self.relaxation.roles
        own = [-1] * len(columns) if row is None else self._row(row)
        soft: dict[int, list[int]] = {}
        straight = set()
        used = {}
        for id_, weight in weights.items():
            column = columns[id_]
            if weight.shape != (self.relaxation.sizes[column],):
                raise ValueError(
                    f"`weights[{id_!r}]` has the shape {tuple(weight.shape)}; it must be "
                    f"({self.relaxation.sizes[column]},)."
                )
            if roles[column] == "outside":
                continue
            used[column] = weight
            support = torch.nonzero(weight.detach()).flatten().tolist()
            if roles[column] == "sampled" and len(support) > 1:
                support = [int(torch.multinomial(weight.detach().clamp_min(0), 1))]
                straight.add(column)
            if len(support) == 1 and not weight.requires_grad:
                own[column] = support[0]
            else:
                soft[column] = support
        missing = [
            d.id
            for c, d in enumerate(self.space.decisions)
            if c not in soft and own[c] < 0 and roles[c] != "outside" and d.id not in weights
        ]
        if missing and row is None:
            raise ValueError(
                f"`weights` has none for {missing[0]!r}, and there is no `row` for it."
            )
        key = (
            tuple(own),
            tuple((c, tuple(s)) for c, s in sorted(soft.items())),
            tuple(sorted(straight)),
        )
        found = self._mixed.get(key)
        if found is None:
            found = self._mixed[key] = self.relaxation.network(
                own, soft, Weights({}, frozenset(straight))
            )
            if len(self._mixed) > NETWORKS:
                self._mixed.popitem(last=False)
        assert found.weights is not None
        found.weights.of.update({c: used[c] for c in soft})
        self._selected = found
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        network = self._selected
        if network is None:
            raise SymnasError("Nothing is selected: net.select(row) first.")
        network.fill()
        network.train(self.training)
        return network.module(*args, **kwargs)

    def child(self, row: Any) -> nn.Module:
        module, parts = real(self.space._compiled.root, self._row(row))
        with torch.no_grad():
            for part in parts:
                for slot in part.slots:
                    if slot.shared and not slot.alias:
                        weight = self.weights.weight(part.place, slot, part.own)
                        stored = self.weights.tensor(weight)
                        slot.empty.copy_(weight.layout.take(stored, tuple(slot.empty.shape)))
        assert isinstance(module, nn.Module)
        return module.train(self.training)
