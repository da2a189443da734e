"""Tasks: what an architecture is trained for, and how its quality is measured."""

from symnas.tasks.batches import Batch
from symnas.tasks.task import Task
from symnas.tasks.trial import TrialContext

__all__ = ["Batch", "Task", "TrialContext"]
