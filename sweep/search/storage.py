"""Export of a sweep as an Optuna storage, with one Optuna study per study, for Optuna's dashboard and plots.

Samplers of a sweep do not read this storage; see `sweep.search.study` for what they see. A diverged trial is FAIL here,
like a trial whose objective returns NaN in Optuna; the user attribute `state` holds the state of the record.
"""

import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweep.record import StudyEntry, Trial, Trials
from sweep.search.space import Choice, Dimension, Range, Space
from sweep.search.study import distribution
from trainables.files import whole

STATES = {
    "complete": TrialState.COMPLETE,
    "paused": TrialState.PRUNED,  # Optuna has no such state
    "pruned": TrialState.PRUNED,
    "running": TrialState.RUNNING,
}


def write_storage(trials: Trials, file: Path) -> None:
    """Write an SQLite storage of Optuna to `file`, atomically."""
    with whole(file) as part, TemporaryDirectory() as scratch:  # SQLite needs locks, which some shared disks lack
        path = Path(scratch) / "optuna.db"
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
        for entry in trials.studies.values():
            _add(storage, entry, trials)
        storage.remove_session()
        storage.engine.dispose()
        shutil.copyfile(path, part)


def _add(storage: optuna.storages.BaseStorage, entry: StudyEntry, trials: Trials) -> None:
    metrics = [entry.metric, *entry.objectives]
    study = optuna.create_study(
        storage=storage, study_name=entry.study, directions=[StudyDirection.MINIMIZE] * len(metrics)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(metrics)
    ours = trials.of(entry.study)
    searched, fixed = _parameters(Space.from_record(entry.space, entry.points).dimensions, ours)
    about = {
        "sweep": trials.sweep.sweep,
        "method": entry.method,
        "dataset": entry.dataset,
        "sampler": entry.sampler,
        "epochs": entry.epochs,
        "hand-tuned point": entry.hand_tuned_source,
    }
    for name, value in (about | fixed).items():
        study.set_user_attr(name, value)
    study.add_trials([_frozen(trial, searched, metrics) for trial in ours])


def _parameters(
    dimensions: Mapping[str, Dimension], trials: Iterable[Trial]
) -> tuple[dict[str, BaseDistribution], dict[str, Any]]:
    """Return the distributions of hyperparameters that were searched or differ between trials, and the other values.

    The distributions cover all trials, of which some may have run before the space was changed.
    """
    searched: dict[str, BaseDistribution] = {}
    fixed: dict[str, Any] = {}
    values: dict[str, list[Any]] = {}
    for trial in trials:
        for name, value in trial.values.items():
            values.setdefault(name, []).append(value)
    for name, dimension in dimensions.items():
        tried = values.pop(name, [])
        if isinstance(dimension, Range):
            ends = [dimension.low, dimension.high, *tried]
            searched[name] = distribution(replace(dimension, low=min(ends), high=max(ends)))
        else:
            values[name] = [*(dimension.choices if isinstance(dimension, Choice) else [dimension.value]), *tried]
    for name, tried in values.items():
        choices = tuple(dict.fromkeys(tried))
        if len(choices) > 1:
            searched[name] = CategoricalDistribution(choices)
        else:
            fixed[name] = choices[0]
    return searched, fixed


def _frozen(trial: Trial, searched: Mapping[str, BaseDistribution], metrics: list[str]) -> FrozenTrial:
    state = STATES.get(trial.state, TrialState.FAIL)
    evaluated = {epoch: row.metrics for epoch, row in trial.rows.items() if trial.metric in row.metrics}
    last = evaluated[max(evaluated)] if evaluated else {}
    known = [last[name] for name in metrics if name in last]
    values: list[float] | None = known
    if len(known) < len(metrics) or state not in (TrialState.COMPLETE, TrialState.PRUNED):
        values = None
        state = TrialState.FAIL if state == TrialState.COMPLETE else state
    if state == TrialState.PRUNED and len(metrics) > 1:
        values = None  # Optuna supports pruning only with a single objective
    inside = {name: d for name, d in searched.items() if name in trial.values}
    about: dict[str, Any] = {"trial": trial.name, "state": trial.state, "reason": trial.reason, "origin": trial.origin}
    about |= {"epoch": trial.epoch, "seed": trial.seed, "attempt": trial.attempt}
    return FrozenTrial(
        number=trial.number,
        trial_id=-1,  # replaced by the storage
        state=state,
        value=None,
        values=values,
        datetime_start=datetime.fromtimestamp(trial.started),
        datetime_complete=None if trial.ended is None else datetime.fromtimestamp(trial.ended),
        params={name: trial.values[name] for name in inside},
        distributions=inside,
        user_attrs={name: value for name, value in about.items() if value not in (None, "")},
        system_attrs={},
        intermediate_values={epoch: row[trial.metric] for epoch, row in evaluated.items()},
    )
