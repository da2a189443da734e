"""Which machine this is: what was measured on another one does not hold here."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import Any


@functools.cache
def cpu_name() -> str:
    """The processor's model name, such as "AMD EPYC 7B13"."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            field, _, value = line.partition(":")
            if field.strip() in ("model name", "Model") and value.strip():
                return value.strip()
    except OSError:
        pass
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            pass
    return platform.processor() or platform.machine()


def cpu() -> dict[str, Any]:
    """What a time measured on the processor depends on, as data for JSON."""
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.system()}


def gpu(device: str) -> dict[str, Any]:
    """What a time measured on a CUDA device depends on, as data for JSON."""
    import torch

    return {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda, **cpu()}
