"""Faults that are injected into running searches: one file a family, see `benchmarks/faults.py`."""
