"""Tables made elsewhere: the file's laws and messages, and TuNAS's published model of a phone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from symnas.cost_models.table import Table
from symnas.cost_models.tunas import TunasProxyless
from symnas.spaces.mobilenet import InvertedBottleneck, mobilenet_28

import symnas as sn
from symnas import cost_models as cm
from symnas.commands.find import UsageError
from symnas.commands.profile import run_profile
from symnas.testing.costs import check_cost_model

DATA = Path(os.environ.get("SYMNAS_DATA", Path(__file__).parents[2] / "shared" / "data"))
KERNEL = DATA / "tunas" / "proxylessnas_search_kernel.b64"


def space():
    kernel, width = sn.oneof([3, 5], name="kernel"), sn.oneof([8, 16, 32], name="width")
    return sn.Space(
        sn.nn.Sequential(
            sn.nn.Conv2d(3, width, kernel),
            sn.oneof([sn.nn.Conv2d(width, 4, sn.oneof([1, 2], name="last")), sn.nn.Identity()]),
        ),
        input=(3, 16, 16),
    )


def data(**changed):
    return {
        "schema": "symnas.cost_table", "version": 1, "name": "latency", "unit": "ms",
        "device": "phone", "bias": 10.0,
        "terms": [
            {"decisions": ["width", "kernel"],
             "costs": {w: {"3": int(w) / 8, "5": int(w) / 4} for w in ("8", "16", "32")}},
            {"decisions": ["last", "kernel"],
             "costs": [{"when": {"last": 1, "kernel": 5}, "cost": 100},
                       {"when": {"last": "(inactive)"}, "cost": 1000}]},
        ],
        **changed,
    }  # fmt: skip


def by_hand(choices):
    cost = 10 + int(choices["width"]) / (8 if choices["kernel"] == "3" else 4)
    if "last" not in choices:
        return cost + 1000
    return cost + 100 * (choices["last"] == "1" and choices["kernel"] == "5")


def test_a_file_costs_what_it_says_on_every_row(tmp_path):
    here, path = space(), tmp_path / "phone.json"
    path.write_text(json.dumps(data()))
    bound = Table.load(path).bind(here)
    names = {d.id: d.name for d in here.decisions}
    (rows,) = here.enumerate()
    for row, cost in zip(rows, bound(rows), strict=True):
        choices = {names[k]: v for k, v in here.decode(row).choices.items()}
        assert cost == by_hand(choices)
    assert (bound.name, bound.unit, bound.device) == ("latency", "ms", "phone")
    assert bound.range()[:2] == (11.0, 1018.0)
    check_cost_model(Table.from_data(data()), here, noise=1e-12)


def test_parts_of_a_space_cost_what_they_do_in_it(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(data()))
    whole, table = space(), Table.load(path)
    for part in (whole.restrict({"width": [8, 32]}), whole.fix({"kernel": 5})):
        rows = np.concatenate(list(part.enumerate()))
        found = table.bind(part)
        assert found(rows) == pytest.approx(table.bind(whole)(part.lift(rows)))
        assert found.range().exact


def test_save_and_load_are_inverse(tmp_path):
    table = Table.from_data(data(notes="Größe", error={"predicted": [1.0], "measured": [1.5]}))
    assert Table.load(table.save(tmp_path / "t.json")) == table
    assert table.describe() != Table.from_data(data()).describe()
    assert table.describe() == Table.load(tmp_path / "t.json").describe()


def test_another_machine_loads_the_same_cost(tmp_path):
    here = mobilenet_28()
    bound = cm.Macs().bind(here)
    path = Table.from_bound(bound).save(tmp_path / "macs.json")
    there = Table.load(path).bind(mobilenet_28())
    rows = here.sample(200, seed=1)
    assert np.allclose(there(rows), bound(rows), rtol=1e-12)
    assert all("[" not in d for term in Table.load(path).terms for d in term.decisions)


def test_a_measured_cost_is_no_table():
    measured = cm.Latency(by="network").bind(space())
    with pytest.raises(ValueError, match=r"latency\) must be a table"):
        Table.from_bound(measured)


def test_safety_comes_from_the_held_out_networks_of_the_file():
    error = {"predicted": [1.0] * 30, "measured": [1.25] * 30}
    here = space()
    bound = Table.from_data(data(error=error)).bind(here)
    rows = here.sample(5)
    assert np.allclose(bound.upper(0.9)(rows), 1.25 * bound(rows))


def change(path, value):
    changed = json.loads(json.dumps(data()))
    *way, last = path
    inner = changed
    for key in way:
        inner = inner[key]
    inner[last] = value
    return changed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"the table \(\[\]\) must be an object with the fields schema"),
        ({"schema": "x"}, r"the field 'version' is missing"),
        (data(color=1), r"the field 'color' is not known"),
        (data(version=2), r"must be 'symnas.cost_table' and 1"),
        (data(unit=""), r"unit \(''\) must be a text that is not empty"),
        (data(bias="3"), r"bias \('3'\) must be a finite number"),
        (data(bias=float("nan")), r"bias \(nan\) must be a finite number"),
        (data(terms={}), r"terms \({}\) must be a list"),
        (data(error={"predicted": [1]}), r"error: the field 'measured' is missing"),
        (data(error={"predicted": [1], "measured": []}), r"must have as many"),
        (change(["terms", 0, "decisions"], []), r"terms\[0\].decisions \(\[\]\) must be a list of"),
        (change(["terms", 0, "costs"], 3), r"terms\[0\].costs \(3\) must be an object nested"),
        (change(["terms", 0, "costs", "8", "5"], True), r"terms\[0\].costs\['8'\]\['5'\] \(True\)"),
        (change(["terms", 0, "costs", "16"], 1.0), r"for each label of 'kernel'"),
        (change(["terms", 1, "costs", 0, "cost"], None), r"terms\[1\].costs\[0\].cost \(None\)"),
        (change(["terms", 1, "costs", 0, "when"], {"width": 8}), r"when\['width'\] \(8\) must be"),
        (change(["terms", 1, "costs", 0, "when"], {"last": "(inactive)"}), r"stated once"),
    ],
)
def test_a_wrong_file_says_where(content, message, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"wrong\.json: .*{message}"):
        Table.load(path)


@pytest.mark.parametrize("text", ["{", '{"name": 1, "name": 2}', ""])
def test_a_file_that_is_not_json_is_told(text, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"wrong\.json must be a JSON file"):
        Table.load(path)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"decisions": ["kernal"], "costs": []}, r"terms\[0\].*no decision 'kernal'.*'kernel'"),
        ({"decisions": ["kernel"], "costs": {"3": 1}}, r"no cost for kernel=5 \(1 are missing\)"),
        ({"decisions": ["kernel"], "costs": {"3": 1, "4": 2}}, r"'4' is no label.*'3', '5'"),
        (
            {"decisions": ["kernel"], "costs": [{"when": {"kernel": "(inactive)"}, "cost": 1}]},
            r"is no label of the decision 'kernel'",
        ),
        ({"decisions": ["kernel", "args[0].kernel_size"], "costs": []}, r"one decision twice"),
    ],
)
def test_what_does_not_fit_the_space_is_told_when_bound(term, message):
    with pytest.raises(ValueError, match=message):
        Table("latency", "ms", terms=[term]).bind(space())


def test_a_table_knows_architectures_of_spaces_only():
    with pytest.raises(sn.SymnasError, match="stands outside any space"):
        Table.from_data(data())(sn.Architecture(sn.nn.Linear(3, 3), input=(3,)))


def test_profile_writes_what_another_machine_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SYMNAS_CACHE", str(tmp_path / "cache"))
    bound = run_profile(space(), tmp_path / "here.json", runtime="torch", networks=2)
    rows = space().sample(6)
    loaded = Table.load(tmp_path / "here.json").bind(space())
    assert np.allclose(loaded(rows), bound(rows)) and loaded.error.n == bound.error.n == 2
    said = capsys.readouterr().out
    assert "distinct operations" in said and "Written: " in said and "held-out" in said
    with pytest.raises(UsageError, match="the folder"):
        run_profile(space(), tmp_path / "no" / "here.json", runtime="torch")


# TuNAS ------------------------------------------------------------------------------------------

WIDTHS = (32, 40, 80, 96, 192, 320)
LAYERS = (4, 4, 4, 4, 4, 1)
STRIDES = (2, 2, 2, 1, 2, 1)


def proxyless():
    """The ProxylessNAS space: kernel 3, 5, 7, expansion 3, 6, layers that can be skipped."""

    def block(stage, layer, before):
        made = InvertedBottleneck(
            before, WIDTHS[stage], sn.oneof([3, 5, 7], name=f"kernel {stage}.{layer}"),
            sn.oneof([3, 6], name=f"expansion {stage}.{layer}"),
            STRIDES[stage] if layer == 0 else 1,
        )  # fmt: skip
        return made if layer == 0 else sn.oneof([made, sn.nn.Identity()])

    layers = [InvertedBottleneck(32, 16, sn.oneof([3, 5, 7], name="kernel"), 1)]
    before = 16
    for stage, count in enumerate(LAYERS):
        for layer in range(count):
            layers.append(block(stage, layer, before))
            before = WIDTHS[stage]
    return sn.Space(
        sn.nn.Sequential(sn.nn.Conv2d(3, 32, 3, 2, 1), *layers, sn.nn.Conv2d(320, 1280, 1)),
        input=(3, 224, 224),
    )


def row_of(here, operations):
    """A row from operations as TuNAS numbers them: expansion major, kernel minor, 6 to skip."""
    values = {"kernel": operations[0]}
    skips = []
    places = [(s, b) for s, count in enumerate(LAYERS) for b in range(count)]
    for (stage, layer), operation in zip(places, operations[1:], strict=True):
        skipped = operation == 6
        if layer > 0:
            skips.append(int(skipped))
        values[f"kernel {stage}.{layer}"] = -1 if skipped else operation % 3
        values[f"expansion {stage}.{layer}"] = -1 if skipped else operation // 3
    left = iter(skips)
    return [values[d.name] if d.name else next(left) for d in here.decisions]


# ProxylessNAS-Mobile, and the network of TuNAS's own test of its cost model, which says 84 ms.
MOBILE = (0, 1, 0, 6, 6, 2, 0, 1, 1, 5, 1, 1, 1, 4, 1, 1, 1, 5, 5, 2, 2, 5)
REFERENCE = (0, 1, 6, 6, 6, 4, 1, 1, 0, 5, 4, 5, 5, 4, 0, 1, 1, 4, 2, 0, 1, 5)
needs_data = pytest.mark.skipif(not KERNEL.is_file(), reason=f"{KERNEL} is absent")


@needs_data
def test_tunas_model_gives_the_published_latency():
    here = proxyless()
    bound = TunasProxyless.load(KERNEL).bind(here)
    rows = np.array([row_of(here, REFERENCE), row_of(here, MOBILE)])
    assert all(here.is_row(row) for row in rows)
    assert bound(rows) == pytest.approx([84.0167, 84.4162], abs=1e-3)
    low, high = bound.range()[:2]
    assert low < 84 < high and bound.table.largest == 3  # with whether the layer is skipped


@needs_data
def test_tunas_model_is_a_table_as_any_other(tmp_path):
    here = proxyless()
    bound = TunasProxyless.load(KERNEL).bind(here)
    other = Table.load(Table.from_bound(bound).save(tmp_path / "pixel1.json")).bind(here)
    rows = here.sample(500, seed=0)
    assert np.allclose(other(rows), bound(rows)) and other.device == "Pixel 1"


def test_tunas_model_reads_weights_in_order_of_layers():
    here = proxyless()
    single = {}
    for position in (0, 3 + 1, 3 + 6 + 6):  # kernel 3; first layer: 3, 6; second layer: skipped
        weights = np.zeros(144)
        weights[position] = 1.0
        bound = TunasProxyless(weights.tolist()).bind(here)
        single[position] = bound([row_of(here, REFERENCE)])[0] - 92.135994
    kernel3, layer, skipped = single.values()
    # REFERENCE: kernel 3 at first, then kernel 5 with expansion 3, then skipped.
    assert (round(kernel3, 9), round(layer, 9), round(skipped, 9)) == (1.0, 0.0, 1.0)


def test_a_wrong_weight_file_is_told(tmp_path):
    for content, message in (("?", "must hold base64"), ("AAAAAA==", "must be 144")):
        (tmp_path / "w").write_text(content)
        with pytest.raises(ValueError, match=message):
            TunasProxyless.load(tmp_path / "w")
    with pytest.raises(ValueError, match=r"no decision 'kernel 0\.0'"):
        TunasProxyless([0.0] * 144).bind(
            sn.Space(sn.nn.Conv2d(3, 8, sn.oneof([3, 5, 7], name="kernel")))
        )
