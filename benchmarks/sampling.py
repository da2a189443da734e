"""Speed of sampling, evolution and recording, side by side with PyGlove and Optuna in one run.

    python benchmarks/sampling.py [--json sampling.json]

Times are the best of three repeats where a repeat is short, since other programs may run beside
it. Peers are measured for fewer trials, as they are slower; Syne Tune is not installed here, so its
figure is quoted from a measurement on another machine of two cores.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyglove as pg
from rich.console import Console
from rich.table import Table

import symnas as sn
from symnas import algorithms as alg

Result = dict[str, Any]


def best_of(repeats: int, run: Callable[[], Any]) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(repeats):
        gc.collect()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def flat(decisions: int, choices: int) -> Any:
    return sn.Space([sn.oneof(list(range(choices))) for _ in range(decisions)])


def conditional() -> Any:
    """105 columns: 15 blocks of two kinds, each kind with decisions of its own."""

    def block() -> Any:
        return sn.oneof(
            [
                pg.Dict(
                    kernel=sn.oneof([3, 5, 7]), expansion=sn.oneof([3, 6]), se=sn.oneof([0, 1])
                ),
                pg.Dict(
                    groups=sn.oneof([1, 2, 4]), width=sn.oneof([8, 16]), act=sn.oneof(["a", "b"])
                ),
                "skip",
            ]
        )

    return sn.Space([block() for _ in range(15)])


# Sampling -----------------------------------------------------------------------------------------


def sampling() -> list[Result]:
    space, big = flat(20, 5), conditional()
    assert len(big) == 105
    rows = [
        result(
            "1,000,000 random architectures, 20 x oneof(5)", "s", 0.5,
            best_of(3, lambda: space.sample(1_000_000, 1)),
        ),
        result(
            "the same, uniform over architectures", "s", None,
            best_of(3, lambda: space.sample(1_000_000, 1, uniform="architectures")),
        ),
        result(
            "100,000 random architectures, 105 conditional columns", "s", 1.0,
            best_of(3, lambda: big.sample(100_000, 1)),
        ),
        result(
            "the same, uniform over architectures", "s", None,
            best_of(3, lambda: big.sample(100_000, 1, uniform="architectures")),
        ),
    ]  # fmt: skip
    spec = pg.dna_spec(pg.List([pg.oneof(list(range(5))) for _ in range(20)]))
    one = best_of(1, lambda: [pg.random_dna(spec) for _ in range(20)]) / 20
    rows[0]["peers"] = {"PyGlove, scaled from 20": one * 1e6}
    spec = pg.dna_spec(big.program)
    one = best_of(1, lambda: [pg.random_dna(spec) for _ in range(5)]) / 5
    rows[2]["peers"] = {"PyGlove, scaled from 5": one * 1e5}
    return rows


# Evolution ----------------------------------------------------------------------------------------


def evolution() -> list[Result]:
    space = flat(21, 7)
    target = np.random.default_rng(0).integers(0, 7, 21)

    def windows() -> dict[str, float]:
        problem = sn.Problem(space, seed=1)
        run = alg.RegularizedEvolution(population_size=100, tournament_size=25).start(problem)
        found: dict[str, float] = {}
        gc.collect()
        start, begun = time.perf_counter(), 0
        for i in range(1, 100_001):
            rows = run.ask(1)
            run.tell(rows, np.array([[float((rows[0] == target).sum())]]))
            if i in (1_000, 9_000, 10_000, 99_000, 100_000):
                now = time.perf_counter()
                found[f"{begun:,} to {i:,}"] = 1000 * (now - start) / (i - begun)
                start, begun = now, i
        return found

    runs = [windows() for _ in range(2)]
    least = {key: min(run[key] for run in runs) for key in runs[0]}
    rows = [
        result(f"regularized evolution, 21 x 7, trials {key}", "ms/trial", 0.05, value)
        for key, value in least.items()
    ]
    peers = {"PyGlove": pyglove_evolution(60), "Syne Tune (quoted)": 0.06}
    rows[0]["peers"] = peers | optuna_times(21, 7)
    return rows


def pyglove_evolution(trials: int) -> float:
    space = pg.List([pg.oneof(list(range(7))) for _ in range(21)])
    algorithm = pg.evolution.regularized_evolution(
        pg.evolution.mutators.Uniform(seed=1), population_size=20, tournament_size=5, seed=1
    )

    def run() -> None:
        for example, feedback in pg.sample(space, algorithm, trials):
            feedback(float(sum(example)))

    return 1000 * best_of(1, run) / trials


def optuna_times(decisions: int, choices: int) -> dict[str, float]:
    try:
        import optuna
    except ImportError:
        return {}
    optuna.logging.set_verbosity(logging.ERROR)
    samplers = {
        "Optuna random": (optuna.samplers.RandomSampler(seed=1), 300),
        "Optuna NSGA-II": (optuna.samplers.NSGAIISampler(seed=1), 300),
        "Optuna TPE": (optuna.samplers.TPESampler(seed=1), 100),
    }

    def objective(trial: Any) -> float:
        return sum(
            trial.suggest_categorical(f"x{i}", list(range(choices))) for i in range(decisions)
        )

    return {
        name: 1000
        * best_of(
            1, lambda s=s, n=n: optuna.create_study(sampler=s).optimize(objective, n_trials=n)
        )
        / n
        for name, (s, n) in samplers.items()
    }


# Recording ----------------------------------------------------------------------------------------


def memory() -> Result:
    problem = sn.Problem(flat(20, 5), seed=1)
    run = alg.RegularizedEvolution(population_size=100, tournament_size=25).start(problem)
    trials = 50_000
    gc.collect()
    tracemalloc.start()
    for _ in range(trials):
        rows = run.ask(1)
        run.tell(rows, np.array([[float(rows.sum())]]))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result(
        "memory of a trial, 20 decisions (algorithm and problem)", "bytes", 500, used / trials
    )


def durable(trials: int = 1_000) -> Result:
    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sn.search(
                flat(20, 5), alg.RandomSearch(), lambda architecture: 1.0, maximize="score",
                trials=trials, study=Path(folder) / "study.db", progress=False,
            )  # fmt: skip

    found = result(
        "a durable trial, SQLite file, 20 decisions",
        "ms/trial",
        1.0,
        1000 * best_of(2, run) / trials,
    )
    found["peers"] = optuna_durable(20)
    return found


def optuna_durable(trials: int) -> dict[str, float]:
    try:
        import optuna
    except ImportError:
        return {}

    def objective(trial: Any) -> float:
        return sum(trial.suggest_categorical(f"x{i}", list(range(5))) for i in range(20))

    with tempfile.TemporaryDirectory() as folder:
        study = optuna.create_study(
            storage=f"sqlite:///{folder}/optuna.db", sampler=optuna.samplers.RandomSampler(seed=1)
        )
        seconds = best_of(1, lambda: study.optimize(objective, n_trials=trials))
    return {"Optuna, SQLite": 1000 * seconds / trials}


def importing() -> Result:
    code = (
        "import time, torch, pyglove; start = time.perf_counter(); import symnas;"
        "print(time.perf_counter() - start)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    return result("`import symnas` after torch and pyglove", "s", 0.3, statistics.median(times))


# The table ----------------------------------------------------------------------------------------


def result(what: str, unit: str, limit: float | None, value: float) -> Result:
    return {"what": what, "unit": unit, "limit": limit, "value": value, "peers": {}}


def show(results: list[Result]) -> None:
    table = Table(title="symnas beside its peers", caption="PyGlove and Optuna in the same run")
    for header in ("what", "symnas", "limit", "", "peers"):
        table.add_column(header, justify="right" if header in ("symnas", "limit") else "left")
    for r in results:
        limit = r["limit"]
        verdict = "" if limit is None else "met" if r["value"] <= limit else "MISSED"
        table.add_row(
            r["what"], f"{r['value']:.3g} {r['unit']}", "" if limit is None else f"{limit:g}", verdict,
            ", ".join(f"{name} {value:,.3g}" for name, value in r["peers"].items()),
        )  # fmt: skip
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    results = [*sampling(), *evolution(), memory(), durable(), importing()]
    show(results)
    text = json.dumps(results, indent=1)
    if arguments.json:
        arguments.json.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
