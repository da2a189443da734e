"""Graphs of networks: edges are the flow of tensors, and nodes add up to what cost models say."""

from __future__ import annotations

import networkx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import symnas as sn
from symnas import cost_models as cm


class Named(nn.Module):
    """A module with one child, so that its functions are nodes of their own."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(4, 4)


@sn.register
class Skipping(Named):
    def __init__(self, skip=nn.Identity):
        super().__init__()
        self.skip = skip()

    def forward(self, x):
        return self.skip(x) + self.l(x)


@sn.register
class FunctionalDropout(Named):
    def forward(self, x):
        return F.dropout(x, training=self.training) + self.l(x)


@sn.register
class Views(Named):
    def forward(self, x):
        return self.l(input=x.unsqueeze(1).mT.contiguous().mT.to(torch.float32).detach())


@sn.register
class InPlace(Named):
    def forward(self, x):
        y = self.l(x)
        y += 1
        y.mul_(x)
        return 2 - y


@sn.register
class Written(Named):
    def forward(self, x):
        out = torch.zeros_like(x)
        out[:, :2] = self.l(x)[:, :2]
        return out


@sn.register
class Shared(Named):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))
        self.token = nn.Parameter(torch.ones(1, 4))
        self.places = nn.Embedding(9, 4)

    def forward(self, x):
        y = F.linear(self.l(self.l(x)), self.l.weight.t()) * self.gain
        return torch.cat([self.token.expand(x.shape[0], -1), y], 1)[:, :4] + self.places(
            torch.arange(1)
        )


@sn.register
class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.gate = nn.Conv2d(8, 8, 1)
        self.up = nn.ConvTranspose2d(8, 2, 2, stride=2)

    def forward(self, x):
        y = self.conv(x)
        y = y * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(y, 1)))
        if y.shape[-1] % 2:  # decided by the shape alone
            y = F.pad(y, (0, 1, 0, 1))
        return self.up(y)


@sn.register
class Chunks(Named):
    def forward(self, x):
        a, b = self.l(x).chunk(2, 1)
        return torch.cat([b, a], 1)


@sn.register
class Asking(Named):
    def forward(self, x):
        return self.l(x) if x.abs().sum().item() > 0 else x


def net(module, *args, shape=(4,)):
    return sn.Architecture(sn.spec(module, *args), input=shape)


def edges(architecture):
    """Edges by operation, for networks in which each operation stands once."""
    g = architecture.graph()
    ops = {node: data["op"] for node, data in g.nodes(data=True)}
    assert len(set(ops.values())) == len(ops)
    return {(ops[a], ops[b]) for a, b in g.edges}


@pytest.mark.parametrize("skip", [nn.Identity, nn.Dropout])
def test_what_passes_tensors_through_is_beside_the_other_branch(skip):
    name = skip.__name__
    assert edges(net(Skipping, skip)) == {
        ("input", name), ("input", "Linear"), (name, "add"), ("Linear", "add"), ("add", "output"),
    }  # fmt: skip
    assert edges(net(FunctionalDropout)) >= {("input", "Linear"), ("dropout", "add")}
    assert ("dropout", "Linear") not in edges(net(FunctionalDropout))


def test_views_and_named_arguments_keep_the_flow():
    assert edges(net(Views)) == {
        ("input", "unsqueeze"), ("unsqueeze", "Linear"), ("Linear", "output"),
    }  # fmt: skip


def test_changes_in_place_are_part_of_the_flow():
    assert edges(net(InPlace)) == {
        ("input", "Linear"), ("Linear", "add"), ("add", "mul"), ("input", "mul"), ("mul", "sub"),
        ("sub", "output"),
    }  # fmt: skip
    assert edges(net(Written)) == {
        ("input", "Linear"), ("Linear", "getitem"), ("getitem", "setitem"), ("setitem", "output"),
    }  # fmt: skip


def test_parts_of_one_tensor_come_from_one_node():
    assert edges(net(Chunks)) == {
        ("input", "Linear"), ("Linear", "chunk"), ("chunk", "cat"), ("cat", "output"),
    }  # fmt: skip


NETS = {
    "shared, functional and free parameters": net(Shared),
    "groups, squeeze and excite, transposed": net(SqueezeExcite, shape=(4, 5, 5)),
    "the same, without the branch": net(SqueezeExcite, shape=(4, 6, 6)),
    "attention": sn.Architecture(
        sn.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), input=(5, 8)
    ),
    "recurrent": sn.Architecture(sn.nn.Sequential(sn.nn.LSTM(8, 4, batch_first=True)), (5, 8)),
}


@pytest.mark.parametrize("name", NETS)
def test_nodes_add_up_to_the_cost_models(name):
    architecture = NETS[name]
    g = architecture.graph()
    nodes = [data for _, data in g.nodes(data=True)]
    assert sum(data["params"] for data in nodes) == cm.Parameters().measure(architecture)
    assert sum(data["macs"] for data in nodes) == cm.Macs().measure(architecture)
    assert networkx.is_directed_acyclic_graph(g)
    assert networkx.has_path(g, "input", "output")


def test_a_branch_on_the_shape_is_followed():
    def ops(name):
        return [data["op"] for _, data in NETS[name].graph().nodes(data=True)]

    assert "pad" in ops("groups, squeeze and excite, transposed")
    assert "pad" not in ops("the same, without the branch")


def test_no_tensor_comes_from_nowhere():
    from symnas.spaces.mobilenet import mobilenet_28
    from symnas.spaces.nasbench201 import nasbench201

    for space in (nasbench201(), mobilenet_28()):
        g = space.decode(space.sample(1, seed=5)[0]).graph()
        assert networkx.descendants(g, "input") | {"input"} == set(g)
        assert g.nodes["output"]["shape"] == (10,)


def test_values_on_the_way_need_a_real_run_and_leave_the_generator_alone():
    state = torch.get_rng_state()
    ops = [data["op"] for _, data in net(Asking).graph().nodes(data=True)]
    assert ops == ["input", "abs", "sum", "Linear", "output"]
    assert torch.equal(torch.get_rng_state(), state)


def test_errors_say_what_to_give():
    with pytest.raises(ValueError, match="`input=`"):
        sn.Architecture(sn.nn.Linear(2, 2)).graph()
    with pytest.raises(ValueError, match=r"\(1, 3\).*shape of one"):
        sn.Architecture(sn.nn.Linear(2, 2), input=(3,)).graph()
    with pytest.raises(TypeError, match="int"):
        sn.Architecture(sn.spec(int, 3), input=(3,)).graph()


def test_labels():
    from symnas.architecture.graph import label

    layers = {
        "Conv 3×3, 16→32, /2": nn.Conv2d(16, 32, 3, stride=2),
        "Depthwise 5×5, 8": nn.Conv2d(8, 8, 5, groups=8),
        "Conv 3×3, 8→8, dilated 2": nn.Conv2d(8, 8, 3, dilation=2),
        "Transposed conv 2, 4→2, ×2": nn.ConvTranspose1d(4, 2, 2, stride=2),
        "MaxPool2d 2": nn.MaxPool2d(2),
        "Linear 3→4": nn.Linear(3, 4),
        "Hardswish": nn.Hardswish(),
    }
    assert {text: label(layer) for text, layer in layers.items()} == {t: t for t in layers}
