"""One space, one task, five algorithms: one line changes."""

import pyglove as pg
from quickstart import tiny

import symnas as sn
from symnas import algorithms as alg
from symnas import data

digits = data.digits()
task = sn.Task(digits.train, test=digits.test, epochs=2, lr=1e-2, schedule="onecycle")

mutate = pg.evolution.mutators.Uniform(seed=1)
algorithms = [
    alg.RandomSearch(),
    alg.RegularizedEvolution(population_size=4, tournament_size=2),
    alg.LocalSearch(),
    alg.BayesianOptimization(initial=4),
    alg.PyGlove(
        pg.evolution.regularized_evolution(mutate, population_size=4, tournament_size=2, seed=1)
    ),
]

for algorithm in algorithms:
    study = sn.search(
        tiny(), algorithm, task, maximize="accuracy", trials=8, study="swap.db",
        name=type(algorithm).__name__, progress=False,
    )  # fmt: skip
    reused = sum(trial.reused is not None for trial in study.trials)
    best = study.best
    print(
        f"{type(algorithm).__name__:22}"
        f"best accuracy {best.metrics['accuracy']:.3f} in trial {best.number} of {len(study)}"
        f"  ({reused} reused from earlier searches)"
    )
