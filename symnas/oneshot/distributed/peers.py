"""Process groups of torch for a training: of this machine, or those that torchrun has started."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import distributed

from symnas.errors import SymnasError
from symnas.oneshot.distributed.team import Lost, Team

if TYPE_CHECKING:
    from symnas.tasks.task import Task

# How long a process that is there may leave others without an answer. One that is gone is seen at once.
SILENCE = timedelta(hours=1)


def joined(task: Task, rank: int, size: int, file: str) -> Team:
    """The team of processes of this machine, once all have come."""
    device = device_of(task, rank)
    own = device.type == "cuda" and size <= torch.cuda.device_count()
    distributed.init_process_group(
        backend_of(device, own),
        store=distributed.FileStore(file, size),  # type: ignore[attr-defined]
        rank=rank,
        world_size=size,
        timeout=SILENCE,
    )
    return Team(device)


def device_of(task: Task, place: int) -> torch.device:
    """Where a process trains: the task's device; of several GPUs, the one of its place."""
    device = task._device()
    if device.type != "cuda":
        return device
    if device.index is None:
        device = torch.device("cuda", place % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def backend_of(device: torch.device, own: bool) -> str:
    """NCCL for tensors on GPUs, which it wants one of for each process; gloo for all others."""
    return "cpu:gloo,cuda:nccl" if own else "gloo"


def left() -> None:
    """Leaves the team."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


class Peers:
    """The processes that torchrun has started, all of which make the same call.

    They stay together after a training, for the next. When one is lost, torchrun ends the others.

    Args:
        task: what is trained.

    Raises:
        SymnasError: torchrun has not started this process.
    """

    def __init__(self, task: Task) -> None:
        if not distributed.is_torchelastic_launched() and not distributed.is_initialized():
            raise SymnasError(
                'replicas="torchrun": torchrun has not started this process. Start it so ("torchrun '
                '--nproc-per-node 2 search.py"), or give a number of processes of this machine.'
            )
        device = device_of(task, int(os.environ.get("LOCAL_RANK", "0")))
        if not distributed.is_initialized():
            local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
            own = device.type == "cuda" and local <= torch.cuda.device_count()
            distributed.init_process_group(backend_of(device, own), timeout=SILENCE)
            atexit.register(left)
        self.team = Team(device)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Says what to do when a process was lost."""
        try:
            yield
        except BaseException as error:
            self.team.closed = True
            if not isinstance(error, Lost):
                raise
            raise SymnasError(
                f"{error} The supernet is saved after each epoch: the same call of torchrun continues."
            ) from error

    def dismiss(self) -> None:
        """Lets the others go on after their call."""
        if not self.team.closed:
            with self.watched():
                self.team.dismiss()

    def kill(self) -> None:
        """Leaves the others to torchrun."""
        self.team.closed = True


def leads() -> bool:
    """Whether this process leads those that torchrun has started with it, or there are none."""
    return int(os.environ.get("RANK", "0")) == 0
