"""The contract of a flow: an algorithm that is made of algorithms."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import ClassVar

from symnas.flow.stage import Stage
from symnas.searching.algorithm import Algorithm


class Flow(Algorithm):
    """An algorithm whose stages search parts of the space. `print` shows it as a tree."""

    many_objectives: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """The stages, flows among them as one."""

    @property
    @abc.abstractmethod
    def endless(self) -> bool:
        """Whether it goes on as long as there is anything left to propose."""

    def leaves(self) -> Iterator[Algorithm]:
        """The algorithms of all stages, those of flows within included."""
        for stage in self.stages:
            if isinstance(stage.algorithm, Flow):
                yield from stage.algorithm.leaves()
            else:
                yield stage.algorithm
