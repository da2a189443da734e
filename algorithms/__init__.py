"""Search algorithms, one a file, imported as `symnas.algorithms`."""

from symnas.algorithms.grid_search import GridSearch
from symnas.algorithms.local_search import LocalSearch
from symnas.algorithms.pyglove import PyGlove
from symnas.algorithms.random_search import RandomSearch
from symnas.algorithms.regularized_evolution import RegularizedEvolution
from symnas.algorithms.single_path_one_shot import SinglePathOneShot

__all__ = [
    "GridSearch",
    "LocalSearch",
    "PyGlove",
    "RandomSearch",
    "RegularizedEvolution",
    "SinglePathOneShot",
]
