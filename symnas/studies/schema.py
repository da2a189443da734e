"""The tables of a study: portable SQL, one row a trial.

JSON is kept as text: it reads the same in SQLite and PostgreSQL, and text holds the NaN and
infinity that a metric may be, which PostgreSQL's JSON type refuses.
"""

from __future__ import annotations

import sqlalchemy as sa

# What is changed here changes in symnas.studies.migration as well, with a step from the last version.
VERSION = 2

metadata = sa.MetaData()

versions = sa.Table(
    "symnas",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)

searches = sa.Table(
    "searches",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("folder", sa.String(300), nullable=False, unique=True),  # stays when renamed
    sa.Column("created", sa.Float, nullable=False),  # seconds since 1970
    sa.Column("task", sa.String(64), nullable=False, index=True),  # digest of its description
    sa.Column("record", sa.Text, nullable=False),  # JSON: see symnas.studies.record
    sa.Column("ended", sa.Text),  # why it stopped, None while it runs
)

# The processes that share a search; one that searches alone is not written here.
drivers = sa.Table(
    "drivers",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("search", sa.Integer, sa.ForeignKey("searches.id"), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("process", sa.Integer, nullable=False),  # its number on that host
    sa.Column("began", sa.Float, nullable=False),  # seconds since 1970
    sa.Column("ended", sa.Float),  # None while it runs, and when it was killed
)

trials = sa.Table(
    "trials",
    metadata,
    sa.Column("search", sa.Integer, sa.ForeignKey("searches.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(8), nullable=False),  # running, done or failed
    sa.Column("key", sa.String(64), nullable=False, index=True),
    sa.Column("row", sa.Text, nullable=False),  # JSON list of integers, -1 where inactive
    sa.Column("architecture", sa.Text, nullable=False),  # JSON
    sa.Column("budget", sa.Float),
    sa.Column("repeat", sa.Integer, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("told", sa.Integer, nullable=False),  # results the algorithm knew when it proposed
    sa.Column("costs", sa.Text, nullable=False),  # JSON, name to number
    sa.Column("started", sa.Float, nullable=False),  # seconds since 1970
    sa.Column("seconds", sa.Float),
    sa.Column("metrics", sa.Text),  # JSON, name to number
    sa.Column("scores", sa.Text),  # JSON, what the algorithm was told: larger is better
    sa.Column("reason", sa.Text),  # why it failed
    sa.Column("reports", sa.Text),  # JSON list of [step, value]
    sa.Column("reused_search", sa.Integer, sa.ForeignKey("searches.id")),
    sa.Column("reused_number", sa.Integer),
    sa.Column("stage", sa.String(200)),  # which search of a flow proposed it
    sa.Column("driver", sa.Integer, sa.ForeignKey("drivers.id")),  # who evaluates it, if shared
)
