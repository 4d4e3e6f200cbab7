"""Read a sweep's record, and the numbers printed in the papers, as tables.

`record.jsonl` is the single source of truth of a sweep; `sweep.record` folds it. Damaged lines are counted and skipped
here, because the analysis only reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.page.names import counted
from sweep.record import RECORD, SETBACKS, StudyEntry, Trial, Trials, record_of, salvage, uncollected

PUBLISHED = Path(__file__).parent / "published"
MEASURED = PUBLISHED.with_name("measured")
COMMON = {"learning_rate", "batch_size", "latent_dim", "weight_decay"}  # hyperparameters of every training


@dataclass(frozen=True)
class Study:
    """One method on one data set, with its search space and its paper's hand-tuned point."""

    name: str
    method: str
    dataset: str
    metric: str  # the objective, lower is better
    trials: int
    epochs: int
    budget_epochs: int | None = None  # maximum total epochs of all trials; None: the budget is the number of trials
    rungs: tuple[int, ...] = ()
    hand_tuned_values: Mapping[str, object] = field(default_factory=dict)
    hand_tuned_source: str = ""
    carried: str = ""  # the data sets or the network that its point was carried over from
    space: Mapping[str, Mapping] = field(default_factory=dict)
    weighs: Mapping[str, Mapping[str, list]] | None = None  # [balance] of the search space; None if it has none
    rules: Mapping[str, Mapping[str, list]] = field(default_factory=dict)

    @property
    def balance(self) -> Mapping[str, Mapping[str, list]]:
        """The searched ranges that weigh one term of the loss against another, the main one first, each with the values
        of other hyperparameters that it requires; guessed by exclusion if the search space does not say."""
        by_exclusion = {knob: {} for knob in self.searched if knob not in COMMON}
        named = by_exclusion if self.weighs is None else self.weighs
        return {knob: where for knob, where in named.items() if "low" in self.space.get(knob, {})}

    @property
    def searched(self) -> tuple[str, ...]:
        """The searched hyperparameters, in the order of the space."""
        return tuple(name for name, spec in self.space.items() if "value" not in spec)

    @property
    def split(self) -> str:
        """The split that its trials are scored on: valid, or test if the sweep used the test split itself."""
        return self.metric.partition("/")[0]

    def column(self, name: str) -> str:
        """Return the column of trials with a further value, on the split of the objective: valid/mse, test/mse."""
        return f"time/{name}" if name == "train_seconds" else f"{self.split}/{name}"

    @property
    def budget(self) -> str:
        """The budget in words."""
        trials = counted(self.trials, "trial")
        given = trials if self.budget_epochs is None else f"{self.budget_epochs} epochs in trials"
        return f"{given} of up to {counted(self.epochs, 'epoch')}"

    def is_log(self, knob: str) -> bool:
        """Return whether a hyperparameter is searched on a logarithmic scale."""
        return bool(self.space.get(knob, {}).get("log", False))


