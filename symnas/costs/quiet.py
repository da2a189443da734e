"""Measuring must not disturb what it stands beside: random generators and modes are put back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def quiet(seed: int = 0) -> Iterator[None]:
    """Seeds torch, numpy and `random` for the block, without gradients, and puts all back.

    So what is measured within neither depends on the global generators nor moves them on.

    >>> torch.manual_seed(1).initial_seed()
    1
    >>> before = torch.get_rng_state()
    >>> with quiet():
    ...     noise = torch.randn(3)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    # A GPU that nobody has used yet is left asleep.
    awake: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = list(range(torch.cuda.device_count())) if awake else []
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=gpus), torch.no_grad():
        # Not torch.manual_seed: that would seed every GPU, also at its first use later on.
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
