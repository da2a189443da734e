"""Kills a search at random moments, many times, and compares it with one left in peace.

    python benchmarks/kill.py --kills 200
    python benchmarks/kill.py --kills 10 --workers 2
    python benchmarks/kill.py --kills 10 --workers 2 --algorithm asha

The search runs in a forked child, which gets SIGKILL at a random time; then the same call
continues it from the file. Printed at the end, and 0 each if all is well:

- lost: results that were measured or recorded before a kill and not, or differently, after it;
- repeated: evaluations of trials whose result was recorded already;
- differing: trials that are not those of the undisturbed search, by row, budget or score.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from symnas.algorithms.asha import ASHA
from symnas.algorithms.successive_halving import SuccessiveHalving

import symnas as sn
from symnas import algorithms as alg

AHEAD = 2
EVOLUTION = alg.RegularizedEvolution(population_size=20, tournament_size=5)
ALGORITHMS = {
    "evolution": EVOLUTION,
    "asha": ASHA(EVOLUTION, budgets=(1, 3, 9)),
    "halving": SuccessiveHalving(EVOLUTION, budgets=(1, 3, 9)),
}


@sn.symbolize
class Layer(torch.nn.Linear):
    """A linear layer with an argument to choose."""

    def __init__(self, width: int, scale: float = 1.0) -> None:
        super().__init__(width, width)
        self.scale = scale


def space() -> sn.Space:
    """Twelve decisions of four values."""
    layers = [Layer(4, scale=sn.oneof([0.5, 1.0, 2.0, 4.0])) for _ in range(12)]
    return sn.Space(sn.nn.Sequential(*layers))


def task(architecture: sn.Architecture, trial: object, log: str, seconds: float) -> float:
    """Appends the trial's number to a file, takes its time, and scores the row with noise."""
    number = trial.number  # type: ignore[attr-defined]
    with open(log, "a") as file:
        file.write(f"{number}\n")
    time.sleep(seconds)
    assert architecture.row is not None
    noise = float(torch.rand(()))  # from the trial's seed: a repetition would show
    return sum((i + 1) * value for i, value in enumerate(architecture.row)) + noise


def search(
    study: Path, log: Path, trials: int, workers: int, seconds: float, algorithm: str
) -> None:
    """The call that is killed and made again."""
    sn.search(
        space(),
        ALGORITHMS[algorithm],
        partial(task, log=str(log), seconds=seconds),
        maximize="score",
        trials=trials,
        study=study,
        workers=workers,
        ahead=AHEAD,
        progress=False,
    )


def in_child(arguments: tuple[object, ...], rng: random.Random | None) -> bool:
    """Runs `search` in a fork, and kills it at a random moment; whether it was still running."""
    child = os.fork()
    if child == 0:
        try:
            search(*arguments)  # type: ignore[arg-type]
        except BaseException as error:
            print("child:", error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if rng is not None:
        wait(Path(str(arguments[1])), child, rng)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise SystemExit("the search failed in the child")
    return False


def wait(log: Path, child: int, rng: random.Random) -> None:
    """Waits a random time, mostly from when the child has evaluated some more trials."""
    if rng.random() < 0.8:  # the others hit it while it starts and replays
        size = log.stat().st_size if log.exists() else 0
        size += rng.randrange(100)  # bytes, up to 25 or so trials
        while not log.exists() or log.stat().st_size <= size:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(0.001)
    time.sleep(rng.uniform(0.0, 0.01))


def finished(study: Path) -> dict[int, object]:
    """Row, budget and scores of the finished trials, by number; {} before there is a study."""
    try:
        opened = sn.Study.open(study)
    except (FileNotFoundError, KeyError, sn.StorageError):
        return {}
    return {t.number: (t.row, t.budget, t.scores) for t in opened.trials if t.state != "running"}


def main() -> int:
    """Runs the comparison; the exit status is 1 if anything was lost, repeated or differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--trials", type=int, default=None, help="by default 20 a kill")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.003, help="a trial takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--algorithm", choices=list(ALGORITHMS), default="evolution")
    options = parser.parse_args()
    trials = options.trials or 20 * options.kills
    rng = random.Random(options.seed)
    # What takes long is done before the forks, so that kills hit the search and not its imports.
    sn.search(
        space(), alg.RandomSearch(), lambda a: 0.0, maximize="score", trials=1, progress=False
    )
    with tempfile.TemporaryDirectory() as folder:
        study, log = Path(folder, "killed.db"), Path(folder, "killed.log")
        arguments = (study, log, trials, options.workers, options.seconds, options.algorithm)
        kills = lost = repeated = 0
        known: dict[int, object] = {}
        read = 0
        for last in [False] * options.kills + [True]:
            kills += in_child(arguments, None if last else rng)
            lines = log.read_text().split() if log.exists() else []
            repeated += sum(int(line) in known for line in lines[read:])
            now = finished(study)
            lost += sum(now.get(number) != result for number, result in known.items())
            # What was evaluated but not recorded: no more than could be open at the kill.
            lost += max(0, len(lines) - read - (len(now) - len(known)) - AHEAD)
            read, known = len(lines), now
        peaceful = Path(folder, "peaceful.db")
        calm = (peaceful, Path(folder, "peaceful.log"), trials, 1, 0.0, options.algorithm)
        in_child(calm, None)
        undisturbed = finished(peaceful)
        differing = sum(known.get(n) != undisturbed.get(n) for n in range(trials))
    print(
        f"kills {kills}, trials {trials}, evaluations {read}, "
        f"lost {lost}, repeated {repeated}, differing {differing}"
    )
    return int(bool(lost or repeated or differing))


if __name__ == "__main__":
    sys.exit(main())
