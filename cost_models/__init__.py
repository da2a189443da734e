"""Cost models, one a file, imported as `symnas.cost_models`."""

from symnas.cost_models.latency import Latency
from symnas.cost_models.macs import Macs
from symnas.cost_models.parameters import Parameters

__all__ = ["Latency", "Macs", "Parameters"]
