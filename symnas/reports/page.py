"""A study as one HTML page that needs no network and nothing beside it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symnas.files import write_whole
from symnas.reports.content import Content, content

if TYPE_CHECKING:
    from symnas.studies.study import Study

# In the order in which the browser reads them; all share one scope.
SCRIPTS = (
    "base.js", "data.js", "scale.js", "plot.js", "network.js", "panel.js", "trade.js",
    "progress.js", "training.js", "costs.js", "decisions.js", "table.js", "record.js", "main.js",
)  # fmt: skip
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def write(
    study: Study, path: str | os.PathLike[str], *, final: Mapping[str, Any] | None = None
) -> Path:
    """Writes a page about a study: its trade-offs, trials, networks, failures and record.

    The page is one file, without requests to a network, and runs nothing that comes from the
    study. The space's code is needed for drawings and sources of networks only.

    Args:
        study: finished, running or interrupted.
        path: of the file; one that exists is replaced. Missing folders are made.
        final: results of a final training, such as
            `{"test accuracy": 0.981, "latency, ms": 0.43, "epochs": 30}`.

    Returns:
        The path.

    Raises:
        TypeError: `final` is not a mapping.
        IsADirectoryError: `path` is a folder.

    >>> import tempfile
    >>> import symnas as sn
    >>> from symnas import algorithms as alg
    >>> space = sn.Space({"width": sn.oneof([8, 16]), "depth": sn.oneof([1, 2])})
    >>> study = sn.search(
    ...     space, alg.GridSearch(), lambda a: a.program.width * a.program.depth,
    ...     maximize="score", trials=4, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(study, f"{folder}/report.html").name
    'report.html'
    """
    if final is not None and not isinstance(final, Mapping):
        raise TypeError(f"`final` ({final!r:.60}) must map names to results, or be None.")
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(
            f"`path` ({str(path)!r}) is a folder: name a file in it, such as report.html."
        )
    text = render(content(study, final))
    return write_whole(target, lambda part: part.write_text(text, encoding="utf-8"))


def render(found: Content) -> str:
    """The page as text."""
    style = _asset("page.css")
    script = "\n".join(["'use strict'; {", *map(_asset, SCRIPTS), "}"])
    values = {
        "title": html.escape(found.title),
        "summary": html.escape(found.summary),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "data": _json_in_html(found.data),
        "packed": found.packed,
    }
    # One pass, so that what a value holds is never taken for a place.
    return _PLACE.sub(lambda place: values[place[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return files("symnas.reports").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def _json_in_html(value: Any) -> str:
    """JSON that cannot end the element it stands in, nor begin a comment in it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
