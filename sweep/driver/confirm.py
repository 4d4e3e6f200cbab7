"""Confirmation of a sweep: train its hand-tuned and best points with new seeds and score them once on the test split.

A search reports the minimum of many noisy values, measured on the same images that it selected by, so its value of a
winner is biased (the winner's curse). A confirmation trains each chosen point again with several seeds, on the training
and validation images together, for the full budget, and scores each training once on the test split. With folds, each
training has another part of the training and test images as its test split.

The first line of a separate record, `SWEEP/confirm/record.jsonl`, freezes what is confirmed, so a confirmation can be
stopped, resumed and tracked like a search. Further confirmations are counted and must be requested explicitly.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from analysis.confirm import frozen_rounds, write_confirmed
from analysis.page.names import counted
from sweep import tracking
from sweep.config import SweepConfig, increasing
from sweep.driver import launch
from sweep.driver.conductor import Conductor
from sweep.driver.inbox import Inbox
from sweep.driver.job import Job, default_tracking, drive
from sweep.driver.pages import write_page, write_results
from sweep.record import RECORD, WEIGHTS, Event, Record, StudyEntry, SweepEvent, Trial, Trials, began, read, read_trials
from sweep.record.events import ReportEvent
from sweep.search.plan import Plan, Planned, check_folds, load_splits
from sweep.search.race import Race
from sweep.search.space import Point
from sweep.search.study import Spec
from trainables.catalog import label
from trainables.datasets import Splits

if TYPE_CHECKING:
    from sweep.driver.nodes import Pool

HAND_TUNED = "hand-tuned"
ALONE = "time/alone_seconds_per_epoch"
EPOCHS_ALONE = 5  # one to warm up, four for the median


@dataclass(frozen=True)
class Confirmation(Plan):
    """A plan without search: the points of each study, once per seed, all points with the first seed first.

    rounds: numbers of seeds after which a study may end, see `Race`. folds: whether each seed trains and scores on a
    fold of its own of each data set.
    """

    seeds: tuple[int, ...]
    rounds: tuple[int, ...]
    folds: bool = False

    @property
    def split(self) -> str:
        return "test"

    @property
    def rungs(self) -> list[int]:
        """No rungs: no trial is stopped, and each rung would score the test split once more."""
        return []

    def study(self, planned: Planned) -> Race:
        """Return a study that ends with the first round in which its points are told apart."""
        tests = sum(each.spec.trials // len(self.seeds) - 1 for each in self.studies)
        return Race(planned.spec, self.config.seed, self.rounds, tests)

    def seed_of(self, study: str, number: int) -> int:
        """Return the seed of a trial; all points share the same seeds, so that they can be compared in pairs."""
        trials = next(planned.spec.trials for planned in self.studies if planned.name == study)
        return self.seeds[number // (trials // len(self.seeds))]

    @cached_property
    def _folds(self) -> dict[str, dict[str, Splits]]:
        count = len(self.seeds)
        return {
            dataset: {
                f"{dataset}, seed {s}": f for s, f in zip(self.seeds, splits.folds(count, self.seeds[0]), strict=True)
            }
            for dataset, splits in self.splits.items()
        }

    def parts_of(self, dataset: str) -> dict[str, Splits]:
        return self._folds[dataset] if self.folds else super().parts_of(dataset)

    def part_of(self, study: Planned, number: int) -> str:
        return f"{study.dataset}, seed {self.seed_of(study.name, number)}" if self.folds else study.dataset


def confirm(
    searched: Path,
    announce: Callable[[str], None] = print,
    *,
    top: int | None = None,
    seeds: int | Sequence[int] | None = None,
    folds: int | None = None,
    again: bool = False,
    **changes: Any,
) -> Path:
    """Confirm a sweep, or continue an interrupted confirmation; return the folder of the confirmation.

    searched: the folder of the sweep. top: number of best points of each study besides the hand-tuned one; seeds:
    trainings of each point, or several increasing numbers, with the next of which a study goes on while its points
    cannot be told apart; folds: trainings, each on another fold of the data set. They default to the configuration
    (confirm_top, confirm_seeds, confirm_folds). `changes` replace fields of the sweep's configuration that do not
    affect results (tracking_uri, address, concurrent).

    Raises ValueError, before anything is written, if the sweep cannot be confirmed, or if it was confirmed before,
    unless `again`.
    """
    config = launch.config_of(searched).model_copy(update={k: v for k, v in changes.items() if v is not None})
    for name, number, least in (("top", top, 1), ("concurrent", changes.get("concurrent"), 1), ("folds", folds, 2)):
        if number is not None and (not isinstance(number, Integral) or number < least):
            raise ValueError(f"--{name} must be a whole number, at least {least}, got {number}")
    try:
        rounds = None if seeds is None else tuple(increasing(seeds if isinstance(seeds, Sequence) else [seeds]))
    except ValueError as error:
        raise ValueError(f"--seeds {error}") from None
    if folds is not None and rounds is not None:
        given = " ".join(map(str, rounds))
        raise ValueError(f"--folds trains each point once per fold; omit --seeds {given} or --folds {folds}")
    if config.split == "test":
        raise ValueError(f"{searched} already scored its trials on the test split; run more seeds instead: --seeds N")
    Record(searched / RECORD).close()  # raises while a search is writing it
    looks = looks_at_test(searched)
    events = read(looks[-1] / RECORD) if looks else []
    if looks and Trials.from_events(events).outcome != "done":
        if again:
            raise ValueError(f"{looks[-1]} is not done; continue it without --again before another confirmation")
        return _go_on(
            searched, looks[-1], began(events), config, announce, {"top": top, "seeds": rounds, "folds": folds}
        )
    if looks and not again:
        tidy(searched, config)
        count = sum(evaluations(read(look / RECORD)) for look in looks)
        raise ValueError(
            f"{searched} was already scored on the test split ({count} trained models, {looks[-1].name}/confirmed.csv);"
            " a second look weakens the evidence; --again confirms with new seeds and is counted"
        )
    trials = read_trials(searched)
    used = {trial.seed for trial in trials.trials.values()}  # several without a searcher
    used |= {seed for look in looks for seed in _claims(began(read(look / RECORD)))["seeds"]}
    first = max([config.seed, *used]) + 1
    if rounds is None:
        folds = folds or config.confirm_folds
    rounds = (folds,) if folds else rounds or tuple(config.confirm_seeds)
    fresh = tuple(range(first, first + rounds[-1]))
    folder = searched / (f"confirm-{len(looks) + 1}" if looks else "confirm")
    planned, claims = chosen(trials, config, top or config.confirm_top, fresh, rounds=rounds, folds=folds is not None)
    claims["look"] = len(looks) + 1
    return drive(Confirming(searched, planned, folder, announce, resumed=False, confirms=claims), announce)


def looks_at_test(searched: Path) -> list[Path]:
    """Return the folders of a sweep's confirmations that have begun, in order."""
    begun = [path.parent for path in searched.glob(f"confirm*/{RECORD}") if read(path)]
    return sorted(begun, key=lambda folder: _claims(began(read(folder / RECORD)))["look"])


