"""Stored programs: read back as they were, and harmless whatever a file says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

import symnas as sn
from symnas.architecture import storage


@sn.symbolize
class Unit(torch.nn.Module):
    def __init__(self, width, act=torch.nn.ReLU, sizes=(1, 2), options=None, scale=1.0):
        super().__init__()
        self.linear = torch.nn.Linear(width, width)


def program():
    return sn.nn.Sequential(
        sn.spec(Unit, 4, act=torch.nn.GELU, options={"a": [1, None], "call": "x"}),
        sn.spec(Unit, width=4, sizes=(3, 4), scale=float("inf")),
        sn.nn.Linear(4, 2, dtype=torch.float64),
    )


def test_round_trip():
    found = sn.Architecture(program(), input=(4,), task={"lr": 0.1})
    again = sn.Architecture.from_json(found.to_json())
    assert again.key == found.key
    assert again.to_json() == found.to_json()
    assert again.input == (4,)
    assert again.task == {"lr": 0.1}
    assert again.build()[2].weight.dtype is torch.float64


def test_defaults_count_as_given_and_values_count():
    key = sn.Architecture(sn.spec(Unit, 4)).key
    assert key == sn.Architecture(sn.spec(Unit, width=4, scale=1.0)).key
    assert key != sn.Architecture(sn.spec(Unit, 4, scale=2.0)).key
    assert key != sn.Architecture(sn.spec(Unit, 4, scale=1)).key
    assert key != sn.Architecture(sn.spec(Unit, 4), task={"lr": 0.1}).key


def test_key_is_the_same_in_another_process():
    code = "import symnas as sn; print(sn.Architecture(sn.nn.Linear(4, 2), input=(4,)).key)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == sn.Architecture(sn.nn.Linear(4, 2), input=(4,)).key


def wrap(part):
    record = {"symnas_architecture": 1, "program": part, "task": {"dict": {}}, "input": None}
    return json.dumps(record)


HOSTILE = [
    {"call": "os:system", "args": ["touch {path}"], "kwargs": {}},
    {"call": "builtins:eval", "args": ["open('{path}', 'w')"], "kwargs": {}},
    {"call": "builtins:exec", "args": ["open('{path}', 'w')"], "kwargs": {}},
    {"call": "torch:load", "args": ["{path}"], "kwargs": {}},
    {"call": "torch.hub:load", "args": ["{path}"], "kwargs": {}},
    {"call": "subprocess:Popen", "args": [["touch", "{path}"]], "kwargs": {}},
    {"call": "torch.nn:functional.relu", "args": [], "kwargs": {}},
    {"call": "torch.nn:Module.__init__", "args": [], "kwargs": {}},
    {"call": "torch.nn:init", "args": [], "kwargs": {}},
    {"callable": "os:remove"},
    {"callable": "torch.nn.functional:os.system"},
    {"_type": "pyglove.core.symbolic.Dict", "x": 1},
    {"_type": "opaque", "value": "gASVHgAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOU"},
    {
        "call": "torch.nn:Linear",
        "args": [{"call": "os:system", "args": ["touch {path}"], "kwargs": {}}],
        "kwargs": {},
    },
    {"call": "torch.nn:Linear", "args": [1, 2, 3, 4, 5, 6, 7, 8], "kwargs": {}},
    {"call": "torch.nn:Linear", "args": [1, 2], "kwargs": {"__class__": 3}},
    {"dtype": "save"},
    {"float": "__import__('os')"},
    {"dict": {}, "extra": 1},
]


@pytest.mark.parametrize("part", HOSTILE, ids=lambda p: str(next(iter(p.values())))[:30])
def test_hostile_files_do_nothing(part, tmp_path):
    target = tmp_path / "touched"
    text = wrap(part).replace("{path}", str(target))
    modules = set(sys.modules)
    with pytest.raises(sn.StorageError):
        sn.Architecture.from_json(text)
    assert not target.exists()
    assert set(sys.modules) == modules


def test_unknown_callable_says_what_to_import():
    part = {"call": "mymodels:Block", "args": [], "kwargs": {}}
    with pytest.raises(sn.StorageError, match=r"`mymodels:Block`.*import the module.*mymodels"):
        sn.Architecture.from_json(wrap(part))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "NaN",
        wrap([float("nan")]),
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        wrap(1).replace('"symnas_architecture": 1', '"symnas_architecture": 99'),
    ],
)
def test_malformed_text(text):
    with pytest.raises(sn.StorageError):
        sn.Architecture.from_json(text)


def test_deep_nesting_is_refused():
    part: object = 1
    for _ in range(storage.MAX_DEPTH + 5):
        part = [part]
    with pytest.raises(sn.StorageError, match="deep"):
        sn.Architecture.from_json(wrap(part))
