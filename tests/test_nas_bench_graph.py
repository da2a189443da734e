"""NAS-Bench-Graph: its operations, its cells, and the reader, which runs nothing of a file."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from symnas.spaces.graph_operations import ComputingNode, Graph
from symnas.spaces.nas_bench_graph import SETTINGS, cell_of, nas_bench_graph

import symnas as sn
from symnas.benchmark.readers import graph_cells as cells
from symnas.benchmark.readers.numbers_in_pickle import read_numbers
from symnas.errors import MissingExtra

# Found without the package's index, which has a function of the module's name.
reader = importlib.import_module("symnas.benchmark.readers.nas_bench_graph")

INSTALLED = importlib.util.find_spec("nas_bench_graph") is not None
needs_package = pytest.mark.skipif(
    not INSTALLED, reason="the package nas-bench-graph, which brings the tables, is not installed"
)


def small(dataset="cora", **arguments):
    options = {"features": 8, "classes": 3, "width": 16, "vertices": 6, "dropout": 0.0}
    return nas_bench_graph(dataset, **{**options, **arguments})


# Operations ------------------------------------------------------------------------------------

PATH = torch.tensor([[0.0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])  # 0 - 1 - 2, and 3
X = torch.tensor([[1.0, 0], [2, 1], [4, -1], [3, 5]])


def test_sums_over_neighbours_by_hand():
    graph = Graph(PATH)
    assert graph.total(X).tolist() == [[2, 1], [5, -1], [2, 1], [0, 0]]
    assert graph.mean(X).tolist() == [[2, 1], [2.5, -0.5], [2, 1], [0, 0]]
    half = 0.5**0.5  # degrees 1, 2, 1 and 0
    by_hand = torch.tensor([[2 * half, half], [5 * half, -half], [2 * half, half], [0, 0]])
    assert torch.allclose(graph.normalized(X), by_hand)
    with_loops = torch.diag(torch.tensor([2.0, 3, 2, 1]).rsqrt())
    wanted = with_loops @ (PATH + torch.eye(4)) @ with_loops @ X
    assert torch.allclose(graph.normalized(X, loops=True), wanted)


def formula(operation, node, x, adjacency):
    """What the papers say, with explicit matrices."""
    eye, degrees = torch.eye(len(x)), adjacency.sum(1)
    with_loops = (degrees + 1).rsqrt()
    scale = torch.where(degrees > 0, degrees.rsqrt(), 0.0)
    hat = scale[:, None] * adjacency * scale
    layer = getattr(node, operation)
    if operation == "gat":
        h = (x @ layer.linear.weight.T).reshape(len(x), 4, -1)
        rows = []
        for i in range(len(x)):
            heads = []
            for k in range(4):
                near = [j for j in range(len(x)) if adjacency[i, j] or i == j]
                logits = torch.stack(
                    [layer.target[k] @ h[i, k] + layer.source[k] @ h[j, k] for j in near]
                )
                weights = torch.nn.functional.leaky_relu(logits, 0.2).softmax(0)
                heads.append(sum(w * h[j, k] for w, j in zip(weights, near, strict=True)))
            rows.append(torch.cat(heads))
        return torch.stack(rows) + layer.bias
    w, b = layer.linear.weight.T, layer.linear.bias
    v = layer.neighbours.weight.T if hasattr(layer, "neighbours") else None
    mean = adjacency / degrees.clamp(min=1)[:, None]
    return {
        "gcn": lambda: with_loops[:, None] * (adjacency + eye) * with_loops @ x @ w + b,
        "gin": lambda: (eye + adjacency) @ x @ w + b,
        "cheb": lambda: x @ w + ((eye - hat) - eye) @ x @ v + b,
        "sage": lambda: x @ w + mean @ x @ v + b,
        "arma": lambda: (hat @ x @ v + x @ w + b).relu(),
        "graph": lambda: x @ w + adjacency @ x @ v + b,
        "fc": lambda: x @ w + b,
    }[operation]()


@pytest.mark.parametrize("operation", cells.OPERATIONS[:-1])
def test_operations_are_those_of_their_papers(operation):
    torch.manual_seed(0)
    adjacency = (torch.rand(7, 7) < 0.3).float().triu(1)
    adjacency = adjacency + adjacency.T
    adjacency[6] = adjacency[:, 6] = 0  # nobody's neighbour
    x = torch.randn(7, 5)
    node = ComputingNode(operation, 5, 8, raw=True)
    y = node(x, Graph(adjacency))
    assert torch.allclose(y, formula(operation, node, x, adjacency), atol=1e-6)
    sparse = node(x, Graph(adjacency.to_sparse()))
    assert torch.allclose(y, sparse, atol=1e-6)
    batch = node(torch.stack([x, x.flip(0)]), Graph(torch.stack([adjacency, adjacency.flip(0, 1)])))
    assert torch.allclose(batch, torch.stack([y, y.flip(0)]), atol=1e-5)  # order is no matter


def test_sparse_and_dense_graphs_have_the_same_gradients():
    space = small()
    row = space.sample(1, 3)[0]
    row[1:] = [0, 5, 3, 0]  # two attentions among them
    torch.manual_seed(1)
    network = space.decode(row).build().eval()
    adjacency = (torch.rand(6, 6) < 0.5).float()
    x = torch.randn(6, 8)
    gradients = []
    for edges in (adjacency, adjacency.to_sparse()):
        network.zero_grad()
        network((x, edges)).square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    assert len(gradients[0]) > 5
    for dense, sparse in zip(*gradients, strict=True):
        assert torch.allclose(dense, sparse, rtol=1e-4, atol=1e-5)


def test_a_tensor_is_features_and_edges():
    torch.manual_seed(0)
    network = small().decode([3, 1, 0, 8, 2]).build().eval()
    batch = torch.randn(2, 6, 14)
    pair = batch[..., :8], (batch[..., 8:] > 0).float()
    assert torch.equal(network(batch), network(pair))


@pytest.mark.parametrize("width", [16, 18])
def test_heads_must_divide_the_width(width):
    if width == 16:
        assert ComputingNode("gat", 5, 16).gat.size == 4
        return
    with pytest.raises(ValueError, match=r"`out_features` \(18\) must be a multiple of 4"):
        ComputingNode("gat", 5, 18)


def test_mistakes_name_argument_and_requirement():
    with pytest.raises(ValueError, match=r"`dataset` \('karate'\) must be one of cora"):
        nas_bench_graph("karate")
    with pytest.raises(ValueError, match=r"`width` \(18\) must be a positive multiple of 4"):
        nas_bench_graph(width=18)
    with pytest.raises(ValueError, match=r"`dropout` \(1\) must be from 0 to below 1"):
        nas_bench_graph(dropout=1)
    with pytest.raises(ValueError, match=r"`operation` \('gru'\) must be one of gat"):
        ComputingNode("gru", 4, 4)
    with pytest.raises(ValueError, match="skips alone"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the layer of no inputs
        small().decode([0, 8, 8, 8, 8]).build()


# Cells -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("links", "operations", "expected"),
    [
        # A skip between two nodes, before the first one, and after the last one.
        ("0123", "gcn skip gin fc", ("0123", "skip gcn gin fc")),
        ("0123", "skip gcn gin fc", ("0123", "skip gcn gin fc")),
        ("0123", "gcn gin fc skip", ("0123", "skip gcn gin fc")),
        # A leaf that repeats a node beside others is kept: it doubles that node in the output.
        ("0111", "gcn skip gin skip", ("0111", "gcn gin skip skip")),
        # The features alone give nothing to the output.
        ("0000", "skip gcn gcn skip", ("0122", "skip skip gcn gcn")),
        # Trees drawn in other orders.
        ("0002", "fc gcn gat gin", ("0001", "gcn gat fc gin")),
        ("0103", "fc gcn gat gin", ("0012", "gat fc gin gcn")),
    ],
)
def test_canonical_cells(links, operations, expected):
    found = cells.canonical_cell(links, tuple(operations.split()))
    assert found == (expected[0], tuple(expected[1].split()))


def all_cells(operations=cells.OPERATIONS):
    for links in cells.LINKS:
        for chosen in itertools.product(operations, repeat=4):
            if set(chosen) != {"skip"}:
                yield links, chosen


def test_canonical_cells_are_as_many_as_the_paper_counts():
    found = {cells.canonical_cell(*cell) for cell in all_cells()}
    assert len(found) == 26_206
    assert all(cells.canonical_cell(*cell) == cell for cell in found)
    assert len({cells.canonical_cell(*cell) for cell in all_cells(cells.PROTEINS)}) == 2_021


def test_numbers_are_those_of_cells():
    assert cells.number("0012", ("gat", "gin", "skip", "fc")) == 30287
    assert all(cells.cell(cells.number(*cell)) == cell for cell in list(all_cells())[::97])
    with pytest.raises(ValueError, match="at most five digits, each below 9"):
        cells.cell(91234)
    with pytest.raises(ValueError, match="`links` \\('0321'\\)"):
        cells.canonical_cell("0321", ("gcn",) * 4)


def test_space_treats_cells_as_the_benchmark_does():
    space = small()
    ids = {name: i for i, name in enumerate(cells.OPERATIONS)}
    rows = [
        [8, ids["gcn"], ids["skip"], ids["gin"], ids["fc"]],
        [8, ids["skip"], ids["gcn"], ids["gin"], ids["fc"]],
        [8, ids["skip"], ids["gin"], ids["gcn"], ids["fc"]],
    ]
    first, second, other = space.keys(np.array(rows, np.int32))
    assert first == second != other
    apart = small(canonical=False).keys(np.array(rows, np.int32))
    assert len(set(apart)) == 3
    assert space.is_valid([rows[0], [8, 8, 8, 8, 8]]).tolist() == [True, False]


def test_cells_that_are_the_same_compute_the_same():
    # Raw features are not normed, so a skip of them changes nothing at all.
    space = small()
    a, b = space.decode([8, 1, 8, 2, 7]), space.decode([5, 8, 1, 2, 7])
    assert cell_of(a) == ("0123", ("gcn", "skip", "gin", "fc"))
    one, two = space.decode([5, 8, 1, 2, 7]).build(), space.decode([0, 8, 1, 2, 7]).build()
    count = [sum(p.numel() for p in m.parameters()) for m in (one, two)]
    assert count[0] == count[1]
    two.load_state_dict(dict(zip(two.state_dict(), one.state_dict().values(), strict=True)))
    batch = torch.randn(2, 6, 14)
    assert torch.equal(one.eval()(batch), two.eval()(batch))
    assert space.key_of(list(b.row)) == space.key_of([0, 8, 1, 2, 7])


def test_fixed_spaces_keep_their_canonical_form():
    space = small().fix({"links": "0123"})
    rows = [space.encode(small().decode([8, *r]).program) for r in ([1, 8, 2, 7], [8, 1, 2, 7])]
    assert len(set(space.keys(np.array(rows)))) == 1


# Reading ---------------------------------------------------------------------------------------


class Program:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_pickle_that_runs_a_command_is_refused(tmp_path):
    proof, file = tmp_path / "proof", tmp_path / "cora.bench"
    malicious = pickle.dumps({1111: {"perf": Program(f"touch {proof}")}})
    file.write_bytes(malicious)
    with pytest.raises(ValueError, match=r"cora.bench is refused: it names (posix|nt).system"):
        reader.nas_bench_graph(tmp_path, "cora")
    assert not proof.exists()
    pickle.loads(malicious)  # so it is one that runs
    assert proof.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"c__main__\nreader\n.",
        b"cnumpy\ndtype\n(S'O'\nI00\nI01\ntR.",  # objects
        b"cnumpy\ndtype\n}S'a'\nI1\nsb.",  # changes what stands for numpy.dtype
        b"cnumpy\ndtype\n(S'f8'\nI00\nI01\ntR(I3\nS'>'\nNNNI-1\nI-1\nI0\ntb.",  # other byte order
        b"cnumpy.core.multiarray\nscalar\n(I1\nS'x'\ntR.",
        b"Pelsewhere\n.",
        b"}I1\nI2\ns.",
        b"}S'one'\n}s.",
        b"}I1\n}S'perf'\nS'high'\nss.",
        b"(lp0\n.",
        b"",
        b"\x80\x04\x95\xff\xff",
    ],
)
def test_other_pickles_are_refused(tmp_path, data):
    file = tmp_path / "cora.bench"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"cora\.bench"):
        read_numbers(file)


def published(operations=cells.OPERATIONS):
    """A made table: numbers are as in the files, results are not."""
    numbers = sorted({cells.number(*cells.canonical_cell(*c)) for c in all_cells(operations)})
    return {
        n: {"valid_perf": n / 1e5, "perf": np.float64(n / 2e5), "latency": 0.001, "para": 0.5}
        for n in numbers
    }


def test_reads_and_converts_a_file(tmp_path):
    made = published(cells.PROTEINS)
    (tmp_path / "proteins.bench").write_bytes(pickle.dumps(made, protocol=3))
    space = small("proteins")
    table = reader.nas_bench_graph(tmp_path, "proteins", space=space, cache=tmp_path / "plain")
    assert len(table.rows) == 9 * 5**4 - 9
    row = space.encode(space.decode([8, 0, 4, 1, 3]))  # 0123: gcn skip sage fc
    found = table.look_up(row[None])
    number = cells.number("0123", ("skip", "gcn", "sage", "fc"))
    assert found["val_accuracy"][0] == pytest.approx(number / 1e3)
    assert found["test_accuracy"][0] == pytest.approx(number / 2e3)
    assert (found["latency"][0], found["parameters"][0]) == (1.0, 0.5)
    plain = reader.nas_bench_graph(tmp_path / "plain", "proteins", space=space)
    assert plain.digest() == table.digest()
    # The copy is read as long as the file is the same, and made anew when it is not.
    (tmp_path / "proteins.bench").write_bytes(
        pickle.dumps({n: {**e, "para": 2.0} for n, e in made.items()}, protocol=3)
    )
    other = reader.nas_bench_graph(tmp_path, "proteins", space=space, cache=tmp_path / "plain")
    assert other.values("parameters", row[None]).tolist() == [2.0]
    assert not np.load(tmp_path / "plain" / "proteins.npz")["source"].dtype.hasobject


def test_supernet_shares_weights():
    # With a layer before the cell, all nodes read the same width, whatever is before them.
    space = small("cs")
    supernet = sn.Supernet(space).eval()
    batch = torch.randn(2, 6, 14)
    rows = space.sample(8, 2)
    for row in rows[space.is_valid(rows)]:
        y = supernet.select(row)(batch)
        assert torch.allclose(y, supernet.child(row).eval()(batch), atol=1e-6)


def test_mistakes_in_files(tmp_path):
    space = small("proteins")
    with pytest.raises(ValueError, match=r"`dataset` \('Cora'\) must be one of cora"):
        reader.nas_bench_graph(tmp_path, "Cora")
    with pytest.raises(FileNotFoundError, match=r"no file .*proteins.bench \(or proteins.npz\)"):
        reader.nas_bench_graph(tmp_path, "proteins", space=space)
    file, made = tmp_path / "proteins.bench", published(cells.PROTEINS)
    file.write_bytes(pickle.dumps(dict(list(made.items())[1:]), protocol=3))
    with pytest.raises(ValueError, match="proteins has no cell 1111"):
        reader.nas_bench_graph(tmp_path, "proteins", space=space)
    file.write_bytes(pickle.dumps({**made, 1112: made[1114]}, protocol=3))
    with pytest.raises(ValueError, match=r"has the cell 1112.*gin.*lacks an operation"):
        reader.nas_bench_graph(tmp_path, "proteins", space=space)
    file.write_bytes(pickle.dumps({1111: {"perf": 1.0}}, protocol=3))
    with pytest.raises(ValueError, match=r"1111 has \['perf'\]; it must have"):
        reader.nas_bench_graph(tmp_path, "proteins", space=space)
    file.unlink()
    (tmp_path / "proteins.npz").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match="must be a file that `convert` wrote"):
        reader.nas_bench_graph(tmp_path, "proteins", space=space)
    np.savez(tmp_path / "proteins.npz", number=np.array([object()]))
    with pytest.raises(ValueError, match="must be a file that `convert` wrote"):
        reader.nas_bench_graph(tmp_path, "proteins", space=space)


def test_says_which_package_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install nas-bench-graph"):
        reader.nas_bench_graph()


# The published tables --------------------------------------------------------------------------


@functools.cache
def table_of(dataset):
    space = nas_bench_graph(dataset, vertices=4)
    return reader.nas_bench_graph(dataset=dataset, space=space)


@needs_package
def test_rows_of_the_published_table():
    table = table_of("cora")
    assert len(table.everything()) == 59_040
    assert len(set(map(tuple, np.stack(list(table.look_up(table.rows).values()), 1)))) > 26_000
    # 0123: skip, skip, gcn, gcn; read from the file by hand.
    found = table.look_up([[8, 8, 8, 1, 1], [8, 1, 1, 8, 8], [8, 8, 8, 8, 8]])
    assert found["parameters"][:2].tolist() == pytest.approx([0.502535] * 2, abs=1e-12)
    assert found["val_accuracy"][0] == found["val_accuracy"][1]
    assert np.isnan(found["val_accuracy"][2])
    assert max(table.values("val_accuracy", table.rows)) == pytest.approx(81.9333333, abs=1e-6)
    assert max(table.values("test_accuracy", table.rows)) == pytest.approx(83.1333333, abs=1e-6)


def counted(network, width):
    """The parameters of a network as the tables count them: with those that are never used.

    Those are of a batch norm for each node that reads raw features, and of the weight between
    steps that `arma` had although it makes but one step.
    """
    raw = sum(node.raw for node in network.nodes)
    arma = sum(node.operation == "arma" for node in network.nodes)
    own = sum(p.numel() for p in network.parameters())
    return own + 2 * width * raw + width**2 * arma


@needs_package
@pytest.mark.parametrize("dataset", ["cora", "pubmed", "cs", "proteins"])
def test_programs_have_the_published_parameters(dataset):
    # With and without layers before and after the cell, in all four combinations.
    table = table_of(dataset)
    space = table.space
    rows = space.sample(10, 4)
    rows = rows[space.is_valid(rows)]
    own = [counted(space.decode(row).build(), SETTINGS[dataset].width) for row in rows]
    assert own == pytest.approx((table.values("parameters", rows) * 1e6).tolist(), abs=0.5)


@needs_package
def test_search_finds_what_the_table_says():
    from symnas.algorithms import RegularizedEvolution

    table = table_of("proteins")
    space = table.space
    study = sn.search(
        space,
        RegularizedEvolution(),
        table.task(),
        maximize="val_accuracy",
        subject_to=table.cost("parameters") <= 0.5,
        trials=80,
        progress=False,
    )
    best = study.best
    row = np.array(best.architecture.row)
    assert best.metrics["val_accuracy"] == table.values("val_accuracy", row[None])[0]
    assert table.values("parameters", row[None])[0] <= 0.5
