"""The laws of search algorithms, as tests that any algorithm can be put through."""

from __future__ import annotations

import builtins
import contextlib
import copy
import functools
import io
from collections.abc import Callable, Hashable, Mapping
from typing import Any
from unittest import mock

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.constraints import Constraints
from symnas.searching.algorithm import Algorithm
from symnas.searching.objectives import Objective
from symnas.searching.problem import Problem
from symnas.searchspace.space import Space
from symnas.testing.driving import (
    Allowed,
    ExampleCost,
    Trajectory,
    drive,
    feasible_rows,
    global_state,
    go_on,
    other_global_state,
    same,
    sometimes,
    trajectory,
)
from symnas.testing.examples import example_scores, example_spaces

Rows = NDArray[np.int32]


def check_algorithm(algorithm: Algorithm, **options: Any) -> None:
    """Puts an algorithm through all laws; `options` are those of `algorithm_laws`.

    Raises:
        AssertionError: a law is broken; the message says which, where, and how.

    >>> from symnas import algorithms as alg
    >>> check_algorithm(alg.RandomSearch(), trials=8)
    """
    for law in algorithm_laws(algorithm, **options).values():
        law()


def algorithm_laws(
    algorithm: Algorithm,
    *,
    spaces: Mapping[str, Space] | None = None,
    trials: int = 24,
    stochastic: bool = True,
    exhaustive: bool = True,
    names: Mapping[str, Any] | None = None,
) -> dict[str, Callable[[], None]]:
    """The laws as functions without arguments, by name: one row each of a parametrised test.

    Args:
        algorithm: the value that is tested.
        spaces: what to search, by name; by default one small space of each kind.
        trials: the length of a run. It should reach beyond what begins a search, such as the
            first population.
        stochastic: whether other seeds give other proposals.
        exhaustive: whether the algorithm promises to go on until all architectures of a small
            space were proposed.
        names: what evaluating the algorithm's `repr` needs besides its class; None if that is
            not promised, `{}` if nothing.

    >>> from symnas import algorithms as alg
    >>> list(algorithm_laws(alg.RandomSearch()))[1:3]
    ['distinct', 'constraints are kept']
    """
    spaces = example_spaces() if spaces is None else dict(spaces)
    case = _Case(algorithm, spaces, trials, stochastic, exhaustive, names)
    return {name: functools.partial(law, case) for name, law in _LAWS.items()}


@attrs.frozen
class _Case:
    algorithm: Algorithm
    spaces: dict[str, Space]
    trials: int
    stochastic: bool
    exhaustive: bool
    names: Mapping[str, Any] | None

    def problem(self, space: Space, seed: int = 0, constraints: Any = None) -> Problem:
        return Problem(space, [Objective("score", "maximize")], constraints, seed)

    def run(self, space: Space, trials: int | None = None, **options: Any) -> Rows:
        return self.proposed(space, trials, **options).rows

    def proposed(self, space: Space, trials: int | None = None, **options: Any) -> Trajectory:
        problem = self.problem(space, options.pop("seed", 0), options.pop("constraints", None))
        run = self.algorithm.start(problem)
        return trajectory(problem, run, self.trials if trials is None else trials, **options)


# The laws -------------------------------------------------------------------------------------


def _value(case: _Case) -> None:
    algorithm = case.algorithm
    assert attrs.has(type(algorithm)), f"{type(algorithm).__name__} must be an attrs class"
    other = copy.deepcopy(algorithm)
    assert other == algorithm, f"a copy of {algorithm!r} must equal it"
    assert isinstance(algorithm, Hashable), (
        f"{type(algorithm).__name__} must be hashable: freeze it"
    )
    assert hash(other) == hash(algorithm), f"equal values of {algorithm!r} must have equal hashes"
    assert repr(other) == repr(algorithm), (
        f"equal values must print alike: {algorithm!r}, {other!r}"
    )
    fields: Any = attrs.fields(type(algorithm))  # type: ignore[arg-type]  # tested above
    for field in fields:
        try:
            setattr(algorithm, field.name, getattr(algorithm, field.name))
        except attrs.exceptions.FrozenInstanceError:
            continue
        raise AssertionError(f"{type(algorithm).__name__}.{field.name} can be assigned; freeze it")
    if case.names is not None:
        names = {type(algorithm).__name__: type(algorithm), **case.names}
        again = eval(repr(algorithm), names)
        assert again == algorithm, f"evaluating {algorithm!r} gives another value: {again!r}"


