"""How long proposals take: seconds of `ask(1)` of every algorithm that trains no supernet.

    python benchmarks/overhead.py [--observations 100 1000 10000] [--proposals 5] [--peers]

Each knows so many results of random architectures of NAS-Bench-201's space (small) and MnasNet's
(large), at rows that it never asked for, as a search that is continued does; their scores are a fixed
function of the row, as nothing is trained. ASHA and SuccessiveHalving have asked for theirs, as results
are promoted. A result more is told after each proposal. Shown in milliseconds are

    each       telling one of the results known, all of them at once
    first      the first proposal after that: what is fitted is fitted to all of them, and other libraries'
               optimisers, which learn from what they propose alone, are asked for all of them again
    median     of the proposals that follow, and
    most       the longest of them
    one        telling one result

What has to be found out about a space once in a process (the flow of data in its networks) is known by
then: it is told above each table, as the first proposal of a first search by BayesianOptimization. What
takes longer than --limit seconds is given up, or left out where smaller numbers show that it will; "~"
is what those let one expect. Times above 0.1 s are a processor's, as other programs may run beside it:
with OMP_NUM_THREADS=1 they are what a search would wait.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyglove as pg
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from symnas.algorithms.asha import ASHA
from symnas.algorithms.successive_halving import SuccessiveHalving
from symnas.spaces.mnasnet import mnasnet
from symnas.spaces.nasbench201 import nasbench201

import symnas as sn
from symnas import algorithms as alg
from symnas.searching.suggesting import Suggesting

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]

SPACES: dict[str, Callable[[], sn.Space]] = {
    "nasbench201": nasbench201,
    "nasbench201, all cells": lambda: nasbench201(canonical=False),
    "mnasnet": mnasnet,
}
# Architectures of a small space that are left to propose, whatever --observations says.
LEFT = 200
# Results with which a search begins to find out what it must about a space: all models are fitted.
COLD = 200
# Seconds from which on the processor's own are counted.
SHORT = 0.1
# Seconds that a proposal may take, in a search of 1,000 results.
WANTED, AT = 1.0, 1000


@attrs.frozen
class Case:
    """What is asked.

    Attributes:
        start: begins a run on a problem.
        objectives: how many are improved.
        own: whether it is told of its own proposals alone.
        repeats: whether the first proposal asks for all earlier ones again.
        analyses: whether it has to find out about a space what other searches on it know then.
    """

    start: Callable[[sn.Problem], Any]
    objectives: int = 1
    own: bool = False
    repeats: bool = False
    analyses: bool = False


def _pyglove() -> sn.Algorithm:
    mutator = pg.evolution.mutators.Uniform(seed=1)
    return alg.PyGlove(pg.evolution.regularized_evolution(mutator, seed=1))


class Study:
    """Optuna itself, which is handed results as trials.

    Args:
        sampler: the name of its class.
        problem: whose space and seed are taken.
    """

    def __init__(self, sampler: str, problem: sn.Problem) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        made = getattr(optuna.samplers, sampler)(seed=problem.seed)
        self.study = optuna.create_study(direction="maximize", sampler=made)
        self.suggesting = Suggesting(problem.space)
        self.open: list[Any] = []

    def ask(self, n: int) -> Rows:
        """One proposal, `(1, columns)`."""
        self.open.append(self.study.ask())
        return np.array([self.suggesting.row(self.open[-1])], np.int32)

    def tell(self, rows: Rows, scores: Floats) -> None:
        """The result of the proposal, or of other rows."""
        from optuna.trial import create_trial

        if self.open:
            self.study.tell(self.open.pop(), float(scores[0, 0]))
            return
        trials = []
        for row, value in zip(rows.tolist(), scores[:, 0].tolist(), strict=True):
            params, distributions = self.suggesting.parameters(row)
            trials.append(create_trial(value=value, params=params, distributions=distributions))
        self.study.add_trials(trials)


BUDGETS = (1, 3, 9)
ALGORITHMS: dict[str, Case] = {
    "RandomSearch": Case(alg.RandomSearch().start),
    "GridSearch": Case(alg.GridSearch().start),
    "LocalSearch": Case(alg.LocalSearch().start),
    "RegularizedEvolution": Case(alg.RegularizedEvolution().start),
    "NSGA2, two objectives": Case(alg.NSGA2().start, objectives=2),
    "ASHA": Case(ASHA(alg.RegularizedEvolution(), BUDGETS).start, own=True),
    "SuccessiveHalving": Case(
        SuccessiveHalving(alg.RegularizedEvolution(), BUDGETS).start, own=True
    ),
    "Reinforce": Case(alg.Reinforce().start),
    "PPO": Case(alg.PPO().start),
    "BayesianOptimization": Case(alg.BayesianOptimization().start, analyses=True),
    "BayesianOptimization, two objectives": Case(
        alg.BayesianOptimization().start, objectives=2, analyses=True
    ),
    "NeuralPredictor": Case(alg.NeuralPredictor().start, analyses=True),
    "Optuna (TPE)": Case(lambda problem: alg.Optuna().start(problem), repeats=True),
    "PyGlove (evolution)": Case(lambda problem: _pyglove().start(problem), repeats=True),
}
PEERS: dict[str, Case] = {
    f"Optuna itself, {name}": Case(lambda problem, name=name: Study(name, problem))  # type: ignore[misc]
    for name in ("TPESampler", "GPSampler")
}


class TooLong(Exception):
    """More than --limit seconds."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Interrupts what takes longer, as soon as the interpreter has its turn.

    Raises:
        TooLong: it did.
    """

    def interrupt(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Observed:
    """A space, different random architectures of it, and what is measured of them.

    Args:
        name: of `SPACES`.
        most: so many architectures at most.
    """

    def __init__(self, name: str, most: int) -> None:
        self.space = space = SPACES[name]()
        rng = np.random.default_rng(0)
        if space.size <= 4 * most:
            rows = rng.permutation(np.concatenate(list(space.enumerate())))
        else:
            rows = space.sample(2 * most, 0)
        _, first = np.unique(np.array(space.keys(rows), object), return_index=True)
        self.rows = rows[np.sort(first)][:most]
        whole = space.size <= 4 * most and len(first) <= most + LEFT
        self.most = len(first) - LEFT if whole else len(self.rows)
        sizes = max(d.size for d in space.decisions) + 1
        self._alone = rng.normal(size=(2, len(space), sizes))
        self._pairs = 0.5 * rng.normal(size=(2, len(space) - 1, sizes, sizes))

    def scores(self, rows: Rows, objectives: int) -> Floats:
        """Of each decision a normal effect, and of each two that follow one another half of one."""
        column, value = np.arange(rows.shape[1]), rows + 1
        alone = self._alone[:, column, value].sum(axis=2)
        pairs = self._pairs[:, column[:-1], value[:, :-1], value[:, 1:]].sum(axis=2)
        found: Floats = (alone + pairs).T
        return found[:, :objectives]


@attrs.frozen
class Times:
    """Of one algorithm that knows some results, in seconds; None where it took too long.

    Attributes:
        known: how many results.
        each: telling one of those.
        first: the first proposal.
        asks: the proposals after it.
        tells: telling one result, after each of them.
        note: what there is to say.
    """

    known: int
    each: float | None = None
    first: float | None = None
    asks: tuple[float, ...] = ()
    tells: tuple[float, ...] = ()
    note: str = ""


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that a call takes, and what it returns."""
    wall, processor = time.perf_counter(), time.process_time()
    found = call()
    seconds = time.perf_counter() - wall
    # A processor's clock may tick in steps of 10 ms.
    return (seconds if seconds < SHORT else time.process_time() - processor), found


