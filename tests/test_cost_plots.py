"""Figures of costs: what they are drawn from, their words and units, and what they refuse."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from symnas.spaces import mobilenet_28

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm
from symnas.costs.accuracy import Accuracy
from symnas.errors import MissingExtra
from symnas.reports import cost_errors as errors
from symnas.reports import cost_plots as plots
from symnas.reports.cost_layers import layer_costs, module_costs
from symnas.reports.cost_shares import cost_share
from symnas.reports.measures import Limit
from symnas.searching.cost_record import drawn

plt = pytest.importorskip("matplotlib.pyplot")
plt.switch_backend("Agg")


class Weights(sn.CostModel):
    """Written with `layer`, as people do."""

    unit = "weights"

    def layer(self, module, inputs, outputs):
        return sum(p.numel() for p in module.parameters())


class Whole(sn.CostModel):
    """Of which nothing is known layer by layer."""

    unit = "things"

    def measure(self, architecture):
        return 7.0


class Residual(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = torch.nn.Linear(width, width)

    def forward(self, x):
        return torch.nn.functional.relu(x + self.body(x))


@pytest.fixture(scope="module")
def space():
    return mobilenet_28()


@pytest.fixture(scope="module")
def network(space):
    return space.decode(space.sample(1, seed=3)[0])


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def texts(ax):
    """All that is written on a figure."""
    ax.figure.canvas.draw()
    legend = [] if ax.legend_ is None else [text.get_text() for text in ax.legend_.get_texts()]
    labels = [text.get_text() for text in (*ax.get_yticklabels(), *ax.get_xticklabels())]
    return [ax.get_title("left"), ax.get_xlabel(), ax.get_ylabel(), *labels, *legend]


# Layers.


@pytest.mark.parametrize(
    "cost",
    [cm.Macs(), cm.Parameters(), Weights(), 2 * cm.Macs() + 3 * cm.Macs(name="more")],
    ids=str,
)
def test_layers_add_up_to_the_cost_at_every_depth(cost, network):
    whole = cost(network)
    assert sum(layer.cost for layer in layer_costs(cost, network)) == pytest.approx(whole)
    for options in ({}, {"depth": 1}, {"depth": 9}, {"most": 3}, {"most": 1}):
        modules = module_costs(cost, network, **options)
        assert sum(module.cost for module in modules) == pytest.approx(whole)
        assert len(modules) <= options.get("most", 24)


def test_layers_come_in_order_of_execution(network):
    module, called = network.build().eval(), []
    for path, part in module.named_modules():
        if not list(part.children()):
            part.register_forward_hook(lambda *_, path=path: called.append(path))
    module(torch.zeros(1, *network.input))
    costs = layer_costs(Weights(), network)
    assert [cost.path for cost in costs if cost.kind[0].isupper()] == called


def test_operations_belong_to_the_module_that_runs_them():
    net = sn.Architecture(sn.spec(Residual, 4), input=(4,))
    costs = layer_costs(cm.Roofline(peak=1e9, bandwidth=1e9), net)
    assert [(c.path, c.kind, c.group) for c in costs] == [
        ("body", "Linear", "linear"),
        ("", "add", "combine"),
        ("", "relu", "activate"),
    ]


def test_layers_of_what_is_no_sum_are_refused(network):
    for cost in (Whole(), sn.maximum(cm.Macs(), cm.Macs(name="b")), cm.PeakActivations()):
        with pytest.raises(ValueError, match="no sum over the layers"):
            layer_costs(cost, network)
    with pytest.raises(ValueError, match="shape of one example"):
        layer_costs(cm.Macs(), sn.Architecture(sn.nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="`depth`"):
        module_costs(cm.Macs(), network, depth=0)


# Shares.


def test_share_is_that_of_all_architectures():
    widths = [4, 8, 12, 16, 20]
    space = sn.Space(
        sn.nn.Sequential(sn.nn.Linear(4, sn.oneof(widths)), sn.nn.Flatten()), input=(4,)
    )
    bound = cm.Macs().bind(space)
    for limit, expected in ((32.0, 0.4), (15.0, 0.0), (80.0, 1.0)):
        found = cost_share(bound, limit, n=50)
        assert (found.lower, found.upper) == pytest.approx((expected, expected))
        assert found.certain
    both = cost_share(bound, [cm.Macs() >= 32, cm.Macs() < 80], n=4000)
    assert both.lower - 1e-9 <= 0.6 <= both.upper + 1e-9


def test_share_that_no_sample_would_find(space):
    bound = cm.Macs().bind(space)
    found = cost_share(bound, bound.range().low, n=500)
    assert (found.costs > bound.range().low).all()
    assert 0 < found.lower <= found.upper < 1e-4 and found.certain


def test_share_of_measured_costs_is_an_interval():
    space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])), input=(4,))
    found = cost_share(Whole().bind(space), Whole() <= 7, n=20)
    assert not found.certain and 0.8 < found.lower < found.upper == 1.0


def test_bad_limits_are_named(space):
    bound = cm.Macs().bind(space)
    with pytest.raises(ValueError, match="on 'parameters'"):
        cost_share(bound, cm.Parameters() <= 3)
    with pytest.raises(ValueError, match="must be a number, in MACs"):
        cost_share(bound, "small")
    with pytest.raises(ValueError, match="`n`"):
        cost_share(bound, n=1)


# Figures.


def test_breakdown_has_names_units_and_shares(network, tmp_path):
    ax = plots.plot_cost_breakdown(cm.Macs(), network)
    written = texts(ax)
    assert ax.get_xlabel() == "MACs"
    assert any(text.endswith("InvertedBottleneck") for text in written)
    assert any(text.startswith("depthwise or grouped convolution: ") for text in written)
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
    assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(cm.Macs()(network))
    assert max(ends) < ax.get_xlim()[1]
    ax.figure.savefig(tmp_path / "cost.png")
    assert (tmp_path / "cost.png").stat().st_size > 1000


def test_predictions_within_and_beyond_the_band():
    error = Accuracy([1.0, 2.0, 3.6], [1.05, 2.0, 3.0])
    ax = errors.plot_predicted_against_measured(error, "latency", "ms")
    assert ax.get_xlabel() == "measured latency (ms)"
    assert "within ±10%: 66.7%" in texts(ax) and "further off: 33.3%" in texts(ax)
    assert "mean relative error 8.3%, Spearman 1.000, n = 3" in ax.get_title("left")
    assert ax.get_xlim() == ax.get_ylim()
    wide = errors.plot_predicted_against_measured(Accuracy([1.0, 90.0], [1.0, 100.0]))
    assert wide.get_xscale() == wide.get_yscale() == "log"


def test_calibration_draws_the_safety_factor():
    generator = np.random.default_rng(0)
    predicted = generator.uniform(1, 2, 80)
    error = Accuracy(predicted, predicted * generator.uniform(0.9, 1.2, 80))
    ax = errors.plot_cost_calibration(error, q=0.9, name="latency", unit="ms")
    assert f"upper(0.9): {error.quantile(0.9):.3f} × prediction" in texts(ax)
    assert ax.get_ylabel() == "measured / predicted"


def test_distribution_writes_the_share_and_the_limit(space):
    bound = cm.Macs().bind(space)
    ax = plots.plot_cost_distribution(bound, limit=1_500_000, n=300)
    title = ax.get_title("left").replace("\n", ": ")
    share = cost_share(bound, 1_500_000)
    assert title == f"macs ≤ 1,500,000: kept by {share} of random architectures"
    assert "share of 300 random architectures" in texts(ax) and ax.get_xlabel() == "MACs"
    heights = ax.patches[0].get_data().values
    assert heights.sum() == pytest.approx(1.0)
    far = plots.plot_cost_distribution(bound, limit=cm.Macs() >= 9e7, n=50)
    low, high = far.get_xlim()
    assert low < 9e7 < high and "kept by 0% of" in far.get_title("left")


def test_figures_of_what_cannot_be_shown(network, monkeypatch):
    space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])), input=(4,))
    with pytest.raises(ValueError, match="nothing was held out"):
        errors.plot_predicted_against_measured(Whole().bind(space))
    with pytest.raises(ValueError, match="`q`"):
        errors.plot_cost_calibration(Accuracy([1.0], [1.0]), q=2)
    one = sn.Space(sn.nn.Linear(4, 8), input=(4,))
    plots.plot_cost_distribution(cm.Macs().bind(one), limit=3, n=5).figure.canvas.draw()
    nothing = sn.Architecture(sn.nn.Flatten(), input=(4,))
    plots.plot_cost_breakdown(cm.Macs(), nothing).figure.canvas.draw()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtra, match=r"symnas\[plot\]"):
        plots.plot_cost_breakdown(cm.Macs(), network)


# The page about a study.


@pytest.fixture(scope="module")
def study(space, tmp_path_factory):
    macs = cm.Macs()
    return sn.search(
        space,
        alg.RandomSearch(),
        lambda architecture: 0.5,
        maximize="quality",
        subject_to=[macs <= 1_500_000, sn.metric("quality") >= 0.25],
        reward=sn.rewards.Absolute(cm.Parameters(), 20_000) & sn.rewards.MnasHard(macs, 1_000_000),
        trials=6,
        study=str(tmp_path_factory.mktemp("study") / "study.db"),
        progress=False,
    )


def test_study_records_how_costs_vary_and_what_limits_them(space, study):
    record = sn.Study.open(study.location).record
    assert record["drawn"] == drawn(space, *bound(space))
    assert sum(record["drawn"]["costs"]["macs"]["counts"]) == record["drawn"]["n"] == 2000
    share = cost_share(cm.Macs().bind(space), 1_500_000)
    assert record["drawn"]["kept"] == pytest.approx([share.lower, share.upper])
    assert Limit.of(record) == [
        Limit("macs", "<=", 1_500_000, "MACs", "costs"),
        Limit("quality", ">=", 0.25, None, "metrics"),
    ]
    older = {"constraints": record["constraints"]}
    assert [(one.name, one.relation, one.value) for one in Limit.of(older)] == [
        ("macs", "<=", 1_500_000),
        ("quality", ">=", 0.25),
    ]


def bound(space):
    costs = {cost.name: cost.bind(space) for cost in (cm.Macs(), cm.Parameters())}
    return costs, sn.Constraints.of(cm.Macs() <= 1_500_000).bind(space)


def test_measured_costs_are_not_recorded():
    space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])), input=(4,))
    assert drawn(space, {"whole": Whole().bind(space)}, None)["costs"] == {}


def test_page_shows_costs_and_the_reward(study, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("there is no chromium here")
    path = study.report(tmp_path / "report.html")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    command = [browser, *flags, "--dump-dom", path.as_uri()]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    page = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert 'data-ready="yes"' in page and "could not be drawn" not in page
    labels = re.findall(r'aria-label="Histogram of ([^"]*)"', page)
    assert len(labels) == 2 and "limit ≤ 1,500,000" in labels[0] and "limit" not in labels[1]
    assert "quality − 0.1 × |parameters / 20,000 − 1|" in page
    assert f"Where they come from in trial {study.best.number}" in page
