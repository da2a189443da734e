"""Hyper-parameters are decisions too: choices in a Task's arguments join the search."""

from quickstart import tiny

import symnas as sn
from symnas import algorithms as alg
from symnas import data

digits = data.digits()
task = sn.Task(
    digits.train,
    epochs=2,
    lr=sn.floatv(1e-3, 3e-2, scale="log"),
    optimizer=sn.oneof(["adamw", "sgd"]),
)
study = sn.search(tiny(), alg.RandomSearch(), task, maximize="accuracy", trials=6, seed=3)
print(study.frame()[["task.lr", "task.optimizer", "accuracy"]])
print("best:", study.best.architecture.task)
