"""Two objectives on NAS-Bench-201: hypervolume by evaluations, beside Optuna and pymoo.

Dong and Yang 2020, "NAS-Bench-201" (arXiv 2001.00326): CIFAR-10 validation accuracy after 12 epochs,
and latency on a device, both looked up in tables that are not part of symnas:

    python benchmarks/hypervolume.py --seeds 20 --data ../shared/data

What counts is the hypervolume that the evaluations reach, as a share of that of the true front of
all 15,625 cells; its reference point is the worst accuracy and the worst latency of the table. The
settings of NSGA2 were chosen on this table and on three like it (other data sets, other devices), and
on a regression of Accel-NASBench, so its row is somewhat better than it would be on an unseen one.

symnas evaluates nothing twice. Optuna by itself may, and each counts; pymoo is told to drop duplicates.
TPE takes most of the time, and longer with every trial: `--only` leaves it out, `--trials` ends sooner.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from symnas.algorithms.nsga2 import NSGA2
from symnas.algorithms.optuna import Optuna
from symnas.spaces.nasbench201 import from_string, nasbench201

import symnas as sn
from symnas import algorithms as alg
from symnas.searching import pareto

CHECKPOINTS = (50, 100, 200, 500)
FILES = {"cifar10_val": "accuracy_12_epochs.csv.gz"}
LATENCIES = "latency_ms.csv.gz"

# A contestant asks for the scores of the rows that it evaluates.
Table = NDArray[np.float64]  # (5, 5, 5, 5, 5, 5, 2), larger is better
Score = Callable[[Any], list[float]]


@functools.cache
def cells() -> sn.Space:
    """Each of the 15,625 cells by itself: those that compute the same differ in latency."""
    return nasbench201(channels=4, cells=1, canonical=False)


def ours(algorithm: sn.Algorithm, seed: int, trials: int, score: Score) -> None:
    """A search of symnas, without a study."""
    space = cells()
    objectives = [sn.Objective("accuracy", "maximize"), sn.Objective("latency", "minimize")]
    run = algorithm.start(sn.Problem(space, objectives, seed=seed))
    for _ in range(trials):
        row = run.ask(1)
        run.tell(row, np.array([score(row[0])]))


def optuna_alone(kind: str, seed: int, trials: int, score: Score) -> None:
    """A sampler of Optuna, by its own ask and tell."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=getattr(optuna.samplers, kind)(seed=seed), directions=["maximize"] * 2
    )
    for _ in range(trials):
        trial = study.ask()
        row = [trial.suggest_categorical(f"edge{i}", range(5)) for i in range(6)]
        study.tell(trial, score(row))


