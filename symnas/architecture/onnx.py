"""Networks as ONNX files, checked against torch's own output."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from symnas.errors import MissingExtra, SymnasError

TOLERANCE = 1e-3


def to_onnx(
    network: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    input: tuple[int, ...] | None = None,
    batch: int | str = "dynamic",
    check: bool = True,
) -> Path | bytes:
    """Exports a network for inference, as one file.

    Args:
        network: an `Architecture` (built with fresh weights) or a trained `nn.Module`.
        path: where to write; None returns the bytes.
        input: the shape of one example; needed for a module, else the architecture's.
        batch: "dynamic", or the number of examples a pass.
        check: run the file with onnxruntime on random input, and compare with torch.

    Raises:
        MissingExtra: onnx is not installed.
        ValueError: the input's shape is not known.
        SymnasError: the network cannot be exported, or the file computes something else.

    >>> import symnas as sn
    >>> net = sn.Architecture(sn.nn.Linear(4, 2), input=(4,))
    >>> len(net.to_onnx()) > 100
    True
    """
    _need("onnx")
    module = network if isinstance(network, torch.nn.Module) else network.build()
    shape = input if input is not None else getattr(network, "input", None)
    if shape is None:
        raise ValueError(
            "`input` must be the shape of one example, such as (3, 32, 32): a module does not "
            "know it. An architecture knows it where its space was given `input=`."
        )
    if batch != "dynamic" and (not isinstance(batch, int) or batch < 1):
        raise ValueError(f"`batch` ({batch!r}) must be 'dynamic' or a number of at least 1.")
    generator = torch.Generator().manual_seed(0)
    # Two examples: with one, exporters take the batch for a constant.
    size = 2 if batch == "dynamic" else int(batch)
    x = torch.randn((size, *shape), generator=generator)
    with _as_for_inference(module):
        model = _export(module, x, batch == "dynamic")
        if check:
            other = torch.randn((3 if batch == "dynamic" else size, *shape), generator=generator)
            _compare(model, module, other)
    if path is None:
        return model
    target = Path(path)
    target.write_bytes(model)
    return target


def _export(module: torch.nn.Module, x: torch.Tensor, dynamic: bool) -> bytes:
    buffer = io.BytesIO()
    names: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"]}
    with _quiet():
        try:
            # Several times faster than the exporter by graph capture, which is the second try.
            axes = {"input": {0: "batch"}, "output": {0: "batch"}} if dynamic else None
            options = {"dynamo": False, "dynamic_axes": axes, **names}
            torch.onnx.export(module, (x,), buffer, **options)  # type: ignore[arg-type]
            return buffer.getvalue()
        except Exception as first:
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
                    f"{type(first).__name__}: {str(first)[:300]}. By graph capture: "
                    f"{type(second).__name__}: {str(second)[:300]}"
                ) from second


def _compare(model: bytes, module: torch.nn.Module, x: torch.Tensor) -> None:
    import onnx

    onnx.checker.check_model(onnx.load_model_from_string(model))
    runtime = _need("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    with torch.no_grad():
        expected = module(x)
    if not isinstance(expected, torch.Tensor):
        return
    scale = max(1.0, float(expected.abs().max()))
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else None
    if difference is None or not difference <= TOLERANCE * scale:
        what = f"shape {tuple(found.shape)}" if difference is None else f"off by {difference:.3g}"
        raise SymnasError(
            f"The ONNX file computes something else than torch ({what}; expected shape "
            f"{tuple(expected.shape)}). Does `forward` depend on the values or the batch size of "
            "its input? Then export with batch=1, or write it without such branches."
        )


@contextlib.contextmanager
def _as_for_inference(module: torch.nn.Module) -> Iterator[None]:
    """Eval mode on the CPU, and back."""
    modes = [(part, part.training) for part in module.modules()]
    parameter = next(module.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    module.eval().cpu()
    try:
        yield
    finally:
        module.to(device)
        for part, mode in modes:
            part.training = mode


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _need(package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(
            f"ONNX needs the package {package}: pip install 'symnas[onnx]'."
        ) from error
