"""`sn.nn.Conv2d(...)`: every layer of torch.nn as a spec.

>>> import symnas as sn
>>> sn.Space(sn.nn.Linear(4, sn.oneof([2, 3]))).size
2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from symnas.language.spec import _Lazy

if TYPE_CHECKING:
    from torch.nn import *  # noqa: F403  (editors complete the layers' names and arguments)


def __getattr__(name: str) -> Any:
    layer = getattr(torch.nn, name, None)
    if not (isinstance(layer, type) and issubclass(layer, torch.nn.Module)):
        raise AttributeError(f"torch.nn has no layer named {name!r}, so symnas.nn has none either.")
    return _Lazy(layer)


def __dir__() -> list[str]:
    return [n for n in dir(torch.nn) if isinstance(getattr(torch.nn, n), type)]
