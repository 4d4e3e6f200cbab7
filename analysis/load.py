"""The reading half of the analysis: a sweep's record, and the numbers that the papers printed, as tables.

`record.jsonl` is the one source of truth of a sweep and is only ever appended to, by programs that may be
killed at any byte. Reading therefore folds it: the first row of a (trial, epoch) wins, because a trial
resumed from a checkpoint reports its last epochs again; the last start and end of a trial win, because it may
have been tried again; and a line cut short by a crash is counted, never fatal.
"""

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

RECORD = "record.jsonl"
PUBLISHED = Path(__file__).parent / "published"
SETBACKS = ("preempted", "out_of_memory", "failed")  # what an attempt can come to that says nothing of the values


@dataclass(frozen=True)
class Study:
    """One method on one data set: what was searched, and where its paper's hand-tuned point lies."""

    name: str
    method: str
    dataset: str
    metric: str  # the objective, lower is better
    trials: int
    epochs: int
    rungs: tuple[int, ...] = ()
    hand_tuned: Mapping[str, object] = field(default_factory=dict)
    hand_tuned_source: str = ""
    carried: str = ""  # from which data sets or network its point was taken to others
    space: Mapping[str, Mapping] = field(default_factory=dict)

    @property
    def searched(self) -> tuple[str, ...]:
        """The hyperparameters that the search may move, in the order of the space."""
        return tuple(name for name, spec in self.space.items() if "value" not in spec)

    def is_log(self, knob: str) -> bool:
        """Whether a hyperparameter is searched on a logarithmic scale."""
        return bool(self.space.get(knob, {}).get("log", False))


@dataclass(frozen=True)
class Sweep:
    """A sweep as its record tells it.

    trials: one row per trial; `value` is the objective at its last evaluated epoch, `hyper/<name>` its
        hyperparameters, every other column with a slash the last value of that metric; `seconds` is the time
        it held a worker, over all attempts. `times_preempted`, `times_out_of_memory` and `times_failed` count the
        attempts that came to that, the last one included. A trial without an end has the state `running`.
        `recipe` says which of its study's `recipes` measured the value, from 0.
    curves: trial, epoch, stage, metric, value, one row per number reported.
    recipes: by study, how its objective was measured (extractor, number of images, split, ...); several if
        that changed while it ran, none if the record does not say.
    meta: id, started, finished (seconds since 1970), outcome, resumed, versions, machine, code,
        unreadable_lines and, of a confirmation, what it `confirms`.
    parts: the sweeps that `analysis.join` made this one of, by the names that tell them apart; else empty.
    cast: the methods of the whole that this is a share of, which keep their colours; else empty.
    """

    folder: Path
    trials: pd.DataFrame
    curves: pd.DataFrame
    studies: Mapping[str, Study]
    config: Mapping[str, object]
    recipes: Mapping[str, tuple[Mapping, ...]]
    meta: Mapping[str, object]
    parts: Mapping[str, "Sweep"] = field(default_factory=dict)
    cast: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " + ".join(self.parts) or self.folder.name

    @property
    def datasets(self) -> tuple[str, ...]:
        """Data sets in the order in which the sweep named them."""
        return tuple(dict.fromkeys(study.dataset for study in self.studies.values()))

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods in the order in which the sweep named them."""
        return self.cast or tuple(dict.fromkeys(study.method for study in self.studies.values()))

    def studies_of(self, dataset: str) -> tuple[Study, ...]:
        return tuple(study for study in self.studies.values() if study.dataset == dataset)

    def trials_of(self, study: str) -> pd.DataFrame:
        return self.trials[self.trials["study"] == study]

    def home(self, study: str) -> tuple[Path, str]:
        """The folder of the sweep that ran a study, and the study's name in there."""
        label, _, name = study.rpartition("/")
        return (self.parts[label].folder, name) if self.parts else (self.folder, study)

    def share(self, trials: pd.DataFrame, studies: Mapping[str, Study], recipes: Mapping) -> "Sweep":
        """The same sweep with fewer trials and studies."""
        return replace(self, trials=trials, studies=studies, recipes=recipes, cast=self.methods)

    def hand_tuned(self, study: str) -> pd.Series | None:
        """The trial of the paper's own values, the first if there are several; None before it has started."""
        rows = self.trials_of(study)
        rows = rows[rows["origin"] == "paper"]
        return None if rows.empty else rows.loc[rows["number"].idxmin()]

    def complete(self, study: str) -> pd.DataFrame:
        """The trials of a study that used their whole budget and have a value, the lowest first."""
        rows = self.trials_of(study)
        return rows[(rows["state"] == "complete") & rows["value"].notna()].sort_values(["value", "number"])

    def best(self, study: str) -> pd.Series | None:
        """The trial with the lowest value among those that used their whole budget; None if there is none."""
        rows = self.complete(study)
        return None if rows.empty else rows.iloc[0]


