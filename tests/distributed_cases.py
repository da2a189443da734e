"""Trainings that one process and two make, and the program of the second: `distributed_cases.py FILE OUT`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from relaxed_examples import bound
from symnas.algorithms.bignas import BigNAS
from torch import Tensor, nn

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas import data
from symnas.errors import SymnasError
from symnas.oneshot.distributed.peers import joined, left
from symnas.oneshot.distributed.synchronised import Synchronised
from symnas.oneshot.distributed.team import Team
from symnas.oneshot.training import Training, supernet_of
from symnas.searching.problem import Problem

# What tells an example from others, of each batch that a process's networks were given.
SEEN: list[list[float]] = []


class Seen(nn.Module):
    """Tells what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_meta:  # for a cost
            SEEN.append(x.detach().flatten(1).double().square().sum(1).tolist())
        return x


def images(norm: bool = True, last: Any = None) -> sn.Space:
    """A width, a kernel, a choice between modules with and without weights."""
    width = sn.oneof([4, 6], name="width")

    def normed(channels: Any) -> Any:
        return sn.nn.BatchNorm2d(channels) if norm else sn.nn.Tanh()

    made = sn.nn.Sequential(
        sn.spec(Seen),
        sn.nn.Conv2d(1, width, sn.oneof([3, 5]), padding="same", bias=not norm), normed(width), sn.nn.ReLU(),
        sn.oneof([
            sn.nn.Sequential(sn.nn.Conv2d(width, width, 3, padding=1, bias=not norm), normed(width)),
            sn.nn.Identity(),
        ]),
        *([last(width)] if last else []),
        sn.nn.AdaptiveAvgPool2d(2), sn.nn.Flatten(), sn.nn.Linear(4 * width, 10),
    )  # fmt: skip
    return sn.Space(made, input=(1, 8, 8))


def digits(**options: Any) -> sn.Task:
    """Batches of 41 and of 40: one of two processes has an example more, or not."""
    x, y = data.digits().train
    settings = {"epochs": 1, "batch_size": 41, "optimizer": "sgd", "lr": 0.05, "weight_decay": 1e-3}
    return sn.Task((x[:202], y[:202]), **(settings | options))


