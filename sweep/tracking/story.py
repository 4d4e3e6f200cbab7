"""Conversion of a sweep's record into MLflow's terms: name, parameters, tags, status and metric rows of each run.

A `Story` is folded from the record event by event and has no other state, so it can be sent again at any time, to any
server, with the same result. This module accesses neither servers nor files.
"""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sweep.record import Event, Row, SweepEvent, Trial, Trials
from sweep.record.events import CloseEvent, FinishEvent
from trainables.credentials import redact

PARENT = None  # key of the sweep's run in mappings keyed by trial

# Only trials that used their whole budget are FINISHED, so a list filtered by status compares equal budgets.
# The tag `outcome` holds the exact state.
STATUS = {
    "complete": "FINISHED",
    "done": "FINISHED",
    "paused": "KILLED",
    "pruned": "KILLED",
    "preempted": "KILLED",
    "cancelled": "KILLED",
    "interrupted": "KILLED",
    "orphan": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "out_of_memory": "FAILED",
    "running": "RUNNING",
}

_LONGEST_KEY, _LONGEST_PARAM, _LONGEST_TAG = 250, 6000, 8000  # MLflow's limits, in characters
_REFUSED_IN_KEYS = re.compile(r"[^\w\-. :/]")
_FINDINGS = ("flag/", "density/")  # metrics that are 0 or 1, which a curve does not show well
_SYSTEM = {  # metrics that MLflow's page of a run shows as system metrics
    "memory/peak_mb": "system/memory_peak_mb",
    "speed/gpu_utilization_percent": "system/gpu_utilization_percent",
}
_SENT = Row(epoch=0, metrics={})  # replaces rows that are no longer needed


@dataclass(frozen=True)
class Portrait:
    """The desired content of a run: name, parameters, tags, status, data sets, and times in milliseconds.

    note: the description to set on a run that has none.
    """

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    started: int
    ended: int | None
    note: str = ""
    data: tuple["Data", ...] = ()

    @property
    def status(self) -> str:
        return STATUS[self.tags["outcome"]]


@dataclass(frozen=True)
class Data:
    """A data set in MLflow's terms."""

    name: str
    digest: str
    source: str
    profile: dict[str, Any]


@dataclass(frozen=True)
class Measurement:
    """One metric of one epoch. MLflow stores equal measurements once, however often they are sent."""

    key: str
    value: float
    timestamp: int
    step: int


