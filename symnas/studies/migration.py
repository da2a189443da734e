"""Bringing the tables of an older study up to date, one version after the other.

A step is SQL that both SQLite and PostgreSQL read, written out: it must not follow the tables of
`symnas.studies.schema`, which go on changing. `{key}` is the type of a column that numbers its rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

_KEY = {"sqlite": "integer not null primary key", "postgresql": "serial primary key"}

# Version -> what brings a study of that version to the next one.
STEPS: Mapping[int, tuple[str, ...]] = {
    1: (  # several drivers to a search; flows
        """create table drivers (
            id {key},
            search integer not null references searches (id),
            host varchar(255) not null,
            process integer not null,
            began float not null,
            ended float
        )""",
        "alter table trials add column stage varchar(200)",
        "alter table trials add column driver integer references drivers (id)",
    ),
}


def migrate(connection: sa.Connection, version: int, to: int) -> None:
    """Takes the steps between two versions, in the transaction of the connection.

    Args:
        connection: in a transaction that keeps others from doing the same.
        version: the study's.
        to: the version it shall have.
    """
    key = _KEY.get(connection.dialect.name, _KEY["postgresql"])
    for number in range(version, to):
        for statement in STEPS[number]:
            connection.exec_driver_sql(statement.replace("{key}", key))
    connection.execute(sa.text("update symnas set version = :to"), {"to": to})
