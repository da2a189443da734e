"""The conformance suite of cost models: run it on your own."""

from __future__ import annotations

import copy
import json
import random

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.constraints import Constraint
from symnas.costs.model import CostModel
from symnas.errors import DeclarationError
from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Costs = NDArray[np.float64]


def check_cost_model(
    model: CostModel, space: Space, samples: int = 4, *, noise: float = 0.0, seed: int = 0
) -> None:
    """Checks a cost model by laws, on random architectures.

    Args:
        model: what is checked.
        space: with an `input`, if the model needs it.
        samples: how many architectures.
        noise: how far two measurements of one architecture may lie apart, relatively.
        seed: of the architectures.

    Raises:
        AssertionError: a law does not hold; the message names the model and the law.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> check_cost_model(cm.Macs(), sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])), input=(4,)))
    """
    check_value(model)
    rows = space.sample(samples, seed)
    rows = rows[space.is_valid(rows)]
    assert len(rows), _say(model, f"none of {samples} random rows of the space is valid: draw more")
    check_numbers(model, space, rows, noise)
    check_undisturbed(model, space, rows, noise)
    check_comparisons(model, space, rows)


def check_value(model: CostModel) -> None:
    """A model is a value: named, comparable, printable, and described by plain data."""
    for attribute in ("name", "unit", "device", "device_name"):
        text = getattr(model, attribute)
        assert isinstance(text, str) and text, _say(
            model, f"`{attribute}` ({text!r}) must be a word"
        )
    twin = copy.deepcopy(model)
    assert twin == model and hash(twin) == hash(model), _say(
        model, "a copy must be equal: decorate the class with @attrs.frozen"
    )
    assert repr(twin) == repr(model), _say(model, "equal models must print alike")
    text = json.dumps(model.describe(), allow_nan=False, sort_keys=True)
    assert text == json.dumps(twin.describe(), sort_keys=True), _say(
        model, "equal models must be described alike"
    )


def check_numbers(model: CostModel, space: Space, rows: Rows, noise: float = 0.0) -> None:
    """Costs are finite, not negative, repeatable, and the same however they are asked for."""
    bound = model.bind(space)
    assert (bound.name, bound.unit) == (model.name, model.unit), _say(model, "binding renames it")
    values = bound(rows)
    assert values.shape == (len(rows),) and values.dtype == np.float64, _say(
        model, f"a bound cost must give (n,) float64, not {values.shape} {values.dtype}"
    )
    assert np.isfinite(values).all() and (values >= 0).all(), _say(
        model, f"costs must be finite and not negative: {values.tolist()}"
    )
    assert np.array_equal(bound(rows), values), _say(model, "a bound cost must remember")
    backwards = model.bind(space)(rows[::-1])[::-1]
    _assert_close(model, backwards, values, noise, "the order of the rows must not matter")
    direct = np.array([model(space.decode(row)) for row in rows])
    _assert_close(model, direct, values, noise, "called with an architecture it must say the same")
    assert bound(rows[:0]).shape == (0,), _say(model, "no rows must have no costs")


def check_undisturbed(model: CostModel, space: Space, rows: Rows, noise: float = 0.0) -> None:
    """Measuring neither uses nor moves the global generators, and leaves torch's modes alone."""
    row = rows[0]
    values, after = [], []
    for start in (1, 2):
        torch.manual_seed(start)
        np.random.seed(start)
        random.seed(start)
        before, modes = _draws(), _modes()
        torch.manual_seed(start)
        np.random.seed(start)
        random.seed(start)
        values.append(model(space.decode(row)))
        assert _draws() == before, _say(
            model, "measuring must leave the generators of torch, numpy and random where they were"
        )
        assert _modes() == modes, _say(model, "measuring must put torch's threads and modes back")
        after.append(values[-1])
    _assert_close(
        model, np.array(values[:1]), np.array(values[1:]), noise,
        "the cost must not depend on the global generators",
    )  # fmt: skip


def check_comparisons(model: CostModel, space: Space, rows: Rows) -> None:
    """`model <= x` is a constraint; chained comparisons are refused."""
    values = model.bind(space)(rows)
    limit = float(np.median(values))
    constraint = model <= limit
    assert isinstance(constraint, Constraint), _say(model, "`<=` must give a constraint")
    assert np.array_equal(constraint.hold(values), values <= limit), _say(
        model, "a constraint must hold exactly where the cost keeps to the limit"
    )
    try:
        held = bool(0.0 <= model <= limit)
    except DeclarationError:
        return
    raise AssertionError(_say(model, f"`0 <= cost <= {limit}` must be refused, and gave {held}"))


def _assert_close(
    model: CostModel,
    found: Costs,
    expected: Costs,
    noise: float,
    law: str,
) -> None:
    slack = noise * np.maximum(abs(found), abs(expected))
    assert (abs(found - expected) <= slack).all(), _say(
        model, f"{law}: {found.tolist()} and {expected.tolist()}"
    )


def _draws() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.random()), random.random()


def _modes() -> tuple[object, ...]:
    return torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()


def _say(model: CostModel, law: str) -> str:
    return f"{model!r}: {law}"
