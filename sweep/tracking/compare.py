"""Views of MLflow that compare a sweep's winners, and hand-tuned against tuned trials."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from urllib.parse import quote as percent_encoded

from sweep.record import Trials, read_trials
from sweep.tracking.ui import interface, runs_of
from trainables.credentials import redact

WINNERS, PAIRS = "winners", "hand-tuned against tuned"

Groups = dict[str, dict[str, list[str]]]  # data set -> comparison -> trials, or their runs


@dataclass(frozen=True)
class View:
    """A group of runs in MLflow. `side_by_side` is parallel coordinates and tables, `curves` each metric by epoch."""

    dataset: str
    what: str
    side_by_side: str
    curves: str


def compare(folder: Path, uri: str, experiment: str, show: Callable[[list[View], str, bool], None]) -> None:
    """Call `show` with the views of a sweep in the user interface of the store `uri`, the address of the interface,
    and whether it was started here and stops when `show` returns.

    Raises ValueError, in one line, if there is nothing to compare or the store lacks trials.
    """
    trials = read_trials(folder)
    wanted = groups(trials)
    if not wanted:
        raise ValueError(f"{folder} has fewer than two trials to compare; try again when more are complete")
    sweep, metric = trials.sweep.sweep, next(iter(trials.studies.values())).metric

    def knows(base: str) -> bool:
        try:
            return bool(runs_of(base, experiment, sweep)[1])
        except ValueError:
            return False

    with interface(uri, knows) as (base, ours):
        place, runs = runs_of(base, experiment, sweep, login=base == uri)
        missing = {name for shown in wanted.values() for names in shown.values() for name in names} - runs.keys()
        if missing:
            raise ValueError(
                f"{len(missing)} trials are missing from {redact(uri)}, e.g. {min(missing)}; add them with: "
                f"python -m sweep track {quote(str(folder))}"
            )
        base = redact(base).replace("***@", "").rstrip("/")
        views = [
            View(dataset, what, side_by_side(base, place, ids), curves(base, place, ids, metric))
            for dataset, shown in wanted.items()
            for what, ids in ((what, [runs[name] for name in names]) for what, names in shown.items())
        ]
        show(views, base, ours)


def groups(trials: Trials) -> Groups:
    """Return the trials to compare, by data set and comparison; groups of one trial are left out."""
    found: Groups = {}
    for study, about in trials.studies.items():
        best, hand = trials.best(study), trials.hand_tuned_trial(study)
        shown = found.setdefault(about.dataset, {WINNERS: [], PAIRS: []})
        if best is not None:
            shown[WINNERS].append(best.name)
            if hand is not None and hand is not best:  # else the hand-tuned point is the best: no pair
                shown[PAIRS] += [hand.name, best.name]
    kept = {dataset: {what: t for what, t in shown.items() if len(t) > 1} for dataset, shown in found.items()}
    return {dataset: shown for dataset, shown in kept.items() if shown}


def side_by_side(base: str, experiment: str, runs: list[str]) -> str:
    """Return the URL of MLflow's comparison of runs, given by id: parallel coordinates, parameters, metrics."""
    fields = {"runs": runs, "experiments": [experiment]}
    query = "&".join(f"{key}={percent_encoded(json.dumps(ids, separators=(',', ':')))}" for key, ids in fields.items())
    return f"{base}/#/compare-runs?{query}"


def curves(base: str, experiment: str, runs: list[str], metric: str) -> str:
    """Return the URL of MLflow's charts of runs, sorted by ascending `metric`.

    If runs are sorted by time, MLflow nests them under the run of their sweep; sorted by a metric, it lists each one.
    """
    fields = {
        "searchFilter": "attributes.run_id IN ({})".format(", ".join(f"'{run}'" for run in runs)),
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": "true",
        "compareRunsMode": "CHART",
    }
    query = "&".join(f"{key}={percent_encoded(value)}" for key, value in fields.items())
    return f"{base}/#/experiments/{experiment}/runs?{query}"
