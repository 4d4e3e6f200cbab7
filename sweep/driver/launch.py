"""A sweep from its configuration to its tables: plan, record, run, collect."""

import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from analysis.page.report import write_report
from analysis.tables import write_tables
from sweep import tracking
from sweep.config import SweepConfig
from sweep.driver import changes, copies, provenance
from sweep.driver.checkpoints import Keeper
from sweep.driver.conductor import Conductor
from sweep.driver.resources import Resources, of_this_machine
from sweep.driver.winners import collect
from sweep.record import CONFIG, RECORD, SETBACKS, Event, Record, Trials, read
from sweep.search.importance import write_importances
from sweep.search.plan import Plan, plan
from sweep.search.study import Study
from sweep.search.warm import warmed
from trainables.config import checked
from trainables.datasets import expanded
from trainables.files import whole
from trainables.flags import output_folder, read_yaml
from trainables.saved import save_grid
from trainables.training import as_images

DRAIN_SECONDS = 30.0
# Ray reads it when it is imported. Otherwise Ray on Linux replaces 127.0.0.1 by an address that other machines reach,
# and its servers listen on all interfaces: whoever reaches them can run anything.
ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def folder_for(config: SweepConfig) -> Path:
    """A new sweep's folder, not made yet. Raises ValueError when it cannot be made or holds something already."""
    name = config.name
    if name is None:
        sets = "-".join(re.sub(r"\W+", "_", Path(d.partition(":")[2] or d).name) for d in config.datasets)
        name = f"{sets}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = config.out / name
    if (folder / RECORD).exists():
        raise ValueError(
            f"{folder} holds a sweep; choose another --name, or go on with `python -m sweep resume {folder}`"
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
    return carry_out(replace(planned, config=named), folder, announce, resumed=False)


def resume(folder: Path, announce: Callable[[str], None] = print, **other: object) -> Path:
    """Goes on with a sweep: ended trials stay, running ones continue from their checkpoints, the rest runs.

    `other` are fields of its configuration that do not touch results (tracking_uri, address, ...). What has changed
    since the sweep began is announced, or refused by a ValueError; see `sweep.driver.changes`.
    """
    planned, _ = _recorded(folder, announce, other)
    return carry_out(planned, folder, announce, resumed=True)


def retry(folder: Path, announce: Callable[[str], None] = print, **other: object) -> Path:
    """As `resume`, and runs again, from their beginning, the trials that failed, ran out of memory or were preempted.

    Divergence is a result and stays. Raises ValueError if there is no such trial.
    """
    planned, trials = _recorded(folder, announce, other)
    again = [trial.name for trial in trials.trials.values() if trial.state in SETBACKS]
    if not again:
        raise ValueError(f"{folder}: no trial has failed, run out of memory or been preempted; there is none to retry")
    announce(f"again: {', '.join(again)}")
    return carry_out(planned, folder, announce, resumed=True, again=again)


def extend(folder: Path, more: int, announce: Callable[[str], None] = print, **other: object) -> Path:
    """As `resume`, with `more` trials for each study; the search goes on from all it knows, the rungs stay as they are.

    There is no such thing for epochs: trials that have ended at another budget could not be compared with what comes.
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
    if not any(Study(s.spec, longer.seed).budget > len(trials.of(s.name)) for s in planned.studies):
        raise ValueError(
            f"{folder}: nothing is searched in it, and more trials would only repeat the hand-tuned points"
        )
    _write_config(longer, folder)  # now: an extension that is interrupted is resumed as what it is
    return carry_out(planned, folder, announce, resumed=True)


def _recorded(folder: Path, announce: Callable[[str], None], other: dict[str, object]) -> tuple[Plan, Trials]:
    """The plan of a sweep that has begun, and its trials so far."""
    config = config_of(folder).model_copy(update={k: v for k, v in other.items() if v is not None})
    Record(folder / RECORD).close()  # raises if it cannot be written, or a sweep is doing so
    events = read(folder / RECORD)
    if not events:  # its driver died before the first line
        return warmed(plan(config)), Trials()
    changes.refuse(config, events[0])
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


def default_tracking(config: SweepConfig) -> str:
    """The address that the user named, or MLFLOW_TRACKING_URI does; else sqlite beside the sweeps."""
    return (
        config.tracking_uri
        or os.environ.get("MLFLOW_TRACKING_URI")
        or f"sqlite:///{(config.out / 'mlflow.db').absolute()}"
    )


def carry_out(
    planned: Plan,
    folder: Path,
    announce: Callable[[str], None],
    resumed: bool,
    *,
    begin: Callable[[Plan, Path], None] | None = None,
    after: Callable[[Conductor], None] | None = None,
    finish: Callable[[Path, Trials], None] | None = None,
    again: Iterable[str] = (),
    **told: Any,
) -> Path:
    """Runs the trials of a plan that `folder` does not hold yet, and those named in `again`, and returns it.

    `begin` writes what has to be there before the first trial, `finish` makes of the trials what people look at;
    they are those of a search unless given. `after` is done when all trials have ended, and belongs to the run: it is
    interrupted and resumed with it. `told` goes into the record's sweep event.
    """
    config = planned.config
    for line in planned.readings():
        announce(line)
    uri = default_tracking(config)
    tracking.check(uri)
    resources = of_this_machine(config) if config.address is None else None
    resolutions = prepare_metrics(planned, resources, announce)

    if config.address is None:
        os.environ[ONE_MACHINE] = "0"
    # Imported here: Ray takes a second, and wrong input should be told at once.
    from sweep.driver.executor import cluster, run, stopped_by_signals
    from sweep.driver.screen import screen

    announce(f"starting Ray {'on this machine' if config.address is None else 'at ' + config.address} ...")
    with cluster(config.address, resources) as found, stopped_by_signals() as listen:
        resources = resources or Resources.of(config, found)
        if waiting := resources.waiting(found):
            announce(waiting)
        new_id = f"{datetime.now():%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"
        if copies.rename(folder / RECORD, config, new_id):
            announce(f"{folder} is a copy; it goes on as a sweep of its own, {new_id}")
        with Record(folder / RECORD) as record, screen(planned, resources, folder) as shown:
            history = read(record.path)  # with the lock: nobody adds to it any more
            if history and not resumed:
                raise ValueError(f"{folder} holds another sweep by now; choose another --name")
            (folder / "trials").mkdir(exist_ok=True)  # a worker that finds none has not mounted the sweep's folder
            if not history:
                (begin or _write_setting)(planned, folder)
            for line in changes.since(history[0]) if history else ():
                announce(line)
            studies = {s.name: Study(s.spec, config.seed).replay(history) for s in planned.studies}
            sweep = history[0].sweep if history else new_id
            opening = record.append(
                "sweep", sweep=sweep, resumed=bool(history), config=_public(config),
                studies=[s.spec.to_record() for s in planned.studies],
                versions=provenance.versions(), machine=provenance.machine(), code=provenance.code_hash(),
                resources={"slots": resources.slots, "cpus": resources.cpus, "gpus": resources.gpus},
                readings={s.name: s.reading.record() for s in planned.splits.values() if s.reading is not None},
                resolutions=resolutions, **told,
            )  # fmt: skip
            keeper = Keeper(folder, config.keep, config.keep_bytes)

            def hear(event: Event, trials: Trials) -> None:
                shown.hear(event, trials)
                if finish is None:  # whoever has an end of his own looks after its models himself
                    keeper.hear(event, trials)

            conductor = Conductor(planned, studies, record, [*history, opening], folder, resources, hear)
            conductor.retry(again)
            tracker = tracking.Tracker(folder, uri, config.experiment)
            rest = after
            try:
                listen()  # not sooner: from here on the record gets its end
                run(conductor, announce)
                if after is not None and conductor.done:
                    after(conductor)
                    rest = None
            except KeyboardInterrupt:
                pass  # it came before Tune did; what is left to do stands in the record
            finally:
                record.append("finish", outcome="done" if conductor.done and rest is None else "interrupted")
                shutil.rmtree(folder / "ray", ignore_errors=True)  # Tune's own notes; the record has it all
                try:
                    (finish or partial(_finish, config))(folder, conductor.trials)
                finally:
                    missing = tracker.close(DRAIN_SECONDS)
    if missing:
        announce(missing)
    return folder


def prepare_metrics(
    planned: Plan, resources: Resources | None, announce: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Loads each data set's extractor and reference once, so that a missing weights file ends the sweep before it
    begins, and workers find what they need in the cache. Announces, and returns by data set, what a distance can tell
    where held-out images are few. Raises ValueError."""
    from trainables.evaluate import evaluator_for
    from trainables.metrics.classifier import must_be_trained

    config, resolutions = planned.config, {}
    device = "cuda" if resources and resources.gpus and torch.cuda.is_available() else "cpu"
    for name, splits in planned.splits.items():
        if planned.metric_of(name).startswith("fcd") and must_be_trained(splits):
            announce(f"{splits.name}: training the classifier of fcd on {len(splits.train)} images, this once ...")
        told = {"samples": config.samples, "fid_weights": config.fid_weights, "device": device}
        judge = evaluator_for(splits, planned.metric_of(name), split=planned.split, **told)
        if (found := judge.resolution()) is not None:
            announce(f"{splits.name}: {found.words(judge.metric)}")
            resolutions[splits.name] = {"words": found.words(judge.metric), **found._asdict()}
    return resolutions


def _write_setting(planned: Plan, folder: Path) -> None:
    for splits in planned.splits.values():
        few = torch.tensor(splits.valid.images[:64])
        save_grid(as_images(few), folder / "real" / f"{splits.name}.png")
    _write_config(planned.config, folder)


def _write_config(config: SweepConfig, folder: Path) -> None:
    with whole(folder / CONFIG) as part:
        part.write_text(yaml.safe_dump(_public(config), sort_keys=False))


def _finish(config: SweepConfig, folder: Path, trials: Trials) -> None:
    collect(folder, trials, config.keep, config.keep_bytes)
    write_tables(folder)
    write_importances(folder)
    write_report(folder)


def _public(config: SweepConfig) -> dict:
    """The configuration without the password that a tracking address may hold."""
    shown = config.model_dump(mode="json")
    if config.tracking_uri:
        shown["tracking_uri"] = tracking.redact(config.tracking_uri)
    return shown
