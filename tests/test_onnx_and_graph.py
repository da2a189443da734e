"""Exports that must agree with torch: ONNX files and graphs."""

from __future__ import annotations

import networkx
import pytest
import torch

import symnas as sn
from symnas import cost_models as cm


@sn.register
class Residual(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.gate = torch.nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = torch.relu(self.conv(x))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        return x + y if x.shape == y.shape else y


@sn.register
class Branches(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Conv2d(1, 4, 1)
        self.b = torch.nn.Conv2d(1, 4, 3, padding=1, stride=1)

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], 1)


def network():
    return sn.Architecture(
        sn.nn.Sequential(
            sn.spec(Branches), sn.spec(Residual, 8), sn.nn.BatchNorm2d(8),
            sn.nn.AdaptiveAvgPool2d(1), sn.nn.Flatten(), sn.nn.Linear(8, 3),
        ),
        input=(1, 6, 6),
    )  # fmt: skip


def test_graph_follows_the_tensors():
    g = network().graph()
    ops = [data["op"] for _, data in g.nodes(data=True)]
    assert ops == [
        "input", "Conv2d", "Conv2d", "cat", "Conv2d", "relu", "mean", "Conv2d", "sigmoid", "mul",
        "add", "BatchNorm2d", "AdaptiveAvgPool2d", "Flatten", "Linear", "output",
    ]  # fmt: skip
    named = {data["op"]: node for node, data in g.nodes(data=True)}
    assert networkx.is_directed_acyclic_graph(g)
    assert g.in_degree(named["cat"]) == 2
    assert set(g.predecessors(named["add"])) == {named["cat"], named["mul"]}
    assert g.nodes[named["cat"]]["shape"] == (8, 6, 6)
    assert g.nodes[named["Linear"]]["label"] == "Linear 8→3"


def test_graph_adds_up_to_the_costs():
    g = network().graph()
    params = sum(d["params"] for _, d in g.nodes(data=True))
    macs = sum(d["macs"] for _, d in g.nodes(data=True))
    assert params == cm.Parameters().measure(network())
    assert macs == cm.Macs().measure(network())


@pytest.mark.parametrize("batch", ["dynamic", 1])
def test_onnx_agrees_with_torch(batch, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    module = network().build().train()
    module[2].running_mean += 1
    file = tmp_path / "net.onnx"
    from symnas.architecture.onnx import to_onnx

    assert to_onnx(module, file, input=(1, 6, 6), batch=batch) == file
    assert module.training
    session = onnxruntime.InferenceSession(file)
    x = torch.randn(1 if batch == 1 else 5, 1, 6, 6)
    found = session.run(None, {"input": x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), module.eval()(x), rtol=1e-3, atol=1e-4)


@sn.register
class BatchBranch(torch.nn.Module):
    def forward(self, x):
        return x * x.shape[0] if x.shape[0] > 2 else x


def test_onnx_that_computes_something_else_is_refused():
    pytest.importorskip("onnxruntime")
    with pytest.raises(sn.SymnasError, match=r"something else|cannot be exported"):
        sn.Architecture(sn.spec(BatchBranch), input=(4,)).to_onnx()


def test_onnx_without_a_shape_says_what_to_give():
    with pytest.raises(ValueError, match="`input`"):
        sn.Architecture(sn.nn.Linear(2, 2)).to_onnx()
