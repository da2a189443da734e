"""The toy example of TabNAS: rejection finds the best feasible network where a reward on cost does not.

    python benchmarks/tabnas_toy.py

A network has two inputs, hidden layers of 2, 3 or 4 units, and one output. It may have at most 25
parameters, which leaves six of nine networks; qualities are given. The example is that of the
published notebooks of C. Yang et al., "TabNAS", NeurIPS 2022, arXiv:2204.07615: 500 steps of Adam, 500
repetitions, a running mean of rewards with momentum 0.9. The best feasible network is 4-2.

The first table is of the policies after the last step: the probability to be feasible, that of 4-2
among the feasible, and that 4-2 is among 50 draws, as means over repetitions. "absolute" is the reward
`Q + beta |parameters / 25 - 1|` without rejection. Infeasible draws are rejected everywhere else; the
methods differ in what is taken for P(feasible) in the gradient: an estimate from N draws, the
enumerated probability, or nothing. The example shows that rejection is much better than the reward.
It does not show that the correction is better than none.

The second table has gradients of the logarithm of the estimated P(feasible), averaged over 20,000
estimates (those with a feasible draw), as the error relative to the enumerated gradient; the worst of
three random policies. "sum of p" weighs draws by their probability, as the notebook for TensorFlow
does, and "detached" has no gradient, as in the one for PyTorch: neither is the paper's formula.

Gradients and means are symnas' own (`symnas.searching.policies.rejection`, which `TabNAS` and
`Reinforce` use); all repetitions are computed at once.
"""

from __future__ import annotations

import argparse
import functools

import attrs
import torch
from torch import Tensor

from symnas.searching.policies.rejection import Mean, log_feasible, objective

PARAMETERS = torch.tensor([[15, 19, 23], [20, 25, 30], [25, 31, 37]], dtype=torch.float64)
LOSSES = torch.tensor([[0.9, 0.9, 0.66], [0.9, 0.66, 0.3], [0.6, 0.3, 0.1]], dtype=torch.float64)
LIMIT = 25.0
FEASIBLE = PARAMETERS <= LIMIT
BEST = (2, 0)  # 4-2


@attrs.frozen
class Method:
    """One row of the table.

    Attributes:
        name: as shown.
        lr: of Adam.
        beta: of the absolute reward; None: infeasible draws are rejected.
        correction: "none", "exact", or "monte-carlo" with N = `samples`.
        steps: of Adam.
    """

    name: str
    lr: float
    beta: float | None = None
    correction: str = "none"
    samples: int = 5
    steps: int = 500


METHODS = (
    Method("absolute, beta -1", 0.05, -1.0),
    Method("absolute, beta -2", 0.05, -2.0),
    Method("absolute, beta -10", 0.05, -10.0),
    Method("TabNAS, N 5", 0.1, correction="monte-carlo"),
    Method("TabNAS, N 5", 0.05, correction="monte-carlo"),
    Method("TabNAS, N 5, 5000 steps", 0.01, correction="monte-carlo", steps=5000),
    Method("exact P(feasible)", 0.05, correction="exact"),
    Method("rejection, no correction", 0.05),
    Method("absolute, beta -2, 5000 steps", 0.01, -2.0, steps=5000),
)


def joint(logits: Tensor) -> Tensor:
    """The log-probabilities of all nine networks, `(..., 3, 3)`, of logits `(..., 2, 3)`."""
    logs = torch.log_softmax(logits, -1)
    return logs[..., 0, :, None] + logs[..., 1, None, :]


