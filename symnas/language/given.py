"""Live modules that are part of a program on purpose: remembered by content, copied per build."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import torch

from symnas.errors import DeclarationError
from symnas.language import registry

_modules: dict[str, torch.nn.Module] = {}


@registry.register
def given_module(token: str) -> torch.nn.Module:
    """A copy of the module that this process gave under `token`."""
    if token not in _modules:
        raise DeclarationError(
            f"The program has a module given by sn.given (token {token}), which a file does not "
            "hold. Call sn.given(module) with the same module first."
        )
    return copy.deepcopy(_modules[token])


def remember(module: Any) -> Any:
    """A spec of a copy of `module`; its token is a hash of the class and the weights."""
    from symnas.language.spec import make_spec

    if not isinstance(module, torch.nn.Module):
        raise DeclarationError(f"sn.given: `module` ({module!r}) must be a torch.nn.Module.")
    digest = hashlib.blake2b(digest_size=8)
    digest.update(repr(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(
            tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    token = digest.hexdigest()
    _modules[token] = module
    return make_spec(given_module, (token,), {})
