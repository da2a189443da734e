"""Fixtures of several test modules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres import empty_study, server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server; skips where there is none."""
    with server() as url:
        yield url


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """URL of an empty study on a PostgreSQL server; skips where there is none."""
    with empty_study(postgres_server) as url:
        yield url
