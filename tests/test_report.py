"""The page about a study and its plots: what they hold, and what a browser makes of the page."""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
import shutil
import sys
import time
import zlib

import attrs
import networkx as nx
import numpy as np
import pytest
from report_studies import broken, fake_study, small_space
from symnas.spaces.mobilenet import mobilenet_28
from symnas.spaces.nasbench201 import nasbench201

import symnas as sn
from symnas import algorithms as alg
from symnas.errors import MissingExtra
from symnas.reports import content, page, plots
from symnas.reports.association import associations
from symnas.reports.drawing import arrange, draw
from symnas.reports.lanes import place
from symnas.reports.measures import Measure, front, measures

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)><!--{{data}}"


def parts(path):
    """The page's text, its data and what is compressed in it."""
    text = path.read_text()
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 3  # data, compressed data, program
    return text, json.loads(scripts[0]), json.loads(zlib.decompress(base64.b64decode(scripts[1])))


def hostile_study(trials=12):
    space = sn.Space({HOSTILE: sn.oneof([HOSTILE, "x" * 3000]), "b": sn.oneof(["p", "q"])})
    return fake_study(space, trials, fail=lambda n: HOSTILE if n % 4 == 1 else None, name=HOSTILE)


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    study = fake_study(mobilenet_28(), 24, fail=broken)
    path = tmp_path_factory.mktemp("report") / "mobile.html"
    return study, page.write(study, path, final={"test accuracy": 0.981, "epochs": 30})


# What the page holds.


def test_page_refers_to_nothing_outside(mobile):
    text, _, _ = parts(mobile[1])
    assert set(re.findall(r"https?://[^\s\"'<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<link|<iframe|\bsrc=|@import|url\(|\bfetch\(|XMLHttpRequest", text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_hostile_text_is_only_text(tmp_path):
    text, data, _ = parts(page.write(hostile_study(), tmp_path / "page.html"))
    assert "alert(1)</script>" not in text and "<img" not in text
    assert data["name"] == HOSTILE  # and is not changed where it is data
    assert data["failures"][0]["first"] == HOSTILE


@pytest.mark.parametrize("trials", [0, 1, 2])
@pytest.mark.parametrize("fail", [None, "it broke", "NaN"])
@pytest.mark.parametrize("costs", [(), ("latency",)])
def test_any_study_has_a_page(tmp_path, trials, fail, costs):
    study = fake_study(small_space(), trials, fail=lambda n: fail, costs=costs)
    _, data, packed = parts(page.write(study, tmp_path / "page.html"))
    assert len(data["trials"]["number"]) == len(packed["choices"]) == trials
    assert (data["best"] is None) == (trials == 0 or fail is not None)
    assert sum(group["count"] for group in data["failures"]) == (
        trials if fail == "it broke" else 0
    )


def test_a_page_of_5000_trials_is_small_and_details_the_best(tmp_path):
    study = fake_study(mobilenet_28(), 5000, text="{}")
    path = page.write(study, tmp_path / "page.html")
    _, data, packed = parts(path)
    assert path.stat().st_size < 600_000
    assert len(data["trials"]["number"]) == len(packed["choices"]) == 5000
    ranked = sorted(study.trials, key=lambda trial: -trial.scores[0])
    best = {str(trial.number) for trial in ranked[: content.DETAILED]}
    assert best <= set(packed["details"])
    assert len(packed["details"]) == data["detailed"] < 2 * content.DETAILED


def test_page_is_written_without_the_code_of_the_space(tmp_path):
    gone = json.loads(fake_study(mobilenet_28(), 1).trials[0].text)
    text = json.dumps(gone).replace("InvertedBottleneck", "Gone")
    _, _, packed = parts(page.write(fake_study(mobilenet_28(), 3, text=text), tmp_path / "a.html"))
    for detail in packed["details"].values():
        assert detail["drawing"] is None and "Gone" in detail["why"]["drawing"]


def test_choices_of_every_trial_can_be_read_back(mobile):
    study, path = mobile
    _, data, packed = parts(path)
    for trial, row in zip(study.trials, packed["choices"], strict=True):
        pairs = zip(data["record"]["decisions"], row, strict=True)
        assert trial.choices == {d["id"]: d["labels"][i] for d, i in pairs if i >= 0}


def test_page_keeps_the_place_of_the_study_to_itself(mobile):
    text, data, _ = parts(mobile[1])
    assert data["file"] == "search.db" and "private" not in text


def test_bad_arguments(tmp_path):
    study = fake_study(small_space(), 1)
    with pytest.raises(IsADirectoryError, match=r"report\.html"):
        page.write(study, tmp_path)
    with pytest.raises(TypeError, match="final"):
        page.write(study, tmp_path / "a.html", final=[1])
    assert list(tmp_path.iterdir()) == []


def test_report_of_a_real_study(tmp_path):
    study = sn.search(
        small_space(), alg.RandomSearch(), lambda architecture: architecture.program.width,
        maximize="width", trials=5, study=tmp_path / "s.db", progress=False,
    )  # fmt: skip
    text, data, _ = parts(study.report(tmp_path / "deep" / "report.html"))
    assert data["best"] == study.best.number and data["record"]["seed"] == 0
    assert "All 5 trials finished" in text


# Fronts, associations, layouts.


@pytest.mark.parametrize("directions", itertools.product(["maximize", "minimize"], repeat=2))
def test_front_is_what_no_point_beats(directions):
    points = np.random.default_rng(0).integers(0, 9, (2, 40)).astype(float)
    points[0, 3] = math.nan
    signs = [1 if d == "maximize" else -1 for d in directions]
    scores = points * np.array(signs)[:, None]
    found = front(*points, *directions)
    wanted = {
        tuple(points[:, i])
        for i in range(40)
        if not np.isnan(scores[:, i]).any()
        and not any(
            (scores[:, j] >= scores[:, i]).all() and (scores[:, j] > scores[:, i]).any()
            for j in range(40)
        )
    }
    assert {tuple(points[:, i]) for i in found} == wanted and len(found) == len(wanted)
    assert list(points[0, found]) == sorted(points[0, found])


def test_association_tells_a_deciding_decision_from_an_idle_one():
    space = sn.Space({"idle": sn.oneof(["a", "b"]), "key": sn.oneof(["x", "y", "z"])})
    study = fake_study(space, 200)
    for trial in study.trials:
        trial.metrics["accuracy"] = float(ord(trial.choices["key"]))
    first, second = associations(study.decisions, study.trials, Measure("accuracy", "metrics"))
    assert study.decisions[first.decision].id == "key" and first.share == pytest.approx(1)
    assert dict(zip(first.labels, first.means, strict=True)) == {"x": 120, "y": 121, "z": 122}
    assert second.share < 0.05 and sum(second.counts) == 200


@pytest.mark.parametrize("seed", range(20))
def test_operations_stand_below_what_they_use_and_apart(seed):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 15))
    edges = sorted(
        {(int(generator.integers(-1, node)), node) for node in range(count) for _ in range(3)}
    )
    layers, lanes = place(count, edges)
    assert all(layers[target] > (layers[source] if source >= 0 else -1) for source, target in edges)
    assert len(set(zip(layers, lanes, strict=True))) == count


