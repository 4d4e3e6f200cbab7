"""Simulation of a sweep without training, on a virtual clock.

The conductor, the studies, the rungs and the record are the real ones; trials, slots and time are simulated. Ten
thousand trials on 512 slots take minutes. The simulation tests successive halving and the search as a whole, and plans
a budget before it is spent. It does not model the start of processes, lost nodes and contention between trials.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from analysis.load import read_sweep
from analysis.tables import aligned
from sweep.driver.conductor import Conductor
from sweep.driver.resources import Resources, of_this_machine
from sweep.driver.screen import duration
from sweep.record import RECORD, Progress, Record, Row, Trials
from sweep.search.plan import Plan, epoch_seconds
from sweep.search.study import Study
from sweep.simulation.curves import Curves, Evaluated, Recorded, Synthetic

SHARES = (0.1, 0.25, 0.5, 1.0)  # shares of the wall time at which to print the best value found


@dataclass
class Clock:
    """Virtual clock of a record; calling it returns the seconds since the sweep began."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Simulation:
    """Result of a simulated sweep. Times are virtual seconds since its start."""

    plan: Plan
    slots: int
    trials: Trials
    studies: Mapping[str, Study]
    wall: float  # time at which the last trial ended

    @property
    def utilisation(self) -> float:
        """The share of slots x wall time in which a trial held a slot."""
        held = sum(trial.worker_seconds for trial in self.trials.trials.values() if trial.ended is not None)
        return held / (self.slots * self.wall) if self.wall else 1.0

    @property
    def epochs(self) -> int:
        """The total number of epochs trained by all trials."""
        return sum(trial.epoch for trial in self.trials.trials.values())

    def reached(self, study: str) -> dict[int, int]:
        """Return how many trials of a study were evaluated at each rung and at the last epoch."""
        epochs = Counter(epoch for trial in self.trials.of(study) for epoch in trial.rows)
        return {level: epochs[level] for level in (*self.plan.rungs, self.plan.config.epochs)}

    def best_found(self, study: str) -> list[tuple[float, float]]:
        """Return (time, value) of each complete trial of a study that improved on all before it."""
        complete = [
            (trial.ended, trial.value)
            for trial in self.trials.of(study)
            if trial.state == "complete" and trial.ended is not None and trial.value is not None
        ]
        found: list[tuple[float, float]] = []
        for ended, value in sorted(complete, key=lambda one: one[0]):
            if not found or value < found[-1][1]:
                found.append((ended, value))
        return found

    def __str__(self) -> str:
        """Format cost, utilisation, trials at each rung, and the best value found over time."""
        most = sum(study.spec.most_epochs for study in self.studies.values())
        trials = len(self.trials.trials)
        lines = [
            f"{trials} trials on {self.slots} slots: {duration(self.wall)}, utilisation {self.utilisation:.0%}",
            f"{self.epochs} epochs trained of a budget of {most}",
        ]
        levels = [str(level) for level in (*self.plan.rungs, self.plan.config.epochs)]
        table = [["study", *(f"at epoch {level}" for level in levels)]]
        table[0] += ["hand-tuned", *(f"best after {duration(share * self.wall)}" for share in SHARES)]
        for name in self.studies:
            hand = self.trials.hand_tuned_trial(name)
            found = self.best_found(name)
            known = [[value for at, value in found if at <= share * self.wall] for share in SHARES]
            values = [hand.value if hand and hand.state == "complete" else None, *(v[-1] if v else None for v in known)]
            reached = [str(count) for count in self.reached(name).values()]
            table.append([name, *reached, *("-" if value is None else f"{value:.4g}" for value in values)])
        return "\n".join([*lines, "", *aligned(table)])


def simulate(plan: Plan, curves: Curves, slots: int, folder: Path) -> Simulation:
    """Run the sweep of `plan` on `slots` virtual slots; its trials follow `curves`.

    Writes the record into `folder`, marked as simulated and with virtual times.
    """
    clock = Clock()
    resources = Resources(cpus=1, gpus=0.0, slots=slots, ahead=slots, total_gpus=0)
    studies = {study.name: plan.study(study) for study in plan.studies}
    with Record(folder / RECORD, clock, durable=False) as record:
        opening = record.append(
            "sweep", sweep="simulated", simulated=True, resumed=False, config=plan.config.model_dump(mode="json"),
            studies=[study.spec.to_record() for study in plan.studies], resources={"slots": slots},
        )  # fmt: skip
        conductor = Conductor(plan, studies, record, [opening], folder, resources, lambda event, trials: None)
        run(conductor, curves, clock)
        record.append("finish", outcome="done" if conductor.done else "interrupted")
    return Simulation(plan, slots, conductor.trials, studies, clock.now)


