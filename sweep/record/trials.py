"""The state of a sweep and its trials, folded from the events of the record.

The driver, Optuna's replay, tracking, the simulator and the analysis all use this fold. The first row of a (trial,
epoch) wins, because a trial resumed from a checkpoint reports its last epochs again; the last start and end of a trial
win, because it may have been retried.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.record.events import (
    SETBACKS,
    CloseEvent,
    EndEvent,
    Event,
    FinishEvent,
    LostEvent,
    ReportEvent,
    RequestEvent,
    Row,
    StartEvent,
    StudyEntry,
    SweepEvent,
)
from sweep.record.log import read, record_of

DEVICE_SECONDS = ("time/train_seconds", "time/density_fit_seconds", "time/evaluate_seconds")  # since the start


def shortened(epochs: Any, scale: float) -> float:
    """Return a hyperparameter that is counted in epochs times `scale`, rounded, so that 0.1 times 3 is 0.3."""
    return float(f"{scale * epochs:.4g}")


def charged(state: str, epoch: int, epochs: int, first_rung: int) -> int:
    """Return the epochs that a trial at `epoch` uses of its study's budget.

    A running trial counts with all `epochs` that it may train, so that a study cannot exceed its budget. An ended trial
    counts with at least the epochs of the first rung, so that a study whose trials fail immediately ends, too.
    """
    return epochs if state == "running" else max(epoch, first_rung)


@dataclass
class Trial:
    """State of one trial; `state` is "running" from its start to its end, and again after another start. A paused trial
    has ended for now; it starts again, or becomes pruned.

    Times are in seconds since 1970 on the driver's clock.
    """

    name: str
    study: str
    number: int
    metric: str  # of its study
    values: dict[str, Any]
    origin: str
    seed: int
    attempt: int
    started: float  # of the first attempt
    state: str = "running"
    ended: float | None = None
    reason: str | None = None
    worker: dict[str, Any] | None = None
    rows: dict[int, Row] = field(default_factory=dict)  # by epoch, without vectors and recipes
    vectors: dict[str, Any] = field(default_factory=dict)  # the latest by name
    vectors_epoch: int = 0  # epoch of the latest
    recipe: int | None = None  # index into `Trials.recipes` of the recipe that last measured the metric
    end_epoch: int = 0
    setbacks: Counter[str] = field(default_factory=Counter)  # number of attempts that ended in each of SETBACKS
    stopping: bool = False  # a user asked to stop it, and it has not ended yet
    stalled: int = 0  # losses of its process or node since it last made progress
    _attempts: list[tuple[float, float]] = field(default_factory=list)  # start and end of the ended ones
    _began: float | None = None  # start of the present attempt
    _heard: float = 0.0  # time of its last event
    _timed: Row | None = None  # the last row with seconds

    @property
    def epoch(self) -> int:
        """The last epoch known to be finished."""
        return max(self.end_epoch, *self.rows, 0)

    @property
    def begun(self) -> float | None:
        """The start of the present attempt; None if there is none."""
        return self._began

    @property
    def value(self) -> float | None:
        """The study's metric at the last epoch that has it."""
        evaluated = [epoch for epoch, row in self.rows.items() if self.metric in row.metrics]
        return self.rows[max(evaluated)].metrics[self.metric] if evaluated else None

    @property
    def device_seconds(self) -> float:
        """Seconds of training, density fits and evaluation up to the last report, without waiting or repetition; the
        wall time of the attempts if the trial ended before the first report."""
        if self._timed is not None:
            return sum(self._timed.metrics.get(name, 0.0) for name in DEVICE_SECONDS)
        return self.worker_seconds if self.ended is not None else 0.0

    @property
    def attempts(self) -> list[tuple[float, float]]:
        """Start and end of each span of time for which the trial held a worker, the present one up to its last event;
        a rung ends one when it pauses the trial."""
        return [*self._attempts, *([] if self._began is None else [(self._began, self._heard)])]

    @property
    def worker_seconds(self) -> float:
        """Wall seconds for which its attempts held a worker, up to its last event."""
        return sum(end - start for start, end in self.attempts)

    def begin(self, time: float, attempt: int) -> None:
        """Begin a new attempt. A previous attempt that was lost without an event lasted until its last report."""
        self._stop(self._heard)
        self.attempt, self.state = attempt, "running"
        self.ended = self.reason = self.worker = None
        self.end_epoch = 0
        self.stopping = False
        self._began = self._heard = time

    def add(self, event: ReportEvent) -> None:
        """Add the rows of a report. Known rows are ignored, because training repeats epochs after a loss."""
        before = len(self.rows)
        for row in event.rows:
            if row.epoch in self.rows:
                continue
            if row.vectors:
                self.vectors |= row.vectors
                self.vectors_epoch = row.epoch
            changes: dict[str, Any] = {"vectors": {}, "recipes": {}} if row.vectors or row.recipes else {}
            if row.time is None:
                changes["time"] = event.time
            self.rows[row.epoch] = row.model_copy(update=changes) if changes else row
            if DEVICE_SECONDS[0] in row.metrics and (self._timed is None or row.epoch > self._timed.epoch):
                self._timed = row
        self.stalled = self.stalled if len(self.rows) == before else 0
        self._heard = event.time

    def lose(self, event: LostEvent) -> None:
        """End the attempt, but not the trial."""
        self.setbacks[event.state] += 1
        self.stalled += event.state == "preempted"
        self._stop(event.time)

    def end(self, event: EndEvent) -> None:
        self.state, self.ended = event.state, event.time
        self.reason, self.worker = event.reason, event.worker
        self.end_epoch = event.epoch or 0
        self.stalled = 0
        self.stopping = False
        if self.state in SETBACKS:
            self.setbacks[self.state] += 1
        self._stop(event.time)

    def _stop(self, time: float) -> None:
        if self._began is not None:
            self._attempts.append((self._began, max(self._began, time)))
        self._began = None


