"""The spaces that come with symnas, and the conformance suite that they are held against."""

from __future__ import annotations

import csv
import difflib
import gzip
import importlib
import importlib.util
import inspect
import itertools
import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from symnas.spaces import Stage, mobilenet, mobilenet_28, mobilenet_224, nasbench101, nasbench201
from symnas.spaces.fbnet import fbnet
from symnas.spaces.mnasnet import mnasnet
from symnas.spaces.nas_bench_graph import nas_bench_graph

import symnas as sn
from symnas.testing.spaces import check_space, valid_rows

# The functions have the names of their modules.
nb101 = importlib.import_module("symnas.spaces.nasbench101")
nb201 = importlib.import_module("symnas.spaces.nasbench201")

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SYMNAS_DATA", ROOT.parent / "shared" / "data"))

SPACES = {
    "nasbench201": lambda: nasbench201(4, 1, resolution=8),
    "nasbench201, every cell its own": lambda: nasbench201(4, 1, resolution=8, canonical=False),
    "nasbench101": lambda: nasbench101(8, stacks=2, cells=1, resolution=8),
    "nasbench101, 5 vertices": lambda: nasbench101(8, 2, 1, resolution=8, vertices=5),
    "nasbench101, manyof": lambda: nasbench101(8, 2, 1, resolution=8, edges="manyof"),
    "mobilenet": lambda: mobilenet([Stage([8, 16]), Stage([16], stride=2)], resolution=[8, 16]),
    "mobilenet_28": mobilenet_28,
    "mobilenet_224": lambda: mobilenet_224(classes=10, resolution=64),
    "mnasnet": lambda: mnasnet(10, 32),
    "fbnet": lambda: fbnet(10, 32),
    "nas_bench_graph": lambda: nas_bench_graph(features=8, classes=3, width=16, vertices=6),
    "nas_bench_graph, proteins": lambda: nas_bench_graph("proteins", width=16, vertices=6),
}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", SPACES)
def test_conforms(name):
    check_space(SPACES[name](), samples=12, builds=4)


# The suite itself: it must see what is wrong ---------------------------------------------------


class Broken(sn.Space):
    fault = ""

    def sample(self, n, seed=0, uniform="decisions"):
        rows = super().sample(n, seed, uniform)
        if self.fault == "bounds":
            rows[0, 0] = 3
        elif self.fault == "inactive":
            rows[rows[:, 0] == 0, 1] = 0
        elif self.fault == "seed":
            rows = super().sample(n, np.random.default_rng().integers(2**31), uniform)
        return rows

    def mutate(self, rows, seed=0):
        return np.array(rows) if self.fault == "mutate" else super().mutate(rows, seed)

    def key_of(self, row):
        return b"same" if self.fault == "key" else super().key_of(row)

    @property
    def size(self):
        return 5 if self.fault == "size" else super().size


def conditional():
    inner = sn.nn.Linear(4, 4, bias=sn.oneof([True, False]))
    return sn.oneof([sn.nn.Identity(), inner, sn.nn.ReLU()])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("bounds", "must be below 3"),
        ("inactive", "-1 exactly where"),
        ("seed", "equal seeds"),
        ("mutate", "mutate leaves"),
        ("key", "two programs share a key"),
        ("size", "size is 5"),
    ],
)
def test_suite_finds_a_broken_space(fault, message):
    space = Broken(conditional(), input=(4,))
    check_space(space)
    space.fault = fault
    with pytest.raises(AssertionError, match=message):
        check_space(space)


@sn.symbolize
class Faulty(torch.nn.Module):
    weight = torch.nn.Parameter(torch.ones(1))

    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        if fault == "shared":
            self.own = Faulty.weight

    def forward(self, x):
        return x[:1] if self.fault == "batch" else x / 0 if self.fault == "infinite" else x


