"""Distributions over rows that learn: what reinforcement learning draws from."""

from symnas.searching.policies.autoregressive import Autoregressive
from symnas.searching.policies.factorised import Factorised
from symnas.searching.policies.policy import Policy

__all__ = ["Autoregressive", "Factorised", "Policy"]
