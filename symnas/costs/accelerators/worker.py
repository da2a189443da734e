"""A process that maps layers on an accelerator: lines of JSON in, lines of JSON out.

Started by `symnas.costs.accelerators.mapper`. The first line has the hardware and options, every
other one a layer. Nothing but numbers comes back.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import sys
from typing import Any

# What the best mapping of a layer is; ties are broken by the second number.
OBJECTIVES = ("energy", "latency", "edp")


def map_layer(setting: dict[str, Any], layer: dict[str, Any]) -> dict[str, list[float]]:
    """Picojoules and cycles of a layer under the best mapping found, for each objective.

    The stages are those of ZigZag's own pipeline (L. Mei et al., "ZigZag: Enlarging Joint
    Architecture-Mapping Design Space Exploration for DNN Accelerators", IEEE Transactions on
    Computers 70(8), 2021), without the ones that write files; temporal mappings are those of LOMA
    (A. Symons et al., "LOMA", AICAS 2021).

    Args:
        setting: `hardware` and `mapping` in ZigZag's formats, `mixed`, `lpf_limit`, `spatial_mappings`.
        layer: in ZigZag's workload format.
    """
    from zigzag.mapping.temporal_mapping import TemporalMappingType
    from zigzag.stages.evaluation.cost_model_evaluation import CostModelStage
    from zigzag.stages.mapping.spatial_mapping_generation import SpatialMappingGeneratorStage
    from zigzag.stages.mapping.temporal_mapping_generator_stage import TemporalMappingGeneratorStage
    from zigzag.stages.workload_iterator import WorkloadStage

    stages: list[Any] = [
        SpatialMappingGeneratorStage,
        TemporalMappingGeneratorStage,
        CostModelStage,
    ]
    pipeline: Any = WorkloadStage(
        stages,
        workload=_workload(layer, setting["mapping"]),
        accelerator=_accelerator(setting["hardware"]),
        loma_lpf_limit=setting["lpf_limit"],
        loma_show_progress_bar=False,
        nb_mappings_generated=setting["spatial_mappings"],
        enable_mix_spatial_mapping_generation=setting.get("mixed", False),
        access_same_data_considered_as_no_access=True,
        temporal_mapping_type=TemporalMappingType("uneven"),
    )
    best: dict[str, tuple[float, float, float, float]] = {}
    for evaluation, _ in pipeline.run():
        energy, cycles = float(evaluation.energy_total), float(evaluation.latency_total2)
        orders = {
            "energy": (energy, cycles),
            "latency": (cycles, energy),
            "edp": (energy * cycles, energy),
        }
        for objective, order in orders.items():
            found = (*order, energy, cycles)
            best[objective] = min(best.get(objective, found), found)
    result = {objective: list(found[2:]) for objective, found in best.items()}
    if not result or not all(math.isfinite(n) for pair in result.values() for n in pair):
        raise ValueError("no mapping with a finite cost was found")
    return result


def _workload(layer: dict[str, Any], mapping: list[dict[str, Any]]) -> Any:
    from zigzag.parser.mapping_validator import MappingValidator
    from zigzag.parser.workload_factory import WorkloadFactory
    from zigzag.parser.workload_validator import WorkloadValidator

    layers = _validated(WorkloadValidator([copy.deepcopy(layer)]), "layer")
    return WorkloadFactory(
        layers, _validated(MappingValidator(copy.deepcopy(mapping)), "mapping")
    ).create()


def _accelerator(hardware: dict[str, Any]) -> Any:
    from zigzag.parser.accelerator_factory import AcceleratorFactory
    from zigzag.parser.accelerator_validator import AcceleratorValidator

    # Made anew for each layer: parts of the pipeline change it.
    data = _validated(AcceleratorValidator(copy.deepcopy(hardware)), "hardware description")
    return AcceleratorFactory(data).create()


def _validated(validator: Any, what: str) -> Any:
    data = validator.normalized_data
    if not validator.validate():
        raise ValueError(f"the {what} is not valid: {validator.validator.errors}")
    return data


def main() -> None:
    """Answers until standard input ends."""
    # ZigZag prints; the answers keep the real standard output to themselves.
    answers = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    logging.disable(logging.CRITICAL)
    setting = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"best": map_layer(setting, json.loads(line))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
