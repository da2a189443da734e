"""Latency: timing by a clock that tests control, the cache on disk, and real networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

import symnas as sn
from symnas import cost_models as cm
from symnas.costs.cache import MeasurementCache
from symnas.costs.timing import time_calls
from symnas.testing.costs import check_cost_model

QUICK = {"seconds": 0.02, "repeats": 3}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMNAS_CACHE", str(tmp_path))


def net(width=8):
    return sn.Architecture(sn.nn.Linear(width, width), input=(width,))


def space():
    return sn.Space(
        sn.nn.Sequential(sn.nn.Linear(8, sn.oneof([8, 16, 32])), sn.nn.Dropout()), input=(8,)
    )


class Clock:
    """Time that passes only by calls."""

    def __init__(self, durations):
        self.now, self.calls, self.durations = 0.0, 0, durations

    def call(self):
        self.now += self.durations(self.calls)
        self.calls += 1

    def time(self, **options):
        return time_calls(self.call, clock=lambda: self.now, **options)


# Timing -----------------------------------------------------------------------------------------


def test_a_steady_call_is_timed_exactly_and_no_more_than_needed():
    clock = Clock(lambda i: 0.004)
    timing = clock.time(warmup=5, repeats=20, seconds=1.0)
    assert timing.ms == pytest.approx(4.0) and timing.noise == pytest.approx(0, abs=1e-9)
    assert timing.blocks == 20 and clock.calls == 25


def test_warm_up_does_not_count():
    assert Clock(lambda i: 0.1 if i < 5 else 0.002).time(warmup=5, seconds=9).ms == pytest.approx(
        2.0
    )


def test_short_calls_are_timed_in_blocks_above_the_clock():
    clock = Clock(lambda i: 1e-5)
    assert clock.time(warmup=1, repeats=3, seconds=1).ms == pytest.approx(0.01)
    assert clock.calls == 1 + 3 * 100


def test_a_wavering_call_is_repeated_until_the_median_is_known():
    def wavering(i):
        return 0.010 + 0.001 * (i % 5)

    steady = Clock(lambda i: 0.010).time(seconds=99)
    longer = Clock(wavering).time(seconds=99, precision=0.01)
    assert longer.blocks > steady.blocks and longer.noise > 0.1
    assert 1.57 * longer.noise / longer.blocks**0.5 <= 0.01
    assert Clock(wavering).time(seconds=0.5, precision=0.01).blocks < longer.blocks


def test_outliers_do_not_move_the_median():
    assert Clock(lambda i: 1.0 if i % 7 == 3 else 0.01).time(seconds=30).ms == pytest.approx(10)


def test_a_slow_call_ends_with_its_time():
    clock = Clock(lambda i: 2.0)
    assert clock.time(seconds=1.0).blocks == 3 and clock.calls <= 5


# Networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_conformance(runtime):
    pytest.importorskip("onnxruntime")
    check_cost_model(cm.Latency(runtime, by="network", **QUICK), space(), samples=3)
    # Here a prediction is compared with a measurement of microseconds.
    check_cost_model(cm.Latency(runtime, networks=3, **QUICK), space(), samples=3, noise=0.95)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_much_larger_network_takes_longer(runtime):
    pytest.importorskip("onnxruntime")
    latency = cm.Latency(runtime, seconds=0.1)
    assert latency(net(4096)) > 3 * latency(net(8))
    assert cm.Latency(runtime, batch=256, seconds=0.1)(net(512)) > latency(net(512))


def test_the_network_runs_in_evaluation_mode_with_its_threads_without_gradients():
    seen = []

    class Watch(torch.nn.Module):
        def forward(self, x):
            seen.append((self.training, torch.get_num_threads(), torch.is_inference_mode_enabled()))
            return x

    sn.register(Watch)
    before = torch.get_num_threads()
    cm.Latency(threads=before + 1, cache=False, **QUICK)(
        sn.Architecture(sn.spec(Watch), input=(3,))
    )
    assert set(seen) == {(False, before + 1, True)}
    assert torch.get_num_threads() == before


def test_a_network_whose_output_is_constant_runs_in_onnxruntime():
    pytest.importorskip("onnxruntime")

    class Zeros(torch.nn.Module):
        def forward(self, x):
            return torch.zeros(1, 3)

    sn.register(Zeros)
    assert cm.Latency("onnxruntime", **QUICK)(sn.Architecture(sn.spec(Zeros), input=(3,))) >= 0


def test_threads_are_put_back_after_a_failure():
    before = torch.get_num_threads()
    with pytest.raises(sn.SymnasError, match="latency: the architecture"):
        cm.Latency(threads=before + 1)(sn.Architecture(sn.nn.Linear(4, 4), input=(5,)))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "tvm"}, "'torch' or 'onnxruntime'"),
        ({"threads": 0}, "at least 1"),
        ({"by": "layers"}, "'operations' or 'network'"),
        ({"networks": 0}, "at least 1"),
        ({"device": "tpu"}, "'cpu' or 'cuda'"),
        ({"device": "cuda", "runtime": "onnxruntime"}, "runtime='torch'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        cm.Latency(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told():
    with pytest.raises(ValueError, match="names a GPU"):
        cm.Latency(device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_latency_on_a_gpu():
    latency = cm.Latency(device="cuda", **QUICK)
    assert latency(net(2048)) > 0 and latency.device_name == torch.cuda.get_device_name()
    check_cost_model(latency, space(), samples=2)


# The cache --------------------------------------------------------------------------------------


def files(folder):
    return sorted(folder.glob("measurements/*.jsonl"))


def test_a_measurement_is_made_once_for_each_setting(tmp_path, monkeypatch):
    latency = cm.Latency(**QUICK)
    first, noise = latency(net()), latency.noise(net())
    monkeypatch.setattr(cm.Latency, "_time", lambda *_: pytest.fail("measured again"))
    assert cm.Latency(name="other", **QUICK)(net()) == first and latency.noise(net()) == noise
    assert len(files(tmp_path)) == 1
    for other in (cm.Latency(batch=2, **QUICK), cm.Latency(threads=2, **QUICK)):
        with pytest.raises(pytest.fail.Exception):
            other(net())
    with pytest.raises(pytest.fail.Exception):
        latency(net(16))


def test_other_processes_find_it(tmp_path):
    script = textwrap.dedent(
        """
        import symnas as sn
        from symnas import cost_models as cm
        print(cm.Latency(seconds=0.02, repeats=3)(sn.Architecture(sn.nn.Linear(8, 8), input=(8,))))
        """
    )
    first = cm.Latency(**QUICK)(net())
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(run.stdout) == first


def test_edited_code_is_measured_anew():
    def layer(body):
        namespace = {"torch": torch, "__name__": "own"}
        exec(
            f"class Layer(torch.nn.Module):\n    def forward(self, x):\n        return {body}",
            namespace,
        )
        return namespace["Layer"]

    latency = cm.Latency(**QUICK)
    for body in ("x", "x @ x.T"):
        spec = sn.spec(layer(body))
        latency(sn.Architecture(spec, input=(3,)))
    (file,) = files_of(latency)
    assert sum("key" in line for line in file.read_text().splitlines()) == 2


def files_of(latency):
    from symnas.costs.cache import cache_folder

    return files(cache_folder())


def test_a_torn_line_costs_that_line_alone(tmp_path):
    cache = MeasurementCache("x", {"a": 1})
    cache.put("one", {"ms": 1.0})
    with open(cache.path, "a") as file:
        file.write('{"key": "two", "m')  # killed in the middle of writing
    other = MeasurementCache("x", {"a": 1})
    assert other.get("one") == {"ms": 1.0} and other.get("two") is None
    other.put("three", {"ms": 3.0})
    again = MeasurementCache("x", {"a": 1})
    assert again.get("three") == {"ms": 3.0} and again.get("two") is None
    assert again.get("one") == cache.get("one") and cache.get("three") == {"ms": 3.0}


def test_the_first_record_counts_for_everybody():
    early, late = MeasurementCache("x", {}), MeasurementCache("x", {})
    assert late.get("k") is None
    assert early.put("k", {"ms": 1.0}) == {"ms": 1.0}
    assert late.put("k", {"ms": 2.0}) == {"ms": 1.0}
    assert MeasurementCache("x", {}).get("k") == {"ms": 1.0}
    assert MeasurementCache("x", {"other": 1}).get("k") is None


def test_several_processes_write_at_once(tmp_path):
    script = (
        "import sys\nfrom symnas.costs.cache import MeasurementCache\n"
        "cache = MeasurementCache('x', {})\n"
        "for i in range(100): cache.put(f'{sys.argv[1]}-{i}', {'ms': 1.0, 'text': 'x' * 200})"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(i)]) for i in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    cache = MeasurementCache("x", {})
    assert all(cache.get(f"{p}-{i}") for p in range(2) for i in range(100))
    for line in cache.path.read_text().splitlines():
        assert not line or json.loads(line)


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("SYMNAS_CACHE", str(blocked))
    cache = MeasurementCache("x", {})
    with pytest.warns(UserWarning, match="SYMNAS_CACHE") as warned:
        cache.put("a", {"ms": 1.0})
        cache.put("b", {"ms": 2.0})
    assert len(warned) == 1 and cache.get("a") == {"ms": 1.0}
    assert os.path.isfile(blocked)
