"""ONNX files: they compute what torch computes, and exporting leaves everything as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import symnas as sn
from symnas.architecture.onnx import to_onnx

onnxruntime = pytest.importorskip("onnxruntime")


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(4, 2)

    def forward(self, x):
        return self.l(x), {"twice": x * 2}


class SecondLies(nn.Module):
    def forward(self, x):
        return x, x * x.shape[0] if x.shape[0] > 2 else x


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand(1)


def run(model, x):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x.numpy()})


def test_all_outputs_are_exported_and_compared():
    module = Several()
    x = torch.randn(7, 4)
    first, second = run(to_onnx(module, input=(4,)), x)
    torch.testing.assert_close(torch.from_numpy(first), module(x)[0])
    torch.testing.assert_close(torch.from_numpy(second), x * 2)
    with pytest.raises(sn.SymnasError, match="output 1: off by"):
        to_onnx(SecondLies(), input=(4,))
    assert to_onnx(SecondLies(), input=(4,), batch=4)  # right for the batch that it is made for


def test_a_network_of_chance_is_refused():
    for seed in range(5):  # 3 draws nearly what the file draws
        torch.manual_seed(seed)
        with pytest.raises(sn.SymnasError, match="chance"):
            to_onnx(Noisy(), input=(4,))


def test_what_no_tracer_exports_is_captured_in_silence(capfd):
    pytest.importorskip("onnxscript")
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(4))
    x = torch.randn(5, 1, 11, 11)  # 9 pixels do not divide into 4
    (found,) = run(to_onnx(module, input=(1, 11, 11)), x)
    torch.testing.assert_close(torch.from_numpy(found), module(x), rtol=1e-3, atol=1e-4)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_precisions(dtype):
    assert to_onnx(nn.Linear(4, 2).to(dtype), input=(4,))


def test_everything_is_left_as_it_was(tmp_path):
    module = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).train()
    module[1].eval()  # modes may differ within a network
    before = {k: v.clone() for k, v in module.state_dict().items()}
    places = {k: v.data_ptr() for k, v in module.state_dict().items()}
    state = torch.get_rng_state()
    assert to_onnx(module, tmp_path / "net.onnx", input=(4,)) == tmp_path / "net.onnx"
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]  # weights within
    assert [part.training for part in module.modules()] == [True, True, False, True]
    assert {k: v.data_ptr() for k, v in module.state_dict().items()} == places
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
    sn.Architecture(sn.nn.Linear(4, 2), input=(4,)).to_onnx(check=False)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError):
        to_onnx(module, input=(5,))
    assert module.training


def test_weights_of_an_architecture_are_those_of_build():
    architecture = sn.Architecture(sn.nn.Linear(4, 2), input=(4,))
    torch.manual_seed(3)
    model = architecture.to_onnx()
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    (found,) = run(model, x)
    torch.testing.assert_close(torch.from_numpy(found), architecture.build()(x).detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input": (4,), "batch": 0}, "`batch`"),
        ({"input": (4,), "batch": True}, "`batch`"),
        ({"input": 4}, "`input`"),
        ({"input": (0,)}, "`input`"),
        ({"input": (5,)}, r"input of shape \(2, 5\)"),
        ({"input": (4,), "path": "no/such/folder/net.onnx"}, "`path`.*must exist"),
        ({}, "`input`"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        to_onnx(nn.Linear(4, 2), **options)


def test_wrong_networks_are_named():
    with pytest.raises(ValueError, match="meta device"):
        to_onnx(nn.Linear(4, 2, device="meta"), input=(4,))
    with pytest.raises(TypeError, match="makes a int"):
        sn.Architecture(sn.spec(int, 3), input=(4,)).to_onnx()


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(sn.MissingExtra, match=r"onnxruntime.*symnas\[onnx\]"):
        to_onnx(nn.Linear(4, 2), input=(4,))
    assert to_onnx(nn.Linear(4, 2), input=(4,), check=False)
