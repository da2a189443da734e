"""Predictors of results: fitted to known architectures, asked of others."""

from symnas.predictors.base import Fitted, Held, Predictor, held_out

__all__ = ["Fitted", "Held", "Predictor", "held_out"]
