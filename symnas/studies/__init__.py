"""Studies: the trials of searches, on disk."""

from symnas.studies.trial import Trial

__all__ = ["Trial"]
