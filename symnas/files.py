"""Writing files wholly or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Has `write` write a file under another name, and gives it its own once it is whole.

    So a kill never leaves half a file, and an older one stays readable until then. Makes the folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_whole(Path(folder) / "new" / "a.txt", lambda part: part.write_text("told"))
    ...     path.name, path.read_text(), len(list(path.parent.iterdir()))
    ('a.txt', 'told', 1)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    write(part)
    return part.replace(path)
