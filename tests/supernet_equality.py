"""A selected network against the same network by itself, and random programs to compare them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import symnas as sn

# One of several options: `random.Random(0).choice`, or what hypothesis draws.
Pick = Callable[[Sequence[Any]], Any]


# The comparison -----------------------------------------------------------------------------------


def differences(
    net: sn.Supernet, row: Any, *inputs: Tensor
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """What `select` gives and what `child` gives: outputs, and what a step of training changes.

    After a step of plain gradient descent the child's weights are the supernet's new ones, if and
    only if all gradients agree; they hold the statistics of batch norms too. The supernet is left as
    it was. Weights that the network does not have must not change.
    """
    for mode in (False, True):
        net.train(mode)
        before = {name: t.clone() for name, t in net.state_dict().items()}
        child = net.child(row)
        assert all(m.training is mode for m in child.modules())
        if not mode:
            yield from built(net, row, child, inputs)
        x, y = ([live(i) for i in inputs] for _ in range(2))
        torch.manual_seed(1)
        expected = step(child, y)
        torch.manual_seed(1)
        found = step(net.select(row), x)
        leaves, others = pytree.tree_leaves(found), pytree.tree_leaves(expected)
        assert len(leaves) == len(others) and type(found) is type(expected)
        for i, (a, b) in enumerate(zip(leaves, others, strict=True)):
            if isinstance(b, Tensor):
                yield f"output {i}", a.detach(), b.detach()
        for i, (a, b) in enumerate(zip(x, y, strict=True)):
            assert (a.grad is None) == (b.grad is None)
            if b.grad is not None:
                yield f"gradient of input {i}", a.grad, b.grad
        after, trained = net.child(row).state_dict(), child.state_dict()
        assert set(after) == set(trained)
        for name, tensor in trained.items():
            yield name, after[name], tensor
        changed = sum(int((t != before[n]).sum()) for n, t in net.state_dict().items())
        assert changed <= sum(t.numel() for t in trained.values())
        net.load_state_dict(before)


def built(
    net: sn.Supernet, row: Any, child: nn.Module, inputs: Sequence[Tensor]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """A child beside what the space makes of the row, with the child's weights."""
    other = net.space.decode(row).build().train(child.training)
    assert str(other) == str(child)
    other.load_state_dict(child.state_dict())
    with torch.no_grad():
        a, b = pytree.tree_leaves(other(*inputs)), pytree.tree_leaves(child(*inputs))
    for x, y in zip(a, b, strict=True):
        if isinstance(y, Tensor):
            yield "output of the network as built", x, y


def live(x: Tensor) -> Tensor:
    return x.clone().requires_grad_(x.is_floating_point())


def step(network: nn.Module, inputs: Sequence[Tensor], rate: float = 0.1) -> Any:
    """One step of plain gradient descent on a random sum of the outputs; what they were."""
    for parameter in network.parameters():
        parameter.grad = None
    output = network(*inputs)
    tensors = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
    # Random weights: the plain sum of what a norm gives has no gradient.
    generator = torch.Generator().manual_seed(2)
    loss = sum(
        (t * torch.rand(t.shape, generator=generator, dtype=torch.float64)).sum() for t in tensors
    )
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad
    return output


def largest_difference(net: sn.Supernet, row: Any, *inputs: Tensor) -> float:
    """Of all that `differences` compares, relative to the largest number (at least 1) of each."""
    found = 0.0
    for what, a, b in differences(net, row, *inputs):
        if a.shape != b.shape or not bool(torch.isfinite(b).all()):
            raise AssertionError(f"{what}: {tuple(a.shape)}, {tuple(b.shape)}, or not finite")
        if b.numel():
            scale = max(1.0, float(b.abs().max()))
            found = max(found, float((a - b).abs().max()) / scale)
    return found


def scramble(net: sn.Supernet) -> None:
    """Weights under which no zero bias and no norm of ones hides a mistake."""
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + (0.5 if "var" in name else -0.5))