def run(conductor: Conductor, curves: Curves, clock: Clock) -> None:
    """Virtual Ray: process events in the order of their times until no trial runs."""
    levels = (*conductor.plan.rungs, conductor.plan.config.epochs)
    due: list[tuple[float, str, float, Evaluated]] = []  # time, Ray's trial id, start of the trial, its evaluation
    courses: dict[str, Iterator[Evaluated]] = {}
    metrics: dict[str, str] = {}
    ids = (f"{number:08d}" for number in count())

    def go_on(ray_id: str, began: float) -> None:
        evaluated = next(courses[ray_id])
        heapq.heappush(due, (began + evaluated.seconds, ray_id, began, evaluated))

    while True:
        while not conductor.exhausted and (asked := conductor.next(ray_id := next(ids))) is not None:
            trial = conductor.trials.trials[asked["trial"]]
            metrics[ray_id] = trial.metric
            course = list(curves.course(trial.study, trial.number, trial.values, levels))
            known = [evaluated for evaluated in course if evaluated.epoch <= trial.epoch]  # a promoted trial goes on
            courses[ray_id] = iter(course[len(known) :])
            go_on(ray_id, clock.now - (known[-1].seconds if known else 0.0))
        if not due:
            return
        clock.now, ray_id, began, evaluated = heapq.heappop(due)
        if conductor.hear(ray_id, progress_of(evaluated, metrics[ray_id], levels[-1], clock.now)):
            go_on(ray_id, began)
        else:
            del courses[ray_id], metrics[ray_id]


def progress_of(evaluated: Evaluated, metric: str, epochs: int, now: float) -> Progress:
    """Return the message of a worker, with a row only for the evaluated epoch, because the search ignores others."""
    epoch, value = evaluated.epoch, evaluated.value
    if value is None:
        return Progress(epoch=epoch, state="diverged", reason="as its curve says")
    metrics = {metric: value, "time/train_seconds": evaluated.seconds}
    row = Row(epoch=epoch, stage="train", time=now, metrics=metrics)
    return Progress(rows=[row], epoch=epoch, value=value, state="complete" if epoch == epochs else None)


def foresee(plan: Plan, recorded: Path | None, announce: Callable[[str], None]) -> None:
    """Announce what a sweep would cost and find, and plot it to `simulation.png` in the folder of sweeps.

    Curves and times are those of the sweep in `recorded`. Without one, the curves are synthetic, so only times, trials
    and rungs are meaningful, and the time of an epoch is measured on this machine by a few steps of each hand-tuned
    point. The number of slots is `concurrent`, or that of this machine.
    """
    from analysis.page.drawing import RASTER_DPI  # takes .4 s to import, with matplotlib
    from analysis.page.plots import over_time

    if plan.config.objectives:
        announce("recorded curves contain only the metric, so the search is simulated without further objectives")
        alone = (replace(study, spec=replace(study.spec, objectives=())) for study in plan.studies)
        plan = replace(plan, studies=tuple(alone))
    config, specs = plan.config, [study.spec for study in plan.studies]
    slots = config.concurrent or of_this_machine(config.model_copy(update={"address": None})).slots
    if recorded is None:
        seconds = epoch_seconds(plan, "cuda" if torch.cuda.is_available() else "cpu")
        curves: Curves = Synthetic(specs, seconds, config.seed)
        announce(
            "synthetic curves: values are meaningless, epochs take as long as on this machine, evaluations no time"
        )
    else:
        curves = Recorded(recorded, specs)
        announce(f"curves and times from {recorded}")
    with TemporaryDirectory() as folder:
        announce(str(simulate(plan, curves, slots, Path(folder))))
        figure = over_time(read_sweep(folder))
    picture = config.out / "simulation.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=RASTER_DPI)
    announce(f"\n{picture}")