@dataclass(frozen=True)
class Sweep:
    """A sweep, read from its record.

    trials: one row per trial. `value` is the objective at its last evaluated epoch, `hyper/<name>` are its
        hyperparameters, every other column with a slash is the last value of that metric. `ended` is the time of its
        last end or pause, `worker_seconds` the wall time for which it held a worker over all attempts, `device_seconds`
        the time of training, density fits and evaluations. `times_preempted`, `times_out_of_memory` and `times_failed`
        count attempts with that outcome, including the last. A trial without an end has the state `running`. `recipe`
        is the index, from 0, of the recipe in its study's `recipes` that measured the value.
    curves: trial, epoch, stage, metric, value, one row per reported value.
    recipes: by study, how its objective was measured (extractor, number of images, split, ...); several if that changed
        while it ran, none if the record does not say.
    meta: id, started, finished (seconds since 1970), outcome, resumed, versions, machine, code, unreadable_lines;
        `paused` and `stopped` (studies, by hand), `waiting` (number of enqueued points that were not tried);
        `data`, `readings` and `resolutions` (by data set: its description, how a folder of images was read, and the
        resolution of its distance with few held-out images); in a confirmation, what it `confirms`.
    parts: the sweeps joined by `analysis.join`, by label; empty for a single sweep.
    attempts: trial, started, ended, one row per span of time for which a trial held a worker; seconds since 1970.
    cast: the methods of the whole sweep if this is a share of it, so that they keep their colours; else empty.
    """

    folder: Path
    trials: pd.DataFrame
    curves: pd.DataFrame
    studies: Mapping[str, Study]
    config: Mapping[str, object]
    recipes: Mapping[str, tuple[Mapping, ...]]
    meta: Mapping[str, object]
    attempts: pd.DataFrame
    parts: Mapping[str, "Sweep"] = field(default_factory=dict)
    cast: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " + ".join(self.parts) or self.folder.name

    @property
    def folders(self) -> list[Path]:
        """The folders of the `parts`, or of this sweep if it is a single one."""
        return [part.folder for part in self.parts.values()] or [self.folder]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Data sets in the order of the configuration."""
        return tuple(dict.fromkeys(study.dataset for study in self.studies.values()))

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods in the order of the configuration."""
        return self.cast or tuple(dict.fromkeys(study.method for study in self.studies.values()))

    def studies_of(self, dataset: str) -> tuple[Study, ...]:
        return tuple(study for study in self.studies.values() if study.dataset == dataset)

    @cached_property
    def _by_study(self) -> dict[str, pd.DataFrame]:
        return dict(iter(self.trials.groupby("study", sort=False)))

    def trials_of(self, study: str) -> pd.DataFrame:
        return self._by_study.get(study, self.trials[:0])

    def part(self, study: str) -> "Sweep":
        """Return the sweep that ran a study: one of `parts`, or this sweep if it is a single one."""
        return self.parts[study.rpartition("/")[0]] if self.parts else self

    def home(self, study: str) -> tuple[Path, str]:
        """Return the folder of the sweep that ran a study, and the study's name there."""
        return self.part(study).folder, study.rpartition("/")[2] if self.parts else study

    def share(self, trials: pd.DataFrame, studies: Mapping[str, Study], recipes: Mapping) -> "Sweep":
        """Return the sweep restricted to some trials and studies."""
        return replace(self, trials=trials, studies=studies, recipes=recipes, cast=self.methods)

    def hand_tuned_trial(self, study: str) -> pd.Series | None:
        """Return the trial of the paper's values, the first if there are several; None before it has started."""
        rows = self.trials_of(study)
        numbers = rows["number"][rows["origin"] == "paper"]
        return None if numbers.empty else rows.loc[numbers.idxmin()]

    def complete(self, study: str) -> pd.DataFrame:
        """Return the complete trials of a study that have a value, the lowest first."""
        rows = self.trials_of(study)
        found = rows[["value", "number"]][(rows["state"] == "complete") & rows["value"].notna()]
        return rows.loc[found.sort_values(["value", "number"]).index]  # a table of few columns sorts faster

    def best(self, study: str) -> pd.Series | None:
        """Return the complete trial with the lowest value; None if there is none."""
        rows = self.complete(study)
        return None if rows.empty else rows.iloc[0]


