"""An edge accelerator as choices, to be searched together with the networks that it runs.

Rows and columns of the array, local and global buffer, bandwidth, and the dataflow are decisions of
the group "hardware". What they mean, and what they cost, is said in
`symnas.costs.accelerators.edge` and by the costs of `symnas.cost_models.edge`. To search such choices
beside a network's is the subject of Y. Zhou et al., "Rethinking Co-design of Neural Architectures
and Hardware Accelerators", arXiv:2102.08619 (from memory); our values and costs are not theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

import symnas as sn
from symnas.costs.accelerators.edge import DATAFLOWS, Edge
from symnas.costs.hardware import KEY

GROUP = "hardware"
_NAMES = {
    "rows": "array rows",
    "columns": "array columns",
    "local_bytes": "local bytes",
    "buffer_kb": "buffer kb",
    "bandwidth": "bandwidth",
    "dataflow": "dataflow",
    "clock": "clock",
}


def edge_accelerator(
    rows: Sequence[int] = (8, 16, 32),
    columns: Sequence[int] = (8, 16, 32),
    local_bytes: Sequence[int] = (16, 64, 256),
    buffer_kb: Sequence[int] = (32, 64, 128, 256),
    bandwidth: Sequence[float] = (0.5e9, 1e9, 2e9, 4e9),
    dataflow: Sequence[str] = DATAFLOWS,
    clock: Sequence[float] = (200e6,),
) -> dict[str, Any]:
    """The options of an edge accelerator, as choices where there are several values.

    Decisions, by name: "array rows", "array columns", "local bytes", "buffer kb", "bandwidth",
    "dataflow", "clock"; all of the group "hardware". One value decides nothing.

    Args:
        rows, columns: of multipliers in the array.
        local_bytes: of the buffer at each multiplier.
        buffer_kb: kilobytes of the global buffer.
        bandwidth: bytes a second of external memory.
        dataflow: what stays in the array: "weight", "output" or "input".
        clock: cycles a second.

    Returns:
        Options for `EdgeLatency`, `EdgeEnergy` and `EdgeArea` of `symnas.cost_models.edge`. Give all
        of them the same.

    Raises:
        TypeError, ValueError: an option has no values, or one that no accelerator can have.

    >>> from symnas.cost_models.edge import EdgeEnergy, EdgeLatency
    >>> options = edge_accelerator(rows=[8, 16], columns=[16], bandwidth=[1e9])
    >>> options["columns"]
    16
    >>> space = with_accelerator(sn.Space(sn.nn.Linear(64, sn.oneof([8, 16])), input=(64,)), options)
    >>> hardware, networks = space.split("hardware")
    >>> hardware.size, networks.size  # 2 arrays, 3 local and 4 global buffers, 3 dataflows
    (72, 2)
    >>> edp = (EdgeEnergy(**options) * EdgeLatency(**options)).named("edp")
    >>> edp.unit, edp.bind(space)(space.sample(5)).shape
    ('uJ*ms', (5,))
    """
    given: dict[str, Any] = {
        "rows": rows,
        "columns": columns,
        "local_bytes": local_bytes,
        "buffer_kb": buffer_kb,
        "bandwidth": bandwidth,
        "dataflow": dataflow,
        "clock": clock,
    }
    options: dict[str, Any] = {}
    for name, values in given.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise TypeError(
                f"edge_accelerator: the value of `{name}` ({values!r}) must be a list of at least "
                "one value; a list of one decides nothing."
            )
        for value in values:
            Edge(**{name: value})
        several = len(values) > 1
        options[name] = (
            sn.oneof(list(values), name=_NAMES[name], group=GROUP) if several else values[0]
        )
    return options


def with_accelerator(space: sn.Space, options: Mapping[str, Any]) -> sn.Space:
    """One space of networks and accelerators.

    The network's decisions come first, then the accelerator's. Every algorithm, constraint and cost
    of either works on it; `split("hardware")` takes it apart again.

    Args:
        space: of networks.
        options: from `edge_accelerator`.

    Raises:
        ValueError: `options` is not that.
    """
    fields = {field.name for field in attrs.fields(Edge)}
    if not isinstance(options, Mapping) or set(options) != fields:
        raise ValueError(
            f"with_accelerator: the value of `options` ({options!r:.80}) must be what "
            "edge_accelerator() returns."
        )
    return space.with_task({KEY: {**space._task.get(KEY, {}), "accelerator": dict(options)}})


def accelerator_of(architecture: sn.Architecture) -> Edge:
    """The accelerator that was decided together with a network.

    Raises:
        ValueError: there is none.

    >>> options = edge_accelerator()
    >>> space = with_accelerator(sn.Space(sn.nn.Linear(8, 8), input=(8,)), options)
    >>> accelerator_of(space.decode([1, 2, 0, 3, 0, 1]))
    Edge(rows=16, columns=32, local_bytes=16, buffer_kb=256, bandwidth=500000000.0, dataflow='output', clock=200000000.0)
    """
    options = architecture.task.get(KEY, {}).get("accelerator")
    if options is None:
        raise ValueError(
            f"accelerator_of: the value of `architecture` ({architecture!r:.60}) must be one of a "
            "space that with_accelerator() made."
        )
    return Edge(**options)