def _claims(opening: SweepEvent) -> dict[str, Any]:
    """Return the frozen claims in the sweep event of a confirmation. Raises ValueError for the event of a search."""
    if opening.confirms is None:
        raise ValueError(f"{opening.sweep} is a search, not a confirmation; restore the folder's original record")
    return opening.confirms


def is_confirmed(searched: Path) -> bool:
    """Return whether a sweep has a confirmation and the latest is done."""
    looks = looks_at_test(searched)
    return bool(looks) and read_trials(looks[-1]).outcome == "done"


def is_due(searched: Path, config: SweepConfig) -> bool:
    """Return whether a sweep is to be confirmed once it is done: it is configured so, or a confirmation was begun, and
    the latest is not done."""
    return (config.confirm or bool(looks_at_test(searched))) and not is_confirmed(searched)


def tidy(searched: Path, config: SweepConfig) -> None:
    """Write what a driver that died after the last line of the latest confirmation did not write."""
    look, uri = looks_at_test(searched)[-1], default_tracking(config)
    report = searched / "report.html"  # written last
    if not report.exists() or report.stat().st_mtime_ns < (look / RECORD).stat().st_mtime_ns:
        write_confirmed(look)
        write_page(searched)
    if not tracking.is_sent(look, uri):
        with suppress(ValueError):  # the server is unavailable; the next command tries again
            tracking.track(look, uri, config.experiment)


def write_pages(searched: Path, out: Path | None = None) -> Path:
    """Rewrite tables and report of a sweep and its confirmations from their records; return the path of the report.

    out: path of the page; default: report.html in the folder. Raises ValueError if the folder has no record.
    """
    write_results(searched)
    for look in looks_at_test(searched):
        write_confirmed(look)
    return write_page(searched, out=out)


