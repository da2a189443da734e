"""Rewards: quality and cost as one number, for algorithms that improve one.

`Absolute` is the reward of G. Bender et al., "Can weight sharing outperform random architecture
search? An investigation with TuNAS", CVPR 2020, arXiv:2008.06120, Section 4; `Mnas` and `MnasHard`
are the soft and the hard one of M. Tan et al., "MnasNet", CVPR 2019, arXiv:1807.11626, Section 3.1.
The formulas are those of the code of TuNAS.

A reward is a frozen value: `reward(quality, costs)` is a number, or a tensor where it is given
tensors, so that gradients flow. Costs come by name, as a trial records them: those of drawn
architectures, or expected ones (`bound.expected(probabilities)`).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import torch

from symnas.costs.model import CostModel
from symnas.errors import DeclarationError

__all__ = ["Absolute", "Mnas", "MnasHard", "Reward", "Several"]


class Reward:
    """Weighs quality against costs; `first & second` does so against several.

    Attributes:
        costs: the cost models that it asks for.
        needs_positive: whether it multiplies the quality, which then must not be negative.
    """

    needs_positive: ClassVar[bool] = False

    @property
    def costs(self) -> tuple[CostModel, ...]:
        """The costs that it asks for."""
        raise NotImplementedError

    def __call__(self, quality: Any, costs: Mapping[str, Any]) -> Any:
        """The reward, larger is better.

        Args:
            quality: larger is better; a number or a tensor.
            costs: at least those of `costs`, by name, in their units; numbers or tensors.

        Raises:
            KeyError: a cost is missing.
        """
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What makes this reward the one it is, as data for JSON."""
        raise NotImplementedError

    def __and__(self, other: Reward) -> Several:
        if not isinstance(other, Reward):
            return NotImplemented
        return Several((*_several(self), *_several(other)))


@attrs.frozen
class _ToTarget(Reward):
    """What the rewards of one cost have in common.

    Attributes:
        cost: the cost model.
        target: of the cost, in its unit.
        beta: how much the cost weighs; not positive.
    """

    cost: CostModel
    target: float = attrs.field()
    beta: float = attrs.field(default=-0.07)

    @target.validator
    def _check_target(self, attribute: Any, value: Any) -> None:
        if not _is_number(value) or value <= 0:
            raise DeclarationError(
                f"{type(self).__name__}: `target` ({value!r}) must be a positive number, in "
                f"{getattr(self.cost, 'unit', 'the unit of the cost')}."
            )

    @beta.validator
    def _check_beta(self, attribute: Any, value: Any) -> None:
        if not _is_number(value) or value > 0:
            raise DeclarationError(
                f"{type(self).__name__}: `beta` ({value!r}) must not be positive: a positive one "
                "rewards what misses the target. Use a negative number."
            )

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.cost, CostModel):
            hint = (
                " A constraint has its limit already: give its `.cost`."
                if hasattr(self.cost, "limits")
                else ""
            )
            raise DeclarationError(
                f"{type(self).__name__}: `cost` ({self.cost!r:.60}) must be a cost model, such as "
                f"cm.Latency().{hint}"
            )

    @property
    def costs(self) -> tuple[CostModel, ...]:
        return (self.cost,)

    def describe(self) -> dict[str, Any]:
        return {
            "reward": type(self).__name__,
            "cost": self.cost.describe(),
            "target": float(self.target),
            "beta": float(self.beta),
        }

    def _ratio(self, costs: Mapping[str, Any]) -> Any:
        """Cost over target."""
        if self.cost.name not in costs:
            known = ", ".join(costs) or "none"
            raise KeyError(f"The reward needs the cost {self.cost.name!r}; given are {known}.")
        return costs[self.cost.name] / self.target

    def __str__(self) -> str:
        return (
            f"{type(self).__name__}({self.cost.name}, target={self.target:g}, beta={self.beta:g})"
        )


@attrs.frozen(str=False)
class Absolute(_ToTarget):
    """`quality + beta * |cost / target - 1|`: pulls the cost to the target from both sides.

    It aims at a cost rather than bounding it: what is cheaper than the target loses too. One search
    ends near the target, where `Mnas` may need several values of beta.

    Raises:
        DeclarationError: the target is not positive, or beta is.

    >>> from symnas import cost_models as cm
    >>> reward = Absolute(cm.Macs(), target=100)
    >>> reward(0.9, {"macs": 150}), reward(0.9, {"macs": 50})
    (0.85, 0.85)
    """

    beta: float = attrs.field(default=-0.1, validator=_ToTarget._check_beta)

    def __call__(self, quality: Any, costs: Mapping[str, Any]) -> Any:
        return quality + self.beta * abs(self._ratio(costs) - 1)


