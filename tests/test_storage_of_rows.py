"""Rows are written without making their programs, and the text is the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from search_examples import space

import symnas as sn
from symnas import spaces
from symnas.architecture import rows, storage


@sn.symbolize
class Odd(torch.nn.Module):
    """All kinds of parameters and defaults."""

    def __init__(
        self,
        a: Any,
        *rest: Any,
        pair: Any = (1, 2),
        f: Any = torch.relu,
        items: Any = [1],  # noqa: B006  (a default to be stored)
        **more: Any,
    ) -> None:
        super().__init__()


def odd() -> sn.Space:
    width = sn.oneof([1, 2, 3], name="width")
    nested = {"q": sn.oneof([sn.spec(Odd, 1), sn.spec(Odd, 2, 3)]), "p": [sn.oneof([4, 5])]}
    program = sn.nn.Sequential(
        Odd(width, sn.oneof([1, 2]), width * 2, z=sn.floatv(0.0, 1.0), é="ü"),
        sn.repeat(lambda i: Odd(i, pair=sn.oneof([1, 2])), times=sn.intv(1, 3)),
        Odd(sn.manyof(2, [1, 2, 3]), items=[nested, float("inf"), None]),
    )
    arguments = {"lr": sn.floatv(0.1, 1.0), "epochs": sn.oneof([1, 2])}
    return sn.Space(program, input=(3, sn.oneof([8, 16])), task=arguments)


@pytest.mark.parametrize(
    "make", [space, odd, spaces.nasbench201, spaces.nasbench101, spaces.mobilenet_28]
)
def test_a_row_is_written_like_its_program(make: Any) -> None:
    where = make()
    assert rows.writers(where) is not None
    for row in where.sample(10, seed=1):
        quick, whole = where.decode(row), where.decode(row)
        parts = whole.program, whole.task, whole.input
        assert quick.to_json() == storage.to_text(*parts)
        assert quick.key == storage.content_key(*parts)