@pytest.mark.parametrize("space", [mobilenet_28(), nasbench201()], ids=["mobilenet", "nasbench201"])
def test_drawing_has_the_whole_network(space):
    for row in space.sample(3, seed=5):
        architecture = space.decode(row)
        graph = architecture.graph()
        drawing = draw(architecture)
        for name in ("params", "macs"):
            drawn = sum(
                card.times * sum(getattr(o, name) for o in card.operations)
                for card in drawing.cards
            )
            assert drawn == getattr(drawing, name) == sum(d for _, d in graph.nodes(data=name))
        convolutions = sum("Conv" in op for _, op in graph.nodes(data="op"))
        kinds = [(c.times, o.kind) for c in drawing.cards for o in c.operations]
        assert convolutions == sum(n for n, kind in kinds if kind in ("convolution", "depthwise"))
    assert max(card.times for card in drawing.cards) == (1 if space.name == "mobilenet" else 5)


def test_residual_block_is_a_card_with_a_skip():
    space = mobilenet_28()
    deep = [d.id for d in space.decisions if d.id.endswith("times")]
    architecture = space.decode(next(r for r in space.sample(99) if _depths(space, r, deep) > 5))
    blocks = [c for c in draw(architecture).cards if c.title == "InvertedBottleneck"]
    assert any((-1, len(c.operations) - 1) in c.edges for c in blocks)


def _depths(space, row, ids):
    return sum(int(space.decode(row).choices[identity]) for identity in ids)


def test_drawing_of_a_graph_without_bottlenecks():
    """Every operation uses all before it, so there is nowhere to cut but at the ends."""
    graph = nx.DiGraph()
    for node in range(20):
        graph.add_node(node, op="Conv2d", label=f"Conv {node}", shape=(4,), params=1, macs=2)
        graph.add_edges_from((before, node) for before in range(node))
    drawing = arrange(graph)
    assert sum(len(card.operations) for card in drawing.cards) == 20
    assert drawing.params == 20 and len(max(drawing.cards, key=lambda c: len(c.edges)).edges) > 150


