"""Descriptions of accelerators: their memories, their array of multipliers, and its dataflow."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs

from symnas.errors import MissingExtra

# What each dimension of an array runs in parallel, where that is a property of the hardware. The
# descriptions themselves come with ZigZag (`zigzag/inputs/hardware`); without an entry here, the
# mapping that keeps most multipliers busy is searched for each layer, as in a flexible array.
_DATAFLOWS: dict[str, dict[str, str]] = {
    # Output and input channels across, four by four positions of the output besides.
    "edge_tpu_like": {"D1": "K, 8", "D2": "C, 8", "D3": "OX, 4", "D4": "OY, 4"},
    # N. Jouppi et al., "In-Datacenter Performance Analysis of a Tensor Processing Unit",
    # ISCA 2017, Section 2: weights stay in a systolic array, inputs move across, sums down.
    "tpu_like": {"D1": "K, 32", "D2": "C, 32"},
}
LINKS = {"O": "O", "W": "I2", "I": "I1"}


@attrs.frozen(eq=False)
class Hardware:
    """An accelerator as data for JSON.

    Attributes:
        name: of the description.
        data: the description, in ZigZag's format.
        mapping: how kinds of layers are spread over the array, in ZigZag's format.
        mixed: whether several loops may share a dimension of the array.
    """

    name: str
    data: dict[str, Any]
    mapping: list[dict[str, Any]]
    mixed: bool = False

    @property
    def digest(self) -> str:
        """Equal for equal hardware and mappings."""
        parts = [self.data, self.mapping, *(["mixed"] if self.mixed else [])]
        text = json.dumps(parts)  # unsorted: the order of memories counts
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def outermost(self, reads: float, writes: float) -> tuple[float, float]:
        """Picojoules and cycles to read and write so many bits of the outermost memory."""
        memory = list(self.data["memories"].values())[-1]
        words = []
        ports = []
        for bits, kind in ((reads, "read"), (writes, "write")):
            port = next(p for p in memory["ports"] if kind in p["type"])
            words.append(-(-bits // port["bandwidth_max"]))
            ports.append(port["name"])
        energy = words[0] * memory["r_cost"] + words[1] * memory["w_cost"]
        return energy, sum(words) if ports[0] == ports[1] else max(words)


def bundled() -> list[str]:
    """The names of the descriptions that come with ZigZag and compute in digital multipliers.

    Raises:
        MissingExtra: ZigZag is not installed.
    """
    found = (Path(zigzag_folder()) / "inputs" / "hardware").glob("*.yaml")
    return sorted(path.stem for path in found if not _in_memory(_read(path)))


def load(accelerator: str, mapping: str | None = None) -> Hardware:
    """The description of an accelerator.

    Args:
        accelerator: a name of `bundled()`, or the path of a YAML file in ZigZag's format.
        mapping: the path of a YAML file in ZigZag's format. Layers are named "convolution",
            "pointwise", "grouped", "depthwise" and "matmul" there; what it does not list is mapped
            as it says of "default".

    Raises:
        MissingExtra: ZigZag is not installed.
        ValueError: there is no such description, or it is not one.
    """
    folder = Path(zigzag_folder()) / "inputs" / "hardware"
    path = Path(accelerator).expanduser()
    if not accelerator.endswith((".yaml", ".yml")):
        path = folder / f"{accelerator}.yaml"
        if not path.is_file():
            raise ValueError(
                f"The accelerator {accelerator!r} is unknown. It must be one of "
                f"{', '.join(bundled())}, or the path of a description (.yaml)."
            )
    data = _read(path)
    missing = [part for part in ("memories", "operational_array") if not _has(data, part)]
    if missing:
        raise ValueError(
            f"The accelerator {accelerator!r} is no hardware description: `{missing[0]}` is "
            "missing. The format is that of the files in zigzag/inputs/hardware."
        )
    if _in_memory(data):
        raise ValueError(
            f"The accelerator {accelerator!r} computes inside its memory, which is not modelled "
            f"here. Use one of {', '.join(bundled())}."
        )
    name = str(data.get("name") or path.stem)
    if mapping is None:
        return Hardware(name, data, _dataflow(accelerator))
    entries = _read(Path(mapping).expanduser())
    if not isinstance(entries, list) or not any(_named(e, "default") for e in entries):
        raise ValueError(
            f"The mapping {mapping!r} has no entry `name: default`: add one, for layers that it "
            "does not list. The format is that of the files in zigzag/inputs/mapping."
        )
    return Hardware(name, data, entries)


def installed() -> bool:
    """Whether ZigZag is there with what it needs; nothing is imported."""
    return all(importlib.util.find_spec(name) for name in ("zigzag", "six", "yaml"))


def zigzag_folder() -> str:
    """Where ZigZag is installed.

    Raises:
        MissingExtra: it is not.
    """
    spec = importlib.util.find_spec("zigzag") if installed() else None
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(
            "Mapping layers on accelerators needs ZigZag: pip install 'symnas[accelerators]' "
            "(Python 3.11 or later)."
        )
    return str(spec.submodule_search_locations[0])


def zigzag_version() -> str:
    """The installed version, on which results depend."""
    try:
        return version("zigzag-dse")
    except PackageNotFoundError:  # run from its sources
        return "unknown"


def _dataflow(accelerator: str) -> list[dict[str, Any]]:
    fixed = _DATAFLOWS.get(accelerator)
    if fixed is None:
        return [{"name": "default", "memory_operand_links": LINKS}]
    spread = {dimension: [loop] for dimension, loop in fixed.items()}
    # A depthwise convolution has one channel in each group: the groups take their place.
    apart = {d: [loop.replace("K,", "G,") for loop in loops] for d, loops in spread.items()}
    return [
        {"name": "default", "spatial_mapping": spread, "memory_operand_links": LINKS},
        {"name": "depthwise", "spatial_mapping": apart, "memory_operand_links": LINKS},
    ]


def _read(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"The description {str(path)!r} cannot be read ({error}): give the path of a YAML file."
        ) from error
    except yaml.YAMLError as error:
        raise ValueError(f"The description {str(path)!r} is not valid YAML: {error}") from error


def _named(entry: Any, name: str) -> bool:
    return isinstance(entry, dict) and entry.get("name") == name


def _has(data: Any, part: str) -> bool:
    return isinstance(data, dict) and bool(data.get(part))


def _in_memory(data: Any) -> bool:
    return _has(data, "operational_array") and bool(data["operational_array"].get("is_imc"))
