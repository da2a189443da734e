"""One cost model as a hard constraint, a reward, a differentiable penalty and a Pareto objective.

python examples/one_cost_four_uses.py       # about a minute on two cores

Quality is a stand-in here, so that the example shows what costs do: the share of wide and deep
layers that a network has. Replace `capacity` by a Task that trains (see examples/quickstart.py).
"""

from __future__ import annotations

import math

import torch
from symnas.spaces import mobilenet_28

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm


def capacity(architecture: sn.Architecture) -> dict[str, float]:
    """Stands for an accuracy: it grows with every choice, and each costs time."""
    parameters = cm.Parameters()(architecture)
    return {"quality": math.log10(parameters) / 6}


def constraint(space: sn.Space, latency: sn.CostModel, limit: float) -> None:
    """1. A hard constraint: no architecture predicted to break it is ever proposed."""
    study = sn.search(
        space,
        alg.RegularizedEvolution(population_size=10, tournament_size=5),
        capacity,
        maximize="quality",
        subject_to=[latency <= limit],
        trials=40,
        progress=False,
    )
    slowest = max(trial.costs["latency"] for trial in study.trials)
    assert slowest <= limit
    best = study.best
    print(f"   40 trials, the slowest {slowest:.3f} ms")
    print(f"   best quality {best.metrics['quality']:.3f} at {best.costs['latency']:.3f} ms")
    measured = latency(best.architecture)
    print(f"   measured end to end: {measured:.3f} ms")


def reward(space: sn.Space, latency: sn.CostModel, target: float) -> None:
    """2. A reward: quality against cost, around a target."""
    study = sn.search(
        space,
        alg.RegularizedEvolution(population_size=10, tournament_size=5),
        capacity,
        maximize="quality",
        reward=sn.rewards.Absolute(latency, target=target, beta=-1.0),
        trials=80,
        progress=False,
    )
    best = study.best
    print(f"   best at {best.costs['latency']:.3f} ms, quality {best.metrics['quality']:.3f}")


def penalty(space: sn.Space, latency: sn.BoundCost, target: float) -> None:
    """3. A penalty: the expected cost of a distribution over architectures has a gradient."""
    logits = {d.id: torch.zeros(d.size, requires_grad=True) for d in space.decisions}
    size = cm.Parameters().bind(space)
    optimizer = torch.optim.Adam(logits.values(), lr=0.1)
    for _ in range(150):
        probabilities = {id_: torch.softmax(value, 0) for id_, value in logits.items()}
        expected = latency.expected(probabilities)
        loss = -torch.log(size.expected(probabilities)) + 20 * (expected / target - 1).abs()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    chosen = {id_: torch.softmax(value.detach(), 0) for id_, value in logits.items()}
    print(f"   expected {latency.expected(chosen):.3f} ms")
    rows = (
        sn.Constraints.of(latency.model <= target)
        .bind(space)
        .sample_feasible(1000, probabilities=chosen)
    )
    print(f"   1,000 feasible draws: {latency(rows).mean():.3f} ms, all within the target")


def objective(space: sn.Space, latency: sn.CostModel) -> None:
    """4. A Pareto objective, beside another one."""
    study = sn.search(
        space,
        alg.RandomSearch(),
        capacity,
        maximize="quality",
        minimize=[latency, cm.PeakActivations()],
        trials=200,
        progress=False,
    )
    front = study.pareto()
    print(
        f"   {len(front)} of 200 trials are on the front of quality, latency and memory; fastest:"
    )
    for trial in sorted(front, key=lambda t: t.costs["latency"])[:3]:
        print(
            f"   quality {trial.metrics['quality']:.3f}, {trial.costs['latency']:.3f} ms, "
            f"{trial.costs['peak_activations'] / 1024:.0f} KiB"
        )


def main() -> None:
    space = mobilenet_28()
    latency = cm.Latency(runtime="torch")
    bound = latency.bind(space)  # each distinct operation is measured once on this machine
    low, high = bound.range()[:2]
    limit = round(low + 0.2 * (high - low), 3)
    print(space.summary(costs=[latency <= limit]).costs[-1], "\n")
    print(f"1. A hard constraint: latency <= {limit} ms")
    constraint(space, latency, limit)
    print(f"2. A reward with the target {limit} ms")
    reward(space, latency, limit)
    print(f"3. A differentiable penalty around {limit} ms")
    penalty(space, bound, limit)
    print("4. A Pareto objective")
    objective(space, latency)


if __name__ == "__main__":
    main()
