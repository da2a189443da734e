"""The examples of a task: in memory as two tensors, or read item by item where they do not fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from symnas.errors import DeclarationError

# A Dataset whose items take more than this stays on disk and is read in every epoch.
MEMORY_LIMIT = 2 * 1024**3  # bytes

Pair = tuple[Tensor, Tensor]

_RELABEL = "Relabel with `y = numpy.unique(y, return_inverse=True)[1]`."


@attrs.frozen(eq=False, repr=False, slots=False)
class Examples:
    """Inputs `(n, ...)` and targets `(n, ...)` in memory."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"{len(self)} x {self.input}"

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.x.shape[1:])

    @property
    def targets(self) -> Tensor:
        """All targets, `(n, ...)`."""
        return self.y

    def on(self, device: torch.device) -> Examples:
        """The same examples on a device."""
        return self if self.x.device == device else Examples(self.x.to(device), self.y.to(device))

    def stream(self, indices: Sequence[Tensor], device: torch.device) -> Iterator[Pair]:
        """The examples `(x, y)` of each tensor of indices."""
        for index in indices:
            index = index.to(self.x.device)
            yield self.x[index].to(device), self.y[index].to(device)

    @cached_property
    def digest(self) -> str:
        """Hash of the content; equal data have equal digests in every process."""
        hasher = hashlib.sha256()
        for tensor in (self.x, self.y):
            array = tensor.detach().cpu().contiguous().numpy()
            hasher.update(f"{array.dtype.str}{array.shape}".encode())
            hasher.update(array.reshape(-1).view(np.uint8).data)
        return hasher.hexdigest()[:32]


@attrs.frozen(eq=False, repr=False, slots=False)
class LazyExamples:
    """A map-style Dataset that is read anew in every epoch: too large, or random, to be kept."""

    dataset: Any
    targets: Tensor  # (n, ...)
    input: tuple[int, ...]
    loaders: int = 0  # processes that read ahead

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return f"{len(self)} x {self.input} read from {type(self.dataset).__name__}"

    def on(self, device: torch.device) -> LazyExamples:
        """Itself: batches are moved one by one."""
        return self

    def stream(self, indices: Sequence[Tensor], device: torch.device) -> Iterator[Pair]:
        """The examples `(x, y)` of each tensor of indices."""
        loader: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(
            self.dataset,
            batch_sampler=[index.tolist() for index in indices],
            collate_fn=_collate,
            num_workers=self.loaders,
            pin_memory=device.type == "cuda",
        )
        for x, y in loader:
            yield (
                x.to(device, non_blocking=True),
                y.to(device, self.targets.dtype, non_blocking=True),
            )

    @cached_property
    def digest(self) -> str:
        """Hash of the dataset's type, length, targets and input shape: not of the inputs."""
        name = f"{type(self.dataset).__module__}:{type(self.dataset).__qualname__}"
        text = f"{name} {len(self)} {self.input} {self.targets.dtype}"
        targets = self.targets.contiguous().numpy().tobytes()
        return hashlib.sha256(text.encode() + targets).hexdigest()[:32]


AnyExamples = Examples | LazyExamples


def examples_of(argument: str, data: Any, loaders: int = 0) -> AnyExamples:
    """What a user passes as data, as examples.

    Args:
        argument: its name in error messages.
        data: a pair `(x, y)` of numpy arrays or tensors, or a map-style torch Dataset whose items
            are such pairs. A Dataset is read into memory once if it fits in `MEMORY_LIMIT` and
            an item read twice is the same item (no random transforms).
        loaders: processes that read a Dataset which is not kept in memory.

    Raises:
        DeclarationError: there are no examples, lengths differ, a type cannot be trained on, an
            input is NaN or infinite.

    >>> import numpy as np
    >>> examples_of("train", (np.zeros((4, 2)), np.array([0, 1, 0, 1])))
    4 x (2,)
    """
    if isinstance(data, Examples | LazyExamples):
        return data
    if isinstance(data, tuple | list) and len(data) == 2 and all(_is_array(part) for part in data):
        return _in_memory(argument, inputs_of(argument, data[0]), _targets_of(argument, data[1]))
    if isinstance(data, torch.utils.data.TensorDataset) and len(data.tensors) == 2:
        return examples_of(argument, data.tensors)
    if (
        isinstance(data, torch.utils.data.IterableDataset)
        or not (hasattr(data, "__getitem__") and hasattr(data, "__len__"))
        or isinstance(data, tuple | list | dict | str | torch.Tensor | np.ndarray)
    ):
        raise DeclarationError(
            f"sn.Task: `{argument}` ({type(data).__name__}) must be a pair (x, y) of arrays or "
            "tensors, or a torch Dataset with __len__ and __getitem__ (map-style)."
        )
    return _read(argument, data, loaders)


def inputs_of(argument: str, x: Any) -> Tensor:
    """Inputs as a float32 or int64 tensor.

    Raises:
        DeclarationError: they are of another type.
    """
    inputs = _tensor(argument, x)
    if inputs.dtype == torch.uint8:
        raise DeclarationError(
            f"sn.Task: the inputs of `{argument}` are uint8, which no layer takes. Scale images, "
            "`x.astype('float32') / 255`, or make token ids `x.astype('int64')`."
        )
    if inputs.dtype.is_floating_point:
        return inputs.float()
    if inputs.dtype.is_complex:
        raise DeclarationError(
            f"sn.Task: the inputs of `{argument}` are complex. Stack real and imaginary parts."
        )
    return inputs.long()


