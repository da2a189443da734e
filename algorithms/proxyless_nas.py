"""ProxylessNAS: binarised paths, of which two at a time tell the logits which is better.

H. Cai, L. Zhu and S. Han, "ProxylessNAS: Direct Neural Architecture Search on Target Task and
Hardware", ICLR 2019, arXiv:1812.00332, Sections 3.1 and 3.2.
"""

from __future__ import annotations

import attrs
import torch

from symnas.oneshot.algorithm import OneShotRun
from symnas.oneshot.relaxed import Mixed, Relaxed, RelaxedRun
from symnas.searching.checks import number
from symnas.searching.problem import Problem
from symnas.tasks.batches import Batch

# The weight of the path that is not active: it runs, so that its gate has a gradient, and neither
# its result nor its gradient to what comes before it is seen in single precision.
INACTIVE = 1e-10
# Values are drawn with at least this probability: two have to be drawn, however sure the logits.
LEAST = 1e-12


@attrs.frozen(kw_only=True)
class ProxylessNAS(Relaxed):
    """Trains single paths drawn from the logits, and compares two candidates in each logits' step.

    A step of the weights runs one path (the binary gates of Section 3.1). A step of the logits
    draws two candidates of each decision; the others are masked as if they did not exist. One of
    the two is active, both are run, and the gradients of their gates go to their two logits by
    equation 4. After the step these two are shifted together so that the probabilities of all others
    stay as they were (Section 3.2.1). So at most two candidates are in memory.

    Ours are: one step of the logits after each of the weights, halves of the training data,
    the learning rate 1e-3, a penalty that is a hinge on expected costs relative to their limits (the
    paper adds the expected latency itself, Section 3.3), and that networks are derived as the
    likeliest that keep the constraints. Adam has betas (0, 0.999) and no weight decay, so that
    nothing but the gradient of a step moves a logit. Gradients of pairs are noisy: with few steps,
    take a larger `logits_lr`.

    Default values are the paper's as far as we know them: its text was not at hand.

    Args:
        warmup, share, penalty: see `symnas.oneshot.relaxed`.
        logits_lr, logits_betas, logits_weight_decay: of Adam for the logits.

    >>> from symnas import algorithms as alg
    >>> alg.ProxylessNAS(epochs=5)
    ProxylessNAS(epochs=5, sharing='entangled', retrain=True, warmup=0, share=0.5, penalty=1.0, logits_lr=0.001, logits_betas=(0.0, 0.999), logits_weight_decay=0.0)
    """

    logits_lr: float = attrs.field(default=1e-3, validator=number(0, inside=True))
    logits_betas: tuple[float, float] = attrs.field(default=(0.0, 0.999), converter=tuple)
    logits_weight_decay: float = attrs.field(default=0.0, validator=number(0))

    def start(self, problem: Problem) -> OneShotRun:
        return _ProxylessNAS(self, problem)


class _ProxylessNAS(RelaxedRun):
    algorithm: ProxylessNAS

    def mixture(self, purpose: str) -> Mixed:
        if purpose == "logits":
            return self.gates(self.pairs())
        mixed = {}
        for id_, p in self.logits.probabilities().items():
            drawn = torch.multinomial(p.detach(), 1)[0]
            mixed[id_] = torch.nn.functional.one_hot(drawn, len(p)).to(p)
        return mixed

    def pairs(self) -> dict[str, torch.Tensor]:
        """Two different values of each decision, drawn by their probabilities: `(2,)`."""
        return {
            id_: torch.multinomial(p.detach().clamp_min(LEAST), 2)
            for id_, p in self.logits.probabilities().items()
        }

    def gates(self, pairs: dict[str, torch.Tensor]) -> Mixed:
        """One of each pair active, with the gradients of the probabilities of the two."""
        mixed = {}
        for id_, logits in self.logits.logits().items():
            both = torch.softmax(logits[pairs[id_]], 0)
            active = torch.multinomial(both.detach(), 1)
            gates = torch.full_like(both, INACTIVE).index_fill(0, active, 1.0)
            # The difference is 0, its gradient is not.
            gates = gates.detach() + (both - both.detach())
            mixed[id_] = torch.zeros_like(logits).index_put((pairs[id_],), gates)
        return mixed

    def narrowed(self, pairs: dict[str, torch.Tensor]) -> Mixed:
        """The probabilities, with gradients to each pair's logits alone."""
        mixed = {}
        for id_, p in self.probabilities().items():
            pair, p = pairs[id_], p.detach()
            both = torch.softmax(self.logits.logits()[id_][pair], 0)
            mixed[id_] = p.index_put((pair,), both * p[pair].sum())
        return mixed

    def step(self, first: Batch, second: Batch | None) -> dict[str, float]:
        told = {"loss": self.update_weights(first)}
        if second is not None:
            told["choice loss"] = self.update_logits(first, second)
        return told

    def update_logits(self, first: Batch, second: Batch) -> float:
        pairs = self.pairs()
        self.mix(self.gates(pairs))
        loss = self.with_costs(self.workshop.loss(second), self.narrowed(pairs))
        before = {id_: v.detach().clone() for id_, v in self.logits.logits().items()}
        self.descend(torch.autograd.grad(loss, self.parameters, allow_unused=True))
        self.rescale(before, pairs)
        return float(loss.detach())

    @torch.no_grad()
    def rescale(self, before: dict[str, torch.Tensor], pairs: dict[str, torch.Tensor]) -> None:
        """Shifts each pair's logits, so that the probabilities of the others are as before."""
        for id_, logits in self.logits.logits().items():
            pair, old = pairs[id_], before[id_]
            new = logits[pair].clone()
            logits.copy_(old)
            logits[pair] = new + torch.logsumexp(old[pair], 0) - torch.logsumexp(new, 0)
