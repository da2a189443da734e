"""A study in a paragraph, and the phrases that it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from symnas.reports.measures import Measure, brief

if TYPE_CHECKING:
    from symnas.studies.study import Study
    from symnas.studies.trial import Trial

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def plural(count: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "trial"), plural(2000, "trial")
    ('1 trial', '2,000 trials')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def size(text: str) -> str:
    """How many architectures: exact, with the magnitude where that is long.

    >>> size("14950308672")
    '14,950,308,672 architectures, about 1.5\xa0×\xa010¹⁰'
    >>> size("720")
    '720 architectures'
    """
    if not text.isdigit():
        return f"{text} architectures"
    digits = text.lstrip("0") or "0"
    exact = f"{int(digits):,}" if len(digits) < 4000 else digits  # the limit of int()
    noun = "architecture" if digits == "1" else "architectures"
    if len(digits) < 8:
        return f"{exact} {noun}"
    exponent = len(digits) - 1
    mantissa = round(int(digits[:3]) / 100, 1)
    if mantissa == 10:
        mantissa, exponent = 1.0, exponent + 1
    about = f"about {mantissa:g}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10" + str(exponent).translate(
        _SUPERSCRIPT
    )
    return f"{exact} {noun}, {about}"


def number(value: float) -> str:
    """A number to four significant digits.

    >>> number(0.98125), number(152394.0), number(3.0), number(1.5e12)
    ('0.9812', '152,394', '3', '1.5e+12')
    """
    if math.isfinite(value) and abs(value) < 1e9 and (value == int(value) or abs(value) >= 1e4):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """A time in the two units that matter.

    >>> duration(0.25), duration(75), duration(7500)
    ('0.25 s', '1 min 15 s', '2 h 5 min')
    """
    if seconds < 0.1:
        return "less than 0.1 s"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


def paragraph(
    study: Study, trials: Sequence[Trial], known: Sequence[Measure], best: Trial | None, front: int
) -> str:
    """What was searched, by what, with how many trials, and what was found.

    Args:
        study: the study.
        trials: its trials.
        known: what they have numbers of.
        best: the best trial, or None.
        front: number of trials that no other one beats, where there are several objectives.
    """
    return " ".join(
        sentence
        for sentence in (_searched(study), _trials(trials), _found(known, trials, best, front))
        if sentence
    )


def _searched(study: Study) -> str:
    space = study.record.get("space", {})
    decisions = len(study.record.get("decisions", ()))
    algorithm = str(study.record.get("algorithm", "A search")).partition("(")[0]
    if flow := study.record.get("flow"):
        algorithm = f"A {str(flow).split()[0].rstrip(',')} flow"  # its tree begins with its kind
    aims = " and ".join(f"{o['direction']} {o['name']}" for o in study.objectives)
    name = space.get("name")
    where = f"the space “{name}”" if name else "a space"
    what = plural(decisions, "decision")
    if "size" in space:
        what += f"; {size(str(space['size']))}"
    sentence = f"{algorithm} searched {where} ({what}) to {aims}"
    constraints = study.record.get("constraints", ())
    if constraints:
        sentence += ", subject to " + " and ".join(map(brief, constraints))
    return sentence + "."


def _trials(trials: Sequence[Trial]) -> str:
    if not trials:
        return "No trial has begun yet."
    counts = {
        state: sum(trial.state == state for trial in trials)
        for state in dict.fromkeys(trial.state for trial in trials)
    }
    words = {"done": "finished", "running": "running or interrupted"}
    done, failed = counts.get("done", 0), counts.get("failed", 0)
    parts = [f"{count:,} {words.get(state, state)}" for state, count in counts.items()]
    if len(trials) == 1:
        sentence = f"There is 1 trial: {parts[0].removeprefix('1 ')}"
    elif len(counts) == 1 and done:
        sentence = f"All {len(trials):,} trials finished"
    else:
        sentence = f"Of {len(trials):,} trials, {', '.join(parts)}"
    if failed and done:
        sentence += f" ({failed / (failed + done):.1%} failures)"
    spent = sum(trial.seconds or 0 for trial in trials)
    budget = sum(t.budget or 0 for t in trials if t.state != "running" and t.reused is None)
    sentence += f", at budgets that sum to {number(budget)}" if budget else ""
    return sentence + (f"; evaluating them took {duration(spent)} in all." if spent else ".")


def _found(
    known: Sequence[Measure], trials: Sequence[Trial], best: Trial | None, front: int
) -> str:
    objectives = [measure for measure in known if measure.objective]
    if best is not None:
        first = f"{objectives[0].name} {_value(objectives[0], best)}"
        rest = [
            f"{measure.name} {_value(measure, best)}"
            for measure in known
            if measure.source == "costs" and measure is not objectives[0]
        ]
        at = f", at {' and '.join(rest[:3])}" if rest else ""
        budget = "" if best.budget is None else f" of those at budget {number(best.budget)}"
        return f"The best{budget} is trial {best.number}: {first}{at}."
    if front:
        names = " and ".join(measure.name for measure in objectives)
        verb = "is" if front == 1 else "are"
        return f"{plural(front, 'trial')} {verb} on the Pareto front of {names}."
    return "None has finished with a number yet." if trials else ""


def _value(measure: Measure, trial: Trial) -> str:
    return number(measure.of(trial)) + (f" {measure.unit}" if measure.unit else "")
