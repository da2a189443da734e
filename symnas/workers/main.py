"""The program of a worker process: `python -m symnas.workers.main <file descriptor>`."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from symnas.searching.evaluation import Evaluator
    from symnas.searchspace.space import Space


def main() -> None:
    """Evaluates what comes through the connection until it closes."""
    parent = os.getppid()
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    connection = Connection(int(sys.argv[1]))
    with contextlib.suppress(EOFError, OSError):
        _serve(connection)
    sys.stdout.flush()
    os._exit(0)  # threads and atexit hooks of the task may hang


def _serve(connection: Connection) -> None:
    setup = connection.recv()
    try:
        evaluate, space = _prepare(setup)
    except BaseException as error:
        from symnas.searching.evaluation import reason_of

        connection.send(("broken", reason_of(error)))
        return
    connection.send(("ready", None))

    def report(step: float, value: float) -> None:
        connection.send(("report", (step, value)))

    from symnas.searching.evaluation import Assignment

    while True:
        assignment, row = connection.recv()
        outcome = evaluate(Assignment(*assignment), functools.partial(space.decode, row), report)
        connection.send(("done", attrs.astuple(outcome, recurse=False)))


def _prepare(setup: dict[str, Any]) -> tuple[Evaluator, Space]:
    sys.path[:], sys.argv[:] = setup["path"], setup["argv"]
    if setup["pythonpath"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = setup["pythonpath"]

    import torch

    from symnas.searching.evaluation import Evaluator

    torch.set_num_threads(setup["threads"])
    payload = pickle.loads(setup["payload"])  # from our own parent, never from a file
    payload.register()
    evaluator = Evaluator(payload.task, payload.metrics, setup["device"], interrupts=False)
    return evaluator, payload.space


def _die_with(parent: int) -> None:
    """Ends this process when its parent is gone, even in the middle of a trial."""
    if sys.platform == "linux":
        import ctypes

        set_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
        if os.getppid() != parent:  # it went before the call
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
