"""A PostgreSQL server of the tests' own: started in a temporary folder, gone with them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from faulty import postgres
from faulty.tally import Skipped


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of a server: the one that SYMNAS_POSTGRES names, or a private one on loopback."""
    if "SYMNAS_POSTGRES" in os.environ:
        yield os.environ["SYMNAS_POSTGRES"]
        return
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(postgres.server())
        except Skipped as why:
            pytest.skip(f"SYMNAS_POSTGRES is not set, and {why}")
        yield started.url


empty_study = postgres.schema