def as_kind(examples: AnyExamples, kind: str) -> AnyExamples:
    """The examples with targets of the type that a kind of task needs: labels or real numbers.

    Raises:
        DeclarationError: classification of real numbers.
    """
    if kind == "regression" and not examples.targets.dtype.is_floating_point:
        if isinstance(examples, Examples):
            return attrs.evolve(examples, y=examples.y.float())
        return attrs.evolve(examples, targets=examples.targets.float())
    if kind == "classification" and examples.targets.dtype.is_floating_point:
        raise DeclarationError(
            "sn.Task: the targets of `train` are class labels, but those of held-out data are real "
            "numbers. Pass both as integers, `y.astype('int64')`."
        )
    return examples


def _read(argument: str, dataset: Any, loaders: int) -> AnyExamples:
    if len(dataset) == 0:
        raise DeclarationError(f"sn.Task: `{argument}` has no examples.")
    first, target = _item(argument, dataset, 0)
    size = len(dataset) * (first.nbytes + target.nbytes)
    if size <= MEMORY_LIMIT and not _is_random(argument, dataset):
        items = [_item(argument, dataset, index) for index in range(len(dataset))]
        shapes = sorted({tuple(x.shape) for x, _ in items})
        if len(shapes) > 1:
            raise DeclarationError(
                f"sn.Task: the inputs of `{argument}` have different shapes: {shapes[0]} and "
                f"{shapes[1]}. Crop, pad or resize them to one shape in the Dataset."
            )
        x = torch.stack([x for x, _ in items])
        y = torch.stack([y for _, y in items])
        return _in_memory(argument, inputs_of(argument, x), _targets_of(argument, y))
    known = getattr(dataset, "targets", None)
    if known is None or len(known) != len(dataset):
        known = torch.stack([_item(argument, dataset, index)[1] for index in range(len(dataset))])
    inputs_of(argument, first)
    targets = _targets_of(argument, known if _is_array(known) else np.asarray(known))
    return LazyExamples(dataset, targets, tuple(first.shape), loaders)


def _is_random(argument: str, dataset: Any) -> bool:
    for index in range(min(4, len(dataset))):
        one, other = (_item(argument, dataset, index)[0] for _ in range(2))
        if one.shape != other.shape or not torch.equal(one, other):
            return True
    return False


def _item(argument: str, dataset: Any, index: int) -> tuple[Tensor, Tensor]:
    item = dataset[index]
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DeclarationError(
            f"sn.Task: item {index} of `{argument}` is a {type(item).__name__}; each item must be "
            "a pair (input, target). Wrap the Dataset in one that returns such pairs."
        )
    x, y = item
    if not _is_array(x):
        raise DeclarationError(
            f"sn.Task: the input of item {index} of `{argument}` is a {type(x).__name__}; it must "
            "be a tensor or an array. Convert it in the Dataset (for images: a ToTensor transform)."
        )
    return torch.as_tensor(x), torch.as_tensor(y)


def _collate(items: list[Any]) -> tuple[Tensor, Tensor]:
    pairs = [_item("train", [item], 0) for item in items]
    x, y = torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs])
    return x.float() if x.dtype.is_floating_point else x, _targets_of("train", y)


def _in_memory(argument: str, x: Tensor, y: Tensor) -> Examples:
    if len(x) != len(y):
        raise DeclarationError(
            f"sn.Task: `{argument}` has {len(x)} inputs but {len(y)} targets. Pass as many "
            "targets as inputs, in the same order."
        )
    if len(x) == 0:
        raise DeclarationError(f"sn.Task: `{argument}` has no examples.")
    for name, tensor in (("inputs", x), ("targets", y)):
        if tensor.dtype.is_floating_point and not bool(torch.isfinite(tensor).all()):
            wrong = ~torch.isfinite(tensor.reshape(len(tensor), -1)).all(1)
            raise DeclarationError(
                f"sn.Task: {int(wrong.sum())} of the {len(x)} {name} of `{argument}` hold NaN or "
                f"infinity (the first: example {int(wrong.nonzero()[0])}). Drop or impute them."
            )
    return Examples(x, y)


def _targets_of(argument: str, y: Any) -> Tensor:
    if isinstance(y, np.ndarray) and y.dtype.kind in "OUS":
        raise DeclarationError(
            f"sn.Task: the targets of `{argument}` are of type {y.dtype}, not numbers. {_RELABEL}"
        )
    targets = _tensor(argument, y)
    return targets.float() if targets.dtype.is_floating_point else targets.long()


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) or hasattr(value, "__array__")


def _tensor(argument: str, value: Any) -> Tensor:
    # Copies: a later change of the caller's data must not reach the trials.
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    array = np.asarray(value)
    if array.dtype.kind not in "fiubc":
        raise DeclarationError(
            f"sn.Task: `{argument}` holds values of type {array.dtype}; they must be numbers."
        )
    return torch.from_numpy(np.ascontiguousarray(array).copy())
