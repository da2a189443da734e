"""One-shot searches within flows: supernets by stage, weights carried, and continued."""

from __future__ import annotations

import pytest
import torch
from symnas.spaces import edge_accelerator, with_accelerator

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas import data
from symnas.oneshot.training import CHECKPOINT
from symnas.oneshot.workshop import Workshop
from symnas.searchspace.parts import flattened

nn = sn.nn


def networks():
    act = sn.oneof([nn.ReLU(), nn.Tanh(), nn.GELU()], name="act", group="outer")
    width = sn.oneof([16, 32], name="width", group="outer")
    inner = sn.oneof([8, 16, 24], name="inner")
    return sn.Space(
        nn.Sequential(nn.Flatten(), nn.Linear(64, width), act, nn.Linear(width, inner),
                      nn.ReLU(), nn.Linear(inner, 10)),
        input=(1, 8, 8),
    )  # fmt: skip


@pytest.fixture(scope="module")
def task():
    digits = data.digits()
    x, y = digits.train
    return sn.Task((x[:300], y[:300]), test=digits.test, epochs=1, lr=0.05)


def flow(carry=True, retrain=False, **options):
    one_shot = alg.SinglePathOneShot(epochs=2, population=3, generations=1, retrain=retrain)
    return sn.flow.nested(
        alg.RandomSearch().over("outer", trials=4), one_shot.over("model", **options),
        carry_weights=carry,
    )  # fmt: skip


def run(task, path, given, **options):
    return sn.search(
        networks(), given, task, maximize="accuracy", study=path, progress=False, seed=1, **options
    )


def supernet(folder, stage):
    (found,) = folder.rglob(f"stage-{stage}/{CHECKPOINT}")
    return torch.load(found, weights_only=True)


def test_each_candidate_has_a_supernet_and_shares_its_weights(task, tmp_path):
    study = run(task, tmp_path / "s.db", flow())
    assert [t.stage for t in study.trials] == ["0", "1", "2", "3"]
    for trial in study.trials:
        model = trial.model()
        weights = supernet(tmp_path, trial.stage)["net"]
        first = next(p for p in model.parameters())
        assert any(
            torch.equal(first, w[: first.shape[0], : first.shape[1]])
            for w in weights.values()
            if w.ndim == 2 and w.shape[1] >= first.shape[1]
        )


def test_weights_are_carried_where_that_is_asked(task, tmp_path, monkeypatch):
    begun = []

    def workshop(task, net, *others):
        begun.append({k: v.clone() for k, v in net.state_dict().items()})
        return Workshop(task, net, *others)

    monkeypatch.setattr("symnas.oneshot.training.Workshop", workshop)
    for carry in (False, True):
        begun.clear()
        folder = tmp_path / str(carry)
        folder.mkdir()
        run(task, folder / "s.db", flow(carry))
        assert len(begun) == 4
        last = supernet(folder, "0")["net"]
        assert all(torch.equal(last[k], begun[1][k]) for k in last) == carry


@pytest.mark.parametrize("stop", [1, 3])
def test_a_kill_between_inner_searches_changes_nothing(task, tmp_path, stop):
    whole = run(task, tmp_path / "a.db", flow())
    run(task, tmp_path / "b.db", flow(), trials=stop)
    again = run(task, tmp_path / "b.db", flow())
    assert [t.row for t in again.trials] == [t.row for t in whole.trials]
    assert [t.metrics for t in again.trials] == [t.metrics for t in whole.trials]


def test_networks_may_be_trained_alone(task):
    study = run(task, None, flow(retrain=True, trials=2))
    assert len(study.trials) == 8 and not study.failed


def test_an_accelerator_under_an_area_limit_and_a_supernet_for_each(task):
    options = edge_accelerator(
        rows=[8, 16, 32], columns=[8, 32], local_bytes=[16], buffer_kb=[32, 128],
        bandwidth=[1e9], dataflow=["weight"],
    )  # fmt: skip
    area = cm.EdgeArea(**options)
    given = sn.flow.nested(
        alg.RandomSearch().over("hardware", trials=3),
        alg.TuNAS(epochs=1).over(),
        carry_weights=True,
    )
    study = sn.search(
        with_accelerator(networks(), options), given, task, maximize="accuracy",
        subject_to=[area <= 1.2], progress=False,
    )  # fmt: skip
    assert len(study.trials) == 3 and not study.failed
    assert all(t.costs["area"] <= 1.2 for t in study.trials)


def test_architecture_first_and_hyper_parameters_second(task):
    tuned = sn.Task(
        task.train if hasattr(task, "train") else data.digits().train,
        test=data.digits().test, epochs=1, lr=sn.oneof([1e-3, 1e-2, 5e-2]),
    )  # fmt: skip
    given = sn.flow.sequence(
        alg.RandomSearch().over("model", "outer", trials=3), alg.GridSearch().over("task", trials=2)
    )
    study = sn.search(networks(), given, tuned, maximize="accuracy", progress=False)
    rows = [t.row for t in study.trials]
    assert len({row[-1] for row in rows[:3]}) == 1 and len({row[:-1] for row in rows[3:]}) == 1
    assert len(rows) == 5


def test_parts_of_parts_are_told_by_the_whole():
    space = sn.Space([sn.oneof(range(5), name="a"), sn.oneof(range(4)), sn.oneof(range(3))])
    part = space.restrict({"a": [1, 3, 4]}).fix({"[1]": 2}).restrict({"a": [3, 4]})
    assert flattened(part, space) == [[3, 4], [2], None]


def parts():
    space = networks()
    yield space.fix({"act": "Tanh"})
    yield space.restrict({"inner": [8, 24]}).fix({"width": 32})
    yield space.split("outer")[1]
    yield space.restrict({"act": ["ReLU", "GELU"]})


@pytest.mark.parametrize("part", parts())
def test_a_supernet_of_a_part_runs_its_networks(part):
    net = sn.Supernet(part).eval()
    x = torch.randn(3, 1, 8, 8)
    for row in next(part.enumerate()):
        expected = net.child(row)(x)
        assert torch.equal(net.select(row)(x), expected)
        assert [m.out_features for m in net.child(row) if isinstance(m, torch.nn.Linear)] == [
            m.out_features for m in part.decode(row).build() if isinstance(m, torch.nn.Linear)
        ]
        weights = {
            d.id: torch.eye(d.size)[max(v, 0)].requires_grad_()
            for d, v in zip(part.decisions, row, strict=True)
        }
        torch.testing.assert_close(net.mix(weights)(x), expected)
    soft = {d.id: torch.full((d.size,), 1 / d.size, requires_grad=True) for d in part.decisions}
    net.mix(soft)(x).square().sum().backward()
    assert all(w.grad is not None and bool((w.grad != 0).any()) for w in soft.values())
    assert set(net.roles) == set(range(len(part)))


@pytest.mark.parametrize("algorithm", [
    alg.DARTS(epochs=1), alg.TuNAS(epochs=1), alg.BigNAS(epochs=1, coarse=2, fine=2),
    alg.FBNetV2(epochs=1),
])  # fmt: skip
def test_one_shot_algorithms_search_parts(task, algorithm):
    study = sn.search(
        networks().fix({"act": "Tanh"}).restrict({"inner": [8, 24]}), algorithm, task,
        maximize="accuracy", progress=False,
    )  # fmt: skip
    assert len(study.trials) == 1 and not study.failed
