"""Runs of a supernet on a part of a batch, whose results are those for the whole batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from symnas.errors import SymnasError
from symnas.oneshot.distributed.synchronised import Synchronised
from symnas.tasks.seeding import derive

if TYPE_CHECKING:
    from symnas.oneshot.distributed.team import Team


class Calls:
    """What happens before and after a run of the supernet on a part of a batch.

    What is drawn in a run, such as dropout, is drawn in each process by itself: parts differ in
    length, and processes that had drawn more than others would draw other paths after it.
    """

    def __init__(self, team: Team) -> None:
        self.team = team
        self.norms: Synchronised | None = None

    def before(self, net: nn.Module, args: Any) -> None:
        """Before a run."""
        self.kept = self._states()
        seed = int(torch.randint(2**62, ()))
        # Where something is drawn, the next run draws something else.
        self.advanced = self._states()
        torch.manual_seed(derive(seed, f"process {self.team.rank}"))
        self.own = self._states()
        self.norms = Synchronised(self.team.total, self.team.stacked)
        self.norms.__enter__()  # type: ignore[no-untyped-call]

    def after(self, net: nn.Module, args: Any, outputs: Any) -> Any:
        """After a run, also where it failed."""
        if self.norms is not None:
            self.norms.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self.norms = None
            drawn = not all(map(torch.equal, self.own, self._states()))
            self._set(self.advanced if drawn else self.kept)
        return None if outputs is None else self._whole(outputs, len(args[0]))

    def _states(self) -> list[Tensor]:
        device = self.team.device
        cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        return [torch.get_rng_state(), *cuda]

    def _set(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for state in states[1:]:
            torch.cuda.set_rng_state(state, self.team.device)

    def _whole(self, outputs: Any, own: int) -> Any:
        if isinstance(outputs, Tensor):
            if outputs.ndim == 0 or len(outputs) != own:
                raise SymnasError(
                    f"For {own} examples the network gives a tensor of the shape "
                    f"{tuple(outputs.shape)}; on several processes its first dimension must be that of "
                    "the examples. Train in one process, replicas=1."
                )
            half = outputs.dtype in (torch.bfloat16, torch.float16)
            whole = self.team.gathered(outputs.float() if half else outputs)
            return whole.to(outputs.dtype)
        if isinstance(outputs, dict):
            return type(outputs)({k: self._whole(v, own) for k, v in outputs.items()})
        if isinstance(outputs, tuple) and hasattr(outputs, "_fields"):
            return type(outputs)(*(self._whole(v, own) for v in outputs))
        if isinstance(outputs, tuple | list):
            return type(outputs)(self._whole(v, own) for v in outputs)
        return outputs
