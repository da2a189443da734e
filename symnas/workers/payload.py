"""What a worker process needs beforehand: the task, the space, and the callables it names.

It goes through cloudpickle, from this process to its own children only, because a task may be a
local function or live in `__main__`, which workers never import again. Nothing of it is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import cloudpickle
import pyglove as pg

from symnas.errors import SymnasError
from symnas.language import registry
from symnas.language.spec import is_spec
from symnas.searchspace.space import Space


@attrs.frozen
class Payload:
    """Unpickled in a worker: the task, its metrics, the space, and callables that it names."""

    task: Any
    space: Space
    metrics: tuple[str, ...]
    callables: tuple[Callable[..., Any], ...]

    def register(self) -> None:
        """Lets programs name the callables here as they do in the parent process."""
        for target in self.callables:
            registry.register(target)


def pack(task: Any, metrics: tuple[str, ...], space: Space) -> bytes:
    """The payload as bytes for a worker process.

    Raises:
        SymnasError: the task or the space cannot be sent to another process.
    """
    payload = Payload(task, space, metrics, tuple(callables_of(space.program)))
    try:
        return bytes(cloudpickle.dumps(payload))
    except Exception as error:
        raise SymnasError(
            f"The task and space cannot be sent to worker processes: {type(error).__name__}: {error}. "
            "They may not hold open files, locks, connections or running threads: open them "
            "inside the task, or evaluate in this process with workers=1."
        ) from error


def callables_of(program: Any) -> list[Callable[..., Any]]:
    """The registered callables that a program names, candidates of its choices included."""
    found: dict[int, Callable[..., Any]] = {}

    def visit(_path: Any, value: Any, _parent: Any) -> Any:
        target = value.target if is_spec(value) else value
        plain = callable(target) and not isinstance(target, pg.Symbolic)
        if plain and registry.is_registered(target):
            found[id(target)] = target
        return pg.TraverseAction.ENTER

    pg.traverse(program, visit)
    return list(found.values())
