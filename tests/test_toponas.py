"""TopoNAS: the distribution over inputs, the mixture, the regularizer, and what is derived."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import relaxed_examples
import torch
from relaxed_examples import begun, bound, meets_targets, same_after_a_kill, task, trained
from symnas.algorithms.toponas import TopoNAS
from torch import Tensor, nn

import symnas as sn
from symnas import cost_models as cm
from symnas.errors import SymnasError
from symnas.oneshot.topology import TopologyLogits, nodes_of

NAMES = ("1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2")
# Of NAMES: what may be kept at nodes 1, 2, 3, with two inputs (all of node 2).
INPUTS = [(0,), (1, 2), (3, 4, 5)]


@sn.symbolize
class Edge(nn.Module):
    def __init__(self, operation: str, width: int) -> None:
        super().__init__()
        self.operation = operation
        if operation == "linear":
            self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.operation == "linear":
            return torch.tanh(self.linear(x))
        return x * 0 if self.operation == "none" else x


@sn.symbolize
class Cell(nn.Module):
    def __init__(self, edges: list[nn.Module]) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edges)

    def forward(self, x: Tensor) -> Tensor:
        found, e = [x], self.edges
        found.append(e[0](x))
        found.append(e[1](x) + e[2](found[1]))
        found.append(e[3](x) + e[4](found[1]) + e[5](found[2]))
        return found[3]


def cell(operations: tuple[str, ...] = ("skip", "none", "linear"), names: Any = NAMES) -> sn.Space:
    """A cell of four nodes; the zero operation is not the first."""
    edges = [Edge(sn.oneof(list(operations), name=name), 6) for name in names]
    return sn.Space(
        sn.nn.Sequential(sn.nn.Linear(3, 6), Cell(edges), sn.nn.Linear(6, 2)), input=(3,)
    )


def logits_of(space: sn.Space, inputs: int | None = 2, seed: int = 0) -> TopologyLogits:
    """Random ones, in double precision."""
    logits = TopologyLogits(space, nodes_of(space, "none"), inputs).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in logits.parameters():
            parameter.copy_(2 * torch.randn(parameter.shape, generator=generator))
    return logits


# The distribution ---------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [1, 2, 3, None])
def test_the_kept_edges_of_a_node_add_up_to_its_inputs(inputs) -> None:
    for seed in range(5):
        logits = logits_of(cell(), inputs, seed)
        kept = list(logits.kept().values())
        assert all(0 <= float(c.detach()) <= 1 for c in kept)
        for i, edges in enumerate(INPUTS):
            total = float(sum(kept[e].detach() for e in edges))
            if inputs is None:
                q = torch.softmax(logits.topology[i].detach(), 0)
                assert len(q) == 2 ** len(edges) - 1
                assert total == pytest.approx(float((q * logits.sets[i].sum(1)).sum()))
            else:
                assert total == pytest.approx(min(inputs, len(edges)), abs=1e-12)


def test_pairs_by_hand() -> None:
    logits = logits_of(cell())
    third = logits.topology[2]
    with torch.no_grad():
        third.copy_(torch.log(torch.tensor([0.2, 0.3, 0.5])))  # {0, 1}, {0, 2}, {1, 2}
        logits.values[3].copy_(torch.log(torch.tensor([0.1, 7.0, 0.3])))  # zero has no part
    kept = list(logits.kept().values())
    assert [float(c.detach()) for c in kept[3:]] == pytest.approx([0.5, 0.7, 0.8])
    assert [float(c.detach()) for c in kept[:3]] == pytest.approx([1, 1, 1])
    p = logits.probabilities()[logits.space.columns[3]]
    assert p.tolist() == pytest.approx([0.5 * 0.25, 0.5, 0.5 * 0.75])
    (gradient,) = torch.autograd.grad(p[1], third)
    # Of 1 - q_0 - q_1, by the derivative of softmax.
    assert gradient.tolist() == pytest.approx([-0.2 * 0.5, -0.3 * 0.5, 0.5 * 0.5])
    # A node that keeps all its edges never has zero, to the last bit.
    assert [float(p[1].detach()) for p in list(logits.probabilities().values())[:3]] == [0, 0, 0]


@pytest.mark.parametrize("inputs", [1, 2, None])
def test_probabilities_are_the_marginals_of_a_distribution_over_rows(inputs) -> None:
    space = cell()
    logits = logits_of(space, inputs)
    rows = np.concatenate(list(space.enumerate()))
    p = logits.log_probability(rows).detach().exp()
    assert float(p.sum()) == pytest.approx(1)
    for column, own in enumerate(logits.probabilities().values()):
        marginal = [float(p[torch.from_numpy(rows[:, column] == v)].sum()) for v in range(3)]
        assert own.tolist() == pytest.approx(marginal)


def test_topologies_come_best_first() -> None:
    logits = logits_of(cell(), None)
    found = list(logits.topologies(1000))
    q = [torch.softmax(own.detach(), 0).tolist() for own in logits.topology]
    values = [np.prod([own[i] for own, i in zip(q, t, strict=True)]) for t in found]
    assert len(set(found)) == len(found) == 1 * 3 * 7
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)
    assert list(logits.topologies(4)) == found[:4]
    rows = np.concatenate(list(logits.space.enumerate()))
    p = logits.log_probability(rows).detach().exp()
    for topology, value in zip(found, values, strict=True):
        mask = logits.has(rows, topology)
        assert float(p[torch.from_numpy(mask)].sum()) == pytest.approx(value)
        chosen = logits.probabilities_in(topology)
        product = torch.ones(len(rows), dtype=torch.float64)
        for column, own in enumerate(chosen.values()):
            product = product * own.detach()[rows[:, column]]
        torch.testing.assert_close(product * value, p * torch.from_numpy(mask))


def test_nodes_are_found_by_name_and_can_be_given() -> None:
    two = [f"{kind}/{name}" for kind in ("normal", "reduce") for name in NAMES]
    edges = [Edge(sn.oneof(["none", "skip"], name=name), 3) for name in two]
    made = [Cell(edges[:6]), sn.nn.Linear(3, sn.oneof([2, 3], name="x<-none")), Cell(edges[6:])]
    nodes = nodes_of(sn.Space(made), "none")
    assert [[edge.target for edge in node] for node in nodes][3:] == [
        ["reduce/1"], ["reduce/2"] * 2, ["reduce/3"] * 3
    ]  # fmt: skip
    space = cell(names=["abcdef"[i] for i in range(6)])
    nodes = nodes_of(space, "none", [["a"], ["b", space.columns[2]], [], ["d", "e", "f"]])
    assert [[edge.column for edge in node] for node in nodes] == [[0], [1, 2], [3, 4, 5]]
    assert TopologyLogits(space, nodes).outputs == []
    nodes = nodes_of(cell(), "none")
    assert [
        [space.columns.index(i) for i in left] for left in TopologyLogits(cell(), nodes).outputs
    ] == [[2, 4], [5]]


# The mixture and the regularizer ------------------------------------------------------------


def test_the_mixture_is_edge_times_operations() -> None:
    space = cell()
    run = begun(TopoNAS(), bound(space), task(40))
    with torch.no_grad():
        for parameter in run.parameters:
            parameter.copy_(torch.randn(parameter.shape))
    net, x = run.workshop.net.eval(), torch.randn(5, 3)
    run.mix(run.mixture("logits"))
    found = net(x)
    child = net.child([2] * 6)  # all edges linear
    kept, operations = run.logits.kept(), run.logits.operations()

    def edge(i: int, x: Tensor) -> Tensor:
        own = operations[space.columns[i]]
        linear = torch.tanh(child[1].edges[i].linear(x))
        return kept[space.columns[i]] * (own[0] * x + own[2] * linear)

    nodes = [child[0](x)]
    nodes.append(edge(0, nodes[0]))
    nodes.append(edge(1, nodes[0]) + edge(2, nodes[1]))
    nodes.append(edge(3, nodes[0]) + edge(4, nodes[1]) + edge(5, nodes[2]))
    torch.testing.assert_close(found, child[2](nodes[3]))
    gradients = torch.autograd.grad(found.sum(), run.parameters, allow_unused=True)
    # A node with one set of inputs has nothing to learn of it.
    assert [bool((g != 0).any()) for g in gradients[6:]] == [False, False, True]
    assert all(float(g[1]) == 0 for g in gradients[:6])  # zero is no operation


def planted(run: Any, q: list[float]) -> None:
    with torch.no_grad():
        run.logits.topology[2].copy_(torch.log(torch.tensor(q)))


def test_the_regularizer_by_hand() -> None:
    run = begun(TopoNAS(regularizer=3.0), bound(cell()), task(40))
    # Sets {0, 1}, {0, 2}, {1, 2} of node 3. Node 1 feeds node 2 in any case.
    for q, wanted in (
        ([0.2, 0.3, 0.5], (1 - 0.8) + 0),
        ([0.6, 0.3, 0.1], (1 - 0.4) + (0.6 - 0.25)),
    ):
        planted(run, q)
        assert float(run.danger().detach()) == pytest.approx(wanted, rel=1e-5)
        assert float(run.with_costs(torch.tensor(0.5)).detach()) == pytest.approx(0.5 + 3 * wanted)
    (gradient,) = torch.autograd.grad(run.danger(), run.logits.topology[2])
    assert gradient[0] > 0 > max(gradient[1:].tolist())  # away from the set without node 2
    assert run.notes()["regularizer"] == pytest.approx(wanted)


def test_the_regularizer_is_zero_when_satisfied() -> None:
    run = begun(TopoNAS(outputs=0.75), bound(cell()), task(40))
    planted(run, [0.2, 0.3, 0.5])
    danger = run.danger()
    assert float(danger.detach()) == 0
    gradients = torch.autograd.grad(danger, run.parameters, allow_unused=True)
    assert all(g is None or bool((g == 0).all()) for g in gradients)
    # Without names, nodes are not known; then nothing is asked for.
    nodes = [["a"], ["b", "c"], ["d", "e", "f"]]
    run = begun(TopoNAS(nodes=nodes), bound(cell(names="abcdef")), task(40))
    assert float(run.danger().detach()) == 0


def test_the_probability_of_no_output() -> None:
    """Against the sum over all networks."""
    space = cell()
    logits = logits_of(space, 1, seed=3)
    rows = np.concatenate(list(space.enumerate()))
    p = logits.log_probability(rows).detach().exp()
    unused = float(p[torch.from_numpy((rows[:, 2] == 1) & (rows[:, 4] == 1))].sum())
    c = [float(x.detach()) for x in logits.kept().values()]
    run = begun(TopoNAS(inputs=1, outputs=0.0, unused=0.0), bound(space), task(40))
    run.logits.load_state_dict(logits.state_dict())
    assert float(run.danger().detach()) == pytest.approx(unused + (1 - c[5]), rel=1e-5)


# What is derived ----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [None, 0.0, 0.4])
def test_the_best_topology_and_then_the_best_operations(share) -> None:
    """Against all networks."""
    space, macs = cell(), cm.Macs()
    known = macs.bind(space)
    low, high = known.range()[:2]
    limit = high if share is None else low + share * (high - low)
    rows = np.concatenate(list(space.enumerate()))
    rows = rows[known(rows) <= limit]
    for seed in range(2):
        run = begun(TopoNAS(), bound(space, None if share is None else [macs <= limit]), task(40))
        run.logits.double().load_state_dict(logits_of(space, 2, seed).state_dict())
        logits = run.logits
        with torch.no_grad():
            for topology in logits.topologies(100):
                there = rows[logits.has(rows, topology)]
                if len(there):
                    break
            best = there[int(logits.log_probability(there).argmax())]
            if share is None:
                assert topology == tuple(int(own.argmax()) for own in logits.topology)
            derived = run.derive(6)
            assert derived[0].tolist() == best.tolist()
            assert (known(derived) <= limit).all() and len(set(map(bytes, derived))) == 6
            p = logits.log_probability(derived)
            # Those with allowed topologies come first; at the tightest limit there are three.
            count = min(6, int(torch.isfinite(logits.log_probability(rows)).sum()))
            assert torch.isfinite(p).tolist() == [True] * count + [False] * (6 - count)
            assert p[1:].tolist() == sorted(p[1:].tolist(), reverse=True)
            same = logits.has(derived, topology)
            assert 1 <= same.sum() <= 3  # at most half of one topology
        assert run.notes()["allowed topology"] == 1


def test_limits_are_kept_where_no_topology_keeps_them() -> None:
    space, macs = cell(("none", "linear")), cm.Macs()
    limit = macs.bind(space).range()[0] + 36 * 2  # two edges; five are needed
    run = begun(TopoNAS(), bound(space, [macs <= limit]), task(40))
    assert (macs.bind(space)(run.derive(5)) <= limit).all()
    assert run.notes()["allowed topology"] == 0
    run = begun(TopoNAS(inputs=1), bound(space, [macs <= limit + 36]), task(40))
    assert run.notes()["allowed topology"] == 1


def test_it_keeps_targets(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(relaxed_examples, "mixed", cell)
    tight, _, loose = meets_targets(TopoNAS(epochs=2, logits_lr=0.05), tmp_path)
    assert tight["relaxed macs"] < loose["relaxed macs"]
    assert tight["allowed topology"] == loose["allowed topology"] == 1


def test_a_kill_changes_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(relaxed_examples, "mixed", cell)
    same_after_a_kill(TopoNAS(epochs=3, warmup=1, logits_lr=0.05), tmp_path)


# Finding ------------------------------------------------------------------------------------


@sn.symbolize
class Sum(nn.Module):
    """Three edges, each from a third of the features."""

    def __init__(self, edges: list[nn.Module]) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edges)

    def forward(self, x: Tensor) -> Tensor:
        return sum(edge(part) for edge, part in zip(self.edges, x.chunk(3, 1), strict=True))


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


@pytest.mark.parametrize("wanted", list(itertools.combinations(range(3), 2)))
def test_it_finds_the_planted_topology(tmp_path, wanted) -> None:
    """The class is told by the sum of two inputs, as they are; the third one is noise."""
    kinds = [sn.spec(Zero), sn.nn.Threshold(100.0, 0.0), sn.nn.Identity()]
    edges = [sn.oneof(kinds, name=f"sum<-{i}") for i in range(3)]
    space = sn.Space(
        sn.nn.Sequential(Sum(edges), sn.nn.Linear(4, 16), sn.nn.ReLU(), sn.nn.Linear(16, 2)),
        input=(12,),
    )
    x = torch.randn(600, 12, generator=torch.Generator().manual_seed(0))
    y = (sum(x[:, 4 * i] for i in wanted) > 0).long()
    given = sn.Task((x, y), epochs=2, lr=0.02, batch_size=20)
    algorithm = TopoNAS(zero="Zero", epochs=8, warmup=1, logits_lr=0.03)
    run = trained(algorithm, bound(space), given, tmp_path)
    row = [0, 0, 0]
    for i in wanted:
        row[i] = 2
    assert run.derive(1).tolist() == [row]
    assert "regularizer" in run.notes()


def test_in_a_search() -> None:
    study = sn.search(
        cell(), TopoNAS(epochs=1), task(160), maximize="accuracy", subject_to=[cm.Macs() <= 120], trials=2, progress=False
    )  # fmt: skip
    assert study.best.costs["macs"] <= 120
    assert study.training["result"]["target macs"] == 120


def test_cells_of_nasbench201() -> None:
    from symnas.spaces.nasbench201 import nasbench201

    images = sn.Task((torch.randn(40, 3, 8, 8), torch.arange(40) % 3), epochs=1, batch_size=20)
    space = nasbench201(channels=2, cells=1, resolution=8, classes=3)
    run = begun(TopoNAS(epochs=1, logits_lr=0.1), bound(space), images)
    assert run.epoch(0)["loss"] > 0
    assert all(bool((p != 0).any()) for p in (*run.parameters[:6], run.logits.topology[2]))
    rows = run.derive(3)
    assert ((rows != 0).sum(1) == 5).all()  # "none" on one of the three edges into the last node


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"`inputs` \(0\) must be at least 1"):
        TopoNAS(inputs=0)
    with pytest.raises(TypeError, match=r"`nodes` \('2<-0'\) must be lists of names"):
        TopoNAS(nodes="2<-0")
    with pytest.raises(TypeError, match=r"must be lists of names"):
        TopoNAS(nodes=["2<-0"])
    with pytest.raises(ValueError, match=r"`unused` \(2\) must be at least 0 and at most 1"):
        TopoNAS(unused=2)
    with pytest.raises(SymnasError, match=r"no edges to choose from.*labelled 'none'"):
        begun(TopoNAS(), bound(relaxed_examples.plain()), task(40))
    with pytest.raises(SymnasError, match=r"has no candidate 'zero'.*skip, none, linear"):
        begun(TopoNAS(zero="zero", nodes=[NAMES[:1]]), bound(cell()), task(40))
    with pytest.raises(SymnasError, match="names the decision '9<-0'"):
        begun(TopoNAS(nodes=[["9<-0"]]), bound(cell()), task(40))
    with pytest.raises(SymnasError, match="twice"):
        begun(TopoNAS(nodes=[["1<-0"], ["1<-0"]]), bound(cell()), task(40))
    inner = Edge(sn.oneof(["none", "skip"], name="1<-0"), 3)
    nested = sn.Space(
        sn.nn.Sequential(sn.oneof([inner, sn.nn.ReLU()]), sn.nn.Linear(3, 2)), input=(3,)
    )
    with pytest.raises(SymnasError, match="within a candidate"):
        begun(TopoNAS(), bound(nested), task(40))
    many = [Edge(sn.oneof(["none", "skip"], name=f"99<-{i}"), 3) for i in range(13)]
    with pytest.raises(SymnasError, match="13 inputs, and 8,191 sets"):
        TopologyLogits(sn.Space(many), nodes_of(sn.Space(many), "none"), None)
