"""`Comparison`: what many searches found, as tables, figures and files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.benchmark.base import Table
from symnas.benchmark.driving import Record, Setup
from symnas.benchmark.ranks import Ranks
from symnas.benchmark.regret import Yardstick

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Regrets that differ by less count as equal in ranks: sums in another order.
EQUAL_DIGITS = 12
# Points of a curve over simulated seconds.
POINTS = 200


def _count(records: Mapping[Any, Any]) -> str:
    return f"<{len(records)}>"


@attrs.frozen(eq=False, slots=False)
class Comparison:
    """Results of `compare` or `simulate`.

    Attributes:
        algorithms: their names.
        tables, setups: by the table's name.
        subject_to: the limits, as text; "" if there are none.
        axis: "evaluations" or "seconds".
        checkpoints: where on it regrets are told.
        records: what happened, by (algorithm, table, seed).
        failures: why a search failed, by the same.
    """

    algorithms: tuple[str, ...]
    tables: Mapping[str, Table] = attrs.field(repr=lambda tables: repr(list(tables)))
    setups: Mapping[str, Setup] = attrs.field(repr=False)
    subject_to: str
    axis: str
    checkpoints: tuple[float, ...]
    records: Mapping[tuple[str, str, int], Record] = attrs.field(repr=_count)
    failures: Mapping[tuple[str, str, int], str] = attrs.field(repr=_count)

    @cached_property
    def yardsticks(self) -> dict[str, Yardstick]:
        """What can be reached, by table."""
        return {
            name: Yardstick.of(
                table, self.setups[name], [r for (_, t, _), r in self.records.items() if t == name]
            )
            for name, table in self.tables.items()
        }

    def seeds(self, algorithm: str, table: str) -> list[int]:
        """The seeds whose searches are done."""
        return [s for a, t, s in self.records if (a, t) == (algorithm, table)]

    def regrets(self, algorithm: str, table: str, at: Any = None) -> NDArray[np.float64]:
        """Regrets `(seeds, len(at))`, by default at the checkpoints."""
        points = np.asarray(self.checkpoints if at is None else at, float)
        yardstick = self.yardsticks[table]
        found = [
            yardstick.regrets(self.records[algorithm, table, seed], points, self.axis)
            for seed in self.seeds(algorithm, table)
        ]
        return np.array(found, float).reshape(len(found), len(points))

    def points(self, table: str) -> NDArray[np.float64]:
        """Where curves are drawn."""
        if self.axis == "evaluations":
            return np.arange(1.0, self.setups[table].evaluations + 1)
        ends = [
            r.finished.max() for (_, t, _), r in self.records.items() if t == table if len(r.rows)
        ]
        return np.linspace(0.0, max(ends, default=0.0), POINTS)

    def summary(self) -> pd.DataFrame:
        """One line a table, algorithm and checkpoint.

        Columns: `runs` that are done; `mean`, `median` and `stderr` of the regret (standard error of
        the mean); `distinct` and `infeasible` shares of proposals; `ms` of real time a proposal.
        """
        import pandas as pd

        lines = []
        for table in self.tables:
            for algorithm in self.algorithms:
                records = [self.records[algorithm, table, s] for s in self.seeds(algorithm, table)]
                if not records:
                    continue
                regrets = self.regrets(algorithm, table)
                n = len(records)
                proposals = max(1, sum(len(r.rows) for r in records))
                for i, checkpoint in enumerate(self.checkpoints):
                    spread = regrets[:, i].std(ddof=1) if n > 1 else np.nan
                    lines.append(
                        {
                            "table": table,
                            "algorithm": algorithm,
                            self.axis: checkpoint,
                            "runs": n,
                            "mean": regrets[:, i].mean(),
                            "median": np.median(regrets[:, i]),
                            "stderr": spread / np.sqrt(n),
                            "distinct": np.mean([r.distinct for r in records]),
                            "infeasible": np.mean([r.infeasible for r in records]),
                            "ms": 1e3 * sum(r.seconds for r in records) / proposals,
                        }
                    )
        names = ["table", "algorithm", self.axis, "runs", "mean", "median", "stderr"]
        return pd.DataFrame(lines, columns=[*names, "distinct", "infeasible", "ms"])

    def matches(self, algorithm: str, at: float | None = None) -> pd.DataFrame:
        """What the others need to come as far as one algorithm does: a line a table and algorithm.

        Columns: `regret` to be matched, the algorithm's mean at a checkpoint; `needed`, after how
        many evaluations (or seconds) the mean regret of the other is at most that, NaN where it is
        not within its searches.

        Args:
            algorithm: whose mean regret is to be matched.
            at: after so many evaluations (or seconds), by default at the last checkpoint.

        Raises:
            ValueError: no algorithm has that name.
        """
        import pandas as pd

        if algorithm not in self.algorithms:
            known = ", ".join(self.algorithms)
            raise ValueError(f"`algorithm` ({algorithm!r}) must be one of {known}.")
        at = self.checkpoints[-1] if at is None else at
        lines = []
        for table in self.tables:
            if not self.seeds(algorithm, table):
                continue
            level = float(self.regrets(algorithm, table, [at]).mean())
            points = self.points(table)
            for other in self.algorithms:
                if other == algorithm or not self.seeds(other, table):
                    continue
                below = (
                    self.regrets(other, table, points).mean(axis=0) <= level + 10.0**-EQUAL_DIGITS
                )
                needed = points[below.argmax()] if below.any() else np.nan
                lines.append((table, other, level, needed))
        return pd.DataFrame(lines, columns=["table", "algorithm", "regret", "needed"])

    def frame(self) -> pd.DataFrame:
        """One line an evaluation: what it gave, and the regret after it (in order of proposal)."""
        import pandas as pd

        frames = []
        for (algorithm, table, seed), record in self.records.items():
            names = self.setups[table].objectives
            yardstick = self.yardsticks[table]
            x = record.spent if self.axis == "evaluations" else record.finished
            frames.append(
                pd.DataFrame(
                    {
                        "table": table,
                        "algorithm": algorithm,
                        "seed": seed,
                        "number": np.arange(len(record.rows)),
                        "spent": record.spent,
                        "finished": record.finished,
                        "feasible": record.feasible,
                        **{name: record.values[:, i] for i, name in enumerate(names)},
                        "regret": yardstick.regrets(record, x, self.axis),
                        "row": [" ".join(map(str, row)) for row in record.rows.tolist()],
                    }
                )
            )
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def ranks(self, checkpoint: float | None = None, alpha: float = 0.05) -> Ranks:
        """Mean ranks at a checkpoint, by default the last; a block is a table with a seed.

        Blocks in which an algorithm has no result are left out.

        Raises:
            ValueError: there are fewer than two algorithms, or no complete block.
        """
        at = [self.checkpoints[-1] if checkpoint is None else checkpoint]
        found: dict[tuple[str, int], dict[str, float]] = {}
        for (algorithm, table, seed), record in self.records.items():
            regret = self.yardsticks[table].regrets(record, np.array(at), self.axis)[0]
            found.setdefault((table, seed), {})[algorithm] = round(regret, EQUAL_DIGITS)
        whole = [
            [block[a] for a in self.algorithms]
            for block in found.values()
            if len(block) == len(self.algorithms)
        ]
        return Ranks.of(self.algorithms, np.array(whole).reshape(-1, len(self.algorithms)), alpha)

    def print(self) -> None:
        """Shows the summary in the terminal."""
        from symnas.benchmark.writing import show

        show(self)

    def save(self, folder: str | Path) -> list[Path]:
        """Writes the summary (CSV, Markdown), all results (CSV) and the figures (PNG).

        Raises:
            MissingExtra: matplotlib or scipy is not installed; the tables are written then.
        """
        from symnas.benchmark.writing import save

        return save(self, Path(folder))

    def plot_regret(self, table: str | None = None, ax: Axes | None = None) -> Axes:
        """Mean regret with a band of two standard errors: see `symnas.benchmark.plots`."""
        from symnas.benchmark.plots import plot_regret

        return plot_regret(self, table, ax)

    def plot_ranks(
        self, checkpoint: float | None = None, ax: Axes | None = None, alpha: float = 0.05
    ) -> Axes:
        """Mean ranks and which do not differ significantly: see `symnas.benchmark.plots`."""
        from symnas.benchmark.plots import plot_ranks

        return plot_ranks(self.ranks(checkpoint, alpha), ax)
