"""Source texts run where symnas cannot be imported, and make the same network."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

import symnas as sn

SCALE = 2
# A comment that belongs to `halved`.
LIMITS = {"low": SCALE, "high": 8 * SCALE}


def halved(width):
    return max(LIMITS["low"], math.floor(width / 2))


class Base(nn.Module):
    def forward(self, x):
        return self.net(x)


def noted(cls):
    cls.note = "kept"
    return cls


@sn.symbolize
@noted
class Unit(Base):
    """A unit."""

    def __init__(self, width: sn.Space, depth=sn.oneof([1, 2]), act=nn.ReLU):
        super().__init__()
        inner = halved(width)  # kept comment
        self.net = nn.Sequential(
            *[nn.Sequential(nn.Linear(width, inner), act(), nn.Linear(inner, width))] * depth
        )


@sn.symbolize
class Chatty(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = sn.build(sn.nn.Linear(width, width))


BLOCKED = """
import json, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("symnas", "pyglove"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
scope = {"__name__": "found"}
exec(compile(sys.stdin.read(), "best.py", "exec"), scope)
print(json.dumps({k: list(v.shape) for k, v in scope["model"]().state_dict().items()}))
"""


def same_elsewhere(architecture):
    text = architecture.to_python()
    assert max(map(len, text.splitlines())) <= 100
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + text
    here = {k: list(v.shape) for k, v in architecture.build().state_dict().items()}
    assert json.loads(done.stdout.splitlines()[-1]) == here
    return text


def test_own_classes_are_inlined_with_what_they_use():
    space = sn.Space(
        sn.nn.Sequential(
            sn.nn.Linear(4, sn.oneof([8, 16], name="w")), Unit(sn.tied("w"), act=nn.GELU)
        )
    )
    text = same_elsewhere(space.decode([1, 1]))
    assert "kept comment" in text
    assert "# A comment that belongs" in text
    assert "@noted" in text
    assert "symnas" not in text
    assert "sn." not in text.replace("width: sn.Space", "")


def test_long_programs_are_wrapped():
    program = sn.nn.Sequential(*[sn.nn.Linear(128, 128, bias=True) for _ in range(6)])
    text = same_elsewhere(sn.Architecture(program))
    assert text.count("\n        torch.nn.Linear(") == 6


@pytest.mark.parametrize("name", ["nasbench201", "mobilenet"])
def test_spaces(name):
    from symnas.spaces.mobilenet import mobilenet_28
    from symnas.spaces.nasbench201 import nasbench201

    space = nasbench201() if name == "nasbench201" else mobilenet_28()
    same_elsewhere(space.decode(space.sample(1, seed=3)[0]))


def test_symnas_in_a_body_is_refused():
    with pytest.raises(sn.StorageError, match=r"Chatty.*uses `sn`"):
        sn.Architecture(sn.spec(Chatty, 3)).to_python()


def test_given_modules_are_refused():
    with pytest.raises(sn.StorageError, match="given"):
        sn.Architecture(sn.given(torch.nn.Linear(1, 1))).to_python()


def test_classes_without_source_are_named():
    scope = {"nn": nn, "__name__": "nowhere"}
    exec("class Typed(nn.Module):\n    pass", scope)
    with pytest.raises(sn.StorageError, match="nowhere"):
        sn.Architecture(sn.spec(scope["Typed"])).to_python()
