"""The conditions of the printed tables as data, and which trials of a sweep meet them.

    for row in conditions("balancing", 3):
        trials = row.trials(sweep)      # complete ones, at these settings in every hyperparameter

`published/conditions.toml` has the rows, each a hand-tuned point of `search_spaces` and what differs from it. Whatever
puts ours beside a print asks here, so that no trial of another learning rate, penalty, network or size of image is
pooled into a printed cell.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from analysis.load import PUBLISHED, Study, Sweep, read_published
from analysis.page.names import bare_method

HYPER = "hyper/"


@dataclass(frozen=True)
class Condition:
    """Where a printed row's trials come from: method and point are ours, variant the print's ("" where it has none)."""

    method: str
    variant: str
    datasets: tuple[str, ...]
    point: str
    changes: Mapping[str, object]  # from the point
    images: Mapping[str, int]  # image_size, channels; empty: the data set's own
    columns: Mapping[str, str]  # printed metric -> ours, where they differ

    def values(self, dataset: str) -> dict[str, object] | None:
        """Every hyperparameter of the row on a data set; None if the method has no such point there."""
        values = points(self.method, dataset).get(self.point)
        return None if values is None else {**values, **self.changes}

    def trials(self, sweep: Sweep, table: pd.DataFrame | None = None) -> pd.DataFrame:
        """The complete trials of a sweep that meet the row; of `table`, rows of its trials, where given."""
        found = sweep.trials if table is None else table
        kept = (found["method"].map(bare_method) == self.method) & found["dataset"].isin(self.datasets)
        found = found[kept & (found["state"] == "complete")]
        met = [
            self.sees(sweep, trial["study"]) and at(trial, self.values(trial["dataset"]))
            for trial in found.to_dict("records")
        ]
        return found[np.array(met, dtype=bool)]

    def readings(self, sweep: Sweep, table: pd.DataFrame) -> pd.DataFrame:
        """The same of every hand-tuned point of the method, for where a paper leaves room for several readings."""
        names = {name for dataset in self.datasets for name in points(self.method, dataset)}
        return pd.concat([replace(self, point=name).trials(sweep, table) for name in sorted(names)])

    def sees(self, sweep: Sweep, study: str) -> bool:
        """Whether a study's images are those of the row."""
        config = sweep.parts[study.rpartition("/")[0]].config if sweep.parts else sweep.config
        return all(config.get(name) == self.images.get(name) for name in ("image_size", "channels"))


def conditions(paper: str, table: int | str) -> list[Condition]:
    """The rows of a printed table that have a counterpart here. Raises ValueError if there is no such table."""
    tag = read_published(paper, table).iloc[0]["paper"]
    rows = []
    for row in _rows():
        if row["paper"] != tag or str(table) not in row["tables"]:
            continue
        for method in row.get("methods", [row.get("method")]):
            changes = {**row.get("set", {}), **row.get("own", {}).get(method, {})}
            rows.append(
                Condition(
                    method, row.get("variant", ""), tuple(row["datasets"]), row.get("point", "paper"), changes,
                    row.get("images", {}), row.get("columns", {}),
                )
            )  # fmt: skip
    return rows


def of_study(study: Study, rows: Sequence[Condition]) -> list[Condition]:
    """Those of some rows that a study's trials may meet; none where its data set is in no print."""
    return [row for row in rows if row.method == bare_method(study.method) and study.dataset in row.datasets]


def at(trial: Mapping, values: Mapping[str, object] | None) -> bool:
    """Whether every hyperparameter of a trial has the value that is asked for.

    One that an old record lacks did not exist then, and does not count; one that `values` lack was set by hand.
    """
    given = {
        name.removeprefix(HYPER): value
        for name, value in trial.items()
        if name.startswith(HYPER) and value is not None and value == value  # a column of other methods is NaN
    }
    return values is not None and all(name in values and values[name] == value for name, value in given.items())


def points(method: str, dataset: str) -> dict[str, Mapping[str, object]]:
    """The hand-tuned points of a method on a data set, by name; those of the file's first one where it has none."""
    found = _points(method)
    here = dataset.removesuffix("-jpeg")
    if not any(here in names or dataset in names for names, _, _ in found):
        return {name: values for names, name, values in found if names == found[0][0]}
    return {name: values for names, name, values in found if here in names or dataset in names}


@cache
def _rows() -> list[dict]:
    return tomllib.loads((PUBLISHED / "conditions.toml").read_text(encoding="utf-8"))["row"]


@cache
def _points(method: str) -> list[tuple[tuple[str, ...], str, dict[str, object]]]:
    text = (files("search_spaces") / f"{method}.toml").read_text(encoding="utf-8")
    return [(tuple(p["datasets"]), p.get("name", "paper"), p["values"]) for p in tomllib.loads(text)["paper"]]
