"""Graphs of operations, the graph network on them, other regressors, and the search by them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import BaggingRegressor, GradientBoostingRegressor, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import Ridge
from symnas.algorithms.neural_predictor import NeuralPredictor
from symnas.spaces.nasbench201 import OPERATIONS, Cell, Edge
from torch import nn

import symnas as sn
from symnas import cost_models as cm
from symnas.predictors.base import held_out
from symnas.predictors.flow_graphs import SIZES
from symnas.predictors.gcn import GCN
from symnas.predictors.graph_network import Batch, Convolution, Network, dense, normalized
from symnas.predictors.graphs import Graphs, graphs_of
from symnas.predictors.screening import screen
from symnas.predictors.sklearn import Sklearn
from symnas.testing import algorithm_laws, example_spaces
from symnas.testing.driving import drive

QUICK = {"hidden": 32, "width": 16, "epochs": 30, "learning_rate": 1e-2, "weight_decay": 0.0}
NONE, SKIP, CONV_1, CONV_3, POOL = range(5)


@sn.symbolize
class Block(nn.Module):
    """A residual block whose depthwise convolution has a choice of kernels."""

    def __init__(self, channels: int, kernel: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = nn.Conv2d(channels, inner, 1)
        self.depthwise = nn.Conv2d(inner, inner, kernel, padding=kernel // 2, groups=inner)
        self.project = nn.Conv2d(inner, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.project(torch.relu(self.depthwise(torch.relu(self.expand(x)))))


@pytest.fixture(scope="module")
def cells() -> sn.Space:
    """Two cells of NAS-Bench-201 under the same six decisions."""
    edges = [sn.oneof(OPERATIONS) for _ in range(6)]
    cell = [Cell([Edge(choice, 2) for choice in edges]) for _ in range(2)]
    stem = sn.nn.Conv2d(3, 2, 1)
    return sn.Space(
        sn.nn.Sequential(stem, cell[0], sn.nn.ReLU(), cell[1], sn.nn.Flatten(), sn.nn.Linear(8, 2)),
        input=(3, 2, 2),
    )


@pytest.fixture(scope="module")
def chain() -> sn.Space:
    """One to three residual blocks."""

    def block(i: int) -> sn.nn.Module:
        return Block(4, kernel=sn.oneof([3, 5]), expansion=sn.oneof([2, 3, 6]))

    return sn.Space(
        sn.nn.Sequential(
            sn.nn.Conv2d(3, 4, 1), sn.repeat(block, times=sn.intv(1, 3)), sn.nn.Flatten()
        ),
        input=(3, 4, 4),
    )


def edges_of(graphs: Graphs, index: int = 0) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in np.argwhere(graphs.adjacency[index])}


# Graphs ---------------------------------------------------------------------------------------

# Nodes: 0 input, 1 output, then the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2 of the cell.
FULL = {(0, 2), (0, 3), (0, 5), (2, 4), (2, 6), (3, 7), (4, 7), (5, 1), (6, 1), (7, 1)}


@pytest.mark.parametrize(
    ("row", "edges"),
    [
        ([CONV_3, SKIP, POOL, CONV_1, SKIP, CONV_3], FULL),
        # Without 1<-0 what takes node 1 is fed by nothing: 2<-1 and 3<-1 go, too.
        ([NONE, CONV_3, POOL, CONV_1, SKIP, CONV_3], {(0, 3), (0, 5), (3, 7), (5, 1), (7, 1)}),
        # Without 3<-2 nothing takes node 2: the edges into it go, 1<-0 stays for 3<-1.
        ([CONV_3, SKIP, POOL, CONV_1, SKIP, NONE], {(0, 2), (0, 5), (2, 6), (5, 1), (6, 1)}),
        ([NONE, NONE, SKIP, CONV_3, SKIP, SKIP], {(0, 5), (5, 1)}),
        ([CONV_3, CONV_3, CONV_3, NONE, NONE, NONE], set()),
    ],
)
def test_a_cell_is_one_small_graph_of_its_operations(cells, row, edges):
    graphs = graphs_of(cells, [row])
    assert graphs.codes.shape == (1, 8)
    assert edges_of(graphs) == edges
    there = {0, 1} | {node for edge in edges for node in edge}
    assert set(np.flatnonzero(graphs.present[0])) == there
    assert not graphs.nodes[0][~graphs.present[0]].any()
    assert graphs.context.shape == (1, 0)  # all decisions are shown


def test_nodes_tell_operations_by_kind_alone(cells):
    rows = [[op] * 6 for op in (SKIP, CONV_1, CONV_3, POOL)]
    found = graphs_of(cells, rows).nodes[:, 2:]
    for operation in range(4):
        assert (found[operation] == found[operation, 0]).all()  # the same on each edge
        others = np.delete(np.arange(4), operation)
        assert (found[operation, 0] != found[others, 0]).any(axis=1).all()
        kinds = found[operation, 0, : -len(SIZES)] if found.shape[2] > 10 else found[operation, 0]
        assert (kinds == 1).sum() >= 1


def test_rows_do_not_depend_on_one_another(cells, chain):
    for space in (cells, chain):
        rows = space.sample(300, 1)
        every, one = graphs_of(space, rows), [graphs_of(space, rows[i : i + 1]) for i in range(20)]
        for i, alone in enumerate(one):
            assert np.array_equal(every.nodes[i], alone.nodes[0])
            assert np.array_equal(every.adjacency[i], alone.adjacency[0])


def test_residual_blocks_are_a_chain_as_long_as_there_are_blocks(chain):
    depth = chain.columns.index(next(c for c in chain.columns if c.endswith("times")))
    for row in chain.sample(40, 2):
        graphs = graphs_of(chain, row[None])
        blocks = 1 + int(row[depth])
        path = [0, *range(2, 2 + blocks), 1]
        assert edges_of(graphs) == set(itertools.pairwise(path))
        assert graphs.present[0].sum() == 2 + blocks


def test_sizes_and_kinds_of_a_block(chain):
    one = chain.encode(chain.decode(chain.sample(1)[0]))
    kernel, width = 1, 2
    assert chain.columns[kernel].endswith("kernel") and chain.columns[width].endswith("expansion")
    rows = np.repeat(one[None], 6, axis=0)
    rows[:, kernel], rows[:, width] = [0, 1] * 3, [0, 0, 1, 1, 2, 2]
    graphs = graphs_of(chain, rows)
    names = chain.derived["graphs"].features
    node = graphs.nodes[:, 2]
    largest = node[:, names.index("log largest")]
    # 16 positions of 8, 12, 24 channels, over the largest of these.
    expected = np.log1p(16 * 4 * np.array([2, 2, 3, 3, 6, 6])) / np.log1p(16 * 24)
    np.testing.assert_allclose(largest, expected, rtol=1e-6)
    assert "log input" not in names  # 4 channels everywhere
    kinds = node[:, : names.index("log largest")]
    assert (kinds[::2] == kinds[0]).all() and (kinds[1::2] == kinds[1]).all()
    assert kinds.sum(axis=1).tolist() == [1] * 6 and (kinds[0] != kinds[1]).any()


def test_calls_stand_in_where_the_flow_cannot_be_told():
    space = sn.Space({"a": sn.nn.Linear(4, sn.oneof([8, 16])), "b": sn.oneof(["p", "q"])})
    rows = np.array([[0, 0], [1, 1]], np.int32)
    graphs = graphs_of(space, rows)
    assert graphs.nodes.shape[:2] == (2, 1) and (graphs.nodes[0] != graphs.nodes[1]).any()
    assert graphs.context.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    assert np.array_equal(graphs_of(space, rows[:1]).nodes[0], graphs.nodes[0])


# The network ----------------------------------------------------------------------------------


def test_a_convolution_by_hand():
    """1/2 ReLU(A' V W1) + 1/2 ReLU(A'^T V W2) on a fork 0 -> 1, 0 -> 2, 1 -> 2."""
    adjacency = np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0]], bool)
    v = np.array([[1.0, -2.0], [3.0, 0.5], [-1.0, 4.0]])
    layer = Convolution(2, 3, np.random.default_rng(0))
    w1, w2 = layer.weight.detach().double().numpy()[:, :3], layer.weight.detach().numpy()[:, 3:]
    takes, gives = [[0], [0, 1], [0, 1, 2]], [[0, 1, 2], [1, 2], [2]]
    expected = [
        0.5 * np.maximum(v[takes[i]].mean(axis=0) @ w1, 0)
        + 0.5 * np.maximum(v[gives[i]].mean(axis=0) @ w2, 0)
        for i in range(3)
    ]
    forward, backward = normalized(adjacency[None])
    with torch.no_grad():
        found = layer(torch.tensor(v[None]).float(), forward, backward)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def random_graphs(n: int, m: int, seed: int = 0) -> Graphs:
    rng = np.random.default_rng(seed)
    kinds = np.concatenate([np.zeros((1, 4)), rng.random((3, 4))]).astype(np.float32)
    codes = rng.integers(0, 4, (n, m))
    patterns = np.triu(rng.random((5, m, m)) < 0.4, 1)
    pattern = rng.integers(0, 5, n)
    codes = np.where(
        patterns.any(axis=1)[pattern] | patterns.any(axis=2)[pattern], 1 + codes % 3, codes
    )
    return Graphs(kinds, codes, patterns, pattern, rng.random((n, 2)).astype(np.float32))


def test_padding_changes_nothing():
    graphs = random_graphs(6, 5)
    wider = Graphs(
        graphs.kinds,
        np.pad(graphs.codes, ((0, 0), (0, 3))),
        np.pad(graphs.patterns, ((0, 0), (0, 3), (0, 3))),
        graphs.pattern,
        graphs.context,
    )
    none = np.zeros((6, 0))
    net = Network(dense(graphs, none), 3, 16, 8, 0.5, np.random.default_rng(1)).eval()
    with torch.no_grad():
        np.testing.assert_allclose(net(dense(graphs, none)), net(dense(wider, none)), atol=1e-6)


def test_screening_predicts_what_the_network_does():
    for seed, (n, m) in enumerate([(60, 7), (1, 1), (40, 0)]):
        graphs = random_graphs(n, m, seed)
        extra = np.random.default_rng(seed).random((n, 1))
        batch: Batch = dense(graphs, extra)
        net = Network(batch, 3, 16, 8, 0.5, np.random.default_rng(1)).eval()
        with torch.no_grad():
            expected = net(batch).numpy()
        assert np.ptp(expected) > 1e-3 or n == 1
        np.testing.assert_allclose(screen(net, graphs, extra), expected, atol=1e-5)


def convolutions(rows: np.ndarray) -> np.ndarray:
    """A score of cells: convolutions on the longest way, and what is next to the output."""
    conv = (rows == CONV_3) * 1.0 + (rows == CONV_1) * 0.5 - (rows == NONE) * 1.0
    return conv[:, 0] + conv[:, 2] + conv[:, 5] + 0.5 * conv[:, 3] * (rows[:, 0] != NONE)


def test_a_fit_learns_and_repeats(cells):
    rows = cells.sample(80, 3)
    values = convolutions(rows)
    others = cells.sample(200, 4)
    fitted = GCN(**QUICK).fit(cells, rows, values, seed=1)
    predicted = fitted.predict(others)
    assert np.corrcoef(predicted, convolutions(others))[0, 1] > 0.7
    again = GCN(**QUICK).fit(cells, rows, values, seed=1).predict(others)
    assert np.array_equal(predicted, again)
    other = GCN(**QUICK).fit(cells, rows, values, seed=2).predict(others)
    assert not np.array_equal(predicted, other)
    assert fitted.predict(others[:0]).shape == (0,)
    with pytest.raises(NotImplementedError, match="does not say how sure it is"):
        fitted.uncertain(others)


def test_gradients_of_a_step_are_its_own(cells, monkeypatch):
    """Each step must forget the gradients of the last one: published code once did not."""
    seen: list[bool] = []
    step = torch.optim.Adam.step
    zero = torch.optim.Adam.zero_grad
    fresh = [False]

    def zeroing(self, *args, **kwargs):
        zero(self, *args, **kwargs)
        fresh[0] = all(p.grad is None for group in self.param_groups for p in group["params"])

    def stepping(self, *args, **kwargs):
        seen.append(fresh[0])
        fresh[0] = False
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "zero_grad", zeroing)
    monkeypatch.setattr(torch.optim.Adam, "step", stepping)
    rows = cells.sample(25, 1)
    GCN(epochs=3).fit(cells, rows, convolutions(rows))
    assert seen == [True] * 6  # two whole batches of ten in each epoch


def test_results_are_predicted_in_their_own_unit(chain):
    rows = chain.sample(60, 1)
    values = 1000.0 + 50.0 * rows[:, 0]
    predicted = GCN(**QUICK).fit(chain, rows, values).predict(rows)
    assert np.abs(predicted - values).mean() < 20


def test_two_stages_put_what_is_rejected_behind(cells):
    rows = cells.sample(100, 5)
    values = convolutions(rows) + np.random.default_rng(0).random(100) / 100  # no ties
    values[values < np.median(values)] -= 50  # what is bad is very bad, and says nothing
    fitted = GCN(quantile=0.5, **QUICK).fit(cells, rows, values)
    assert fitted.classifier is not None
    assert fitted.high > fitted.low + 40
    predicted = fitted.predict(rows)
    middle = (fitted.high + fitted.low) / 2
    good = values > np.quantile(values, 0.5)
    assert ((predicted >= middle) == good).mean() > 0.85
    few = {**QUICK, "epochs": 2}
    limit = float(np.quantile(values, 0.5))
    one = GCN(quantile=0.5, **few).fit(cells, rows, values).predict(rows)
    other = GCN(threshold=limit, **few).fit(cells, rows, values).predict(rows)
    assert np.array_equal(one, other)
    # With nothing to tell apart, there is one stage.
    assert GCN(threshold=1e9, **{**QUICK, "epochs": 1}).fit(cells, rows, values).classifier is None
    flat = GCN(quantile=0.5, epochs=1).fit(cells, rows, np.ones(100))
    assert np.allclose(flat.predict(rows), 1.0, atol=2.0)


def test_more_may_be_told_of_architectures(chain):
    rows = chain.sample(60, 1)
    costs = cm.Parameters().bind(chain)(rows)
    signal = [cm.Parameters(), lambda architecture: (float(sum(architecture.row)), 1.0)]
    for predictor in (GCN(inputs=signal, **QUICK), Sklearn(Ridge(1e-6), inputs=signal)):
        fitted = predictor.fit(chain, rows, costs)
        assert np.corrcoef(fitted.predict(rows), costs)[0, 1] > 0.95
    with pytest.raises(ValueError, match=r"`inputs`: .* gave a value that is not finite"):
        GCN(inputs=[lambda a: float("nan")]).fit(chain, rows, costs)
    with pytest.raises(TypeError, match=r"`inputs` has 'parameters'; each must be a cost model"):
        GCN(inputs=["parameters"])


# Other regressors -----------------------------------------------------------------------------


@pytest.mark.parametrize("features", ["onehot", "path", "graph"])
def test_any_regressor(cells, features):
    rows = cells.sample(80, 6)
    forest = Sklearn(RandomForestRegressor(20), features)
    held = held_out(forest, cells, rows, convolutions(rows), folds=3)
    assert held.tau > 0.2
    assert np.array_equal(
        held.predicted, held_out(forest, cells, rows, convolutions(rows), folds=3).predicted
    )
    assert forest.regressor.random_state is None and not hasattr(forest.regressor, "estimators_")


def test_how_sure_regressors_are(cells):
    rows, others = cells.sample(60, 7), cells.sample(30, 8)
    values = convolutions(rows)
    for regressor in (
        RandomForestRegressor(10),
        BaggingRegressor(Ridge(), max_features=0.5),
        GaussianProcessRegressor(),
    ):
        fitted = Sklearn(regressor).fit(cells, rows, values)
        mean, deviation = fitted.uncertain(others)
        assert np.allclose(mean, fitted.predict(others)) and (deviation > 0).any()
        assert mean.shape == deviation.shape == (30,)
    boosting = Sklearn(GradientBoostingRegressor(n_estimators=2)).fit(cells, rows, values)
    with pytest.raises(NotImplementedError, match="does not say how sure it is"):
        boosting.uncertain(others)  # its members do not predict results


# The search -----------------------------------------------------------------------------------

_quick = GCN(1, 8, 8, epochs=2, learning_rate=1e-2)
_some = {name: space for name, space in example_spaces().items() if name in ("repeated", "float")}
LAWS = {
    f"{name}: {law}": check
    for name, algorithm, options in (
        (
            "gcn",
            NeuralPredictor(6, 50, _quick, rounds=2, top=4),
            {"names": {"GCN": GCN}, "spaces": _some, "trials": 14},
        ),
        (
            "ridge",
            NeuralPredictor(5, 10, Sklearn(Ridge())),
            {"names": {"Sklearn": Sklearn, "Ridge": Ridge}},
        ),
    )
    for law, check in algorithm_laws(algorithm, **options).items()
}


@pytest.mark.parametrize("law", LAWS)
def test_law(law):
    LAWS[law]()


def score(rows: np.ndarray) -> np.ndarray:
    return convolutions(rows)[:, None]


def test_the_best_predicted_come_first(cells):
    problem = sn.Problem(cells, [sn.Objective("score", "maximize")])
    algorithm = NeuralPredictor(60, predictor=Sklearn(RandomForestRegressor(30)))
    rows = drive(problem, algorithm.start(problem), 80, score=score)
    values = convolutions(rows)
    fitted = algorithm.predictor.fit(cells, rows[:60], values[:60], 0)
    every = np.concatenate(list(cells.enumerate()))
    assert values[60:].mean() > values[:60].mean() + 1
    # No other would have been predicted better than the last of these. The seed differs.
    limit = np.sort(fitted.predict(every))[-400]
    assert (fitted.predict(rows[60:]) >= limit).mean() > 0.8


def test_a_limit_holds_for_all_that_is_ranked(chain):
    limit = float(np.quantile(cm.Macs().bind(chain)(chain.sample(200)), 0.6))
    constraints = sn.Constraints.of(cm.Macs() <= limit).bind(chain)
    problem = sn.Problem(chain, [sn.Objective("score", "maximize")], constraints)
    algorithm = NeuralPredictor(8, 30, Sklearn(Ridge()))
    rows = drive(problem, algorithm.start(problem), 20)
    assert len(rows) == 20 and constraints.mask(rows).all()


def test_nothing_is_proposed_while_first_results_are_open():
    space = sn.Space([sn.oneof([1, 2, 3, 4]) for _ in range(4)])
    problem = sn.Problem(space, [sn.Objective("score", "maximize")])
    run = NeuralPredictor(5, predictor=Sklearn(DummyRegressor())).start(problem)
    rows = run.ask(9)
    assert len(rows) == 5
    run.tell(rows[:4], np.arange(4.0)[:, None])
    assert not len(run.ask(1))
    run.tell(rows[4:], np.array([[1.0]]))
    assert len(run.ask(3)) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GCN(layers=0), r"GCN: the value of `layers` \(0\) must be at least 1"),
        (lambda: GCN(dropout=1.0), r"`dropout` \(1.0\) must be a number from 0 to below 1"),
        (lambda: GCN(learning_rate="fast"), r"`learning_rate` \('fast'\) must be a number"),
        (lambda: GCN(quantile=2), r"`quantile` \(2\) must be a number from 0 to below 1 or None"),
        (lambda: GCN(quantile=0.5, threshold=3), r"`quantile` \(0.5\) and `threshold` \(3\) say"),
        (lambda: Sklearn("forest"), r"`regressor` \('forest'\) must be a regressor"),
        (lambda: Sklearn(Ridge), r"`regressor` \(.*Ridge.*\) must be a regressor"),
        (lambda: Sklearn(Ridge(), "graphs"), r"`features` \('graphs'\) must be 'onehot' or 'path'"),
        (lambda: NeuralPredictor(1), r"`initial` \(1\) must be at least 2"),
        (lambda: NeuralPredictor(predictor=Ridge()), r"`predictor` \(Ridge\(\)\) must be a pred"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
