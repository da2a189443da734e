"""Reads a pickle that holds numbers in dicts, and refuses every other one.

Unpickling calls whatever a file names, so a file can run any program. Here, a file may name two
things, and gets for them objects of this module that can do nothing but turn eight bytes into a
float: nothing of numpy or of any other package is called, nor can these objects be changed. What
is not prevented: a file of some bytes can ask for much memory.
"""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any

# A published file has 2 MB. What claims to be much larger is not worth the memory.
LARGEST = 64 * 2**20


class _Double:
    """Stands for numpy's type float64; what a pickle says about it is only checked."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or state[:2] != (3, "<"):
            raise pickle.UnpicklingError(f"a type other than little-endian float64: {state!r:.60}")


class _MakeDouble:
    """Stands for `numpy.dtype`."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> _Double:
        if not arguments or arguments[0] != "f8":
            raise pickle.UnpicklingError(f"a type other than float64: {arguments!r:.60}")
        return _Double()


class _MakeFloat:
    """Stands for `numpy.core.multiarray.scalar`."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> float:
        match arguments:
            case (_Double(), bytes(data)) if len(data) == 8:
                value: float = struct.unpack("<d", data)[0]
                return value
        raise pickle.UnpicklingError(f"a scalar other than a float64: {arguments!r:.60}")


_ALLOWED = {
    ("numpy", "dtype"): _MakeDouble(),
    ("numpy.core.multiarray", "scalar"): _MakeFloat(),
    ("numpy._core.multiarray", "scalar"): _MakeFloat(),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        found = _ALLOWED.get((module_name, global_name))
        if found is None:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside itself")


def read_numbers(path: Path) -> dict[int, dict[str, float]]:
    """What a pickle of `{number: {name: float}}` holds.

    Raises:
        ValueError: the file holds anything else; nothing that it names has been called then.
        FileNotFoundError: there is no such file.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} is larger than {LARGEST // 2**20} MB: no published file is.")
    data = path.read_bytes()
    try:
        found = _Unpickler(io.BytesIO(data)).load()
    except MemoryError:
        raise
    except Exception as problem:  # damaged files raise almost anything
        raise ValueError(
            f"{path} is refused: {problem}. It must be a pickle of numbers in dicts alone, since any "
            "other could run a program."
        ) from problem
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a dict, not a {type(found).__name__}.")
    for number, entry in found.items():
        if type(number) is not int or not isinstance(entry, dict):
            raise ValueError(f"{path}: {number!r:.60} must be a number with a dict.")
        for name, value in entry.items():
            if type(name) is not str or type(value) is not float:
                raise ValueError(f"{path}: {number}: {name!r:.60} must be a name with a float.")
    return found
