"""Studies of every kind for the tests of reports, made without training anything."""

from __future__ import annotations

import math

import attrs
import numpy as np

from symnas.architecture.architecture import Architecture
from symnas.errors import SymnasError
from symnas.searchspace.space import Space
from symnas.studies.record import decision_of, decision_record
from symnas.studies.trial import choices_of


def fake_study(
    space: Space,
    trials: int,
    *,
    objectives=(("accuracy", "maximize"),),
    costs=("latency",),
    constraints=("latency <= 2 ms [Latency() on cpu]",),
    fail=lambda number: None,
    text=None,
    name="search",
    seed=0,
):
    """What `page.write` and `plots` use of a study; scores depend on the rows and a little noise.

    Args:
        fail: the reason why a trial failed, or None; "NaN" makes a metric NaN.
        text: of each architecture; by default what `to_json` gives.
    """
    generator = np.random.default_rng(seed)
    rows = space.sample(trials, seed=seed)
    decisions = [decision_of(decision_record(decision)) for decision in space.decisions]
    weights = generator.normal(size=len(decisions))
    found = []
    for number, row in enumerate(rows):
        parts = np.maximum(row, 0) / [max(d.size - 1, 1) for d in decisions]  # 0 to 1
        level = float((weights * parts).sum()) * 3
        cost = float(0.3 + parts.mean() * 2 + generator.random() * 0.05)
        quality = 1 - 0.12 * math.exp(-0.15 * level - 0.5 * cost) - 0.01 * generator.random()
        reason = fail(number)
        metrics = {n: quality if d == "maximize" else 3 - quality * cost for n, d in objectives}
        metrics = {n: v for n, v in metrics.items() if n not in costs}
        if reason == "NaN":
            metrics, reason = dict.fromkeys(metrics, math.nan), None
        known = dict.fromkeys(costs, cost)
        scores = [
            (known[n] if n in known else metrics[n]) * (1 if d == "maximize" else -1)
            for n, d in objectives
        ]
        values = tuple(int(value) for value in row)
        found.append(
            FakeTrial(
                number=number,
                state="failed" if reason else "done",
                choices=choices_of(values, decisions),
                metrics={} if reason else {**metrics, "loss": 1.5 - quality},
                costs=known,
                scores=None if reason else tuple(scores),
                reason=reason,
                text=text if text is not None else space.decode(row).to_json(),
            )
        )
    record = {
        "space": space.fingerprint(),
        "decisions": [decision_record(decision) for decision in space.decisions],
        "task": {"task": "Classify", "data": "digits"},
        "objectives": [
            {"name": n, "direction": d, "unit": "ms" if n in costs else None} for n, d in objectives
        ],
        "costs": {name: {"cost": "Latency", "unit": "ms"} for name in costs},
        "reward": None,
        "constraints": list(constraints),
        "algorithm": "RegularizedEvolution(population_size=50, tournament_size=10)",
        "seed": seed,
        "ahead": 1,
        "versions": {"python": "3.11", "symnas": "0.1.0", "torch": "2.13"},
    }  # fmt: skip
    return _Study(name, record, found, decisions)


@attrs.frozen
class FakeTrial:
    number: int
    state: str
    choices: dict
    metrics: dict
    costs: dict
    scores: tuple | None
    reason: str | None
    text: str
    seconds: float = 1.5
    reused: tuple | None = None
    budget: float | None = None
    stage: str = ""

    @property
    def architecture(self):
        return Architecture.from_json(self.text)


class _Study:
    location = "/somewhere/private/search.db"

    def __init__(self, name, record, trials, decisions):
        self.name, self.record, self.trials, self.decisions = name, record, trials, decisions
        self.objectives = tuple(record["objectives"])
        self.searches = (name,)
        self.training = {}

    @property
    def best(self):
        good = [t for t in self._finished() if not math.isnan(t.scores[0])]
        if len(self.objectives) != 1 or not good:
            raise SymnasError("There is no best trial.")
        return max(good, key=lambda trial: trial.scores[0])

    def pareto(self):
        done = [t for t in self._finished() if not any(map(math.isnan, t.scores))]
        return [
            t
            for t in done
            if not any(
                o.scores != t.scores
                and all(a >= b for a, b in zip(o.scores, t.scores, strict=True))
                for o in done
            )
        ]

    def _finished(self):
        return [trial for trial in self.trials if trial.state == "done"]


def broken(number: int) -> str | None:
    """One trial in nine fails, for one of two reasons; one in forty gives NaN."""
    if number % 40 == 7:
        return "NaN"
    if number % 9 == 4:
        return (
            f"OutOfMemory: {number * 17} MB were asked for\n  in train, line 12"
            if number % 2
            else "ValueError: the loss is not finite\n  in step, line 40\n  more"
        )
    return None


def small_space() -> Space:
    """Three decisions without a network."""
    import symnas as sn

    return Space(
        {"width": sn.oneof([8, 16, 32]), "op": sn.oneof(["conv", "pool"]), "rate": sn.floatv(0, 1)}
    )
