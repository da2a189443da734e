"""Cost models, one a file, imported as `symnas.cost_models`."""

from symnas.cost_models.activations import Activations, PeakActivations
from symnas.cost_models.adapted import Adapted
from symnas.cost_models.edge import EdgeArea, EdgeEnergy, EdgeLatency
from symnas.cost_models.energy import Cycles, Energy
from symnas.cost_models.energy_table import EnergyTable
from symnas.cost_models.latency import Latency
from symnas.cost_models.learned import Learned
from symnas.cost_models.macs import Macs
from symnas.cost_models.measured_energy import MeasuredEnergy
from symnas.cost_models.multi_hardware import MultiHardware
from symnas.cost_models.parameters import Parameters
from symnas.cost_models.roofline import Level, Roofline
from symnas.cost_models.table import Table
from symnas.cost_models.tunas import TunasProxyless

__all__ = [
    "Activations",
    "Adapted",
    "Cycles",
    "EdgeArea",
    "EdgeEnergy",
    "EdgeLatency",
    "Energy",
    "EnergyTable",
    "Latency",
    "Learned",
    "Level",
    "Macs",
    "MeasuredEnergy",
    "MultiHardware",
    "Parameters",
    "PeakActivations",
    "Roofline",
    "Table",
    "TunasProxyless",
]