@dataclass
class Trials:
    """The state of a sweep, folded from its events; `tell` adds one event.

    `strict` rejects inconsistent events. Otherwise, for a record with damaged lines, events of a trial without a start
    are ignored.
    """

    strict: bool = True
    studies: dict[str, StudyEntry] = field(default_factory=dict)  # by name, latest description
    trials: dict[str, Trial] = field(default_factory=dict)
    recipes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # study -> recipes of its metric
    requests: list[RequestEvent] = field(default_factory=list)  # accepted so far
    paused: set[str] = field(default_factory=set)  # studies that begin no trial until they are unpaused
    stopped: set[str] = field(default_factory=set)  # studies that a user stopped
    enqueued: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # study -> points that wait to be tried
    finish: FinishEvent | None = None  # the latest, None while the sweep runs
    resumed: int = 0  # number of resumes
    heard: float | None = None  # time of the latest event
    earlier: float = 0.0  # seconds that previous drivers worked on the sweep
    ended: int = 0  # number of trials that do not run
    epochs: Counter[str] = field(default_factory=Counter)  # study -> epochs of its trials, needed at every end
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # study -> device seconds
    left: Counter[str] = field(default_factory=Counter)  # study -> epochs that its running trials may still train
    outgrown: dict[str, float] = field(default_factory=dict)  # study -> largest share of a GPU that was too small
    _recipes: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # hash -> recipes of a row's metrics
    _first: SweepEvent | None = None
    _sweep: SweepEvent | None = None
    _numbered: dict[str, dict[int, Trial]] = field(default_factory=dict)  # study -> number -> trial
    _leaders: dict[str, Trial] = field(default_factory=dict)  # study -> its best trial, needed at every end

    @property
    def outcome(self) -> str | None:
        """The outcome of the latest driver, None while it runs."""
        return self.finish.outcome if self.finish else None

    @classmethod
    def from_events(cls, events: Iterable[Event], strict: bool = True) -> "Trials":
        """Fold `events` into a state. Raises ValueError if `strict` and the events are inconsistent."""
        trials = cls(strict)
        for event in events:
            trials.tell(event)
        return trials

    def tell(self, event: Event) -> None:
        before, self.heard = self.heard, event.time
        if isinstance(event, ReportEvent):
            self._recipes |= event.recipes  # also if the start of its trial cannot be read
        if isinstance(event, SweepEvent):
            if self._sweep is not None and before is not None:
                self.earlier += max(0.0, before - self._sweep.time)
            self._first = self._first or event
            self._sweep, self.finish = event, None
            self.resumed += event.resumed
            self.studies |= {study.study: study for study in event.studies}
        elif isinstance(event, StartEvent):
            self._start(event)
        elif isinstance(event, FinishEvent):
            self.finish = event
        elif isinstance(event, RequestEvent):
            self._request(event)
        elif isinstance(event, CloseEvent):
            for paused in self.paused_in(event.study):
                paused.state = "pruned"
        elif (trial := self._trial(event)) is not None:
            with self._summing(trial):
                self._follow(trial, event)

    @contextmanager
    def _summing(self, trial: Trial) -> Iterator[None]:
        """Context manager that adds what changes of a trial to the sums of its study."""
        epoch, seconds, left = trial.epoch, trial.device_seconds, self._left(trial)
        yield
        self.epochs[trial.study] += trial.epoch - epoch
        self.seconds[trial.study] += trial.device_seconds - seconds
        self.left[trial.study] += self._left(trial) - left

    def _left(self, trial: Trial) -> int:
        return self.studies[trial.study].epochs - trial.epoch if trial.state == "running" else 0

    def _follow(self, trial: Trial, event: ReportEvent | LostEvent | EndEvent) -> None:
        if isinstance(event, ReportEvent):
            self._note_recipes(trial, event)
            trial.add(event)
            return
        self._note_share(trial, event)
        if isinstance(event, LostEvent):
            trial.lose(event)
        else:
            self.ended += trial.state == "running"
            trial.end(event)
            self._leaders |= _lead([self._leaders.get(trial.study), trial])

    @property
    def first(self) -> SweepEvent:
        """The first sweep event. Raises ValueError if there is none yet."""
        return _known(self._first)

    @property
    def sweep(self) -> SweepEvent:
        """The latest sweep event. Raises ValueError if there is none yet."""
        return _known(self._sweep)

    def of(self, study: str) -> list[Trial]:
        """Return the trials of one study, by number."""
        return [trial for _, trial in sorted(self._numbered.get(study, {}).items())]

    def paused_in(self, study: str) -> list[Trial]:
        """Return the trials of one study that a rung has paused."""
        return [trial for trial in self.of(study) if trial.state == "paused"]

    def hand_tuned_trial(self, study: str) -> Trial | None:
        """Return the trial of the study's first hand-tuned point, None before its start."""
        return self._numbered.get(study, {}).get(0)

    def under_way(self, slots: int | None = None) -> list[Trial]:
        """Return the trials that occupy a slot; `slots` defaults to the number in the record.

        Ray gets one trial more than there are slots, so that no slot is idle. That trial waits, as do trials of an
        earlier run that have not been restarted yet.
        """
        if self._sweep is None:
            return []
        began, slots = self._sweep.time, slots or int(self._sweep.resources.get("slots", len(self.trials)))
        running = [trial for trial in self.trials.values() if trial.state == "running"]
        started = [trial for trial in running if trial.begun is not None and trial.begun >= began]
        return sorted(started, key=lambda trial: trial.begun or 0.0)[:slots]

    def best(self, study: str) -> Trial | None:
        """Return the complete trial with the lowest value, the earlier one of ties; None if there is none."""
        return self._leaders.get(study)

    def _start(self, event: StartEvent) -> None:
        if event.study not in self.studies:
            raise ValueError(
                f"{event.trial} starts in study {event.study!r}, which no sweep event lists; repair the record"
            )
        if (trial := self.trials.get(event.trial)) is not None:
            self.ended -= trial.state != "running"
            with self._summing(trial):
                trial.begin(event.time, event.attempt)
            if self._leaders.get(event.study) is trial:
                del self._leaders[event.study]
                self._leaders |= _lead(self.of(event.study))
            return
        about = event.model_dump(include={"study", "number", "values", "origin", "seed", "attempt"})
        if event.origin == "enqueued" and self.enqueued.get(event.study):
            self.enqueued[event.study].pop(0)
        trial = Trial(event.trial, metric=self.studies[event.study].metric, started=event.time, **about)
        trial.begin(event.time, event.attempt)
        self.left[event.study] += self._left(trial)
        self.trials[event.trial] = trial
        self._numbered.setdefault(event.study, {})[event.number] = trial

    def _request(self, event: RequestEvent) -> None:
        self.requests.append(event)
        if event.action == "enqueue" and event.study is not None:
            self.enqueued.setdefault(event.study, []).append(event.values)
        elif event.action == "pause":
            self.paused |= self.studies.keys() if event.study is None else {event.study}
        elif event.action == "unpause":
            self.paused -= self.studies.keys() if event.study is None else {event.study}
            self.stopped -= {event.study}
        elif event.trial is not None or event.study is not None:
            if event.study is not None:
                self.stopped.add(event.study)
            for trial in self.trials.values():
                if trial.state == "running" and (trial.name == event.trial or trial.study == event.study):
                    trial.stopping = True

    def _note_share(self, trial: Trial, event: LostEvent | EndEvent) -> None:
        share = (event.worker or {}).get("gpus", 1.0)
        if event.state == "out_of_memory" and share < 1:
            self.outgrown[trial.study] = max(share, self.outgrown.get(trial.study, 0.0))

    def _note_recipes(self, trial: Trial, event: ReportEvent) -> None:
        for row in event.rows:
            recipe = self._recipes_of(trial, row).get(trial.metric)
            if recipe is not None and row.epoch not in trial.rows:
                known = self.recipes.setdefault(trial.study, [])
                if recipe not in known:
                    known.append(recipe)
                trial.recipe = known.index(recipe)

    def _recipes_of(self, trial: Trial, row: Row) -> dict[str, dict[str, Any]]:
        if isinstance(row.recipes, dict):
            return row.recipes
        if self.strict and row.recipes not in self._recipes:
            raise ValueError(f"{trial.name}: the recipes {row.recipes} of a report are missing; repair the record")
        return self._recipes.get(row.recipes, {})

    def _trial(self, event: ReportEvent | LostEvent | EndEvent) -> Trial | None:
        if self.strict and event.trial not in self.trials:
            raise ValueError(f"{event.trial}: {event.event} event before its start; repair the record")
        return self.trials.get(event.trial)


