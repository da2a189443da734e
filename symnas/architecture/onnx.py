"""Architectures and trained networks as ONNX files, checked against torch's own output."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from symnas.errors import MissingExtra, SymnasError

# The largest difference from torch, relative to the largest output. Half precision has fewer bits.
TOLERANCE = 1e-3
_TOLERANCES = {torch.float16: 2e-2, torch.bfloat16: 1e-1}


def to_onnx(
    network: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    input: tuple[int, ...] | None = None,
    batch: int | str = "dynamic",
    check: bool = True,
) -> Path | bytes:
    """Exports a network for inference, as one file.

    The network is left as it was: its modes, devices and weights, and torch's random generator.

    Args:
        network: an `Architecture` (built with fresh weights) or a trained `nn.Module`.
        path: where to write; None returns the bytes.
        input: the shape of one example; needed for a module, else the architecture's.
        batch: "dynamic", or the number of examples a pass.
        check: run the file with onnxruntime on random input, and compare all outputs with torch.

    Raises:
        MissingExtra: onnx (or, for `check`, onnxruntime) is not installed.
        ValueError: the input's shape is not known or does not fit, or the folder does not exist.
        TypeError: the program does not make an `nn.Module`.
        SymnasError: the network cannot be exported, or the file computes something else.

    >>> import symnas as sn
    >>> net = sn.Architecture(sn.nn.Linear(4, 2), input=(4,))
    >>> len(net.to_onnx()) > 100
    True
    """
    shape = _shape(input if input is not None else getattr(network, "input", None))
    if batch != "dynamic" and (not isinstance(batch, int) or isinstance(batch, bool) or batch < 1):
        raise ValueError(f"`batch` ({batch!r}) must be 'dynamic' or a number of at least 1.")
    target = None if path is None else Path(path)
    if target is not None and not target.parent.is_dir():
        raise ValueError(
            f"`path` ({target}): the folder {target.parent} must exist; make it first."
        )
    _need("onnx")
    if check:
        _need("onnxruntime")
    dynamic = batch == "dynamic"
    # Two examples: with one, exporters take the batch for a constant.
    size = 2 if isinstance(batch, str) else batch
    with _generator_kept():
        module = network if isinstance(network, torch.nn.Module) else network.build()
        if not isinstance(module, torch.nn.Module):
            raise TypeError(
                f"The program makes a {type(module).__name__}; only an nn.Module can be exported."
            )
        with _as_for_inference(module):
            x = _example(module, (size, *shape))
            outputs = _run(module, x)
            model = _export(module, x, len(outputs), dynamic)
            if check:
                # Another batch size: what was frozen while exporting shows.
                other = _example(module, (3, *shape)) if dynamic else x
                expected = _run(module, other)
                _need_repeatable(expected, _run(module, other))
                _compare(model, other, expected)
    if target is None:
        return model
    target.write_bytes(model)
    return target


def _shape(shape: Any) -> tuple[int, ...]:
    if shape is None:
        raise ValueError(
            "`input` must be the shape of one example, such as (3, 32, 32): a module does not "
            "know it. An architecture knows it where its space was given `input=`."
        )
    if not isinstance(shape, tuple | list) or not all(
        isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape
    ):
        raise ValueError(
            f"`input` ({shape!r}) must be a tuple of sizes of at least 1, without the batch, such "
            "as (3, 32, 32)."
        )
    return tuple(shape)


def _example(module: torch.nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    floats = (p.dtype for p in module.parameters() if p.dtype.is_floating_point)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, device="cpu", dtype=torch.float32)
    return x.to(next(floats, torch.float32))


def _run(module: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that a network gives; also tells at once what cannot run at all."""
    try:
        with torch.no_grad():
            result = module(x)
    except Exception as error:
        raise ValueError(
            f"The network cannot be run on input of shape {tuple(x.shape)}: "
            f"{type(error).__name__}: {_short(error)}. Is `input` the shape of one example?"
        ) from error
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def _export(module: torch.nn.Module, x: torch.Tensor, outputs: int, dynamic: bool) -> bytes:
    named = ["output", *(f"output_{i}" for i in range(1, outputs))]
    names: dict[str, Any] = {"input_names": ["input"], "output_names": named}
    with quiet_export():
        buffer = io.BytesIO()
        try:
            # Several times faster than the exporter by graph capture, which is the second try.
            axes = {name: {0: "batch"} for name in ["input", *named]} if dynamic else None
            options = {"dynamo": False, "dynamic_axes": axes, **names}
            torch.onnx.export(module, (x,), buffer, **options)  # type: ignore[arg-type]
            return buffer.getvalue()
        except Exception as error:
            first = error
        _need("onnxscript")
        try:
            shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
            program = torch.onnx.export(
                module, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False, **names
            )
            assert program is not None
            buffer = io.BytesIO()
            program.save(buffer)  # type: ignore[arg-type]  # it takes a buffer too
            return buffer.getvalue()
        except Exception as second:
            raise SymnasError(
                "The network cannot be exported to ONNX. By tracing: "
                f"{type(first).__name__}: {_short(first)}. By graph capture: "
                f"{type(second).__name__}: {_short(second)}"
            ) from second