def read_sweep(folder: str | Path) -> Sweep:
    """Fold the record in a sweep's folder into tables; `analysis.join.read_sweeps` makes one of several.

    Raises ValueError if the folder holds no record, or a record that never says which sweep it belongs to.
    """
    folder = Path(folder).resolve()
    path = folder / RECORD
    if not path.is_file():
        raise ValueError(f"{folder}: no {RECORD} here; name the folder of a sweep, such as sweeps/NAME")
    fold = _Fold()
    for event in _events(path):
        fold.add(event)
    if not fold.studies:
        raise ValueError(f"{path}: no line tells of a sweep and its studies; the file is empty or something else")
    return fold.sweep(folder)


def newest_sweep() -> Path:
    """The folder under `sweeps/`, here or one level up, whose record was written to last.

    Raises ValueError if there is none.
    """
    here = Path.cwd()
    for root in (here, here.parent):
        records = sorted(root.glob(f"sweeps/*/{RECORD}"), key=lambda record: record.stat().st_mtime)
        if records:
            return records[-1].parent
    raise ValueError(f"no sweep under {here}/sweeps or {here.parent}/sweeps; run one first, or name its folder")


def read_published(paper: str, table: int | str) -> pd.DataFrame:
    """One table as printed: paper, table, dataset, method, variant, metric, epoch (text), value, std.

    paper: gae, balancing, aae, vaegan or regularization. table: its number there, or fig11_log.
    Values of different papers are not on one scale; `published/README.md` says why, and what was decoded.
    Raises ValueError, naming what there is, if there is no such table.
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
    """The vectors (variances of the codes, ...) that each trial of a sweep told last, by trial and name."""
    told: dict[str, dict[str, list[float]]] = {}
    for event in _events(Path(folder) / RECORD):
        if event is not None and event["event"] == "report":
            for row in event["rows"]:
                told.setdefault(event["trial"], {}).update(row.get("vectors", {}))
    return told


def _events(path: Path) -> Iterator[dict | None]:
    """Each line of the record as a dict, None where a line was cut short."""
    with path.open("rb") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError:
                yield None


class _Trial:
    """What the record has said so far about one trial."""

    def __init__(self) -> None:
        self.about: dict = {}
        self.values: dict = {}
        self.state, self.reason = "running", ""
        self.setbacks = Counter()  # how many attempts came to each of SETBACKS
        self.epochs: set[int] = set()
        self.metrics: dict[str, float] = {}
        self.recipe: int | None = None  # which of its study's recipes measured the objective last
        self.first_start = math.nan
        self.held = 0.0  # seconds of attempts that are over
        self.began: float | None = None  # of the attempt under way
        self.heard = math.nan  # of its last sign of life

    def start(self, event: dict) -> None:
        if self.began is None and math.isnan(self.first_start):
            self.first_start = event["time"]
        self._stop(self.heard)  # an attempt that vanished lasted until its last report
        self.began = self.heard = event["time"]
        self.about, self.values = event, event.get("values", {})
        self.state, self.reason = "running", ""

    def lose(self, event: dict) -> None:
        """An attempt is over, but the trial goes on in another."""
        self._stop(event["time"])
        self.setbacks[event["state"]] += 1

    def end(self, event: dict) -> None:
        self._stop(event["time"])
        self.state, self.reason = event["state"], event.get("reason") or ""
        self.setbacks[self.state] += 1

    def seconds(self) -> float:
        return self.held + (self.heard - self.began if self.began is not None else 0.0)

    def _stop(self, at: float) -> None:
        if self.began is not None:
            self.held += max(0.0, at - self.began)
        self.began = None


class _Codes(dict):
    """Strings as small integers in order of appearance: a long table of repeated names stays small."""

    def __missing__(self, name: str) -> int:
        self[name] = code = len(self)
        return code

    def column(self, codes: array) -> pd.Categorical:
        return pd.Categorical.from_codes(np.array(codes), categories=pd.Index(list(self), dtype="str"))


class _Fold:
    """The state of reading a record from its first line to its last."""

    def __init__(self) -> None:
        self.studies: dict[str, Study] = {}
        self.config: dict = {}
        self.meta: dict = {"id": "", "versions": {}, "machine": {}, "code": "", "outcome": "running"}
        self.meta |= {"started": math.nan, "finished": math.nan, "resumed": 0, "unreadable_lines": 0}
        self.recipes: dict[str, list[dict]] = {}
        self.trials: dict[str, _Trial] = {}
        self.names, self.stages, self.metrics = _Codes(), _Codes(), _Codes()
        self.curve = {name: array("i") for name in ("trial", "epoch", "stage", "metric")}
        self.curve_value = array("d")

    def add(self, event: dict | None) -> None:
        if event is None:
            self.meta["unreadable_lines"] += 1
            return
        self.meta["finished"] = event["time"]
        match event["event"]:
            case "sweep":
                self._sweep(event)
            case "start":
                self.trials.setdefault(event["trial"], _Trial()).start(event)
            case "report":
                self._report(event)
            case "lost":
                if event["trial"] in self.trials:
                    self.trials[event["trial"]].lose(event)
            case "end":
                # A start may have been the line cut short; its trial is then not known and is left out.
                if event["trial"] in self.trials:
                    self.trials[event["trial"]].end(event)
            case "finish":
                self.meta["outcome"] = event["outcome"]

    def _sweep(self, event: dict) -> None:
        self.config = event.get("config", {})
        self.meta |= {key: event[key] for key in ("versions", "machine", "code") if key in event}
        self.meta["id"] = event.get("sweep", "")
        self.meta["confirms"] = event.get("confirms")
        self.meta["outcome"] = "running"
        self.meta["resumed"] += bool(event.get("resumed"))
        if math.isnan(self.meta["started"]):
            self.meta["started"] = event["time"]
        for told in event["studies"]:
            self.studies[told["study"]] = Study(
                name=told["study"],
                method=told["method"],
                dataset=told["dataset"],
                metric=told["metric"],
                trials=told["trials"],
                epochs=told["epochs"],
                rungs=tuple(told.get("rungs") or ()),
                hand_tuned=told.get("hand_tuned") or {},
                hand_tuned_source=told.get("hand_tuned_source") or "",
                carried=told.get("hand_tuned_carried") or "",
                space=told.get("space") or {},
            )

    def _report(self, event: dict) -> None:
        trial = self.trials.get(event["trial"])
        if trial is None:
            return
        trial.heard = event["time"]
        code = self.names[event["trial"]]
        for row in event["rows"]:
            epoch = row["epoch"]
            if epoch in trial.epochs:
                continue
            trial.epochs.add(epoch)
            stage = self.stages[row.get("stage", "")]
            recipe = row.get("recipes", {}).get(self._study(event["trial"]).metric)
            if recipe is not None:
                told = self.recipes.setdefault(trial.about["study"], [])
                if recipe not in told:
                    told.append(recipe)
                trial.recipe = told.index(recipe)
            for metric, value in row["metrics"].items():
                if value is None or not math.isfinite(value):
                    continue
                trial.metrics[metric] = value
                self.curve["trial"].append(code)
                self.curve["epoch"].append(epoch)
                self.curve["stage"].append(stage)
                self.curve["metric"].append(self.metrics[metric])
                self.curve_value.append(value)

    def sweep(self, folder: Path) -> Sweep:
        curves = pd.DataFrame(
            {
                "trial": self.names.column(self.curve["trial"]),
                "epoch": np.array(self.curve["epoch"]),
                "stage": self.stages.column(self.curve["stage"]),
                "metric": self.metrics.column(self.curve["metric"]),
                "value": np.array(self.curve_value),
            }
        )
        recipes = {study: tuple(told) for study, told in self.recipes.items()}
        return Sweep(folder, self._trials(), curves, self.studies, self.config, recipes, self.meta)

    def _study(self, trial: str) -> Study:
        name = self.trials[trial].about["study"]
        if name not in self.studies:
            raise ValueError(f"{RECORD}: trial {trial} is of study {name}, which no line describes")
        return self.studies[name]

    def _trials(self) -> pd.DataFrame:
        trials = list(self.trials.items())
        studies = [self._study(name) for name, _ in trials]
        text, whole, real = "str", "Int64", "float64"
        columns = {
            "trial": ([name for name, _ in trials], text),
            "study": ([study.name for study in studies], text),
            "method": ([study.method for study in studies], text),
            "dataset": ([study.dataset for study in studies], text),
            "number": ([trial.about["number"] for _, trial in trials], whole),
            "origin": ([trial.about["origin"] for _, trial in trials], text),
            "state": ([trial.state for _, trial in trials], text),
            "reason": ([trial.reason for _, trial in trials], text),
            "attempt": ([trial.about.get("attempt", 1) for _, trial in trials], whole),
            **{f"times_{what}": ([trial.setbacks[what] for _, trial in trials], whole) for what in SETBACKS},
            "seed": ([trial.about.get("seed") for _, trial in trials], whole),
            "epochs": ([max(trial.epochs, default=0) for _, trial in trials], whole),
            "recipe": ([trial.recipe for _, trial in trials], whole),
            "value": (
                [trial.metrics.get(study.metric) for (_, trial), study in zip(trials, studies, strict=True)],
                real,
            ),
        }
        table = pd.DataFrame({name: pd.Series(values, dtype=kind) for name, (values, kind) in columns.items()})
        knobs = dict.fromkeys(knob for study in self.studies.values() for knob in study.space)
        knobs |= dict.fromkeys(knob for _, trial in trials for knob in trial.values)
        more = {f"hyper/{knob}": column([trial.values.get(knob) for _, trial in trials]) for knob in knobs}
        for metric in self.metrics:
            more[metric] = pd.Series([trial.metrics.get(metric) for _, trial in trials], dtype=real)
        started = pd.Series([trial.first_start for _, trial in trials], dtype=real)
        more["started"] = pd.to_datetime(started, unit="s", utc=True)
        more["seconds"] = pd.Series([trial.seconds() for _, trial in trials], dtype=real)
        return pd.concat([table, pd.DataFrame(more, index=table.index)], axis=1)


def column(values: list) -> pd.Series:
    """Values of one hyperparameter over all trials, None where a method has no such knob.

    Two methods may give one name different types; a column of a parquet file cannot, so text is the last
    resort.
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