def read_trials(folder: Path) -> Trials:
    """Read the trials of the sweep in a folder from its record. Raises ValueError if there is none."""
    return Trials.from_events(read(record_of(folder)))


def by_study(events: Iterable[Event]) -> defaultdict[str, list[Event]]:
    """Group the events of studies and of their trials by study. Events of trials without a start are omitted."""
    grouped: defaultdict[str, list[Event]] = defaultdict(list)
    study_of: dict[str, str] = {}
    for event in events:
        if isinstance(event, StartEvent):
            study_of[event.trial] = event.study
        if isinstance(event, StartEvent | CloseEvent):
            grouped[event.study].append(event)
        elif isinstance(event, ReportEvent | LostEvent | EndEvent) and event.trial in study_of:
            grouped[study_of[event.trial]].append(event)
    return grouped


def _known(event: SweepEvent | None) -> SweepEvent:
    if event is None:
        raise ValueError("the record has no sweep event; repair its first line")
    return event


def _lead(trials: Iterable[Trial | None]) -> dict[str, Trial]:
    """Map a study to the best of some of its trials; empty if none of them is complete with a value."""
    complete = [trial for trial in trials if trial and trial.state == "complete" and trial.value is not None]
    best = min(complete, key=lambda trial: (trial.value, trial.number), default=None)
    return {best.study: best} if best else {}
