"""HURRICANE as a flow: operations by device, then the later layers, then the earlier ones."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas import data

nn = sn.nn

# 1x1, 3x3 and 5x5 convolutions on 4 channels and 8x8 pixels, none at all, and pooling.
KERNELS = (1, 3, 5)
MACS = {k: 4 * 4 * k * k * 64 for k in KERNELS}
PARAMETERS = {k: 4 * 4 * k * k for k in KERNELS}


def layer(name, group=None):
    convolutions = [nn.Conv2d(4, 4, k, padding=k // 2, bias=False) for k in KERNELS]
    return sn.oneof([*convolutions, nn.Identity(), nn.AvgPool2d(3, 1, 1)], name=name, group=group)


def networks(n=2):
    layers = [layer(f"layer {i}", "early" if i < n / 2 else "late") for i in range(n)]
    return sn.Space(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *layers, nn.Flatten(), nn.Linear(256, 10)),
        input=(1, 8, 8),
    )


class Arithmetic(sn.CostModel):
    """A device on which a million operations take a millisecond, and pooling 1/100."""

    unit = "ms"

    def layer(self, module, inputs, outputs):
        if type(module).__name__ == "AvgPool2d":
            return 0.01
        if type(module).__name__ == "Conv2d":
            return module.weight.numel() * outputs[0][0, 0].numel() / 1e6
        return 0.0


class Launches(sn.CostModel):
    """A device on which each operation takes a millisecond, whatever it is."""

    unit = "ms"

    def layer(self, module, inputs, outputs):
        return float(type(module).__name__ in ("AvgPool2d", "Conv2d"))


def by_hand(time):
    most = math.log1p(MACS[5]), math.log1p(PARAMETERS[5])
    return {
        k: (math.log1p(MACS[k]) / most[0] + math.log1p(PARAMETERS[k]) / most[1]) / time(k)
        for k in KERNELS
    }


def kernels(space, kept):
    decision = space.decisions[0]
    candidates = dict(zip(decision.labels, decision.candidates, strict=True))
    found = []
    for label in kept[decision.id]:
        made = sn.build(candidates[label])
        found.append(getattr(made, "kernel_size", "skip"))
    return found


@pytest.mark.parametrize("device, time", [
    (Arithmetic(), lambda k: MACS[k] / 1e6), (Launches(), lambda k: 1.0),
])  # fmt: skip
def test_scores_are_those_computed_by_hand(device, time):
    space = networks()
    expected = by_hand(time)
    for name, found in sn.flow.Efficient(device).scores(space).items():
        decision = next(d for d in space.decisions if d.id == name)
        scores = [found[label] for label in decision.labels]
        np.testing.assert_allclose(scores[:3], [expected[k] for k in KERNELS], rtol=1e-9)
        assert np.isnan(scores[3]) and scores[4] == 0  # a skip is free, pooling has no capacity


def test_devices_keep_different_operations():
    space = networks()
    for device, keep, expected in [
        (Arithmetic(), 1, [(1, 1), "skip"]),
        (Launches(), 1, [(5, 5), "skip"]),
        (Arithmetic(), 2, [(1, 1), (3, 3), "skip"]),
        (Launches(), 2, [(5, 5), (3, 3), "skip"]),
        (Launches(), 9, [(5, 5), (3, 3), (1, 1), 3, "skip"]),
    ]:
        efficient = sn.flow.Efficient(device, keep=keep)
        assert kernels(space, efficient(space)) == expected
        assert kernels(space, efficient(space, np.empty((0, 2)), np.empty((0, 1)))) == expected
        left = space.restrict(efficient(space))
        assert left.size == len(expected) ** 2


def test_a_table_from_a_device_tells_what_exceeds_the_fastest():
    space = networks(1)
    (decision,) = space.decisions
    times = dict(zip(decision.labels, [2.0, 3.0, 9.0, 1.0, 1.5], strict=True))
    term = {"decisions": [decision.id], "costs": times}
    device = cm.Table("latency", "ms", bias=10.0, terms=[term])
    scores = list(map(sn.flow.Efficient(device).scores(space)[decision.id].get, decision.labels))
    expected = by_hand(dict(zip(KERNELS, (1.0, 2.0, 8.0), strict=True)).get)
    np.testing.assert_allclose(scores[:3], [expected[k] for k in KERNELS], rtol=1e-9)
    assert np.isnan(scores[3]) and scores[4] == 0


def test_the_fastest_of_a_table_has_its_part_of_the_macs():
    convolutions = [nn.Conv2d(4, 4, k, padding=k // 2, bias=False) for k in KERNELS]
    space = sn.Space(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), sn.oneof(convolutions)), input=(1, 8, 8)
    )
    (decision,) = space.decisions
    times = dict(zip(decision.labels, [2.0, 3.0, 9.0], strict=True))
    term = {"decisions": [decision.id], "costs": times}
    device = cm.Table("latency", "ms", bias=10.0, terms=[term])
    scores = sn.flow.Efficient(device).scores(space)[decision.id]
    # 1,024 MACs of the 1x1 convolution and 2,304 of the stem take 12 ms.
    assert (MACS[1], 4 * 9 * 64) == (1024, 2304)
    first = 12.0 * 1024 / (1024 + 2304)
    expected = by_hand(dict(zip(KERNELS, (first, first + 1, first + 7), strict=True)).get)
    found = [scores[label] for label in decision.labels]
    np.testing.assert_allclose(found, [expected[k] for k in KERNELS], rtol=1e-9)


def test_a_layer_that_may_be_missing_counts_where_it_is():
    def block(i):
        return layer(f"layer {i}")

    space = sn.Space(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), sn.repeat(block, sn.intv(1, 3))),
        input=(1, 8, 8),
    )
    expected = by_hand(lambda k: MACS[k] / 1e6)
    scores = sn.flow.Efficient(Arithmetic()).scores(space)
    assert len(scores) == 3  # the depth is no decision between modules
    for decision in space.decisions[1:]:
        found = [scores[decision.id][label] for label in decision.labels[:3]]
        np.testing.assert_allclose(found, [expected[k] for k in KERNELS], rtol=1e-9)


def test_equal_scores_keep_the_larger_capacity():
    class Fair(sn.CostModel):
        """Takes as long as the operation has capacity, so that all scores are 1."""

        unit = "ms"

        def layer(self, module, inputs, outputs):
            if type(module).__name__ != "Conv2d" or module.in_channels == 1:
                return 0.0
            k = module.kernel_size[0]
            return by_hand(lambda k: 1.0)[k]

    space = networks(1)
    assert kernels(space, sn.flow.Efficient(Fair(), keep=2)(space))[:2] == [(5, 5), (3, 3)]
    # Pooling takes no time there and has no capacity: it is as free as the skip.
    assert len(sn.flow.Efficient(Fair(), keep=2)(space)[space.columns[0]]) == 4


def test_mistakes_are_told():
    with pytest.raises(TypeError, match="latency"):
        sn.flow.Efficient(3.0)
    with pytest.raises(ValueError, match="`keep` \\(0\\) must be at least 1"):
        sn.flow.Efficient(Launches(), keep=0)
    widths = sn.Space(nn.Linear(4, sn.oneof([8, 16])), input=(4,))
    with pytest.raises(ValueError, match="no decision of this space is between modules"):
        sn.flow.Efficient(Launches())(widths)
    with pytest.raises(ValueError, match="`nowhere` matches no decision"):
        sn.flow.Efficient(Launches(), decisions="nowhere")(widths)
    rate = sn.Space(nn.Sequential(nn.Dropout(sn.floatv(0.1, 0.5, name="rate"))), input=(4,))
    with pytest.raises(ValueError, match="is a number"):
        sn.flow.Efficient(Launches(), decisions="rate")(rate)
    with pytest.raises(ValueError, match="shape of one example"):
        sn.flow.Efficient(Launches())(sn.Space(sn.oneof([nn.ReLU(), nn.GELU()])))


# The flow -------------------------------------------------------------------------------------


def flow(space, device, one_shot, first=None, keep=2):
    efficient = sn.flow.Efficient(device, keep=keep)
    default = space.restrict({name: best[:1] for name, best in efficient(space).items()})
    return sn.flow.sequence(
        efficient, one_shot.over("late"), (first or one_shot).over("early"),
        start=default.decode([]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def task():
    x, y = data.digits().train
    return sn.Task((x[:200], y[:200]), test=data.digits().test, epochs=1, lr=0.05)


@pytest.mark.parametrize("late, early", [(True, True), (False, False), (False, True)])
def test_later_layers_first_within_the_limit(task, tmp_path, late, early):
    space = networks(4)
    device = Arithmetic()
    one_shot = alg.SinglePathOneShot(epochs=1, population=4, generations=2, retrain=late)
    second = alg.SinglePathOneShot(epochs=1, population=4, generations=2, retrain=early)
    given = flow(space, device, one_shot, second)
    limit = float(device.bind(space)(space.encode(given.start_from)[None])[0]) + 0.05
    options = {"maximize": "accuracy", "subject_to": [device <= limit], "progress": False}
    study = sn.search(space, given, task, study=tmp_path / "s.db", **options)
    assert [t.stage for t in study.trials] == ["1", "2"] and not study.failed
    first, last = (list(t.row) for t in study.trials)
    assert first[:2] == space.encode(given.start_from)[:2].tolist() and last[2:] == first[2:]
    kept = space.restrict(given.steps[0].shrink(space))
    for trial in study.trials:
        assert trial.costs["arithmetic"] <= limit
        assert kept.contains(trial.architecture.program)
    # A supernet for each stage, of the decisions that the stage has.
    for stage in ("1", "2"):
        (found,) = tmp_path.rglob(f"stage-{stage}/supernet.pt")
        assert found.exists()
    again = sn.search(space, given, task, study=tmp_path / "s.db", **options)
    assert [t.row for t in again.trials] == [t.row for t in study.trials]


def test_no_network_of_a_stage_breaks_the_limit(task, monkeypatch):
    """Neither those that train the supernet nor those of the evolution."""
    from symnas.oneshot.workshop import Workshop

    seen = []
    measured, feasible = Workshop.measured, Workshop.feasible

    def spied(shop, row, *others):
        seen.append(shop.net.space.lift([row])[0])
        return measured(shop, row, *others)

    def drawn(shop, n, *key):
        rows = feasible(shop, n, *key)
        if n > 1:  # a single one is drawn to see how a supernet runs fastest, and not trained
            seen.extend(shop.net.space.lift(rows))
        return rows

    monkeypatch.setattr(Workshop, "measured", spied)
    monkeypatch.setattr(Workshop, "feasible", drawn)
    space, device = networks(4), Arithmetic()
    one_shot = alg.SinglePathOneShot(epochs=2, population=4, generations=2, retrain=False)
    given = flow(space, device, one_shot, keep=3)
    limit = float(device.bind(space)(space.encode(given.start_from)[None])[0]) + 0.01
    sn.search(space, given, task, maximize="accuracy", subject_to=[device <= limit], progress=False)
    costs = device.bind(space)(np.array(seen))
    assert len(costs) > 20 and costs.max() <= limit
    assert (device.bind(space)(space.sample(200)) > limit).any()


def test_a_default_that_takes_too_much_is_refused(task):
    space, device = networks(4), Launches()
    one_shot = alg.SinglePathOneShot(epochs=1, population=2, generations=1)
    given = flow(space, device, one_shot)  # two early 5x5 convolutions, and the stem: 3 ms
    with pytest.raises(sn.Infeasible, match=r"stage 1 .*as in `start`: .*takes 3 ms"):
        sn.search(
            space, given, task, maximize="accuracy", subject_to=[device <= 2.5], progress=False
        )
    # With 3 ms there is room for later layers that are skipped.
    study = sn.search(
        space, given, task, maximize="accuracy", subject_to=[device <= 3], progress=False
    )
    first, last = study.trials
    assert first.costs["launches"] == 3 and last.costs["launches"] <= 3
    assert [first.choices[f"args[{i}]"] for i in (3, 4)] == ["Identity"] * 2


def loaded(name):
    path = Path(__file__).parent.parent / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_devices_of_the_example_keep_different_operations():
    module = loaded("examples/hurricane.py")
    space = module.networks()
    kept = {
        device: sn.flow.Efficient(latency, decisions="**.operation")(space)
        for device, latency in module.DEVICES.items()
    }
    sets = {device: {frozenset(v) for v in found.values()} for device, found in kept.items()}
    assert len(set(map(frozenset, sets.values()))) == 3


def test_two_stages_help_where_later_layers_matter_more():
    """And not where earlier ones do; nor if the default takes what the later layers need.

    For 20 seeds and 60 evaluations by local search; `benchmarks/two_stages.py` shows more.
    """
    module = loaded("benchmarks/two_stages.py")
    ends = {}
    for rising, limit in [
        (True, "fast default"),
        (False, "fast default"),
        (True, "middle default"),
    ]:
        found = np.array(
            [module.curves(alg.LocalSearch(), rising, limit, seed, 60) for seed in range(20)]
        )
        one, two = found.mean(axis=0)
        ends[rising, limit] = module.reached(two, one[-1]), found[:, 1, -1] - found[:, 0, -1]
    evaluations, differences = ends[True, "fast default"]
    assert evaluations <= 30 and differences.mean() > 0
    assert ends[False, "fast default"][0] is None
    assert ends[True, "middle default"][0] is None
