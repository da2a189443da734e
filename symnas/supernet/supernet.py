"""`Supernet`: all networks of a space in one module that shares their weights."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from symnas.architecture.architecture import Architecture
from symnas.errors import SymnasError
from symnas.searchspace.parts import Part, columns_in, flattened, whole_of
from symnas.supernet.assembler import Assembler
from symnas.supernet.mixtures import Weights
from symnas.supernet.network import Network
from symnas.supernet.relaxation import Relaxation
from symnas.supernet.survey import Survey
from symnas.supernet.templates import Pool
from symnas.supernet.weights import RealPart, Store, real

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

# Templates and networks that are kept: a network of 20 blocks is some 200 modules.
TEMPLATES, NETWORKS = 4096, 32


def _caches() -> dict[str, Any]:
    """What a supernet keeps for speed, empty."""
    return {
        "_pool": Pool(TEMPLATES),
        "_networks": OrderedDict(),
        "_mixed": OrderedDict(),
        "_selected": None,
        "_assembled": None,
    }


class Supernet(nn.Module):
    """All networks of a space, sharing their weights; one of them, or a mixture, runs at a time.

    It is made from the program itself: the modules need to know nothing of it. The weights of a
    part of the program are stored in their largest shapes, from which each network takes slices:
    leading channels, and the middle of kernels. Candidates of a choice between modules have weights
    of their own. Weights whose meaning changes with a choice are kept apart: see `apart`.

    Initial weights come from torch's generator: `torch.manual_seed(...)` before repeats them.
    Making it costs one construction of each part for up to 64 combinations of its decisions; to
    select a network costs some milliseconds the first time, and a slice for each weight in each run.

    Args:
        space: of programs that make a `torch.nn.Module`.
        sharing: "entangled", as above (H. Cai et al., "Once-for-All", arXiv:1908.09791, Section
            3.3), or "separate": weights of its own for each combination of a part's arguments.

    Attributes:
        space, sharing: as given.
        whole: the space that the given one is a part of, or itself. Its are the weights, so that
            supernets of different parts can take over one another's.
        weights: the stored weights; the supernet's parameters.

    Raises:
        SymnasError: the program makes no module, or a weight was not foreseen (when it is
            selected).
        ValueError: `sharing` is none of the two.

    >>> import symnas as sn
    >>> width = sn.oneof([4, 8], name="width")
    >>> space = sn.Space(
    ...     sn.nn.Sequential(sn.nn.Linear(3, width), sn.nn.ReLU(), sn.nn.Linear(width, 2)), input=(3,))
    >>> net = sn.Supernet(space)
    >>> x = torch.randn(5, 3)
    >>> narrow = net.child([0])
    >>> narrow
    Sequential(
      (0): Linear(in_features=3, out_features=4, bias=True)
      (1): ReLU()
      (2): Linear(in_features=4, out_features=2, bias=True)
    )
    >>> torch.equal(narrow(x), net.select([0])(x))
    True
    >>> probabilities = torch.tensor([0.3, 0.7], requires_grad=True)
    >>> net.mix({space.columns[0]: probabilities})(x).sum().backward()
    >>> probabilities.grad.shape
    torch.Size([2])
    """

    _pool: Pool
    _networks: OrderedDict[bytes, Network]
    _mixed: OrderedDict[object, Network]
    _selected: Network | None
    _assembled: Assembler | None

    def __init__(self, space: Space, sharing: str = "entangled") -> None:
        super().__init__()
        if sharing not in ("entangled", "separate"):
            raise ValueError(f'`sharing` ({sharing!r}) must be "entangled" or "separate".')
        self.space = space
        self.whole = whole_of(space)
        self.sharing = sharing
        self.__dict__.update(_caches())
        survey = Survey(self.whole, self._pool, sharing == "separate")
        self.weights = Store(self.whole, survey)

    @property
    def apart(self) -> dict[str, int]:
        """Weights that could not be shared: their names, and how many there are of each.

        Such as those of convolutions with different groups: an input channel means another one.
        """
        counts = Counter((place, name) for place, name, _ in self.weights.known)
        if self.sharing == "separate":
            return {}
        return {f"{place}:{name}": n for (place, name), n in counts.items() if n > 1}

    # Running ----------------------------------------------------------------------------------

    def select(self, row: Any) -> Supernet:
        """Chooses the network that runs; returns the supernet.

        Args:
            row: of the space, `(columns,)`, or an `sn.Architecture` of it.

        Raises:
            ValueError: it is no row of the space.
        """
        self._selected = self._network(row)
        return self

    def mix(self, weights: Mapping[str, Tensor], row: Any = None) -> Supernet:
        """Chooses a mixture of networks to run; returns the supernet.

        Results of candidates that are modules, and of numbers of blocks, are summed, each times its
        weight. Widths and kernels are averaged in weight space, in one run of the largest network
        (see `symnas.supernet.masks`), where one-hot weights then give the selected network exactly;
        other arguments are mixed as candidates of their part; and where neither can be done, one
        value is drawn (torch's generator), with a straight-through gradient. `relaxation.roles` says
        which decision is treated how; it is found out, with random weights, at the first call.

        A value whose weight is exactly 0 is not run, and its weight has no gradient: one-hot weights
        run one path. Gradients flow to the weights' tensors when what they give is differentiated.

        Args:
            weights: of the values of decisions, by id: `(values,)` each, usually adding up to 1.
            row: for decisions without weights.

        Raises:
            ValueError: an id or a shape does not fit, or a decision has neither weights nor a row.
        """
        _check_weights(weights, self.space)
        fixed = [-1] * len(self.whole) if row is None else self._row(row)
        if self.space is not self.whole:
            weights = self._of_whole(weights, fixed)
        columns = {d.id: c for c, d in enumerate(self.whole.decisions)}
        roles = self.relaxation.roles
        soft: dict[int, list[int]] = {}
        straight = set()
        for id_, weight in weights.items():
            column = columns[id_]
            if roles[column] == "outside":
                continue
            support = torch.nonzero(weight.detach()).flatten().tolist()
            if roles[column] == "sampled" and len(support) > 1:
                support = [int(torch.multinomial(weight.detach().clamp_min(0), 1))]
                straight.add(column)
            if len(support) == 1 and not weight.requires_grad:
                fixed[column] = support[0]
            else:
                soft[column] = support
        for decision, column in zip(self.whole.decisions, columns.values(), strict=True):
            known = column in soft or fixed[column] >= 0 or roles[column] == "outside"
            if not known and row is None:
                raise ValueError(
                    f"`weights` has none for the decision {decision.id!r}. Give them, or a `row`."
                )
        network = self._mixture(fixed, soft, frozenset(straight))
        assert network.weights is not None
        network.weights.of.update({c: weights[self.whole.columns[c]] for c in soft})
        self._selected = network
        return self

    @cached_property
    def relaxation(self) -> Relaxation:
        """How each decision is relaxed: found at the first use, see `Relaxation`."""
        return Relaxation(self)

    @property
    def roles(self) -> dict[int, str]:
        """How the decisions of the space are relaxed, by column; see `Relaxation`."""
        roles, columns = self.relaxation.roles, columns_in(self.space, self.whole)
        return {c: roles[at] for c, at in enumerate(columns) if at in roles}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs what is selected or mixed.

        Raises:
            SymnasError: nothing is.
        """
        network = self._selected
        if network is None:
            raise SymnasError(
                "Nothing is selected to run: call net.select(row) or net.mix(weights)."
            )
        network.fill()
        network.train(self.training)
        return network.module(*args, **kwargs)

    # Networks of their own --------------------------------------------------------------------

    def child(self, row: Any) -> nn.Module:
        """A network of its own with a copy of its weights: what `select(row)` runs.

        Args:
            row: of the space, or an `sn.Architecture` of it.
        """
        module, parts = self._real(row)
        for part in parts:
            for slot in part.slots:
                if slot.shared and not slot.alias:
                    weight = self.weights.weight(part.place, slot, part.own)
                    stored = self.weights.tensor(weight).detach()
                    taken = weight.layout.take(stored, tuple(slot.empty.shape))
                    # Of the supernet's type, and on its device.
                    slot.empty.data = taken.clone(memory_format=torch.contiguous_format)
                elif not slot.shared:
                    slot.empty.data = self.weights.constant(part.place, part.own, slot)
        return module.train(self.training)

    def load_child(self, row: Any, state: Mapping[str, Tensor]) -> None:
        """Takes the weights of one network over, such as pretrained ones of the largest.

        Args:
            row: which network.
            state: its `state_dict`.

        Raises:
            RuntimeError: the names or shapes are not those of the network.
        """
        module, parts = self._real(row)
        module.load_state_dict(state)
        for part in parts:
            for slot in part.slots:
                if slot.shared and not slot.alias:
                    weight = self.weights.weight(part.place, slot, part.own)
                    weight.layout.put(self.weights.tensor(weight), slot.empty.detach())

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.parameters())
        apart = f", {len(self.apart)} of them kept apart" if self.apart else ""
        return (
            f"Supernet({self.space!r}, sharing={self.sharing!r}: {count:,} weights in "
            f"{len(self.weights.known)} tensors{apart})"
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "A supernet cannot be pickled: save net.state_dict(), and load it into sn.Supernet(space)."
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Supernet:
        """A supernet of the same space with weights of its own."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        memo[id(self.space)], memo[id(self.whole)] = self.space, self.whole
        # Not what is kept for speed: networks hold slices of the weights.
        kept = {"relaxation": None, **_caches()}
        for key, value in self.__dict__.items():
            if key not in kept:
                twin.__dict__[key] = copy.deepcopy(value, memo)
        twin.__dict__.update(_caches())
        return twin

    # Helpers ----------------------------------------------------------------------------------

    @property
    def _assembler(self) -> Assembler:
        if self._assembled is None:
            self._assembled = Assembler(
                self.whole._compiled.root, self.weights, TEMPLATES, self._networks.clear
            )
        return self._assembled

    def _real(self, row: Any) -> tuple[nn.Module, list[RealPart]]:
        module, parts = real(self.whole._compiled.root, self._row(row))
        if not isinstance(module, nn.Module):
            raise SymnasError(
                f"The program makes a {type(module).__name__}; a supernet needs a torch.nn.Module."
            )
        return module, parts

    def _row(self, row: Any) -> list[int]:
        if isinstance(row, Architecture):
            row = self.space.encode(row) if row.space is not self.space else row.row
        found = np.asarray(row, np.int32).reshape(-1)
        if not self.space.is_row(found):
            raise ValueError(f"`row` ({found.tolist()}) is no row of {self.space!r}.")
        space: Space = self.space
        rows = found[None]
        while isinstance(space, Part):
            rows = space.lift(rows)
            space = space.parent
        return [int(value) for value in rows[0]]

    def _of_whole(self, weights: Mapping[str, Tensor], fixed: list[int]) -> dict[str, Tensor]:
        """The weights of a part's decisions as weights of the whole's; `fixed` gets its values."""
        kept = flattened(self.space, self.whole)
        for column, values in enumerate(kept):
            if values is not None and len(values) == 1:
                fixed[column] = values[0]
        columns = dict(zip(self.space.columns, columns_in(self.space, self.whole), strict=True))
        found = {}
        for id_, weight in weights.items():
            decision = self.whole.decisions[columns[id_]]
            values = kept[columns[id_]]
            if values is not None:
                spread = weight.new_zeros(decision.size)
                weight = spread.index_put((torch.tensor(values, device=weight.device),), weight)
            found[decision.id] = weight
        return found

    def _network(self, row: Any) -> Network:
        key = np.asarray(row.row if isinstance(row, Architecture) else row, np.int32).tobytes()
        found = self._networks.get(key)
        if found is None:
            found = self._networks[key] = self._assembler(self._row(row))
            if len(self._networks) > NETWORKS:
                self._networks.popitem(last=False)
        else:
            self._networks.move_to_end(key)
        return found

    def _mixture(
        self, fixed: list[int], soft: dict[int, list[int]], straight: frozenset[int]
    ) -> Network:
        key = (tuple(fixed), tuple((c, *values) for c, values in sorted(soft.items())), straight)
        found = self._mixed.get(key)
        if found is None:
            weights = Weights({}, straight)
            found = self._mixed[key] = self.relaxation.network(fixed, soft, weights)
            if len(self._mixed) > NETWORKS:
                self._mixed.popitem(last=False)
        return found


def _check_weights(weights: Mapping[str, Tensor], space: Space) -> None:
    sizes = {d.id: d.size for d in space.decisions}
    for id_, weight in weights.items():
        if id_ not in sizes:
            raise ValueError(f"`weights` has {id_!r}, which is no decision of {space!r}.")
        if tuple(weight.shape) != (sizes[id_],):
            raise ValueError(
                f"`weights[{id_!r}]` has the shape {tuple(weight.shape)}; it must be ({sizes[id_]},)."
            )
