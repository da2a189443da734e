"""What the command line's texts name: spaces, tasks, algorithms, costs, constraints."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from symnas.searchspace.space import Space

KINDS = {
    "algorithms": "symnas.algorithms",
    "spaces": "symnas.spaces",
    "costs": "symnas.cost_models",
}


class UsageError(Exception):
    """A mistake on the command line: shown as one line, without a traceback."""


def plug_ins(kind: str) -> dict[str, Any]:
    """Entry points of one kind, by name: those of symnas and of other installed packages."""
    return {point.name: point for point in sorted(entry_points(group=KINDS[kind]))}


def load_named(kind: str, name: str) -> Any:
    """What the entry point `name` of that kind stands for."""
    known = plug_ins(kind)
    if name not in known:
        raise UsageError(
            f"No {kind.rstrip('s')} is named {name!r}. Known: {', '.join(known)} "
            f"(`symnas list {kind}`)."
        )
    return known[name].load()


def load_object(text: str, what: str) -> Any:
    """What `module:name` or `file.py:name` stands for."""
    module_name, _, attribute = text.partition(":")
    if not attribute:
        raise UsageError(f"{what} ({text!r}) must be MODULE:NAME or FILE.py:NAME.")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if module_name.endswith(".py"):
        file = Path(module_name)
        if not file.is_file():
            raise UsageError(f"{what} ({text!r}): there is no file {module_name}.")
        sys.path.insert(0, str(file.resolve().parent))
        module_name = file.stem
    try:
        value = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(f"{what} ({text!r}): {error}.") from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            names = (
                [n for n in vars(value) if not n.startswith("_")] if inspect.ismodule(value) else []
            )
            raise UsageError(
                f"{what} ({text!r}): {module_name} has no {part!r}. It has: {', '.join(names[:12])}."
            )
        value = getattr(value, part)
    return value


def find_space(text: str) -> Space:
    """The space of `MODULE:SPACE`, or of a name that `symnas list spaces` shows."""
    value = load_object(text, "SPACE") if ":" in text else load_named("spaces", text)
    if callable(value) and not isinstance(value, Space):
        value = value()
    if not isinstance(value, Space):
        raise UsageError(
            f"SPACE ({text!r}) must be a Space, or a function without arguments that returns one; "
            f"it is a {type(value).__name__}."
        )
    return value


def find_task(text: str, epochs: int | None) -> Any:
    """The task of `MODULE:TASK`, or one on a data set of `symnas.data`."""
    from symnas import data
    from symnas.tasks.task import Task

    if ":" in text:
        return load_object(text, "--task")
    sets: dict[str, Callable[[], Any]] = {"mnist5k": data.mnist5k, "digits": data.digits}
    sets |= {name: partial(data.table, name) for name in data.TABLES}
    if text not in sets:
        raise UsageError(f"--task ({text!r}) must be MODULE:TASK, or one of: {', '.join(sets)}.")
    found = sets[text]()
    options: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    return Task(found.train, test=found.test, **options)


def find_algorithm(text: str) -> Any:
    """The algorithm of `NAME` or `NAME:key=value,...`."""
    name, _, options = text.partition(":")
    made = load_named("algorithms", name)
    arguments = options_of(options, f"--algorithm ({text!r})")
    try:
        return made(**arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--algorithm ({text!r}): {error}") from error


def find_constraint(text: str) -> Any:
    """The constraint of `latency_ms<=2`: a cost's name, a unit for the reader, and a bound."""
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*([-+.\deE]+)\s*", text)
    if match is None:
        raise UsageError(
            f"--subject-to ({text!r}) must be COST<=NUMBER or COST>=NUMBER, such as 'latency_ms<=2'."
        )
    name, sign, number = match.groups()
    try:
        limit = float(number)
    except ValueError:
        raise UsageError(f"--subject-to ({text!r}): {number!r} is not a number.") from None
    cost = find_cost(name)
    return cost <= limit if sign == "<=" else cost >= limit


def find_cost(text: str) -> Any:
    """The cost of `latency`, or of `latency_ms` where that is its unit."""
    known = plug_ins("costs")
    if text in known:
        return known[text].load()()
    name, _, unit = text.rpartition("_")
    if name in known:
        cost = known[name].load()()
        if cost.unit.lower() != unit.lower():
            raise UsageError(f"{text!r}: the unit of {name} is {cost.unit}, not {unit}.")
        return cost
    raise UsageError(f"No cost is named {text!r}. Known: {', '.join(known)} (`symnas list costs`).")


def find_objective(text: str) -> Any:
    """A cost's name stands for the cost, any other name for a metric of the task."""
    try:
        return find_cost(text)
    except UsageError:
        return text


def options_of(text: str, what: str) -> dict[str, Any]:
    """The arguments of `key=value,...`: Python literals, and texts where they are none."""
    found = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"{what}: {part!r} must be key=value.")
        try:
            found[key.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            found[key.strip()] = value.strip()
    return found


def first_line(point: Any) -> str:
    """The first line of an entry point's docstring."""
    try:
        text = inspect.getdoc(point.load()) or ""
    except Exception as error:
        return f"cannot be loaded: {type(error).__name__}: {error}"
    return text.strip().split("\n", 1)[0]
