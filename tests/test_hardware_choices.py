"""Choices among a cost model's options: hardware and architecture in one space."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm


@attrs.frozen(order=False)
class Area(sn.CostModel):
    peak: Any
    unit = "mm2"

    def measure(self, architecture):
        return self.peak / 1e6


def program():
    return sn.Space(
        sn.nn.Sequential(
            sn.nn.Linear(100, sn.oneof([50, 500], name="width")),
            sn.repeat(lambda i: sn.nn.LazyLinear(sn.oneof([10, 40])), times=sn.intv(1, 2)),
        ),
        input=(100,),
    )


def machine():
    peak = sn.oneof([1e6, 2e6, 8e6], name="peak", group="hardware")
    bandwidth = sn.oneof([1e7, 1e8], name="bandwidth", group="hardware")
    return cm.Roofline(peak=peak, bandwidth=bandwidth), Area(peak)


def test_a_table_over_hardware_and_architecture():
    latency, area = machine()
    space = program().with_hardware([latency, area])
    bound = latency.bind(space)
    rows = np.concatenate(list(space.enumerate()))
    assert len(rows) == 12 * 3 * 2 and bound.table is not None and bound.error.wrong == 0
    assert bound(rows) == pytest.approx([latency(space.decode(row)) for row in rows], rel=1e-12)
    # Each machine as it is by itself.
    for row in rows[::7]:
        chosen = space.decode(row).task["hardware"]["roofline"]
        alone = cm.Roofline(**chosen).bind(program())
        assert bound(row[None]) == pytest.approx(alone(row[None, : len(program())]))


def test_two_models_share_a_choice_and_other_costs_do_not_see_it():
    latency, area = machine()
    space = program().with_hardware([2 * latency, area])
    assert len(space) == len(program()) + 2
    rows = space.sample(50, seed=1)
    index = {d.name: i for i, d in enumerate(space.decisions)}
    assert np.array_equal(area.bind(space)(rows), np.array([1, 2, 8])[rows[:, index["peak"]]])
    assert np.array_equal(
        cm.Macs().bind(space)(rows), cm.Macs().bind(program())(rows[:, : len(program())])
    )


def test_a_search_decides_both_and_keeps_limits_on_both():
    latency, area = machine()
    study = sn.search(
        program(),
        alg.RegularizedEvolution(population_size=5, tournament_size=2),
        lambda architecture: float(architecture["width"]),
        maximize="score",
        subject_to=[latency <= 20.0, area <= 2.0],
        trials=20,
        progress=False,
    )
    assert len(study.trials) == 20
    for trial in study.trials:
        assert trial.costs["roofline"] <= 20.0 and trial.costs["area"] <= 2.0
        again = sn.Architecture.from_json(trial.architecture.to_json())
        assert latency(again) == pytest.approx(trial.costs["roofline"])


def test_choices_that_are_not_joined_are_an_error():
    latency, _ = machine()
    with pytest.raises(sn.DeclarationError, match=r"peak, bandwidth.*with_hardware"):
        latency.bind(program())
    with pytest.raises(sn.DeclarationError, match="with_hardware"):
        latency(program().decode(program().sample(1)[0]))
    with pytest.raises(ValueError, match="peak"):
        cm.Roofline(peak=sn.oneof([1e6, -1.0]), bandwidth=1e9)


def test_multi_hardware_is_relative_to_a_reference():
    space = program()
    small, large = cm.Roofline(1e6, 1e9, name="small"), cm.Roofline(1e9, 1e6, name="large")
    reference = space.decode([0, 0, 0, -1])
    rows = np.concatenate(list(space.enumerate()))
    ratios = [m.bind(space)(rows) / m(reference) for m in (small, large)]
    mean = cm.MultiHardware([small, large], reference=reference)
    worst = cm.MultiHardware([small, large], "max", reference=reference, name="worst")
    assert mean.bind(space)(rows) == pytest.approx(np.mean(ratios, axis=0))
    assert worst.bind(space)(rows) == pytest.approx(np.max(ratios, axis=0))
    assert mean(reference) == worst(reference) == pytest.approx(1.0)
    constraints = sn.Constraints.of([worst <= 2.0, mean <= 1.5]).bind(space)
    expected = (np.max(ratios, axis=0) <= 2.0) & (np.mean(ratios, axis=0) <= 1.5)
    assert constraints.exact and np.array_equal(constraints.mask(rows), expected)
    assert mean.describe()["options"]["reference"] == reference.key
    with pytest.raises(sn.DeclarationError, match="names"):
        cm.MultiHardware([small, small], reference=[1, 1])
    with pytest.raises(sn.DeclarationError, match="reference"):
        cm.MultiHardware([small, large], reference=[1])


@attrs.frozen(order=False)
class Looked(sn.CostModel):
    """Measured network by network."""

    name: str
    power: int
    unit = "ms"

    def measure(self, architecture):
        return float(architecture.build().out_features) ** self.power


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_several_devices_whose_costs_are_no_tables(reduce):
    space = sn.Space(sn.nn.Linear(4, sn.oneof([2, 4])))
    shared = cm.MultiHardware([Looked("a", 1), Looked("b", 2)], reduce, reference=[2, 8])
    bound = shared.bind(space)
    both = np.array([[1.0, 0.5], [2.0, 2.0]])  # relative to the references
    assert bound([[0], [1]]) == pytest.approx(
        both.mean(axis=1) if reduce == "mean" else both.max(axis=1)
    )
    assert float(bound.expected({"out_features": [1.0, 0.0]})) == pytest.approx(
        0.75 if reduce == "mean" else 1.0
    )
    study = sn.search(space, alg.RandomSearch(), lambda a: 1.0, maximize="x",
                      subject_to=[shared <= 1.5], progress=False)  # fmt: skip
    assert [t.row for t in study.trials] == [(0,)]
