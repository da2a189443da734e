"""`Supernet`: all networks of a space in one module that shares their weights."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from symnas.architecture.architecture import Architecture
from symnas.errors import SymnasError
from symnas.supernet.network import Network
from symnas.supernet.survey import Survey
from symnas.supernet.templates import Pool
from symnas.supernet.weights import Store, _real

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
        self._selected: Network | None = None

    def _row(self, row: Any) -> list[int]:
        if isinstance(row, Architecture):
            row = self.space.encode(row) if row.space is not self.space else row.row
        found = np.asarray(row, np.int32).reshape(-1)
        if not self.space.is_row(found):
            raise ValueError(f"`row` ({found.tolist()}) is no row of {self.space!r}.")
        return found.tolist()  # type: ignore[no-any-return]

    def _network(self, row: Any) -> Network:
        key = np.asarray(row.row if isinstance(row, Architecture) else row, np.int32).tobytes()
        found = self._networks.get(key)
        if found is None:
            found = self._networks[key] = Network(
                self.space, self._row(row), self._pool, self.weights
            )
            if len(self._networks) > NETWORKS:
                self._networks.popitem(last=False)
        else:
            self._networks.move_to_end(key)
        return found

    def select(self, row: Any) -> Supernet:
        self._selected = self._network(row)
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        network = self._selected
        if network is None:
            raise SymnasError("Nothing is selected: net.select(row) first.")
        network.fill()
        network.train(self.training)
        return network.module(*args, **kwargs)

    def child(self, row: Any) -> nn.Module:
        module, parts = _real(self.space._compiled.root, self._row(row), "")
        with torch.no_grad():
            for place, own, slots in parts:
                for slot in slots:
                    if slot.shared and not slot.alias:
                        weight = self.weights.weight(place, slot, own)
                        shape = tuple(slot.empty.shape)
                        stored = self.weights.tensor(weight)
                        slot.empty.copy_(weight.layout.take(stored, shape))
        assert isinstance(module, nn.Module)
        return module.train(self.training)
