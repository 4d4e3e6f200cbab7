"""A study: the trials of one method on one data set, their suggestions and their early stopping.

Everything here is synchronous and independent of clocks, processes and files, so a simulator can drive it as well as a
cluster. Its state is a plain table of trials, which Optuna does not own: each suggestion creates a new in-memory Optuna
study that shows the table to a new sampler, seeded for that trial. A suggestion therefore depends only on the seed, the
study's name, the trial's number and the table, and a study replayed from the record continues exactly as the original.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from heapq import nsmallest
from typing import Any, Literal
from zlib import crc32

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweep.record import SETBACKS, STATES, Event, StudyEntry
from sweep.record.events import CloseEvent, EndEvent, Origin, ReportEvent, StartEvent
from sweep.record.trials import charged
from sweep.search.probes import LEARNING_RATE, Probe, probe
from sweep.search.rungs import Rungs
from sweep.search.sampler import JointTPE, PriorSampler, rank
from sweep.search.space import Choice, Fixed, Point, Range, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)  # do not log the study created for every suggestion

RETRIABLE = (*SETBACKS, "cancelled")  # states that are no final result of the values

GOOD = 25  # Optuna's TPE treats a tenth of the trials as good, at most this number
SHOWN = 300  # large enough that a tenth exceeds GOOD
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Spec:
    """Specification of a study and its budget.

    The budget is `budget_epochs`, the epochs of `trials` full trainings of `epochs`; epochs saved by stopped trials pay
    for further trials. If it is None, the budget is the number of trials.

    `space` is the space of the data set (`Space.on`); its points run first. `metric` is minimised and alone decides
    which trials are stopped; "tpe" also minimises the `objectives`. Trials are judged at `first_rung` epochs and at
    each further multiple by `factor`; the share `spared` of them, drawn at random, is never stopped. With `promotes`, a
    rung pauses trials instead of ending them; with `adaptive`, it stops fewer the worse it has ranked them. The
    `probes` of `sweep.search.probes` are the first new points; that of the learning rate is never stopped. The sampler
    "none" suggests nothing; the points run in turn repeatedly. `warm` are points of an earlier sweep; they run after
    the hand-tuned ones and can be stopped.
    """

    study: str
    method: str
    dataset: str
    trials: int
    epochs: int
    metric: str
    space: Space
    first_rung: int
    factor: int = 3
    sampler: Literal["tpe", "prior", "random", "none"] = "tpe"
    warm: tuple[Point, ...] = ()
    objectives: tuple[str, ...] = ()
    budget_epochs: int | None = None
    spared: float = 0.0
    promotes: bool = False
    adaptive: bool = False
    probes: tuple[Probe, ...] = ()

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"{self.study}: trials must be at least 1, got {self.trials}")
        if self.sampler not in ("tpe", "prior", "random", "none"):
            raise ValueError(f"{self.study}: sampler must be 'tpe', 'prior', 'random' or 'none', got {self.sampler!r}")

    @cached_property
    def count(self) -> int | None:
        """The number of trials; None if the budget is in epochs. If nothing is searched, at most the number of points,
        because more trials would repeat them."""
        if self.sampler == "none":
            return self.trials
        if all(distribution(d).single() for d in self.space.dimensions.values() if not isinstance(d, Fixed)):
            return min(self.trials, len(self.space.paper))
        return self.trials if self.budget_epochs is None else None

    @property
    def most_epochs(self) -> int:
        """The epochs of the budget; a budget in epochs may be exceeded by half a training."""
        if self.count is not None:
            return self.count * self.epochs
        assert self.budget_epochs is not None  # the budget is one or the other
        return self.budget_epochs

    def share(self, epochs: int, trials: int) -> float:
        """Return the share of the budget used by `epochs` epochs and `trials` trials; at 1 it is exhausted.

        A budget in epochs is exhausted when at most half a training is left, so a study trains its budget to within
        half a training. A budget in trials also counts failed trials, because they take time, too.
        """
        return trials / self.count if self.count is not None else epochs / (self.most_epochs - self.epochs / 2)

    def to_record(self) -> StudyEntry:
        """Return the study's entry in the record's sweep event."""
        first = self.space.paper[0]
        return StudyEntry(
            study=self.study,
            method=self.method,
            dataset=self.dataset,
            trials=self.trials if self.count is None else self.count,
            budget_epochs=None if self.count is not None else self.budget_epochs,
            epochs=self.epochs,
            metric=self.metric,
            objectives=list(self.objectives),
            rungs=Rungs(self.epochs, self.first_rung, self.factor).levels,
            first_rung=self.first_rung,
            factor=self.factor,
            spared=self.spared,
            promotes=self.promotes,
            adaptive=self.adaptive,
            probes=list(self.probes),
            sampler=self.sampler,
            hand_tuned=dict(first.values),
            hand_tuned_source=first.source,
            hand_tuned_carried=first.carried,
            points=[point.to_record() for point in self.space.paper],
            warm=[point.to_record() for point in self.warm],
            space=self.space.to_record(),
            balance=self.space.balance,
            rules=self.space.rules,
        )

    @classmethod
    def from_record(cls, entry: StudyEntry) -> "Spec":
        """Restore the spec from an entry, independent of later changes to the search space's file."""
        names = (
            "study",
            "method",
            "dataset",
            "trials",
            "budget_epochs",
            "epochs",
            "metric",
            "first_rung",
            "factor",
            "spared",
            "promotes",
            "adaptive",
            "sampler",
        )
        space = Space.from_record(entry.space, entry.points, entry.balance, entry.rules)
        warm = tuple(Point.from_record(point) for point in entry.warm)
        kept = {name: getattr(entry, name) for name in names}
        return cls(**kept, space=space, warm=warm, objectives=tuple(entry.objectives), probes=tuple(entry.probes))


