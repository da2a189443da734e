"""Source texts run where symnas cannot be imported, and make the same network."""

from __future__ import annotations

import importlib
import importlib.metadata
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


# Runs texts where symnas, and the packages named as arguments, cannot be imported.
BLOCKED = """
import json, sys, torch
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("symnas", "pyglove", *sys.argv[1:]):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
found = {}
for case, text in json.load(sys.stdin).items():
    scope = {"__name__": "found"}
    try:
        exec(compile(text, "best.py", "exec"), scope)
        torch.manual_seed(0)
        net = scope["model"]().eval()
        y = net(torch.ones(2, 4)) if case != "shapes" else torch.zeros(0)
        found[case] = [{k: list(v.shape) for k, v in net.state_dict().items()}, y.tolist()]
    except Exception as error:
        found[case] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def elsewhere(texts, *blocked):
    """What each text makes in a process without symnas: shapes of the weights, and an output."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *blocked], input=json.dumps(texts), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def same_elsewhere(architecture):
    text = architecture.to_python()
    assert max(map(len, text.splitlines())) <= 100
    here = {k: list(v.shape) for k, v in architecture.build().state_dict().items()}
    assert elsewhere({"shapes": text})["shapes"] == [here, []], text
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


# A package of a user's own, with what real code does to names.
PACKAGE = {
    "__init__.py": "from .units import Reexported\n",
    "settings.py": """
WIDTH, HALF = 4, 2
TABLE = {"a": 1}
TABLE["b"] = WIDTH
SIZES = [1]
SIZES += [3]
CALLS = 0
""",
    "helpers.py": """
import torch.nn.functional as F

def scale(x):
    return x * 2

def linear(a, b, *, scale=1):
    import torch
    return torch.nn.Linear(a, b * scale)

def max(a, b):
    return a if a > b else b

def model(x):
    return F.relu(x)

def wide(width):
    from .units import Linked
    return Linked(width, 1)
""",
    "other.py": """
import torch.nn
from torch import nn as F

def scale(x):
    return x * 3

class Tail(F.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = torch.nn.Linear(width, width)
        self.options = dict(scale=max(1, 2))

    def forward(self, x):
        scale_ = len(f"{scale(x).shape[0]} {scale(x=x).shape[0]}")
        return scale(self.linear(x)) + scale_
""",
    "units.py": """
import torch
import torch.utils.data
from torch import nn
from torch.nn import *
import symnas as sn
from symnas import symbolize as lazy
from . import helpers, settings as cfg
from .helpers import linear as make, scale, wide
from .settings import WIDTH, TABLE, SIZES
from own_package.other import Tail

try:
    import package_that_is_not_there as fast
except ImportError:
    fast = None

if torch.__version__ > "1":
    Act = nn.Tanh
else:
    Act = nn.GELU

KERNELS = sn.oneof([1, 2])
torch.set_printoptions()
Tail = sn.symbolize(Tail)

class Base(nn.Module):
    def twin(self):
        return Linked(WIDTH)

    def forward(self, x):
        return self.net(x)

@sn.symbolize
class Linked(Base):
    def __init__(self, width, depth=KERNELS):
        super().__init__()
        self.net = nn.Linear(width, TABLE["b"] + len(SIZES) - 2)

@sn.symbolize
class ThroughModules(Base):
    def __init__(self, width):
        super().__init__()
        linear = helpers.max(width, cfg.WIDTH)
        self.net = helpers.linear(linear, width, scale=cfg.HALF)

    def forward(self, x):
        return helpers.model(self.net(x))

@lazy
class Renamed(Base):
    def __init__(self, width):
        super(Renamed, self).__init__()
        self.net = make(width, width, scale=1)

    def forward(self, x):
        return scale(self.net(x))

@sn.symbolize
class Guarded(Base):
    def __init__(self, width):
        super().__init__()
        self.net = Sequential(Act(), nn.Identity() if fast is None else fast.Layer())

class Reexported(Base):
    def __init__(self, width, dims=(1, 2), act=None):
        super().__init__()
        def grown(WIDTH=width):
            return [WIDTH for WIDTH in range(WIDTH)]
        self.net = nn.Linear(len(grown()), dims[0])

@sn.symbolize
class Late(Base):
    def __init__(self, width):
        super().__init__()
        from own_package.helpers import linear as made
        global COUNT
        COUNT = COUNT + 1
        self.net = made(width, COUNT)

COUNT = 1

@sn.symbolize
class Whole(Base):
    def __init__(self, width):
        super().__init__()
        self.net = vars(helpers)["linear"](width, width)
""",
}


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code") / "own_package"
    folder.mkdir()
    for name, text in PACKAGE.items():
        (folder / name).write_text(text)
    sys.path.insert(0, str(folder.parent))
    try:
        yield importlib.import_module("own_package.units")
    finally:
        sys.path.remove(str(folder.parent))
        for name in [n for n in sys.modules if n.partition(".")[0] == "own_package"]:
            del sys.modules[name]