def summed(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that is no mean over examples."""
    return 0.02 * nn.functional.cross_entropy(outputs, targets, reduction="sum") ** 1.1


@attrs.frozen
class Case:
    """What is trained, twice over."""

    algorithm: Any
    space: Callable[[], sn.Space]
    task: Callable[[], sn.Task] = digits
    limit: float | None = None

    def problem(self) -> Problem:
        limits = None if self.limit is None else [cm.Macs() <= self.limit]
        return bound(self.space(), limits)


SHORT = {"epochs": 2}
LIMIT = 12_000
ALGORITHMS = {
    "spos": alg.SinglePathOneShot(**SHORT, population=3, generations=2),
    "darts": alg.DARTS(**SHORT, logits_lr=0.05),
    "tunas": alg.TuNAS(**SHORT, times=2, controller_lr=0.1),
    "bignas": BigNAS(**SHORT, coarse=3, fine=1, parents=1),
}
CASES = {
    f"{name} {'with' if norm else 'without'} norms": Case(
        algorithm,
        lambda norm=norm: images(norm),
        limit=None if name in ("spos", "bignas") else LIMIT,
    )
    for name, algorithm in ALGORITHMS.items()
    for norm in (True, False)
}
CASES |= {
    "second order": Case(alg.DARTS(**SHORT, order=2, logits_lr=0.05), images, limit=LIMIT),
    "adam": Case(
        ALGORITHMS["spos"], lambda: images(False), lambda: digits(optimizer="adamw", lr=0.01)
    ),
    "no mean": Case(ALGORITHMS["spos"], images, lambda: digits(loss=summed)),
    "augmented": Case(
        ALGORITHMS["spos"],
        lambda: images(False),
        lambda: digits(augment=lambda x, generator: x + torch.rand(x.shape, generator=generator)),
    ),
    "gdas": Case(alg.GDAS(**SHORT, logits_lr=0.05), images, limit=LIMIT),
}
# Here the processes draw other numbers than one does, but the same paths.
DROPPED = Case(
    alg.GDAS(**SHORT, logits_lr=0.05),
    lambda: images(last=lambda _: sn.nn.Dropout(0.3)),
    limit=LIMIT,
)
# Here they cannot come to the same.
INSTANCES = Case(
    alg.SinglePathOneShot(epochs=1),
    lambda: images(last=lambda width: sn.nn.InstanceNorm2d(width, track_running_stats=True)),
)


def trained(case: Case, folder: Path, team: Team | None = None) -> dict[str, Any]:
    """What a training comes to; in a process that does not lead, what it has seen alone."""
    torch.manual_seed(0)
    run = case.algorithm.start(case.problem())
    epoch, seen = run.epoch, []

    def watched(number: int) -> dict[str, float]:
        SEEN.clear()
        told = epoch(number)
        seen.extend(SEEN)
        return told

    run.epoch = watched
    training = Training(run, case.task(), folder, lambda *_: None)
    if team is not None:
        team.closed = False
    net, history = training._trained(team)
    if team is not None and not team.leads:
        return {"seen": seen}
    shop, rows = run.workshop, run.derive(4)
    begin = supernet_of(run.problem, case.algorithm, torch.device("cpu")).state_dict()
    told = {"seen": seen, "rows": rows.tolist(), "history": history, "notes": run.notes()}
    told["qualities"] = shop.qualities(rows).tolist()
    if team is not None:
        team.dismiss()
    return {
        **told,
        "begin": begin,
        "net": {k: v.clone() for k, v in net.state_dict().items()},
        "run": run.state(),
    }


def norms(x: Tensor, part: slice, around: Any) -> list[Tensor]:
    """What a batch norm gives for a part, its gradients, and its statistics."""
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
    own = x[part].clone().requires_grad_()
    with around:
        y = norm(own)
    factors = torch.linspace(-1, 1, x.numel()).view(x.shape)[part]
    (y.square() * factors).sum().backward()
    return [
        y.detach(),
        own.grad,
        norm.weight.grad,
        norm.bias.grad,
        norm.running_mean,
        norm.running_var,
    ]


def both(team: Team, out: Path) -> dict[str, Any]:
    """All that both processes do, in this order."""
    found: dict[str, Any] = {}
    torch.manual_seed(0)
    x = 100 + torch.randn(5, 3, 4, 2)
    part = slice(0, 3) if team.leads else slice(3, 5)
    whole = norms(x, slice(0, 5), torch.enable_grad())
    split = norms(x, part, Synchronised(team.total, team.stacked))
    for gradient in split[2:4]:
        team.total(gradient)
    found["norm"] = [
        [t[part] if i < 2 else t for i, t in enumerate(whole)], split, norms(x, part, torch.enable_grad())
    ]  # fmt: skip
    for rank in range(2):
        gradients = [torch.ones(2), None if team.rank == rank else torch.ones(3)]
        with pytest.raises(SymnasError, match="gradients of different weights"):
            team.average(gradients)
    with pytest.raises(SymnasError, match="batch of 1 cannot be split among 2"):
        team.part(torch.zeros(1))
    for name, case in {**CASES, "dropped": DROPPED}.items():
        found[name] = trained(case, out / name.replace(" ", "-"), team)
    with pytest.raises(SymnasError, match=r"differ in .*running_mean"):
        trained(INSTANCES, out / "instances", team)
    return found


def second(file: str, out: str) -> None:
    """The second process."""
    torch.set_num_threads(1)
    found = both(joined(digits(), 1, 2, file), Path(out))
    seen = {name: told["seen"] for name, told in found.items() if "seen" in told}
    torch.save({"norm": found["norm"]}, Path(out) / "second.pt")
    (Path(out) / "second.json").write_text(json.dumps(seen))
    left()


if __name__ == "__main__":
    second(*sys.argv[1:])
