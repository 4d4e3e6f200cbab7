"""Start, resume, retry and extend a sweep."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from shlex import quote

import torch
import yaml

from analysis.page.names import listed
from sweep.config import SweepConfig
from sweep.driver import changes, mirror
from sweep.driver.checkpoints import Keeper
from sweep.driver.job import Job, drive, public
from sweep.driver.pages import write_page, write_results
from sweep.driver.winners import collect
from sweep.record import CONFIG, RECORD, SETBACKS, Event, Record, Trials, began, first_event
from sweep.record.layout import belongs
from sweep.search.plan import Plan, plan
from sweep.search.warm import warmed
from trainables.config import checked
from trainables.datasets import expanded
from trainables.files import whole
from trainables.flags import output_folder, read_yaml
from trainables.method import as_images
from trainables.saved import save_grid


def folder_for(config: SweepConfig) -> Path:
    """Return the folder of a new sweep without creating it. Raises ValueError if it cannot be created or is in use."""
    name = config.name
    if name is None:
        sets = "-".join(re.sub(r"\W+", "_", Path(d.partition(":")[2] or d).name) for d in config.datasets)
        name = f"{sets}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = config.out / name
    if has_begun(folder):
        raise ValueError(
            f"{folder} already contains a sweep; choose another --name, or continue it with "
            f"`python -m sweep resume {quote(str(folder))}`"
        )
    killed_early = (folder / RECORD).exists()  # what that driver wrote is written again
    if folder.exists() and not killed_early and not _is_empty(folder):
        raise ValueError(f"{folder} exists and is not an empty folder; choose another --name")
    output_folder(folder, "--out")
    return folder


def has_begun(folder: Path) -> bool:
    """Return whether a folder holds a sweep that can be continued: its driver lived until the configuration was
    written, or the first event."""
    return (folder / RECORD).exists() and ((folder / CONFIG).exists() or first_event(folder / RECORD) is not None)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(belongs(path.name) for path in folder.iterdir())


def start(config: SweepConfig, announce: Callable[[str], None] = print) -> Path:
    """Run a new sweep until it is done or interrupted, and return its folder.

    Raises ValueError, before anything is written, if the configuration is invalid.
    """
    config = anywhere(config)
    planned = warmed(plan(config))
    folder = folder_for(planned.config)
    named = planned.config.model_copy(update={"name": folder.name})
    if named.mirror_address is not None:
        mirror.require_unused(named.mirror_address)
    return drive(Search(replace(planned, config=named), folder, resumed=False), announce)


def start_or_resume(config: SweepConfig, announce: Callable[[str], None] = print) -> Path:
    """Resume the sweep that `config` names if it exists, in `out` or in the mirror, or start it, and return its folder.

    Use it for a driver that is restarted after each failure. Raises ValueError if the configuration has no name or
    differs from that of the existing sweep, and as `start` and `resume` do.
    """
    if config.name is None:
        raise ValueError("--resume-if-exists requires --name NAME, the name of the sweep to resume")
    folder = config.out / config.name
    if not has_begun(folder):
        if config.mirror_address is None or not mirror.has_sweep(config.mirror_address):
            return start(config, announce)
        mirror.fetch(config.mirror_address, config.out, announce)
    changes.refuse_another(anywhere(config), config_of(folder), folder)
    return resume(folder, announce, tracking_uri=config.tracking_uri, address=config.address)


def resume(folder: Path, announce: Callable[[str], None] = print, **other: object) -> Path:
    """Continue a sweep: ended trials are kept, running ones continue from their checkpoints, the others are run.

    `other` are fields of its configuration that do not affect results (tracking_uri, address, ...). Changes since the
    start of the sweep are announced, or rejected with a ValueError; see `sweep.driver.changes`.
    """
    planned, _ = _recorded(folder, announce, other)
    return drive(Search(planned, folder, resumed=True), announce)


def retry(folder: Path, announce: Callable[[str], None] = print, **other: object) -> Path:
    """Like `resume`, and restart the trials that failed, ran out of memory or were preempted.

    Divergence is a result, so diverged trials are not restarted. Raises ValueError if there is no such trial.
    """
    planned, trials = _recorded(folder, announce, other)
    again = [trial.name for trial in trials.trials.values() if trial.state in SETBACKS]
    if not again:
        raise ValueError(f"{folder} has no trial to retry: none failed, ran out of memory or was preempted")
    announce(f"retrying: {', '.join(again)}")
    return drive(Search(planned, folder, resumed=True, again=again), announce)


def extend(folder: Path, more: int, announce: Callable[[str], None] = print, **other: object) -> Path:
    """Like `resume`, with the epochs of `more` full trainings added to each study. The search continues from all
    trials; the rungs do not change.

    The epochs per trial do not change either, because ended trials would not be comparable with new ones. Raises
    ValueError if nothing would be added.
    """
    if more < 1:
        raise ValueError(f"--trials must be at least 1, got {more}")
    config = config_of(folder)
    if config.seconds_per_study is not None:
        raise ValueError(
            f"{folder}: each study ends after {config.seconds_per_study:g} seconds; raise seconds_per_study in "
            f"{folder / CONFIG}, and trials if necessary, and resume"
        )
    longer = config.model_copy(update={"trials": config.trials + more})
    planned, trials = _recorded(folder, announce, other | {"trials": longer.trials})
    if all(s.spec.count is not None and s.spec.count <= len(trials.of(s.name)) for s in planned.studies):
        raise ValueError(f"{folder} searches nothing; more trials would only repeat the hand-tuned points")
    return drive(Search(planned, folder, resumed=True, longer=longer), announce)


def _recorded(folder: Path, announce: Callable[[str], None], other: dict[str, object]) -> tuple[Plan, Trials]:
    """Return the plan of a sweep that has begun, and its trials so far."""
    config = config_of(folder).model_copy(update={k: v for k, v in other.items() if v is not None})
    with Record(folder / RECORD) as record:  # raises if it is not writable, or another sweep is writing it
        events = record.history
    if not events:  # the driver died before the first line
        return warmed(plan(config)), Trials()
    changes.refuse(config, began(events))
    trials = Trials.from_events(events)
    planned, lines = changes.as_recorded(plan(config), trials.studies)
    if held := sorted(trials.stopped | trials.paused):
        lines.append(
            f"no trial begins in {listed(held)}, stopped or paused by hand; to begin trials there again: "
            f"python -m sweep unpause {quote(str(folder))} {held[0]}"
        )
    for line in lines:
        announce(line)
    return planned, trials


def config_of(folder: Path) -> SweepConfig:
    """Return the configuration of the sweep in a folder, which may have been moved. Raises ValueError if there is no
    sweep."""
    file = folder / CONFIG
    if not file.exists():
        early = (folder / RECORD).exists() and not has_begun(folder)
        advice = "its driver ended before the sweep began; start it again" if early else "give the folder of a sweep"
        raise ValueError(f"{folder} has no {CONFIG}; {advice}")
    here = {"out": folder.absolute().parent, "name": folder.absolute().name}
    return checked(SweepConfig, read_yaml(file) | here, str(file))


def anywhere(config: SweepConfig) -> SweepConfig:
    """Return the configuration with absolute paths, so that it is independent of the working directory."""

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
    """The search of a sweep. It writes the configuration and real images first, deletes models as soon as better ones
    exist, and writes tables and the report at its end. `longer` is the configuration of an extended sweep."""

    followed = True  # by its confirmation

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        resumed: bool,
        again: Iterable[str] = (),
        longer: SweepConfig | None = None,
    ):
        super().__init__(plan, folder, resumed, again)
        self._longer = longer
        self._keeper = Keeper(folder, plan.config.keep, plan.config.keep_bytes)

    def begin(self) -> None:
        for splits in self.plan.splits.values():
            few = torch.tensor(splits.valid.images[:64])
            save_grid(as_images(few), self.folder / "real" / f"{splits.name}.png")
        _write_config(self.plan.config, self.folder)

    def go_on(self) -> None:
        if self._longer is not None:  # so that an interrupted extension can be resumed
            _write_config(self._longer, self.folder)

    def hear(self, event: Event, trials: Trials) -> None:
        self._keeper.hear(event, trials)

    def conclude(self, trials: Trials, announce: Callable[[str], None]) -> None:
        for line in collect(self.folder, trials, self.plan.config.keep, self.plan.config.keep_bytes):
            announce(line)
        write_results(self.folder)
        write_page(self.folder)


def _write_config(config: SweepConfig, folder: Path) -> None:
    with whole(folder / CONFIG) as part:
        part.write_text(yaml.safe_dump(public(config), sort_keys=False))
