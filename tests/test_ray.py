"""Trials on a Ray cluster: what a trial or a lost worker does must not reach the search."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from search_examples import space, trajectory

import symnas as sn
from symnas import algorithms as alg
from symnas.workers import ray_pool
from symnas.workers.ray_cluster import needs_of, room_in

try:
    import ray
except Exception as error:
    pytest.skip(f"Ray cannot be imported: {error!r}", allow_module_level=True)

CORES = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray that is there already when a search begins."""
    ray.init("local", num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def search(task: Any, workers: Any, **options: Any) -> sn.Study:
    defaults: dict[str, Any] = {"maximize": "score", "trials": 10, "progress": False}
    return sn.search(space(), alg.RandomSearch(), task, workers=workers, **(defaults | options))


# Tasks are sent by value: the actors' machine need not have this module.


def misbehaves(architecture: sn.Architecture, trial: Any) -> Any:
    """Each trial fails in another way, but those from 6 on."""
    import os
    import time

    import psutil
    import torch

    match trial.number:
        case 0:
            raise ValueError("too wide")
        case 1:
            os._exit(3)
        case 2:
            trial.report(1, 0.5)
            time.sleep(600)
        case 3:
            return float("nan")
        case 4:
            return {"other": 1.0}
        case 5:
            hoard = []
            while True:
                hoard.append(bytearray(b"x") * (1 << 27))
                trial.report(len(hoard), 0.0)
    nodes = sum(process.name() == "raylet" for process in psutil.process_iter())
    score = float(sum(architecture.row))
    return {"score": score, "threads": torch.get_num_threads(), "raylets": nodes}


def test_a_trial_may_do_anything_and_only_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = raylets()
    study = search(misbehaves, sn.Workers("ray", timeout=40.0, memory="1GB"), trials=12)
    reasons = {trial.number: trial.reason or "" for trial in study.failed}
    assert sorted(reasons) == list(range(6))
    assert reasons[0].startswith("ValueError: too wide")
    assert "exit code 3" in reasons[1]
    assert reasons[2] == "timeout: no result after 40 s"
    assert "nan" in reasons[3]
    assert "no metric 'score'" in reasons[4]
    assert reasons[5].startswith("memory: ") and "1.00 GB allowed" in reasons[5]
    assert study.failed[2].reports == ((1.0, 0.5),)  # what was reported before the end is kept
    assert study.failed[5].reports[0] == (1.0, 0.0)
    good = study.trials[6:]
    assert [t.metrics["score"] for t in good] == [sum(t.row) for t in good]
    assert {t.metrics["threads"] for t in good} == {1.0}  # cpus of the worker
    assert all(t.metrics["raylets"] > before for t in good)
    assert not ray.is_initialized() and raylets() <= before  # it was started, and is ended


def raylets() -> int:
    """How many nodes of Ray run on this machine."""
    return sum(process.name() == "raylet" for process in psutil.process_iter())


def keeps(architecture: sn.Architecture, trial: Any, fragile: bool = False) -> dict[str, float]:
    """Reports, keeps its weights and ends out of order; noise comes from the trial's seed.

    If it is fragile, trial 3 first loses its worker, and trial 4 fails at first.
    """
    import os
    import signal
    import time

    import torch

    first = not (trial.path / "tried").exists()
    (trial.path / "tried").touch()
    if fragile and first and trial.number == 3:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if fragile and first and trial.number == 4:
        raise RuntimeError("not yet")
    trial.report(1, 0.25)
    trial.report(2, 0.5)
    trial.save(architecture.build())
    time.sleep(0.1 if trial.number % 3 == 0 else 0.0)
    return {
        "score": float(sum(architecture.row)) + float(torch.rand(())),
        "pid": float(os.getpid()),
    }


def test_trials_are_those_of_one_process_although_a_worker_is_lost(
    cluster: None, tmp_path: Path
) -> None:
    algorithm = alg.RegularizedEvolution(population_size=5, tournament_size=2)
    wanted = {"maximize": "score", "trials": 16, "seed": 3, "progress": False}
    alone = sn.search(space(), algorithm, keeps, ahead=CORES, **wanted)
    task, workers = partial(keeps, fragile=True), sn.Workers("auto", retries=1)
    study = sn.search(space(), algorithm, task, workers=workers, study=tmp_path / "s.db", **wanted)
    assert study.record["ahead"] == CORES  # as many workers as there is room for
    assert trajectory(study) == trajectory(alone)
    assert study.best.reports == ((1.0, 0.25), (2.0, 0.5))
    assert study.best.model()[0].scale == float(study.best.choices["args[0].scale"])
    assert len({t.metrics["pid"] for t in study.trials}) <= CORES + 1  # kept from trial to trial
    assert ray.is_initialized()  # it was found running


def test_a_trial_that_always_loses_its_worker_fails(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def task(architecture: sn.Architecture) -> float:
        import os
        import signal
        import time

        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
        return 0.0

    monkeypatch.setattr(ray_pool, "LOSSES", 0)
    study = search(task, sn.Workers("ray", n=1), trials=1)
    assert (study.failed[0].reason or "").startswith("lost 1 times together with its worker, last:")


def test_ctrl_c_leaves_no_process_of_a_trial(cluster: None, tmp_path: Path) -> None:
    def task(architecture: sn.Architecture, trial: Any) -> float:
        import os
        import subprocess
        import time
        from pathlib import Path

        child = subprocess.Popen(["sleep", "300"])
        for pid in (os.getppid(), os.getpid(), child.pid):
            (Path(folder) / str(pid)).touch()
        time.sleep(300)
        return 0.0

    def interrupt() -> None:
        while len(list(tmp_path.iterdir())) < 3:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    folder = str(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        study = search(task, sn.Workers("ray", n=1))
    finally:
        signal.signal(signal.SIGINT, before)
    assert [trial.state for trial in study.trials] == ["running"]
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 3  # the actor, its process, and what that has started
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_worker_that_cannot_start_says_why(cluster: None) -> None:
    class Broken:
        def __reduce__(self) -> Any:
            return eval, ("1 / 0",)

        def evaluate(self, architecture: sn.Architecture, trial: Any) -> float:
            return 0.0

    with pytest.raises(sn.SymnasError, match=r"could not start .*ZeroDivisionError"):
        search(Broken(), sn.Workers("ray", n=1))


@pytest.mark.parametrize("needs", [{"cpus": 64}, {"gpus": 1}, {"memory": "900TB"}])
def test_what_no_node_has_is_refused_at_once(cluster: None, needs: dict[str, Any]) -> None:
    with pytest.raises(sn.SymnasError, match=r"No node .* the most that any of its 1 nodes has"):
        search(misbehaves, sn.Workers("ray", **needs))
    assert ray.is_initialized()


def test_one_process_has_one_cluster(cluster: None) -> None:
    with pytest.raises(sn.SymnasError, match="connected to a Ray cluster already"):
        search(misbehaves, "ray://localhost:10001")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_that_does_not_answer_is_named(scheme: str) -> None:
    if ray.is_initialized():
        ray.shutdown()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(sn.SymnasError, match=f"{address}.* cannot be reached"):
            search(misbehaves, address)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(sn.MissingExtra, match=r"symnas\[ray\]"):
        search(misbehaves, "ray")


def test_places_and_shares_are_checked() -> None:
    for place in ("rays", "localhost", "ray://localhost", 4):
        with pytest.raises(ValueError, match="`place`"):
            sn.Workers(place)  # type: ignore[arg-type]
    for wrong in (-1, 1.5, "1", True):
        with pytest.raises(ValueError, match="`gpus`"):
            sn.Workers("ray", gpus=wrong)  # type: ignore[arg-type]
    for name in ("cpus", "gpus"):
        with pytest.raises(ValueError, match=f"`{name}`.*is for the workers of a Ray cluster"):
            sn.Workers(**{name: 1})
    with pytest.raises(ValueError, match="`n`"):
        sn.Workers(n=None)
    assert sn.Workers().inline and not sn.Workers("ray", n=1).inline
    assert sn.Workers("ray", cpus=2.0).threads_each == 2
    assert sn.Workers("ray", cpus=0.5).threads_each == 1


def test_room_is_counted_by_what_is_scarcest() -> None:
    node = {"CPU": 8.0, "GPU": 2.0, "memory": 10e9}
    assert room_in(node, needs_of(sn.Workers("ray"))) == 8
    assert room_in(node, needs_of(sn.Workers("ray", gpus=1))) == 2
    assert room_in(node, needs_of(sn.Workers("ray", gpus=0.5, memory="4GB"))) == 2
    assert room_in(node, needs_of(sn.Workers("ray", cpus=0.1))) == 80
    assert room_in({"CPU": 8.0}, needs_of(sn.Workers("ray", gpus=1))) == 0
