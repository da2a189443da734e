"""Comparisons: in parallel, with failures, and what they write."""

from __future__ import annotations

import attrs
import numpy as np
import pandas as pd
import pytest
from benchmark_tables import Scripted, counted, grid, grid_space

from symnas import algorithms as alg
from symnas.benchmark import Column, Comparison, Tabulated, compare
from symnas.errors import Infeasible

ALGORITHMS = {
    "random": alg.RandomSearch(),
    "evolution": alg.RegularizedEvolution(population_size=6, tournament_size=3),
    "local": alg.LocalSearch(),
}


@attrs.frozen
class Fails:
    """Works with even seeds only."""

    def start(self, problem):
        if problem.seed % 2:
            raise RuntimeError("odd")
        return alg.RandomSearch().start(problem)


def results(found: Comparison) -> pd.DataFrame:
    return found.frame()  # without real seconds


def test_the_number_of_processes_does_not_matter():
    tables = [grid((6, 6)), grid((5, 4), "small")]
    options = {"seeds": 2, "evaluations": 15, "progress": False, "subject_to": "ms:0.8"}
    algorithms = ALGORITHMS | {"fails": Fails()}
    alone = compare(algorithms, tables, workers=1, **options)
    together = compare(algorithms, tables, workers=2, **options)
    assert alone.failures == together.failures
    assert {seed for _, _, seed in alone.failures} == {1}
    pd.testing.assert_frame_equal(results(alone), results(together))
    assert len(results(alone)) == (3 * 2 + 1) * 2 * 15
    assert results(alone)["feasible"].all()


def test_failures_are_told_and_not_fatal(capsys):
    found = compare(
        {"fails": Fails(), "random": alg.RandomSearch()}, grid(), seeds=4, evaluations=4,
        progress=False,
    )  # fmt: skip
    assert found.seeds("fails", "grid") == [0, 2]
    assert found.seeds("random", "grid") == [0, 1, 2, 3]
    assert set(found.failures) == {("fails", "grid", 1), ("fails", "grid", 3)}
    assert found.ranks().blocks == 2
    found.print()
    text = " ".join(capsys.readouterr().out.split())
    assert "fails (seed 1), fails (seed 3) failed: RuntimeError: odd" in text


def test_a_search_may_end_early(capsys):
    table = grid((2, 2))
    found = compare({"random": alg.RandomSearch()}, table, seeds=1, evaluations=9, progress=False)
    (record,) = found.records.values()
    assert len(record.rows) == 4
    assert record.ending == "nothing left"
    assert found.summary()["mean"].tolist() == [0.0]
    found.print()
    assert "ended after 4 proposals: nothing left" in " ".join(capsys.readouterr().out.split())


def test_summary_by_hand():
    class BySeed(Scripted):
        def start(self, problem):
            self.rows = [[problem.seed, 0]] * 2
            return super().start(problem)

    found = compare({"s": BySeed([], True)}, grid(), seeds=3, evaluations=2, progress=False)
    line = found.summary().iloc[-1]
    # Regrets 33, 23, 13: standard deviation 10.
    assert (line["mean"], line["median"], line["runs"]) == (23, 23, 3)
    assert line["stderr"] == pytest.approx(10 / np.sqrt(3))
    assert (line["distinct"], line["infeasible"]) == (0.5, 0)
    assert line["ms"] > 0


def test_what_others_need_to_come_as_far():
    steps = {"slow": [[0, 0], [1, 0], [2, 0], [3, 0]], "fast": [[3, 0], [0, 0], [0, 1], [0, 2]],
             "never": [[0, 0], [0, 1], [0, 2], [0, 3]]}  # fmt: skip
    found = compare(
        {name: Scripted(rows) for name, rows in steps.items()}, grid(), seeds=1, evaluations=4,
        progress=False,
    )  # fmt: skip
    told = found.matches("slow").set_index("algorithm")
    assert told.needed["fast"] == 1 and np.isnan(told.needed["never"])
    assert (told.regret == 3.0).all()  # 33 is the best, 30 was found
    assert found.matches("slow", at=1).set_index("algorithm").needed["never"] == 1
    with pytest.raises(ValueError, match="must be one of slow, fast, never"):
        found.matches("other")


def test_files(tmp_path):
    found = compare(ALGORITHMS, grid((6, 6)), seeds=3, evaluations=12, progress=False)
    written = {path.name for path in found.save(tmp_path)}
    assert written == {
        "summary.csv", "results.csv", "summary.md", "regret_grid.png", "ranks.png",
    }  # fmt: skip
    assert all((tmp_path / name).stat().st_size > 100 for name in written)
    text = (tmp_path / "summary.md").read_text()
    assert "| algorithm | 12 | median |" in text
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "results.csv"), found.frame(), check_dtype=False
    )
    lines = found.plot_regret().get_lines()
    assert [line.get_label() for line in lines] == list(ALGORITHMS)
    expected = found.regrets("local", "grid", [12]).mean()
    assert lines[2].get_ydata()[-1] == pytest.approx(expected)


def test_unlisted_tables_know_the_best_found():
    class Unlisted(Tabulated):
        def everything(self):
            return None

    whole = grid()
    table = Unlisted("u", whole.space, whole.columns, whole.rows, whole.results)
    scripts = {"a": Scripted([[0, 0], [2, 0]]), "b": Scripted([[1, 0], [1, 1]])}
    found = compare(scripts, table, seeds=1, evaluations=2, progress=False)
    assert not found.yardsticks["u"].known
    assert found.summary()["mean"].tolist() == [0, 9]  # to 20, the best of both


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"algorithms": {}}, TypeError, "mapping of names"),
        ({"algorithms": {"a": alg.LocalSearch}}, TypeError, r"`algorithms\['a'\]`"),
        ({"tables": []}, ValueError, "is empty"),
        ({"tables": [grid(), grid()]}, ValueError, "the same name"),
        ({"tables": {"a": 3}}, TypeError, r"`tables\['a'\]` \(3\)"),
        ({"seeds": 0}, ValueError, "`seeds`"),
        ({"seeds": [1, 1]}, ValueError, "`seeds`"),
        ({"evaluations": 0}, ValueError, "`evaluations`"),
        ({"checkpoints": [5, 100]}, ValueError, "`checkpoints`"),
        ({"objectives": "speed"}, ValueError, "no column 'speed'; it has"),
        ({"subject_to": "score:0.5"}, ValueError, "is a metric"),
        ({"subject_to": "ms"}, ValueError, "COST:QUANTILE"),
        ({"subject_to": "ms<=-1"}, Infeasible, "ms"),
        ({"subject_to": 3}, TypeError, "must be a Below"),
        ({"budget": 7.0}, ValueError, "`budget`"),
        ({"workers": 0}, ValueError, "at least 1"),
    ],
)
def test_mistakes_are_told_before_anything_runs(monkeypatch, change, error, message):
    done = counted(monkeypatch)
    options = {"algorithms": ALGORITHMS, "tables": grid(), "seeds": 1, "evaluations": 10}
    with pytest.raises(error, match=message):
        compare(**(options | change), progress=False)
    assert not done


def test_no_feasible_value_known():
    table = Tabulated(
        "t", grid_space((2,)), [Column("a", "maximize")], [[0], [1]], {"a": [np.nan, np.nan]}
    )
    found = compare({"r": alg.RandomSearch()}, table, seeds=1, evaluations=2, progress=False)
    with pytest.raises(ValueError, match="has known a"):
        found.summary()
