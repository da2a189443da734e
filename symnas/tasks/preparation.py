"""From what a user passes as data to checked examples."""

from __future__ import annotations

from typing import Any

import attrs

from symnas.tasks import checks
from symnas.tasks.examples import AnyExamples, as_kind, examples_of


@attrs.frozen
class Prepared:
    """Checked data. `validation` is a share of `train`, or examples of its own."""

    train: AnyExamples
    validation: float | AnyExamples
    test: AnyExamples | None
    kind: str
    classes: int | None


def prepared(
    train: Any, validation: Any, test: Any, kind: str | None, classes: int | None, loaders: int
) -> Prepared:
    """Reads and checks data; the arguments are those of `sn.Task`.

    Raises:
        DeclarationError: something in the data cannot be trained with.
    """
    checks.check_share(validation)
    learned = examples_of("train", train, loaders)
    kind = checks.kind_of(kind, learned.targets)
    learned = as_kind(learned, kind)
    if kind == "classification":
        classes = checks.classes_of("train", learned.targets, classes)

    def held_out(name: str, value: Any) -> AnyExamples:
        found = as_kind(examples_of(name, value, loaders), kind)
        checks.check_same_input(name, found, learned)
        if kind == "classification":
            checks.classes_of(name, found.targets, classes)
        return found

    is_share = isinstance(validation, float)
    return Prepared(
        learned,
        validation if is_share else held_out("validation", validation),
        None if test is None else held_out("test", test),
        kind,
        classes,
    )