@uncollected()
def read_sweep(folder: str | Path) -> Sweep:
    """Fold the record in a sweep's folder into tables; `analysis.join.read_sweeps` joins several.

    Raises ValueError if the folder has no record, or a record without a sweep event.
    """
    folder = Path(folder).resolve()
    path = record_of(folder)
    events, damaged = salvage(path)
    try:
        found = Trials.from_events(events, strict=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    del events  # they take as much memory as the tables
    if not found.studies:
        raise ValueError(f"{path} has no sweep event with studies; it is empty or not a record")
    studies = {name: _study(entry) for name, entry in found.studies.items()}
    recipes = {study: tuple(ways) for study, ways in found.recipes.items()}
    curves = _curves(found.trials.values())
    trials, attempts, meta = _table(found, studies), _attempts(found.trials.values()), _meta(found, damaged)
    return Sweep(folder, trials, curves, studies, found.sweep.config, recipes, meta, attempts)


def newest_sweep() -> Path:
    """Return the folder under `sweeps/`, here or one level up, with the most recently written record.

    Raises ValueError if there is none.
    """
    here = Path.cwd()
    for root in (here, here.parent):
        records = sorted(root.glob(f"sweeps/*/{RECORD}"), key=lambda record: record.stat().st_mtime)
        if records:
            return records[-1].parent
    raise ValueError(f"no sweep under {here}/sweeps or {here.parent}/sweeps; run one first, or give its folder")


def read_published(paper: str, table: int | str) -> pd.DataFrame:
    """Read one table as printed: paper, table, dataset, method, variant, metric, epoch (text), value, std.

    paper: gae, balancing, aae, vaegan or regularization. table: its number there, or fig11_log. Values of different
    papers are not on a common scale; `published/README.md` explains why, and what was decoded. Raises ValueError, which
    lists the tables, if there is no such table.
    """
    stem = f"{paper.lower().replace('-', '')}_{table if isinstance(table, str) else f'table{table}'}"
    known = sorted(path.stem for path in PUBLISHED.glob("*.csv"))
    if stem not in known:
        raise ValueError(f"no published table {stem}; choose one of {', '.join(known)}")
    printed = pd.read_csv(PUBLISHED / f"{stem}.csv", dtype=str, keep_default_na=False)
    for column in ("value", "std"):
        printed[column] = pd.to_numeric(printed[column].replace("", None))
    return printed


def read_vectors(folder: str | Path) -> dict[str, dict[str, list[float]]]:
    """Read the latest vectors (variances of the codes, ...) of each trial of a sweep, by trial and name."""
    trials = Trials.from_events(salvage(record_of(Path(folder)))[0], strict=False)
    return {name: trial.vectors for name, trial in trials.trials.items() if trial.vectors}


def _study(entry: StudyEntry) -> Study:
    return Study(
        name=entry.study,
        method=entry.method,
        dataset=entry.dataset,
        metric=entry.metric,
        trials=entry.trials,
        epochs=entry.epochs,
        budget_epochs=entry.budget_epochs,
        rungs=tuple(entry.rungs),
        hand_tuned_values=entry.hand_tuned,
        hand_tuned_source=entry.hand_tuned_source,
        carried=entry.hand_tuned_carried,
        space=entry.space,
        weighs=entry.balance,
        rules=entry.rules,
    )


def _meta(found: Trials, damaged: int) -> dict[str, object]:
    last = found.sweep
    return {
        "id": last.sweep,
        "started": found.first.time,
        "finished": found.heard,
        "outcome": found.outcome or "running",
        "resumed": found.resumed,
        "versions": last.versions,
        "machine": last.machine,
        "code": last.code,
        "unreadable_lines": damaged,
        "paused": sorted(found.paused - found.stopped),
        "stopped": sorted(found.stopped),
        "waiting": sum(map(len, found.enqueued.values())),
        "readings": last.readings,
        "resolutions": last.resolutions,
        "data": last.data,
        "confirms": last.confirms,
    }


def _curves(trials: Iterable[Trial]) -> pd.DataFrame:
    """Return one row per reported value. Repeated names are categories, so that a long table stays small."""
    rows = [(trial.name, row) for trial in trials for row in trial.rows.values()]
    counts = [len(row.metrics) for _, row in rows]
    names = pd.Categorical([name for name, _ in rows])
    stages = pd.Categorical([row.stage for _, row in rows])
    return pd.DataFrame(
        {
            "trial": names.repeat(counts),
            "epoch": np.repeat(np.array([row.epoch for _, row in rows], dtype=np.int32), counts),
            "stage": stages.repeat(counts),
            "metric": pd.Categorical([metric for _, row in rows for metric in row.metrics]),
            "value": np.fromiter((value for _, row in rows for value in row.metrics.values()), float, sum(counts)),
        }
    )


def _attempts(trials: Iterable[Trial]) -> pd.DataFrame:
    rows = [(trial.name, start, end) for trial in trials for start, end in trial.attempts]
    kinds = {"trial": "str", "started": "float64", "ended": "float64"}
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)


