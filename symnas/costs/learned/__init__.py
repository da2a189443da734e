"""Costs learned from samples: what flows where in a network, features, and the fits on them."""
