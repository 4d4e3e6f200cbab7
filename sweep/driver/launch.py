"""A sweep from its configuration to its tables: plan, record, run, collect."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from shlex import quote

import torch
import yaml

from analysis.page.report import write_report
from analysis.tables import write_tables
from sweep.config import SweepConfig
from sweep.driver import changes
from sweep.driver.checkpoints import Keeper
from sweep.driver.job import Job, drive, public
from sweep.driver.winners import collect
from sweep.record import CONFIG, RECORD, SETBACKS, Event, Record, Trials, began, read
from sweep.search.importance import write_importances
from sweep.search.plan import Plan, plan
from sweep.search.warm import warmed
from trainables.config import checked
from trainables.datasets import expanded
from trainables.files import whole
from trainables.flags import output_folder, read_yaml
from trainables.saved import save_grid
from trainables.training import as_images


def folder_for(config: SweepConfig) -> Path:
    """A new sweep's folder, not made yet. Raises ValueError when it cannot be made or holds something already."""
    name = config.name
    if name is None:
        sets = "-".join(re.sub(r"\W+", "_", Path(d.partition(":")[2] or d).name) for d in config.datasets)
        name = f"{sets}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = config.out / name
    if (folder / RECORD).exists():
        raise ValueError(
            f"{folder} holds a sweep; choose another --name, or go on with "
            f"`python -m sweep resume {quote(str(folder))}`"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; choose another --name")
    output_folder(folder, "--out")
    return folder


def start(config: SweepConfig, announce: Callable[[str], None] = print) -> Path:
    """Runs a new sweep to its end or its interruption and returns its folder.

    Raises ValueError, before anything is written, for whatever can be known to be wrong.
    """
    config = anywhere(config)
    planned = warmed(plan(config))
    folder = folder_for(planned.config)
    named = planned.config.model_copy(update={"name": folder.name})
    return drive(Search(replace(planned, config=named), folder, resumed=False), announce)


def resume(folder: Path, announce: Callable[[str], None] = print, **other: object) -> Path:
    """Goes on with a sweep: ended trials stay, running ones continue from their checkpoints, the rest runs.

    `other` are fields of its configuration that do not touch results (tracking_uri, address, ...). What has changed
    since the sweep began is announced, or refused by a ValueError; see `sweep.driver.changes`.
    """
    planned, _ = _recorded(folder, announce, other)
    return drive(Search(planned, folder, resumed=True), announce)


def retry(folder: Path, announce: Callable[[str], None] = print, **other: object) -> Path:
    """As `resume`, and runs again, from their beginning, the trials that failed, ran out of memory or were preempted.

    Divergence is a result and stays. Raises ValueError if there is no such trial.
    """
    planned, trials = _recorded(folder, announce, other)
    again = [trial.name for trial in trials.trials.values() if trial.state in SETBACKS]
    if not again:
        raise ValueError(f"{folder}: no trial has failed, run out of memory or been preempted; there is none to retry")
    announce(f"again: {', '.join(again)}")
    return drive(Search(planned, folder, resumed=True, again=again), announce)


def extend(folder: Path, more: int, announce: Callable[[str], None] = print, **other: object) -> Path:
    """As `resume`, with the epochs of `more` full trainings for each study; the search goes on from all it knows, the
    rungs stay as they are.

    The epochs of a trial stay: trials that have ended at another number could not be compared with what comes.
    Raises ValueError if nothing would be added.
    """
    if more < 1:
        raise ValueError(f"--trials {more}: add at least 1")
    config = config_of(folder)
    if config.seconds_per_study is not None:
        raise ValueError(
            f"{folder}: its studies end after {config.seconds_per_study:g} seconds each; raise seconds_per_study in "
            f"{folder / CONFIG}, and trials if need be, and resume"
        )
    longer = config.model_copy(update={"trials": config.trials + more})
    planned, trials = _recorded(folder, announce, other | {"trials": longer.trials})
    if all(s.spec.count is not None and s.spec.count <= len(trials.of(s.name)) for s in planned.studies):
        raise ValueError(
            f"{folder}: nothing is searched in it, and more trials would only repeat the hand-tuned points"
        )
    _write_config(longer, folder)  # now: an extension that is interrupted is resumed as what it is
    return drive(Search(planned, folder, resumed=True), announce)


def _recorded(folder: Path, announce: Callable[[str], None], other: dict[str, object]) -> tuple[Plan, Trials]:
    """The plan of a sweep that has begun, and its trials so far."""
    config = config_of(folder).model_copy(update={k: v for k, v in other.items() if v is not None})
    Record(folder / RECORD).close()  # raises if it cannot be written, or a sweep is doing so
    events = read(folder / RECORD)
    if not events:  # its driver died before the first line
        return warmed(plan(config)), Trials()
    changes.refuse(config, began(events))
    trials = Trials.from_events(events)
    planned, lines = changes.as_recorded(plan(config), trials.studies)
    for line in lines:
        announce(line)
    return planned, trials


def config_of(folder: Path) -> SweepConfig:
    """The configuration a sweep was started with, wherever its folder is now. Raises ValueError when it holds no
    sweep."""
    file = folder / CONFIG
    if not file.exists():
        raise ValueError(f"{folder} holds no sweep (no {CONFIG}); name the folder of one")
    here = {"out": folder.absolute().parent, "name": folder.absolute().name}
    return checked(SweepConfig, read_yaml(file) | here, str(file))


def anywhere(config: SweepConfig) -> SweepConfig:
    """The same configuration for every working directory: all paths in it absolute."""

    def absolute(name: str, *kinds: str) -> str:
        kind, _, place = name.partition(":")
        return f"{kind}:{expanded(place).absolute()}" if kind in kinds else name

    paths = {
        "datasets": [absolute(name, "folder", "file") for name in config.datasets],
        "metric": config.metric and absolute(config.metric, "fd_dinov2", "cmmd"),
        "data_root": config.data_root.absolute(),
        "out": config.out.absolute(),
        "spaces": {method: file.absolute() for method, file in config.spaces.items()},
        "fid_weights": config.fid_weights and config.fid_weights.absolute(),
        "warm_start": config.warm_start and config.warm_start.absolute(),
    }
    return config.model_copy(update=paths)


class Search(Job):
    """The search of a sweep: what it was configured with and real images are written first; models that nobody needs
    are deleted as better ones come; tables and the report are written at its end."""

    def __init__(self, plan: Plan, folder: Path, resumed: bool, again: Iterable[str] = ()):
        super().__init__(plan, folder, resumed, again)
        self._keeper = Keeper(folder, plan.config.keep, plan.config.keep_bytes)

    def begin(self) -> None:
        for splits in self.plan.splits.values():
            few = torch.tensor(splits.valid.images[:64])
            save_grid(as_images(few), self.folder / "real" / f"{splits.name}.png")
        _write_config(self.plan.config, self.folder)

    def hear(self, event: Event, trials: Trials) -> None:
        self._keeper.hear(event, trials)

    def conclude(self, trials: Trials) -> None:
        collect(self.folder, trials, self.plan.config.keep, self.plan.config.keep_bytes)
        write_tables(self.folder)
        write_importances(self.folder)
        write_report(self.folder)


def _write_config(config: SweepConfig, folder: Path) -> None:
    with whole(folder / CONFIG) as part:
        part.write_text(yaml.safe_dump(public(config), sort_keys=False))
