"""MSG-DAS: several paths a step that have no candidate in common, taught by the whole supernet.

H. Tan et al., "Mutually-aware Sub-Graphs Differentiable Architecture Search", arXiv:2107.04324: its
Gumbel-TopK sampler, Dropblock-Identity and super-net guidance, as the abstract describes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from symnas.errors import SymnasError
from symnas.oneshot.algorithm import OneShotRun
from symnas.oneshot.drop_block import drop_block
from symnas.oneshot.relaxed import Mixed, Relaxed, RelaxedRun
from symnas.oneshot.warmup import own_statistics
from symnas.oneshot.workshop import Workshop
from symnas.searching.checks import at_least, number
from symnas.searching.problem import Problem
from symnas.supernet.mixtures import Mixture
from symnas.tasks.batches import Batch

# Keeps log(1 - p) finite where the softmax is all but one-hot.
LEAST = 1e-6


@attrs.frozen(kw_only=True)
class MSGDAS(Relaxed):
    """Trains some paths a step that exclude one another, and learns where to draw them.

    For each decision, `log p + Gumbel noise` is drawn once a step; its largest values, in order, are
    what the paths take: no two paths have a candidate in common. A decision with fewer values than
    there are paths begins with its largest again. With one path it is GDAS.

    The paths run one after the other, forward and backward, so that memory is that of one. Each
    learns from the data and, by `distillation` times the KL divergence, from the outputs of the whole
    mixture, which runs without gradient. DropBlock (G. Ghiasi et al., NeurIPS 2018, arXiv:1810.12890,
    Algorithm 1) on the results of identities makes them less of a short cut while the rest is not
    trained.

    In the manner of the paper: that there are these three parts is from its abstract. Ours are their
    constants; the relaxation of the k-th draw, `p_k = softmax(a_k / temperature)`, `a_{k+1} = a_k +
    log(1 - p_k)`, used straight-through (of S. Xie and S. Ermon, arXiv:1901.10517); that a
    step follows the mean of the paths; that the logits learn from the data alone; the temperatures,
    halves and Adam of GDAS; and the penalty, the warm-up and what is derived, as there. For targets
    that are no classes, the squared difference from the mixture stands for the divergence.

    Args:
        paths: how many (K in the paper).
        distillation: weight of the divergence from the mixture; 0 does without the mixture.
        drop: share of an identity's result that is dropped, falling linearly to 0. Identities are
            meant that are candidates without parameters, beside others that have some.
        block: edge of the blocks that are dropped, in pixels; vectors lose single features.
        temperature, last_temperature: of the softmax, in the beginning and in the end.
        warmup, share, penalty: see `symnas.oneshot.relaxed`.
        logits_lr, logits_betas, logits_weight_decay: of Adam for the logits.

    >>> from symnas import algorithms as alg
    >>> alg.MSGDAS(epochs=5, logits_lr=0.01, paths=3)
    MSGDAS(epochs=5, sharing='entangled', retrain=True, warmup=0, share=0.5, logits_lr=0.01, logits_betas=(0.5, 0.999), logits_weight_decay=0.001, penalty=1.0, paths=3, distillation=1.0, drop=0.1, block=3, temperature=10.0, last_temperature=0.1)
    >>> alg.MSGDAS(paths=0)
    Traceback (most recent call last):
    ValueError: MSGDAS: the value of `paths` (0) must be at least 1.
    """

    paths: int = attrs.field(default=2, validator=at_least(1))
    distillation: float = attrs.field(default=1.0, validator=number(0))
    drop: float = attrs.field(default=0.1, validator=number(0, 1))
    block: int = attrs.field(default=3, validator=at_least(1))
    temperature: float = attrs.field(default=10.0, validator=number(0, inside=True))
    last_temperature: float = attrs.field(default=0.1, validator=number(0, inside=True))

    def __attrs_post_init__(self) -> None:
        if self.last_temperature > self.temperature:
            raise ValueError(
                f"MSGDAS: `last_temperature` ({self.last_temperature}) must not be above "
                f"`temperature` ({self.temperature})."
            )

    def start(self, problem: Problem) -> OneShotRun:
        return _MSGDAS(self, problem)


class _MSGDAS(RelaxedRun):
    algorithm: MSGDAS

    def begin(self, workshop: Workshop) -> None:
        super().begin(workshop)
        self.columns = {id_: column for column, id_ in enumerate(self.problem.space.columns)}
        self.skips = {
            (self.columns[id_], value)
            for id_, free in self.free.items()
            for value, bare in enumerate(free.tolist())
            if bare
        }

    @property
    def temperature(self) -> float:
        """Of this step: linear in the steps."""
        first, last = self.algorithm.temperature, self.algorithm.last_temperature
        return first + (last - first) * self.progress

    @property
    def drop(self) -> float:
        """The share of identities' results that is dropped in this step: linear in the steps."""
        return self.algorithm.drop * (1 - self.progress)

    def draw(self) -> list[tuple[Mixed, Mixed]]:
        """The weights of decisions in each path: one-hot, and the soft ones that have gradients."""
        paths: list[tuple[Mixed, Mixed]] = [({}, {}) for _ in range(self.algorithm.paths)]
        for id_, logits in self.logits.logits().items():
            hard, soft = gumbel_top_k(logits, min(len(paths), len(logits)), self.temperature)
            for k, path in enumerate(paths):
                path[0][id_], path[1][id_] = hard[k % len(hard)], soft[k % len(hard)]
        return paths

    def step(self, first: Batch, second: Batch | None) -> dict[str, float]:
        told = {"loss": self.update_weights(first)}
        if second is not None:
            told["choice loss"] = self.update_logits(first, second)
        return told

    def update_weights(self, batch: Batch) -> float:
        task, net, weight = self.workshop.task, self.workshop.net, self.algorithm.distillation
        taught = self.taught(batch) if weight else None
        self.weights_optimizer.zero_grad(set_to_none=True)
        paths, total = self.draw(), 0.0
        for hard, _ in paths:
            with self.mixed(hard):
                outputs = task.outputs(net, batch)
            loss = task.loss(outputs, batch)
            total += float(loss.detach()) / len(paths)
            if taught is not None:
                loss = loss + weight * self.divergence(outputs, taught)
            # One after the other: what a path keeps for its gradient is free before the next runs.
            (loss / len(paths)).backward()  # type: ignore[no-untyped-call]
        self.weights_optimizer.step()
        return total

    def update_logits(self, first: Batch, second: Batch) -> float:
        paths, ends, inner = self.draw(), [], []
        total = torch.zeros((), device=self.workshop.device)
        for hard, soft in paths:
            weights = [weight.requires_grad_() for weight in hard.values()]
            with self.mixed(hard):
                loss = self.workshop.loss(second) / len(paths)
            total += loss.detach()
            found = torch.autograd.grad(loss, weights, allow_unused=True)
            for end, gradient in zip(soft.values(), found, strict=True):
                if gradient is not None:
                    ends.append(end)
                    inner.append(gradient)
        # Straight-through, and by the chain rule the gradient of one loss over all paths.
        total.requires_grad_()
        loss = self.with_costs(total)
        outer, *direct = torch.autograd.grad(loss, [total, *self.parameters], allow_unused=True)
        through = torch.autograd.grad(
            ends, self.parameters, [outer * gradient for gradient in inner], allow_unused=True
        )
        self.descend([_sum(a, b) for a, b in zip(direct, through, strict=True)])
        return float(loss.detach())

    # Teaching ---------------------------------------------------------------------------------

    @torch.no_grad()
    def taught(self, batch: Batch) -> Tensor:
        """What the whole mixture gives for a batch: no dropout, and statistics of the batch."""
        net = self.workshop.net.eval()
        self.mix(self.logits.probabilities(), detached=True)
        with own_statistics(net):
            outputs = self.workshop.task.outputs(net, batch)
        net.train()
        if not isinstance(outputs, Tensor):
            raise SymnasError(
                f"MSGDAS compares outputs that are one tensor; the network gives a "
                f"{type(outputs).__name__}. Use distillation=0."
            )
        return outputs.float()

    def divergence(self, outputs: Tensor, taught: Tensor) -> Tensor:
        """KL(taught | outputs) of classes, `(batch, classes, ...)`, a mean over the rest."""
        if self.workshop.task.kind != "classification":
            return functional.mse_loss(outputs.float(), taught)
        known, own = torch.log_softmax(taught, 1), torch.log_softmax(outputs.float(), 1)
        return functional.kl_div(own, known, reduction="none", log_target=True).sum(1).mean()

    # Dropblock-Identity -----------------------------------------------------------------------

    @contextmanager
    def mixed(self, path: Mixed) -> Iterator[None]:
        """Has the supernet run a path, its identities with dropped blocks."""
        rate = self.drop
        for id_, weight in path.items():
            if rate and (self.columns[id_], int(weight.argmax())) in self.skips:
                # A weight with gradient stays a `Mixture`, which tells candidates from the rest.
                weight.requires_grad_()
        self.mix(path)

        def hook(module: nn.Module, args: Any, result: Any) -> Any:
            return drop_block(result, rate, self.algorithm.block)

        # Modules are shared with other networks: hooks are there for this run alone.
        handles = [m.register_forward_hook(hook) for m in self.identities()] if rate else []
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def identities(self) -> list[nn.Module]:
        """The identities of what runs that are (in) candidates without parameters."""
        network, found = self.workshop.net._selected, {}
        assert network is not None
        for mixture in network.module.modules():
            if not isinstance(mixture, Mixture):
                continue
            for candidate, either in zip(mixture.candidates, mixture.values, strict=True):
                if any(value in self.skips for values in either for value in values):
                    inner = [m for m in candidate.modules() if isinstance(m, nn.Identity)]
                    found.update({id(module): module for module in inner})
        return list(found.values())

    def epoch(self, number: int) -> dict[str, float]:
        told = super().epoch(number)
        return {**told, "temperature": self.temperature, "drop": self.drop}


def gumbel_top_k(logits: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """`k` values drawn without replacement, in order: one-hot `(k, values)`, and relaxed.

    The noise is torch's, drawn once: values are drawn as from an urn (Plackett-Luce; W. Kool et al.,
    "Stochastic Beams and Where to Find Them", ICML 2019, arXiv:1903.06059).

    >>> hard, soft = gumbel_top_k(torch.zeros(3), 3, 0.5)
    >>> hard.sum(0).tolist()
    [1.0, 1.0, 1.0]
    """
    noise = -torch.empty_like(logits).exponential_().log()
    scores = torch.log_softmax(logits, 0) + noise
    order = scores.detach().argsort(descending=True)[:k]
    hard = functional.one_hot(order, len(logits)).to(logits)
    soft = []
    for _ in range(k):
        soft.append(torch.softmax(scores / temperature, 0))
        scores = scores + torch.log((1 - soft[-1]).clamp_min(LEAST))
    return hard, torch.stack(soft)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b
