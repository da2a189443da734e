"""PyGlove is the oracle: random templates must compile to what PyGlove makes of them."""

from __future__ import annotations

import itertools

import numpy as np
import pyglove as pg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import symnas as sn

LIMIT = 100


def values(depth: int) -> st.SearchStrategy:
    leaf = st.integers(0, 9)
    if depth == 0:
        return leaf
    below = values(depth - 1)
    distinct = st.lists(below, min_size=1, max_size=3).map(labelled)
    choice = distinct.map(pg.oneof)
    many = st.tuples(distinct, st.integers(1, 3), st.booleans(), st.booleans()).map(many_of)
    keys = st.sampled_from(["x", "y", "z"])
    return st.one_of(
        leaf,
        choice,
        many,
        st.dictionaries(keys, below, max_size=3).map(pg.Dict),
        st.lists(below, max_size=2).map(pg.List),
    )


def labelled(candidates: list) -> list:
    # Equal candidates would make DNA ambiguous, for PyGlove too.
    return [pg.Dict(tag=f"c{i}", value=value) for i, value in enumerate(candidates)]


def many_of(parts: tuple) -> object:
    candidates, k, distinct, ordered = parts
    return pg.manyof(min(k, len(candidates)), candidates, distinct, ordered)


templates = st.dictionaries(st.sampled_from("abc"), values(3), min_size=1).map(pg.Dict)


def with_choices(template: pg.Dict) -> bool:
    return bool(pg.dna_spec(template).space_size > 1)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(templates.filter(with_choices))
def test_space_agrees_with_pyglove(template):
    space = sn.Space(template.clone(deep=True))
    spec = pg.dna_spec(template)
    assert space.size == spec.space_size
    rows = space.sample(8, seed=3)
    for row in rows:
        assert space.is_row(row)
        program = space.decode(row).program
        dna = space.to_dna(row)
        assert pg.eq(pg.materialize(template, dna), program)
        assert (space.encode(program) == row).all()
        assert (space.from_dna(dna) == row).all()
        assert space.contains(program)
    for row in space.mutate(rows, seed=4).tolist() + space.crossover(rows, rows[::-1], 5).tolist():
        assert space.is_row(row)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(templates.filter(lambda t: with_choices(t) and pg.dna_spec(t).space_size <= LIMIT))
def test_enumeration_agrees_with_pyglove(template):
    space = sn.Space(template.clone(deep=True))
    rows = list(itertools.chain.from_iterable(space.enumerate(batch=64)))
    ours = {str(space.to_dna(row).to_numbers()) for row in rows}
    theirs = (
        {str(dna.to_numbers()) for dna in pg.iter_dna(pg.dna_spec(template))}
        if hasattr(pg, "iter_dna")
        else {str(d.to_numbers()) for d in pg.dna_spec(template).iter_dna()}
    )
    assert ours == theirs
    assert len(rows) == space.size
    keys = space.keys(np.array(rows))
    programs = {pg.to_json_str(space.decode(row).program) for row in rows}
    assert len(set(keys)) == len(programs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: pg.Dict(a=pg.oneof([1, 2, pg.Dict(b=pg.oneof([3, 4]), c=pg.floatv(0.0, 1.0))])),
        lambda: pg.List([pg.manyof(2, [pg.oneof([1, 2]), 3, 4]), pg.permutate([1, 2, 3])]),
        lambda: pg.oneof([pg.oneof([1, 2]), 3]),
        lambda: pg.manyof(2, [1, 2, pg.oneof([3, 4])], distinct=False, sorted=True),
    ],
)
def test_ids_are_pygloves(make):
    spec = pg.dna_spec(make())
    theirs = {str(point.id) for point in spec.decision_points}
    assert set(sn.Space(make()).columns) == theirs


def test_pyglove_objects_and_references():
    class Layer(pg.Object):
        units: int
        copy: int = 0

    value = pg.Dict(a=Layer(pg.oneof([1, 2])), b=pg.hyper.ValueReference(["a.units"]))
    space = sn.Space(value)
    program = space.decode([1]).program
    assert program.a.units == 2
    assert program.b == 2
    assert isinstance(space.decode([0]).build()["a"], Layer)


def test_uniform_over_architectures_and_over_decisions():
    # One branch has one architecture, the other four.
    space = sn.Space(sn.oneof([1, pg.List([sn.oneof([1, 2]), sn.oneof([3, 4])])]))
    for uniform, share in (("decisions", 1 / 2), ("architectures", 1 / 5)):
        rows = space.sample(20_000, seed=1, uniform=uniform)
        assert abs((rows[:, 0] == 0).mean() - share) < 0.02
    counts = np.unique(space.sample(20_000, 2, "architectures"), axis=0, return_counts=True)[1]
    assert len(counts) == 5
    assert counts.min() > 3_700  # 4,000 each


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(templates.filter(lambda t: with_choices(t) and pg.dna_spec(t).space_size <= 24))
def test_every_architecture_is_drawn_equally_often(template):
    space = sn.Space(template.clone(deep=True))
    rows = space.sample(400 * space.size, seed=7, uniform="architectures")
    found, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(found) == space.size
    chi2 = ((counts - 400) ** 2 / 400).sum()
    assert chi2 < space.size + 6 * (2 * space.size) ** 0.5 + 10


def test_lone_candidates_within_candidates_are_drawn():
    inner = pg.oneof(labelled([pg.oneof(labelled([0, 0, 0]))]))
    space = sn.Space(pg.Dict(a=pg.oneof(labelled([inner, inner.clone(deep=True)]))))
    rows = space.sample(600, seed=1, uniform="architectures")
    assert all(space.is_row(row) for row in rows)
    assert len(np.unique(rows, axis=0)) == space.size == 6
