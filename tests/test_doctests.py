"""Every example in a docstring runs: modules are imported by name."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import symnas

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(symnas.__path__, "symnas.")
    if module.name != "symnas.workers.main"  # a program: importing it is running it
)


def plug_ins() -> list[str]:
    names = []
    for folder in ("algorithms", "cost_models", "spaces"):
        package = importlib.import_module(f"symnas.{folder}")
        names += [m.name for m in pkgutil.walk_packages(package.__path__, f"symnas.{folder}.")]
    return names


@pytest.mark.parametrize("name", sorted({*MODULES, *plug_ins()}))
def test_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYMNAS_CACHE", str(tmp_path))
    if name.endswith("_synetune"):  # the one library that is imported and not installed by `make`
        pytest.importorskip("syne_tune")
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert result.failed == 0
