"""One network for several devices: the best compromises of quality and each device's latency.

Devices are three rooflines here, so that the example measures nothing; replace them by
`cm.Latency(...)` or by tables. Quality is a stand-in, as in one_cost_four_uses.py.
"""

import math

from quickstart import tiny

import symnas as sn
from symnas import algorithms as alg
from symnas import cost_models as cm

phone = cm.Roofline(peak=5e9, bandwidth=8e9, overhead=0.001, name="phone_ms")
server = cm.Roofline(peak=1e13, bandwidth=1e12, overhead=0.004, name="server_ms")
sensor = cm.Roofline(peak=5e7, bandwidth=1e9, bits=8, name="sensor_ms")
devices = [phone, server, sensor]


def capacity(architecture: sn.Architecture) -> dict[str, float]:
    """Stands for an accuracy: it grows with depth and width."""
    return {"quality": math.log10(cm.Parameters()(architecture))}


space = tiny()
middle = space.decode(space.sample(1, seed=0)[0])
shared = cm.MultiHardware(devices, "max", reference=middle, name="worst_device")

# Every device is an objective of its own; none may be much worse than the reference network.
study = sn.search(
    space, alg.NSGA2(), capacity, maximize="quality", minimize=devices,
    subject_to=[shared <= 1.2], trials=100, progress=False,
)  # fmt: skip

front = sorted(study.pareto(), key=lambda trial: -trial.metrics["quality"])
print(f"{len(front)} of {len(study)} networks are best compromises; some of them:")
print("quality", *(device.name for device in devices), sep="   ")
for trial in front[:: max(1, len(front) // 6)]:
    latencies = (f"{trial.costs[device.name]:9.4f}" for device in devices)
    print(f"{trial.metrics['quality']:7.3f}", *latencies, sep="   ")
