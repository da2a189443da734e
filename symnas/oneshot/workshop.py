"""What a one-shot run works with: the supernet, the task's data, an optimizer, a seed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from symnas.supernet.recalibrate import recalibrated
from symnas.tasks.batches import Batch, batch_count, batches, resized
from symnas.tasks.optimizers import make_optimizer
from symnas.tasks.schedule import factor
from symnas.tasks.seeding import derive

if TYPE_CHECKING:
    from symnas.oneshot.distributed.team import Team
    from symnas.searching.problem import Problem
    from symnas.supernet.supernet import Supernet
    from symnas.tasks.task import Task

Row = NDArray[np.int32]

# Batches of training data from which the statistics of batch norms are measured anew.
RECALIBRATED = 8


class Workshop:
    """A supernet with the data and the recipe of a task.

    Args:
        task: whose training data, loss, metrics and optimizer.
        net: the supernet, on the device.
        problem: the constraints, the seed, and the objective, which is a metric of the task.
        epochs: of the whole training, for schedules.
        device: where the net is.
        team: of processes that train it together, see `symnas.oneshot.distributed`; None: this one
            does alone. In an epoch, batches then have the inputs of the process's own part and the
            targets of all; what the net gives is for all, and gradients are averaged when an
            optimizer steps.
    """

    def __init__(
        self,
        task: Task,
        net: Supernet,
        problem: Problem,
        epochs: int,
        device: torch.device,
        team: Team | None = None,
    ) -> None:
        self.task, self.net, self.problem = task, net, problem
        self.epochs, self.device, self.team = epochs, device, team
        self.seed = problem.seed
        self.channels_last = self._prefers_channels_last()

    def _prefers_channels_last(self) -> bool:
        """Puts the channels of images and convolutions last, which is nearly twice as fast on a CPU.

        A network with a `view` of such images cannot run so, and keeps the usual order.
        """
        net, shape = self.net, self.task.input
        if len(shape) != 3 or not any(p.ndim == 4 for p in net.parameters()):
            return False
        row = self.feasible(1, 0)[0]
        mode = net.training
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            x = torch.zeros(2, *(self.input_of(row) or shape), device=self.device)
            with torch.no_grad():
                net.eval().select(row)(x.contiguous(memory_format=torch.channels_last))
        except RuntimeError:
            net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            return False
        finally:
            net.train(mode)
        return True

    def formatted(self, batch: Batch) -> Batch:
        """The batch as networks run it fastest."""
        if not self.channels_last:
            return batch
        return Batch(batch.x.contiguous(memory_format=torch.channels_last), batch.y)

    def rng(self, *key: int) -> np.random.Generator:
        """A generator that depends on the seed and these numbers alone."""
        return np.random.default_rng((self.seed, *key))

    # Data -------------------------------------------------------------------------------------

    def batches(
        self, split: str, epoch: int, input: tuple[int, ...] | None = None
    ) -> Iterator[Batch]:
        """The examples of "train" or "validation" in the random order of an epoch.

        The validation data are what trials are measured on. Algorithms that learn from them use
        `halves` instead.
        """
        seed = derive(self.seed, f"{split} {epoch}")
        if self.team is None or not self.team.working:
            stream = self.task.batches(split, seed, input=input, device=self.device)
            return map(self.formatted, stream)
        order = torch.Generator().manual_seed(derive(seed, "order"))
        stream = self.team.batches(
            *self.task._splits[split], size=self.task.batch_size, device=self.device, generator=order,
            augment=self.task.augment if split == "train" else None, input=input,
        )  # fmt: skip
        return map(self.formatted, stream)

    def pairs(self, share: float) -> int:
        """How many pairs of batches `halves` gives in an epoch."""
        return batch_count(self._cut(share), self.task.batch_size)

    def _cut(self, share: float) -> int:
        examples = len(self.task._splits["train"][1])
        return min(examples - 1, max(1, round(share * examples)))

    def halves(
        self, epoch: int, share: float = 0.5, times: int = 1
    ) -> Iterator[tuple[Batch, Batch]]:
        """Pairs of batches of the training data: to train weights on, and to train choices on.

        The training data are split once, by the seed; the validation data stay unseen. An epoch is
        one pass over the first part.

        Args:
            epoch: its number, for the order.
            share: of the training data that weights are trained on.
            times: how many times as large the second batches are.
        """
        examples, index = self.task._splits["train"]
        order = torch.from_numpy(self.rng(0).permutation(len(index)))
        cut, size = self._cut(share), self.task.batch_size
        first = self._stream(examples, index[order[:cut]], epoch, "weights", size)
        others = self._endless(examples, index[order[cut:]], epoch, size * times)
        yield from zip(first, others, strict=False)

    def _stream(
        self, examples: Any, index: Tensor, epoch: int, purpose: str, size: int
    ) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(derive(self.seed, f"{purpose} {epoch}"))
        read = batches if self.team is None or not self.team.working else self.team.batches
        stream = read(
            examples, index, size=min(size, len(index)), device=self.device, generator=generator,
            augment=self.task.augment if purpose == "weights" else None,
        )  # fmt: skip
        return map(self.formatted, stream)

    def _endless(self, examples: Any, index: Tensor, epoch: int, size: int) -> Iterator[Batch]:
        turn = 0
        while True:
            yield from self._stream(examples, index, epoch, f"choices {turn}", size)
            turn += 1

    @cached_property
    def steps_an_epoch(self) -> int:
        """Steps in one pass over the training data."""
        return batch_count(len(self.task._splits["train"][1]), self.task.batch_size)

    # Weights ----------------------------------------------------------------------------------

    def optimizer(self, parameters: Any = None, **changes: Any) -> torch.optim.Optimizer:
        """The task's optimizer for the supernet's weights (or others)."""
        found = list(self.net.parameters() if parameters is None else parameters)
        task = self.task
        recipe = {"lr": task.lr, "weight_decay": task.weight_decay, "momentum": task.momentum}
        made = make_optimizer(
            task.optimizer, [p for p in found if p.requires_grad], **{**recipe, **changes}
        )
        if isinstance(made, torch.optim.SGD):
            # torch's fused SGD fails where weights have their first gradient later than others: those
            # of candidates that the first network did not have.
            for group in made.param_groups:
                group["fused"] = False
        return made

    def set_rate(self, optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
        """The learning rate of a step, by the task's schedule."""
        share = factor(self.task.schedule, step, steps, self.task.warmup)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * share

    def loss(self, batch: Batch) -> Tensor:
        """The task's loss of what is selected or mixed."""
        return self.task.loss(self.task.outputs(self.net, batch), batch)

    def gradients(self, loss: Tensor, of: list[Any]) -> list[Tensor | None]:
        """The gradients of a loss, also where its batch is split among processes."""
        found: list[Tensor | None] = list(torch.autograd.grad(loss, of, allow_unused=True))
        if self.team is not None and self.team.working:
            self.team.average(found)
        return found

    # Networks ---------------------------------------------------------------------------------

    def feasible(self, n: int, *key: int) -> NDArray[np.int32]:
        """Random rows that keep the constraints, each drawn anew: `(n, columns)`."""
        space, constraints = self.net.space, self.problem.constraints
        if constraints is not None:
            return constraints.sample_feasible(n, (self.seed, 41, *key))
        rows = space.sample(n, (self.seed, 41, *key))
        attempt = 0
        while len(rows := rows[space.is_valid(rows)]) < n:
            attempt += 1
            rows = np.concatenate([rows, space.sample(n, (self.seed, 41, *key, attempt))])
        return rows[:n]

    def resized(self, batch: Batch, row: Row) -> Batch:
        """A batch with images of the size that a network takes, where resolution is chosen."""
        input = self.input_of(row) if "input" in self.net.space._extras else None
        if input is None or tuple(batch.x.shape[1:]) == input:
            return batch
        return self.formatted(Batch(resized(batch.x, input), batch.y))

    # Measuring --------------------------------------------------------------------------------

    def input_of(self, row: Row) -> tuple[int, ...] | None:
        """The shape of one example for a network, where resolution is chosen."""
        return self.net.space.decode(row).input

    def quality(self, metrics: dict[str, float]) -> float:
        """The objective in the task's metrics, larger is better."""
        objective = self.problem.objectives[0]
        return objective.sign * metrics[objective.name]

    def qualities(self, rows: NDArray[np.int32]) -> NDArray[np.float64]:
        """The objective of networks with shared weights, `(n,)`; -inf where it is not finite.

        Several processes measure several networks at a time, each as one alone would.
        """
        if self.team is None or self.team.closed or not self.team.leads:
            return np.array([self._quality(row) for row in rows])
        return self.team.spread(rows, self._quality)

    def _quality(self, row: Row) -> float:
        quality = self.quality(self.measured(row))
        return quality if np.isfinite(quality) else -np.inf

    def serve(self) -> None:
        """Helps the leader of the team to measure networks, until it needs no more."""
        assert self.team is not None
        self.team.serve(self._quality)

    def measured(self, row: Row, recalibrate: int = RECALIBRATED) -> dict[str, float]:
        """The task's metrics of a network with shared weights on the validation data."""
        return self.inherited(row, recalibrate)[1]

    def inherited(
        self, row: Row, recalibrate: int = RECALIBRATED
    ) -> tuple[nn.Module, dict[str, float]]:
        """A network with shared weights, and the task's metrics of it on the validation data.

        The statistics of its batch norms are first measured anew on training data: those of the
        supernet are of many networks. The supernet stays as it is.

        Args:
            row: which network.
            recalibrate: batches of training data; 0 takes the supernet's statistics.
        """
        input = self.input_of(row)
        model = self.net.child(row).to(self.device)
        if recalibrate:
            stream = self.batches("train", 0, input)
            xs = (batch.x for batch, _ in zip(stream, range(recalibrate), strict=False))
            recalibrated(model, xs)
        return model, self.task.test(model, "validation", input=input)
