"""The laws of search algorithms, as tests that any algorithm can be put through.

An algorithm is driven as a search drives it: a proposal is asked for when exactly the results up
to `ahead` proposals before it were told, in order.
"""

from __future__ import annotations

import builtins
import contextlib
import copy
import functools
import io
import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.objectives import Objective
from symnas.searching.problem import Problem
from symnas.searchspace.space import Space
from symnas.testing.examples import example_scores, example_spaces

Rows = NDArray[np.int32]
Scores = NDArray[np.float64]


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
        problem = self.problem(space, options.pop("seed", 0), options.pop("constraints", None))
        run = self.algorithm.start(problem)
        return drive(problem, run, self.trials if trials is None else trials, **options)


def drive(
    problem: Problem,
    run: Run,
    trials: int,
    *,
    ahead: int = 1,
    score: Callable[[Rows], Scores] = example_scores,
    before: Sequence[Rows] = (),
) -> Rows:
    """Searches in this process; returns the rows proposed, `(<= trials, columns)`.

    Args:
        problem: what is solved.
        run: a run of an algorithm on it.
        trials: when to stop, those in `before` included.
        ahead: how many proposals may be open when the next is asked for.
        score: gives the scores `(1, objectives)` of a row `(1, columns)`.
        before: rows that were proposed already, which are gone through again instead of asked.
    """
    rows: list[Rows] = []
    told = 0

    def tell_until(number: int) -> None:
        nonlocal told
        while told < min(number, len(rows)):
            row = rows[told].copy()
            scores = score(row)
            run.tell(row, scores)
            row[:], scores[:] = -7, 1e9  # a run that keeps what it is lent keeps this
            told += 1

    while len(rows) < trials:
        tell_until(len(rows) - ahead + 1)
        if len(rows) < len(before):
            rows.append(problem.propose(before[len(rows)].reshape(1, -1)).copy())
            continue
        asked = run.ask(1)
        while not len(asked) and told < len(rows):
            tell_until(told + 1)
            asked = run.ask(1)
        if not len(asked):
            break
        rows.append(np.array(asked))
    tell_until(len(rows))
    return np.concatenate(rows) if rows else np.empty((0, len(problem.space.columns)), np.int32)


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
        rows = drive(problem, case.algorithm.start(problem), case.trials)
        expected = min(case.trials, 2 if space.has_floats else space.size)
        assert len(rows) >= (expected if case.exhaustive else 1), (
            f"{name}: {len(rows)} proposals of {case.trials}, in a space of {space.size}"
        )
        assert rows.dtype == np.int32, f"{name}: proposals must be int32, not {rows.dtype}"
        for row in rows:
            assert space.is_row(row), f"{name}: {row.tolist()} is not a row of the space"
        keys = space.keys(rows)
        assert len(set(keys)) == len(keys), f"{name}: an architecture is proposed twice"
        assert problem.count == len(rows), (
            f"{name}: {len(rows)} rows were asked, but {problem.count} passed problem.propose"
        )


def _constraints(case: _Case) -> None:
    for name, space in case.spaces.items():
        for share in (2, 9):
            allowed = _Allowed(space, share)
            rows = case.run(space, constraints=allowed)
            assert allowed.mask(rows).all(), f"{name}: an infeasible architecture is proposed"
            possible = 0 if space.has_floats else allowed.count()
            assert not case.exhaustive or len(rows) >= min(case.trials, possible), (
                f"{name}: {len(rows)} of {possible} feasible architectures were proposed"
            )


def _exhaustion(case: _Case) -> None:
    for name, space in case.spaces.items():
        if space.has_floats:
            continue
        problem = case.problem(space)
        run = case.algorithm.start(problem)
        rows = drive(problem, run, space.size + 10)
        assert not len(run.ask(3)), f"{name}: a proposal came after the end"
        found = set(space.keys(rows))
        assert len(found) == len(rows), f"{name}: an architecture is proposed twice"
        if case.exhaustive:
            every = {key for batch in space.enumerate() for key in space.keys(batch)}
            assert found == every, f"{name}: {len(found)} of {len(every)} architectures proposed"


