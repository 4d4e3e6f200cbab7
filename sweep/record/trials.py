"""The trials of a sweep, folded from the events of its record."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sweep.record.log import Event

DEVICE_SECONDS = ("time/train_seconds", "time/density_fit_seconds", "time/evaluate_seconds")  # since the beginning
STATES = ("complete", "pruned", "diverged", "failed", "out_of_memory", "preempted", "cancelled")
SETBACKS = ("preempted", "out_of_memory", "failed")  # what says nothing of the values, and may go well another time


@dataclass
class Trial:
    """What is known of one trial; `state` is "running" from its start to its end, and again after a new
    start."""

    name: str
    study: str
    number: int
    metric: str  # of its study
    values: dict[str, Any]
    origin: str
    seed: int
    attempt: int
    started: float  # of the first attempt; seconds since 1970, as all times here
    state: str = "running"
    ended: float | None = None
    reason: str | None = None
    worker: dict[str, Any] | None = None
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)  # epoch -> the first row reported for it
    end_epoch: int = 0
    setbacks: Counter[str] = field(default_factory=Counter)  # how many attempts came to each of SETBACKS
    stalled: int = 0  # how often its process or node was lost since it last got further

    @property
    def epoch(self) -> int:
        """The last epoch it is known to have finished."""
        return max(self.end_epoch, *self.rows, 0)

    @property
    def seconds(self) -> float:
        """What it took of a device: training, fits and evaluations up to its last evaluation; if it ended before the
        first one, the time from its start to its end."""
        told = [epoch for epoch, row in self.rows.items() if DEVICE_SECONDS[0] in row["metrics"]]
        if told:
            metrics = self.rows[max(told)]["metrics"]
            return sum(metrics.get(name, 0.0) for name in DEVICE_SECONDS)
        return self.ended - self.started if self.ended is not None else 0.0

    @property
    def value(self) -> float | None:
        """The metric of its study at the last epoch that has it."""
        evaluated = [epoch for epoch, row in self.rows.items() if self.metric in row["metrics"]]
        return self.rows[max(evaluated)]["metrics"][self.metric] if evaluated else None


@dataclass
class Trials:
    """The state of a sweep, folded from its events; `tell` takes one more."""

    sweep: Event | None = None  # the latest sweep event
    studies: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> its entry in that event
    trials: dict[str, Trial] = field(default_factory=dict)
    outcome: str | None = None  # of the latest finish, None while the sweep runs
    ended: int = 0  # how many trials do not run
    _numbered: dict[str, dict[int, Trial]] = field(default_factory=dict)  # study -> number -> trial
    _leaders: dict[str, Trial] = field(default_factory=dict)  # study -> its best, for every end asks for it

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> "Trials":
        """The state after `events`. Raises ValueError if they do not follow from each other."""
        trials = cls()
        for event in events:
            trials.tell(event)
        return trials

    def tell(self, event: Event) -> None:
        kind = event["event"]
        if kind == "sweep":
            self.sweep, self.outcome = event, None
            self.studies |= {study["study"]: study for study in event["studies"]}
        elif kind == "start":
            self._start(event)
        elif kind == "report":
            trial = self._of(event)
            before = len(trial.rows)
            for row in event["rows"]:
                trial.rows.setdefault(row["epoch"], row)
            trial.stalled = trial.stalled if len(trial.rows) == before else 0
        elif kind == "lost":
            trial = self._of(event)
            trial.setbacks[event["state"]] += 1
            trial.stalled += event["state"] == "preempted"
        elif kind == "end":
            trial = self._of(event)
            self.ended += trial.state == "running"
            trial.state, trial.ended = event["state"], event["time"]
            trial.reason, trial.worker = event.get("reason"), event.get("worker")
            trial.end_epoch = event.get("epoch") or 0
            trial.stalled = 0
            if trial.state in SETBACKS:
                trial.setbacks[trial.state] += 1
            self._leaders |= _lead([self._leaders.get(trial.study), trial])
        elif kind == "finish":
            self.outcome = event["outcome"]

    def of(self, study: str) -> list[Trial]:
        """The trials of one study, by number."""
        return [trial for _, trial in sorted(self._numbered.get(study, {}).items())]

    def first(self, study: str) -> Trial | None:
        """The trial of a study's hand-tuned point, None before its start."""
        return self._numbered.get(study, {}).get(0)

    def best(self, study: str) -> Trial | None:
        """The complete trial with the lowest value; the earlier one of two equals. None if there is none."""
        return self._leaders.get(study)

    def _start(self, event: Event) -> None:
        name, study = event["trial"], event["study"]
        if study not in self.studies:
            raise ValueError(f"{name}: starts in {study!r}, which no sweep event lists; repair the record")
        if name in self.trials:
            trial = self.trials[name]
            self.ended -= trial.state != "running"
            trial.attempt, trial.state = event["attempt"], "running"
            trial.ended = trial.reason = trial.worker = None
            trial.end_epoch = 0
            if self._leaders.get(study) is trial:
                del self._leaders[study]
                self._leaders |= _lead(self.of(study))
            return
        self.trials[name] = Trial(
            name,
            study,
            event["number"],
            self.studies[study]["metric"],
            event["values"],
            event["origin"],
            event["seed"],
            event["attempt"],
            started=event["time"],
        )
        self._numbered.setdefault(study, {})[event["number"]] = self.trials[name]

    def _of(self, event: Event) -> Trial:
        if event["trial"] not in self.trials:
            raise ValueError(f"{event['trial']}: {event['event']} event before its start; repair the record")
        return self.trials[event["trial"]]


def _lead(trials: Iterable[Trial | None]) -> dict[str, Trial]:
    """The best of some trials of one study, under its name; empty if none of them is complete with a value."""
    complete = [trial for trial in trials if trial and trial.state == "complete" and trial.value is not None]
    best = min(complete, key=lambda trial: (trial.value, trial.number), default=None)
    return {best.study: best} if best else {}