# Plots.


def test_plots_name_their_axes_with_units():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    study = fake_study(mobilenet_28(), 40, fail=broken, text="{}")
    ax = plots.progress(study)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("trial", "accuracy")
    own = ax.figure.add_subplot()
    ax = plots.pareto(study, ax=own)
    assert ax is own and (ax.get_xlabel(), ax.get_ylabel()) == ("latency (ms)", "accuracy")
    steps = next(line for line in ax.lines if len(line.get_xdata()) > 2)
    known = {m.name: m for m in measures(study, study.trials)}
    done = [trial for trial in study.trials if trial.state == "done"]
    x, y = known["latency"].column(done), known["accuracy"].column(done)
    assert list(steps.get_xdata()) == list(x[front(x, y, "minimize", "maximize")])
    assert plots.pareto(study, x="loss").get_xlabel() == "loss"
    with pytest.raises(ValueError, match=r"'speed'.*'accuracy', 'latency', 'loss'"):
        plots.pareto(study, x="speed")
    with pytest.raises(ValueError, match=r"plots\.progress"):
        plots.pareto(fake_study(small_space(), 3, costs=()))
    assert plots.progress(fake_study(small_space(), 0)).get_ylabel() == "accuracy"


def test_plots_without_matplotlib_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"symnas\[plot\]"):
        plots.progress(fake_study(small_space(), 2))


# In a browser.


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("there is no chromium with chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1000"):
        options.add_argument(flag)
    service = webdriver.chrome.service.Service(driver)
    made = webdriver.Chrome(options=options, service=service)
    yield made
    made.quit()


def opened(browser, path):
    """Opens a page, and sees that it is complete, quiet and loads nothing."""
    browser.get(path.resolve().as_uri())
    until(browser, "return document.documentElement.dataset.ready === 'yes'")
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.execute_script("return document.querySelectorAll('script').length") == 3


def until(browser, condition):
    for _ in range(200):
        if browser.execute_script(condition):
            return
        time.sleep(0.05)
    pytest.fail(f"never: {condition}")


def css(browser, selector):
    return browser.find_elements("css selector", selector)


def shown(browser):
    """The trial of the panel, and its choices by the names of the decisions."""
    heading = css(browser, "#panel h3")[0].text
    entries = css(browser, "#panel .choices > div")
    pairs = [[part.text for part in entry.find_elements("css selector", "*")] for entry in entries]
    return int(re.search(r"\d+", heading)[0]), dict(pairs)


def named_choices(study, number):
    names = {d.id: d.name or d.id for d in study.decisions}
    return {names[i]: label for i, label in study.trials[number].choices.items()}


def test_click_on_the_front_shows_that_architecture(browser, mobile):
    study, path = mobile
    opened(browser, path)
    assert shown(browser)[0] == study.best.number
    points = css(browser, "#trade .point.front")
    assert len(points) > 1
    for point in (points[0], points[-1]):
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
        wanted = int(point.get_attribute("data-trial"))
        point.click()
        assert shown(browser) == (wanted, named_choices(study, wanted))
    assert css(browser, "#panel button:not([disabled])")[0].text == "Copy source"


def test_arrow_keys_walk_along_the_front(browser, mobile):
    study, path = mobile
    opened(browser, path)
    chart = css(browser, "#trade .plot svg")[0]
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    chart.send_keys(keys.HOME, keys.ENTER)
    first, _ = shown(browser)
    chart.send_keys(keys.RIGHT, keys.ENTER)
    second, choices = shown(browser)
    latency = [study.trials[number].costs["latency"] for number in (first, second)]
    assert latency[0] < latency[1] and choices == named_choices(study, second)


def test_table_sorts_filters_and_selects(browser, mobile):
    study, path = mobile
    opened(browser, path)

    def column(index):
        return [cell.text for cell in css(browser, f".trials tbody td:nth-child({index})")]

    header = next(b for b in css(browser, ".trials th button") if b.text == "accuracy")
    header.click()
    there = [float(text) for text in column(3) if text != "–"]
    assert there == sorted(there, reverse=True) and len(column(3)) == len(study.trials)
    header.click()
    there = [float(text) for text in column(3) if text != "–"]
    assert there == sorted(there) and column(3)[-1] == "–"  # what is missing stays last
    assert header.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    css(browser, "input[type=search]")[0].send_keys("failed outofmemory")
    failed = [t.number for t in study.trials if "OutOfMemory" in (t.reason or "")]
    assert sorted(map(int, column(1))) == failed
    css(browser, ".trials tbody tr")[0].click()
    assert shown(browser)[0] == int(column(1)[0])
    assert "OutOfMemory" in css(browser, "#panel .reason")[0].text


