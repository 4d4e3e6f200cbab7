"""Warm start: try the best points of an earlier sweep after the hand-tuned ones."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.record import Trial, Trials, read_trials
from sweep.search.plan import Plan, Planned
from sweep.search.space import Fixed, Point

KEPT = 3  # points of each study


def warmed(planned: Plan) -> Plan:
    """Return the plan with the best points of the sweep named by `warm_start`, study by study.

    Studies are matched by name (method and data set). Hyperparameters that are fixed now are fixed in the points, too;
    points outside the present ranges are omitted. Raises ValueError if the folder holds no sweep or no matching point.
    """
    folder = planned.config.warm_start
    if folder is None:
        return planned
    if planned.config.searcher == "none":
        raise ValueError(
            "warm_start requires a searcher, got none, which runs only hand-tuned points; omit one of them"
        )
    try:
        trials = read_trials(folder)
    except ValueError as error:
        raise ValueError(f"warm_start: {error}") from None
    studies = tuple(
        replace(study, spec=replace(study.spec, warm=tuple(_best(study, trials, folder)))) for study in planned.studies
    )
    if not any(study.spec.warm for study in studies):
        raise ValueError(
            f"warm_start: {folder} has no complete trial that matches {', '.join(study.name for study in studies)}; "
            f"its studies: {', '.join(trials.studies) or 'none'}"
        )
    return replace(planned, studies=studies)


def _best(study: Planned, trials: Trials, folder: Path) -> Iterator[Point]:
    """Yield up to KEPT distinct points, the best first."""
    tried = [dict(point.values) for point in study.spec.space.paper]
    complete = [trial for trial in trials.of(study.name) if trial.state == "complete" and trial.value is not None]
    for trial in sorted(complete, key=lambda trial: (trial.value, trial.number)):
        values = _within(study, trial)
        if values is None or values in tried:
            continue
        tried.append(values)
        source = f"{trial.name} of {folder.absolute().name}: {trial.metric} {trial.value:.4g}"
        yield Point(source, (study.spec.dataset,), values, "warm start")
        if len(tried) == len(study.spec.space.paper) + KEPT:
            return


def _within(study: Planned, trial: Trial) -> dict[str, Any] | None:
    """Return the values of a trial in the present space, None if it lies outside."""
    values = {}
    for name, dimension in study.spec.space.dimensions.items():
        if isinstance(dimension, Fixed):
            values[name] = dimension.value
        elif name in trial.values and dimension.contains(trial.values[name]):
            values[name] = dimension.cast(trial.values[name])
        else:
            return None
    return values