def drawn(logits: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Networks by their place in `joint`: `n` of each policy, `(..., n)`; and their log p."""
    flat = joint(logits).flatten(-2)
    places = torch.multinomial(
        flat.detach().exp().reshape(-1, 9), n, replacement=True, generator=generator
    ).reshape(*flat.shape[:-1], n)
    return places, flat.gather(-1, places)


def exact(logits: Tensor) -> Tensor:
    """The enumerated log P(feasible), `(...)`."""
    return joint(logits)[..., FEASIBLE].logsumexp(-1)


class Adam:
    """Adam(0.9, 0.999) for many searches at once, each of which may leave out a step."""

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0
        self.steps: Tensor | float = 0.0

    def __call__(self, values: Tensor, gradient: Tensor, learns: Tensor) -> Tensor:
        """The values `(r, ...)` after a step up the gradient where a search `learns`, `(r,)`."""
        mask = learns.reshape(-1, *[1] * (values.dim() - 1))
        self.steps = self.steps + mask.to(values)
        self.first = torch.where(mask, 0.9 * self.first + 0.1 * gradient, self.first)
        self.second = torch.where(mask, 0.999 * self.second + 0.001 * gradient**2, self.second)
        rate = self.lr / (1 - 0.9**self.steps).clamp_min(1e-9)
        size = (self.second / (1 - 0.999**self.steps).clamp_min(1e-9)).sqrt() + 1e-8
        return torch.where(mask, values + rate * self.first / size, values)


def search(method: Method, repetitions: int, seed: int = 0) -> Tensor:
    """The logits `(repetitions, 2, 3)` after all steps of so many searches."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.zeros(repetitions, 2, 3, dtype=torch.float64)
    adam, mean = Adam(method.lr), Mean(0.9)
    quality = (1 - LOSSES).flatten()
    feasible = FEASIBLE.flatten()
    for _ in range(method.steps):
        logits = logits.detach().requires_grad_()
        place, log = (found[:, 0] for found in drawn(logits, 1, generator))
        if method.beta is None:
            reward, counts = quality[place], feasible[place]
        else:
            cost = PARAMETERS.flatten()[place]
            reward = quality[place] + method.beta * (cost / LIMIT - 1).abs()
            counts = torch.ones_like(place, dtype=torch.bool)
        before = mean.values, mean.weights
        advantage = reward - mean.add(reward)
        mean.values = torch.where(counts, mean.values, torch.as_tensor(before[0]))
        mean.weights = torch.where(
            counts, torch.as_tensor(mean.weights), torch.as_tensor(before[1])
        )
        share = log_share(method, logits, generator)
        ascended = objective(advantage, log, share)
        (gradient,) = torch.autograd.grad(ascended.sum(), logits)
        learns = counts & torch.isfinite(share.detach())
        logits = adam(logits.detach(), gradient, learns)
    return logits.detach()


def log_share(method: Method, logits: Tensor, generator: torch.Generator) -> Tensor:
    """What the method takes for log P(feasible), `(repetitions,)`."""
    if method.correction == "exact":
        return exact(logits)
    if method.correction == "monte-carlo":
        places, logs = drawn(logits, method.samples, generator)
        return log_feasible(logs, FEASIBLE.flatten()[places])
    return torch.zeros(len(logits), dtype=torch.float64)


def outcome(logits: Tensor) -> tuple[float, float, float, float]:
    """P(feasible), P(4-2 | feasible), P(4-2 in 50 draws), and how often 4-2 is likeliest feasible."""
    shares = joint(logits).exp()
    feasible, best = shares[:, FEASIBLE].sum(-1), shares[:, BEST[0], BEST[1]]
    likeliest = torch.where(FEASIBLE, shares, 0.0).flatten(1).argmax(1) == 3 * BEST[0] + BEST[1]
    found = 1 - (1 - best) ** 50
    measures = feasible, best / feasible, found, likeliest.double()
    return tuple(float(measure.mean()) for measure in measures)  # type: ignore[return-value]


# Gradients --------------------------------------------------------------------------------------


def sum_of_p(logs: Tensor, feasible: Tensor) -> Tensor:
    """The logarithm of the sum of p over feasible draws: not an estimate of P(feasible)."""
    return logs.masked_fill(~feasible, -torch.inf).logsumexp(-1)


def detached(logs: Tensor, feasible: Tensor) -> Tensor:
    """The right value without gradient."""
    return log_feasible(logs, feasible).detach() + 0 * logs.sum(-1)


ESTIMATES = {"symnas": log_feasible, "sum of p": sum_of_p, "detached": detached}


@functools.cache
def policies(n: int = 3) -> Tensor:
    """Logits of random policies, `(n, 2, 3)`."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, 3, generator=generator, dtype=torch.float64)


def gradient_error(name: str, samples: int, estimates: int = 20_000, seed: int = 0) -> float:
    """The relative error of the mean gradient of an estimate; the worst of the random policies."""
    worst = 0.0
    for index, values in enumerate(policies()):
        generator = torch.Generator().manual_seed(seed + index)
        logits = values.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(exact(logits), logits)
        many = logits.expand(estimates, 2, 3)
        places, logs = drawn(many, samples, generator)
        feasible = FEASIBLE.flatten()[places]
        kept = feasible.any(-1)
        mean = ESTIMATES[name](logs[kept], feasible[kept]).mean()
        (found,) = torch.autograd.grad(mean, logits)
        worst = max(worst, float((found - wanted).norm() / wanted.norm()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--estimates", type=int, default=20_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    heads = ("P(feasible)", "P(4-2|feasible)", "4-2 in 50 draws", "4-2 likeliest")
    print(f"{'method':32}{'lr':>6}" + "".join(f"{head:>17}" for head in heads))
    for method in METHODS:
        found = outcome(search(method, arguments.repetitions))
        numbers = "".join(f"{value:17.3f}" for value in found)
        print(f"{method.name:32}{method.lr:6g}{numbers}", flush=True)
    print(f"\n{'gradient of log P(feasible)':32}{'N':>6}{'relative error':>17}")
    for name in ESTIMATES:
        for samples in (5, 200):
            error = gradient_error(name, samples, arguments.estimates)
            print(f"{name:32}{samples:6}{error:17.2%}", flush=True)


if __name__ == "__main__":
    main()
