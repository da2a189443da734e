"""One's own tables, and other libraries as contenders."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from benchmark_tables import grid

import symnas as sn
from symnas.benchmark import compare, read
from symnas.benchmark.driving import Setup, drive
from symnas.benchmark.peers import NAMES, Peer
from symnas.errors import MissingExtra


def conditional():
    return sn.Space(
        sn.oneof([1, sn.nn.Linear(2, sn.oneof([4, 8], name="width"))], name="kind"), name="mine"
    )


GOOD = """width,accuracy;maximize;%,kind,ms;minimize;ms;cost
,50,1,1
4,60,Linear,2
8,,Linear,4
"""


def labels():
    (kind, _) = conditional().decisions
    return kind.labels


def written(folder, text, name="mine.csv"):
    path = folder / name
    text = text.replace("Linear", labels()[1])
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["mine.csv", "mine.csv.gz"])
def test_a_file(tmp_path, name):
    table = read(written(tmp_path, GOOD, name), conditional())
    assert table.name == "mine"
    assert table.rows.tolist() == [[0, -1], [1, 0], [1, 1]]
    assert table.values("accuracy", table.rows).tolist() == pytest.approx(
        [50, 60, np.nan], nan_ok=True
    )
    assert (table.columns["ms"].kind, table.columns["ms"].unit) == ("cost", "ms")


def test_a_folder_of_fidelities(tmp_path):
    written(tmp_path, "kind,width,a;maximize,ms;minimize;;cost\n1,,5,1\nLinear,4,6,2\n", "12.csv")
    written(tmp_path, "kind,width,a;maximize\nLinear,4,7\nLinear,8,8\n", "200.csv")
    table = read(tmp_path, conditional(), "both")
    assert table.budgets == (12, 200)
    rows = [[0, -1], [1, 0], [1, 1]]
    assert table.values("a", rows, 12).tolist() == pytest.approx([5, 6, np.nan], nan_ok=True)
    assert table.values("a", rows).tolist() == pytest.approx([np.nan, 7, 8], nan_ok=True)
    assert table.values("ms", rows).tolist() == pytest.approx([1, 2, np.nan], nan_ok=True)
    written(tmp_path, "kind,width,a;maximize,ms;minimize;;cost\n1,,5,3\n", "200.csv")
    with pytest.raises(ValueError, match="the cost 'ms' of an architecture differs"):
        read(tmp_path, conditional())
    written(tmp_path, "kind,width,a;minimize\n1,,5\n", "200.csv")
    with pytest.raises(ValueError, match="'a' is declared otherwise"):
        read(tmp_path, conditional())
    (tmp_path / "200.csv").rename(tmp_path / "long.csv")
    with pytest.raises(ValueError, match=r"long\.csv: the name must be a budget"):
        read(tmp_path, conditional())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("4,60", "5,60", "line 3: '5' is no label of 'width'; its labels are 4, 8"),
        ("4,60", ",60", "line 3: no architecture of"),
        ("8,,", "4,,", "line 4: the same architecture as in line 3"),
        ("60", "high", "line 3, 'accuracy': 'high' must be a finite number"),
        ("60", "inf", "line 3, 'accuracy': 'inf' must be a finite number"),
        ("4,60,Linear,2", "4,60,Linear", "line 3: 3 values; the header has 4"),
        ("width,", "widht,", "header: the space has no decision 'widht'.*'width'"),
        (";maximize;%", ";best;%", "header: 'accuracy;best;%' must be"),
        (";ms;cost", ";ms;price", "header: 'ms;minimize;ms;price' must be"),
        ("ms;minimize;ms;cost", "accuracy;maximize", "'accuracy' has two columns"),
        ("ms;minimize;ms;cost", "width", "the decision 'width' has two columns"),
    ],
)
def test_malformed_files_are_told_where(tmp_path, old, new, message):
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"mine\.csv.*{message}"):
        read(path, conditional())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("kind,width\n1,\n", "no result"),
        ("kind,a;maximize\n1,2\n", "decisions 'width' have no column"),
        ("kind,width,a;maximize\n", "no architecture"),
    ],
)
def test_incomplete_files(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path, text), conditional())
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        read(tmp_path / "none.csv", conditional())
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no file BUDGET\.csv"):
        read(tmp_path / "empty", conditional())


# Peers -------------------------------------------------------------------------------------------

OTHERS = [name for name in NAMES if not name.startswith("pymoo")]  # see its own test file
SINGLE = [name for name in OTHERS if not name.endswith("nsga2")]


def peer(name, **options):
    library = {"optuna": "optuna", "synetune": "syne_tune", "pyglove": "pyglove"}
    pytest.importorskip(library[name.partition("-")[0]])
    return Peer(name, options)


@pytest.mark.parametrize("name", OTHERS)
def test_peers_propose_rows_and_repeat_with_the_seed(name):
    found = peer(name)
    setup = Setup(("score",), 12, workers=2, seconds="hours")
    records = [drive(grid((3, 3)), found, setup, seed) for seed in (1, 1, 2)]
    assert all(grid((3, 3)).space.is_row(row) for row in records[0].rows)
    assert records[0].rows.tolist() == records[1].rows.tolist() != records[2].rows.tolist()
    assert records[0].distinct < 1  # nine architectures, twelve proposals


@pytest.mark.parametrize("name", SINGLE)
def test_peers_take_conditional_spaces_and_break_limits(tmp_path, name):
    table = read(written(tmp_path, GOOD), conditional())
    found = compare(
        {"peer": peer(name)}, table, seeds=2, evaluations=10, subject_to="ms<=1", progress=False
    )
    assert not found.failures
    assert 0 < found.summary()["infeasible"].iloc[0] < 1


def test_optuna_is_told_what_breaks_a_limit():
    tpe = peer("optuna-tpe")
    setup = Setup(("score",), 60, limits=(sn.benchmark.Below("ms", limit=6),))
    shares = []
    for name in ("optuna-random", "optuna-tpe"):
        records = [drive(grid((12, 12)), Peer(name), setup, seed) for seed in range(3)]
        shares.append(np.mean([r.infeasible for r in records]))
    assert shares[1] < 0.8 * shares[0]
    assert "optuna" in tpe.release


def test_peers_that_are_not_there(monkeypatch):
    with pytest.raises(ValueError, match="must be one of optuna-random"):
        Peer("optuna-best")

    def version(package):
        raise ImportError(package)

    monkeypatch.setattr("symnas.benchmark.peers.version", version)
    with pytest.raises(
        MissingExtra, match=r'optuna-tpe needs optuna: pip install "symnas\[optuna\]"'
    ):
        Peer("optuna-tpe")
