"""Data sets that come inside Python packages: nothing is downloaded.

digits = symnas.data.mnist5k()
task = sn.Task(digits.train, test=digits.test)
"""

from symnas.data.augmentation import Shift, shift
from symnas.data.dataset import Data
from symnas.data.images import digits, mnist5k
from symnas.data.mixed import Mixed, diamonds, flights
from symnas.data.tables import TABLES, table

__all__ = [
    "TABLES",
    "Data",
    "Mixed",
    "Shift",
    "diamonds",
    "digits",
    "flights",
    "mnist5k",
    "shift",
    "table",
]
