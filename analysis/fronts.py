"""Pareto fronts over several objectives."""

import numpy as np
import pandas as pd

from analysis.confirm import HAND_TUNED, confirmed
from analysis.load import Sweep
from analysis.page.names import listed

OBJECTIVES = ("distance", "mse")  # of every front; lower is better for all
ALONE, SHARED = "alone_seconds_per_epoch", "train_seconds"  # without and with concurrent trials
DESCRIPTION = ("study", "method", "point", "low", "high", "on_front")  # columns of a front besides its objectives
WORDS = {SHARED: "training seconds", ALONE: "seconds per epoch", "active_dims": "active dimensions"}


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
    """Return the hand-tuned and the tuned points of a data set in the objectives, and whether each is on the front.

    The objectives are the distance, the reconstruction error and the further ones of the search. Active dimensions are
    one only if the search had them as an objective, because a collapsed model has the fewest.

    With a confirmation, the values are means over its seeds on the test split, and `low` and `high` the interval of the
    distance; the seconds of an epoch without concurrent trials are an objective, or the training seconds if they were
    not measured for every point. Without one, they are values of the search, without intervals; all complete trials are
    included if the search had several objectives.
    """
    further = sweep.config.get("objectives", [])
    if confirmation is None:
        wanted = list(dict.fromkeys([*OBJECTIVES, *further]))
        rows = _searched(sweep, dataset, wanted)
    else:
        table = confirmed(confirmation).rename(columns={"mean": "distance"})
        table = table[table["dataset"] == dataset] if len(table) else table
        alone = len(table) > 0 and table.loc[table["distance"].notna(), ALONE].notna().all()
        measured = [name for name in further if name in table and name != SHARED]
        wanted = list(dict.fromkeys([*OBJECTIVES, ALONE if alone else SHARED, *measured]))
        rows = table.to_dict("records")
    found = pd.DataFrame(rows, columns=["study", "method", "point", *wanted, "low", "high"])
    return found.assign(on_front=undominated(found[wanted]))


def objectives(front: pd.DataFrame) -> list[str]:
    """Return the objectives of a front, the distance first."""
    return [column for column in front if column not in DESCRIPTION]


def objectives_words(front: pd.DataFrame) -> str:
    """List the objectives of a front: distance, mse and training seconds."""
    return listed([WORDS.get(objective, objective) for objective in objectives(front)])


def _searched(sweep: Sweep, dataset: str, wanted: list[str]) -> list[dict]:
    rows = []
    for study in sweep.studies_of(dataset):
        hand, best = sweep.hand_tuned_trial(study.name), sweep.best(study.name)
        names = {trial["trial"]: name for name, trial in (("tuned 1", best), (HAND_TUNED, hand)) if trial is not None}
        for _, trial in sweep.complete(study.name).iterrows():
            point = names.get(trial["trial"], f"trial {trial['number']}")
            if trial["trial"] in names or sweep.config.get("objectives"):
                columns = {name: study.column(name) for name in wanted} | {"distance": "value"}
                values = {name: trial.get(column, np.nan) for name, column in columns.items()}
                rows.append({"study": study.name, "method": study.method, "point": point} | values)
    return rows
