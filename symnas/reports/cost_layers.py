"""What each layer of one network contributes to a cost, and the sums by module."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from symnas.reports.drawing import kind_of

if TYPE_CHECKING:
    import torch

    from symnas.architecture.architecture import Architecture
    from symnas.costs.model import CostModel

# Modules that are told apart, at most.
MODULES = 24


@attrs.frozen
class LayerCost:
    """What one layer adds to a cost, or one operation between layers.

    Attributes:
        path: of the module, as in `named_modules()`; "" for what the network itself does.
        kind: for people: `Conv2d`, or the name of an operation, `add`.
        group: the sort of layer: a key of `symnas.reports.drawing.KINDS`.
        cost: in the unit of the cost model.
    """

    path: str
    kind: str
    group: str
    cost: float


@attrs.frozen
class ModuleCost:
    """What a module with all that is within it adds to a cost.

    Attributes:
        path: of the module.
        kind: its class, or the operation, where there is only one; "" for several modules.
        groups: cost by sort of layer.
        single: whether it is one module, rather than what is left of many.
    """

    path: str
    kind: str
    groups: dict[str, float]
    single: bool = True

    @property
    def cost(self) -> float:
        """The sum over all sorts of layers."""
        return sum(self.groups.values())


def layer_costs(model: CostModel, architecture: Architecture) -> list[LayerCost]:
    """The cost of each layer of a network, in order of execution.

    A layer that is called twice is there twice. The layers are priced one by one: a cost that is
    calibrated when it is bound to a space, such as a latency, is not calibrated here.

    Args:
        model: a cost that is a sum over layers, or a sum of such costs.
        architecture: whose network.

    Raises:
        ValueError: the cost is no sum over layers; or the architecture does not say the shape of
            one example, and the cost needs it.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> net = sn.Architecture(sn.nn.Sequential(sn.nn.Linear(4, 3), sn.nn.ReLU()), input=(4,))
    >>> [(c.path, c.kind, c.cost) for c in layer_costs(cm.Macs(), net)]
    [('0', 'Linear', 12.0), ('1', 'ReLU', 0.0)]
    """
    return _costs(model, architecture)[0]


def module_costs(
    model: CostModel, architecture: Architecture, depth: int | None = None, most: int = MODULES
) -> list[ModuleCost]:
    """The cost of each module of a network, in order of execution.

    Args:
        model: a cost that is a sum over layers.
        architecture: whose network.
        depth: how many levels of modules are told apart; None for as many as `most` modules allow.
        most: modules to be told apart; where there are more at the first level already, the
            cheapest ones are put together.

    Raises:
        ValueError: as `layer_costs`; or `depth` or `most` is less than 1.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> body = sn.nn.Sequential(sn.nn.Linear(4, 3), sn.nn.Linear(3, 2))
    >>> net = sn.Architecture(sn.nn.Sequential(body, sn.nn.Linear(2, 1)), input=(4,))
    >>> [(m.path, m.kind, m.cost) for m in module_costs(cm.Macs(), net, depth=1)]
    [('0', 'Sequential', 18.0), ('1', 'Linear', 2.0)]
    """
    for name, value in (("depth", depth), ("most", most)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"`{name}` ({value!r}) must be a whole number of at least 1.")
    costs, network = _costs(model, architecture)
    classes = {path: type(module).__name__ for path, module in network.named_modules()}
    costs = [cost for cost in costs if cost.cost]
    deepest = max((_levels(cost.path) for cost in costs), default=1)
    chosen = depth or next(
        (d for d in range(deepest, 0, -1) if len({_cut(c.path, d) for c in costs}) <= most), 1
    )
    found: dict[str, ModuleCost] = {}
    for cost in costs:
        path = _cut(cost.path, chosen)
        if path not in found:
            found[path] = ModuleCost(path, classes.get(path, ""), {})
        groups = found[path].groups
        groups[cost.group] = groups.get(cost.group, 0.0) + cost.cost
    return _largest(list(found.values()), most)


def _costs(model: CostModel, architecture: Architecture) -> tuple[list[LayerCost], torch.nn.Module]:
    from symnas.costs.combined import Weighted
    from symnas.costs.hardware import options_with_choices, resolved
    from symnas.costs.layers import shape_network
    from symnas.costs.record import Recorder

    if isinstance(model, Weighted):
        parts = [_costs(part, architecture) for part in model.parts]
        weighted = [
            attrs.evolve(cost, cost=factor * cost.cost)
            for factor, (costs, _) in zip(model.factors, parts, strict=True)
            for cost in costs
        ]
        return weighted, parts[0][1]
    if options_with_choices(model):
        model = resolved(model, architecture)
    if not model.tabular:
        raise ValueError(
            f"{model.name} is no sum over the layers of a network, so there is nothing to tell of "
            "each: take a cost with `layer` or `price`, such as cm.Macs(), cm.Parameters() or "
            'cm.Latency(by="operations").'
        )
    storage = model.counts == "storage"
    if architecture.input is None and not storage:
        raise ValueError(
            f"{model.name} needs the shape of one example, without the batch: pass it, as in "
            "sn.Architecture(program, input=(3, 32, 32))."
        )
    network = shape_network(architecture)
    recorder = Recorder()
    if storage:
        run = recorder.storage(network)
    else:
        assert architecture.input is not None
        run = recorder.run(network, architecture.input)
    prices = list(model.price(recorder.pieces))
    modules = dict(network.named_modules())
    costs = []
    for (path, _, _), number in run:
        piece = recorder.pieces[number]
        layer = modules[path] if storage else piece.module
        kind = piece.kind if layer is None else type(layer).__name__
        costs.append(LayerCost(path, kind, _group(kind, layer), float(prices[number])))
    return costs, network


def _group(kind: str, layer: Any) -> str:
    """The sort of a layer; of an operation without a layer, by its name in torch."""
    grouped = getattr(layer, "groups", 1)
    label = "groups" if isinstance(grouped, int) and grouped > 1 else ""
    name = kind if layer is not None else re.sub(r"^_+|_+$", "", kind)
    return kind_of(_ATEN.get(name, name), label)


_ATEN = {
    "scaled_dot_product_attention": "attention",
    "addmm": "linear",
    "baddbmm": "bmm",
    "hardtanh": "relu",
    "adaptive_avg_pool2d": "pool",
}


def _levels(path: str) -> int:
    return path.count(".") + 1


def _cut(path: str, depth: int) -> str:
    return ".".join(path.split(".")[:depth])


def _largest(modules: list[ModuleCost], most: int) -> list[ModuleCost]:
    """The dearest modules in their order, and the others together."""
    if len(modules) <= most:
        return modules
    kept = set(sorted(range(len(modules)), key=lambda i: -abs(modules[i].cost))[: most - 1])
    rest = [module for i, module in enumerate(modules) if i not in kept]
    groups: dict[str, float] = {}
    for module in rest:
        for group, cost in module.groups.items():
            groups[group] = groups.get(group, 0.0) + cost
    shown = [module for i, module in enumerate(modules) if i in kept]
    return [*shown, ModuleCost(f"{len(rest)} other modules", "", groups, single=False)]


def groups_of(modules: Sequence[ModuleCost]) -> dict[str, float]:
    """The cost of each sort of layer in all modules, the dearest first."""
    totals: dict[str, float] = {}
    for module in modules:
        for group, cost in module.groups.items():
            totals[group] = totals.get(group, 0.0) + cost
    return dict(sorted(totals.items(), key=lambda item: -item[1]))
