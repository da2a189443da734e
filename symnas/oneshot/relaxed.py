"""What differentiable one-shot algorithms share: logits that are trained by gradients.

A run alternates steps of the supernet's weights and of the logits, on two parts of the training
data. An algorithm says how the decisions are weighted in a step, by `mixture`; that is all it needs
to say. What it derives keeps the constraints in any case; a penalty on the expected costs makes the
relaxed solution approach the limits too.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from symnas.costs.bound import BoundCost
from symnas.costs.bound_constraints import LimitedCost
from symnas.costs.comparison import Limits
from symnas.errors import SymnasError
from symnas.oneshot.algorithm import OneShot, OneShotRun
from symnas.oneshot.derive import likeliest
from symnas.oneshot.logits import Logits
from symnas.oneshot.workshop import Workshop
from symnas.searching.checks import at_least, number
from symnas.searchspace import nodes
from symnas.searchspace.parts import columns_in, flattened
from symnas.supernet.supernet import Supernet
from symnas.supernet.survey import parts_of
from symnas.tasks.batches import Batch

Rows = NDArray[np.int32]
Mixed = dict[str, Tensor]

# Decisions on arguments with more values than this are no choices of operations.
MOST_VALUES = 100


@attrs.frozen(kw_only=True)
class Relaxed(OneShot):
    """A one-shot algorithm that trains logits of decisions by gradients.

    Args:
        warmup: epochs in which only weights train.
        share: of the training data that weights are trained on; logits are on the rest.
        logits_lr, logits_betas, logits_weight_decay: of Adam, which trains the logits.
        penalty: weight of how far expected costs are beyond their limits, relative to the limits;
            0 leaves the limits to what is derived in the end.
    """

    warmup: int = attrs.field(default=0, validator=at_least(0))
    share: float = attrs.field(default=0.5, validator=number(0, 1, inside=True))
    logits_lr: float = attrs.field(default=3e-4, validator=number(0, inside=True))
    logits_betas: tuple[float, float] = attrs.field(default=(0.5, 0.999), converter=tuple)
    logits_weight_decay: float = attrs.field(default=1e-3, validator=number(0))
    penalty: float = attrs.field(default=1.0, validator=number(0))


class RelaxedRun(OneShotRun):
    """The run of an algorithm that trains logits by gradients.

    Subclasses write `mixture`, and may replace `step`, `update_weights`, `update_logits` and
    `probabilities`.

    Attributes:
        resizes: whether it can choose the resolution of inputs.
        workshop: the supernet, the data.
        logits: of the decisions.
        weights_optimizer, logits_optimizer: of the supernet's weights, and of the logits.
        steps: pairs of batches seen so far.
        row: the values of decisions that have no logits.
        limited: the costs with limits.
        free: which candidates have no parameters, see `without_weights`.
    """

    resizes: ClassVar[bool] = False

    algorithm: Relaxed

    def begin(self, workshop: Workshop) -> None:
        """Prepares logits and optimizers.

        Raises:
            SymnasError: the resolution of inputs is a choice, or nothing is.
        """
        self.workshop, space = workshop, self.problem.space
        name = type(self.algorithm).__name__
        chosen = "input" in space._extras and nodes.columns_of(space._extras["input"])
        if chosen and not self.resizes:
            raise SymnasError(
                f"{name} mixes networks on one batch, so all must take inputs of one size; this space "
                "chooses it. Fix the input (space.fix({...})), or take an algorithm that trains single "
                "networks, such as alg.SinglePathOneShot()."
            )
        self.logits = self.make_logits().to(workshop.device)
        if not len(self.logits):
            raise SymnasError(f"{name}: {space!r} has no decision on the network to be learned.")
        settings = self.algorithm
        self.weights_optimizer = workshop.optimizer()
        self.logits_optimizer = torch.optim.Adam(
            self.logits.parameters(),
            lr=settings.logits_lr,
            betas=settings.logits_betas,
            weight_decay=settings.logits_weight_decay,
        )
        self.row: NDArray[np.int32] = workshop.feasible(1, 0)[0]
        checks = self.problem.constraints.checks if self.problem.constraints is not None else ()
        self.limited = [check for check in checks if isinstance(check, LimitedCost)]
        self.steps = 0
        # How decisions are relaxed is found out now, so that no epoch depends on where it is done.
        self.free = {
            id_: free.to(workshop.device)
            for id_, free in without_weights(workshop.net).items()
            if id_ in self.logits.logits()
        }

    def make_logits(self) -> Logits:
        """The logits in the beginning."""
        return Logits(self.problem.space)

    # To be written --------------------------------------------------------------------------

    def mixture(self, purpose: str) -> Mixed:
        """How the values of decisions are weighted in a step, with gradients to the logits.

        Args:
            purpose: "weights" or "logits": what the step trains.
        """
        raise NotImplementedError

    def probabilities(self) -> Mixed:
        """The probabilities of which costs are expected, with gradients, and rows derived."""
        return self.logits.probabilities()

    # Training -------------------------------------------------------------------------------

    @property
    def steps_an_epoch(self) -> int:
        """Pairs of batches in an epoch."""
        return self.workshop.pairs(self.algorithm.share)

    @property
    def progress(self) -> float:
        """The share of all steps that are done."""
        return min(1.0, self.steps / (self.workshop.epochs * self.steps_an_epoch))

    def learns(self, number: int) -> bool:
        """Whether logits train in an epoch."""
        return number >= self.algorithm.warmup

    def epoch(self, number: int) -> dict[str, float]:
        shop, learns = self.workshop, self.learns(number)
        shop.net.train()
        totals: dict[str, float] = {}
        count = 0
        for first, second in shop.halves(number, self.algorithm.share):
            shop.set_rate(self.weights_optimizer, self.steps, shop.epochs * self.steps_an_epoch)
            for name, value in self.step(first, second if learns else None).items():
                totals[name] = totals.get(name, 0.0) + value
            self.steps += 1
            count += 1
        told = {name: total / max(1, count) for name, total in totals.items()}
        return {**told, "entropy": float(self.logits.entropy().detach())}

    def step(self, first: Batch, second: Batch | None) -> dict[str, float]:
        """One step of the logits and one of the weights, in this order; returns their losses.

        Args:
            first: to train weights on.
            second: to train logits on; None: they stay as they are.
        """
        told = {} if second is None else {"choice loss": self.update_logits(first, second)}
        return {"loss": self.update_weights(first), **told}

    def update_weights(self, batch: Batch) -> float:
        """One step of the supernet's weights."""
        self.mix(self.mixture("weights"), detached=True)
        loss = self.workshop.loss(batch)
        self.weights_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.weights_optimizer.step()
        return float(loss.detach())

    def update_logits(self, first: Batch, second: Batch) -> float:
        """One step of the logits on the second batch."""
        self.mix(self.mixture("logits"))
        loss = self.with_costs(self.workshop.loss(second))
        self.descend(torch.autograd.grad(loss, self.parameters, allow_unused=True))
        return float(loss.detach())

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The logits, as tensors."""
        return list(self.logits.parameters())

    def mix(self, weights: Mixed, detached: bool = False) -> None:
        """Has the supernet run a mixture; detached, where only weights train."""
        found = {id_: w.detach() for id_, w in weights.items()} if detached else weights
        self.workshop.net.mix(found, self.row)

    def descend(self, gradients: Any) -> None:
        """One step of the logits' optimizer. Logits without a gradient stay as they are."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.logits_optimizer.step()

    # Costs ----------------------------------------------------------------------------------

    def with_costs(self, loss: Tensor, probabilities: Mixed | None = None) -> Tensor:
        """The loss, and the penalty on what costs are expected to be.

        With a reward, its value of minus the loss is improved instead, or the logarithm of its
        value of `exp(-loss)`, where it multiplies the quality.

        Args:
            loss: on data.
            probabilities: of which costs are expected; default: `probabilities()`.
        """
        if self.problem.reward is not None:
            probabilities = probabilities or self.probabilities()
            loss = self._rewarded(loss, probabilities)
        # What has to be measured, and is dear to, is kept below its limit in the end alone.
        limited = [check for check in self.limited if not check.cost.dear]
        if self.algorithm.penalty == 0 or not limited:
            return loss
        probabilities = probabilities or self.probabilities()
        for check in limited:
            beyond = hinge(check.cost.expected(probabilities), check.constraint.limits)
            loss = loss + self.algorithm.penalty * beyond.to(loss)
        return loss

    def _rewarded(self, loss: Tensor, probabilities: Mixed) -> Tensor:
        reward: Any = self.problem.reward
        known = self.problem.costs
        wanted = [cost.name for cost in getattr(reward, "costs", ())] or list(known)
        costs = {name: known[name].expected(probabilities).to(loss) for name in wanted}
        if getattr(reward, "needs_positive", False):
            return -torch.log(reward(torch.exp(-loss), costs))
        return torch.as_tensor(-reward(-loss, costs))

    # The result -----------------------------------------------------------------------------

    def derive(self, n: int) -> Rows:
        with torch.no_grad():
            return likeliest(self.problem, self.probabilities(), n)

    def notes(self) -> dict[str, float]:
        with torch.no_grad():
            probabilities = self.probabilities()
            rows = self.derive(1)
            told = {"entropy": float(self.logits.entropy()), **self._share_of_free(rows)}
            # An upper limit is noted last: where a cost has two limits, it is the one to be told.
            for check in sorted(self.limited, key=lambda c: c.constraint.limits.upper is not None):
                told.update(noted(check.cost, check.constraint.limits, probabilities, rows))
        return told

    def _share_of_free(self, rows: Rows) -> dict[str, float]:
        """Of the decisions with such candidates, the share for which the first row has one."""
        columns = {id_: column for column, id_ in enumerate(self.problem.space.columns)}
        values = {id_: int(rows[0, columns[id_]]) for id_ in self.free} if len(rows) else {}
        chosen = [bool(self.free[id_][value]) for id_, value in values.items() if value >= 0]
        return {"parameter-free": sum(chosen) / len(chosen)} if chosen else {}

    def state(self) -> dict[str, Any]:
        return {
            "logits": self.logits.state_dict(),
            "logits optimizer": self.logits_optimizer.state_dict(),
            "weights optimizer": self.weights_optimizer.state_dict(),
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.logits.load_state_dict(state["logits"])
        self.logits_optimizer.load_state_dict(state["logits optimizer"])
        self.weights_optimizer.load_state_dict(state["weights optimizer"])
        self.steps = state["steps"]


def hinge(expected: Tensor, limits: Limits) -> Tensor:
    """How far a cost is beyond its limit, relative to the limit; 0 where it keeps it.

    >>> hinge(torch.tensor(150.0), Limits(upper=100.0)), hinge(torch.tensor(50.0), Limits(upper=100.0))
    (tensor(0.5000), tensor(0.))
    """
    beyond = torch.zeros_like(expected)
    for limit, sign in ((limits.upper, 1.0), (limits.lower, -1.0)):
        if limit is not None:
            beyond = beyond + torch.relu(sign * (expected - limit) / (abs(limit) or 1.0))
    return beyond


def noted(cost: BoundCost, limits: Limits, probabilities: Mixed, rows: Rows) -> dict[str, float]:
    """What a result tells of a limited cost: expected, of the first row, and the limit."""
    target = limits.upper if limits.upper is not None else limits.lower
    assert target is not None
    told = {
        f"relaxed {cost.name}": float(cost.expected(probabilities)),
        f"target {cost.name}": target,
    }
    if len(rows):
        told[f"discrete {cost.name}"] = float(cost(rows[:1])[0])
    return told


def without_weights(net: Supernet) -> dict[str, Tensor]:
    """The candidates that have no parameters, of each decision that has both kinds.

    A candidate that is a module with choices of its own has parameters if any network with it does
    there. A candidate that is an argument (the name of an operation, say) has some if modules made
    with it have parameters of their own, where with others they have none.

    Returns:
        By decision id: `(values,)`, true where there are no parameters.

    >>> import symnas as sn
    >>> space = sn.Space(
    ...     sn.nn.Sequential(sn.oneof([sn.nn.Linear(4, 4), sn.nn.Identity()]), sn.nn.Linear(4, 2)),
    ...     input=(4,))
    >>> [free.tolist() for free in without_weights(sn.Supernet(space)).values()]
    [[False, True]]
    """
    root, columns, relaxation = net.whole._compiled.root, net.whole.columns, net.relaxation
    known = {(place, name): not w.buffer for (place, name, _), w in net.weights.known.items()}
    stored = {place for (place, _), trained in known.items() if trained}
    # Kept while they are looked up by their ids.
    parts = list(parts_of(root))
    heavy = {
        id(part.node)
        for part in parts
        if any(
            s == part.place or s.startswith((f"{part.place}/", f"{part.place}[")) for s in stored
        )
    }
    found: dict[str, Tensor] = {}

    def free(node: nodes.Node) -> bool:
        return not any(id(part.node) in heavy for part in parts_of(node))

    def visit(node: nodes.Node) -> None:
        match node:
            case nodes.Choice():
                told = {node.column: [free(c) for c in node.candidates]}
            case nodes.Subset():
                each = [free(c) for c in node.candidates]
                told = {node.column: [all(each[i] for i in subset) for subset in node.subsets]}
            case nodes.Picks():
                pairs = zip(node.columns, node.candidates, strict=True)
                told = {column: [free(c) for c in choices] for column, choices in pairs}
            case _:
                told = {}
        for column, kinds in told.items():
            if relaxation.roles[column] == "modules" and any(kinds) and not all(kinds):
                found[columns[column]] = torch.tensor(kinds)
        for child in nodes.children(node):
            visit(child)

    visit(root)
    for part in parts:
        for column in part.columns:
            row, size = list(relaxation.base), relaxation.sizes[column]
            if part.place not in stored or size > MOST_VALUES:
                continue
            kinds = []
            for value in range(size):
                row[column] = value
                names = relaxation._shape_at(part, row)
                kinds.append(not any(known.get((part.place, name)) for name in names))
            if any(kinds) and not all(kinds):
                # Where one decision makes several such modules, none of them may have parameters.
                free_here = torch.tensor(kinds)
                found[columns[column]] = found.get(columns[column], free_here) & free_here
    whole = dict(zip(columns, range(len(columns)), strict=True))
    kept = flattened(net.space, net.whole)
    own = dict(zip(columns_in(net.space, net.whole), net.space.columns, strict=True))
    told = {}
    for id_, bare in found.items():
        column = whole[id_]
        bare = bare if kept[column] is None else bare[torch.tensor(kept[column])]
        if column in own and bare.any() and (kept[column] is None or not bare.all()):
            told[own[column]] = bare
    return told
