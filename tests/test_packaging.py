"""What pyproject.toml promises: all packages and files are in the wheel, entry points load."""

from __future__ import annotations

import fnmatch
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.skip("tomllib is in Python 3.11 and later", allow_module_level=True)
import tomllib

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = SETTINGS["tool"]["setuptools"]
FOLDERS = {
    "symnas": "symnas", "algorithms": "symnas.algorithms", "cost_models": "symnas.cost_models",
    "spaces": "symnas.spaces",
}  # fmt: skip


def test_every_package_is_listed():
    found = set()
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            below = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([package, *below]))
    assert found == set(SETUPTOOLS["packages"])


def test_every_file_is_package_data():
    for folder, package in FOLDERS.items():
        for file in (ROOT / folder).rglob("*"):
            if file.is_dir() or file.suffix in (".py", ".pyc"):
                continue
            patterns = [
                str(ROOT / folder / "/".join(name.split(".")[1:]) / pattern)
                for name, patterns in SETUPTOOLS["package-data"].items()
                if name.startswith(package)
                for pattern in patterns
            ]
            assert any(fnmatch.fnmatch(str(file), p) for p in patterns), f"{file} is not shipped"


@pytest.mark.parametrize("group", SETTINGS["project"]["entry-points"])
def test_entry_points_load(group):
    declared = SETTINGS["project"]["entry-points"][group]
    installed = {point.name: point for point in entry_points(group=group)}
    for name, target in declared.items():
        assert installed[name].value == target
        assert callable(installed[name].load())
