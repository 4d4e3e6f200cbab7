"""One study: the trials of one method on one data set, and who decides what they try and when they stop.

Everything here is synchronous and knows no clock, process or file, so that a simulator drives it as well as a
cluster does. Its state is a plain table of trials. Optuna is asked, never trusted with it: for each
suggestion a fresh in-memory study shows the table to a fresh sampler whose seed belongs to that
trial. So a suggestion depends on the seed, the study's name, the trial's number and the table alone, and a
study that is replayed from the record goes on exactly as the one that died would have.
"""

import math
from collections.abc import Container, Iterable, Mapping
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
from sweep.record.events import EndEvent, Origin, ReportEvent, StartEvent
from sweep.record.trials import charged
from sweep.search.rungs import Rungs
from sweep.search.sampler import PriorSampler, rank
from sweep.search.space import Choice, Fixed, Point, Range, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study is made for every suggestion; say nothing of it

RETRIABLE = (*SETBACKS, "cancelled")  # what says nothing final about the values

GOOD = 25  # Optuna's TPE takes a tenth of what it is told for good, but never more
SHOWN = 300  # enough for a tenth to be more


@dataclass(frozen=True)
class Spec:
    """What a study is about, and its budget.

    The budget is `budget_epochs`, as many as `trials` full trainings of `epochs` take: what a stopped trial saves buys
    further ones. Where it is None, the budget is the number of trials.

    `space` is that of the data set (`Space.on`); its points run first. `metric` is the one to minimise, and trials are
    judged by it alone; `objectives` are further ones, for which a search with "tpe" looks at the same time.
    Trials are judged at `first_rung` epochs and at each `factor` times more. The sampler "none" suggests nothing:
    the points run in turn, again and again. `warm` are points of an earlier sweep, that run after the hand-tuned ones
    and are stopped like any other.
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

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"{self.study}: trials = {self.trials} is no budget; give at least 1")
        if self.sampler not in ("tpe", "prior", "random", "none"):
            raise ValueError(
                f"{self.study}: sampler {self.sampler!r} is unknown; take 'tpe', 'prior', 'random' or 'none'"
            )

    @cached_property
    def count(self) -> int | None:
        """How many trials there are; None where the budget is in epochs. With nothing to search there are only the
        points, for more trials would repeat them."""
        if self.sampler == "none":
            return self.trials
        if all(distribution(d).single() for d in self.space.dimensions.values() if not isinstance(d, Fixed)):
            return min(self.trials, len(self.space.paper))
        return self.trials if self.budget_epochs is None else None

    @property
    def most_epochs(self) -> int:
        """What the trials may train together."""
        return self.budget_epochs if self.count is None else self.count * self.epochs

    def share(self, epochs: int, trials: int) -> float:
        """How much of the budget so many epochs of so many trials take; from 1 on it is used up.

        One in epochs is used up when half a training or less is left, so a study trains its budget to within half a
        training. One in trials counts also those that fail: they cost time as well.
        """
        return trials / self.count if self.count is not None else epochs / (self.budget_epochs - self.epochs / 2)

    def to_record(self) -> StudyEntry:
        """The study's entry in the record's sweep event."""
        first = self.space.paper[0]
        return StudyEntry(
            study=self.study,
            method=self.method,
            dataset=self.dataset,
            trials=self.trials,
            budget_epochs=None if self.count is not None else self.budget_epochs,
            epochs=self.epochs,
            metric=self.metric,
            objectives=list(self.objectives),
            rungs=Rungs(self.epochs, self.first_rung, self.factor).levels,
            first_rung=self.first_rung,
            factor=self.factor,
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
        """The spec an entry came from, whatever has become of the search space's file since."""
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
            "sampler",
        )
        space = Space.from_record(entry.space, entry.points, entry.balance, entry.rules)
        warm = tuple(Point.from_record(point) for point in entry.warm)
        kept = {name: getattr(entry, name) for name in names}
        return cls(**kept, space=space, warm=warm, objectives=tuple(entry.objectives))


@dataclass(frozen=True)
class Asked:
    """A trial to run. `trial` is its name throughout the sweep, `values` are all hyperparameters it needs."""

    trial: str
    number: int
    values: dict[str, Any]
    origin: Origin


@dataclass
class _Trial:
    asked: Asked
    state: str = "running"
    charged: int = 0  # epochs of the study's budget
    values: dict[int, float] = field(default_factory=dict)  # epoch -> the metric, as first reported
    others: list[float] = field(default_factory=list)  # the further objectives, as last reported
    told: tuple[Any, FrozenTrial | None] | None = None  # what the sampler is told, and of which state and value

    @property
    def value(self) -> float | None:
        return self.values[max(self.values)] if self.values else None