class Story:
    """A sweep named `name` and its trials, as far as the record has been read.

    Attributes:
        touched: trials with changes that have not been sent, which may include PARENT.
        held: whether a driver works on the sweep; if not, running trials will never end.
    """

    def __init__(self, name: str) -> None:
        self.touched: set[str | None] = set()
        self.held = True
        self._name = name
        self._trials = Trials()
        self._ended: float | None = None

    @property
    def _first(self) -> SweepEvent:
        return self._trials.first

    @property
    def sweep(self) -> str:
        """The id of the sweep."""
        return self._first.sweep

    @property
    def trials(self) -> Collection[str]:
        return self._trials.trials.keys()

    @property
    def epochs(self) -> int:
        """The total number of epochs of all trials."""
        return sum(len(trial.rows) for trial in self._trials.trials.values())

    def add(self, event: Event) -> None:
        """Add the next event of the record. Raises ValueError if it is inconsistent with the previous events."""
        if isinstance(event, CloseEvent):
            self.touched |= {trial.name for trial in self._trials.paused_in(event.study)}
        self._trials.tell(event)
        if isinstance(event, FinishEvent):
            self._ended = event.time
        self.touched.add(getattr(event, "trial", PARENT))

    def release(self) -> None:
        """Mark the sweep as having no driver: everything that has not ended is interrupted."""
        self.held = False
        self.touched |= {name for name, trial in self._trials.trials.items() if trial.state == "running"}
        self.touched.add(PARENT)

    def mark_sent(self, name: str | None) -> None:
        """Mark everything about a trial as sent."""
        self.touched.discard(name)
        if name in self._trials.trials:
            trial = self._trials.trials[name]
            trial.rows = dict.fromkeys(trial.rows, _SENT)

    def rows(self, name: str | None) -> list[Measurement]:
        """Return the finite metrics, except findings, of the epochs not yet sent, with the times of the record.

        The metric of the study comes first, because MLflow's comparison of runs starts with the metric logged first.
        """
        trial = self._trial(name)
        rows = [] if trial is None else [row for row in trial.rows.values() if row is not _SENT]
        found = [
            Measurement(_key(_SYSTEM.get(key, key)), float(value), _milliseconds(row.time), row.epoch)
            for row in rows
            for key, value in row.metrics.items()
            if math.isfinite(value) and not key.startswith(_FINDINGS) and row.time is not None
        ]
        first = _key(trial.metric) if trial else ""
        return sorted(found, key=lambda measurement: measurement.key != first)

    def documents(self, name: str | None) -> dict[str, dict[str, Any]]:
        """Return the vectors of the last evaluation, which do not fit into rows, by file name."""
        trial = self._trial(name)
        return {"vectors.json": {"epoch": trial.vectors_epoch, **trial.vectors}} if trial and trial.vectors else {}

    def _trial(self, name: str | None) -> Trial | None:
        return None if name is None else self._trials.trials.get(name)

    def portrait(self, name: str | None) -> Portrait:
        """Return the desired content of the run of a trial, or of the parent run."""
        if name is PARENT:
            return self._sweep_portrait()
        if name in self._trials.trials:
            return self._trial_portrait(self._trials.trials[name])
        return Portrait(name, params={}, tags={"outcome": "orphan"}, started=0, ended=None)

    def _sweep_portrait(self) -> Portrait:
        config, now = (_flat(event.config) for event in (self._first, self._trials.sweep))
        tags = {
            "sweep_id": self.sweep,
            "outcome": self._last_word(self._trials.outcome or "running"),
            "studies": ", ".join(self._trials.studies),
        }
        tags |= self._origins() | _flat({"machine": self._trials.sweep.machine})
        # MLflow's parameters cannot change, but an extended or resumed sweep may have a different configuration.
        tags |= {f"config.{key}": value for key, value in now.items() if config.get(key) != value}
        ended = self._ended if self._trials.outcome else None
        name = self._first.title or self._name
        return self._portrait(name, config, tags, self._first.time, ended, self._about(), self._first.data)

    def _trial_portrait(self, trial: Trial) -> Portrait:
        study = self._trials.studies[trial.study]
        tags = {
            "trial_id": trial.name,
            "sweep_id": self.sweep,
            "study": trial.study,
            "method": study.method,
            "dataset": study.dataset,
            "seed": _text(trial.seed),
            "origin": trial.origin,
            "attempt": _text(trial.attempt),
            "outcome": self._last_word(trial.state),
            "reason": trial.reason or "",
        }
        tags |= _flat({"worker": trial.worker or {}})
        tags |= {f"times_{state}": _text(count) for state, count in sorted(trial.setbacks.items())}
        number = _hand_tuned(trial, len(study.points)) if trial.origin == "paper" else f"{trial.number}"
        if self._first.confirms:
            point = study.points[trial.number]["name"]
            tags |= {"point": point}
            number = f"{point} / seed {trial.seed}"
        for _, row in sorted(trial.rows.items()):
            tags |= {name: _text(value == 1) for name, value in row.metrics.items() if name.startswith(_FINDINGS)}
        name = f"{study.method} / {study.dataset} / {number}"
        points = study.points if trial.origin == "paper" else []
        source = points[trial.number % len(points)].get("source", "") if points else ""
        note = f"Hand-tuned point: {source}" if source else ""
        values, tags = _flat(trial.values), tags | self._origins()
        return self._portrait(name, values, tags, trial.started, trial.ended, note, [study.dataset])

    def _about(self) -> str:
        """Describe the sweep's studies in Markdown."""
        searches = dict.fromkeys(
            f"At most {study.epochs} epochs per trial, minimises {study.metric}, sampler {study.sampler}"
            for study in self._first.studies
        )
        points = [f"- {s.study}: {s.hand_tuned_source}" for s in self._first.studies if s.hand_tuned_source]
        return "\n".join([*searches, *(["", "Hand-tuned points:", "", *points] if points else [])])

    def _last_word(self, state: str) -> str:
        return state if state != "running" or self.held else "interrupted"

    def _origins(self) -> dict[str, str]:
        sweep = self._trials.sweep
        found = _flat({"versions": sweep.versions, "code": sweep.code})
        if sweep.user:
            found |= {"mlflow.user": sweep.user}
        if sweep.commit:
            found |= {"mlflow.source.name": "sweep/run.py", "mlflow.source.type": "LOCAL"}
            found |= {"mlflow.source.git.commit": sweep.commit}
        return found

    def _portrait(
        self,
        name: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        started: float,
        ended: float | None,
        note: str,
        datasets: Iterable[str],
    ) -> Portrait:
        def clean(pairs: Mapping[str, str], longest: int) -> dict[str, str]:
            return {_key(key): redact(value)[:longest] for key, value in pairs.items()}

        known = self._trials.sweep.data
        return Portrait(
            name,
            clean(params, _LONGEST_PARAM),
            clean(tags, _LONGEST_TAG),
            _milliseconds(started),
            None if ended is None else _milliseconds(ended),
            redact(note)[:_LONGEST_TAG],
            tuple(_data(name, known[name]) for name in datasets if name in known),
        )


def _hand_tuned(trial: Trial, points: int) -> str:
    """Name a trial's hand-tuned point, with the seed from the second run of the points on."""
    point = trial.number % points if points else 0
    again = f" / seed {trial.seed}" if points and trial.number >= points else ""
    return f"hand-tuned {point + 1}{again}" if point else f"hand-tuned{again}"


def _data(name: str, known: Mapping[str, Any]) -> Data:
    profile = {key: value for key, value in known.items() if key not in ("digest", "source")}
    return Data(name, known["digest"], redact(known["source"]), profile)


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten {"a": {"b": 1}} to {"a.b": "1"}, because MLflow stores only keys and text."""
    found: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = _text(value)
    return found


def _text(value: Any) -> str:
    """Format a value as the record does; strings are returned unchanged."""
    return value if isinstance(value, str) else json.dumps(value)


def _key(key: str) -> str:
    """Return a key that MLflow accepts: it refuses parts of a path that are empty or dots only, too."""
    parts = _REFUSED_IN_KEYS.sub("_", key).split("/")
    return "/".join(part if part.strip(".") else "_" for part in parts)[:_LONGEST_KEY].rstrip("./")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
