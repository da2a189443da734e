"""How each decision of a supernet can be relaxed, found by trying it out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from symnas.searchspace import nodes
from symnas.supernet.masks import Mask, masks_of
from symnas.supernet.mixed import mixing
from symnas.supernet.mixtures import Fit, Values, Weights
from symnas.supernet.network import Context, Network
from symnas.supernet.parts import Call, Row, makes_modules, put_together
from symnas.supernet.survey import Part, parts_of
from symnas.supernet.templates import Pool, Slot, Template

if TYPE_CHECKING:
    from symnas.supernet.supernet import Supernet

# Rows on which relaxed one-hot decisions are compared with the network itself, and how much the
# outputs may differ, relative to their size.
TRIED, TOLERANCE = 6, 1e-3
# Values of one decision that are tried when it is tried alone.
VALUES = 4


class Relaxation:
    """The roles of decisions in a supernet's mixtures, by column.

    - "modules", "depth": candidates that are modules, or numbers of blocks: a weighted sum of their
      results.
    - "masks": widths and kernels: a mean in weight space, in one run of the largest.
    - "mixture": other arguments: a weighted sum of the results of a part's candidates.
    - "sampled": what none of these can do: one value is drawn.
    - "outside": what no network depends on.

    A decision has the first of masks, mixture, sampled in which one-hot weights give what the
    network itself gives, with random weights.

    Args:
        net: the supernet.
    """

    def __init__(self, net: Supernet) -> None:
        self.net, self.space = net, net.whole
        self.root = net.whole._compiled.root
        # Templates of its own: while a network is put together, another may have to be run.
        self._pool = Pool(1024)
        self.parts = {part.place: part for part in parts_of(self.root)}
        self.sizes = [column.size for column in net.whole._compiled.columns]
        self._shapes: dict[object, dict[str, tuple[int, ...]]] = {}
        self._masks: dict[object, tuple[Mask, ...]] = {}
        self._traced: dict[tuple[int, ...], dict[str, tuple[Any, Any]]] = {}
        self.base = self._largest()
        self.roles = self._structural()
        arguments = {c for part in self.parts.values() for c in part.columns}
        kind = "masks" if net.sharing == "entangled" else "mixture"
        for column in sorted(arguments - set(self.roles)):
            self.roles[column] = kind
        for column in range(len(self.sizes)):
            if net.whole._compiled.columns[column].kind == "float":
                self.roles[column] = "sampled" if column in arguments else "outside"
            self.roles.setdefault(column, "outside")
        if net.whole.input is not None or "input" in net.whole._extras:
            with _random_weights(net):
                self._try()

    # Roles ------------------------------------------------------------------------------------

    def _structural(self) -> dict[int, str]:
        roles: dict[int, str] = {}

        def visit(node: nodes.Node) -> None:
            if isinstance(node, nodes.Choice | nodes.Subset) and makes_modules(node):
                roles[node.column] = "modules"
            elif isinstance(node, nodes.Picks) and makes_modules(node):
                roles.update(dict.fromkeys(node.columns, "modules"))
            elif isinstance(node, nodes.Repeated):
                for column in nodes.columns_of(node.times):
                    roles.setdefault(column, "depth")
            for child in nodes.children(node):
                visit(child)

        visit(self.root)
        return roles

    def _largest(self) -> list[int]:
        """The value of each decision with the largest weights, the others having their last."""
        base = [size - 1 for size in self.sizes]
        for column, size in enumerate(self.sizes):
            own = [part for part in self.parts.values() if column in part.columns]
            if not own or size > 1000:
                continue
            totals = [
                sum(
                    float(np.prod(shape))
                    for part in own
                    for shape in self._shape_at(part, _with(base, {column: value})).values()
                )
                for value in range(size)
            ]
            base[column] = int(np.argmax(totals)) if max(totals) > min(totals) else size - 1
        return base

    def _shape_at(self, part: Part, row: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """The shapes of a part's weights at a row; none where it cannot be made."""
        key = (part.place, tuple(row[c] for c in part.columns))
        if key not in self._shapes:
            found: dict[str, tuple[int, ...]] = {}
            counts: dict[object, int] = {}

            def make(place: str, call: Call) -> Any:
                number = counts[call.key] = counts.get(call.key, -1) + 1
                template: Template = self._pool(call, number)
                if place == part.place:
                    found.update({s.name: tuple(s.empty.shape) for s in template.slots if s.shared})
                return template.made

            try:
                put_together(part.node, row, make, part.place)
            except Exception:  # a combination that the space excludes
                found = {}
            self._shapes[key] = found
        return self._shapes[key]

    def _try(self) -> None:
        """Takes the roles back that do not hold."""
        for column in [c for c, role in self.roles.items() if role in ("modules", "depth")]:
            if not self._sums_up(column):
                self.roles[column] = "sampled"
        if self._agrees(self._tried()):
            return
        arguments = [c for c, role in self.roles.items() if role in ("masks", "mixture")]
        for column in arguments:
            self._demote(column)
        for _ in range(len(arguments)):
            wrong = self._first_wrong(self._tried())
            if wrong is None:
                return
            for column in wrong:
                self.roles[column] = "sampled"

    def _sums_up(self, column: int) -> bool:
        """Whether the results of a decision's candidates have the same shapes, as far as it shows."""
        rows = self.space.sample(64, 3)
        rows = rows[rows[:, column] >= 0][:2]
        weights = Weights({column: torch.full((self.sizes[column],), 1 / self.sizes[column])})
        for row in rows.tolist():
            # Decisions within candidates that are not chosen are inactive: any value does.
            try:
                network = self.network(row, {column: range(self.sizes[column])}, weights)
                network.fill()
                network.train(False)
                with torch.no_grad():
                    network.module(self._input(row))
            except Exception:
                return False
        return True

    def _demote(self, column: int) -> None:
        """The best role in which one decision alone agrees."""
        for role in ("masks", "mixture"):
            if role == "masks" and self.roles[column] != "masks":
                continue
            self.roles[column] = role
            values = np.unique(np.linspace(0, self.sizes[column] - 1, VALUES).astype(int))
            row = self._active_row(column)
            if row is None:
                return
            rows = []
            for value in values.tolist():
                rows.append([*row])
                rows[-1][column] = value
            if self._agrees(rows, {column}):
                return
        self.roles[column] = "sampled"

    def _active_row(self, column: int) -> list[int] | None:
        """A row in which the decision is active, and the other arguments are the largest."""
        rows = self.space.sample(256, 3)
        rows = rows[rows[:, column] >= 0]
        if not len(rows):
            return None
        row: list[int] = rows[0].tolist()
        return [
            self.base[c] if v >= 0 and self.roles[c] in ("masks", "mixture", "sampled") else v
            for c, v in enumerate(row)
        ]

    def _tried(self) -> list[list[int]]:
        rows = self.space.sample(4 * TRIED, 5)
        found: list[list[int]] = rows[self.space.is_valid(rows)][:TRIED].tolist()
        return found

    def _agrees(self, rows: list[list[int]], columns: set[int] | None = None) -> bool:
        return all(self._agrees_at(row, columns) for row in rows)

    def _first_wrong(self, rows: list[list[int]]) -> set[int] | None:
        """Decisions whose relaxation disagrees together on some row: the masks first."""
        for row in rows:
            if self._agrees_at(row, None):
                continue
            soft = [c for c, r in self.roles.items() if r in ("masks", "mixture") and row[c] >= 0]
            together: set[int] = set()
            for column in soft:
                if not self._agrees_at(row, together | {column}):
                    return {column}
                together.add(column)
            return set(soft)
        return None

    def _agrees_at(self, row: list[int], columns: set[int] | None) -> bool:
        """Whether one-hot weights of these decisions (default: all) give the network's output."""
        x = self._input(row)
        soft = [
            c
            for c, role in self.roles.items()
            if row[c] >= 0 and role in ("masks", "mixture") and (columns is None or c in columns)
        ]
        weights = Weights({c: _one_hot(self.sizes[c], row[c]) for c in soft})
        try:
            # All values are run, so that it is the relaxation that is tried.
            relaxed = self.network(row, {c: range(self.sizes[c]) for c in soft}, weights)
            with torch.no_grad():
                relaxed.fill()
                relaxed.train(False)
                mixed = _first_tensor(relaxed.module(x))
                plain = self._plain(row)
                plain.fill()
                plain.train(False)
                own = _first_tensor(plain.module(x))
        except Exception:
            return False
        if mixed is None or own is None or mixed.shape != own.shape:
            return False
        scale = float(own.abs().max()) + 1e-6
        return float((mixed - own).abs().max()) <= TOLERANCE * scale

    def _input(self, row: Row) -> Tensor:
        shape = self.space.decode(np.array(row, np.int32)).input if self.space.is_row(row) else None
        shape = shape or self.space.decode(self.space.sample(1, 0)[0]).input
        assert shape is not None
        tensor = next(self.net.parameters(), torch.zeros(1))
        generator = torch.Generator().manual_seed(0)
        return torch.randn(2, *shape, generator=generator).to(tensor)

    def _plain(self, row: Row) -> Network:
        return Network.of(
            lambda make: put_together(self.root, row, make), self.net._pool, self.net.weights
        )

    # Networks ---------------------------------------------------------------------------------

    def network(self, row: Row, soft: Mapping[int, Sequence[int]], weights: Weights) -> Network:
        """A network with some decisions relaxed, the others as in the row.

        Args:
            row: of the decisions that are not relaxed; of the others their largest values are
                taken.
            soft: the values of relaxed decisions that are run.
            weights: of the values.
        """
        masked = frozenset(c for c in soft if self.roles[c] == "masks")
        own = [self.base[c] if c in soft or value < 0 else value for c, value in enumerate(row)]

        def masks(place: str, slot: Slot, row: tuple[int, ...]) -> tuple[Mask, ...]:
            return self._masks_of(place, slot, row, masked)

        full = Weights(
            {
                **{
                    c: _one_hot(n, own[c])
                    for c, n in enumerate(self.sizes)
                    if n <= 4096 and c not in soft
                }
            }
        )
        full.of.update(weights.of)
        full.straight = weights.straight
        context = Context()
        put = mixing(self.root, own, soft, masked, full, self._fit, context)
        return Network.of(
            put, self.net._pool, self.net.weights, masks if masked else None, full, context
        )

    def _masks_of(
        self, place: str, slot: Slot, row: tuple[int, ...], masked: frozenset[int]
    ) -> tuple[Mask, ...]:
        """The masks of a part's weight, the part being made of a row, for some decisions."""
        part = self.parts.get(place)
        # Of the others, which the row decides, the weight may not be the largest.
        columns = [c for c in part.columns if c in masked] if part else []
        if part is None or not columns:
            return ()
        key = (place, slot.name, tuple(row[c] for c in part.columns), tuple(columns))
        if key not in self._masks:

            def shape_at(values: dict[int, int]) -> tuple[int, ...] | None:
                return self._shape_at(part, _with(row, values)).get(slot.name)

            sizes = {c: self.sizes[c] for c in columns}
            found = masks_of(slot.layout, tuple(slot.empty.shape), sizes, shape_at)
            self._masks[key] = tuple(found)
        return self._masks[key]

    def _fit(self, place: str, row: Sequence[int], values: Values) -> Fit | None:
        """The shapes of a part's candidate, where they are not those of the largest."""
        if not any(column in self._reshaping for column, _ in values):
            return None
        around = tuple(_with(row, {c: self.base[c] for c, _ in values}))
        largest = self._trace(around).get(place)
        own = self._trace(tuple(_with(around, dict(values)))).get(place)
        if largest is None or own is None or own == largest:
            return None
        return Fit(own[0], own[1], largest[1])

    @cached_property
    def _reshaping(self) -> set[int]:
        """Decisions on arguments that change the shapes of what parts take and give."""
        found = set()
        base = self._trace(tuple(self.base))
        for column in {c for part in self.parts.values() for c in part.columns}:
            row = self._active_row(column)
            if row is None or self.sizes[column] > 1000:
                continue
            base = self._trace(tuple(_with(row, {column: self.base[column]})))
            for value in range(self.sizes[column]):
                if self._trace(tuple(_with(row, {column: value}))) != base:
                    found.add(column)
                    break
        return found

    def _trace(self, row: tuple[int, ...]) -> dict[str, tuple[Any, Any]]:
        """The shapes that parts take and give in a network, without the batch."""
        if row not in self._traced:
            found: dict[str, tuple[Any, Any]] = {}
            self._traced[row] = found
            if self.space.input is None and "input" not in self.space._extras:
                return found
            names: dict[int, str] = {}

            def put(make: Any) -> Any:
                def named(place: str, call: Call) -> Any:
                    made = make(place, call)
                    if isinstance(made, nn.Module):
                        names.setdefault(id(made), place)
                    return made

                return put_together(self.root, row, named)

            def note(module: nn.Module, args: Any, output: Any) -> None:
                if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
                    found[names[id(module)]] = (tuple(args[0].shape[1:]), tuple(output.shape[1:]))

            try:
                # On the meta device, where templates are: shapes alone.
                network = Network.of(put, self._pool, self.net.weights)
                network.train(False)
                handles = [
                    module.register_forward_hook(note)
                    for module in network.module.modules()
                    if id(module) in names
                ]
                try:
                    x = self._input(row).to("meta")
                    with torch.no_grad(), torch.device("meta"):
                        network.module(x)
                finally:
                    for handle in handles:
                        handle.remove()
            except Exception:
                found.clear()
        return self._traced[row]


def _with(row: Sequence[int], values: Mapping[int, int]) -> list[int]:
    changed = list(row)
    for column, value in values.items():
        changed[column] = value
    return changed


def _one_hot(size: int, value: int) -> Tensor:
    return nn.functional.one_hot(torch.tensor(max(value, 0)), size).float()


def _first_tensor(output: Any) -> Tensor | None:
    from torch.utils import _pytree as pytree

    return next((x for x in pytree.tree_leaves(output) if isinstance(x, Tensor)), None)


@contextlib.contextmanager
def _random_weights(net: Supernet) -> Iterator[None]:
    """Weights under which nothing is hidden by a zero or a one, for a while."""
    saved = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.state_dict(keep_vars=True).items():
            if not tensor.is_floating_point():
                continue
            drawn = torch.rand(tensor.shape, generator=generator).to(tensor)
            if tensor.ndim > 1:
                fan = tensor[0].numel()
                tensor.copy_((2 * drawn - 1) * (6 / fan) ** 0.5)
            else:
                tensor.copy_(0.5 + drawn if "var" in name or "weight" in name else drawn - 0.5)
    try:
        yield
    finally:
        net.load_state_dict(saved)
