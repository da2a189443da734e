"""Search algorithms, one a file, imported as `symnas.algorithms`."""

from symnas.algorithms.bayesian_optimization import BayesianOptimization
from symnas.algorithms.bignas import BigNAS
from symnas.algorithms.darts import DARTS
from symnas.algorithms.fbnet_v2 import FBNetV2
from symnas.algorithms.gdas import GDAS
from symnas.algorithms.grid_search import GridSearch
from symnas.algorithms.latency_aware_darts import LatencyAwareDARTS
from symnas.algorithms.local_search import LocalSearch
from symnas.algorithms.msgdas import MSGDAS
from symnas.algorithms.proxyless_nas import ProxylessNAS
from symnas.algorithms.pyglove import PyGlove
from symnas.algorithms.random_search import RandomSearch
from symnas.algorithms.regularized_evolution import RegularizedEvolution
from symnas.algorithms.single_path_one_shot import SinglePathOneShot
from symnas.algorithms.toponas import TopoNAS
from symnas.algorithms.tunas import TuNAS

__all__ = [
    "DARTS",
    "GDAS",
    "MSGDAS",
    "BayesianOptimization",
    "BigNAS",
    "FBNetV2",
    "GridSearch",
    "LatencyAwareDARTS",
    "LocalSearch",
    "ProxylessNAS",
    "PyGlove",
    "RandomSearch",
    "RegularizedEvolution",
    "SinglePathOneShot",
    "TopoNAS",
    "TuNAS",
]