def _need_repeatable(first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    """Raises where the same input gives two results: one draw may well be near the file's own."""
    for a, b in zip(first, second, strict=True):
        if a.shape != b.shape or not torch.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True):
            raise SymnasError(
                "The network gives two results for one input: its `forward` depends on chance, or "
                "on how often it ran. An ONNX file of it cannot be compared; pass check=False if "
                "that is meant."
            )


def _compare(model: bytes, x: torch.Tensor, expected: list[torch.Tensor]) -> None:
    onnx, runtime = _need("onnx"), _need("onnxruntime")
    onnx.checker.check_model(onnx.load_model_from_string(model))
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()  # none where the output does not depend on the input
        feed = {given[0].name: x.numpy()} if given else {}
        found = [torch.from_numpy(array) for array in session.run(None, feed)]
    except Exception as error:
        raise SymnasError(
            f"onnxruntime cannot run the exported file on {x.dtype}: {_short(error)}. Pass "
            "check=False if another runtime is to run it."
        ) from error
    if len(found) != len(expected):
        raise _differs(f"{len(found)} outputs", f"{len(expected)} outputs")
    for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        which = f"output {i}: " if len(expected) > 1 else ""
        if ours.shape != theirs.shape:
            raise _differs(f"{which}shape {tuple(ours.shape)}", f"shape {tuple(theirs.shape)}")
        a, b = ours.double(), theirs.double()
        # Where torch gives NaN or an infinity, the file must give the same.
        difference = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs())
        if difference.numel() == 0:
            continue
        largest = float(difference.max())
        scale = float(b.nan_to_num(0.0, 0.0, 0.0).abs().max())
        if not largest <= _TOLERANCES.get(x.dtype, TOLERANCE) * max(1.0, scale):
            raise _differs(f"{which}off by {largest:.3g}", f"values up to {scale:.3g}")


def _differs(found: str, expected: str) -> SymnasError:
    return SymnasError(
        f"The ONNX file computes something else than torch ({found}; expected {expected}). Does "
        "`forward` depend on the values or the batch size of its input? Then export with a fixed "
        "`batch`, or write it without such branches."
    )


@contextlib.contextmanager
def _as_for_inference(module: torch.nn.Module) -> Iterator[None]:
    """Eval mode on the CPU, and back: the same tensors where they were, mixed devices included."""
    modes = [(part, part.training) for part in module.modules()]
    moved: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        module.eval()
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.device.type == "meta":
                raise ValueError(
                    "A network on the meta device has no weights to export. Build it on the CPU: "
                    "architecture.build()."
                )
            if tensor.device.type != "cpu":
                moved.append((tensor, tensor.data))
                tensor.data = tensor.data.cpu()
        yield
    finally:
        for tensor, data in moved:
            tensor.data = data
        for part, mode in modes:
            part.training = mode


@contextlib.contextmanager
def _generator_kept() -> Iterator[None]:
    # Weights of an architecture come from the global generator, as in `build`; it is not moved on.
    with torch.random.fork_rng(devices=[]):
        yield


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    names = ("torch.onnx", "torch._subclasses.fake_tensor", "torch.export", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    # On failure torch prints the whole graph from C++, past sys.stdout; its own switch for that
    # has no effect, as `setup_onnx_logging` of torch 2.13 turns it on whatever it was.
    bindings: Any = torch._C
    printer = getattr(bindings, "_jit_onnx_log", None)
    bindings._jit_onnx_log = lambda *parts: None
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        bindings._jit_onnx_log = printer
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _short(error: BaseException) -> str:
    """The first lines of a message, without a terminal's colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return text if len(text) <= 300 else text[:297] + "..."


def _need(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(
            f"ONNX needs the package {package}: pip install 'symnas[onnx]'."
        ) from error
