"""What onnxruntime computes within the operation before: batch norms and activations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from symnas.costs.pieces import Piece

# By kind: what takes others in, and what is taken in without time of its own.
CONVOLUTIONS = {"Conv1d", "Conv2d", "Conv3d", "convolution"}
PRODUCTS = {"Linear", "addmm"}
NORMS = {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d"}
ACTIVATIONS = {
    "ReLU", "ReLU6", "Hardtanh", "LeakyReLU", "Sigmoid", "Tanh", "Hardsigmoid",
    "relu", "relu_", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "sigmoid", "sigmoid_",
    "tanh", "tanh_", "hardsigmoid", "hardsigmoid_",
}  # fmt: skip


class Fusion:
    """How often a piece stands where onnxruntime fuses it with the one before.

    A price is one number for each piece, wherever it stands. Pieces that stand in both kinds of
    places (a ReLU after a convolution here, after an addition there) get their average.

    Args:
        runs: the pieces of some networks, each in order of execution. Of pieces that are in none,
            those of the same kind tell; of kinds that are in none, it is taken for granted.

    >>> import symnas as sn
    >>> from symnas.costs.record import pieces_of
    >>> layers = [sn.nn.Conv2d(3, 8, 3), sn.nn.BatchNorm2d(8), sn.nn.ReLU(), sn.nn.ReLU()]
    >>> net = sn.Architecture(sn.nn.Sequential(*layers), input=(3, 8, 8))
    >>> pieces = [piece for _, piece in pieces_of(net)]
    >>> [Fusion([pieces]).share(piece) for piece in pieces]
    [0.0, 1.0, 0.5, 0.5]
    """

    def __init__(self, runs: Iterable[Sequence[Piece]] = ()) -> None:
        self._of_piece: dict[str, list[bool]] = defaultdict(list)
        self._of_kind: dict[str, list[bool]] = defaultdict(list)
        for run in runs:
            for piece, fused in zip(run, fused_pieces(run), strict=True):
                if piece.kind in NORMS | ACTIVATIONS:
                    self._of_piece[piece.key].append(fused)
                    self._of_kind[piece.kind].append(fused)

    @classmethod
    def of_space(cls, found: Any) -> Fusion:
        """Of the networks that a space's tables were checked with (a `SpacePieces`)."""
        runs = []
        for _, run in found.held_out:
            numbers = [number for place, number in run if place[1] != "parameters"]
            runs.append([found.recorder.pieces[number] for number in numbers])
        return cls(runs)

    def share(self, piece: Piece) -> float:
        """From 0 (a node of its own everywhere) to 1 (fused everywhere)."""
        if piece.kind not in NORMS | ACTIVATIONS:
            return 0.0
        seen = self._of_piece.get(piece.key) or self._of_kind.get(piece.kind)
        return sum(seen) / len(seen) if seen else 1.0


def fused_pieces(run: Sequence[Piece]) -> list[bool]:
    """For each piece of a run, whether it is computed within the one before it."""
    result = []
    before: Piece | None = None  # what could still take something in
    normed = False
    for piece in run:
        if not piece.operations:  # identities stand between without effect
            result.append(False)
            continue
        fused = False
        if before is not None and _feeds(before, piece):
            norm = piece.kind in NORMS and before.kind in CONVOLUTIONS and not normed
            fused = norm or piece.kind in ACTIVATIONS
            normed = norm
        if not fused or not normed:
            can = piece.kind in CONVOLUTIONS | PRODUCTS
            before, normed = (piece if can else None), False
        result.append(fused)
    return result


def _feeds(before: Piece, piece: Piece) -> bool:
    if len(piece.inputs) == 0 or len(before.outputs) != 1:
        return False
    return piece.inputs[0].shape == before.outputs[0].shape
