"""The time of each of many pieces alone, on this machine."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import torch

from symnas.costs.code import code_digest
from symnas.costs.pieces import Piece, bytes_of
from symnas.costs.profiling import onnx_piece
from symnas.costs.profiling.kept import Item, Kept, kept_times
from symnas.costs.profiling.loop import Probe
from symnas.costs.profiling.real import is_empty, torch_call

_LOG = logging.getLogger("symnas")


@attrs.frozen
class Profiler:
    """Where and how pieces are timed.

    Attributes:
        runtime: "torch" or "onnxruntime".
        threads: of the runtime.
        batch: examples in a batch.
        device: of torch.
    """

    runtime: str = "torch"
    threads: int = 1
    batch: int = 1
    device: str = "cpu"

    def times(self, pieces: Sequence[Piece], cache: Kept) -> list[float]:
        """The milliseconds of each piece.

        Args:
            pieces: those with equal keys are timed once.
            cache: where times are looked up and kept.

        Raises:
            RuntimeError: a piece cannot be run alone.
        """
        by_key = {_key(piece): piece for piece in pieces}
        items = {
            key: Item(partial(self._probe, piece), self._size(piece), piece.kind)
            for key, piece in by_key.items()
            if not is_empty(piece) or (self.runtime == "torch" and piece.module is not None)
        }
        what = f"timing operations in {self.runtime}"
        found = kept_times(items, cache, what, synchronize=self.synchronize)
        return [found.get(_key(piece), 0.0) for piece in pieces]

    def _size(self, piece: Piece) -> int:
        copies = 1 if self.runtime == "torch" else onnx_piece.COPIES + 2
        one = bytes_of(piece.parameters) + self.batch * bytes_of((*piece.inputs, *piece.outputs))
        return copies * one

    def _probe(self, piece: Piece) -> Probe:
        return self._in_torch(piece) if self.runtime == "torch" else self._in_onnxruntime(piece)

    def _in_torch(self, piece: Piece) -> Probe:
        with torch.inference_mode():
            call, factor = torch_call(piece, self.batch, self.device)
        return Probe(call, factor=factor)

    def _in_onnxruntime(self, piece: Piece) -> Probe:
        """A call of one copy and one of several: the difference has no cost of calling."""
        try:
            model, inputs, factor = onnx_piece.exported(piece, self.batch)
            several = onnx_piece.repeated(model, 1 + onnx_piece.COPIES)
            calls = [onnx_piece.session_call(m, inputs, self.threads) for m in (several, model)]
        except Exception as error:
            _LOG.info(
                "A %s cannot be run alone in onnxruntime; its time in torch is taken: %.200s",
                piece.kind,
                error,
            )
            return self._in_torch(piece)
        return Probe(calls[0], baseline=calls[1], factor=factor / onnx_piece.COPIES)

    @property
    def synchronize(self) -> Callable[[], object] | None:
        """What waits for a GPU; None where nothing is to be waited for."""
        if torch.device(self.device).type != "cuda":
            return None
        return lambda: torch.cuda.synchronize(self.device)


def _key(piece: Piece) -> str:
    """Equal for pieces that take the same time, in every process, until their code is edited."""
    code = "" if piece.module is None else code_digest(type(piece.module))
    return hashlib.blake2b(f"{code} {piece.key}".encode(), digest_size=16).hexdigest()
