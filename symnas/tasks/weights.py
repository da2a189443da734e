"""Storing the weights of a trial."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn


def save_weights(model: nn.Module, path: Path) -> None:
    """Writes a model's `state_dict` at once or not at all; read it with `weights_only=True`."""
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)
