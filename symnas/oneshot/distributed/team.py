"""Several processes that train one supernet together, each on its part of every batch.

They go through the same steps, with the same seeds, so that all draw the same paths. What a network
gives for a part is gathered, so each process has the outputs for the whole batch and computes the same
loss, the same metrics, the same rewards as one process alone would: also those that are no means over
examples. The gradient then goes back through the process's own part. Before an optimizer steps, the
gradients that it has are averaged over processes, in one piece.

This is done by hooks, of the supernet and of optimizers, so that algorithms know nothing of it.
`DistributedDataParallel` is no wrapper for a supernet: it foresees one backward pass of all parameters
in a step, where here each step has others, some steps have several passes, and some gradients are those
of `torch.autograd.grad`, which it does not see.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from symnas.errors import SymnasError
from symnas.oneshot.distributed.calls import Calls
from symnas.tasks.batches import Batch, batches
from symnas.tasks.examples import AnyExamples, Pair

# How far sums of weights may be apart in different processes, relative to them.
APART = 1e-5


class Lost(SymnasError):
    """Another process of the training is gone, or does something else."""


class Team:
    """The processes of one training, as one of them sees them.

    The process group of torch must be there.

    Args:
        device: where this process trains.

    Attributes:
        rank: of this process; 0 leads.
        size: how many processes.
        working: whether batches are split at the moment.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.working = self.closed = False

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and tells what happens."""
        return self.rank == 0

    # Collectives ------------------------------------------------------------------------------

    def total(self, x: Tensor) -> Tensor:
        """The sum over all processes; `x` is changed."""
        with _told():
            distributed.all_reduce(x)
        return x

    def stacked(self, x: Tensor) -> Tensor:
        """The tensors of all processes, which have the same shape: `(size, ...)`."""
        found = [torch.empty_like(x) for _ in range(self.size)]
        with _told():
            distributed.all_gather(found, x)
        return torch.stack(found)

    def gathered(self, own: Tensor) -> Tensor:
        """The parts of all processes, one after the other; the gradient flows to the own one.

        The loss of what is gathered is the same in each process, so that none needs the gradients
        of others. They are `size` times as large as they are, which the mean over processes makes
        good: as do gradients of terms that are not of data, and so the same in each.
        """
        sizes = self.stacked(torch.tensor(len(own))).tolist()
        made: Tensor = _Gathered.apply(own, self, sizes)  # type: ignore[no-untyped-call]
        return made

    def share(self, value: Any = None) -> Any:
        """What the leader gives: tensors, numbers, texts, lists and dicts of them."""
        buffer = io.BytesIO()
        if self.leads:
            torch.save(value, buffer)
        length = torch.tensor(len(buffer.getvalue()))
        with _told():
            distributed.broadcast(length, 0)
            data = torch.zeros(int(length), dtype=torch.uint8)
            if self.leads:
                data = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
            distributed.broadcast(data, 0)
        if self.leads:
            return value
        return torch.load(io.BytesIO(data.numpy().tobytes()), weights_only=True)

    # Batches ----------------------------------------------------------------------------------

    def part(self, values: Tensor) -> Tensor:
        """The own part of a batch; parts differ by at most one example.

        Raises:
            SymnasError: there are fewer examples than processes.
        """
        if len(values) < self.size:
            raise SymnasError(
                f"A batch of {len(values)} cannot be split among {self.size} processes. Train with a "
                "larger `batch_size`, or fewer `replicas`."
            )
        return torch.tensor_split(values, self.size)[self.rank]

    def batches(
        self, examples: AnyExamples, index: Tensor, *, augment: Any = None, **how: Any
    ) -> Iterator[Batch]:
        """As `symnas.tasks.batches.batches`, with the own part of the inputs and all targets.

        Nothing else is read, unless inputs are augmented: what is drawn for an example depends on
        those before it.
        """
        if augment is None:
            yield from batches(_Part(examples, self), index, **how)  # type: ignore[arg-type]
            return
        for batch in batches(examples, index, augment=augment, **how):
            yield Batch(self.part(batch.x), batch.y)

    # Training ---------------------------------------------------------------------------------

    @contextmanager
    def at_work(self, net: nn.Module) -> Iterator[None]:
        """Splits batches meanwhile, gathers what `net` gives, and averages gradients."""
        calls = Calls(self)
        with ExitStack() as stack:
            for handle in (
                net.register_forward_pre_hook(calls.before),
                net.register_forward_hook(calls.after, always_call=True),
                register_optimizer_step_pre_hook(self._before_step),
            ):
                stack.callback(handle.remove)
            self.working = True
            stack.callback(setattr, self, "working", False)
            yield

    def average(self, gradients: Sequence[Tensor | None]) -> None:
        """Replaces gradients by their means over processes, in one piece for each type.

        Raises:
            SymnasError: other processes have gradients of other parameters.
        """
        there = [i for i, gradient in enumerate(gradients) if gradient is not None]
        mark = zlib.crc32(repr(there).encode())
        with _told():
            extremes = torch.tensor([mark, -mark])
            distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
        if extremes.sum():
            raise SymnasError(
                "The processes of the training have gradients of different weights in one step, so "
                "their networks were not the same. What a network runs may not depend on the values "
                "of its inputs: train in one process, replicas=1."
            )
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for gradient in gradients:
            if gradient is not None:
                by_type.setdefault(gradient.dtype, []).append(gradient)
        with torch.no_grad():
            for same in by_type.values():
                flat = self.total(torch.cat([g.reshape(-1) for g in same])) / self.size
                pieces = torch.split(flat, [g.numel() for g in same])
                for gradient, piece in zip(same, pieces, strict=True):
                    gradient.copy_(piece.view(gradient.shape))

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.average([p.grad for group in optimizer.param_groups for p in group["params"]])

    def check(self, net: nn.Module) -> None:
        """Whether all processes have come to the same weights and statistics.

        Raises:
            SymnasError: they have not.
        """
        tensors = {k: v for k, v in net.state_dict().items() if v.is_floating_point()}
        if not tensors:
            return
        sums = torch.stack([v.double().abs().sum() for v in tensors.values()]).cpu()
        found = self.stacked(sums)
        apart = ~torch.isclose(found, found[:1], rtol=APART, atol=1e-8, equal_nan=True).all(0)
        if bool(apart.any()):
            names = [name for name, other in zip(tensors, apart.tolist(), strict=True) if other]
            raise SymnasError(
                f"After an epoch the processes of the training differ in {', '.join(names[:3])}"
                f"{', ...' if len(names) > 3 else ''}: something learns from the part of the batch that it "
                "sees, such as running statistics other than batch norms'. Train in one process, "
                "replicas=1."
            )

    # Measuring --------------------------------------------------------------------------------

    def spread(
        self, rows: NDArray[np.int32], measure: Callable[[NDArray[np.int32]], float]
    ) -> NDArray[np.float64]:
        """`measure(row)` of each row, `(n,)`; the leader's others do a part of it, in `serve`."""
        self.share(torch.from_numpy(np.ascontiguousarray(rows)))
        return self._spread(rows, measure)

    def serve(self, measure: Callable[[NDArray[np.int32]], float]) -> None:
        """Helps the leader to measure, until it needs no more."""
        while (rows := self.share()) is not None:
            self._spread(rows.numpy(), measure)

    def _spread(
        self, rows: NDArray[np.int32], measure: Callable[[NDArray[np.int32]], float]
    ) -> NDArray[np.float64]:
        found = torch.zeros(len(rows), dtype=torch.float64)
        for place in range(self.rank, len(rows), self.size):
            found[place] = measure(rows[place])
        # Each has measured others; a sum would make NaN of infinite ones.
        every = self.stacked(found)
        places = torch.arange(len(rows))
        return np.asarray(every[places % self.size, places].numpy())

    def dismiss(self) -> None:
        """Lets the others go, whom the leader needs no more."""
        if not self.closed:
            self.closed = True
            self.share(None)


@attrs.frozen
class _Part:
    """Examples, of which the own part of each batch is read."""

    examples: AnyExamples
    team: Team

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.examples.input

    def stream(self, indices: Sequence[Tensor], device: torch.device) -> Iterator[Pair]:
        """The own part of the inputs, and all targets, of each tensor of indices."""
        own = [self.team.part(index) for index in indices]
        for x, y in self.examples.stream(own, device):
            yield x, self.team.gathered(y)


class _Gathered(torch.autograd.Function):
    """Parts of all processes, `(sum of sizes, ...)`; see `Team.gathered`."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, team: Team, sizes: list[int]) -> Tensor:
        begin = sum(sizes[: team.rank])
        ctx.part, ctx.size = slice(begin, begin + len(own)), team.size
        # Collectives are of tensors of one shape.
        padded = own.new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        found = team.stacked(padded)
        return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient[ctx.part] * ctx.size, None, None


@contextmanager
def _told() -> Iterator[None]:
    """Errors of torch's collectives, as those that they mean here."""
    try:
        yield
    except RuntimeError as error:
        raise Lost(f"Another process of the training does not answer: {error}") from error
