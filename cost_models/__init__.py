"""Cost models: what a device can afford, one a file."""

from symnas.cost_models.latency import Latency
from symnas.cost_models.macs import Macs
from symnas.cost_models.parameters import Parameters

__all__ = ["Latency", "Macs", "Parameters"]