def rows_of(space: sn.Space, most: int = 6, seed: int = 0) -> Any:
    """All rows of a small space, some of a large one."""
    if not space.has_floats and space.size <= most:
        return np.concatenate(list(space.enumerate()))
    rows = space.sample(20 * most, seed)
    rows = np.unique(rows[space.is_valid(rows)], axis=0)
    return np.random.default_rng(seed).permutation(rows)[:most]


# Random programs ----------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.body(x)


class Joined(nn.Module):
    """The results of several branches, added or one behind the other."""

    def __init__(self, branches: Sequence[nn.Module], how: str) -> None:
        super().__init__()
        self.branches, self.how = nn.ModuleList(branches), how

    def forward(self, x: Tensor) -> Tensor:
        found = [branch(x) for branch in self.branches]
        return torch.cat(found, 1) if self.how == "cat" else torch.stack(found).sum(0)


class Squeeze(nn.Module):
    """Scales channels by a function of their means."""

    def __init__(self, channels: int, inside: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, inside), nn.ReLU(), nn.Linear(inside, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        means = x.flatten(2).mean(2) if x.ndim > 2 else x
        scale = self.layers(means)
        return x * (scale[:, :, None, None] if x.ndim > 2 else scale)


class Programs:
    """Random programs whose widths fit: nested sequences of layers, branches, choices and repeats.

    Args:
        pick: chooses among options.
        size: about how many layers at most.
    """

    def __init__(self, pick: Pick, size: int = 12) -> None:
        self.pick, self.left = pick, size
        self.widths: list[Any] = []

    def space(self) -> sn.Space:
        images = self.pick([True, False])
        first = self.pick([2, 3])
        body, width = self.layers(images, first, depth=3, least=2)
        if images:
            side = self.pick([1, 2])
            head = [sn.nn.AdaptiveAvgPool2d(side), sn.nn.Flatten()]
            body += [*head, sn.nn.Linear(width * (side * side), 2)]
        else:
            body.append(sn.nn.Linear(width, 2))
        return sn.Space(sn.nn.Sequential(*body), input=(first, 6, 6) if images else (first,))

    # Widths and other numbers ---------------------------------------------------------------------

    def number(self, values: Sequence[Any]) -> Any:
        """One value, or a choice of several."""
        if self.pick([True, False]):
            return self.pick(values)
        return sn.oneof(values)

    def width(self) -> Any:
        """A number, a new choice, one that was made before, or something computed from it."""
        kind = self.pick(["new", "number", "old", "derived"])
        if kind == "number":
            return self.pick([2, 3, 4])
        if kind == "new" or not self.widths:
            self.widths.append(sn.oneof(self.pick([[2, 4], [2, 3, 5], [4, 3]])))
            return self.widths[-1]
        width = self.pick(self.widths)
        return width if kind == "old" else self.pick([width + 1, width * 2, 7 - width])

    # Modules --------------------------------------------------------------------------------------

    def layers(self, images: bool, width: Any, depth: int, least: int = 1) -> tuple[list[Any], Any]:
        """Some modules that follow one another, and how wide the last one's result is."""
        found = []
        for _ in range(self.pick([least, least + 1])):
            kinds = ["layer", "norm", "activation", "squeeze"]
            if depth > 0 and self.left > 0:
                kinds += ["nested", "residual", "choice", "repeat", "add", "cat", "several"]
            module, width = getattr(self, self.pick(kinds))(images, width, depth - 1)
            self.left -= 1
            found.append(module)
        return found, width

    def same(self, images: bool, width: Any, depth: int) -> Any:
        """A module that keeps the width."""
        return self.to(images, width, width, depth)

    def to(self, images: bool, before: Any, after: Any, depth: int) -> Any:
        """A module from one width to another."""
        found, width = self.layers(images, before, depth)
        if width is not after:
            found.append(self.affine(images, width, after))
        return found[0] if len(found) == 1 else sn.nn.Sequential(*found)

    def affine(self, images: bool, before: Any, after: Any) -> Any:
        bias = self.number([True, False])
        if not images:
            return sn.nn.Linear(before, after, bias=bias)
        kernel = self.number(self.pick([[1, 3], [3, 5], [1, 3, 5]]))
        half = kernel // 2
        if before is after and self.pick([True, False]):
            return sn.nn.Conv2d(before, after, kernel, padding=half, groups=after, bias=bias)
        return sn.nn.Conv2d(before, after, kernel, padding=half, bias=bias)

    def layer(self, images: bool, width: Any, depth: int) -> tuple[Any, Any]:
        after = width if self.pick([True, False]) else self.width()
        return self.affine(images, width, after), after

    def norm(self, images: bool, width: Any, depth: int) -> tuple[Any, Any]:
        kind = self.pick(["batch", "group", "layer"])
        if kind == "batch":
            make = sn.nn.BatchNorm2d if images else sn.nn.BatchNorm1d
            # A small eps would make differences of 1e-16 large where a channel is constant.
            return make(width, eps=0.1), width
        if kind == "group" or images:
            return sn.nn.GroupNorm(1, width, eps=0.1), width
        return sn.nn.LayerNorm(width, eps=0.1), width

    def activation(self, images: bool, width: Any, depth: int) -> tuple[Any, Any]:
        made = [sn.nn.ReLU(), sn.nn.Tanh(), sn.nn.PReLU(width), sn.nn.Dropout(0.5)]
        return self.number(made), width

    def squeeze(self, images: bool, width: Any, depth: int) -> tuple[Any, Any]:
        return sn.spec(Squeeze, width, self.width()), width

    def nested(self, images: bool, width: Any, depth: int) -> tuple[Any, Any]:
        found, width = self.layers(images, width, depth)
        return sn.nn.Sequential(*found), width

    def residual(self, images: bool, width: Any, depth: int) -> tuple[Any, Any]:
        return sn.spec(Residual, self.same(images, width, depth)), width

    def choice(self, images: bool, width: Any, depth: int) -> tuple[Any, Any]:
        after = width if self.pick([True, False]) else self.width()
        found = [self.to(images, width, after, depth) for _ in range(self.pick([2, 3]))]
        if after is width:
            found.append(sn.nn.Identity())
        # Equal candidates would be merged, with a warning.
        tagged = [sn.nn.Sequential(f, sn.nn.Dropout(0.01 * i)) for i, f in enumerate(found)]
        return sn.oneof(tagged), after

    def several(self, images: bool, width: Any, depth: int) -> tuple[Any, Any]:
        found = [
            sn.nn.Sequential(self.same(images, width, depth), sn.nn.Dropout(0.01 * i))
            for i in range(3)
        ]
        distinct, ordered = self.pick([(True, True), (True, False), (False, False)])
        return sn.spec(Joined, sn.manyof(2, found, distinct=distinct, sorted=ordered), "add"), width

    def repeat(self, images: bool, width: Any, depth: int) -> tuple[Any, Any]:
        times = self.pick([sn.intv(0, 2), sn.intv(1, 2), 2])
        if isinstance(width, int) and self.pick([True, False]):
            # All choices in one spec are made anew for each block, so none may be used around it.
            return sn.repeat(self.same(images, width, depth), times), width
        return sn.repeat(lambda i: self.same(images, width, depth), times), width

    def add(self, images: bool, width: Any, depth: int) -> tuple[Any, Any]:
        after = self.width()
        branches = [self.to(images, width, after, depth) for _ in range(2)]
        return sn.spec(Joined, branches, "add"), after

    def cat(self, images: bool, width: Any, depth: int) -> tuple[Any, Any]:
        one, two = self.width(), self.width()
        branches = [self.to(images, width, w, depth) for w in (one, two)]
        return sn.spec(Joined, branches, "cat"), one + two