@pytest.mark.parametrize(
    ("fault", "message"),
    [("shared", "share parameters"), ("batch", "batch 2"), ("infinite", "not finite")],
)
def test_suite_finds_a_broken_module(fault, message):
    with pytest.raises(AssertionError, match=message):
        check_space(sn.Space(Faulty(sn.oneof(["none", fault])), input=(4,)))


def test_suite_finds_a_space_without_valid_rows():
    space = sn.Space(conditional(), input=(4,), valid=lambda architecture: False)
    with pytest.raises(AssertionError, match="too strict"):
        valid_rows(space, 5)


# NAS-Bench-201 ---------------------------------------------------------------------------------


def test_nasbench201_is_six_decisions_shared_by_all_cells():
    space = nasbench201()
    assert (space.size, len(space.columns)) == (15_625, 6)
    model = space.decode([0, 1, 2, 3, 4, 1]).build(device="meta")
    cells = [m for m in model.modules() if isinstance(m, nb201.Cell)]
    assert len(cells) == 15
    for cell in cells:
        expected = "none skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3 skip_connect"
        assert [edge.operation for edge in cell.edges] == expected.split()


def test_nasbench201_has_the_published_number_of_unique_cells():
    space = nasbench201()
    assert len({key for rows in space.enumerate() for key in space.keys(rows)}) == 6_466


def test_nasbench201_strings():
    space = nasbench201()
    for row in space.sample(20, seed=1):
        text = nb201.to_string(row)
        assert nb201.to_string(space.decode(row)) == text
        assert nb201.from_string(text) == tuple(row)
    with pytest.raises(ValueError, match="must have the form"):
        nb201.from_string("|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    with pytest.raises(ValueError, match="six operations"):
        nb201.to_string([0, 1, 2])


def test_nasbench201_reads_programs_outside_the_space():
    space = nasbench201(4, 1)
    architecture = space.decode([3, 0, 1, 4, 1, 2])
    assert nb201.to_string(sn.Architecture(architecture.program)) == nb201.to_string(architecture)
    part = space.fix({"1<-0": "nor_conv_3x3"})
    assert nb201.to_string(part.decode([0, 1, 4, 1, 2])) == nb201.to_string(architecture)


def test_nasbench201_has_the_published_parameters():
    path = DATA / "nasbench201" / "accuracy_200_epochs.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is absent: set SYMNAS_DATA")
    with gzip.open(path, "rt") as file:
        published = list(csv.DictReader(file))[::700]
    space = nasbench201(classes=100)  # the file counts the networks of CIFAR-100
    for entry in published:
        model = space.decode(nb201.from_string(entry["arch"])).build(device="meta")
        assert parameters(model) == round(float(entry["params_millions"]) * 1e6), entry["arch"]


def test_nasbench201_node_sums():
    """The output of `skip_connect` on (0, 1), (0, 3), (1, 3) is twice the input, of none zero."""
    x = torch.randn(2, 4, 8, 8)
    for operations, factor in (("10111 0", 2), ("11111 1", 4), ("00000 0", 0)):
        row = [int(c) for c in operations.replace(" ", "")]
        cell = nb201.Cell([nb201.Edge(nb201.OPERATIONS[i], 4) for i in row])
        assert torch.allclose(cell(x), factor * x)


# NAS-Bench-101 ---------------------------------------------------------------------------------

CONV3, CONV1, POOL = nb101.OPERATIONS


def bits(matrix):
    return tuple(matrix[s][t] for s, t in nb101.edge_positions(len(matrix)))