class Search:
    """One run of an algorithm, which is timed."""

    def __init__(self, case: Case, observed: Observed, seed: int = 0) -> None:
        objectives = [sn.Objective(f"score{i}", "maximize") for i in range(case.objectives)]
        self.observed, self.objectives = observed, case.objectives
        self.problem = sn.Problem(observed.space, objectives, seed=seed)
        self.run = case.start(self.problem)

    def tell(self, rows: Rows) -> float:
        """Tells what is measured of rows; returns the seconds."""
        scores = self.observed.scores(rows, self.objectives)
        return timed(lambda: self.run.tell(rows, scores))[0]

    def ask(self) -> tuple[float, Rows]:
        """A proposal, and the seconds that it took."""
        return timed(lambda: self.run.ask(1))

    def know(self, n: int, own: bool) -> float:
        """Comes to know n results; returns the seconds of telling one of them."""
        if not own:
            return self.tell(self.problem.propose(self.observed.rows[:n])) / n
        return statistics.fmean(self.tell(self.ask()[1]) for _ in range(n))


def measure(case: Case, observed: Observed, n: int, proposals: int, limit: float) -> Times:
    """How long an algorithm with n results takes, where each step may take so many seconds."""
    each = first = None
    asks: list[float] = []
    tells: list[float] = []
    note = ""
    try:
        search = Search(case, observed)
        with within(limit):
            each = search.know(n, case.own)
        for i in range(proposals + 1):
            with within(limit):
                seconds, rows = search.ask()
                if not len(rows):
                    note = "nothing left"
                    break
                telling = search.tell(rows)
            if i == 0:
                first = seconds
            else:
                asks.append(seconds)
                tells.append(telling)
    except TooLong:
        note = f"> {limit:g} s"
    return Times(n, each, first, tuple(asks), tuple(tells), note)