@dataclass(frozen=True)
class Asked:
    """A trial to run. `trial` is its name in the sweep, `values` are all its hyperparameters."""

    trial: str
    number: int
    values: dict[str, Any]
    origin: Origin


@dataclass
class _Trial:
    asked: Asked
    state: str = "running"
    charged: int = 0  # epochs of the study's budget
    values: dict[int, float] = field(default_factory=dict)  # epoch -> metric, first report
    others: list[float] = field(default_factory=list)  # further objectives, last report

    @property
    def value(self) -> float | None:
        return self.values[max(self.values)] if self.values else None


class Study:
    """Suggests trials, receives their reports, and decides which continue."""

    def __init__(self, spec: Spec, seed: int) -> None:
        self.spec = spec
        self.seed = seed
        self.spent = 0  # epochs; a running trial counts with its full budget
        self.share = 0.0  # of the budget; at 1 the study requests no more trials
        self._trials: dict[int, _Trial] = {}
        self._frozen: dict[int, FrozenTrial | None] = {}  # what the sampler sees; None outside the present space
        self._changed: set[int] = set()  # trials that have changed since they were frozen
        self._ended: list[int] = []  # frozen trials that ended with a result, by number
        self._ranked: list[tuple[tuple[int, int, float], int]] = []  # the same, the best first
        self._next = 0  # no lower number is free
        self._searched = 0  # new points: probes, or points of the sampler in their place, and then of the sampler alone
        self._exempt: set[int] = set()  # the hand-tuned points, the baseline, and the probe of the learning rate
        self._running: set[int] = set()
        self._paused: set[int] = set()
        self.rungs = Rungs(
            spec.epochs,
            spec.first_rung,
            spec.factor,
            self._exempt,
            spared=self._is_spared,
            promotes=spec.promotes,
            adaptive=spec.adaptive,
        )
        self._distributions = {name: distribution(found) for name, found in spec.space.searched.items()}

    @property
    def most_epochs(self) -> int:
        """The epochs of the budget, as far as it is known now."""
        return self.spec.most_epochs

    @property
    def open_places(self) -> int:
        """The number of additional trials that could run concurrently if no running trial is stopped."""
        if self.spec.count is not None:
            return max(0, self.spec.count - len(self._trials))
        return max(0, round((self.spec.most_epochs - self.spent) / self.spec.epochs))

    def ask(self, enqueued: Mapping[str, Any] | None = None) -> Asked | None:
        """Return the next trial, or None while the budget is exhausted; a stopped trial returns part of its budget.

        A paused trial that is now among the best of its rung is next, before any new one.

        enqueued: values to try in place of a suggestion, after the hand-tuned and the warm points.
        """
        if self.share >= 1:
            return None
        if (best := self.rungs.promotable(self._paused)) is not None:
            return self._start_again(self._trials[best])
        while self._next in self._trials:
            self._next += 1
        number = self._next
        points, warm = self.spec.space.paper, self.spec.warm
        if number < len(points) or self.spec.sampler == "none":
            return self._open(number, dict(points[number % len(points)].values), "paper")
        if number < len(points) + len(warm):
            return self._open(number, dict(warm[number - len(points)].values), "warm")
        if enqueued is not None:
            return self._open(number, dict(enqueued), "enqueued")
        return self._open(number, self._probe() or self._suggest(number), "search")

    @property
    def stopped(self) -> str:
        """The state in which a trial ends that a rung has stopped."""
        return "paused" if self.spec.promotes else "pruned"

    def close(self) -> None:
        """End the paused trials as pruned; none of them will continue."""
        for number in sorted(self._paused):
            trial = self._trials[number]
            self._move(trial, "pruned", trial.charged)

    def report(self, number: int, epoch: int, value: float, metrics: Mapping[str, float] | None = None) -> bool:
        """Report the metric of a trial after `epoch`, and `metrics` with the further objectives; return True if the
        trial continues.

        The first report of an epoch wins. Reports after the end of a trial are ignored.
        """
        trial = self._trial(number)
        if trial.state != "running":
            return False
        if epoch not in trial.values:
            self._changed.add(number)
            trial.values[epoch] = value
            trial.others = [(metrics or {}).get(name, math.nan) for name in self.spec.objectives]
        return self.rungs.report(number, epoch, trial.values[epoch])

    def goes_on(self, number: int) -> bool:
        """Return False once a rung has stopped the trial; after a replay, its end may be missing."""
        return self.rungs.goes_on(number)

    def end(self, number: int, state: str, epoch: int) -> None:
        """End a trial at `epoch`; `state` is a state of the record."""
        if state not in STATES:
            raise ValueError(f"{self.spec.study}: state must be one of {', '.join(STATES)}, got {state!r}")
        trial = self._trial(number)
        if trial.state != "running":
            raise ValueError(f"{trial.asked.trial} cannot end as {state}: it already ended as {trial.state}")
        self._move(trial, state, epoch)

    def reopen(self, number: int) -> Asked:
        """Start another attempt of a trial that failed, ran out of memory, was preempted or cancelled, or runs."""
        trial = self._trial(number)
        if trial.state not in ("running", *RETRIABLE):
            raise ValueError(f"{trial.asked.trial} cannot be retried: it is {trial.state}")
        return self._start_again(trial)

    @property
    def unfinished(self) -> list[Asked]:
        """The trials that have started and not ended, by number."""
        return [self._trials[number].asked for number in sorted(self._running)]

    def replay(self, events: Iterable[Event]) -> "Study":
        """Restore the state of a new study from the events of a record, and return the study.

        Events of other studies are skipped. Values are restored as they were run, even if the spec has changed since.
        """
        numbers = {}
        for event in events:
            if isinstance(event, StartEvent) and event.study == self.spec.study:
                number = numbers[event.trial] = event.number
                if number in self._trials:
                    self._start_again(self._trials[number])
                else:
                    self._open(number, event.values, event.origin)
            elif isinstance(event, ReportEvent) and event.trial in numbers:
                for row in event.rows:
                    if self.spec.metric in row.metrics:
                        self.report(numbers[event.trial], row.epoch, row.metrics[self.spec.metric], row.metrics)
            elif isinstance(event, EndEvent) and event.trial in numbers:
                number = numbers[event.trial]
                if self._trials[number].state == "running":
                    self.end(number, event.state, event.epoch or 0)
            elif isinstance(event, CloseEvent) and event.study == self.spec.study:
                self.close()
        return self

    def history(self) -> list[FrozenTrial]:
        """Return the trials shown to the sampler, by number. Trials outside the present space are omitted.

        A stopped or paused trial is PRUNED with its last value; TPE ranks it after all complete trials, and later
        stopped trials first. A diverged trial is PRUNED without a value; TPE ranks it last. We measured the
        alternatives (Optuna 5.0): with its last finite value or NaN, it ranks as a trial that ran long and beats all
        trials stopped earlier; COMPLETE with infinity beats every stopped trial; and FAIL is ignored, so that the
        sampler repeatedly samples the diverging region (27 of 30 suggestions in a test where a good valley borders on
        it, instead of 10).

        With several objectives, a complete trial is shown with all of them, or as FAIL, which is ignored, if it lacks
        one. A stopped trial is PRUNED without a value: TPE ranks complete trials by domination, and stopped ones last.

        The time of a suggestion grows with the number of trials. Of more than `SHOWN` ended trials, the sampler sees
        the best `GOOD`, the maximum that TPE treats as good, and the latest others, because TPE gives older ones less
        and less weight, and none that TPE ignores. The time of a suggestion is therefore bounded. Showing 50 saves
        0.7 ms and was not better in replays (mean regret at 128 full trainings .042, with 300 .030).
        """
        while self._changed:
            self._show(self._changed.pop())
        shown: Iterable[int] = self._frozen
        if len(self._ended) > SHOWN:
            best = [number for _, number in self._ranked[:GOOD]]
            if self.spec.objectives:
                front = self._oracle(self._shown(self._ended)).best_trials
                best = [trial.number - 1 for trial in nsmallest(GOOD, front, key=rank)]
            shown = {*best, *self._ended[GOOD - SHOWN :], *self._running}
        return self._shown(sorted(shown))

    def _shown(self, numbers: Iterable[int]) -> list[FrozenTrial]:
        """Return the frozen trials of these numbers that are inside the present space."""
        return [trial for number in numbers if (trial := self._frozen[number]) is not None]

    def _show(self, number: int) -> None:
        """Freeze a trial that has changed. The ended ones stay in order, so that no suggestion has to sort them."""
        before, now = self._frozen.get(number), self._freeze(self._trials[number])
        if before is not None and before.state in ENDED:
            del self._ended[bisect_left(self._ended, number)]
            del self._ranked[bisect_left(self._ranked, (rank(before), number))]
        if now is not None and now.state in ENDED:
            insort(self._ended, number)
            insort(self._ranked, (rank(now), number))
        self._frozen[number] = now

    def _freeze(self, trial: _Trial) -> FrozenTrial | None:
        """Return a trial as the sampler sees it; this is slow, so it is done only for trials that have changed."""
        values = trial.asked.values
        dimensions = self.spec.space.searched
        if not all(name in values and d.contains(values[name]) for name, d in dimensions.items()):
            return None
        outcome: dict[str, Any]
        finite = trial.value is not None and math.isfinite(trial.value)
        if trial.state == "running":
            outcome = {"state": TrialState.RUNNING}
        elif trial.state in RETRIABLE or (trial.state == "complete" and trial.value is None):
            outcome = {"state": TrialState.FAIL}
        elif trial.state == "complete" and finite and self.spec.objectives:
            whole = all(math.isfinite(other) for other in trial.others)
            values_of = {"state": TrialState.COMPLETE, "values": [trial.value, *trial.others]}
            outcome = values_of if whole else {"state": TrialState.FAIL}
        elif trial.state == "complete" and finite:
            outcome = {"state": TrialState.COMPLETE, "value": trial.value}
        elif trial.state in ("paused", "pruned") and finite and not self.spec.objectives:
            last = {max(trial.values): trial.value}
            outcome = {"state": TrialState.PRUNED, "value": trial.value, "intermediate_values": last}
        else:
            outcome = {"state": TrialState.PRUNED}
        params = {name: parameter(d, values[name]) for name, d in dimensions.items()}
        frozen = create_trial(params=params, distributions=self._distributions, **outcome)
        frozen.number = trial.asked.number + 1  # the requested trial is number 0 in its new study
        return frozen

    def _is_spared(self, number: Hashable) -> bool:
        return crc32(f"{self.seed}/{self.spec.study}/{number}/spared".encode()) < self.spec.spared * 2**32

    def _probe(self) -> dict[str, Any] | None:
        """Return the next probe; None after the last one, or if it repeats a trial."""
        if (index := self._searched) >= len(self.spec.probes):
            return None
        done = (t for t in self._trials.values() if t.state == "complete")
        ended = (
            (t.value, t.asked.number, t.asked.values) for t in done if t.value is not None and math.isfinite(t.value)
        )
        _, _, best = min(ended, default=(0.0, 0, dict(self.spec.space.paper[0].values)))
        found = probe(self.spec.space, *self.spec.probes[index], best)
        return None if found in [trial.asked.values for trial in self._trials.values()] else found

    def _probes_rate(self, values: Mapping[str, Any]) -> bool:
        """Whether a new point would be the probe of the learning rate."""
        index = self._searched
        if index >= len(self.spec.probes) or self.spec.probes[index][0] != LEARNING_RATE:
            return False
        others = [trial.asked.values for trial in self._trials.values()]
        return any({**other, LEARNING_RATE: values.get(LEARNING_RATE)} == values for other in others)

    def _suggest(self, number: int) -> dict[str, Any]:
        seed = crc32(f"{self.seed}/{self.spec.study}/{number}".encode())
        shown: list[FrozenTrial] = []
        sampler: BaseSampler
        if self.spec.sampler == "tpe":
            shown = self.history()
            # Optuna's default of 10 random trials would use up a small budget.
            startup = min(10, self.spec.trials // 3)
            if self.spec.objectives:
                sampler = optuna.samplers.TPESampler(n_startup_trials=startup, seed=seed)
            else:
                sampler = JointTPE(self._distributions, n_startup_trials=startup, seed=seed)
        elif self.spec.sampler == "prior":
            shown = self.history()
            dimensions = self.spec.space.searched
            points = [point.values for point in self.spec.space.paper]
            inside = [p for p in points if all(name in p and d.contains(p[name]) for name, d in dimensions.items())]
            priors = [{name: parameter(d, p[name]) for name, d in dimensions.items()} for p in inside]
            sampler = PriorSampler(self._distributions, priors, seed)
        else:
            sampler = optuna.samplers.RandomSampler(seed=seed)
        found = self._oracle(shown, sampler).ask(self._distributions).params
        return {
            name: dimension.value if isinstance(dimension, Fixed) else value_of(dimension, found[name])
            for name, dimension in self.spec.space.dimensions.items()
        }

    def _oracle(self, shown: list[FrozenTrial], sampler: BaseSampler | None = None) -> optuna.Study:
        directions = [StudyDirection.MINIMIZE] * (1 + len(self.spec.objectives))
        return optuna.create_study(storage=_Shown(shown), sampler=sampler, directions=directions)

    def _open(self, number: int, values: dict[str, Any], origin: Origin) -> Asked:
        if origin == "paper" or (origin == "search" and self._probes_rate(values)):
            self._exempt.add(number)
        asked = Asked(f"{self.spec.study}-{number:04d}", number, values, origin)
        self._trials[number] = trial = _Trial(asked)
        self._searched += origin == "search"
        self._move(trial, "running")
        return asked

    def _start_again(self, trial: _Trial) -> Asked:
        if trial.state == "paused":
            self.rungs.promote(trial.asked.number)
        self._move(trial, "running")
        return trial.asked

    def _move(self, trial: _Trial, state: str, epoch: int = 0) -> None:
        """Change the state of a trial and update the budget."""
        takes = charged(state, epoch, self.spec.epochs, self.spec.first_rung)
        self.spent += takes - trial.charged
        trial.state, trial.charged = state, takes
        self.share = self._share()
        number = trial.asked.number
        self._changed.add(number)
        for name, members in (("running", self._running), ("paused", self._paused)):
            (members.add if state == name else members.discard)(number)

    def _share(self) -> float:
        return self.spec.share(self.spent, len(self._trials))

    def _trial(self, number: int) -> _Trial:
        if number not in self._trials:
            raise ValueError(f"{self.spec.study} has no trial {number}; call ask() first")
        return self._trials[number]


class _Shown(optuna.storages.InMemoryStorage):
    """Storage that shows `trials` to a sampler without copying each of them, as `add_trials` would."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        super().__init__()
        self._shown = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        shown = [trial for trial in self._shown if states is None or trial.state in states]
        return shown + super().get_all_trials(study_id, deepcopy, states)


def distribution(dimension: Choice | Range) -> BaseDistribution:
    """Convert a dimension to an Optuna distribution; an ordered choice becomes the index of the choice."""
    if isinstance(dimension, Choice) and dimension.ordered:
        return IntDistribution(0, len(dimension.choices) - 1)
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.choices)
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def parameter(dimension: Choice | Range, value: Any) -> Any:
    """Convert a value of the dimension to a parameter of its `distribution`."""
    value = dimension.cast(value)
    return dimension.choices.index(value) if isinstance(dimension, Choice) and dimension.ordered else value


def value_of(dimension: Choice | Range, parameter: Any) -> Any:
    """Convert a parameter of the `distribution` back to a value; the inverse of `parameter`."""
    return dimension.choices[parameter] if isinstance(dimension, Choice) and dimension.ordered else parameter
