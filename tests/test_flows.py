"""Flows: which decisions each search has, what it is told, and that a kill changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm

nn = sn.nn


def toy():
    """Two groups: 12 devices, and 64 networks on each."""
    hardware = [sn.oneof([1, 2, 3, 4], name="array", group="hardware"),
                sn.oneof([1, 2, 3], name="buffer", group="hardware")]  # fmt: skip
    return sn.Space([*hardware, [sn.oneof([0, 1, 2, 3]) for _ in range(3)]])


def value(architecture):
    array, buffer, layers = architecture.build()
    return -abs(array - 3) - abs(buffer - 2) + sum(layers) * (1 + (array == 3))


def search(space, flow, task=value, **options):
    options = {"maximize": "value", "progress": False, "seed": 3} | options
    return sn.search(space, flow, task, **options)


def outer(trial):
    return trial.row[:2]


def test_each_candidate_has_its_inner_search():
    flow = sn.flow.nested(
        alg.RegularizedEvolution(population_size=4, tournament_size=2).over("hardware", trials=6),
        alg.LocalSearch().over("model", trials=9),
    )
    study = search(toy(), flow)
    groups = [outer(t) for t in study.trials]
    assert len(study.trials) == 54 and len(set(groups)) == 6
    assert all(len(set(groups[i : i + 9])) == 1 for i in range(0, 54, 9))
    assert [t.stage for t in study.trials] == [str(i // 9) for i in range(54)]


def test_the_outer_search_is_told_the_best_of_each_candidate():
    told = []

    class Spy(alg.RandomSearch):
        def start(self, problem):
            run = super().start(problem)
            inner = run.tell

            def tell(rows, scores):
                told.append(float(scores[0, 0]))
                inner(rows, scores)

            run.tell = tell
            return run

    flow = sn.flow.nested(Spy().over("hardware", trials=4), alg.RandomSearch().over(trials=5))
    study = search(toy(), flow)
    values = [t.metrics["value"] for t in study.trials]
    assert told == [max(values[i : i + 5]) for i in range(0, 20, 5)]


def test_an_exhausted_inner_search_makes_room_for_the_next():
    flow = sn.flow.nested(
        alg.RandomSearch().over("hardware", trials=2), alg.RandomSearch().over("model", trials=90)
    )
    study = search(toy(), flow)
    assert len(study.trials) == 128  # all 64 of each


def test_inner_budgets_grow_with_promise():
    flow = sn.flow.nested(
        alg.RandomSearch().over("hardware", trials=8),
        alg.RandomSearch().over("model", trials=(4, 16)),
    )
    study = search(toy(), flow)
    counts = {}
    for trial in study.trials:
        counts.setdefault(outer(trial), []).append(trial.metrics["value"])
    assert sorted(map(len, counts.values())) == [4] * 6 + [16] * 2
    at_first = {key: max(values[:4]) for key, values in counts.items()}
    assert max(at_first.values()) in [
        at_first[key] for key, values in counts.items() if len(values) == 16
    ]


def test_three_levels():
    space = sn.Space([sn.oneof([1, 2], name="a"), sn.oneof([1, 2], name="b"), sn.oneof([1, 2, 3])])
    flow = sn.flow.nested(
        alg.RandomSearch().over("a", trials=2),
        alg.RandomSearch().over("b", trials=2),
        alg.RandomSearch().over(trials=3),
    )
    assert str(flow).count("──") == 3
    study = sn.search(space, flow, lambda a: sum(a.build()), maximize="sum", progress=False)
    assert len(study.trials) == 12 and study.best.metrics["sum"] == 7
    assert study.trials[4].stage == "0.1"


def test_a_sequence_goes_on_from_the_best():
    flow = sn.flow.sequence(
        alg.RandomSearch().over("hardware", trials=12), alg.RandomSearch().over("model", trials=30)
    )
    study = search(toy(), flow)
    first, second = study.trials[:12], study.trials[12:]
    models = {t.row[2:] for t in first}
    assert len(models) == 1 and len({outer(t) for t in first}) == 12
    best = max(first, key=lambda t: t.metrics["value"])
    assert {outer(t) for t in second} == {outer(best)}


def test_a_last_stage_knows_what_the_others_found():
    space = toy()
    flow = sn.flow.sequence(
        alg.RandomSearch().over("hardware", trials=12),
        alg.LocalSearch().over(trials=20),
        start=space.decode(space.sample(1, 5)[0]),
    )
    study = search(space, flow)
    best = max(study.trials[:12], key=lambda t: t.metrics["value"])
    near = study.trials[12]
    changed = sum(best.choices[k] != v for k, v in near.choices.items())
    assert changed == 1  # a neighbour of the best of the first stage
    assert study.trials[0].row[2:] == best.row[2:]


def test_refine_narrows_what_follows():
    flow = sn.flow.sequence(
        sn.flow.refine(alg.RandomSearch().over(trials=60), sn.flow.Best(0.05)),
        alg.RandomSearch().over(trials=10),
    )
    study = search(toy(), flow)
    best = sorted(study.trials[:60], key=lambda t: -t.metrics["value"])[:3]
    for trial in study.trials[60:]:
        for key, label in trial.choices.items():
            assert label in {t.choices[key] for t in best}


def test_limits_hold_for_all_levels():
    space = sn.Space(
        nn.Sequential(
            nn.Linear(4, width := sn.oneof([2, 8, 32], name="width", group="outer")),
            nn.Linear(width, sn.oneof([4, 64, 256], name="end")),
        ),
        input=(4,),
    )
    flow = sn.flow.nested(alg.RandomSearch().over("outer"), alg.RandomSearch().over(trials=9))
    size = cm.Parameters()
    study = sn.search(space, flow, lambda a: 1.0, maximize="x", subject_to=[size <= 250],
                      progress=False)  # fmt: skip
    rows = np.concatenate(list(space.enumerate()))
    kept = rows[size.bind(space)(rows) <= 250]
    assert len(study.trials) == len(kept) == 3  # width 32 leaves nothing and is never tried
    assert {t.row[0] for t in study.trials} == {0, 1}


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("stop", [1, 7, 13, 20, 28])
def test_a_search_that_is_continued_goes_the_same_way(tmp_path, ahead, stop):
    grow = sn.flow.nested(
        alg.RegularizedEvolution(population_size=3, tournament_size=2).over("hardware", trials=5),
        alg.LocalSearch().over("model", trials=(3, 6)),
    )
    flow = sn.flow.sequence(
        alg.RandomSearch().over("hardware", trials=4),
        grow.over(),
        alg.LocalSearch().over(trials=12),
    )
    whole = search(toy(), flow, ahead=ahead)
    options = {"study": tmp_path / "s.db", "ahead": ahead}
    search(toy(), flow, trials=stop, **options)
    search(toy(), flow, trials=stop + 5, **options)
    continued = search(toy(), flow, **options)
    assert [t.choices for t in continued.trials] == [t.choices for t in whole.trials]
    assert [t.stage for t in continued.trials] == [t.stage for t in whole.trials]


def test_fidelities_within():
    flow = sn.flow.nested(
        alg.RandomSearch().over("hardware", trials=2),
        alg.ASHA(alg.RandomSearch(), budgets=(1, 3)).over("model", trials=12),
    )
    study = search(toy(), flow, lambda a, trial: value(a) * trial.budget)
    assert {t.budget for t in study.trials} == {1.0, 3.0} and len(study.trials) == 24


def test_mistakes_are_told_before_anything_runs():
    space = toy()
    random = alg.RandomSearch()
    for levels, text in [
        ([random.over("hardware")], "at least 2"),
        ([random.over("hardware"), random.over("model")], "how many trials"),
        ([random.over("hardware", trials=3), random], "say what it searches"),
        (  # which would not come to an end before the whole part is searched
            [random.over("hardware", trials=3), sn.flow.sequence(random.over()).over()],
            "how many trials",
        ),
        ([random.over(trials=3), random.over(trials=3)], "only one level"),
        ([random.over("hardware", trials=3), random.over("array", trials=3)], "same decisions"),
        ([random.over("array", trials=3), random.over("buffer", trials=3)], "no level has"),
        ([random.over("gpu", trials=3), random.over(trials=3)], "Groups here: hardware"),
        ([alg.DARTS().over("hardware", trials=3), random.over(trials=3)], "cannot be the outer"),
    ]:
        with pytest.raises((TypeError, ValueError), match=text):
            search(space, sn.flow.nested(*levels))
    with pytest.raises(ValueError, match="at least 1"):
        random.over("hardware", trials=0)
    with pytest.raises(ValueError, match="Only the last"):
        sn.flow.sequence(random.over("hardware"), random.over(trials=3))
    depth = sn.Space(nn.Sequential(sn.oneof([nn.ReLU(), nn.Linear(4, sn.oneof([4, 8], name="w"))],
                                            name="op"), nn.Linear(4, sn.oneof([1, 2]))))  # fmt: skip
    with pytest.raises(ValueError, match="further in"):
        search(depth, sn.flow.nested(random.over("w", trials=2), random.over(trials=2)))


def test_a_flow_is_told_in_studies_and_reports(tmp_path):
    flow = sn.flow.nested(
        alg.RandomSearch().over("hardware", trials=2), alg.RandomSearch().over(trials=3)
    )
    study = search(toy(), flow, study=tmp_path / "s.db")
    assert study.frame()["stage"].tolist() == ["0"] * 3 + ["1"] * 3
    text = study.report(tmp_path / "r.html").read_text()
    assert "A nested flow searched" in text and "RandomSearch() over hardware, 2 trials" in text
    # Another flow is not continued by mistake.
    other = sn.flow.nested(
        alg.RandomSearch().over("hardware", trials=2), alg.RandomSearch().over(trials=4)
    )
    with pytest.raises(sn.StudyChanged, match="algorithm"):
        search(toy(), other, study=tmp_path / "s.db")
