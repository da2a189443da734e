"""Search algorithms, one a file, imported as `symnas.algorithms`."""

from symnas.algorithms.asha import ASHA
from symnas.algorithms.bayesian_optimization import BayesianOptimization
from symnas.algorithms.bignas import BigNAS
from symnas.algorithms.darts import DARTS
from symnas.algorithms.fbnet_v2 import FBNetV2
from symnas.algorithms.gdas import GDAS
from symnas.algorithms.grid_search import GridSearch
from symnas.algorithms.latency_aware_darts import LatencyAwareDARTS
from symnas.algorithms.local_search import LocalSearch
from symnas.algorithms.msgdas import MSGDAS
from symnas.algorithms.neural_predictor import NeuralPredictor
from symnas.algorithms.nsga2 import NSGA2
from symnas.algorithms.optuna import Optuna
from symnas.algorithms.ppo import PPO
from symnas.algorithms.proxyless_nas import ProxylessNAS
from symnas.algorithms.pyglove import PyGlove
from symnas.algorithms.random_search import RandomSearch
from symnas.algorithms.regularized_evolution import RegularizedEvolution
from symnas.algorithms.reinforce import Reinforce
from symnas.algorithms.single_path_one_shot import SinglePathOneShot
from symnas.algorithms.successive_halving import SuccessiveHalving
from symnas.algorithms.tabnas import TabNAS
from symnas.algorithms.toponas import TopoNAS
from symnas.algorithms.tunas import TuNAS

__all__ = [
    "ASHA",
    "DARTS",
    "GDAS",
    "MSGDAS",
    "NSGA2",
    "PPO",
    "BayesianOptimization",
    "BigNAS",
    "FBNetV2",
    "GridSearch",
    "LatencyAwareDARTS",
    "LocalSearch",
    "NeuralPredictor",
    "Optuna",
    "ProxylessNAS",
    "PyGlove",
    "RandomSearch",
    "RegularizedEvolution",
    "Reinforce",
    "SinglePathOneShot",
    "SuccessiveHalving",
    "TabNAS",
    "TopoNAS",
    "TuNAS",
]
