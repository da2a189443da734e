"""Rows from a trial of Optuna, decision by decision, and the parameters that a row stands for.

A parameter is named by its decision's id, and is suggested only where the decision is active:
conditional spaces are Optuna's define-by-run ones. A categorical decision is one of its labels, an
ordinal one the index among its candidates, a float the share of the way along its scale.
"""

from __future__ import annotations

from typing import Any

from symnas.searchspace import conditions as cond
from symnas.searchspace.compile import Rule
from symnas.searchspace.decision import FLOAT_LEVELS
from symnas.searchspace.space import Space


class Suggesting:
    """Rows of a space in terms of Optuna's parameters."""

    def __init__(self, space: Space) -> None:
        from optuna import distributions

        self._space = space
        self._rules = {c: rule for rule in space._compiled.rules for c in rule.columns}
        self._labels = [{text: i for i, text in enumerate(d.labels)} for d in space.decisions]
        self._distributions: list[Any] = [
            distributions.FloatDistribution(0.0, 1.0)
            if d.kind == "float"
            else distributions.IntDistribution(0, d.size - 1)
            if d.kind == "ordinal"
            else distributions.CategoricalDistribution(d.labels)
            for d in space.decisions
        ]

    def row(self, trial: Any) -> list[int]:
        """The row that a trial suggests.

        Distinct picks that repeat one before become the next free candidate, sorted ones are
        sorted: Optuna has no parameters that exclude one another.
        """
        columns = self._space._compiled.columns
        row = [-1] * len(columns)
        for i in self._space._compiled.order:
            rule = self._rules.get(i)
            first = rule is None or i == rule.columns[0]
            if not first or not cond.holds_row(columns[i].condition, row):
                continue
            together = (i,) if rule is None else rule.columns
            picks = [self._suggest(trial, c) for c in together]
            if rule is not None:
                picks = _obeying(picks, rule, columns[i].size)
            for c, value in zip(together, picks, strict=True):
                row[c] = value
        return row

    def parameters(self, row: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Names and values of a row's active decisions, and their distributions."""
        params, distributions = {}, {}
        for d, value, distribution in zip(
            self._space.decisions, row, self._distributions, strict=True
        ):
            if value < 0:
                continue
            params[d.id] = (
                int(value) / (FLOAT_LEVELS - 1)
                if d.kind == "float"
                else int(value)
                if d.kind == "ordinal"
                else d.labels[value]
            )
            distributions[d.id] = distribution
        return params, distributions

    def _suggest(self, trial: Any, column: int) -> int:
        decision = self._space.decisions[column]
        if decision.kind == "float":
            share: float = trial.suggest_float(decision.id, 0.0, 1.0)
            return round(share * (FLOAT_LEVELS - 1))
        if decision.kind == "ordinal":
            return int(trial.suggest_int(decision.id, 0, decision.size - 1))
        return self._labels[column][trial.suggest_categorical(decision.id, decision.labels)]


def _obeying(picks: list[int], rule: Rule, size: int) -> list[int]:
    taken: list[int] = []
    for pick in picks:
        while rule.distinct and pick in taken:
            pick = (pick + 1) % size
        taken.append(pick)
    return sorted(taken) if rule.sorted else taken
