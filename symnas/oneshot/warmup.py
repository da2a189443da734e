"""What warm-ups of shared weights need to know of a supernet, and batch norms without memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from symnas.searchspace.parts import columns_in, flattened
from symnas.supernet.supernet import Supernet


def widest(net: Supernet) -> dict[int, int]:
    """The value with the largest weights of each decision on a width or a kernel, by column.

    Numbers alone are meant, on which the shape of a weight depends; not strides, say.

    >>> import symnas as sn
    >>> wide = sn.nn.Linear(3, sn.oneof([8, 4], name="width"))
    >>> space = sn.Space(
    ...     sn.nn.Sequential(wide, sn.nn.LeakyReLU(sn.oneof([0.1, 0.2])), sn.nn.Linear(sn.tied("width"), 2)),
    ...     input=(3,))
    >>> widest(sn.Supernet(space))
    {0: 0}
    """
    relaxation, roles, found = net.relaxation, net.roles, {}
    columns, kept = columns_in(net.space, net.whole), flattened(net.space, net.whole)
    for column, decision in enumerate(net.space.decisions):
        at = columns[column]
        if decision.kind != "ordinal" or roles[column] in ("modules", "depth"):
            continue
        values = kept[at] or list(range(decision.size))
        for part in relaxation.parts.values():
            if at in part.columns:
                row, shapes = list(relaxation.base), []
                for value in values:
                    row[at] = value
                    shapes.append(relaxation._shape_at(part, row))
                if any(shape != shapes[0] for shape in shapes):
                    sizes = [sum(map(math.prod, shape.values())) for shape in shapes]
                    whole = relaxation.base[at]
                    found[column] = (
                        values.index(whole) if whole in values else sizes.index(max(sizes))
                    )
    return found


@contextmanager
def own_statistics(net: Supernet) -> Iterator[None]:
    """Has batch norms of the selected network use each batch's statistics, and keep the running ones.

    The rest runs as in evaluation, such as dropout.

    Args:
        net: in evaluation, with a network selected.
    """
    network = net._selected
    if network is None:
        raise ValueError("No network is selected.")
    # Now rather than when it runs, which would set all modes anew.
    network.train(net.training)
    norms = [m for m in network.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm, norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, training, tracked in before:
            norm.training, norm.track_running_stats = training, tracked