def sweep_of(folder: Path) -> Path | None:
    """Return the sweep to which the confirmation in a folder belongs; None if the folder has none."""
    record = folder / RECORD
    events = read(record) if record.exists() else []
    return folder.absolute().parent if events and began(events).confirms else None


def evaluations(events: list[Event]) -> int:
    """Return the number of trained models that a record scored on the test split."""
    scored = {
        (event.trial, row.epoch)
        for event in events
        if isinstance(event, ReportEvent)
        for row in event.rows
        if any(name.startswith("test/") for name in row.metrics)
    }
    return len(scored)


def chosen(
    trials: Trials,
    config: SweepConfig,
    top: int,
    seeds: tuple[int, ...],
    *,
    rounds: tuple[int, ...] | None = None,
    folds: bool = False,
) -> tuple[Confirmation, dict[str, Any]]:
    """Return the plan that confirms a search, and the claims of the search about each point, which are then frozen.

    top: number of points besides the hand-tuned one. rounds: numbers of seeds after which a study may end; default:
    all.
    """
    rounds = rounds or (len(seeds),)
    studies, claims = [], {}
    for name, entry in trials.studies.items():
        points, claims[name] = _points(trials, name, entry, top)
        spec = Spec.from_record(entry)
        metric = f"test/{spec.metric.partition('/')[2]}"
        spec = replace(
            spec, trials=len(points) * len(seeds), budget_epochs=None, metric=metric, first_rung=spec.epochs,
            space=replace(spec.space, paper=tuple(points) * len(seeds)),
        )  # fmt: skip
        studies.append(spec)
    frozen = {"sweep": trials.sweep.sweep, "top": top, "seeds": list(seeds), "rounds": list(rounds), "folds": folds}
    return _plan(config, studies, seeds, rounds, folds), frozen | {"points": claims}


def _points(trials: Trials, study: str, entry: StudyEntry, top: int) -> tuple[list[Point], list[dict[str, Any]]]:
    """Return the hand-tuned point and the best `top` distinct others, and the claims of the search about each.

    A hand-tuned point with the lowest value of all may owe it to its one training, so others are trained then, too.
    """
    paper = trials.hand_tuned_trial(study)
    values = dict(entry.hand_tuned if paper is None else paper.values)
    points = [Point(entry.hand_tuned_source, (entry.dataset,), values, HAND_TUNED)]
    best = _best_points(trials, study)
    value = next((value for value, trial in best if trial.values == values), None)
    said: list[dict[str, Any]] = [
        {"point": HAND_TUNED, "trial": paper and paper.name, "value": value, "rank": None, "origin": "paper"}
    ]
    for rank, (value, trial) in enumerate(best, start=1):
        if trial.values == values:
            said[0]["rank"] = rank
        elif len(points) <= top:
            name = f"tuned {len(points)}"
            points.append(Point(f"trial {trial.name} of the search", (entry.dataset,), trial.values, name))
            claim = {"point": name, "trial": trial.name, "value": value, "rank": rank}
            said.append(claim | {"origin": trial.origin})
    return points, said


def _best_points(trials: Trials, study: str) -> list[tuple[float, Trial]]:
    """Return the value of each point with a complete trial, and its lowest trial, the lowest value first.

    Without a searcher each point runs with several seeds. Its value is their mean, as in the leaderboard, because the
    lowest run would be biased.
    """
    complete = [trial for trial in trials.of(study) if trial.state == "complete" and trial.value is not None]
    runs: dict[tuple[Any, ...], list[Trial]] = defaultdict(list)
    for trial in sorted(complete, key=lambda trial: (trial.value, trial.number)):
        runs[tuple(sorted(trial.values.items()))].append(trial)
    found = [(_value(of), of[0]) for of in runs.values()]
    return sorted(found, key=lambda point: (point[0], point[1].number))


def _value(runs: list[Trial]) -> float:
    """Return the mean of a paper's point, and the lowest value of another one, whose runs have the same seed."""
    values = [trial.value for trial in runs if trial.value is not None]
    return fmean(values) if all(trial.origin == "paper" for trial in runs) else values[0]


def _plan(
    config: SweepConfig, studies: list[Spec], seeds: tuple[int, ...], rounds: tuple[int, ...], folds: bool
) -> Confirmation:
    splits: dict[str, Splits] = load_splits(config)
    if folds:
        check_folds(splits.values(), len(seeds), "--folds")
    methods = {label(method): method for method in config.methods}
    datasets = {loaded.name: name for name, loaded in splits.items()}
    planned = tuple(Planned(spec, methods[spec.method], datasets[spec.dataset]) for spec in studies)
    # The time limit applies to the search only, and each look would score the test split once more.
    config = config.model_copy(update={"seconds_per_study": None, "looks": []})
    return Confirmation(config, splits, planned, seeds, rounds, folds)


