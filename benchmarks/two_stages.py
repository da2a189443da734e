"""Later layers first, then the earlier ones, against all at once, where the truth is a sum.

    python benchmarks/two_stages.py --seeds 24

Each of 12 layers adds `importance * quality of its operation` to the score, and its latency to the
cost; better operations take longer. The importance rises with depth, tenfold from the first layer to
the last, as L. Zhang et al. (HURRICANE, arXiv:1910.11609) hold of networks; or it falls. Both searches
have the same algorithm and as many evaluations. Three limits: none; as much as the default network
takes, whose operations are the middle ones; and the same with a default of the second-fastest ones,
which leaves more to the stage that comes first.
"""

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm

LAYERS, OPERATIONS = 12, 5
LIMITS = ("none", "middle default", "fast default")
ALGORITHMS = {
    "LocalSearch": alg.LocalSearch(),
    "RegularizedEvolution": alg.RegularizedEvolution(population_size=10, tournament_size=4),
}


def curves(algorithm, rising, limit, seed, n):
    """The best score after each of n evaluations of the search in one stage and of that in two."""
    rng = np.random.default_rng(seed)
    quality = np.sort(rng.random((LAYERS, OPERATIONS)), axis=1)
    time = np.sort(quality + 0.2 * rng.random((LAYERS, OPERATIONS)), axis=1)
    importance = np.geomspace(1, 10, LAYERS)[:: 1 if rising else -1]
    importance = importance / importance.sum()

    groups = ["early"] * (LAYERS // 2) + ["late"] * (LAYERS - LAYERS // 2)
    space = sn.Space([sn.oneof(range(OPERATIONS), group=group) for group in groups])
    terms = [
        {"decisions": [d.id], "costs": dict(zip(d.labels, map(float, costs), strict=True))}
        for d, costs in zip(space.decisions, time, strict=True)
    ]
    latency = cm.Table("latency", "ms", terms=terms)
    default = np.full(LAYERS, 1 if limit == "fast default" else OPERATIONS // 2, np.int32)
    most = time[:, OPERATIONS // 2].sum() + 1e-9
    flows = [
        algorithm,
        sn.flow.sequence(
            algorithm.over("late", trials=n // 2),
            algorithm.over("early", trials=n - n // 2),
            start=space.decode(default),
        ),
    ]
    found = []
    for flow in flows:
        limits = None if limit == "none" else sn.Constraints.of([latency <= most]).bind(space)
        problem = sn.Problem(space, (sn.Objective("score", "maximize"),), limits, seed)
        run = flow.start(problem)
        scores = []
        while len(scores) < n and len(rows := run.ask(1)):
            assert limits is None or limits.mask(rows).all()
            scores.append(float(importance @ quality[np.arange(LAYERS), rows[0]]))
            run.tell(rows, np.array([[scores[-1]]]))
        scores += [scores[-1]] * (n - len(scores))
        found.append(np.maximum.accumulate(scores))
    return np.array(found)  # (2, n)


def reached(curve, quality):
    """After how many evaluations a curve is as high; None if never."""
    above = np.flatnonzero(curve >= quality)
    return int(above[0]) + 1 if len(above) else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--evaluations", type=int, default=60)
    options = parser.parse_args()
    n = options.evaluations

    table = Table(title=f"Mean best score of {options.seeds} seeds, {n} evaluations")
    for column in ("algorithm", "limit", "importance", "one: half", "end", "two: half", "end",
                   "two - one", "as good after"):  # fmt: skip
        table.add_column(column)
    for name, algorithm in ALGORITHMS.items():
        for limit in LIMITS:
            for rising in (True, False):
                found = np.array(
                    [curves(algorithm, rising, limit, seed, n) for seed in range(options.seeds)]
                )
                one, two = found.mean(axis=0)
                differences = found[:, 1, -1] - found[:, 0, -1]
                error = differences.std(ddof=1) / np.sqrt(options.seeds)
                table.add_row(
                    name, limit, "rising" if rising else "falling",
                    f"{one[n // 2 - 1]:.3f}", f"{one[-1]:.3f}",
                    f"{two[n // 2 - 1]:.3f}", f"{two[-1]:.3f}",
                    f"{differences.mean():+.3f} ± {error:.3f}", str(reached(two, one[-1]) or "-"),
                )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