class Study:
    """Hands out trials, hears how they do, and says which go on."""

    def __init__(self, spec: Spec, seed: int) -> None:
        self.spec = spec
        self.seed = seed
        self.spent = 0  # epochs, of running trials all that they may train
        self._trials: dict[int, _Trial] = {}
        self._exempt: set[int] = set()  # the hand-tuned points have to run to the end to be compared with
        self.rungs = Rungs(spec.epochs, spec.first_rung, spec.factor, exempt=self._exempt)
        self._distributions = {name: distribution(found) for name, found in spec.space.searched.items()}

    @property
    def share(self) -> float:
        """How much of its budget the study has had; from 1 on nothing is asked."""
        return self.spec.share(self.spent, len(self._trials))

    @property
    def open_places(self) -> int:
        """How many trials more could run at a time, were none of those that do stopped."""
        if self.spec.count is not None:
            return max(0, self.spec.count - len(self._trials))
        return max(0, round((self.spec.budget_epochs - self.spent) / self.spec.epochs))

    def ask(self) -> Asked | None:
        """The next trial, None while the budget is used up; a running trial that is stopped gives some of it back."""
        if self.share >= 1:
            return None
        number = next(n for n in range(len(self._trials) + 1) if n not in self._trials)
        points, warm = self.spec.space.paper, self.spec.warm
        if number < len(points) or self.spec.sampler == "none":
            return self._open(number, dict(points[number % len(points)].values), "paper")
        if number < len(points) + len(warm):
            return self._open(number, dict(warm[number - len(points)].values), "warm")
        return self._open(number, self._suggest(number), "search")

    def report(self, number: int, epoch: int, value: float, metrics: Mapping[str, float] | None = None) -> bool:
        """Tells the metric of a trial after `epoch`, and `metrics` with the further objectives; True if it goes on.

        Of an epoch told twice the first value stays. What arrives after the end of a trial is ignored.
        """
        trial = self._trial(number)
        if trial.state != "running":
            return False
        if epoch not in trial.values:
            trial.values[epoch] = value
            trial.others = [(metrics or {}).get(name, math.nan) for name in self.spec.objectives]
        return self.rungs.report(number, epoch, trial.values[epoch])

    def goes_on(self, number: int) -> bool:
        """False once a rung has stopped the trial; after a replay there may be such without an end."""
        return self.rungs.goes_on(number)

    def end(self, number: int, state: str, epoch: int) -> None:
        """Closes a trial that came to `epoch`; `state` is one of the record's."""
        if state not in STATES:
            raise ValueError(f"{self.spec.study}: unknown end {state!r}; known are {', '.join(STATES)}")
        trial = self._trial(number)
        if trial.state != "running":
            raise ValueError(f"{trial.asked.trial}: ends as {state}, but has already ended as {trial.state}")
        self._move(trial, state, epoch)

    def reopen(self, number: int) -> Asked:
        """Another attempt at a trial that failed, ran out of memory, was preempted or cancelled, or is still open."""
        trial = self._trial(number)
        if trial.state not in ("running", *RETRIABLE):
            raise ValueError(f"{trial.asked.trial}: is {trial.state}, which another attempt would not change")
        self._move(trial, "running")
        return trial.asked

    @property
    def unfinished(self) -> list[Asked]:
        """The trials that were started and have not ended, by number."""
        return [trial.asked for _, trial in sorted(self._trials.items()) if trial.state == "running"]

    def replay(self, events: Iterable[Event]) -> "Study":
        """Brings a fresh study to where the events of a record left it, and returns it.

        Events of other studies are skipped. Values are taken as they were run, also where the spec has
        changed since.
        """
        numbers = {}
        for event in events:
            if isinstance(event, StartEvent) and event.study == self.spec.study:
                number = numbers[event.trial] = event.number
                if number in self._trials:
                    self._move(self._trials[number], "running")
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
        return self

    def history(self) -> list[FrozenTrial]:
        """What the sampler is told, by number. Trials that lie outside the present space are left out.

        A stopped trial is PRUNED with its last value, which TPE ranks behind all complete ones, the later
        stopped first. A diverged one is PRUNED without any value, which TPE ranks behind everything. We
        measured the alternatives (Optuna 5.0): with its last finite value, or with NaN, it ranks as a trial
        that got far and beats all that were stopped before; COMPLETE with infinity beats every stopped one;
        and FAIL is not seen at all, so that the sampler walks into the diverging region again and again (27
        of 30 suggestions in a test where a good valley borders on it, against 10).

        With several objectives a complete trial is told with all of them, one that lacks any is not seen, and a
        stopped one is PRUNED without its value: TPE ranks complete trials by domination, stopped ones behind them.

        TPE takes time for each trial it is told. Of more than `SHOWN` that have ended it is told the best
        `GOOD`, which are all it ever takes for good, and the latest of the others, of which it heeds the older
        ones less and less anyway. So a suggestion costs the same however long a study is.
        """
        every = (self._told(trial) for _, trial in sorted(self._trials.items()))
        told = [trial for trial in every if trial is not None]
        ended = [trial for trial in told if trial.state.is_finished()]
        if len(ended) <= SHOWN:
            return told
        best = nsmallest(GOOD, self._oracle(ended).best_trials if self.spec.objectives else ended, key=rank)
        shown = {trial.number for trial in (*best, *ended[GOOD - SHOWN :])}
        return [trial for trial in told if trial.number in shown or not trial.state.is_finished()]

    def _told(self, trial: _Trial) -> FrozenTrial | None:
        """Made once for each thing there is to tell, for it takes longer than to use it."""
        current = (trial.state, trial.value)
        if trial.told is None or trial.told[0] != current:
            trial.told = (current, self._frozen(trial))
        return trial.told[1]

    def _frozen(self, trial: _Trial) -> FrozenTrial | None:
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
        elif trial.state == "pruned" and finite and not self.spec.objectives:
            last = {max(trial.values): trial.value}
            outcome = {"state": TrialState.PRUNED, "value": trial.value, "intermediate_values": last}
        else:
            outcome = {"state": TrialState.PRUNED}
        params = {name: parameter(d, values[name]) for name, d in dimensions.items()}
        frozen = create_trial(params=params, distributions=self._distributions, **outcome)
        frozen.number = trial.asked.number + 1  # the trial that is asked for is 0 in its fresh study
        return frozen

    def _suggest(self, number: int) -> dict[str, Any]:
        seed = crc32(f"{self.seed}/{self.spec.study}/{number}".encode())
        told: list[FrozenTrial] = []
        sampler: BaseSampler
        if self.spec.sampler == "tpe":
            told = self.history()
            # Optuna's own 10 random trials first would be all of a small budget.
            sampler = optuna.samplers.TPESampler(n_startup_trials=min(10, self.spec.trials // 3), seed=seed)
        elif self.spec.sampler == "prior":
            told = self.history()
            dimensions = self.spec.space.searched
            points = [point.values for point in self.spec.space.paper]
            inside = [p for p in points if all(name in p and d.contains(p[name]) for name, d in dimensions.items())]
            priors = [{name: parameter(d, p[name]) for name, d in dimensions.items()} for p in inside]
            sampler = PriorSampler(self._distributions, priors, seed)
        else:
            sampler = optuna.samplers.RandomSampler(seed=seed)
        found = self._oracle(told, sampler).ask(self._distributions).params
        return {
            name: dimension.value if isinstance(dimension, Fixed) else value_of(dimension, found[name])
            for name, dimension in self.spec.space.dimensions.items()
        }

    def _oracle(self, told: list[FrozenTrial], sampler: BaseSampler | None = None) -> optuna.Study:
        directions = [StudyDirection.MINIMIZE] * (1 + len(self.spec.objectives))
        return optuna.create_study(storage=_Shown(told), sampler=sampler, directions=directions)

    def _open(self, number: int, values: dict[str, Any], origin: Origin) -> Asked:
        if origin == "paper":
            self._exempt.add(number)
        asked = Asked(f"{self.spec.study}-{number:04d}", number, values, origin)
        self._trials[number] = trial = _Trial(asked)
        self._move(trial, "running")
        return asked

    def _move(self, trial: _Trial, state: str, epoch: int = 0) -> None:
        """To another state, and the budget with it."""
        takes = charged(state, epoch, self.spec.epochs, self.spec.first_rung)
        self.spent += takes - trial.charged
        trial.state, trial.charged = state, takes

    def _trial(self, number: int) -> _Trial:
        if number not in self._trials:
            raise ValueError(f"{self.spec.study}: there is no trial {number}; ask for it first")
        return self._trials[number]


class _Shown(optuna.storages.InMemoryStorage):
    """Shows `told` to a sampler as they are; to add them to a study would copy each of them every time."""

    def __init__(self, told: list[FrozenTrial]) -> None:
        super().__init__()
        self._told = told

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        shown = [trial for trial in self._told if states is None or trial.state in states]
        return shown + super().get_all_trials(study_id, deepcopy, states)


def distribution(dimension: Choice | Range) -> BaseDistribution:
    """The dimension as Optuna has it: an ordered choice as the place among its choices, 0, 1, ..."""
    if isinstance(dimension, Choice) and dimension.ordered:
        return IntDistribution(0, len(dimension.choices) - 1)
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.choices)
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def parameter(dimension: Choice | Range, value: Any) -> Any:
    """A value inside the dimension as `distribution` has it."""
    value = dimension.cast(value)
    return dimension.choices.index(value) if isinstance(dimension, Choice) and dimension.ordered else value


def value_of(dimension: Choice | Range, parameter: Any) -> Any:
    """The value that `parameter` came from."""
    return dimension.choices[parameter] if isinstance(dimension, Choice) and dimension.ordered else parameter