def test_nasbench101_has_the_published_parameters():
    """The Inception-like cell of the published notebook has 2,694,282 parameters."""
    matrix = [
        [0, 1, 1, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    operations = [CONV1, CONV3, CONV3, CONV3, POOL]
    row = [*bits(matrix), *map(nb101.OPERATIONS.index, operations)]
    space = nasbench101()
    assert space.is_valid([row]).all()
    assert parameters(space.decode(row).build(device="meta")) == 2_694_282


@pytest.mark.parametrize(("vertices", "count"), [(3, 6), (4, 84), (5, 2_441)])
def test_nasbench101_has_the_published_number_of_unique_cells(vertices, count):
    """Of exactly so many vertices; all sizes up to 7 together give 423,624."""
    classes = set()
    for edges in itertools.product((0, 1), repeat=vertices * (vertices - 1) // 2):
        graph = nb101.prune(edges, (POOL,) * (vertices - 2))
        if graph is None or graph.vertices < vertices or len(graph.edges) > 9:
            continue
        for operations in itertools.product(nb101.OPERATIONS, repeat=vertices - 2):
            classes.add(nb101.isomorphism_class(nb101.CellGraph(operations, graph.edges)))
    assert len(classes) == count


def test_nasbench101_isomorphism_is_that_of_networkx():
    rng = np.random.default_rng(0)
    graphs = []
    while len(graphs) < 60:
        edges = tuple((rng.random(10) < 0.6).astype(int).tolist())
        graph = nb101.prune(edges, tuple(rng.choice([CONV3, POOL], 3).tolist()))
        if graph is not None and graph.vertices > 3:
            graphs.append(graph)
    equal = 0
    for a, b in itertools.combinations(graphs, 2):
        pair = []
        for graph in (a, b):
            made = nx.DiGraph(graph.edges)
            for v, label in enumerate(["in", *graph.operations, "out"]):
                made.nodes[v]["label"] = label
            pair.append(made)
        same = nx.is_isomorphic(*pair, node_match=lambda x, y: x["label"] == y["label"])
        assert same == (nb101.isomorphism_class(a) == nb101.isomorphism_class(b))
        equal += same
    assert equal > 10


@pytest.mark.parametrize(
    ("edges", "channels", "expected"),
    [
        # two and three vertices share the output: the first ones get what is left over
        ([(0, 1), (0, 2), (1, 3), (2, 3)], 15, [8, 7]),
        ([(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)], 8, [3, 3, 2]),
        # vertex 1 feeds the two others, so it has the larger one's channels
        ([(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)], 9, [5, 5, 4]),
    ],
)
def test_nasbench101_channels(edges, channels, expected):
    graph = nb101.CellGraph((CONV3,) * len(expected), tuple(edges))
    assert graph.channels(channels)[1:-1] == expected
    cell_bits = [int(e in edges) for e in nb101.edge_positions(graph.vertices)]
    cell = nb101.Cell(3, channels, cell_bits, graph.operations)
    assert cell(torch.randn(2, 3, 8, 8)).shape == (2, channels, 8, 8)


def test_nasbench101_pruned_vertices_have_no_parameters():
    used = [(0, 1), (1, 4), (0, 4)]
    dangling = [(0, 2), (2, 3)]  # reached, but leads nowhere
    counts = []
    for edges in (used, used + dangling):
        cell_bits = [int(e in edges) for e in nb101.edge_positions(5)]
        counts.append(parameters(nb101.Cell(4, 8, cell_bits, [CONV3] * 3)))
    assert counts[0] == counts[1] == (4 * 8 + 16) * 2 + (8 * 8 * 9 + 16)


def test_nasbench101_validity():
    space = nasbench101(8, 1, 1)
    unconnected, dense = [0] * 26, [1] * 26
    assert space.is_valid([unconnected, dense]).tolist() == [False, False]
    with pytest.raises(ValueError, match="connect the input with the output"):
        space.decode(unconnected).build()


def test_nasbench101_two_ways_to_choose_edges_agree():
    by_bits, by_list = (nasbench101(8, 1, 1, edges=how) for how in ("bits", "manyof"))
    for row in valid_rows(by_list, 20):
        architecture = by_list.decode(row)
        graph = nb101.graph_of(architecture)
        chosen = nb101.edge_bits(architecture["edges"], 7)
        operations = [nb101.OPERATIONS.index(architecture[f"vertex {v}"]) for v in range(1, 6)]
        twin = by_bits.decode([*chosen, *operations])
        assert nb101.graph_of(twin) == graph
        assert nb101.graph_of(sn.Architecture(architecture.program)) == graph
        assert parameters(twin.build(device="meta")) == parameters(architecture.build("meta"))


# MobileNet -------------------------------------------------------------------------------------


def blocks_of(model):
    from symnas.spaces.mobilenet import InvertedBottleneck

    return [m for m in model.modules() if isinstance(m, InvertedBottleneck)]


def test_mobilenet_chains_widths_and_adds_only_equal_shapes():
    space = mobilenet([Stage([8, 16], [1, 2]), Stage([16, 24], [2], stride=2)], stem=8)
    for row in space.sample(20):
        architecture = space.decode(row)
        first, second = architecture["width 0"], architecture["width 1"]
        depth = architecture["depth 0"]
        expected = [*[(8, first), (first, first)][:depth], (first, second), (second, second)]
        blocks = blocks_of(architecture.build(device="meta"))
        assert [(b.expand[0].in_channels, b.project[0].out_channels) for b in blocks] == expected
        strides = [b.depthwise[0].stride[0] for b in blocks]
        assert strides == [*[1, 1][:depth], 2, 1]
        for block, (before, after), stride in zip(blocks, expected, strides, strict=True):
            assert block.residual == (before == after and stride == 1)


def test_mobilenet_28_is_small():
    space = mobilenet_28()
    assert space.size > 10**6
    ends = [space.restrict(_ends(space, pick)) for pick in (min, max)]
    counts = [parameters(end.decode([]).build(device="meta")) for end in ends]
    assert counts[0] < 8_000 and 150_000 < counts[1] < 320_000, counts


def _ends(space, pick):
    return {d.id: [pick(d.candidates)] for d in space.decisions}


def test_mobilenet_224_is_once_for_all():
    space = mobilenet_224()
    assert space.size == (9**2 + 9**3 + 9**4) ** 5
    largest = space.restrict(_ends(space, max)).decode([]).build(device="meta")
    assert len(blocks_of(largest)) == 21
    assert largest(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mobilenet([]), "at least one"),
        (lambda: Stage([8], stride=3), "`stride`"),
        (lambda: Stage([8], kernels=[4]), "odd"),
        (lambda: Stage([]), "`widths`"),
        (lambda: mobilenet([Stage([8])], stem=0), "`stem`"),
        (lambda: nasbench201(resolution=30), "multiple of 4"),
        (lambda: nasbench201(cells=0), "`cells`"),
        (lambda: nasbench101(vertices=8), "`vertices`"),
        (lambda: nasbench101(edges="matrix"), "`edges`"),
        (lambda: nasbench101(channels=2), "`channels`"),
    ],
)
def test_arguments_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Networks of others ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def existing_network():
    pytest.importorskip("monai", reason="the example needs monai")
    path = ROOT / "examples" / "existing_network.py"
    specification = importlib.util.spec_from_file_location("existing_network", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["resnet", "perceptron", "transformer"])
def test_existing_network_changes_five_lines(existing_network, name):
    before = inspect.getsource(getattr(existing_network, f"{name}_before"))
    after = inspect.getsource(inspect.unwrap(getattr(existing_network, name)))
    before = before.replace("_before", "").splitlines()
    changes = list(difflib.unified_diff(before, after.splitlines(), n=0, lineterm=""))[2:]
    assert 1 <= sum(line.startswith("+") for line in changes) <= 5, "\n".join(changes)
    check_space(getattr(existing_network, name)(), samples=6, builds=2)


def test_existing_network_runs(existing_network, capsys):
    best = existing_network.main(trials=1, epochs=1)
    assert set(best) == {"resnet", "perceptron", "transformer"}
    assert "best of 1" in capsys.readouterr().out