def pymoo_alone(population: int, seed: int, trials: int, score: Score) -> None:
    """pymoo's NSGA-II over six integers, as its documentation sets it up for them."""
    from pymoo.algorithms.moo.nsga2 import NSGA2 as Theirs
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    class Cells(ElementwiseProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=6, n_obj=2, xl=0, xu=4, vtype=int)

        def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            out["F"] = [-value for value in score(x)]

    algorithm = Theirs(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(Cells(), algorithm, ("n_eval", trials), seed=seed, verbose=False)


def contestants() -> dict[str, Callable[[int, int, Score], None]]:
    """By name: `search(seed, trials, score)`."""
    found: dict[str, Callable[[int, int, Score], None]] = {}
    algorithms: dict[str, sn.Algorithm] = {
        "symnas NSGA2": NSGA2(),
        "symnas LocalSearch": alg.LocalSearch(),
        "symnas RegularizedEvolution": alg.RegularizedEvolution(),
        "symnas RandomSearch": alg.RandomSearch(),
    }
    try:
        from optuna.samplers import NSGAIISampler, TPESampler

        algorithms["symnas Optuna(TPE)"] = Optuna(TPESampler())
        algorithms["symnas Optuna(NSGA-II)"] = Optuna(NSGAIISampler())
        for name, kind in (("TPE", "TPESampler"), ("NSGA-II", "NSGAIISampler")):
            found[f"Optuna {name}"] = lambda *args, kind=kind: optuna_alone(kind, *args)
    except ImportError:
        print("Optuna is not installed: pip install 'symnas[optuna]'", file=sys.stderr)
    try:
        import pymoo  # noqa: F401

        for size in (20, 100):
            found[f"pymoo NSGA2({size})"] = lambda *args, size=size: pymoo_alone(size, *args)
    except ImportError:
        print("pymoo is not installed: pip install pymoo", file=sys.stderr)
    searches = {
        name: (lambda *args, algorithm=algorithm: ours(algorithm, *args))
        for name, algorithm in algorithms.items()
    }
    return {**searches, **found}


def read(folder: Path, metric: str, device: str) -> Table:
    """Accuracy in percent and negative latency in ms, by the row of the space."""
    table = np.full((*(5,) * 6, 2), np.nan)
    for axis, (file, column, sign) in enumerate(
        ((FILES[metric], metric, 1.0), (LATENCIES, device, -1.0))
    ):
        with gzip.open(folder / "nasbench201" / file, "rt", newline="") as lines:
            for record in csv.DictReader(lines):
                table[(*from_string(record["arch"]), axis)] = sign * float(record[column])
    if np.isnan(table).any():
        raise ValueError(f"{folder} lacks {int(np.isnan(table).any(axis=-1).sum())} cells.")
    return table


def searched(
    search: Callable[[int, int, Score], None], seed: int, trials: int, table: Table
) -> Table:
    """The scores of what one search evaluates, in order: `(trials, 2)`."""
    scores: list[list[float]] = []

    def score(row: Any) -> list[float]:
        scores.append(table[tuple(int(v) for v in row)].tolist())
        return scores[-1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search(seed, trials, score)
    return np.array(scores[:trials])


def shares(scores: Table, table: Table, at: NDArray[np.intp]) -> NDArray[np.float64]:
    """The hypervolume after so many evaluations, as a share of that of all cells."""
    every = table.reshape(-1, 2)
    worst = every.min(axis=0).tolist()
    whole = pareto.hypervolume(every[pareto.nondominated(every)], worst)
    return np.array([pareto.hypervolume(scores[:n], worst) / whole for n in at])


def main() -> None:
    """Runs the benchmark, prints its table and draws it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", default=os.environ.get("SYMNAS_DATA", str(default)))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=max(CHECKPOINTS))
    parser.add_argument("--device", default="raspi4", help="a column of the latency table")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="parts of contestants' names")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument(
        "--plot", type=Path, default=Path(tempfile.gettempdir()) / "symnas_hypervolume.png"
    )
    arguments = parser.parse_args()
    if arguments.seeds < 2 or arguments.trials < min(CHECKPOINTS):
        parser.error(f"--seeds must be at least 2 and --trials at least {min(CHECKPOINTS)}")
    if not (Path(arguments.data) / "nasbench201" / LATENCIES).exists():
        sys.exit(
            f"nasbench201/{LATENCIES} is not in {arguments.data}. It is part of no package: pass "
            "the folder that holds it, and accuracy_12_epochs.csv.gz, with --data or in SYMNAS_DATA."
        )
    table = read(Path(arguments.data), "cifar10_val", arguments.device)
    at = np.unique([*range(10, arguments.trials + 1, 10), *CHECKPOINTS])
    at = at[at <= arguments.trials]
    results: dict[str, dict[str, Any]] = {}
    for name, search in contestants().items():
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        began = time.process_time()
        scores = [
            searched(search, seed, arguments.trials, table) for seed in range(arguments.seeds)
        ]
        ms = 1e3 * (time.process_time() - began) / arguments.seeds / arguments.trials
        found = np.array([shares(points, table, at) for points in scores])  # (seeds, len(at))
        results[name] = {
            "mean": found.mean(axis=0).tolist(),
            "standard_error": (found.std(axis=0, ddof=1) / np.sqrt(len(found))).tolist(),
            "ms": ms,
        }
        print(f"{name}: {results[name]['mean'][-1]:.4f}, {ms:.2f} ms a trial", file=sys.stderr)
    show(results, at, arguments.seeds, arguments.device)
    if arguments.json:
        told = {"seeds": arguments.seeds, "evaluations": at.tolist(), "results": results}
        arguments.json.write_text(json.dumps(told, indent=2))
    draw(results, at, arguments.plot, arguments.device)


def show(results: dict[str, dict[str, Any]], at: NDArray[np.intp], seeds: int, device: str) -> None:
    """Prints shares in percent."""
    from rich.console import Console
    from rich.table import Table as Rich

    table = Rich(
        title=f"NAS-Bench-201, accuracy and {device} latency: hypervolume, % of the true front's "
        f"({seeds} seeds, ± standard error)"
    )
    table.add_column("algorithm", no_wrap=True)
    places = [i for i, n in enumerate(at.tolist()) if n in CHECKPOINTS]
    for place in places:
        table.add_column(f"{at[place]}", justify="right")
    table.add_column("ms/trial", justify="right")
    for name, result in results.items():
        cells = [
            f"{100 * result['mean'][i]:.2f} ± {100 * result['standard_error'][i]:.2f}"
            for i in places
        ]
        table.add_row(name, *cells, f"{result['ms']:.2f}")
    Console(width=max(110, Console().width)).print(table)


def draw(results: dict[str, dict[str, Any]], at: NDArray[np.intp], path: Path, device: str) -> None:
    """What is missing of the true front's hypervolume, by evaluations."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    for (name, result), style in zip(results.items(), styles(), strict=False):
        mean, error = (100 * np.array(result[key]) for key in ("mean", "standard_error"))
        (line,) = ax.plot(at, 100 - mean, label=name, **style)
        ax.fill_between(
            at, 100 - mean - error, 100 - mean + error, alpha=0.15, color=line.get_color(), lw=0
        )
    ax.set(yscale="log", xlabel="evaluations", ylabel="hypervolume missing, % of the true front's")
    ax.set_title(f"NAS-Bench-201: accuracy after 12 epochs and latency on {device}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.grid(alpha=0.3, which="both")
    ax.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    print(f"plot: {path}")


def styles() -> Iterator[dict[str, Any]]:
    """Colours, then the same ones dashed."""
    for dashes in ("-", "--"):
        for i in range(6):
            yield {"color": f"C{i}", "linestyle": dashes}


if __name__ == "__main__":
    main()