def find_out(observed: Observed) -> float:
    """The seconds of the first proposal by a Gaussian process on a space."""
    search = Search(ALGORITHMS["BayesianOptimization"], observed)
    search.know(min(COLD, observed.most), own=False)
    return search.ask()[0]


def expected(before: Sequence[Times], n: int) -> float:
    """Seconds of the first proposal, if it goes on growing as it did; 0 where nothing is known."""
    known = [(t.known, t.first) for t in before if t.first]
    if not known:
        return 0.0
    last, seconds = known[-1]
    power = 1.0
    if len(known) > 1:
        power = max(1.0, math.log(seconds / known[-2][1]) / math.log(last / known[-2][0]))
    return float(seconds * (n / last) ** power)


def shown(seconds: float | None, note: str = "") -> str:
    """Milliseconds."""
    if seconds is None:
        return note
    return f"{1e3 * seconds:,.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.2g}"


def add_lines(table: Table, name: str, times: Sequence[Times]) -> None:
    """The lines of one algorithm."""
    for t in times:
        table.add_row(
            name,
            f"{t.known:,}",
            shown(t.each, t.note),
            shown(t.first, t.note if t.each is not None else ""),
            shown(statistics.median(t.asks) if t.asks else None, t.note if t.first else ""),
            shown(max(t.asks, default=None)),
            shown(statistics.median(t.tells) if t.tells else None),
        )
        name = ""


def measure_all(
    case: Case, observed: Observed, counts: Sequence[int], proposals: int, limit: float
) -> list[Times]:
    """The same for several numbers of results, as far as smaller ones let one expect an end."""
    times: list[Times] = []
    for n in counts:
        forecast = expected(times, n) if case.repeats else 0.0
        if times and times[-1].note.startswith(">"):
            times.append(Times(n, note=times[-1].note))
        elif forecast > limit:
            times.append(Times(n, note=f"~ {forecast:,.0f} s"))
        else:
            times.append(measure(case, observed, n, proposals, limit))
    return times


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--observations", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--proposals", type=int, default=5)
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), metavar="NAME")
    parser.add_argument("--spaces", nargs="+", default=["nasbench201", "mnasnet"], metavar="NAME")
    parser.add_argument("--peers", action="store_true", help="Optuna's samplers themselves as well")
    parser.add_argument(
        "--limit", type=float, default=30.0, help="seconds that a proposal may take"
    )
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    for name, known in (("algorithms", {**ALGORITHMS, **PEERS}), ("spaces", SPACES)):
        unknown = set(getattr(arguments, name)) - set(known)
        if unknown:
            parser.error(f"--{name} {sorted(unknown)} must be among: {'; '.join(known)}")
    if min(*arguments.observations, arguments.proposals, 10) < 1 or arguments.limit <= 0:
        parser.error("--observations, --proposals and --limit must be above 0")
    cases = {name: {**ALGORITHMS, **PEERS}[name] for name in arguments.algorithms}
    cases |= PEERS if arguments.peers else {}
    console = Console(width=max(110, Console().width))
    slow: list[str] = []
    told: dict[str, Any] = {}
    for space in arguments.spaces:
        observed = Observed(space, max(arguments.observations))
        counts = sorted({min(n, observed.most) for n in arguments.observations})
        if any(case.analyses for case in cases.values()):
            with console.status(f"{space}: finding out about it"):
                console.print(f"{space}: {find_out(observed):.1f} s to find out about it, once.")
        table = Table(title=f"{space}, {observed.space.size:,} architectures: milliseconds")
        table.add_column("algorithm", no_wrap=True)
        for column in ("known", "each", "first", "median", "most", "one"):
            table.add_column(column, justify="right")
        for name, case in cases.items():
            with console.status(f"{space}: {name}"):
                times = measure_all(case, observed, counts, arguments.proposals, arguments.limit)
            add_lines(table, name, times)
            for t in times:
                if t.known == AT and max(t.asks, default=0) > WANTED:
                    slow.append(f"{name} on {space}, {max(t.asks):.2f} s")
            told.setdefault(space, {})[name] = [attrs.asdict(t) for t in times]
        console.print(table)
    if AT in arguments.observations:
        console.print(
            f"Over {WANTED:g} s a proposal after the first, with {AT:,} results: "
            f"{'; '.join(slow) or 'none'}."
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