def _table(found: Trials, studies: Mapping[str, Study]) -> pd.DataFrame:
    trials = list(found.trials.values())
    last = [_last_metrics(trial) for trial in trials]
    text, whole, real = "str", "Int64", "float64"
    columns = {
        "trial": ([trial.name for trial in trials], text),
        "study": ([trial.study for trial in trials], text),
        "method": ([studies[trial.study].method for trial in trials], text),
        "dataset": ([studies[trial.study].dataset for trial in trials], text),
        "number": ([trial.number for trial in trials], whole),
        "origin": ([trial.origin for trial in trials], text),
        "state": ([trial.state for trial in trials], text),
        "reason": ([trial.reason or "" for trial in trials], text),
        "attempt": ([trial.attempt for trial in trials], whole),
        **{f"times_{what}": ([trial.setbacks[what] for trial in trials], whole) for what in SETBACKS},
        "seed": ([trial.seed for trial in trials], whole),
        "epochs": ([max(trial.rows, default=0) for trial in trials], whole),
        "recipe": ([trial.recipe for trial in trials], whole),
        "value": ([trial.value for trial in trials], real),
    }
    table = pd.DataFrame({name: pd.Series(values, dtype=kind) for name, (values, kind) in columns.items()})
    knobs = dict.fromkeys(knob for study in studies.values() for knob in study.space)
    knobs |= dict.fromkeys(knob for trial in trials for knob in trial.values)
    more = {f"hyper/{knob}": column([trial.values.get(knob) for trial in trials]) for knob in knobs}
    for metric in dict.fromkeys(metric for metrics in last for metric in metrics):
        more[metric] = pd.Series([metrics.get(metric) for metrics in last], dtype=real)
    for name in ("started", "ended"):
        seconds = pd.Series([getattr(trial, name) for trial in trials], dtype=real)
        more[name] = pd.to_datetime(seconds, unit="s", utc=True)
    more["worker_seconds"] = pd.Series([trial.worker_seconds for trial in trials], dtype=real)
    more["device_seconds"] = pd.Series([trial.device_seconds for trial in trials], dtype=real)
    return pd.concat([table, pd.DataFrame(more, index=table.index)], axis=1)


def _last_metrics(trial: Trial) -> dict[str, float]:
    """Return the last value of each metric of a trial."""
    last: dict[str, float] = {}
    for row in trial.rows.values():
        last |= row.metrics
    if not any(name.endswith("/copies") for name in last):
        last.pop("flag/memorised", None)  # of an earlier rule, which also marked samples that only crowd
    return last


def column(values: list) -> pd.Series:
    """Return a column of one hyperparameter over all trials, None if a method does not have it; compare its values by
    `same`.

    Two methods may give one name different types, but a column of a parquet file has one type, so the fallback is text.
    """
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        kind = "boolean"
    elif kinds == {int}:
        kind = "Int64"
    elif kinds <= {int, float}:
        kind = "float64"
    else:
        kind, values = "str", [None if value is None else str(value) for value in values]
    return pd.Series(values, dtype=kind)


def same(value: object, other: object) -> bool:
    """Return whether two values of a hyperparameter are equal, one of which may be from a `column`: 2, 2.0 and "2"."""
    if isinstance(value, Real) and isinstance(other, Real):
        return value == other
    return str(value) == str(other)


def place_of(value: object, choices: Sequence) -> int | None:
    """Return the index of a trial's value among the choices of its space, None if it is none of them."""
    return next((i for i, choice in enumerate(choices) if same(value, choice)), None)
