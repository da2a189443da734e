"""TabNAS's case for real: the widths of three layers under a limit on parameters, on a table of diamonds.

    python benchmarks/tabular.py [--seeds 20] [--trials 10 20 40] [--cache folder]

The task is to tell the cut of a diamond (5 classes) from 7 numbers and 2 categories; the best networks
are too large: the limit leaves some 15 % of the space.

First, each network of a small space (8 widths in each of 3 layers: 512) is trained alone, twice, and kept
in a table in the cache, so that searches are look-ups: some eight minutes on one core, once. What a
search is told is the validation accuracy of one of the two trainings, drawn anew for each seed. Compared
are searches within the limit (random, evolution, and REINFORCE with the correction of TabNAS or without)
and REINFORCE with the absolute reward of TuNAS, which may leave it.

Regret is the mean test accuracy (of both trainings) of the best network within the limit less that of the
network found: after so many trainings of different networks, the one with the best validation accuracy
within the limit. A policy also has a network that it holds for likeliest, within the limit or not; and
the likeliest within it ("projected").

Then weights are shared: TabNAS, and TuNAS with networks within the limit alone or with its reward, each
for --oneshot seeds. What these hold for likeliest is looked up in the table.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from platformdirs import user_cache_dir
from rich.progress import track
from scipy.stats import kendalltau
from symnas.algorithms.reinforce import Reinforce
from symnas.algorithms.tabnas import TabNAS
from symnas.spaces.tabular import tabular

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas import data
from symnas.oneshot.training import Training
from symnas.rewards import Absolute
from symnas.searching.setting import Setting

WIDTHS = (4, 8, 12, 16, 24, 32, 48, 64)
EXAMPLES, VALIDATION, EPOCHS = 6000, 4000, 8
TRAININGS = 2
FEASIBLE = 0.15
BATCH, RATE = 5, 0.1  # of all policies
BETAS = (-0.02, -0.1, -0.5)
QUIET = not sys.stdout.isatty()


def problem_of() -> tuple[sn.Space, sn.Task]:
    diamonds = data.diamonds()
    space = tabular(diamonds.numeric, diamonds.categories, diamonds.classes, WIDTHS, embedding=4)
    (x, y), (x_held, y_held) = diamonds.train, diamonds.validation
    task = sn.Task(
        (x[:EXAMPLES], y[:EXAMPLES]),
        (x_held[:VALIDATION], y_held[:VALIDATION]),
        test=diamonds.test,
        epochs=EPOCHS,
        batch_size=128,
        lr=5e-3,
        schedule="onecycle",
    )
    return space, task


def tabulated(space: sn.Space, task: sn.Task, folder: Path) -> dict[str, np.ndarray]:
    """Validation and test accuracies `(networks, TRAININGS)`, in the order of `space.enumerate()`.

    Each is written as it is known: a run that was stopped goes on where it was.
    """
    recipe = json.dumps([task.describe(), space.fingerprint()], sort_keys=True)
    path = folder / f"{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[tuple[int, ...], list[float]] = {}
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    lines = [line for line in lines if line.endswith("\n")]  # the last one may be cut off
    path.write_text("".join(lines))
    for *key, validation, test, seconds in csv.reader(lines):
        known[tuple(map(int, key))] = [float(validation), float(test), float(seconds)]
    rows = np.concatenate(list(space.enumerate()))
    wanted = [(*row, seed) for seed in range(TRAININGS) for row in rows.tolist()]
    missing = [key for key in wanted if key not in known]
    with path.open("a", newline="") as file:
        for key in track(missing, "training each network", transient=True, disable=QUIET):
            clock = time.process_time()
            torch.manual_seed(key[-1])
            model = space.decode(key[:-1]).build()
            validation = task.fit(model, seed=key[-1])["accuracy"]
            found = [validation, task.test(model)["accuracy"], time.process_time() - clock]
            known[key] = found
            csv.writer(file).writerow([*key, *found])
            file.flush()
    results = np.array([[known[(*row, s)] for s in range(TRAININGS)] for row in rows.tolist()])
    return {"validation": results[..., 0], "test": results[..., 1], "seconds": results[..., 2]}


# Searches on the table -------------------------------------------------------------------------


@attrs.frozen
class Known:
    """The table, and what keeps the limit."""

    space: sn.Space
    rows: np.ndarray
    parameters: np.ndarray
    results: dict[str, np.ndarray]
    limit: float

    @classmethod
    def of(cls, space: sn.Space, task: sn.Task, folder: Path) -> Known:
        results = tabulated(space, task, folder)
        rows = np.concatenate(list(space.enumerate()))
        parameters = cm.Parameters().bind(space)(rows)
        return cls(space, rows, parameters, results, float(np.quantile(parameters, FEASIBLE)))

    def index(self, row: np.ndarray) -> int:
        return int(np.flatnonzero((self.rows == row).all(axis=1))[0])

    @property
    def feasible(self) -> np.ndarray:
        return self.parameters <= self.limit

    @property
    def truth(self) -> np.ndarray:
        """What a network is worth: its mean test accuracy in per cent."""
        return 100 * self.results["test"].mean(axis=1)

    @property
    def regret(self) -> np.ndarray:
        return self.truth[self.feasible].max() - self.truth


@attrs.define
class Found:
    """What one search found: indices of networks."""

    best: dict[int, int | None]  # by the number of trials: best validation within the limit
    within: float  # share of the trials that were within it
    likeliest: int | None = None  # of the policy, and of the policy within the limit
    projected: int | None = None
    seconds: float = 0.0


def settings(known: Known) -> dict[str, Setting]:
    """Algorithms by name, each with its constraints or its reward."""
    parameters = cm.Parameters()
    policy: dict[str, Any] = {"batch_size": BATCH, "lr": RATE}

    def under_limit(algorithm: Any) -> Setting:
        limit = [parameters <= known.limit]
        return Setting.of(
            known.space, algorithm, maximize="accuracy", minimize=None, subject_to=limit
        )

    def shaped(beta: float) -> Setting:
        reward = Absolute(parameters, target=known.limit, beta=beta)
        return Setting.of(
            known.space, Reinforce(**policy), maximize="accuracy", minimize=None, reward=reward
        )

    return {
        "random": under_limit(alg.RandomSearch()),
        "evolution": under_limit(alg.RegularizedEvolution(population_size=8, tournament_size=3)),
        "monte-carlo correction": under_limit(Reinforce(**policy, correction="monte-carlo")),
        "exact correction": under_limit(Reinforce(**policy, correction="exact")),
        "no correction": under_limit(Reinforce(**policy)),
        **{f"absolute, beta {beta:g}": shaped(beta) for beta in BETAS},
    }


def searched(known: Known, setting: Setting, trials: list[int], seed: int) -> Found:
    clock = time.process_time()
    setting = attrs.evolve(setting, seed=seed)
    run = setting.algorithm.start(setting.problem())
    # One of the trainings of each network is the one that this search pays for.
    draws = np.random.default_rng(seed).integers(TRAININGS, size=len(known.rows))
    told = known.results["validation"][np.arange(len(draws)), draws]
    tried: list[int] = []
    best: dict[int, int | None] = {}
    while len(tried) < max(trials):
        rows = run.ask(1)
        if not len(rows):
            break
        index = known.index(rows[0])
        scores, _ = setting.judge({"accuracy": told[index]}, setting.costs_of(rows))
        run.tell(rows, np.array([scores]))
        tried.append(index)
        if len(tried) in trials:
            best[len(tried)] = max(
                (i for i in tried if known.feasible[i]), key=lambda i: told[i], default=None
            )
    found = Found(best, float(known.feasible[tried].mean()))
    if hasattr(run, "policy"):
        found.likeliest, found.projected = choices(known, run.policy.probabilities())
    found.seconds = time.process_time() - clock
    return found


def choices(known: Known, probabilities: dict[str, torch.Tensor]) -> tuple[int, int]:
    """The likeliest network, and the likeliest within the limit."""
    logs = np.zeros(len(known.rows))
    for column, identity in enumerate(known.space.columns):
        logs += np.log(probabilities[identity].detach().numpy() + 1e-30)[known.rows[:, column]]
    return int(logs.argmax()), int(np.where(known.feasible, logs, -np.inf).argmax())


def one_shot(known: Known, task: sn.Task, epochs: int) -> dict[str, Setting]:
    """TabNAS, and TuNAS with networks within the limit alone or with its reward."""
    algorithms = {
        "TabNAS, monte-carlo": TabNAS(epochs=epochs, times=4),
        "TabNAS, exact": TabNAS(epochs=epochs, times=4, probability="exact"),
        "TuNAS, feasible paths": alg.TuNAS(epochs=epochs, feasible_paths=True),
        **{f"TuNAS, beta {beta:g}": alg.TuNAS(epochs=epochs, beta=beta) for beta in BETAS},
    }
    limit = [cm.Parameters() <= known.limit]
    return {
        name: Setting.of(
            known.space, algorithm, task, maximize="accuracy", minimize=None, subject_to=limit
        )
        for name, algorithm in algorithms.items()
    }


def trained(known: Known, setting: Setting, seed: int) -> Found:
    """What a one-shot algorithm finds, before anything is trained alone."""
    clock = time.process_time()
    run = setting.algorithm.start(attrs.evolve(setting, seed=seed).problem())
    with tempfile.TemporaryDirectory() as folder:
        Training(run, setting.task, Path(folder), lambda *_: None)()
    likeliest, projected = choices(known, run.controller.probabilities())
    seconds = time.process_time() - clock
    return Found({}, float("nan"), likeliest, projected, seconds)


# What is shown ---------------------------------------------------------------------------------


def mean(values: Any, digits: int = 2) -> str:
    """Mean and standard error."""
    found = np.array([v for v in values if v is not None], float)
    if not len(found):
        return "none"
    error = found.std(ddof=1) / len(found) ** 0.5 if len(found) > 1 else np.nan
    return f"{found.mean():.{digits}f} ± {error:.{digits}f}"


def show(known: Known, name: str, found: list[Found], trials: list[int]) -> list[str]:
    """A line of the table."""
    regret, cells = known.regret, [name]
    for count in trials:
        cells.append(
            mean(None if (i := f.best.get(count)) is None else regret[i] for f in found)
            if found[0].best
            else ""
        )
    cells.append(f"{100 * np.mean([f.within for f in found]):.0f} %" if found[0].best else "")
    if found[0].likeliest is None:
        cells += ["", "", ""]
    else:
        inside = np.mean([known.feasible[f.likeliest] for f in found])
        cells.append(f"{100 * inside:.0f} %")
        cells.append(mean([known.parameters[f.likeliest] for f in found], 0))
        cells.append(mean([regret[f.projected] for f in found]))
    return [*cells, f"{np.mean([f.seconds for f in found]):.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(os.environ.get("SYMNAS_CACHE") or user_cache_dir("symnas")) / "tabular"
    parser.add_argument("--seeds", type=int, default=30, help="of each search on the table")
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--oneshot", type=int, default=6, help="seeds of each one-shot search")
    parser.add_argument("--epochs", type=int, default=40, help="of a supernet")
    parser.add_argument("--cache", type=Path, default=default, help="where the table is kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    trials = sorted(options.trials)
    space, task = problem_of()
    known = Known.of(space, task, options.cache)
    describe(known)
    print("Regret: per cent of test accuracy, mean ± standard error.")
    columns = [f"after {n}" for n in trials] + ["within", "likeliest within", "its parameters"]
    line = "{:<24}" + "{:>15}" * len(trials) + "{:>8}{:>18}{:>16}{:>14}{:>8}"
    print(line.format("search", *columns, "projected", "seconds"))
    shared = one_shot(known, task, options.epochs) if options.oneshot else {}
    runs = [(s, options.seeds, partial(searched, trials=trials)) for s in settings(known).items()]
    runs += [(s, options.oneshot, trained) for s in shared.items()]
    for (name, setting), count, search in runs:
        seeds = track(range(count), name, transient=True, disable=QUIET)
        found = [search(known, setting, seed=seed) for seed in seeds]
        print(line.format(*show(known, name, found, trials)), flush=True)


def describe(known: Known) -> None:
    """The table in a few lines: what there is to be found, and how sure one training is of it."""
    truth, feasible = known.truth, known.feasible
    best = int(np.where(feasible, truth, -np.inf).argmax())
    pairs = [
        kendalltau(*known.results["validation"][mask].T).statistic
        for mask in (feasible, feasible | True)
    ]
    names = [known.space.decode(row) for row in (known.rows[best], known.rows[truth.argmax()])]
    sizes = ["-".join(str(a[f"width {i}"]) for i in range(3)) for a in names]
    print(
        f"{len(truth)} networks, {feasible.sum()} of at most {known.limit:,.0f} parameters; trained "
        f"in {known.results['seconds'].sum():.0f} s.\nTest accuracy: best {truth.max():.2f} % ({sizes[1]}, "
        f"{known.parameters[truth.argmax()]:,.0f} parameters); within the limit best {truth[best]:.2f} % "
        f"({sizes[0]}, {known.parameters[best]:,.0f}), mean {truth[feasible].mean():.2f} %.\nKendall's tau "
        f"of two trainings: {pairs[1]:.2f} of all networks, {pairs[0]:.2f} of those within the limit."
    )


if __name__ == "__main__":
    main()
