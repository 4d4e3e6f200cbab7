"""Pareto fronts over several objectives."""

import numpy as np
import pandas as pd

from analysis.confirm import HAND_TUNED, confirmed
from analysis.load import Sweep

OBJECTIVES = ("distance", "mse", "train_seconds", "active_dims")  # lower is better for all
WORDS = {"train_seconds": "training seconds", "active_dims": "active dimensions"}


def undominated(values: np.ndarray) -> np.ndarray:
    """Return which rows of (N, M) are not dominated, as bool (N,).

    A row dominates another if it is at least as low in every column and lower in one. A row with a missing value is not
    compared and not on the front.
    """
    values = np.asarray(values, float)
    whole = ~np.isnan(values).any(1)
    front = whole.copy()
    for i in np.flatnonzero(whole):
        others = values[whole]
        front[i] = not ((others <= values[i]).all(1) & (others < values[i]).any(1)).any()
    return front


def front(sweep: Sweep, confirmation: Sweep | None, dataset: str) -> pd.DataFrame:
    """Return the hand-tuned and the tuned points of a data set in its `objectives`, and whether each is on the front.

    With a confirmation, the values are means over its seeds on the test split, and `low` and `high` the interval of the
    distance. Without one, they are values of the search, without intervals; all complete trials are included if the
    search had several objectives.
    """
    rows = _searched(sweep, dataset) if confirmation is None else _confirmed(confirmation, dataset)
    wanted = objectives(sweep, confirmation)
    table = pd.DataFrame(rows, columns=["study", "method", "point", *wanted, "low", "high"])
    return table.assign(on_front=undominated(table[wanted]))


def objectives(sweep: Sweep, confirmation: Sweep | None = None) -> list[str]:
    """Return the objectives of a front: OBJECTIVES and, without a confirmation, the further ones of the search."""
    further = sweep.config.get("objectives", []) if confirmation is None else []
    return list(dict.fromkeys([*OBJECTIVES, *further]))


def _confirmed(confirmation: Sweep, dataset: str) -> list[dict]:
    table = confirmed(confirmation)
    table = table[table["dataset"] == dataset] if len(table) else table
    table = table.rename(columns={"mean": "distance"})
    return table[["study", "method", "point", *OBJECTIVES, "low", "high"]].to_dict("records")


def _searched(sweep: Sweep, dataset: str) -> list[dict]:
    rows = []
    for study in sweep.studies_of(dataset):
        hand, best = sweep.hand_tuned_trial(study.name), sweep.best(study.name)
        names = {trial["trial"]: name for name, trial in (("tuned 1", best), (HAND_TUNED, hand)) if trial is not None}
        for _, trial in sweep.complete(study.name).iterrows():
            point = names.get(trial["trial"], f"trial {trial['number']}")
            if trial["trial"] in names or sweep.config.get("objectives"):
                columns = {name: study.column(name) for name in objectives(sweep)} | {"distance": "value"}
                values = {name: trial.get(column, np.nan) for name, column in columns.items()}
                rows.append({"study": study.name, "method": study.method, "point": point} | values)
    return rows
