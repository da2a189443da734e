"""A search that is stopped continues where it was: the same call, the same study."""

from quickstart import tiny

import symnas as sn
from symnas import algorithms as alg


def score(architecture, trial):
    """Any function of an architecture is a task; this one stands for a training."""
    print(f"  evaluating trial {trial.number}")
    return sum(p.numel() for p in architecture.build().parameters()) % 1000


def search(trials, **options):
    return sn.search(
        tiny(), alg.RegularizedEvolution(population_size=3, tournament_size=2), score,
        maximize="score", trials=trials, study="resume.db", progress=False, **options,
    )  # fmt: skip


print("Four trials, then the process ends:")
search(trials=4)
print("The same call, six trials in all: two are new.")
search(trials=6)

try:
    search(trials=8, seed=1)
except sn.StudyChanged as error:
    print(f"Continued with another seed, it is refused:\n{error}")

study = sn.Study.open("resume.db")
print(study.frame().tail(3).to_string())
