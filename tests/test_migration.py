"""Studies of earlier formats: opened, brought up to date, continued; newer ones are left alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import symnas as sn
from symnas import algorithms as alg
from symnas.studies import database, migration, schema
from symnas.studies.database import _write_ahead

# Format 1 as symnas 0.1.0 wrote it: a search for 6 trials, killed while it evaluated trial 3.
FORMAT_1 = r"""
CREATE TABLE symnas (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
INSERT INTO symnas VALUES(1);
CREATE TABLE searches (
    id INTEGER NOT NULL,
    name VARCHAR(200) NOT NULL,
    folder VARCHAR(300) NOT NULL,
    created FLOAT NOT NULL,
    task VARCHAR(64) NOT NULL,
    record TEXT NOT NULL,
    ended TEXT,
    PRIMARY KEY (id),
    UNIQUE (name),
    UNIQUE (folder)
);
INSERT INTO searches VALUES (
1,'search','search',1795281960.1,'643d286731f2df316d08d966e2c46d49','{"space":{"name":"List","size":"9",
"decisions":[{"id":"[0]","name":"a","kind":"ordinal","labels":["1","2","3"],"when":[],"group":null},{"id":"[1]","name":"b","kind":"ordinal","labels":["4","5","6"],"when":[],"group":null}]},
"decisions":[{"id":"[0]","name":"a","kind":"ordinal","labels":["1","2","3"],"bounds":null,"scale":null,"when":[],"group":null},{"id":"[1]","name":"b","kind":"ordinal","labels":["4","5","6"],"bounds":null,"scale":null,"when":[],"group":null}],
"program":"[OneOf(name=''a'', hints=None, num_choices=1, candidates=[0: 1, 1: 2, 2: 3], choices_distinct=True, choices_sorted=False, where=None, uid=1, group=None), OneOf(name=''b'', hints=None, num_choices=1, candidates=[0: 4, 1: 5, 2: 6], choices_distinct=True, choices_sorted=False, where=None, uid=2, group=None)]","input":null,"task":{"task":"Product"},
"objectives":[{"name":"score","direction":"maximize","unit":null}],"costs":{},"reward":null,"constraints":[],"limits":[],"algorithm":"RandomSearch(uniform=''decisions'')","seed":7,"ahead":1,"initial":[],
"versions":{"python":"3.11.7","symnas":"0.1.0","torch":"2.13.0+cpu","pyglove":"0.4.5","numpy":"2.4.6"},"drawn":{"n":2000,"costs":{},"kept":null}}',NULL);
CREATE TABLE trials (
    search INTEGER NOT NULL,
    number INTEGER NOT NULL,
    state VARCHAR(8) NOT NULL,
    "key" VARCHAR(64) NOT NULL,
    "row" TEXT NOT NULL,
    architecture TEXT NOT NULL,
    budget FLOAT,
    repeat INTEGER NOT NULL,
    seed BIGINT NOT NULL,
    told INTEGER NOT NULL,
    costs TEXT NOT NULL,
    started FLOAT NOT NULL,
    seconds FLOAT,
    metrics TEXT,
    scores TEXT,
    reason TEXT,
    reports TEXT,
    reused_search INTEGER,
    reused_number INTEGER,
    PRIMARY KEY (search, number),
    FOREIGN KEY(search) REFERENCES searches (id),
    FOREIGN KEY(reused_search) REFERENCES searches (id)
);
INSERT INTO trials VALUES (
1,0,'done','104bf529288b8ea49a459b204f7ae697','[1,0]','{"input":null,"program":[2,4],"symnas_architecture":1,"task":{"dict":{}}}',NULL,0,2083679832,0,'{}',1795281960.1,0.0002,'{"score":8.0}','[8.0]',NULL,'[]',NULL,NULL);
INSERT INTO trials VALUES (
1,1,'done','8399edd19a29474b51b7a3cfe94a1d5f','[2,1]','{"input":null,"program":[3,5],"symnas_architecture":1,"task":{"dict":{}}}',NULL,0,369571992,1,'{}',1795281960.2,0.00005,'{"score":15.0}','[15.0]',NULL,'[]',NULL,NULL);
INSERT INTO trials VALUES (
1,2,'done','48d8593d3897c864b020ffca35e79b9f','[0,2]','{"input":null,"program":[1,6],"symnas_architecture":1,"task":{"dict":{}}}',NULL,0,1009178997,2,'{}',1795281960.2,0.00002,'{"score":6.0}','[6.0]',NULL,'[]',NULL,NULL);
INSERT INTO trials VALUES (
1,3,'running','6c130d09808347fdb3f2e5521f2bb640','[2,2]','{"input":null,"program":[3,6],"symnas_architecture":1,"task":{"dict":{}}}',NULL,0,3466196061,3,'{}',1795281960.2,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE INDEX ix_searches_task ON searches (task);
CREATE INDEX ix_trials_key ON trials ("key");
"""


class Product:
    """The task of that search; writes down what it evaluates."""

    def __init__(self) -> None:
        self.evaluated: list[int] = []

    def describe(self) -> Mapping[str, Any]:
        return {}

    def evaluate(self, architecture: sn.Architecture, trial: Any) -> float:
        self.evaluated.append(trial.number)
        return float(architecture["a"] * architecture["b"])


def search(study: str | None, task: Product) -> sn.Study:
    space = sn.Space([sn.oneof([1, 2, 3], name="a"), sn.oneof([4, 5, 6], name="b")])
    return sn.search(
        space, alg.RandomSearch(), task, maximize="score", trials=6, seed=7, study=study,
        progress=False,
    )  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A study of format 1."""
    text = FORMAT_1
    if request.param == "sqlite":
        study = f"sqlite:///{tmp_path / 's.db'}"
    else:
        study = str(request.getfixturevalue("postgres"))
        text = text.replace("id INTEGER NOT NULL", "id SERIAL NOT NULL")
        text += "SELECT setval('searches_id_seq', 1);"
    with connected(study) as connection:
        for statement in filter(str.strip, text.split(";\n")):
            connection.exec_driver_sql(statement)
    return study


@contextlib.contextmanager
def connected(study: str) -> Any:
    engine = sa.create_engine(study)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def tables(study: str) -> dict[str, Any]:
    """Columns, keys and indexes of all tables, in no order."""
    with connected(study) as connection:
        found = sa.inspect(connection)
        return {
            name: (
                sorted((c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)),
                sorted(
                    (tuple(k["constrained_columns"]), k["referred_table"])
                    for k in found.get_foreign_keys(name)
                ),
                sorted(tuple(map(str, i["column_names"])) for i in found.get_indexes(name)),
                found.get_pk_constraint(name)["constrained_columns"],
            )
            for name in found.get_table_names()
        }


def version(study: str) -> int:
    with connected(study) as connection:
        return int(connection.execute(sa.text("select version from symnas")).scalar_one())


def test_a_search_of_the_first_format_continues(
    old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = Product()
    study = search(old, task)
    assert version(old) == schema.VERSION
    assert task.evaluated == [3, 4, 5]
    undisturbed = search(None, Product())
    assert [(t.row, t.scores, t.seed, t.state, t.key) for t in study.trials] == [
        (t.row, t.scores, t.seed, t.state, t.key) for t in undisturbed.trials
    ]
    assert study.trials[0].started == 1795281960.1
    assert len(study.frame()) == 6 and study.report(tmp_path / "r.html").exists()


def test_tables_of_an_old_study_become_those_of_a_new_one(old: str) -> None:
    sn.Study.open(old)
    migrated = tables(old)
    with connected(old) as connection:
        for name in ("trials", "drivers", "searches", "symnas"):
            connection.exec_driver_sql(f"drop table {name}")
    database.Database(old)
    assert migrated == tables(old)


def test_a_migration_happens_wholly_or_not_at_all(
    old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tables(old)
    broken = {1: (*migration.STEPS[1], "alter table nowhere add column nothing integer")}
    monkeypatch.setattr(migration, "STEPS", broken)
    with pytest.raises(sn.StorageError, match="cannot be brought to format"):
        sn.Study.open(old)
    assert version(old) == 1 and tables(old) == before
    monkeypatch.undo()
    assert len(sn.Study.open(old)) == 4


def test_of_two_that_migrate_at_once_the_second_finds_it_done(old: str) -> None:
    processes = multiprocessing.get_context("fork")
    barrier = processes.Barrier(3)

    def opens() -> None:
        barrier.wait()
        os._exit(0 if len(sn.Study.open(old)) == 4 else 1)

    opened = [processes.Process(target=opens) for _ in range(3)]
    for process in opened:
        process.start()
    for process in opened:
        process.join(60)
    assert [process.exitcode for process in opened] == [0, 0, 0]
    assert version(old) == schema.VERSION


def test_all_who_open_a_file_without_a_log_at_once_find_one(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("fork")
    for path in (tmp_path / f"{i}.db" for i in range(5)):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("create table symnas (version integer)")
        barrier = processes.Barrier(8)

        def opens(path: Path = path, barrier: Any = barrier) -> None:
            barrier.wait()
            connection = sqlite3.connect(path, timeout=60.0)
            _write_ahead(connection)
            os._exit(int(connection.execute("pragma journal_mode").fetchone()[0] != "wal"))

        opened = [processes.Process(target=opens) for _ in range(8)]
        for process in opened:
            process.start()
        for process in opened:
            process.join(60)
        assert [process.exitcode for process in opened] == [0] * 8


def test_every_format_has_a_step() -> None:
    assert list(migration.STEPS) == list(range(1, schema.VERSION))


@pytest.mark.parametrize("number", [schema.VERSION + 1, 0])
def test_unknown_formats_are_left_alone(old: str, number: int) -> None:
    with connected(old) as connection:
        connection.execute(sa.text("update symnas set version = :number"), {"number": number})
    before = tables(old)
    with pytest.raises(sn.StorageError, match=f"format {number}, and this symnas reads formats up"):
        sn.Study.open(old)
    assert tables(old) == before
