"""The errors that symnas raises: each names the argument, the value and the remedy."""

from __future__ import annotations


class SymnasError(Exception):
    """Base class of every error that symnas raises on purpose."""


class DeclarationError(SymnasError, ValueError):
    """A search space is declared in a way that would lose or misread a choice."""


class StorageError(SymnasError, ValueError):
    """A stored program is malformed, or names a callable that is not known here."""


class StudyChanged(SymnasError):
    """A study is continued with something changed since it was begun."""


class Infeasible(SymnasError, ValueError):
    """No architecture of the space can meet the constraints."""


class MissingExtra(SymnasError, ImportError):
    """An optional dependency is needed: the message names the extra that brings it."""


class TrialFailed(SymnasError):
    """A task says that this trial has failed, with a reason that the study records."""
