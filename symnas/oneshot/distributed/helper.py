"""A helper of a training: `python -m symnas.oneshot.distributed.helper <file descriptor>`."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any


def main() -> None:
    """Trains and measures what its leader does, until that needs it no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the leader, which ends us
    connection = Connection(int(sys.argv[1]))
    code = 1
    with contextlib.suppress(EOFError, OSError):
        code = _help(connection)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of torch and of the task may hang


def _help(connection: Connection) -> int:
    setup = connection.recv()
    sys.path[:], sys.argv[:] = setup["path"], setup["argv"]
    if setup["pythonpath"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = setup["pythonpath"]
    lost: Any = ()
    try:
        import torch

        from symnas.language import registry
        from symnas.oneshot.distributed.peers import joined
        from symnas.oneshot.distributed.team import Lost
        from symnas.oneshot.training import assist

        lost = Lost
        torch.set_num_threads(setup["threads"])
        work = pickle.loads(setup["work"])  # from our own parent, never from a file
        for target in work.callables:
            registry.register(target)
        connection.send((True, None))
        team = joined(work.task, setup["rank"], setup["size"], setup["file"])
        assist(work.algorithm.start(work.problem), work.task, team)
    except lost:
        return 1  # the leader has gone, or knows who has
    except BaseException as error:
        connection.send((False, f"{type(error).__name__}: {error}"))
        return 1
    return 0


if __name__ == "__main__":
    main()
