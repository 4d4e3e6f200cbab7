"""The conditions of the printed tables as data, and the trials of a sweep that match them.

    for row in conditions("balancing", 3):
        trials = row.trials(sweep)      # complete trials with these values of all hyperparameters

`published/conditions.toml` has the rows, each a hand-tuned point of `search_spaces` with changes. All comparisons with
a print use it, so that no trial with another learning rate, penalty, network or image size is pooled into a printed
cell.
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
from sweep.record.trials import shortened

HYPER = "hyper/"


@dataclass(frozen=True)
class Condition:
    """The conditions of a printed row: method and point are ours, variant is the print's ("" if it has none)."""

    method: str
    variant: str
    datasets: tuple[str, ...]
    point: str
    changes: Mapping[str, object]  # to the point
    images: Mapping[str, int]  # image_size, channels; empty: those of the data set
    columns: Mapping[str, str]  # printed metric -> ours, if they differ

    def values(self, dataset: str, scale: float = 1.0) -> dict[str, object] | None:
        """Return all hyperparameters of the row on a data set; None if the method has no such point there.

        scale: of those that are counted in epochs, `schedule_scale` of a sweep's configuration.
        """
        values = points(self.method, dataset).get(self.point)
        if values is None:
            return None
        values = {**values, **self.changes}
        in_epochs = [name for name in _document(self.method).get("in_epochs", []) if name in values and scale != 1.0]
        return values | {name: shortened(values[name], scale) for name in in_epochs}

    def trials(self, sweep: Sweep, table: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return the complete trials of a sweep that match the row, from `table`, rows of its trials, if given."""
        found = sweep.trials if table is None else table
        kept = (found["method"].map(bare_method) == self.method) & found["dataset"].isin(self.datasets)
        found = found[kept & (found["state"] == "complete")]
        met = [
            self.sees(sweep, trial["study"]) and at(trial, self.values_in(sweep, trial["study"], trial["dataset"]))
            for trial in found.to_dict("records")
        ]
        return found[np.array(met, dtype=bool)]

    def searched(self, sweep: Sweep, study: Study) -> pd.DataFrame:
        """Return the complete trials of a study that match the row in all hyperparameters but the searched ones."""
        found, searched = sweep.complete(study.name), {HYPER + name for name in study.searched}
        met = [
            self.sees(sweep, study.name)
            and at(
                {k: v for k, v in trial.items() if k not in searched}, self.values_in(sweep, study.name, study.dataset)
            )
            for trial in found.to_dict("records")
        ]
        return found[np.array(met, dtype=bool)]

    def readings(self, sweep: Sweep, table: pd.DataFrame) -> pd.DataFrame:
        """Return the matching trials of every reading of the row, for papers that are ambiguous."""
        names = {name for dataset in self.datasets for name in self.named_readings(dataset)}
        return pd.concat([replace(self, point=name).trials(sweep, table) for name in sorted(names)])

    def named_readings(self, dataset: str) -> list[str]:
        """Return the names of the row's readings: the hand-tuned points of the method that no other row has."""
        others = {
            row["point"]
            for row in _rows()
            if "point" in row and self.method in row.get("methods", [row.get("method")]) and row["point"] != self.point
        }
        return [name for name in points(self.method, dataset) if name not in others]

    def values_in(self, sweep: Sweep, study: str, dataset: str) -> dict[str, object] | None:
        """Return `values` as a sweep has them, whose --scale shortens what is counted in epochs."""
        return self.values(dataset, sweep.part(study).config.get("schedule_scale", 1.0))  # older sweeps lack it

    def sees(self, sweep: Sweep, study: str) -> bool:
        """Return whether a study's images match the row."""
        config = sweep.part(study).config
        return all(config.get(name) == self.images.get(name) for name in ("image_size", "channels"))


def conditions(paper: str, table: int | str) -> list[Condition]:
    """Return the rows of a printed table that have a counterpart here. Raises ValueError if there is no such table."""
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
    """Return the rows that a study's trials may match; empty if its data set is not in print."""
    return [row for row in rows if row.method == bare_method(study.method) and study.dataset in row.datasets]


def at(trial: Mapping, values: Mapping[str, object] | None) -> bool:
    """Return whether every hyperparameter of a trial has the required value.

    Hyperparameters that an old record lacks did not exist then and are ignored; one that `values` lacks is a mismatch.
    """
    given = {
        name.removeprefix(HYPER): value
        for name, value in trial.items()
        if name.startswith(HYPER) and value is not None and value == value  # a column of other methods is NaN
    }
    return values is not None and all(name in values and values[name] == value for name, value in given.items())


def points(method: str, dataset: str) -> dict[str, Mapping[str, object]]:
    """Return the hand-tuned points of a method on a data set, by name, or those of the file's first data sets."""
    found = _points(method)
    here = dataset.removesuffix("-jpeg")
    if not any(here in names or dataset in names for names, _, _ in found):
        return {name: values for names, name, values in found if names == found[0][0]}
    return {name: values for names, name, values in found if here in names or dataset in names}


@cache
def _rows() -> list[dict]:
    return tomllib.loads((PUBLISHED / "conditions.toml").read_text(encoding="utf-8"))["row"]


def _points(method: str) -> list[tuple[tuple[str, ...], str, dict[str, object]]]:
    return [(tuple(p["datasets"]), p.get("name", "paper"), p["values"]) for p in _document(method)["paper"]]


@cache
def _document(method: str) -> dict:
    """Return the search space of a method, as its file has it."""
    return tomllib.loads((files("search_spaces") / f"{method}.toml").read_text(encoding="utf-8"))
