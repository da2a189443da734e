"""A search that torchrun starts, twice over: `torchrun_search.py STUDY`; tells beside it what it found."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import distributed_cases as cases

import symnas as sn

if __name__ == "__main__":
    case, study = cases.CASES["spos without norms"], Path(sys.argv[1])
    told = []
    for _ in range(2):
        found = sn.search(
            case.space(), case.algorithm, cases.digits(replicas="torchrun"), maximize="accuracy",
            study=study, progress=False,
        )  # fmt: skip
        epochs = found.training["epochs"] if found.trials else []
        told.append({"rows": [list(trial.row) for trial in found.trials], "epochs": epochs})
    (study.parent / f"{os.environ['RANK']}.json").write_text(json.dumps(told))
