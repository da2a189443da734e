"""A sampler of Optuna as a value: it prints, compares, and starts afresh from any seed."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import random
import types
import warnings
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np

from symnas.errors import MissingExtra
from symnas.searching.identity import describe_callable, text_of

_PLAIN = (type(None), bool, int, float, str)
_SEEDS = ("seed", "_seed")


@attrs.frozen(repr=False)
class Sampler:
    """A frozen sampler: equal to another one whose settings are equal, whatever their seeds.

    Attributes:
        text: the sampler as code, as far as its settings can be found again in its constructor;
            for the rest there is a digest.
    """

    text: str
    _sampler: Any = attrs.field(eq=False)

    @classmethod
    def of(cls, sampler: Any) -> Sampler:
        """Freezes a copy of an `optuna.samplers.BaseSampler`; None is `TPESampler()`.

        Raises:
            MissingExtra: Optuna is not installed.
            TypeError: `sampler` is something else.
        """
        if isinstance(sampler, Sampler):
            return sampler
        try:
            import optuna
        except ImportError as error:
            raise MissingExtra("Optuna is not installed: pip install 'symnas[optuna]'.") from error
        if sampler is None:
            sampler = optuna.samplers.TPESampler()
        if not isinstance(sampler, optuna.samplers.BaseSampler):
            raise TypeError(
                f"Optuna: the value of `sampler` ({text_of(sampler)}) must be one of "
                "optuna.samplers, such as optuna.samplers.TPESampler(multivariate=True)."
            )
        sampler = copy.deepcopy(sampler)
        return cls(_text(sampler), sampler)

    def __repr__(self) -> str:
        return self.text

    def seeded(self, seed: int) -> Any:
        """A copy that draws all its randomness from `seed`."""
        sampler = copy.deepcopy(self._sampler)
        seeds = np.random.SeedSequence(seed)
        for holder, name, value in list(_parts(sampler)):
            new = int(seeds.spawn(1)[0].generate_state(1)[0])
            if isinstance(value, np.random.Generator):
                vars(holder)[name] = np.random.default_rng(new)
            elif isinstance(value, np.random.RandomState | random.Random):
                value.seed(new)
            elif _is_lazy(value):
                value.rng.seed(new)  # Optuna's generator, made when first used
            elif name in _SEEDS:
                vars(holder)[name] = new
        return sampler


def _is_lazy(value: Any) -> bool:
    return type(value).__name__ == "LazyRandomState"


def _is_random(name: str, value: Any) -> bool:
    generators = np.random.Generator | np.random.RandomState | random.Random
    return name in _SEEDS or _is_lazy(value) or isinstance(value, generators)


def _parts(root: Any) -> Iterator[tuple[Any, str, Any]]:
    """What a sampler holds of randomness: `(holder, attribute, value)`, each once, in order."""
    seen = {id(root)}
    waiting = [root]
    while waiting:
        holder = waiting.pop(0)
        for name, value in getattr(holder, "__dict__", {}).items():
            if _is_random(name, value):
                if name in _SEEDS or id(value) not in seen:
                    yield holder, name, value
            elif id(value) not in seen and not isinstance(
                value, (*_PLAIN, type, types.FunctionType, types.ModuleType)
            ):
                waiting.append(value)
            seen.add(id(value))


def _described(value: Any, above: tuple[int, ...] = ()) -> Any:
    """A value as JSON, without seeds and random states."""
    if isinstance(value, _PLAIN):
        return value
    if id(value) in above:
        return "above"
    above = (*above, id(value))
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, types.FunctionType | types.MethodType | types.BuiltinFunctionType):
        return describe_callable(value)
    if isinstance(value, list | tuple):
        return [_described(entry, above) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(_described(entry, above)) for entry in value)
    if isinstance(value, dict):
        return {str(key): _described(entry, above) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    held = getattr(value, "__dict__", None)
    if held is None:
        return text_of(value)
    parts = {k: _described(v, above) for k, v in held.items() if not _is_random(k, v)}
    return {"object": _described(type(value)), **parts}


def _text(sampler: Any) -> str:
    """The constructor's call that makes such a sampler, with a digest of what it cannot say."""
    kind = type(sampler)
    given = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        value = vars(sampler).get(f"_{name}", vars(sampler).get(name, parameter.default))
        if name != "seed" and isinstance(value, _PLAIN) and value != parameter.default:
            given[name] = value
    told = _described(sampler)
    for name in list(given):  # what a constructor fills in by itself goes without saying
        less = {other: value for other, value in given.items() if other != name}
        if _remade(kind, less) == _remade(kind, given):
            given = less
    shown = [f"{name}={value!r}" for name, value in given.items()]
    if told != _remade(kind, given):
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        shown.append(f"settings='{digest[:12]}'")
    return f"{kind.__name__}({', '.join(shown)})"


def _remade(kind: type, given: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental ones have warned before
        try:
            return _described(kind(**given))
        except (TypeError, ValueError, ImportError):
            return None
