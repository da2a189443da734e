"""`symnas demo`: the whole of symnas on real digits, in a few minutes."""

from __future__ import annotations

import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from symnas.searching.search import search
from symnas.tasks.task import Task

# Random networks whose latency is predicted to find the bound; half of them are above it.
PREDICTED = 1000
SEARCH_EPOCHS = 2
FINAL_EPOCHS = 20
# On a slow machine the search ends here; called again, the demo goes on with the missing trials.
SEARCH_SECONDS = 150


def run_demo(out: Path, trials: int, seed: int) -> dict[str, Any]:
    """Searches, trains the best network and writes everything to a folder; returns the results.

    Results: `accuracy` on held-out digits, `latency_ms` and `bound_ms` on this machine.
    """
    from symnas import data

    console = Console()
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    # The command line finds plug-ins by name, as it finds those of other packages.
    space = _plug_in("symnas.spaces", "mobilenet")()
    latency = _plug_in("symnas.cost_models", "latency")()
    evolution = _plug_in("symnas.algorithms", "evolution")
    digits = data.mnist5k()
    recipe: dict[str, Any] = {
        "batch_size": 64, "lr": 5e-3, "weight_decay": 1e-4, "schedule": "onecycle",
        "label_smoothing": 0.05, "augment": data.shift(2),
    }  # fmt: skip
    task = Task(digits.train, test=digits.test, epochs=SEARCH_EPOCHS, **recipe)

    console.rule("[bold]1. The space")
    console.print(f"{space!r}: inverted bottlenecks for {space.input} images, 10 classes.")
    console.print("Timing its operations on this machine, and some whole networks beside them ...")
    bound = latency.bind(space)
    costs = np.sort(bound(space.sample(PREDICTED, seed)))
    # Rounded down, so that at least half of them are excluded.
    limit = _recorded_limit(out, float(np.floor(np.median(costs) * 100) / 100))
    console.print(
        f"{costs[0]:.2f} to {costs[-1]:.2f} ms a picture (torch, one thread), median "
        f"{np.median(costs):.2f} ms. Bound: [bold]latency <= {limit:.2f} ms[/], which excludes "
        f"{(costs > limit).mean():.0%} of the space."
    )
    if bound.error is not None:
        console.print(f"Predicted against measured: {bound.error}.")

    console.rule("[bold]2. The search")
    study = search(
        space,
        evolution(population_size=max(4, trials // 3), tournament_size=3),
        task,
        maximize="accuracy",
        subject_to=[latency <= limit],
        trials=trials,
        seconds=SEARCH_SECONDS,
        study=out / "study.db",
        name="demo",
        seed=seed,
    )
    best = study.best
    console.rule("[bold]3. The best network")
    console.print(f"Training it for {FINAL_EPOCHS} epochs on all training digits ...")
    torch.manual_seed(seed)
    model = best.architecture.build()
    task.fit(model, FINAL_EPOCHS, seed, include_validation=True)
    accuracy = task.test(model)["accuracy"]
    measured = latency.measure(best.architecture)

    (out / "best.py").write_text(best.architecture.to_python())
    torch.save(model.state_dict(), out / "best.pt")
    from symnas.architecture.onnx import to_onnx

    to_onnx(model, out / "best.onnx", input=space.input)  # compared with torch's output
    final = {
        "test accuracy": accuracy,
        "latency, ms": measured,
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": FINAL_EPOCHS,
    }
    study.report(out / "report.html", final=final)
    console.print(
        f"Accuracy on {len(digits.test[1])} held-out digits: [bold]{accuracy:.2%}[/]; measured "
        f"latency [bold]{measured:.2f} ms[/] (bound {limit:.2f}); "
        f"{final['parameters']:,} parameters; {time.monotonic() - began:.0f} s in all."
    )
    console.print(
        f"\n{out}/report.html   what was searched and found: open it in a browser\n"
        f"{out}/best.py        the network's source, which runs without symnas\n"
        f"{out}/best.pt        its trained weights (a state_dict)\n"
        f"{out}/best.onnx      the trained network, checked against torch\n"
        f"{out}/study.db       every trial: symnas report {out}/study.db\n\n"
        f"Next: `symnas demo --trials {2 * trials}` continues this search; "
        "`symnas search --help` searches your own space."
    )
    return {"accuracy": accuracy, "latency_ms": measured, "bound_ms": limit}


def _recorded_limit(out: Path, limit: float) -> float:
    """The bound that the folder's search was begun with, so that it continues under it."""
    file = out / "bound_ms.txt"
    if file.exists():
        return float(file.read_text())
    file.write_text(str(limit))
    return limit


def _plug_in(group: str, name: str) -> Any:
    (point,) = entry_points(group=group, name=name)
    return point.load()