def test_packages_of_ones_own_are_copied_with_all_that_they_use(units):
    cases = {
        "a base that makes its subclass": sn.spec(units.Linked, 4, depth=1),
        "attributes of modules": sn.spec(units.ThroughModules, 4),
        "names that are changed, and keywords that are not": sn.spec(units.Renamed, 4),
        "names bound in try and if": sn.spec(units.Guarded, 4),
        "a class that its package exports": sn.spec(units.Reexported, 4, dims=(3, 1)),
        "imports within a function": sn.spec(units.Late, 4),
        "a function that imports later": sn.spec(units.wide, 4),
        "two modules with the same names": sn.nn.Sequential(
            sn.spec(units.Tail, 4), sn.spec(units.Renamed, 4), sn.spec(units.ThroughModules, 4)
        ),
    }
    architectures = {name: sn.Architecture(program) for name, program in cases.items()}
    texts = {name: found.to_python() for name, found in architectures.items()}
    found = elsewhere(texts, "own_package")
    for name, architecture in architectures.items():
        units.COUNT = 1
        torch.manual_seed(0)
        net = architecture.build().eval()
        shapes = {k: list(v.shape) for k, v in net.state_dict().items()}
        assert found[name][0] == shapes, f"{name}: {found[name]}\n{texts[name]}"
        expected = net(torch.ones(2, 4))
        torch.testing.assert_close(torch.tensor(found[name][1]), expected, msg=texts[name])
        assert "own_package" not in texts[name]


def test_each_definition_stands_once(units):
    text = sn.Architecture(
        sn.nn.Sequential(sn.spec(units.Linked, 4, depth=1), sn.spec(units.Late, 4))
    ).to_python()
    for line in ("class Base(nn.Module):", "WIDTH, HALF = 4, 2", "SIZES += [3]"):
        assert text.count(line) == 1
    assert "KERNELS" not in text
    assert "CALLS" not in text


def test_a_module_used_as_a_value_is_refused(units):
    with pytest.raises(sn.StorageError, match=r"Whole.*own_package\.helpers as a value"):
        sn.Architecture(sn.spec(units.Whole, 4)).to_python()


def test_installed_packages_are_imported_and_named():
    blocks = pytest.importorskip("monai.networks.blocks")
    found = sn.Architecture(sn.spec(blocks.Convolution, 2, 3, 4))
    text = same_elsewhere(found)
    assert "import monai.networks.blocks.convolutions" in text
    assert "class " not in text
    assert f"monai {importlib.metadata.version('monai')}" in text


def keep(*args, **kwargs):
    return args, kwargs


def test_every_kind_of_value_is_written():
    odd = {"not a name": 1, "class": 2, "sizes": (1,), "pair": (float("inf"), torch.float16)}
    program = sn.spec(keep, [1, "a\n'b\""], -0.0, {"k": None, "act": nn.ReLU}, torch.int8, **odd)
    scope = {}
    exec(sn.Architecture(program).to_python(), scope)
    assert scope["model"]() == sn.build(program)


def test_a_script_and_its_text_are_the_same(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import torch, symnas as sn\n"
        "SIZE = 3\n"
        "@sn.symbolize\n"
        "class Net(torch.nn.Linear):\n"
        "    def __init__(self, width=sn.oneof([4, 5])):\n"
        "        super().__init__(width, SIZE)\n"
        "if __name__ == '__main__':\n"
        "    SIZE = SIZE + 0\n"
        "    print(sn.Space(Net()).decode([0]).to_python())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shapes, _ = elsewhere({"script": done.stdout})["script"]
    assert shapes == {"weight": [3, 4], "bias": [3]}
