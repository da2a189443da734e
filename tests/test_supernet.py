"""A supernet runs each network of a space exactly as the network by itself would run and learn."""

from __future__ import annotations

import copy
import io
import pickle
import random

import numpy as np
import pyglove as pg
import pytest
import torch
from supernet_equality import Programs, differences, rows_of, scramble, step
from torch import nn

import symnas as sn
from symnas import spaces
from symnas.errors import SymnasError
from symnas.supernet.layouts import Layout, layout_of


@pytest.fixture(autouse=True)
def double():
    """Sums in another order differ by 1e-7 in single precision: enough to hide a wrong gradient."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


# The comparison -----------------------------------------------------------------------------------


def same(net, row, *inputs, tolerance=1e-10):
    """`select` against `child` on a row: see `differences`."""
    for what, a, b in differences(net, row, *inputs):
        close(a, b, tolerance, what)


def close(a, b, tolerance, what=""):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=lambda m: f"{what}: {m}")


def all_same(program, *inputs, sharing=("entangled", "separate"), most=6, **kwargs):
    """`same` for some rows (all, of small spaces); the supernet that shares most."""
    space = program if isinstance(program, sn.Space) else sn.Space(program)
    nets = [sn.Supernet(space, kind) for kind in sharing]
    for net in nets:
        scramble(net)
        for row in rows_of(space, most):
            same(net, row, *inputs, **kwargs)
    return nets[0]


def stored(net, name):
    return net.weights.state_dict()[name]


# The spaces of the library ------------------------------------------------------------------------

IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def small_mobilenet():
    stages = [
        spaces.Stage([8, 16], [1, 2], kernels=[3, 5], expansions=[1, 2], activation="relu6"),
        spaces.Stage([12, 24], [1, 2, 3], 2, [3, 5, 7], [2, 3], activation="hardswish"),
    ]
    return spaces.mobilenet(stages, stem=8, head=24, resolution=16)


def small_tunas():
    return spaces.mobilenetv3_like(5, 16, depths=(1, 2), base=(16, 8, 16, 32))


SPACES = {
    "mobilenet": small_mobilenet,
    "nasbench101 bits": lambda: spaces.nasbench101(8, 2, 1, resolution=16, vertices=5),
    "nasbench101 manyof": lambda: spaces.nasbench101(
        8, 2, 1, resolution=16, vertices=4, edges="manyof"
    ),
    "nasbench201": lambda: spaces.nasbench201(4, 1, resolution=16),
    "tunas": small_tunas,
}


@pytest.mark.parametrize("name", SPACES)
def test_spaces(name):
    all_same(SPACES[name](), IMAGES, sharing=["entangled"], most=4, tolerance=1e-9)


SEPARATE = {
    "mobilenet": lambda: spaces.mobilenet(
        [spaces.Stage([8, 16], [1, 2], kernels=[3, 5])], stem=8, head=24, resolution=16
    ),
    "nasbench101": lambda: spaces.nasbench101(8, 2, 1, resolution=16, vertices=3),
    "nasbench201": lambda: spaces.nasbench201(4, 1, resolution=16),
}


@pytest.mark.parametrize("name", SEPARATE)
def test_spaces_with_separate_weights(name):
    all_same(SEPARATE[name](), IMAGES, sharing=["separate"], most=4, tolerance=1e-9)


def test_the_mobile_space_for_digits():
    images = torch.randn(2, 1, 28, 28)
    all_same(spaces.mobilenet_28(), images, sharing=["entangled"], most=2, tolerance=1e-9)


# Choices ------------------------------------------------------------------------------------------


def test_a_width_that_two_layers_share():
    width = sn.oneof([3, 5, 8], name="width")
    x = torch.randn(4, 6)
    by_object = sn.nn.Sequential(sn.nn.Linear(6, width), sn.nn.Tanh(), sn.nn.Linear(width, 2))
    by_name = sn.nn.Sequential(
        sn.nn.Linear(6, sn.oneof([3, 5, 8], name="width")), sn.nn.Linear(sn.tied("width"), 2)
    )
    all_same(by_name, x)
    net = all_same(by_object, x)
    assert sum(p.numel() for p in net.parameters()) == 6 * 8 + 8 + 8 * 2 + 2
    assert not net.apart
    small = net.child([0])
    first, last = stored(net, "0:weight"), stored(net, "2:weight")
    assert torch.equal(small[0].weight, first[:3])
    assert torch.equal(small[2].weight, last[:, :3])
    assert torch.equal(small[0].bias, stored(net, "0:bias")[:3])


def test_kernels_are_the_middle_of_larger_ones():
    kernel, width = sn.oneof([1, 3, 5, 7]), sn.oneof([2, 4])
    conv = sn.nn.Conv2d(3, width, kernel, padding=kernel // 2, bias=sn.oneof([True, False]))
    net = all_same(sn.nn.Sequential(conv, sn.nn.BatchNorm2d(width)), IMAGES, most=16)
    whole = stored(net, "0:weight")
    assert whole.shape == (4, 3, 7, 7)
    seen = set()
    for row in net.space.sample(40, 1):
        own = net.child(row)[0]
        side = (7 - own.kernel_size[0]) // 2
        assert torch.equal(
            own.weight, whole[: own.out_channels, :, side : 7 - side, side : 7 - side]
        )
        assert (own.bias is None) == (not own._parameters["bias"] is not None)
        seen.add((own.kernel_size[0], own.out_channels))
    assert len(seen) == 8


def test_kernels_of_one_and_three_dimensions_and_even_sizes():
    kernel = sn.oneof([1, 2, 4])
    all_same(sn.nn.Conv1d(2, 3, kernel), torch.randn(2, 2, 9), most=3)
    net = all_same(sn.nn.Conv3d(1, 2, sn.oneof([1, 3])), torch.randn(1, 1, 4, 4, 4))
    assert torch.equal(net.child([0]).weight[..., 0, 0, 0], stored(net, ":weight")[..., 1, 1, 1])
    oblong = sn.nn.Conv2d(3, 2, [1, sn.oneof([1, 5])], padding="same")
    net = all_same(oblong, IMAGES)
    assert stored(net, ":weight").shape == (2, 3, 1, 5)
    all_same(sn.nn.Conv2d(3, 2, 3, stride=sn.oneof([1, 2]), dilation=sn.oneof([1, 2])), IMAGES)


def test_derived_widths_and_expansions():
    width, ratio = sn.oneof([2, 4], name="width"), sn.oneof([1, 2, 3], name="ratio")
    inside = sn.derived(lambda w, r: w * r + 1, width, ratio)
    program = sn.nn.Sequential(
        sn.nn.Linear(6, width), sn.nn.Linear(width, inside), sn.nn.Linear(inside, width * 2 - 1)
    )
    net = all_same(program, torch.randn(4, 6))
    assert stored(net, "1:weight").shape == (13, 4)
    assert stored(net, "2:weight").shape == (7, 13)


def test_modules_to_choose_from_have_weights_of_their_own():
    options = [
        sn.nn.Linear(6, 6),
        sn.nn.Identity(),
        sn.nn.Sequential(sn.nn.Linear(6, 6), sn.nn.GELU()),
    ]
    net = all_same(sn.nn.Sequential(sn.oneof(options), sn.nn.Linear(6, 2)), torch.randn(4, 6))
    assert len(list(net.parameters())) == 6
    net.train().zero_grad()
    net.select([0])(torch.randn(2, 6)).sum().backward()
    assert stored_gradient(net, "0[0]:weight") is not None
    assert stored_gradient(net, "0[2]/0:weight") is None


def stored_gradient(net, name):
    return dict(net.weights.named_parameters())[name].grad


def test_choices_within_choices():
    width = sn.oneof([3, 5])
    deep = sn.nn.Sequential(
        sn.nn.Linear(6, width),
        sn.oneof([sn.nn.ReLU(), sn.oneof([sn.nn.Tanh(), sn.nn.PReLU(sn.oneof([1, 1 * width]))])]),
        sn.nn.Linear(width, 6, bias=sn.oneof([True, False])),
    )
    program = sn.nn.Sequential(sn.oneof([deep, sn.nn.Linear(6, 6)]), sn.nn.Linear(6, 2))
    all_same(program, torch.randn(4, 6), most=12)


def test_activations_to_choose_from():
    def act(i):
        return sn.oneof([sn.nn.ReLU(), sn.nn.SiLU(), sn.nn.PReLU(), sn.nn.Dropout(0.5)])

    program = sn.nn.Sequential(sn.nn.Linear(6, 4), act(0), sn.nn.Linear(4, 4), act(1))
    all_same(program, torch.randn(4, 6), most=16)


def test_several_of_several():
    options = [sn.nn.Linear(6, 6, bias=sn.oneof([True, False])), sn.nn.Tanh(), sn.nn.LayerNorm(6)]
    x = torch.randn(4, 6)
    all_same(sn.spec(chain, sn.manyof(2, options, sorted=True)), x, most=12)
    all_same(sn.spec(chain, sn.manyof(2, options, distinct=False)), x, most=12)
    net = all_same(sn.spec(chain, sn.permutate(options)), x, most=12)
    assert net.space.size == 12
    widths = sn.manyof(2, [3, 4, 5], sorted=True)
    all_same(sn.spec(perceptron, 6, widths), x, most=3)


def chain(modules):
    return nn.Sequential(*modules)


def perceptron(before, widths):
    layers = []
    for width in widths:
        layers += [nn.Linear(before, width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers)


def test_numbers_of_blocks():
    def block(i):
        return sn.nn.Sequential(sn.nn.Linear(6, 6), sn.nn.ReLU() if i % 2 else sn.nn.Tanh())

    net = all_same(sn.repeat(block, sn.intv(0, 3)), torch.randn(4, 6))
    assert len(list(net.parameters())) == 6
    one, three = net.child([1]), net.child([3])
    assert torch.equal(one[0][0].weight, three[0][0].weight)


@sn.symbolize
class Blocks(nn.Module):
    """A depth that is an ordinary argument, and a number that is computed from it."""

    def __init__(self, width, depth, rate=0.3):
        super().__init__()
        rates = torch.linspace(0, rate, depth).tolist()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.Dropout(r)) for r in rates
        )
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x) * self.scale
        return x


def test_constructors_that_ask_for_numbers():
    width = sn.oneof([4, 6])
    program = sn.nn.Sequential(sn.nn.Linear(6, width), Blocks(width, sn.intv(1, 3)))
    net = all_same(program, torch.randn(4, 6))
    assert net.child([0, 2])[1].blocks[1][1].p == pytest.approx(0.15)
    fresh = sn.Supernet(net.space)
    # Initial weights are those that the constructor gives.
    assert torch.equal(fresh.child([1, 1])[1].scale, torch.full((6,), 0.1))


# Layers -------------------------------------------------------------------------------------------


def test_groups_share_nothing_across_meanings():
    channels = sn.oneof([4, 8])
    depthwise = sn.nn.Sequential(
        sn.nn.Conv2d(3, channels, 1),
        sn.nn.Conv2d(channels, channels, sn.oneof([3, 5]), padding=2, groups=channels),
    )
    net = all_same(depthwise, IMAGES)
    assert not net.apart
    own = net.child([0, 0])[1].weight
    assert torch.equal(own, stored(net, "1:weight")[:4, :, 1:4, 1:4])

    grouped = sn.nn.Conv2d(12, 12, 3, padding=1, groups=sn.oneof([1, 2, 3, 12]))
    net = all_same(grouped, torch.randn(2, 12, 5, 5))
    assert list(net.apart.values()) == [4]
    multiplied = sn.nn.Conv2d(4, sn.oneof([4, 8, 12]), 3, groups=4)
    all_same(multiplied, torch.randn(2, 4, 5, 5))
    # As many channels a group: the groups of the smaller are the first of the larger.
    width = sn.oneof([8, 16])
    fixed = sn.nn.Sequential(
        sn.nn.Conv2d(3, width, 1), sn.nn.Conv2d(width, width, 3, groups=width // 4)
    )
    assert not all_same(fixed, IMAGES).apart


@sn.symbolize
class Trunk(nn.Module):
    """Freezes what it is given, and replaces its last layer."""

    def __init__(self, backbone, width, freeze=True):
        super().__init__()
        self.backbone = backbone
        backbone[-1] = nn.Linear(6, width)
        if freeze:
            backbone[0].requires_grad_(False)

    def forward(self, x):
        return self.backbone(x)


def test_constructors_that_change_what_they_are_given():
    width = sn.oneof([3, 4])
    backbone = sn.nn.Sequential(sn.nn.Linear(6, 6), sn.nn.Tanh(), sn.nn.Linear(6, 9))
    head = sn.nn.Linear(width, 9)
    changed = sn.nn.Sequential(Trunk(backbone, width), head)
    net = all_same(changed, torch.randn(4, 6))
    assert not net.child([0])[0].backbone[0].weight.requires_grad
    program = sn.nn.Sequential(
        sn.oneof([changed, backbone]), sn.oneof([sn.nn.ReLU(), sn.nn.Tanh()])
    )
    all_same(program, torch.randn(4, 6), most=8)
    chosen = sn.nn.Sequential(Trunk(backbone, width, freeze=sn.oneof([False, True])), head)
    all_same(chosen, torch.randn(4, 6))


def test_transposed_convolutions():
    width, kernel = sn.oneof([2, 4]), sn.oneof([2, 4])
    program = sn.nn.Sequential(
        sn.nn.Conv2d(3, width, 1),
        sn.nn.ConvTranspose2d(width, width * 2, kernel, stride=2),
        sn.nn.ConvTranspose2d(width * 2, 4, 3, groups=2),
    )
    net = all_same(program, IMAGES)
    own = net.child([0, 0])[1].weight
    assert torch.equal(own, stored(net, "1:weight")[:2, :4, 1:3, 1:3])


def test_a_linear_layer_after_flatten():
    width = sn.oneof([2, 3])
    program = sn.nn.Sequential(
        sn.nn.Conv2d(3, width, 3), sn.nn.AdaptiveAvgPool2d(2), sn.nn.Flatten(),
        sn.nn.Linear(width * 4, 5),
    )  # fmt: skip
    net = all_same(program, IMAGES)
    # Channels come first when flattened, so the leading features are those of the leading ones.
    assert torch.equal(net.child([0])[3].weight, stored(net, "3:weight")[:, :8])


def test_norms():
    width = sn.oneof([4, 8])
    program = sn.nn.Sequential(
        sn.nn.Conv2d(3, width, 3),
        sn.oneof(
            [
                sn.nn.BatchNorm2d(width, momentum=sn.oneof([0.1, None])),
                sn.nn.GroupNorm(sn.oneof([1, 2]), width),
                sn.nn.GroupNorm(width // 2, width),
                sn.nn.InstanceNorm2d(width, affine=True, track_running_stats=True),
                sn.nn.BatchNorm2d(width, affine=False),
                sn.nn.BatchNorm2d(width, track_running_stats=False),
            ]
        ),
        sn.nn.PReLU(width),
    )
    all_same(program, IMAGES, most=16)
    features = sn.nn.Sequential(
        sn.nn.Linear(6, width), sn.oneof([sn.nn.LayerNorm(width), sn.nn.RMSNorm(width)]),
        sn.nn.Linear(width, 2),
    )  # fmt: skip
    all_same(features, torch.randn(4, 6))


def test_statistics_of_batch_norms_are_shared_like_weights():
    width = sn.oneof([2, 4])
    net = sn.Supernet(sn.Space(sn.nn.Sequential(sn.nn.Linear(3, width), sn.nn.BatchNorm1d(width))))
    x = torch.randn(8, 3)
    net.train().select([0])(x)
    mean = stored(net, "1:running_mean")
    assert bool(mean[:2].all()) and not bool(mean[2:].any())
    assert int(stored(net, "1:num_batches_tracked")) == 1
    net.eval().select([0])(x)
    assert int(stored(net, "1:num_batches_tracked")) == 1


def test_embeddings():
    words, width = sn.oneof([10, 20]), sn.oneof([4, 6])
    program = sn.nn.Sequential(sn.nn.Embedding(words, width), sn.nn.Linear(width, 3))
    net = all_same(program, torch.randint(0, 10, (2, 5)))
    assert torch.equal(net.child([0, 0])[0].weight, stored(net, "0:weight")[:10, :4])
    bag = sn.nn.EmbeddingBag(10, width, padding_idx=0)
    all_same(bag, torch.randint(0, 10, (2, 5)))


@sn.symbolize
class Attention(nn.Module):
    def __init__(self, width, heads, bias=True):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, bias=bias, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        y, weights = self.attention(x, x, x)
        return {"out": self.norm(x + y), "weights": (weights,)}


def test_attention():
    width = sn.oneof([4, 8, 12])
    program = sn.nn.Sequential(
        sn.nn.Linear(6, width), Attention(width, width // 4, bias=sn.oneof([True, False]))
    )
    net = all_same(program, torch.randn(2, 5, 6))
    assert not net.apart
    whole = stored(net, "1:attention/in_proj_weight")
    assert whole.shape == (36, 12)
    # Queries, keys and values are one matrix: the leading rows of each.
    own = net.child([0, 0])[1].attention.in_proj_weight
    assert torch.equal(own, torch.cat([whole[i : i + 4, :4] for i in (0, 12, 24)]))
    # The channels of a head mean something else in wider heads.
    apart = all_same(
        sn.nn.MultiheadAttention(8, sn.oneof([1, 2])), *[torch.randn(5, 2, 8) for _ in range(3)]
    ).apart
    assert apart == {":in_proj_weight": 2, ":in_proj_bias": 2}


def test_transformers():
    width = sn.oneof([4, 8])
    layer = sn.nn.TransformerEncoderLayer(
        width, 2, dim_feedforward=sn.oneof([8, 12]), dropout=0.1, batch_first=True
    )
    all_same(sn.nn.Sequential(sn.nn.Linear(6, width), layer), torch.randn(2, 5, 6))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers(kind):
    width, layer = sn.oneof([2, 4]), getattr(sn.nn, kind)
    sides = 1 if kind == "RNN" else 2
    program = layer(
        3, width, num_layers=sn.oneof([1, 2]), bidirectional=sides == 2, batch_first=True
    )
    net = all_same(program, torch.randn(2, 5, 3))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    whole = stored(net, ":weight_ih_l0")
    own = net.child([0, 1])
    assert torch.equal(
        own.weight_ih_l0, torch.cat([whole[4 * i : 4 * i + 2] for i in range(gates)])
    )
    second = stored(net, ":weight_ih_l1")  # takes both directions, one after the other
    leading = torch.cat([second[:, 4 * i : 4 * i + 2] for i in range(sides)], 1)
    assert torch.equal(
        own.weight_ih_l1, torch.cat([leading[4 * i : 4 * i + 2] for i in range(gates)])
    )


def test_projected_lstms_and_cells():
    width = sn.oneof([4, 6])
    all_same(sn.nn.LSTM(3, width, proj_size=sn.oneof([0, 2])), torch.randn(5, 2, 3))
    all_same(sn.nn.LSTMCell(3, width), torch.randn(2, 3))
    all_same(sn.nn.GRUCell(3, width), torch.randn(2, 3))


def test_bilinear_layers():
    width = sn.oneof([3, 5])
    all_same(sn.nn.Bilinear(4, 6, width), torch.randn(2, 4), torch.randn(2, 6))


class Gated(nn.Linear):
    def forward(self, x):
        value, gate = super().forward(x).chunk(2, dim=-1)
        return value * gate.sigmoid()


def test_a_registered_layout():
    from symnas.supernet.layouts import _registered, share

    width = sn.oneof([4, 8])
    program = sn.nn.Sequential(sn.spec(Gated, 3, width * 2), sn.nn.Linear(width, 2))
    share(Gated)(lambda module, name: Layout(chunks=((0, 2),)))
    try:
        net = all_same(program, torch.randn(4, 3))
        whole = stored(net, "0:weight")
        assert torch.equal(net.child([0])[0].weight, torch.cat([whole[:4], whole[8:12]]))
        share(Gated)(lambda module, name: None)
        with pytest.raises(SymnasError, match="must give a Layout"):
            layout_of(Gated(3, 4), "weight")
    finally:
        del _registered[Gated]


# Modules that are written by hand -----------------------------------------------------------------


@sn.symbolize
class TiedWithin(nn.Module):
    """An autoencoder whose two layers have one weight."""

    def __init__(self, width):
        super().__init__()
        self.encode, self.decode = nn.Linear(6, width), nn.Linear(width, 6)
        self.again = nn.Linear(6, width)
        self.again.weight = self.encode.weight

    def forward(self, x):
        y = self.encode(x) + self.again(x)
        return self.decode(y) + nn.functional.linear(y, self.encode.weight.t())


def test_weights_tied_within_a_module():
    net = all_same(TiedWithin(sn.oneof([3, 4])), torch.randn(4, 6))
    assert len(list(net.parameters())) == 5


@sn.symbolize
class Language(nn.Module):
    """Its last layer takes the weight of an embedding that it is given."""

    def __init__(self, embedding, width, words):
        super().__init__()
        self.embedding, self.head = embedding, nn.Linear(width, words)
        self.head.weight = embedding.weight

    def forward(self, x):
        return self.head(self.embedding(x).tanh())


@sn.symbolize
class TieBoth(nn.Module):
    """Ties two modules that it is given, and has no weights of its own."""

    def __init__(self, body, first, last):
        super().__init__()
        self.first, self.body, self.last = first, body, last
        last.weight = first.weight

    def forward(self, x):
        return self.last(self.body(self.first(x)))


def test_weights_tied_across_parts():
    width = sn.oneof([3, 4])
    words = torch.randint(0, 10, (2, 5))
    net = all_same(Language(sn.nn.Embedding(10, width), width, 10), words)
    assert sum(p.numel() for p in net.parameters()) == 10 * 4 + 10
    body = sn.oneof([sn.nn.Tanh(), sn.nn.Linear(width, width)])
    both = TieBoth(body, sn.nn.Embedding(10, width), sn.nn.Linear(width, 10))
    net = all_same(both, words)
    child = net.child([0, 0])
    assert child.first.weight is child.last.weight
    assert torch.equal(child.first.weight, stored(net, "first:weight")[:, :3])


@sn.symbolize
class Positions(nn.Module):
    """A constant table that depends on its size, and a buffer that a run changes."""

    def __init__(self, length, width, persistent=False):
        super().__init__()
        steps = torch.arange(length).unsqueeze(1) / torch.arange(1, width + 1)
        self.register_buffer("table", steps.sin(), persistent=persistent)
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return x + self.table[: x.shape[1]] + self.shift


def test_constant_tables_are_of_their_own_size():
    width = sn.oneof([4, 6])
    for persistent in (False, True):
        program = sn.nn.Sequential(
            sn.nn.Linear(3, width), Positions(sn.oneof([5, 7]), width, persistent)
        )
        net = all_same(program, torch.randn(2, 5, 3))
        row = [0, 1]
        expected = Positions(7, 4).table
        assert torch.equal(net.child(row)[1].table, expected)
        net.select(row)(torch.randn(2, 5, 3))
        assert torch.equal(net._selected.module[1].table, expected)


@sn.symbolize
class Frozen(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fixed, self.free = nn.Linear(6, width), nn.Linear(width, 2)
        self.fixed.requires_grad_(False)

    def forward(self, x):
        return self.free(self.fixed(x))


def test_frozen_parameters_stay():
    net = all_same(Frozen(sn.oneof([3, 4])), torch.randn(4, 6))
    fixed = [n for n, p in net.named_parameters() if not p.requires_grad]
    assert len(fixed) == 2 and all("fixed" in name for name in fixed)
    assert not net.child([0]).fixed.weight.requires_grad
    all_same(sn.spec(frozen_or_not, sn.oneof([False, True])), torch.randn(4, 6))


def frozen_or_not(frozen):
    layer = nn.Linear(6, 2)
    layer.weight.requires_grad_(not frozen)
    return layer


def test_given_modules():
    backbone = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with torch.no_grad():
        backbone[0].weight.fill_(0.25)
    program = sn.nn.Sequential(sn.given(backbone), sn.nn.Linear(4, sn.oneof([2, 3])))
    fresh = sn.Supernet(sn.Space(program))
    # A given module brings its weights.
    assert torch.equal(fresh.child([0])[0][0].weight, backbone[0].weight)
    all_same(program, torch.randn(4, 6))
    assert torch.equal(backbone[0].weight, torch.full((4, 6), 0.25))  # copied, not trained


@sn.symbolize
class Named(nn.Module):
    """Weights in a ParameterDict and a ParameterList, and several results."""

    def __init__(self, width, parts):
        super().__init__()
        self.bank = nn.ParameterDict({k: nn.Parameter(torch.ones(width)) for k in "ab"})
        self.shifts = nn.ParameterList([nn.Parameter(torch.zeros(width)) for _ in range(2)])
        self.parts = nn.ModuleDict(parts)

    def forward(self, x):
        x = x * self.bank["a"] + self.shifts[1]
        return {name: part(x) for name, part in self.parts.items()}, (x, self.bank["b"])


def test_modules_that_return_several_tensors():
    width = sn.oneof([3, 4])
    heads = {"one": sn.nn.Linear(width, 2), "two": sn.oneof([sn.nn.ReLU(), sn.nn.Linear(width, 1)])}
    all_same(sn.nn.Sequential(sn.nn.Linear(6, width), Named(width, heads)), torch.randn(4, 6))


@sn.symbolize
class Plus(nn.Module):
    """Several inputs; its parts are in a list, and one of them is used twice."""

    def __init__(self, left, right):
        super().__init__()
        self.left, self.right = left, nn.ModuleList(right)

    def forward(self, x, y=None):
        x = self.left(self.left(x))
        return sum(module(x if y is None else y) for module in self.right)


def test_several_inputs_and_a_module_that_is_used_twice():
    right = [sn.nn.Linear(6, 2), sn.nn.Linear(6, 2, bias=sn.oneof([True, False]))]
    net = all_same(Plus(sn.oneof([sn.nn.Linear(6, 6), sn.nn.Tanh()]), right), *torch.randn(2, 4, 6))
    row = [0, 1]
    x, y = torch.randn(2, 4, 6)
    close(net.select(row)(x, y=y), net.child(row)(x, y=y), 1e-12)


@pg.members([("width", pg.typing.Any()), ("bias", pg.typing.Bool())])
class Config(pg.Object):
    """An argument that is neither a number nor a module."""


class Configured(nn.Module):
    def __init__(self, config, sizes=()):
        super().__init__()
        self.layer = nn.Linear(6, config.width, config.bias)
        self.more = nn.ModuleList(nn.Linear(config.width, n) for n in sizes.values())

    def forward(self, x):
        x = self.layer(x)
        return [layer(x) for layer in self.more]


def test_arguments_that_are_objects_and_dicts():
    config = Config(width=sn.oneof([3, 4]), bias=True)
    program = sn.spec(Configured, config, {"a": sn.oneof([1, 2]), "b": 3})
    all_same(program, torch.randn(4, 6), most=4)


def test_one_spec_in_two_places_has_two_weights():
    layer = sn.nn.Linear(4, 4, bias=sn.oneof([True, False]))
    net = all_same(sn.nn.Sequential(layer, sn.nn.ReLU(), layer), torch.randn(2, 4))
    child = net.child([0])
    assert not torch.equal(child[0].weight, child[2].weight)


class Weighted(nn.Module):
    """No constructor in torch knows of it: a parameter of odd shape, and one without dimensions."""

    def __init__(self, width, order):
        super().__init__()
        self.cube = nn.Parameter(torch.randn(width, order, width))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.empty = nn.Parameter(torch.zeros(0, width))

    def forward(self, x):
        return self.scale * torch.einsum("bi,ikj->bj", x, self.cube) + self.empty.sum(0)


def test_parameters_of_any_shape():
    width = sn.oneof([3, 4])
    program = sn.nn.Sequential(sn.nn.Linear(6, width), sn.spec(Weighted, width, sn.oneof([1, 2])))
    net = all_same(program, torch.randn(4, 6))
    assert torch.equal(net.child([0, 0])[1].cube, stored(net, "1:cube")[:3, :1, :3])


def test_weight_norm():
    program = sn.spec(normed, sn.oneof([3, 4]))
    all_same(program, torch.randn(4, 6))


def normed(width):
    return nn.utils.parametrizations.weight_norm(nn.Linear(6, width))


def test_float_decisions():
    program = sn.nn.Sequential(sn.nn.Linear(6, 4), sn.nn.LeakyReLU(sn.floatv(0.01, 0.5)))
    all_same(program, torch.randn(4, 6), most=3, sharing=["entangled"])


def test_what_cannot_be_shared_has_storage_of_its_own():
    ndim = sn.spec(either, sn.oneof([1, 2]))
    net = all_same(ndim, torch.randn(3, 4, 6, 6))
    assert list(net.apart.values()) == [2, 2] or list(net.apart.values()) == [2]
    assert "kept apart" in repr(net)
    # The layers of two candidates have one name, and are of two types.
    typed = sn.spec(linear_or_conv, sn.oneof(["linear", "conv"]))
    net = all_same(typed, torch.randn(3, 4, 6))
    assert set(net.apart.values()) == {2}


def either(kind):
    return nn.Conv2d(4, 4, kind, groups=kind)


class Wrapped(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def linear_or_conv(kind):
    return Wrapped(nn.Linear(6, 6) if kind == "linear" else nn.Conv1d(4, 6, 1))


def test_separate_networks_share_no_argument():
    width = sn.oneof([3, 4])
    space = sn.Space(sn.nn.Sequential(sn.nn.Linear(6, width), sn.nn.Linear(width, 2)))
    net = sn.Supernet(space, "separate")
    assert sum(p.numel() for p in net.parameters()) == sum(
        p.numel() for row in ([0], [1]) for p in net.child(row).parameters()
    )
    kept = {k: v.clone() for k, v in net.child([1]).state_dict().items()}
    step(net.select([0]), [torch.randn(4, 6)])
    for key, value in net.child([1]).state_dict().items():
        assert torch.equal(value, kept[key])
    with pytest.raises(ValueError, match="separate"):
        sn.Supernet(space, "shared")


# Modes, storage, mistakes -------------------------------------------------------------------------


def test_modes_follow_whatever_ran_before():
    drop = sn.nn.Dropout(0.5)
    space = sn.Space(sn.nn.Sequential(sn.oneof([sn.nn.Linear(6, 6), sn.nn.Tanh()]), drop))
    net, x = sn.Supernet(space), torch.ones(64, 6)
    for row, mode in (([0], True), ([1], False), ([0], False), ([1], True), ([0], True)):
        net.train(mode)
        y = net.select(row)(x)
        assert net._selected.module[1].training is mode
        assert bool((y == 0).any()) is mode
        assert net.child(row).training is mode


def test_initial_weights_are_the_constructors():
    width = sn.oneof([3, 50])
    space = sn.Space(sn.nn.Sequential(sn.nn.Linear(100, width), sn.nn.BatchNorm1d(width)))
    torch.manual_seed(3)
    a = sn.Supernet(space)
    torch.manual_seed(3)
    b = sn.Supernet(space)
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[name])
    child = a.child([1])
    assert 0.09 < float(child[0].weight.detach().abs().max()) <= 0.1  # 1 / sqrt(100)
    assert torch.equal(child[1].weight, torch.ones(50))
    assert torch.equal(child[1].running_var, torch.ones(50))


def test_a_state_survives_a_file(tmp_path):
    space = SPACES["mobilenet"]()
    net, other = sn.Supernet(space), sn.Supernet(space)
    scramble(net)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    for row in rows_of(space, 3):
        assert torch.equal(net.eval().select(row)(IMAGES), other.eval().select(row)(IMAGES))
    # The order of the decisions that were run before changes no name.
    assert list(net.state_dict()) == list(other.state_dict())
    with pytest.raises(RuntimeError, match="Missing"):
        other.load_state_dict({})


def test_a_child_is_an_ordinary_module(tmp_path):
    space = SPACES["nasbench201"]()
    net = sn.Supernet(space)
    row = space.sample(1, 0)[0]
    child, built = net.child(row), space.decode(row).build()
    built.load_state_dict(child.state_dict())
    assert [n for n, _ in built.named_modules()] == [n for n, _ in child.named_modules()]
    close(built.eval()(IMAGES), net.eval().select(row)(IMAGES), 1e-12)
    copied = pickle.loads(pickle.dumps(child.eval()))
    close(copied(IMAGES), built(IMAGES), 1e-12)
    with torch.no_grad():
        for parameter in child.parameters():
            parameter.zero_()
    close(built(IMAGES), net(IMAGES), 1e-12)  # a child's weights are a copy


def test_weights_of_a_child_can_be_taken_over():
    width = sn.oneof([3, 4], name="width")
    space = sn.Space(sn.nn.Sequential(sn.nn.Linear(6, width), sn.nn.BatchNorm1d(width)))
    net = sn.Supernet(space)
    child = net.child([0])
    step(child, [torch.randn(5, 6)])
    net.load_child([0], child.state_dict())
    for name, tensor in net.child([0]).state_dict().items():
        assert torch.equal(tensor, child.state_dict()[name]), name
    with pytest.raises(RuntimeError):
        net.load_child([1], child.state_dict())


def test_architectures_are_rows():
    space = sn.Space(sn.nn.Linear(3, sn.oneof([2, 4])))
    net, x = sn.Supernet(space), torch.randn(2, 3)
    assert torch.equal(net.select(space.decode([0]))(x), net.select([0])(x))
    assert net.select(np.array([1], np.int32))(x).shape == (2, 4)
    twin = sn.Space(space.program)  # an architecture of an equal space is encoded anew
    assert torch.equal(net.select(twin.decode([1]))(x), net.select([1])(x))
    assert net.child(twin.decode([0])).out_features == 2


def test_copies_run_by_themselves():
    width = sn.oneof([3, 4])
    space = sn.Space(sn.nn.Sequential(sn.nn.Linear(6, width), sn.nn.Linear(width, 2)))
    net, x = sn.Supernet(space), torch.randn(4, 6)
    net.select([0])(x)
    twin = copy.deepcopy(net)
    assert twin.space is space
    y = twin.select([0])(x)
    assert torch.equal(y, net.select([0])(x))
    step(twin, [x])
    assert not torch.equal(twin(x), y)
    assert torch.equal(net(x), y)
    with pytest.raises(TypeError, match="state_dict"):
        pickle.dumps(net)


def test_the_device_and_type_follow():
    width = sn.oneof([3, 4])
    space = sn.Space(sn.nn.Sequential(sn.nn.Linear(6, width), Positions(5, width)))
    net = sn.Supernet(space)
    x = torch.randn(2, 5, 6)
    before = net.select([0])(x)
    net.float()
    assert net.select([0])(x.float()).dtype == torch.float32
    assert net.select([1])(x.float()).dtype == torch.float32
    close(net.double().select([0])(x), before, 1e-6)


def test_a_child_has_the_type_of_the_supernet():
    net = sn.Supernet(sn.Space(sn.nn.Linear(6, sn.oneof([3, 4])))).float()
    assert net.child([0])(torch.randn(2, 6).float()).dtype == torch.float32


def test_many_networks_in_turn():
    """More than are kept, each as it was: templates are used again by others."""
    space = SPACES["mobilenet"]()
    net = sn.Supernet(space).eval()
    rows = rows_of(space, 40)
    first = [net.select(row)(IMAGES) for row in rows]
    for row, y in zip(rows[:5], first[:5], strict=True):
        close(net.select(row)(IMAGES), y, 0)


def test_parts_that_are_no_longer_kept_are_made_anew():
    for seed in range(6):
        space = Programs(random.Random(seed).choice).space()
        net, x = sn.Supernet(space).eval(), torch.randn(3, *space.input)
        scramble(net)
        net._assembler.size = 20
        rows = rows_of(space, 20)
        expected = [net.child(row)(x) for row in rows]
        for i in random.Random(seed).choices(range(len(rows)), k=60):
            net._networks.clear()
            close(net.select(rows[i])(x), expected[i], 1e-10)


@sn.symbolize
class MaybeReplaced(nn.Module):
    def __init__(self, backbone, replaces):
        super().__init__()
        self.backbone = backbone
        if replaces:
            backbone[-1] = nn.Linear(6, 6)

    def forward(self, x):
        return self.backbone(x)


def test_constructors_that_change_what_others_were_given():
    backbone = sn.nn.Sequential(sn.nn.Linear(6, 6), sn.nn.Linear(6, 6))
    act = sn.oneof([sn.nn.ReLU(), sn.nn.Tanh()])
    space = sn.Space(sn.nn.Sequential(MaybeReplaced(backbone, sn.oneof([False, True])), act))
    net, x = sn.Supernet(space).eval(), torch.randn(3, 6)
    for row in ([0, 0], [1, 0], [0, 0], [0, 1], [1, 1], [0, 0]):
        close(net.select(row)(x), net.child(row)(x), 1e-10)


def test_mistakes():
    space = sn.Space(sn.nn.Linear(3, sn.oneof([2, 4])))
    net = sn.Supernet(space)
    with pytest.raises(SymnasError, match="Nothing is selected"):
        net(torch.ones(1, 3))
    for wrong in ([2], [0, 0], [-1], []):
        with pytest.raises(ValueError, match="no row"):
            net.select(wrong)
        with pytest.raises(ValueError, match="no row"):
            net.child(wrong)
    data = sn.Supernet(sn.Space([sn.oneof([1, 2]), sn.nn.Linear(2, 2)]))
    with pytest.raises(SymnasError, match="makes a list"):
        data.select([0])


def test_a_child_that_is_no_module_is_refused():
    data = sn.Supernet(sn.Space([sn.oneof([1, 2]), sn.nn.Linear(2, 2)]))
    with pytest.raises(SymnasError, match="makes a list"):
        data.child([0])


def test_weights_that_were_not_foreseen_are_refused():
    widths = [sn.oneof([1, 2, 3, 4, 5]) for _ in range(4)]
    space = sn.Space(sn.spec(odd, *widths))
    net = sn.Supernet(space)
    # 625 combinations: the one with the wide layer is not among those that are looked at.
    with pytest.raises(SymnasError, match="not found when the supernet was made"):
        net.select([1, 1, 2, 3])


def odd(a, b, c, d):
    return nn.Linear(100 if (a, b, c, d) == (2, 2, 3, 4) else a + b + c + d, 2)


def test_files_of_states_are_small():
    net = sn.Supernet(SPACES["nasbench201"]())
    net.select(net.space.sample(1, 0)[0])(IMAGES)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    total = sum(t.numel() * t.element_size() for t in net.state_dict().values())
    assert len(file.getvalue()) < 2 * total + 100_000
