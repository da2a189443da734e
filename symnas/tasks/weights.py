"""Storing the weights of a trial."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from symnas.files import write_whole


def save_weights(model: nn.Module, path: Path) -> None:
    """Writes a model's `state_dict` at once or not at all; read it with `weights_only=True`."""
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    write_whole(path, lambda part: torch.save(state, part))