def _distinct(case: _Case) -> None:
    for name, space in case.spaces.items():
        problem = case.problem(space)
        proposed = trajectory(problem, case.algorithm.start(problem), case.trials)
        rows = proposed.rows
        expected = min(case.trials, 2 if space.has_floats else space.size)
        assert len(rows) >= (expected if case.exhaustive else 1), (
            f"{name}: {len(rows)} proposals of {case.trials}, in a space of {space.size}"
        )
        assert rows.dtype == np.int32, f"{name}: proposals must be int32, not {rows.dtype}"
        for row in rows:
            assert space.is_row(row), f"{name}: {row.tolist()} is not a row of the space"
        keys = space.keys(rows)
        pairs = set(zip(keys, proposed.budgets, strict=True))
        assert len(pairs) == len(keys), f"{name}: an architecture is proposed twice"
        assert problem.count == len(set(keys)), (
            f"{name}: {len(rows)} rows were asked, but {problem.count} passed problem.propose"
        )


def _constraints(case: _Case) -> None:
    for name, space in case.spaces.items():
        costs = ExampleCost().bind(space)(space.sample(1000, 0))
        limit = Constraints.of(ExampleCost() <= float(np.quantile(costs, 0.1)))
        for allowed in (Allowed(space, 2), Allowed(space, 9), limit.bind(space)):
            rows = case.run(space, constraints=allowed)
            assert allowed.mask(rows).all(), f"{name}: an infeasible architecture is proposed"
            possible = 0 if space.has_floats else feasible_rows(allowed)
            assert not case.exhaustive or len(rows) >= min(case.trials, possible), (
                f"{name}: {len(rows)} of {possible} feasible architectures were proposed"
            )
    name, space = next(iter(case.spaces.items()))
    allowed = Allowed(space, 3)
    valid = Space(
        space.program, valid=lambda architecture: allowed.mask(np.array([architecture.row]))[0]
    )
    assert allowed.mask(case.run(valid)).all(), f"{name}: an architecture is not `valid`"


def _exhaustion(case: _Case) -> None:
    for name, space in case.spaces.items():
        if space.has_floats:
            continue
        problem = case.problem(space)
        run = case.algorithm.start(problem)
        proposed = trajectory(problem, run, 2 * space.size + 10)
        assert not len(run.ask(3)), f"{name}: a proposal came after the end"
        keys = space.keys(proposed.rows)
        pairs = set(zip(keys, proposed.budgets, strict=True))
        assert len(pairs) == len(keys), f"{name}: an architecture is proposed twice"
        found = set(keys)
        if case.exhaustive:
            every = {key for batch in space.enumerate() for key in space.keys(batch)}
            assert found == every, f"{name}: {len(found)} of {len(every)} architectures proposed"


def _seeds(case: _Case) -> None:
    for name, space in case.spaces.items():
        first = case.run(space, seed=3)
        same(first, case.run(space, seed=3), f"{name}: the same seed, another trajectory")
        if case.stochastic and name == next(iter(case.spaces)):
            others = [case.run(space, seed=seed) for seed in (4, 5, 6)]
            assert any(not np.array_equal(first, rows) for rows in others), (
                f"{name}: four seeds, one trajectory"
            )


