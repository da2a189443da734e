"""Evolution on the shared weights of a supernet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symnas.searching.problem import Problem

if TYPE_CHECKING:
    from symnas.oneshot.workshop import Workshop

Rows = NDArray[np.int32]


def evolved(
    workshop: Workshop,
    population: int,
    generations: int,
    parents: int,
    first: Rows | None = None,
    show: Callable[[int, float], None] | None = None,
) -> Rows:
    """The networks that evolution finds with shared weights, the best first: `(n, columns)`.

    Z. Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV
    2020, arXiv:1904.00420, Algorithm 1: each generation is half mutations and half crossovers of
    the best so many networks of all so far. All keep the constraints, none is measured twice.

    Args:
        workshop: with a trained supernet.
        population: networks in a generation.
        generations: how many, with the first, which is random.
        parents: the best so many have children.
        first: networks of the first generation; the others of it are random.
        show: called after each generation with its number and the best quality.
    """
    given = workshop.problem
    problem = Problem(given.space, given.objectives, given.constraints, given.seed)
    begin = np.empty((0, len(given.space)), np.int32) if first is None else first[:population]
    begin = problem.propose(begin[problem.fresh(begin)]) if len(begin) else begin
    rows = begin
    scores = workshop.qualities(rows)
    for generation in range(generations):
        rng = workshop.rng(31, generation)
        missing = population - (len(begin) if generation == 0 else 0)
        children = np.empty((0, len(given.space)), np.int32)
        if generation:
            best = rows[np.argsort(-scores, kind="stable")[:parents]]
            half = missing // 2
            mothers = best[rng.integers(len(best), size=half)]
            fathers = best[rng.integers(len(best), size=half)]
            crossed = problem.propose(problem.crossover(mothers, fathers, (32, generation)))
            mutants = best[rng.integers(len(best), size=missing - half)]
            mutated = problem.propose(problem.mutate(mutants, (33, generation)))
            children = np.concatenate([crossed, mutated])
        if len(children) < missing:
            drawn = problem.sample(missing - len(children), (34, generation))
            children = np.concatenate([children, problem.propose(drawn)])
        if not len(children):
            break
        rows = np.concatenate([rows, children])
        scores = np.append(scores, workshop.qualities(children))
        if show is not None:
            show(generation, float(scores.max()))
    return rows[np.argsort(-scores, kind="stable")]
