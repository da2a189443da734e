"""What a search is about, checked before its first trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.constraints import Constraints
from symnas.flow.flow import Flow
from symnas.searching.algorithm import Algorithm
from symnas.searching.identity import describe_callable, describe_task, text_of
from symnas.searching.objectives import Objective, objectives
from symnas.searching.problem import Problem
from symnas.searchspace.space import Space

if TYPE_CHECKING:
    from symnas.costs.model import BoundCost

Rows = NDArray[np.int32]


@attrs.frozen
class Setting:
    """A search before it begins: what is optimised, over what, under which constraints.

    Attributes:
        space: what is searched, joined with the choices among the task's arguments.
        algorithm: what searches.
        task: what evaluates; None where the caller does (`sn.sample`).
        objectives: what is improved.
        constraints: bound to the space, or None.
        costs: the bound costs of constraints, objectives and reward, by name.
        reward: `reward(quality, costs)` turns the one objective's score into what is told.
        initial: rows `(n, columns)` to begin with.
        seed: all randomness comes from it.
    """

    space: Space
    algorithm: Algorithm
    task: Any
    objectives: tuple[Objective, ...]
    constraints: Any
    costs: dict[str, BoundCost]
    reward: Callable[[float, Mapping[str, float]], float] | None
    initial: Rows
    seed: int

    @classmethod
    def of(
        cls,
        space: Space,
        algorithm: Algorithm,
        task: Any = None,
        *,
        maximize: Any,
        minimize: Any,
        subject_to: Any = (),
        reward: Any = None,
        initial: Sequence[Any] = (),
        seed: int = 0,
    ) -> Setting:
        """Checks the arguments of `sn.search`, and binds costs and constraints to the space.

        Raises:
            TypeError, ValueError: an argument is not what it must be; says which and what to do.
            Infeasible: no architecture meets the constraints.
        """
        space = _checked_space(space)
        _check_algorithm(algorithm)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"`seed` ({seed!r}) must be an integer of at least 0.")
        arguments = getattr(task, "arguments", None)
        if arguments:
            space = space.with_task(dict(arguments))
        wanted = objectives(maximize, minimize)
        _check_reward(reward, wanted)
        limits = Constraints.of(subject_to)
        models = [constraint.cost for constraint in limits.costs]
        models += [objective.cost for objective in wanted if objective.cost is not None]
        space = space.with_hardware([*models, *getattr(reward, "costs", ())])
        constraints = limits.bind(space) if len(limits) else None
        costs = _bound_costs(wanted, constraints, reward, space)
        if constraints is not None:
            constraints.check_possible(space, seed)
        rows = _initial_rows(space, initial)
        setting = cls(
            space, algorithm, task, wanted, constraints, costs, reward, rows, seed
        )  # fmt: skip
        problem = setting.problem()
        algorithm.check(problem)
        _check_initial(problem, rows)
        return setting

    @property
    def metrics(self) -> tuple[str, ...]:
        """What the task must measure, for objectives and constraints."""
        names = [o.name for o in self.objectives if o.cost is None]
        names += [c.name for c in (() if self.constraints is None else self.constraints.metrics)]
        return tuple(dict.fromkeys(names))

    def problem(self) -> Problem:
        """The problem, as an algorithm sees it at the beginning."""
        return Problem(
            self.space, self.objectives, self.constraints, self.seed, self.reward, self.costs
        )

    def costs_of(self, rows: Rows) -> dict[str, float]:
        """What the cost models say about one row `(1, columns)`."""
        return {name: float(cost(rows)[0]) for name, cost in self.costs.items()}

    def scores(self, metrics: Mapping[str, float], costs: Mapping[str, float]) -> list[float]:
        """One score per objective, larger is better; with a reward, that alone.

        Raises:
            KeyError: a metric is missing.
            ValueError: the reward is no finite number.
        """
        scores = [
            float(o.score(metrics[o.name] if o.cost is None else costs[o.name]))
            for o in self.objectives
        ]
        if self.reward is None:
            return scores
        reward = float(self.reward(scores[0], costs))
        if not math.isfinite(reward):
            raise ValueError(f"it gave {reward} for the quality {scores[0]:.6g}")
        return [reward]

    def judge(
        self, metrics: Mapping[str, float], costs: Mapping[str, float]
    ) -> tuple[list[float], str | None]:
        """The scores of a trial, and why it fails nevertheless, if it does.

        It fails where a metric breaks a constraint, or where there is no reward for it.

        Raises:
            KeyError: a metric is missing.
        """
        broken = [] if self.constraints is None else self.constraints.violated(metrics)
        if broken:
            return self.failure, f"the metrics break {', '.join(broken)}"
        try:
            return self.scores(metrics, costs), None
        except ValueError as problem:
            return self.failure, f"reward: {problem}"

    @property
    def failure(self) -> list[float]:
        """The scores of a failed trial."""
        return [math.nan] * len(self.objectives)

    def record(self, ahead: int) -> dict[str, Any]:
        """What a study records, and compares when the search is continued."""
        from symnas.searching.cost_record import limits
        from symnas.studies.record import decision_record, versions

        flow = {"flow": str(self.algorithm)} if isinstance(self.algorithm, Flow) else {}
        return {
            "space": self.space.fingerprint(),
            "decisions": [decision_record(decision) for decision in self.space.decisions],
            "program": repr(self.space.program),
            "input": self.space.input,
            "task": describe_task(self.task),
            "objectives": [
                {
                    "name": o.name,
                    "direction": o.direction,
                    "unit": o.cost.unit if o.cost else None,
                }
                for o in self.objectives
            ],
            "costs": {name: cost.model.describe() for name, cost in self.costs.items()},
            "reward": None if self.reward is None else _describe_reward(self.reward),
            "constraints": [] if self.constraints is None else list(self.constraints.describe()),
            "limits": limits(self.constraints),
            "algorithm": text_of(self.algorithm),
            **flow,
            "seed": self.seed,
            "ahead": ahead,
            "initial": self.initial.tolist(),
            "versions": versions(),
        }


def _checked_space(space: Any) -> Space:
    if isinstance(space, Space):
        return space
    if getattr(space, "__symnas_space__", False):
        raise TypeError(
            f"`space` is the function `{space.__name__}`: call it, as in sn.search("
            f"{space.__name__}(), ...)."
        )
    raise TypeError(
        f"`space` ({text_of(space)[:80]}) must be a Space: wrap a program with sn.Space(program)."
    )


def _check_algorithm(algorithm: Any) -> None:
    if isinstance(algorithm, Algorithm):
        return
    if isinstance(algorithm, type) and issubclass(algorithm, Algorithm):
        raise TypeError(
            f"`algorithm` is the class {algorithm.__name__}: make one, {algorithm.__name__}()."
        )
    raise TypeError(
        f"`algorithm` ({text_of(algorithm)[:80]}) must be an Algorithm, such as "
        "symnas.algorithms.RegularizedEvolution(). A pg.DNAGenerator goes through "
        "symnas.algorithms.PyGlove(generator)."
    )


def _check_reward(reward: Any, wanted: Sequence[Objective]) -> None:
    if reward is None:
        return
    if isinstance(reward, type) or not callable(reward):
        raise ValueError(
            f"`reward` ({text_of(reward)[:80]}) must be a reward, such as "
            "sn.rewards.Absolute(cost, target=20.0), or a function reward(quality, costs)."
        )
    if len(wanted) != 1:
        raise ValueError(
            f"`reward` ({text_of(reward)[:80]}) weighs the quality of exactly one objective against "
            f"costs; there are {len(wanted)}. Leave out the reward, or all objectives but one."
        )
    if getattr(reward, "needs_positive", False) and wanted[0].direction == "minimize":
        raise ValueError(
            f"`reward` ({reward}) multiplies the quality, and that of minimize={wanted[0].name!r} "
            "would be negative. Use sn.rewards.Absolute, or maximize something."
        )


def _bound_costs(
    wanted: Sequence[Objective], constraints: Any, reward: Any, space: Space
) -> dict[str, BoundCost]:
    bound: dict[str, BoundCost] = {}
    for cost in () if constraints is None else constraints.costs:
        bound[cost.name] = cost
    models = [o.cost for o in wanted if o.cost is not None]
    models += list(getattr(reward, "costs", ()))
    for model in models:
        known = bound.get(model.name)
        if known is None:
            bound[model.name] = model.bind(space)
        elif known.model != model:
            raise ValueError(
                f"Two different cost models of this search are named {model.name!r}. Give one "
                "another name."
            )
    return bound


def _initial_rows(space: Space, initial: Sequence[Any]) -> Rows:
    rows = []
    for index, value in enumerate(initial):
        try:
            rows.append(_initial_row(space, value))
        except ValueError as error:
            raise ValueError(f"`initial[{index}]`: {error}") from error
    return np.array(rows, dtype=np.int32).reshape(len(rows), len(space.columns))


def _initial_row(space: Space, value: Any) -> Rows:
    if isinstance(value, list | tuple | np.ndarray):
        return np.array(space.decode(np.asarray(value)).row, dtype=np.int32)
    return space.encode(value)


def _check_initial(problem: Problem, rows: Rows) -> None:
    if not len(rows):
        return
    for index, fresh in enumerate(problem.fresh(rows)):
        if not fresh:
            raise ValueError(
                f"`initial[{index}]` breaks the constraints or the space's `valid`, or is the same "
                "as an earlier one. Leave it out."
            )


def _describe_reward(reward: Any) -> Any:
    if hasattr(reward, "describe"):
        return reward.describe()
    described = text_of(reward)
    return describe_callable(reward) if described.startswith("<") else described
