"""Which decisions go with good scores: an association, since the algorithm chose what to try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from symnas.reports.measures import Measure, Numbers

if TYPE_CHECKING:
    from symnas.searchspace.decision import Decision
    from symnas.studies.trial import Trial

_BINS = 4


@attrs.frozen
class Association:
    """How a measure differs between the labels of one decision.

    Attributes:
        decision: index of the decision.
        share: of the measure's variance that goes with the label, 0 to 1, corrected for the number
            of labels (adjusted R^2 of a one-way analysis of variance), over the trials in which
            the decision is active.
        labels: the labels that were tried, in the decision's order.
        means: the mean of the measure, for each label.
        counts: the number of trials, for each label.
    """

    decision: int
    share: float
    labels: tuple[str, ...]
    means: tuple[float, ...]
    counts: tuple[int, ...]


def associations(
    decisions: Sequence[Decision], trials: Sequence[Trial], measure: Measure
) -> list[Association]:
    """One for each decision of which two labels were tried, the strongest first.

    Args:
        decisions: of the space.
        trials: finished ones.
        measure: what is compared.
    """
    values = measure.column(trials)
    good = np.isfinite(values)
    kept = [trial for trial, keep in zip(trials, good, strict=True) if keep]
    found = []
    for index, decision in enumerate(decisions):
        labels = _labels(decision, kept)
        groups = {
            label: values[good][[i for i, own in enumerate(labels) if own == label]]
            for label in _order(decision, labels)
        }
        if len(groups) > 1:
            found.append(
                Association(
                    index,
                    _share(list(groups.values())),
                    tuple(groups),
                    tuple(float(group.mean()) for group in groups.values()),
                    tuple(len(group) for group in groups.values()),
                )
            )
    return sorted(found, key=lambda association: -association.share)


def _labels(decision: Decision, trials: Sequence[Trial]) -> list[str | None]:
    """The label of each trial, None where inactive; ranges of equal counts for a float."""
    own = [trial.choices.get(decision.id) for trial in trials]
    if decision.kind != "float":
        return own
    numbers = np.array([np.nan if label is None else float(label) for label in own])
    if not np.isfinite(numbers).any():
        return own
    edges = np.nanquantile(numbers, np.linspace(0, 1, _BINS + 1))
    bins = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, _BINS - 1)
    return [
        None if np.isnan(number) else f"{edges[b]:.2g} to {edges[b + 1]:.2g}"
        for number, b in zip(numbers, bins, strict=True)
    ]


def _order(decision: Decision, labels: Sequence[str | None]) -> list[str]:
    tried = {label for label in labels if label is not None}
    if decision.kind == "float":
        return sorted(tried, key=lambda label: float(label.split()[0]))
    return [label for label in decision.labels if label in tried]


def _share(groups: Sequence[Numbers]) -> float:
    """Adjusted R^2: 1 - (within / (n - k)) / (total / (n - 1)), at least 0."""
    everything = np.concatenate(groups)
    n, k = len(everything), len(groups)
    total = float(((everything - everything.mean()) ** 2).sum())
    if n <= k or total <= 0:
        return 0.0
    within = float(sum(((group - group.mean()) ** 2).sum() for group in groups))
    return max(0.0, 1.0 - (within / (n - k)) / (total / (n - 1)))