def test_other_axes_can_be_chosen(browser, mobile):
    study, path = mobile
    opened(browser, path)
    css(browser, "#trade select")[1].find_element("xpath", "./option[. = 'trial number']").click()
    assert css(browser, "#trade .axis-label")[0].text == "trial"
    done = [t for t in study.trials if t.state == "done" and math.isfinite(t.metrics["accuracy"])]
    assert len(css(browser, "#trade .point")) == len(done)


def test_best_network_is_drawn(browser, mobile):
    study, path = mobile
    opened(browser, path)
    drawing = draw(study.best.architecture)
    labels = [node.text for node in css(browser, "#network .node-label")]
    assert labels == [o.label for card in drawing.cards for o in card.operations]


def test_the_training_of_a_supernet_is_drawn(browser, tmp_path):
    study = fake_study(small_space(), 2)
    study.training = {
        "epochs": [{"loss": 2.0 - i, "entropy": 1.0, "seconds": 0.5} for i in range(2)],
        "result": {"relaxed macs": 12.5, "discrete macs": 12.0, "target macs": 13.0, "steps": 7.0},
    }
    opened(browser, page.write(study, tmp_path / "page.html"))
    section = css(browser, "#training")[0].text
    assert "2 epochs" in section and "steps: 7" in section
    assert [cell.text for cell in css(browser, ".relaxed td")] == ["13", "12.5", "12"]
    assert len(css(browser, "#training .curve")) == 2
    opened(browser, page.write(fake_study(small_space(), 2), tmp_path / "other.html"))
    assert css(browser, "#training") == []


def test_hostile_text_runs_nothing(browser, tmp_path):
    study = hostile_study()
    study.training = {"epochs": [{HOSTILE: 1.0}], "result": {f"target {HOSTILE}": 2.0}}
    opened(browser, page.write(study, tmp_path / "page.html"))
    assert HOSTILE in css(browser, "#training")[0].text
    assert css(browser, "img") == []
    assert HOSTILE in css(browser, "#failures")[0].text
    assert HOSTILE in css(browser, "#panel .choices")[0].text
    assert browser.execute_script(
        "return document.documentElement.scrollWidth <= innerWidth"
    )  # labels of 3,000 characters do not widen the page


def test_only_trials_of_the_highest_budget_are_compared(browser, tmp_path):
    study = fake_study(small_space(), 9)
    budgets = [3.0] * 6 + [12.0] * 3
    study.trials = [attrs.evolve(t, budget=b) for t, b in zip(study.trials, budgets, strict=True)]
    opened(browser, page.write(study, tmp_path / "page.html"))
    assert not any("could not be drawn: " in note.text for note in css(browser, ".note"))
    assert "Only trials of the highest budget are compared: 12." in css(browser, "#trade")[0].text
    assert "the lowest budget alone count (3)" in css(browser, "#decisions")[0].text
    for section in ("#trade", "#progress"):
        front = {
            int(p.get_attribute("data-trial")) for p in css(browser, f"{section} .point.front")
        }
        assert front and front <= {6, 7, 8}
    header = [cell.text for cell in css(browser, ".trials thead button")]
    place = header.index("budget")
    rows = css(browser, ".trials tbody tr")
    cells = [row.find_elements("css selector", "td")[place].text for row in rows]
    assert cells == ["3"] * 6 + ["12"] * 3


@pytest.mark.parametrize(
    "study",
    [
        fake_study(small_space(), 0),
        fake_study(small_space(), 1),
        fake_study(small_space(), 4, fail=lambda n: "it broke"),
        fake_study(small_space(), 4, fail=lambda n: "NaN"),
        fake_study(small_space(), 9, costs=(), constraints=()),
        fake_study(
            small_space(), 9, objectives=(("accuracy", "maximize"), ("latency", "minimize"))
        ),
    ],
    ids=["none", "one", "all failed", "all NaN", "one objective", "two objectives"],
)
def test_pages_of_odd_studies_open(browser, tmp_path, study):
    opened(browser, page.write(study, tmp_path / "page.html"))
    assert not any("could not be drawn: " in note.text for note in css(browser, ".note"))
    assert len(css(browser, ".trials tbody tr")) == len(study.trials)
