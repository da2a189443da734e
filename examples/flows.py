"""Search flows: the same space, task and budget, searched jointly, separately, nested and mixed.

    python examples/flows.py                                   3 seeds on one published table: seconds
    python examples/flows.py --seeds 20                        as many as a comparison needs
    python examples/flows.py --seeds 20 --data ../shared/data  on Accel-NASBench, too

Peng et al. 2020, "PyGlove" (arXiv:2101.08809, section 4.3) compares such flows on NAS-Bench-101. Here
they run on NAS-Bench-Graph (26,206 graph networks on cora: how four operations are wired, and which
they are) and, where its file is, on Accel-NASBench (mobile networks: how deep each stage is, and what
its layers are). A flow is an algorithm, so nothing else of the program changes.
"""

import argparse
import difflib
import inspect
from pathlib import Path

from rich.console import Console
from rich.table import Table

import symnas as sn
from symnas import algorithms as alg
from symnas import benchmark


def joint(few: str, rest: str) -> sn.Algorithm:
    return alg.RegularizedEvolution()


def separate(few: str, rest: str) -> sn.Algorithm:
    return sn.flow.sequence(
        alg.RegularizedEvolution().over(few, trials=9),
        alg.RegularizedEvolution().over(rest),
    )


def nested(few: str, rest: str) -> sn.Algorithm:
    return sn.flow.nested(
        alg.RegularizedEvolution().over(few),
        alg.LocalSearch().over(rest, trials=22),
    )


def growing(few: str, rest: str) -> sn.Algorithm:
    return sn.flow.nested(
        alg.RegularizedEvolution().over(few),
        alg.LocalSearch().over(rest, trials=(9, 27, 81)),
    )


def hybrid(few: str, rest: str) -> sn.Algorithm:
    return sn.flow.sequence(
        nested(few, rest).over(trials=100),
        alg.RegularizedEvolution().over(),
    )


FLOWS = [joint, separate, nested, growing, hybrid]


def changed(flow, other) -> int:
    """How many lines of one function's body differ from another's."""
    one, two = (inspect.getsource(f).splitlines()[1:] for f in (flow, other))
    return sum(line[0] == "+" for line in difflib.ndiff(one, two))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="searches of each flow")
    parser.add_argument("--evaluations", type=int, default=200, help="of each search")
    parser.add_argument("--data", type=Path, help="folder with accel_nasbench/results.csv.gz")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()

    # The decisions of the two levels: of wiring or depth, and of all else.
    tables = [(benchmark.readers.nas_bench_graph(dataset="cora"), "links", "nodes**")]
    if options.data is not None:
        file = options.data / "accel_nasbench" / "results.csv.gz"
        tables.append((benchmark.readers.accel_nasbench(file), "**times", "**blocks**"))

    console = Console()
    for table, few, rest in tables:
        flows = {flow.__name__: flow(few, rest) for flow in FLOWS}
        found = benchmark.compare(
            flows, table, seeds=options.seeds, evaluations=options.evaluations,
            workers=options.workers, progress=console.is_terminal,
        )  # fmt: skip
        found.print()
        print()

    print(flows["hybrid"])
    lines = Table("from", "to", "lines that change", title="What it takes to change the flow")
    for flow in FLOWS[1:]:
        lines.add_row("joint", flow.__name__, str(changed(joint, flow)))
    console.print(lines)


if __name__ == "__main__":
    main()
