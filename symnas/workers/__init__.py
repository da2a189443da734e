"""Where trials are evaluated: in this process, or in processes of their own."""

from symnas.workers.settings import Workers

__all__ = ["Workers"]
