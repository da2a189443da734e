"""Whole networks, ready to be run and timed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch

from symnas.architecture.architecture import Architecture
from symnas.costs.bound import network_key
from symnas.costs.code import code_digest
from symnas.costs.layers import network, shape_network
from symnas.costs.profiling.onnx_piece import session_of
from symnas.costs.profiling.prices import Profiler
from symnas.costs.profiling.real import Call


def network_call(architecture: Architecture, where: Profiler) -> Call:
    """A run of the network on random numbers; the caller keeps threads and generators."""
    if where.runtime == "onnxruntime":
        return _in_onnxruntime(architecture, where)  # exporting wants no inference mode
    with torch.inference_mode():
        module = network(architecture).to(where.device)
        x = _input(architecture, where.batch).to(where.device)
        return lambda: module(x)


def _in_onnxruntime(architecture: Architecture, where: Profiler) -> Call:
    network(architecture)  # what cannot be built says so itself, not through the exporter
    model = architecture.to_onnx(None, batch=where.batch, check=False)
    assert isinstance(model, bytes)
    session = session_of(model, where.threads)
    given = session.get_inputs()  # none where the output does not depend on the input
    feed = {given[0].name: _input(architecture, where.batch).numpy()} if given else {}
    return lambda: session.run(None, feed)


def _input(architecture: Architecture, batch: int) -> torch.Tensor:
    assert architecture.input is not None
    return torch.randn(batch, *architecture.input)


def timed_key(architecture: Architecture) -> str:
    """Equal for networks that take the same time: the program, and the code behind it."""
    module = shape_network(architecture)
    kinds = sorted(
        {type(part) for part in module.modules()}, key=lambda k: (k.__module__, k.__qualname__)
    )
    shapes = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    text = f"{network_key(architecture)} {code_digest(*kinds)} {module!r} {shapes}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Sets torch's threads for the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
