"""`Study`: what is read back from a file, with and without the code that wrote it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import torch
from search_examples import noisy, space, total, trains, trajectory

import symnas as sn
from symnas import algorithms as alg
from symnas.studies import database


def search(task: Any, **options: Any) -> sn.Study:
    defaults: dict[str, Any] = {"maximize": "score", "trials": 6, "progress": False}
    return sn.search(space(), alg.RandomSearch(), task, **(defaults | options))


def test_the_best_model_has_the_weights_that_were_kept(tmp_path: Path) -> None:
    kept: dict[int, torch.Tensor] = {}

    def task(architecture: sn.Architecture, trial: Any) -> float:
        model = architecture.build()
        trial.save(model)
        kept[trial.number] = model[0].weight.detach().clone()
        return total(architecture)

    search(task, study=tmp_path / "s.db")
    best = sn.Study.open(tmp_path / "s.db").best
    assert best.metrics["score"] == max(sum(t.row) for t in sn.Study.open(tmp_path / "s.db").trials)
    assert torch.equal(best.model()[0].weight, kept[best.number])
    assert best.path == tmp_path / "s.db.files" / "search" / str(best.number)


def test_a_model_without_weights_says_what_to_do() -> None:
    with pytest.raises(FileNotFoundError, match=r"trial\.save\(model\)"):
        search(total).best.model()


def test_weights_that_no_longer_fit_are_refused() -> None:
    trial = search(trains, trials=1).best
    torch.save({"0.weight": torch.zeros(3, 3)}, trial.path / "weights.pt")
    with pytest.raises(sn.StorageError, match="do not fit"):
        trial.model()


def test_a_trial_tells_all_that_was_recorded() -> None:
    where = space()
    trial = search(trains, trials=1).trials[0]
    assert trial.choices == where.decode(trial.row).choices
    assert trial.architecture.key == trial.key == where.decode(trial.row).key
    assert trial.reports == ((1.0, 0.25), (2.0, 0.5))
    assert trial.scores == (trial.metrics["score"],) and trial.seconds > 0
    assert (trial.number, trial.state, trial.reason, trial.reused) == (0, "done", None, None)


def test_the_frame_has_a_row_a_trial_and_labels() -> None:
    study = search(noisy)
    frame = study.frame()
    assert list(frame["number"]) == list(range(6)) and set(frame["state"]) == {"done"}
    assert list(frame["size"]) == [t.metrics["size"] for t in study.trials]
    assert list(frame["args[0].scale"]) == [t.choices["args[0].scale"] for t in study.trials]
    collision = search(lambda a: {"score": 1.0, "seconds": 2.0}).frame()
    assert set(collision["metric.seconds"]) == {2.0}


def test_opening_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no study"):
        sn.Study.open(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text.db").write_text("not a data base, but some text")
    with pytest.raises(sn.StorageError, match="not a study"):
        sn.Study.open(tmp_path / "text.db")
    with pytest.raises(sn.StorageError, match="a folder"):
        search(total, study=tmp_path)
    with pytest.raises(FileNotFoundError, match="is not there"):
        search(total, study=tmp_path / "nowhere" / "s.db")
    search(total, study=tmp_path / "s.db")
    with pytest.raises(KeyError, match="'search'"):
        sn.Study.open(tmp_path / "s.db", "other")


def test_a_newer_format_and_other_databases_are_left_alone(tmp_path: Path) -> None:
    search(total, study=tmp_path / "s.db")
    connection = sqlite3.connect(tmp_path / "s.db")
    connection.execute("update symnas set version = 99")
    connection.commit()
    with pytest.raises(sn.StorageError, match="format 99"):
        sn.Study.open(tmp_path / "s.db")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("create table customers (name text)")
    other.commit()
    with pytest.raises(sn.StorageError, match="customers"):
        search(total, study=tmp_path / "other.db")


READER = """
import sys
import symnas as sn
study = sn.Study.open(sys.argv[1])
best = study.best
print(best.metrics["score"], best.choices["args[0].scale"], len(study.frame()), study.record["seed"])
try:
    best.architecture.build()
except sn.StorageError as error:
    print("refused:", error)
"""


def test_a_study_opens_without_the_code_of_its_space(tmp_path: Path) -> None:
    best = search(total, study=tmp_path / "s.db", seed=4).best
    command = [sys.executable, "-c", READER, str(tmp_path / "s.db")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first, refused = output.splitlines()
    assert first.split() == [str(best.metrics["score"]), best.choices["args[0].scale"], "6", "4"]
    assert "search_examples" in refused and "import the module" in refused


def test_searches_of_a_file_stand_side_by_side(tmp_path: Path) -> None:
    first = search(total, study=tmp_path / "s.db", name="first/one")
    second = search(total, study=tmp_path / "s.db", name="second", trials=3)
    assert first.searches == ("first/one", "second")
    assert (len(first), len(second)) == (6, 3)
    assert sn.Study.open(tmp_path / "s.db").name == "second"
    assert first.files.parent == second.files.parent and first.files != second.files


def test_a_server_keeps_studies_like_a_file(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the files of its trials go
    for trials in (3, 6):
        study = search(noisy, study=postgres, trials=trials)
    assert trajectory(study) == trajectory(search(noisy))
    with pytest.raises(sn.StudyChanged):
        search(noisy, study=postgres, seed=1)
    reused = search(noisy, study=postgres, name="again", seed=1)
    assert len(reused) == 6 and len(reused.frame()) == 6
    carried = search(noisy, study=postgres, seed=1, on_change="carry", trials=8)
    assert len(carried) == 8 and carried.trials[0].reused is not None
    kept = search(trains, study=postgres, name="weights", workers=2)
    opened = sn.Study.open(postgres, "weights")
    assert opened.best.model() is not None and trajectory(opened) == trajectory(kept)
    assert opened.report(tmp_path / "report.html").stat().st_size > 1000
    assert opened.files.is_relative_to(tmp_path)
    password = sa.make_url(postgres).password
    assert password is None or str(password) not in repr(opened)


def test_a_server_has_long_trials_on_its_disk(postgres: str) -> None:
    kept = database.Database(postgres)
    for full, waits in ((False, "off"), (True, "on"), (False, "off")):
        with kept.writing(full=full) as connection:
            assert connection.exec_driver_sql("show synchronous_commit").scalar() == waits
    kept.close()


def test_a_server_that_is_not_there_is_named() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(sn.StorageError, match=r"127\.0\.0\.1:1/none` cannot be opened: ") as error:
        sn.Study.open("postgresql://someone:secret@127.0.0.1:1/none")
    assert "secret" not in str(error.value)


def test_reasons_that_a_server_could_not_hold_are_written_readably(postgres: str) -> None:
    def fails(architecture: sn.Architecture) -> float:
        raise ValueError("a null \0 and half a pair \ud800")

    study = search(fails, study=postgres, trials=1)
    assert (study.failed[0].reason or "").startswith("ValueError: a null \\0 and half a pair ?")