def _seeds(case: _Case) -> None:
    for name, space in case.spaces.items():
        first = case.run(space, seed=3)
        _same(first, case.run(space, seed=3), f"{name}: the same seed, another trajectory")
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
            _same(rows, right, f"{name}: ask(4) is not four times ask(1), at {one.count}")
            for run in (run_one, run_four):
                run.tell(rows.copy(), example_scores(rows))


def _recovery(case: _Case) -> None:
    for name, space in case.spaces.items():
        full = case.run(space)
        scores = example_scores(full)
        for cut in range(0, len(full), max(1, len(full) // 5)):
            problem = case.problem(space)
            run = case.algorithm.start(problem)
            problem.propose(full[:cut])
            run.tell(full[:cut].copy(), scores[:cut].copy())
            rows = _go_on(problem, run, full[:cut], case.trials)
            _same(full, rows, f"{name}: after {cut} trials told at once, another continuation")


def _recovery_ahead(case: _Case) -> None:
    for name, space in case.spaces.items():
        for ahead in (2, 5):
            full = case.run(space, ahead=ahead)
            _same(full, case.run(space, ahead=ahead), f"{name}: ahead={ahead} is not repeatable")
            for cut in range(0, len(full), max(1, len(full) // 3)):
                rows = case.run(space, ahead=ahead, before=list(full[:cut]))
                _same(full, rows, f"{name}: ahead={ahead}, cut at {cut}, another continuation")


def _foreign(case: _Case) -> None:
    for name, space in case.spaces.items():
        before = list(space.sample(1, seed=11)) if space.size > 1 else []
        rows = case.run(space, before=before)
        keys = space.keys(rows)
        assert len(set(keys)) == len(keys), f"{name}: an initial architecture is proposed again"
        assert len(rows) > len(before), f"{name}: nothing is proposed after an initial architecture"


def _failures(case: _Case) -> None:
    for kind, value in (("NaN", np.nan), ("-inf", -np.inf), ("equal", 0.5)):
        for name, space in case.spaces.items():
            for every in (1, 2):
                rows = case.run(space, score=_sometimes(value, every))
                again = case.run(space, score=_sometimes(value, every))
                _same(rows, again, f"{name}: {kind} scores are not repeatable")
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
        before = _global_state()
        first = case.run(space)
        assert _global_state() == before, f"{name}: a global random generator was used"
        with _other_global_state():
            _same(first, case.run(space), f"{name}: a global random generator decides")


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


# Helpers --------------------------------------------------------------------------------------


def _same(expected: Rows, found: Rows, message: str) -> None:
    if np.array_equal(expected, found):
        return
    n = min(len(expected), len(found))
    different = np.flatnonzero((expected[:n] != found[:n]).any(axis=1))
    at = int(different[0]) if len(different) else n
    raise AssertionError(
        f"{message}: proposal {at} is {found[at : at + 1].tolist()}, "
        f"not {expected[at : at + 1].tolist()} ({len(found)} proposals against {len(expected)})"
    )


def _go_on(problem: Problem, run: Run, told: Rows, trials: int) -> Rows:
    rows = [told]
    while problem.count < trials:
        asked = run.ask(1)
        if not len(asked):
            break
        rows.append(np.array(asked))
        run.tell(rows[-1].copy(), example_scores(rows[-1]))
    return np.concatenate(rows)


@attrs.frozen
class _Allowed:
    """Constraints that allow every so-many-th row, as `sn.Constraints` bound to the space would."""

    space: Space
    share: int

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        weights = np.arange(3, 3 + rows.shape[1])
        allowed: NDArray[np.bool_] = ((rows + 1) @ weights) % self.share == 0
        return allowed

    def count(self) -> int:
        return sum(int(self.mask(batch).sum()) for batch in self.space.enumerate())


def _sometimes(value: float, every: int) -> Callable[[Rows], Scores]:
    calls = iter(range(10**9))

    def score(rows: Rows) -> Scores:
        scores = example_scores(rows)
        return np.full_like(scores, value) if next(calls) % every == 0 else scores

    return score


def _global_state() -> tuple[Any, ...]:
    legacy = repr(np.random.get_state())
    return random.getstate(), legacy, bytes(torch.get_rng_state().tolist())


@contextlib.contextmanager
def _other_global_state() -> Iterator[None]:
    python, legacy, state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(98765)
    np.random.seed(98765)
    torch.manual_seed(98765)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(state)
