"""One-shot training on several processes: the same result as one, and what happens when one is lost."""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import distributed_cases as cases
import pytest
import torch
from symnas.algorithms.single_path_one_shot import SinglePathOneShot

import symnas as sn
from symnas import algorithms as alg
from symnas.errors import DeclarationError, SymnasError
from symnas.oneshot.distributed.peers import joined, left
from symnas.oneshot.training import CHECKPOINT, Training
from symnas.oneshot.workshop import Workshop

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def pair(tmp_path_factory: Any) -> Any:
    """What the first of two processes has come to, and what the second has."""
    folder = tmp_path_factory.mktemp("pair")
    out = {name: folder / name for name in ("first", "second")}
    for path in out.values():
        path.mkdir()
    file = str(folder / "group")
    command = [sys.executable, str(TESTS / "distributed_cases.py"), file, str(out["second"])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment) as process:
        try:
            first = cases.both(joined(cases.digits(), 0, 2, file), out["first"])
        except BaseException:
            process.kill()
            raise
        finally:
            left()
    assert process.returncode == 0
    second = json.loads((out["second"] / "second.json").read_text())
    return first, second, torch.load(out["second"] / "second.pt", weights_only=True)["norm"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: Any) -> Any:
    """What one process comes to in a case."""
    return functools.cache(
        lambda name: cases.trained(cases.CASES[name], tmp_path_factory.mktemp("alone"))
    )


def same(one: Any, other: Any, path: str = "") -> None:
    """Equal, where floats are so but for the order of sums."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one.keys() - {"seconds"}:
            same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for i, pair in enumerate(zip(one, other, strict=True)):
            same(*pair, f"{path}/{i}")
    elif isinstance(one, torch.Tensor):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5, msg=lambda m: f"{path}: {m}")
    elif isinstance(one, float):
        assert math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-5), (path, one, other)
    else:
        assert one == other, path


@pytest.mark.parametrize("name", cases.CASES)
def test_two_processes_come_to_what_one_does(name: str, pair: Any, alone: Any) -> None:
    told, together = alone(name), pair[0][name]
    for kind in ("begin", "net", "run", "rows", "qualities", "history", "notes"):
        same(told[kind], together[kind], kind)
    assert not all(torch.allclose(v, together["net"][k]) for k, v in told["begin"].items())


@pytest.mark.parametrize("name", [*cases.ALGORITHMS])
def test_each_has_a_part_of_every_batch(name: str, pair: Any, alone: Any) -> None:
    name = f"{name} with norms"
    told, first, second = alone(name)["seen"], pair[0][name]["seen"], pair[1][name]
    assert len(told) == len(first) == len(second) >= 7
    for whole, one, other in zip(told, first, second, strict=True):
        assert one + other == whole
        assert len(one) - len(other) in (0, 1)
    lengths = {len(one) - len(other) for one, other in zip(first, second, strict=True)}
    assert lengths == {0, 1}


def test_norms_of_parts_are_those_of_the_whole(pair: Any) -> None:
    for wanted, found, _ in (pair[0]["norm"], pair[2]):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    alone = pair[0]["norm"][2]
    assert not torch.allclose(alone[0], pair[0]["norm"][0][0], atol=1e-2)


def test_dropout_leaves_the_paths_alike(pair: Any) -> None:
    """It would not, were it drawn from what paths are: the processes' parts differ in length."""
    told = pair[0]["dropped"]
    assert [epoch["loss"] > 0 for epoch in told["history"]] == [True, True]
    # `Team.check` has found the weights to be the same in both processes; this is for the logits.
    assert len(told["rows"])


class Killed(Exception):
    """Of the leading process, as it were."""


def test_a_lost_process_ends_the_others_and_the_same_call_continues(
    tmp_path: Path, monkeypatch: Any
) -> None:
    algorithm = SinglePathOneShot(epochs=3, population=5, generations=2)
    case = cases.Case(algorithm, cases.images)
    whole = cases.trained(case, tmp_path / "whole")
    measured: list[int] = []
    monkeypatch.setattr(
        Workshop, "measured", lambda shop, *a, of=Workshop.measured: (measured.append(1), of(shop, *a))[1]
    )  # fmt: skip

    def training(replicas: int, show: Any) -> Training:
        run = algorithm.start(case.problem())
        task = cases.digits(replicas=replicas)
        made = Training(run, task, tmp_path / "killed", show)
        run.train_with(made, made.derive)
        return made

    def leader_dies(done: int, *_: Any) -> None:
        raise Killed

    def other_dies(done: int, *_: Any) -> None:
        os.kill(second._helpers._children[0].pid, signal.SIGKILL)

    with pytest.raises(Killed):
        training(1, leader_dies)()
    second = training(2, other_dies)
    with pytest.raises(SymnasError, match=r"Process 1 .* SIGKILL.* the same call continues"):
        second()
    assert len(torch.load(tmp_path / "killed" / CHECKPOINT, weights_only=True)["history"]) == 2
    last = training(2, lambda *_: None)
    rows = last.run.ask(4)
    saved = torch.load(tmp_path / "killed" / CHECKPOINT, weights_only=True)
    same(whole["net"], saved["net"])
    same(whole["run"], saved["run"])
    assert rows.tolist() == whole["rows"]
    # There are eight networks: five in the first generation, of which the other one measures two, and
    # three in the second, of which it measures one.
    assert len(measured) == 5
    assert last._helpers.team.closed and not torch.distributed.is_initialized()
    assert last._helpers._children[0].ended() == "ended itself with exit code 0"


def test_processes_of_torchrun(alone: Any, tmp_path: Path) -> None:
    """They make the same call twice: the second finds all done, and no process waits for another."""
    program = [str(TESTS / "torchrun_search.py"), str(tmp_path / "study.db")]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*command, *program], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told = {rank: json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)}
    wanted = alone("spos without norms")
    assert [study["rows"] for study in told[0]] == [wanted["rows"][:1]] * 2
    assert [study["rows"] for study in told[1]] == [[], []]
    losses = [{"loss": epoch["loss"]} for epoch in wanted["history"]]
    same(losses, [{"loss": epoch["loss"]} for epoch in told[0][0]["epochs"]])


def test_torchrun_has_to_start_the_processes(tmp_path: Path) -> None:
    with pytest.raises(SymnasError, match="torchrun has not started this process"):
        Training(
            (case := cases.CASES["spos with norms"]).algorithm.start(case.problem()),
            cases.digits(replicas="torchrun"), tmp_path, lambda *_: None,
        )()  # fmt: skip
    with pytest.raises(SymnasError, match=r"one-shot algorithms by themselves.*RandomSearch"):
        sn.search(
            cases.images(), alg.RandomSearch(), cases.digits(replicas="torchrun"),
            maximize="accuracy", trials=1, progress=False,
        )  # fmt: skip


def test_what_cannot_be() -> None:
    for wrong in (0, 1.5, True, "two"):
        with pytest.raises(DeclarationError, match="replicas"):
            cases.digits(replicas=wrong)
    with pytest.raises(DeclarationError, match="replicas"):
        cases.digits(replicas=sn.oneof([1, 2]))
    assert cases.digits(replicas=2).describe() == cases.digits().describe()
