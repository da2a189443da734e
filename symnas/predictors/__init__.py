"""Predictors of results: fitted to known architectures, asked of others."""

from symnas.predictors.base import Fitted, Held, Predictor, held_out
from symnas.predictors.gaussian_process import GaussianProcess
from symnas.predictors.gcn import GCN
from symnas.predictors.sklearn import Sklearn

__all__ = ["GCN", "Fitted", "GaussianProcess", "Held", "Predictor", "Sklearn", "held_out"]
