"""`sn.trace`: define-by-run spaces, for code that makes its choices while it runs.

The function is run with some choices; each call of `sn.oneof` or `sn.intv` inside it returns a
candidate instead of a choice. Other runs, with other candidates, show which decisions appear when.
Nothing of the function is read: what no run reaches is not found, and decoding says so.
"""

from __future__ import annotations

import contextvars
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from symnas.errors import DeclarationError
from symnas.language import registry

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

# Random runs after the systematic ones, to see that the conditions found hold.
CHECKS = 64
MAX_DECISIONS = 200

_tracer: contextvars.ContextVar[Tracer | None] = contextvars.ContextVar("tracer", default=None)


def active_tracer() -> Tracer | None:
    """The tracer of the function that is being traced, or None."""
    return _tracer.get()


class Tracer:
    """One run of a traced function: hands out candidates, notes what was asked."""

    def __init__(self, picks: dict[str, int], rng: random.Random | None = None) -> None:
        self.picks = picks
        self.rng = rng
        self.seen: dict[str, int] = {}
        self.candidates: dict[str, list[Any]] = {}

    def choose(self, kind: str, candidates: list[Any], name: str | None) -> Any:
        """The candidate of this run; a decision is known by its name or its number of appearance."""
        key = name or f"choice{sum(k.startswith('choice') for k in self.seen)}"
        if key in self.seen:
            return _made(candidates[self.seen[key]])  # the same name: the same decision
        if key in self.picks:
            pick = self.picks[key]
        else:
            pick = self.rng.randrange(len(candidates)) if self.rng is not None else 0
        self.seen[key] = pick
        self.candidates[key] = candidates
        return _made(candidates[pick])


def _made(candidate: Any) -> Any:
    # Candidates may be given as functions without arguments, made only when chosen.
    return candidate() if getattr(candidate, "__name__", "") == "<lambda>" else candidate


def run(function: Callable[[], Any], picks: dict[str, int]) -> tuple[Any, Tracer]:
    """Runs a traced function with these choices."""
    tracer = Tracer(dict(picks))
    return _run(function, tracer), tracer


def _run(function: Callable[[], Any], tracer: Tracer) -> Any:
    token = _tracer.set(tracer)
    try:
        return function()
    finally:
        _tracer.reset(token)


def trace(
    function: Callable[[], Any],
    *,
    input: Any = None,
    seed: int = 0,
) -> Space:
    """The space of a function without arguments that calls `sn.oneof` and `sn.intv` as it runs.

    A decision may depend on the values of others: a Python `if` on a choice works. Its name
    identifies a decision, so name those that stand behind an `if`. For multi-trial algorithms.

    Args:
        function: returns a module; run many times here, so it should be quick.
        input: the shape of one example.
        seed: of the random runs that check what was found.

    Raises:
        DeclarationError: decisions appear in a way that conditions on one earlier decision each
            cannot express, or one name has several lists of candidates.

    >>> import symnas as sn, torch
    >>> @sn.symbolize
    ... def net():
    ...     if sn.oneof(["deep", "wide"], name="kind") == "deep":
    ...         return torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(sn.intv(2, 4, name="n"))])
    ...     return torch.nn.Linear(4, sn.oneof([64, 128], name="width"))
    >>> sn.trace(net).size
    5
    """
    from symnas.language.choices import oneof
    from symnas.language.spec import make_spec
    from symnas.searchspace.space import Space

    registry.register(function)
    candidates, when = _explore(function)
    order = list(candidates)

    # A decision's branch: nested in the candidate of the decision that it depends on.
    def node(key: str) -> Any:
        branches: list[Any] = []
        for i in range(len(candidates[key])):
            below = {k: node(k) for k in order if when[k] == (key, i)}
            branches.append({"pick": i, **({"then": below} if below else {})})
        return oneof(branches, name=key)

    program = make_spec(
        traced, (), {"function": function, "picks": {k: node(k) for k in order if when[k] is None}}
    )
    space = Space(program, input=input, name=getattr(function, "__name__", "trace"))
    rng = random.Random(seed)
    for _ in range(CHECKS):
        tracer = Tracer({}, rng)
        _run(function, tracer)
        expected = set()
        for k in order:
            condition = when[k]
            if condition is None or tracer.seen.get(condition[0]) == condition[1]:
                expected.add(k)
        if set(tracer.seen) != expected:
            odd = sorted(set(tracer.seen) ^ expected)
            raise DeclarationError(
                f"sn.trace: whether {odd[0]!r} is decided depends on more than one earlier choice. "
                "Give it the same name in all branches and decide it before them, or declare the "
                "space with sn.space."
            )
    return space


def _explore(
    function: Callable[[], Any],
) -> tuple[dict[str, list[Any]], dict[str, tuple[str, int] | None]]:
    """All decisions, and for each the one earlier choice that it appears under, or None."""
    first = Tracer({})
    _run(function, first)
    candidates = dict(first.candidates)
    when: dict[str, tuple[str, int] | None] = {}
    contexts = {key: dict(first.seen) for key in first.seen}
    queue = list(first.seen)
    reached: dict[str, list[tuple[str, int]]] = {}
    while queue:
        key = queue.pop(0)
        if len(candidates) > MAX_DECISIONS:
            raise DeclarationError(f"sn.trace: more than {MAX_DECISIONS} decisions; name them.")
        base = contexts[key]
        seen_at: dict[int, set[str]] = {}
        for i in range(len(candidates[key])):
            tracer = Tracer({**base, key: i})
            _run(function, tracer)
            seen_at[i] = set(tracer.seen)
            for k, values in tracer.candidates.items():
                if len(candidates.setdefault(k, values)) != len(values):
                    raise DeclarationError(
                        f"sn.trace: {k!r} has {len(candidates[k])} candidates in one run and "
                        f"{len(values)} in another. Name the decisions (name=...)."
                    )
                if k not in contexts:
                    contexts[k] = dict(tracer.seen)
                    queue.append(k)
        everywhere = set.intersection(*seen_at.values())
        for i, seen in seen_at.items():
            for k in seen - everywhere:
                reached.setdefault(k, []).append((key, i))
    for key in candidates:
        # The nearest decision that it depends on is the last one found.
        when[key] = reached[key][-1] if key in reached else None
    return candidates, when


@registry.register
def traced(function: Callable[[], Any], picks: dict[str, Any]) -> Any:
    """Runs a traced function with the picks of an architecture."""
    flat: dict[str, int] = {}

    def flatten(part: dict[str, Any]) -> None:
        for key, value in part.items():
            flat[key] = value["pick"]
            flatten(value.get("then", {}))

    flatten(picks)
    result, tracer = run(function, flat)
    unknown = set(tracer.seen) - set(flat)
    if unknown:
        raise DeclarationError(
            f"sn.trace: the run asked for {sorted(unknown)}, which no run asked for while the "
            "space was traced. Does the function depend on anything but its choices?"
        )
    return result