def _several(case: _Case) -> None:
    for name, space in case.spaces.items():
        one, four = case.problem(space), case.problem(space)
        run_one, run_four = case.algorithm.start(one), case.algorithm.start(four)
        for _ in range(max(2, case.trials // 4)):
            left = [run_one.ask(1) for _ in range(4)]
            right = run_four.ask(4)
            rows = np.concatenate(left)
            same(rows, right, f"{name}: ask(4) is not four times ask(1), at {one.count}")
            for run in (run_one, run_four):
                run.tell(rows.copy(), example_scores(rows))


def _recovery(case: _Case) -> None:
    for name, space in case.spaces.items():
        every = case.proposed(space)
        full = every.rows
        scores = example_scores(full)
        for cut in range(0, len(full), max(1, len(full) // 5)):
            problem = case.problem(space)
            run = case.algorithm.start(problem)
            every.until(cut).propose_to(problem)
            run.tell(full[:cut].copy(), scores[:cut].copy())
            rows = go_on(problem, run, full[:cut], case.trials)
            same(full, rows, f"{name}: after {cut} trials told at once, another continuation")


def _recovery_ahead(case: _Case) -> None:
    for name, space in case.spaces.items():
        for ahead in (2, 5):
            every = case.proposed(space, ahead=ahead)
            full = every.rows
            same(full, case.run(space, ahead=ahead), f"{name}: ahead={ahead} is not repeatable")
            for cut in range(0, len(full), max(1, len(full) // 3)):
                rows = case.run(space, ahead=ahead, before=every.until(cut))
                same(full, rows, f"{name}: ahead={ahead}, cut at {cut}, another continuation")


def _foreign(case: _Case) -> None:
    for name, space in case.spaces.items():
        before = list(space.sample(1, seed=11)) if space.size > 1 else []
        proposed = case.proposed(space, before=before)
        pairs = set(zip(space.keys(proposed.rows), proposed.budgets, strict=True))
        assert len(pairs) == len(proposed), f"{name}: an initial architecture is proposed again"
        assert len(proposed) > len(before), (
            f"{name}: nothing is proposed after an initial architecture"
        )


def _failures(case: _Case) -> None:
    for kind, value in (("NaN", np.nan), ("-inf", -np.inf), ("equal", 0.5)):
        for name, space in case.spaces.items():
            for every in (1, 2):
                rows = case.run(space, score=sometimes(value, every))
                again = case.run(space, score=sometimes(value, every))
                same(rows, again, f"{name}: {kind} scores are not repeatable")
                enough = min(case.trials, 2 if space.has_floats else space.size)
                assert not case.exhaustive or len(rows) >= enough, (
                    f"{name}: with {kind} scores the search ends after {len(rows)} trials"
                )


def _objectives(case: _Case) -> None:
    space = next(iter(case.spaces.values()))
    problem = Problem(space, [Objective("up", "maximize"), Objective("down", "minimize")])
    try:
        case.algorithm.check(problem)
    except ValueError:
        return
    assert case.algorithm.many_objectives, (
        f"{type(case.algorithm).__name__} accepts two objectives, but says many_objectives = False"
    )
    run = case.algorithm.start(problem)
    rows = drive(problem, run, case.trials, score=lambda row: example_scores(row, 2))
    assert len(rows), "nothing is proposed for two objectives"


def _randomness(case: _Case) -> None:
    for name, space in case.spaces.items():
        before = global_state()
        first = case.run(space)
        assert global_state() == before, f"{name}: a global random generator was used"
        with other_global_state():
            same(first, case.run(space), f"{name}: a global random generator decides")


def _silence(case: _Case) -> None:
    space = next(iter(case.spaces.values()))
    case.run(space)  # what is imported late, is imported now
    printed = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(contextlib.redirect_stderr(printed))
        opened = stack.enter_context(mock.patch.object(builtins, "open"))
        case.run(space)
    assert not opened.called, f"a file was opened: {opened.call_args}"
    assert not printed.getvalue(), f"something was printed: {printed.getvalue()!r}"


_LAWS: dict[str, Callable[[_Case], None]] = {
    "a frozen, comparable, hashable, printable value": _value,
    "distinct": _distinct,
    "constraints are kept": _constraints,
    "ends when everything was proposed": _exhaustion,
    "the seed decides": _seeds,
    "asking for several is asking several times": _several,
    "recovered by telling": _recovery,
    "recovered with open trials": _recovery_ahead,
    "proposals of others are welcome": _foreign,
    "failures are survived": _failures,
    "several objectives": _objectives,
    "no global randomness": _randomness,
    "no input or output": _silence,
}