@attrs.frozen(str=False)
class Mnas(_ToTarget):
    """`quality * (cost / target) ** beta`: trades quality for cost everywhere.

    Raises:
        DeclarationError: the target is not positive, or beta is.
        ValueError: the quality is negative, or the cost is not positive (when called).

    >>> from symnas import cost_models as cm
    >>> Mnas(cm.Macs(), target=100, beta=-1)(0.8, {"macs": 200})
    0.4
    """

    needs_positive: ClassVar[bool] = True

    def __call__(self, quality: Any, costs: Mapping[str, Any]) -> Any:
        _refuse_negative(quality)
        return quality * self._factor(self._ratio(costs))

    def _factor(self, ratio: Any) -> Any:
        if _lowest(ratio) <= 0:
            raise ValueError(
                f"The cost {self.cost.name!r} is not positive, so its power {self.beta:g} is no "
                "reward. Use sn.rewards.MnasHard or sn.rewards.Absolute."
            )
        return ratio**self.beta


@attrs.frozen(str=False)
class MnasHard(Mnas):
    """`quality * min((cost / target) ** beta, 1)`: nothing is gained below the target.

    The nearer beta is to 0, the softer the target; MnasNet's own hard one has -1.

    Raises:
        DeclarationError: the target is not positive, or beta is.
        ValueError: the quality is negative (when called).

    >>> from symnas import cost_models as cm
    >>> hard = MnasHard(cm.Macs(), target=100, beta=-1)
    >>> hard(0.8, {"macs": 50}), hard(0.8, {"macs": 200})
    (0.8, 0.4)
    """

    def _factor(self, ratio: Any) -> Any:
        # The same as the minimum of the power, and finite with its gradient where the cost is 0.
        if isinstance(ratio, torch.Tensor):
            return ratio.clamp(min=1.0) ** self.beta
        return max(ratio, 1.0) ** self.beta


@attrs.frozen
class Several(Reward):
    """Rewards one after another: each weighs what the one before has made of the quality.

    Penalties of `Absolute` add up, factors of `Mnas` multiply. Made by `&`.

    >>> from symnas import cost_models as cm
    >>> both = Absolute(cm.Macs(), 100) & Absolute(cm.Parameters(), 10)
    >>> round(both(0.9, {"macs": 200, "parameters": 20}), 6)
    0.7
    """

    rewards: tuple[Reward, ...]

    def __attrs_post_init__(self) -> None:
        models: dict[str, CostModel] = {}
        for cost in self.costs:
            if models.setdefault(cost.name, cost) != cost:
                raise DeclarationError(
                    f"Two different cost models of this reward are named {cost.name!r}: "
                    f"{models[cost.name]!r} and {cost!r}. Give one another name, as in "
                    f'cost.named("{cost.name}_b").'
                )

    @property
    def needs_positive(self) -> bool:  # type: ignore[override]
        """Whether one of them multiplies the quality."""
        return any(reward.needs_positive for reward in self.rewards)

    @property
    def costs(self) -> tuple[CostModel, ...]:
        return tuple(cost for reward in self.rewards for cost in reward.costs)

    def __call__(self, quality: Any, costs: Mapping[str, Any]) -> Any:
        for reward in self.rewards:
            quality = reward(quality, costs)
        return quality

    def describe(self) -> dict[str, Any]:
        return {"reward": "Several", "rewards": [reward.describe() for reward in self.rewards]}

    def __str__(self) -> str:
        return " & ".join(map(str, self.rewards))


def _several(reward: Reward) -> tuple[Reward, ...]:
    return reward.rewards if isinstance(reward, Several) else (reward,)


def _lowest(value: Any) -> float:
    return float(value.detach().min()) if isinstance(value, torch.Tensor) else float(value)


def _refuse_negative(quality: Any) -> None:
    lowest = _lowest(quality)
    if lowest < 0:
        raise ValueError(
            f"The quality ({lowest:.6g}) is negative, so a factor would reward cost. Use "
            "sn.rewards.Absolute, or a quality that is not negative, such as an accuracy."
        )


def _is_number(value: Any) -> bool:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(float(value))