def _go_on(
    searched: Path,
    folder: Path,
    opening: SweepEvent,
    config: SweepConfig,
    announce: Callable[[str], None],
    wanted: dict[str, int | tuple[int, ...] | None],
) -> Path:
    claims = _claims(opening)
    folds, rounds = claims.get("folds", False), frozen_rounds(claims)  # no folds in old records
    frozen = {"top": claims["top"]} | ({"folds": rounds[-1]} if folds else {"seeds": rounds})
    if any(given not in (None, frozen.get(name)) for name, given in wanted.items()):
        seeds = f"--folds {rounds[-1]}" if folds else f"--seeds {' '.join(map(str, rounds))}"
        was = f"--top {claims['top']} {seeds}"
        raise ValueError(f"{folder} began with {was}, and its points and seeds are frozen; continue it with {was}")
    studies = [Spec.from_record(entry) for entry in opening.studies]
    planned = _plan(config, studies, tuple(claims["seeds"]), rounds, folds)
    return drive(Confirming(searched, planned, folder, announce, resumed=True, confirms=claims), announce)


class Confirming(Job):
    """The trainings of a confirmation. `confirms` are the claims frozen in the first line of its record."""

    plan: Confirmation

    def __init__(
        self, searched: Path, plan: Confirmation, folder: Path, announce: Callable[[str], None], resumed: bool,
        confirms: dict[str, Any],
    ):  # fmt: skip
        super().__init__(plan, folder, resumed)
        self.searched, self.announce, self.confirms = searched, announce, confirms

    @property
    def home(self) -> Path:
        return self.searched

    @property
    def opening(self) -> dict[str, Any]:
        name, look = self.searched.absolute().name, self.confirms["look"]
        return {"title": f"{name} confirmed" + (f", look {look}" if look > 1 else ""), "confirms": self.confirms}

    def finished(self, conductor: Conductor, pool: "Pool | None", inbox: Inbox) -> None:
        time_alone(conductor, self.plan.seeds[0], self.announce, pool, inbox)

    def conclude(self, trials: Trials, announce: Callable[[str], None]) -> None:
        for trial in trials.trials.values():  # keep only the models of the first seed
            if trial.state != "running" and trial.seed != self.plan.seeds[0]:
                (self.folder / "trials" / trial.name / WEIGHTS).unlink(missing_ok=True)
        write_confirmed(self.folder)
        write_page(self.searched)


def time_alone(
    conductor: Conductor, seed: int, announce: Callable[[str], None], pool: "Pool | None", inbox: Inbox
) -> None:
    """Time each confirmed point without concurrent trials, because trials of the confirmation share cores and caches.

    Each point is trained again with `seed`, the first of the confirmation, for a few epochs and at most half a
    training, and its seconds per epoch are recorded. Full trainings one at a time would leave a cluster idle. Raises
    Stopped.
    """
    from sweep.driver.executor import train_alone  # Ray takes a second to import

    epochs = conductor.plan.config.epochs
    few = min(epochs, EPOCHS_ALONE, max(2, epochs // 2))
    first = [trial for trial in conductor.trials.trials.values() if trial.seed == seed]
    untimed = [trial for trial in first if trial.state == "complete" and 0 not in trial.rows]
    if untimed:
        announce(f"timing {counted(len(untimed), 'point')}, one at a time, over {few} epochs each ...")
    for trial, timed in train_alone(conductor, untimed, few, pool, inbox):
        seconds = seconds_per_epoch(trial, timed)
        if seconds is not None:
            with inbox.stop.going_on():
                conductor.add(trial, {ALONE: seconds})


def seconds_per_epoch(trial: Trial, alone: list[tuple[str, float]]) -> float | None:
    """Return the mean seconds per epoch of a trial that runs alone: the median of the timed epochs of each stage,
    without the warm-up epoch, weighted by the epochs of the stage. None if a stage of the trial was not timed."""
    timed = alone[1:]
    stages = Counter(row.stage for epoch, row in trial.rows.items() if epoch)
    medians = {stage: median([seconds for s, seconds in timed if s == stage]) for stage in {s for s, _ in timed}}
    if not stages or stages.keys() - medians.keys():
        return None
    return sum(count * medians[stage] for stage, count in stages.items()) / stages.total()
