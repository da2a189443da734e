"""What every search space must satisfy: `check_space(space)`, for authors of spaces.

The checks know a space by its public face alone, so they hold for spaces of other packages too.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.architecture.architecture import Architecture
from symnas.searching.problem import Problem
from symnas.searchspace.space import Space

Rows = NDArray[np.int32]

# Spaces of up to this many rows are enumerated wholly.
ENUMERATED = 20_000


def check_space(
    space: Space, samples: int = 20, *, builds: int | None = None, seed: int = 0
) -> None:
    """Checks a space by laws, on random rows.

    Args:
        space: the space.
        samples: how many rows to draw, at least 2.
        builds: how many of the valid ones to build and run at `space.input` (None: all).
        seed: of the rows and of the inputs.

    Raises:
        AssertionError: a law does not hold; the message names the space, the law and the row.

    >>> import symnas as sn
    >>> check_space(sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])), input=(4,)))
    """
    if samples < 2:
        raise ValueError(f"`samples` ({samples}) must be at least 2.")
    check_declaration(space)
    rows = space.sample(samples, seed=seed)
    assert np.array_equal(rows, space.sample(samples, seed=seed)), _say(
        space, "equal seeds must draw equal rows; let no unseeded randomness into the program"
    )
    check_rows(space, rows, "sample")
    check_rows(space, space.sample(samples, seed=seed, uniform="architectures"), "sample")
    check_moves(space, rows, seed=seed)
    check_programs(space, rows)
    check_keys(space, np.concatenate([rows, space.mutate(rows, seed=seed)]))
    check_enumeration(space)
    check_proposals(space, samples, seed=seed)
    valid = valid_rows(space, samples, seed=seed)
    check_builds(space, valid[: len(valid) if builds is None else builds], seed=seed)


def check_declaration(space: Space) -> None:
    """Ids and labels are unique, `when` speaks of known decisions, the record is plain data."""
    ids = [d.id for d in space.decisions]
    assert tuple(ids) == space.columns, _say(space, "columns must be the decisions' ids")
    assert len(set(ids)) == len(ids), _say(space, f"ids must be unique: {ids}")
    sizes = {d.id: d.size for d in space.decisions}
    assert isinstance(space.size, int) and space.size >= 1, _say(space, f"size is {space.size!r}")
    for d in space.decisions:
        where = _say(space, f"decision {d.id!r}")
        if d.kind != "float":
            assert len(d.labels) == len(d.candidates) == d.size, f"{where}: one label a candidate"
            assert len(set(d.labels)) == len(d.labels), f"{where}: labels repeat: {d.labels}"
        for other, values in itertools.chain.from_iterable(d.when):
            assert other in sizes, f"{where}: `when` names the unknown decision {other!r}"
            assert other != d.id, f"{where}: `when` names the decision itself"
            assert values and all(0 <= v < sizes[other] for v in values), (
                f"{where}: `when` has values {values} of {other!r}, which has {sizes[other]}"
            )
    json.dumps(space.fingerprint(), allow_nan=False)


def check_rows(space: Space, rows: Rows, source: str) -> None:
    """Rows have the right type and bounds, and are -1 exactly where `when` does not hold."""
    assert rows.dtype == np.int32 and rows.ndim == 2, _say(
        space, f"{source} must give int32 rows (n, columns), not {rows.dtype} {rows.shape}"
    )
    assert rows.shape[1] == len(space.columns), _say(space, f"{source} gives {rows.shape} rows")
    index = {identity: i for i, identity in enumerate(space.columns)}
    for i, d in enumerate(space.decisions):
        active = np.zeros(len(rows), bool) if d.when else np.ones(len(rows), bool)
        for clause in d.when:
            holds = [np.isin(rows[:, index[other]], values) for other, values in clause]
            active |= np.logical_and.reduce(holds)
        column = rows[:, i]
        assert np.array_equal(column >= 0, active), _say(
            space, f"{source}: {d.id!r} must be -1 exactly where it is inactive"
        )
        assert np.all((column >= -1) & (column < d.size)), _say(
            space, f"{source}: {d.id!r} must be below {d.size}"
        )
    for row in rows:
        assert space.is_row(row), _say(space, f"{source} gives {row.tolist()}, which is no row")


def check_moves(space: Space, rows: Rows, *, seed: int = 0) -> None:
    """Mutation, crossover and neighbourhood give rows; the latter differ from where they start."""
    mutants = space.mutate(rows, seed=seed)
    assert mutants.shape == rows.shape, _say(space, f"mutate gives {mutants.shape} rows")
    check_rows(space, mutants, "mutate")
    if space.size > 1:
        same = np.flatnonzero((mutants == rows).all(axis=1))
        assert not len(same), _say(space, f"mutate leaves {rows[same[:1]].tolist()} as it is")
    half = len(rows) // 2
    children = space.crossover(rows[:half], rows[half : 2 * half], seed=seed)
    assert len(children) == half, _say(space, f"crossover gives {len(children)} rows of {half}")
    check_rows(space, children, "crossover")
    again = space.crossover(rows, rows, seed=seed)
    assert np.array_equal(again, rows), _say(
        space, "crossover of equal parents must change nothing"
    )
    around = space.neighbors(rows[0])
    check_rows(space, around, "neighbors")
    listed = {tuple(row) for row in around.tolist()}
    assert len(listed) == len(around), _say(space, "neighbors must be distinct")
    assert tuple(rows[0].tolist()) not in listed, _say(space, "a row is no neighbor of itself")


def check_programs(space: Space, rows: Rows) -> None:
    """Rows and programs stand for one another, also through text."""
    for row in rows:
        architecture = space.decode(row)
        told = _say(space, f"row {row.tolist()}")
        assert np.array_equal(space.encode(architecture), row), f"{told}: encode gives another row"
        back = space.encode(
            Architecture(architecture.program, architecture.input, architecture.task)
        )
        if not np.array_equal(back, row):  # two rows may stand for one program
            twin = space.decode(back)
            assert twin.key == architecture.key, f"{told}: encode(decode(row)) is {back.tolist()}"
        valid = bool(space.is_valid(row[None])[0])
        assert space.contains(architecture) == valid, f"{told}: `contains` must agree with `valid`"
        if architecture.space is space:  # an architecture of a part is one of its parent
            assert architecture.row == tuple(row.tolist()), f"{told}: decode gives another row"
            active = [i for i, value in zip(space.columns, row, strict=True) if value >= 0]
            assert list(architecture.choices) == active, f"{told}: choices are not what is active"
        assert Architecture.from_json(architecture.to_json()) == architecture, (
            f"{told}: the architecture must survive to_json and from_json"
        )


def check_keys(space: Space, rows: Rows) -> None:
    """Keys of rows are equal where programs are; without `canonical`, nowhere else."""
    keys = space.keys(rows)
    assert keys == space.keys(rows.copy()), _say(space, "keys must depend on rows alone")
    programs = [space.decode(row).key for row in rows]
    for (i, a), (j, b) in itertools.combinations(enumerate(keys), 2):
        if programs[i] == programs[j]:
            assert a == b, _say(
                space, f"one program has two keys: {rows[i].tolist()} and {rows[j].tolist()}"
            )
        elif space.canonical is None:
            assert a != b, _say(
                space, f"two programs share a key: {rows[i].tolist()} and {rows[j].tolist()}"
            )


def check_proposals(space: Space, n: int, *, seed: int = 0) -> None:
    """What a search is dealt is valid and distinct."""
    problem = Problem(space, seed=seed)
    rows = problem.propose(problem.sample(n, key=0))
    more = problem.propose(problem.sample(n, key=1))
    both = np.concatenate([rows, more])
    assert space.is_valid(both).all(), _say(space, "an invalid row was proposed")
    assert len(set(space.keys(both))) == len(both), _say(space, "a row was proposed twice")


def check_enumeration(space: Space) -> None:
    """All rows come once, `space.size` of them; of a large space, the first ones are looked at."""
    if space.has_floats:
        return
    batches = []
    count = 0
    for batch in space.enumerate(batch=1024):
        batches.append(batch)
        count += len(batch)
        if count > ENUMERATED or (space.size > ENUMERATED and count >= 1024):
            break
    rows = np.concatenate(batches)
    assert len({tuple(row) for row in rows.tolist()}) == count, _say(
        space, "enumerate must give each row once"
    )
    if space.size <= ENUMERATED:
        assert count == space.size, _say(
            space, f"enumerate gives {count} rows, size is {space.size}"
        )
    check_rows(space, rows[:: max(1, count // 64)], "enumerate")


def check_builds(space: Space, rows: Rows, *, seed: int = 0) -> None:
    """Valid rows build modules with weights of their own, finite at `space.input`, batch 2."""
    for row in rows:
        told = _say(space, f"row {row.tolist()}")
        architecture = space.decode(row)
        torch.manual_seed(seed)
        model = architecture.build()
        if not isinstance(model, torch.nn.Module):
            return
        other = architecture.build()
        shared = {id(p) for p in model.parameters()} & {id(p) for p in other.parameters()}
        assert not shared, f"{told}: two builds must not share parameters"
        if architecture.input is None:
            continue
        batch = torch.randn(2, *architecture.input)
        with torch.no_grad():
            output: Any = model.train()(batch)
        for tensor in output if isinstance(output, tuple | list) else [output]:
            assert len(tensor) == 2, f"{told}: the output has shape {tuple(tensor.shape)}, batch 2"
            assert torch.isfinite(tensor).all(), f"{told}: the output is not finite"


def valid_rows(space: Space, n: int, *, seed: int = 0, tries: int = 100) -> Rows:
    """Up to `n` random rows that pass the space's `valid`, of at most `n * tries` drawn.

    Raises:
        AssertionError: none of them passes.
    """
    found = np.empty((0, len(space.columns)), np.int32)
    for attempt in range(tries):
        rows = space.sample(n, seed=(seed, attempt))
        found = np.concatenate([found, rows[space.is_valid(rows)]])
        if len(found) >= n:
            break
    assert len(found), _say(
        space, f"none of {n * tries} random rows is valid: `valid` is too strict"
    )
    return found[:n]


def _say(space: Space, law: str) -> str:
    return f"{space!r}: {law}"
