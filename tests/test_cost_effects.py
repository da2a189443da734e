"""What has an effect in networks, against perturbed ones; the fits, against what they must find."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from symnas.spaces import mobilenet_28, nasbench201
from torch import nn

import symnas as sn
from symnas import cost_models as cm
from symnas.costs.learned.features import effects
from symnas.costs.learned.flow import flow_of_space
from symnas.costs.learned.linear import Linear
from symnas.costs.learned.robust import OWN, SHARED, fitted
from symnas.costs.scopes import TooCoupled

CHANNELS, INPUT = 3, (3, 6, 6)


@sn.symbolize
class Times(nn.Module):
    def __init__(self, factor=None) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return torch.zeros_like(x) if self.factor is None else x.mul(self.factor)


@sn.symbolize
class Residual(nn.Module):
    def __init__(self, body, skip=True) -> None:
        super().__init__()
        self.body, self.skip = body, skip

    def forward(self, x):
        return self.body(x) + x if self.skip else self.body(x)


@sn.symbolize
class Dag(nn.Module):
    """Nodes that add edges from earlier ones up, and a concatenation of some: `sources`, `ends`."""

    def __init__(self, edges, sources, ends) -> None:
        super().__init__()
        self.edges, self.sources, self.ends = nn.ModuleList(edges), sources, ends
        self.last = nn.Conv2d(CHANNELS * len(ends), CHANNELS, 1, bias=False)

    def forward(self, x):
        nodes, edges = [x], iter(self.edges)
        for sources in self.sources:
            nodes.append(sum(next(edges)(nodes[source]) for source in sources))
        return self.last(torch.cat([nodes[end] for end in self.ends], 1))


chain = sn.nn.Sequential
ZERO, TIMES_0, SAME = sn.spec(Times), sn.spec(Times, 0.0), sn.nn.Identity()
CONV, NORM = sn.nn.Conv2d(CHANNELS, CHANNELS, 1), sn.nn.BatchNorm2d(CHANNELS)


def ways(*more):
    return sn.oneof([ZERO, SAME, CONV, *more])


def small_spaces():
    def deep():
        return chain(CONV, sn.nn.ReLU(), ways(NORM))

    def block(i):
        return Residual(chain(CONV, sn.oneof([NORM, ZERO])), sn.oneof([True, False]))

    inner = chain(CONV, NORM, Times(sn.oneof([0.0, 0.5])), CONV, sn.oneof([SAME, ZERO]))
    gated = chain(CONV, Residual(inner), sn.oneof([SAME, TIMES_0]))
    first = sn.oneof([deep(), TIMES_0, Residual(deep(), sn.oneof([True, False]))])
    return {
        "gated": chain(CONV, Residual(gated), Residual(ways())),
        "nested": chain(first, CONV, Residual(sn.oneof([deep(), CONV]))),
        "repeated": chain(CONV, sn.repeat(block, times=sn.intv(1, 3)), Residual(ways())),
        "concatenated": Dag([ways() for _ in "abc"], [[0], [0, 1]], [1, 2]),
    }


def random_dag(seed):
    rng = np.random.default_rng(seed)
    n = 2 + seed % 3
    sources = [np.flatnonzero(rng.random(i + 1) < 0.7).tolist() or [i] for i in range(n)]
    return Dag([ways() for part in sources for _ in part], sources, [int(rng.integers(1, n)), n])


PROGRAMS = {**small_spaces(), **{f"random {seed}": random_dag(seed) for seed in range(10)}}
SPACES = {name: sn.Space(program, input=INPUT) for name, program in PROGRAMS.items()}
SPACES["nasbench201"] = NB201 = nasbench201(channels=4, cells=1, resolution=8, canonical=False)


def results(network, x, disturbed=None):
    """The outputs of all layers, and of the network; the output of one layer is changed."""
    found, paths = {}, {layer: path for path, layer in network.named_modules()}

    def leave(layer, args, output):
        if next(layer.children(), None) is None and layer in paths:
            found[paths[layer], "call", 0] = output
            return output + 5.0 * torch.randn_like(output) if paths[layer] == disturbed else output

    handle = nn.modules.module.register_module_forward_hook(leave)
    output = network(x)
    handle.remove()
    return found, output


@torch.no_grad()
def observed(architecture):
    """The layers that run, whose result changes the output, and whose result the input changes."""
    used, fed, there = set(), set(), set()
    for seed in range(3):
        torch.manual_seed(seed)
        network = architecture.build().double().eval()
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) if "var" in name else torch.randn_like(tensor))
        xs = torch.randn(2, 1, *architecture.input, dtype=torch.float64)
        (found, output), (other, _) = (results(network, x) for x in xs)
        there |= set(found)
        fed |= {place for place in found if not torch.equal(found[place], other[place])}
        left = there - used
        used |= {p for p in left if not torch.equal(results(network, xs[0], p[0])[1], output)}
    return there, used, fed


@pytest.mark.parametrize("name", SPACES)
def test_layers_are_told_as_observed(name):
    space = SPACES[name]
    rows = np.unique(space.sample(4 if name == "nasbench201" else 12), axis=0)
    effect = (flow := flow_of_space(space)).effect(rows)
    assert effects(space, rows) is not None and (effect.kept >= effect.used).all()
    calls = [i for i, place in enumerate(flow.places) if place[1] == "call"]
    for at, row in enumerate(rows):
        told = [{flow.places[i] for i in calls if way[i, at]} for way in effect[:3]]
        assert told == list(observed(space.decode(row))), row


@sn.symbolize
class Moody(nn.Module):
    """A network that comes in any order, or cannot run, always or where its input says so."""

    def __init__(self, order=(0, 1), fails=False) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(2)])
        self.order, self.fails = list(order), fails

    def forward(self, x):
        if self.fails and (self.fails == "always" or x.sum() > 0):
            raise RuntimeError("never")
        return self.parts[self.order[1]](self.parts[self.order[0]](x))


NUMBERS = [sn.oneof([1, 2, 3, 4], name=f"d{i}") for i in range(5)]
FIVE = sn.Space(NUMBERS)
UNTOLD = {
    "no dead branches": mobilenet_28,
    "no networks": lambda: FIVE,
    "no modules": lambda: sn.Space(NUMBERS, input=INPUT),
    "no input": lambda: sn.Space(chain(CONV, ways())),
    "data": lambda: sn.Space(chain(ways(), sn.spec(Moody, fails="by data")), input=INPUT),
    "order": lambda: sn.Space(chain(ways(), Moody(sn.permutate([0, 1]))), input=INPUT),
    "fails": lambda: sn.Space(chain(ways(), Moody(fails=sn.oneof([False, "always"]))), input=INPUT),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_what_cannot_be_told_is_left_out(name):
    space = UNTOLD[name]()
    rows = space.sample(40)
    assert effects(space, rows) is None
    if name != "no dead branches":
        with pytest.raises(TooCoupled):
            flow_of_space(space)
    for regressor in ("linear", "table", "mlp"):
        bound = cm.Learned.of_rows(space, rows, 2.0 + rows[:, 0], regressor=regressor).bind(space)
        assert np.isfinite(bound(rows)).all()


def linear_costs(n, m):
    rng = np.random.default_rng(0)
    features = rng.integers(0, 3, (n, m)).astype(float)
    return features, 5.0 + features @ rng.uniform(0.2, 1.0, m)


def test_a_third_of_throttled_samples_does_not_move_the_fit():
    features, costs = linear_costs(400, 6)
    known, throttled = features[:200], costs[:200] * np.where(np.arange(200) % 3, 1.0, 1.3)
    fits = fitted(known, throttled, np.full(6, SHARED)), Linear.fitted(known, throttled)
    robust, squares = (np.abs(fit(features[200:]) / costs[200:] - 1).mean() for fit in fits)
    assert robust < 0.01 < 0.05 < squares


@pytest.mark.parametrize("n", [8, 150])
def test_constant_and_doubled_features_are_harmless(n):
    features, costs = linear_costs(n, 12)
    more = np.hstack([np.ones((n, 1)), features, 2 * features[:, :3], np.zeros((n, 2))])
    plain, padded = (fitted(x, costs, np.full(x.shape[1], OWN)) for x in (features, more))
    assert padded(more) == pytest.approx(plain(features), rel=1e-6)
    assert plain(features) == pytest.approx(costs, rel=0.15 if n < 12 else 0.02)


def product(rows, seed=0):
    factors = np.random.default_rng(7).uniform(1.0, 2.5, (5, 4))
    noise = np.random.default_rng(seed).normal(1.0, 0.03, len(rows))
    return factors[np.arange(5), rows].prod(axis=1) * noise


def learned(rows, regressor):
    return cm.Learned.of_rows(FIVE, rows, product(rows), regressor=regressor).bind(FIVE)


@pytest.mark.parametrize("regressor", ["linear", "mlp", "table"])
def test_the_error_told_is_that_on_unseen_rows(regressor):
    rows = FIVE.sample(200, seed=3)
    one, same = (learned(rows, regressor) for _ in range(2))
    everything = np.concatenate(list(FIVE.enumerate()))
    assert np.array_equal(one(everything), same(everything))
    unseen = everything[(everything[:, None] != rows[None]).any(axis=2).all(axis=1)]
    error = np.mean(np.abs(one(unseen) / product(unseen, seed=1) - 1))
    assert 1 / 1.5 < one.error.mean_relative / error < 1.5


def test_the_gradient_of_a_perceptron_is_that_of_finite_differences():
    bound = learned(FIVE.sample(200, seed=3), "mlp")
    names = [d.id for d in FIVE.decisions]

    def expected(logits):
        return bound.expected(dict(zip(names, logits.softmax(1), strict=True)))

    for logits in torch.from_numpy(np.random.default_rng(0).normal(size=(3, 5, 4))):
        assert torch.autograd.gradcheck(expected, (logits.requires_grad_(),), atol=1e-5)


def test_expected_is_the_mean_over_all_rows_where_features_are_found():
    rows = NB201.sample(150, seed=2)
    costs = 1.0 + (rows == 3).sum(axis=1) + 3.0 * effects(NB201, rows).connected
    bound = cm.Learned.of_rows(NB201, rows, costs, regressor="mlp").bind(NB201)
    chances = np.random.default_rng(0).dirichlet(np.ones(5), 6)
    everything = np.array(list(itertools.product(range(5), repeat=6)), np.int32)
    mean = chances[np.arange(6), everything].prod(axis=1) @ bound(everything)
    given = {d.id: torch.tensor(p) for d, p in zip(NB201.decisions, chances, strict=True)}
    assert float(bound.expected(given)) == pytest.approx(mean, rel=1e-9)
