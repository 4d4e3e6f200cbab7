"""One run of the driver: Ray, the record, the screen, tracking, and the trials of a plan."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import torch

from sweep import tracking
from sweep.config import SweepConfig
from sweep.driver import changes, copies, local_ray, provenance
from sweep.driver.conductor import Conductor
from sweep.driver.inbox import Inbox, forget_stops
from sweep.driver.mirror import mirrored
from sweep.driver.resources import Node, Resources, of_this_machine, without_gpus
from sweep.driver.shares import choose_share, own_gpus
from sweep.driver.stop import Stop, Stopped, stopped_by_signals
from sweep.record import RECORD, Event, Record, Trials, began, by_study, first_event, read_trials
from sweep.search.plan import Plan
from sweep.search.study import Study
from sweep.tracking.address import default_database
from trainables.credentials import redact

if TYPE_CHECKING:
    from sweep.driver.nodes import Pool

DRAIN_SECONDS = 30.0
SECONDS_AT_END = 60.0
# Ray reads this when it is imported. Otherwise Ray on Linux replaces 127.0.0.1 by an address that other machines reach,
# and its servers listen on all interfaces, where any client can execute code.
ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# Read at import, too. Otherwise Ray ends this process a minute after one of its servers dies, which `executor` detects
# itself, and starts another Ray for later calls.
WITHOUT_SERVERS = {"RAY_gcs_rpc_server_reconnect_timeout_s": "1000000", "RAY_ENABLE_AUTO_CONNECT": "0"}


class Job:
    """The trials of `plan` that `folder` does not hold yet, and those named in `again`.

    Subclasses define what is written before the first trial, after each event, and at the end.
    """

    followed = False  # whether the same command may go on to another job

    def __init__(self, plan: Plan, folder: Path, resumed: bool, again: Iterable[str] = ()):
        self.plan, self.folder, self.resumed, self.again = plan, folder, resumed, tuple(again)

    @property
    def home(self) -> Path:
        """The folder of the sweep."""
        return self.folder

    @property
    def opening(self) -> dict[str, Any]:
        """Further fields of the record's sweep event."""
        return {}

    def begin(self) -> None:
        """Write files into the folder before the first event of a new record."""

    def go_on(self) -> None:
        """Write files into the folder before the next event of a record."""

    def hear(self, event: Event, trials: Trials) -> None:
        """Called after each event of the record."""

    def finished(self, conductor: Conductor, pool: "Pool | None", inbox: Inbox) -> None:
        """Called when all trials have ended, as part of the run, so that it can be interrupted and resumed.

        Raises Stopped.
        """

    def conclude(self, trials: Trials, announce: Callable[[str], None]) -> None:
        """Write results for users, also after an interruption."""


def drive(job: Job, announce: Callable[[str], None]) -> Path:
    """Run a job until it is done or interrupted, and return its folder.

    Raises ValueError, before anything is written, if the plan or its environment is invalid, and KeyboardInterrupt if
    the user asked to stop too late, and another job may follow.
    """
    plan, folder, config = job.plan, job.folder, job.plan.config
    for line in plan.readings():
        announce(line)
    data = {s.name: provenance.data(s, _source(name, config)) for name, s in plan.splits.items()}
    for written in {job.home / RECORD, folder / RECORD}:
        if written.exists() and (first := first_event(written)):
            changes.refuse_data(data, first)
    uri = default_tracking(config)
    tracking.check(uri)
    if config.address is None:
        local_ray.check()
    resources = None
    if config.address is None:
        resources = of_this_machine(config, choose_share(plan, own_gpus(), announce))
    resolutions = prepare_metrics(plan, resources, announce)

    if config.address is None:
        os.environ |= {ONE_MACHINE: "0"} | WITHOUT_SERVERS
    # Imported here because Ray takes a second, and invalid input should be reported immediately.
    from sweep.driver.executor import cluster, run
    from sweep.driver.screen import screen

    announce(f"starting Ray {'on this machine' if config.address is None else 'at ' + redact(config.address)} ...")
    stop = Stop()
    with (
        _at_end(config.at_end, folder, announce),
        cluster(config.address, resources, stop) as found,
        stopped_by_signals(stop, announce),
    ):
        resources = resources or resources_of_cluster(plan, found, announce)
        for line in filter(None, (without_gpus(config, found), resources.waiting(found))):
            announce(line)
        with (
            _record(job, announce) as (record, history, sweep),
            mirrored(job.home, config.mirror_address, announce, stop),
            screen(plan, studies := _studies(plan, history), resources, folder) as shown,
        ):
            if history:
                job.go_on()
            else:
                job.begin()
            opening = record.append(
                "sweep", sweep=sweep, resumed=bool(history), config=public(config),
                studies=[s.spec.to_record() for s in plan.studies],
                versions=provenance.versions(), machine=provenance.machine(), code=provenance.code_hash(),
                commit=provenance.commit(), user=provenance.user(),
                data=data,
                resources={"slots": resources.slots, "cpus": resources.cpus, "gpus": resources.gpus},
                readings={s.name: s.reading.record() for s in plan.splits.values() if s.reading is not None},
                resolutions=resolutions, **job.opening,
            )  # fmt: skip

            def hear(event: Event, trials: Trials) -> None:
                shown.hear(event, trials)
                job.hear(event, trials)

            conductor = Conductor(plan, studies, record, [*history, opening], folder, resources, hear)
            conductor.retry(job.again)
            tracker = tracking.Tracker(folder, uri, config.experiment)

            inbox = Inbox(conductor, stop, announce)

            def work() -> None:
                pool = run(conductor, announce, stop, inbox)
                if conductor.done:
                    job.finished(conductor, pool, inbox)

            outcome = "interrupted"
            try:
                stop.attend(work)
                outcome = "done" if conductor.done else outcome
            except (KeyboardInterrupt, Stopped):
                if stop.reason:
                    announce(f"{stop.reason}; stopping the sweep")
            finally:
                record.append("finish", outcome=outcome, reason=stop.reason)
                shutil.rmtree(folder / "ray", ignore_errors=True)  # Tune's files; the record holds the results
                try:
                    job.conclude(conductor.trials, announce)
                finally:
                    missing = tracker.close(DRAIN_SECONDS)
    if missing:
        announce(missing)
    if job.followed and outcome == "done" and stop.asked:
        announce(f"{folder} is done; the rest was stopped. Continue with:  python -m sweep resume {quote(str(folder))}")
        raise KeyboardInterrupt
    return folder


def _studies(plan: Plan, history: list[Event]) -> dict[str, Study]:
    """Return the studies of a plan, in the state after the events of a record."""
    events = by_study(history)
    return {study.name: plan.study(study).replay(events[study.name]) for study in plan.studies}


@contextmanager
def _at_end(command: str | None, folder: Path, announce: Callable[[str], None]) -> Iterator[None]:
    """Context manager that runs a user's command at its exit, with or without an error, if there is a record.

    A failure of the command is announced and does not affect the sweep.
    """
    try:
        yield
    finally:
        if command is not None and (folder / RECORD).exists():
            _run(command, folder, read_trials(folder).outcome or "interrupted", announce)


def _run(command: str, folder: Path, outcome: str, announce: Callable[[str], None]) -> None:
    environment = os.environ | {"SWEEP_FOLDER": str(folder.absolute()), "SWEEP_OUTCOME": outcome}
    try:
        done = subprocess.run(command, shell=True, env=environment, stdin=subprocess.DEVNULL, timeout=SECONDS_AT_END)
    except subprocess.TimeoutExpired:
        announce(f"--at-end: {command} took longer than {SECONDS_AT_END:.0f} s and was ended")
    else:
        if done.returncode:
            announce(f"--at-end: {command} ended with exit code {done.returncode}")


@contextmanager
def _record(job: Job, announce: Callable[[str], None]) -> Iterator[tuple[Record, list[Event], str]]:
    """Context manager that yields the locked record, its events so far, and the sweep's id. Raises ValueError."""
    folder, config = job.folder, job.plan.config
    new_id = f"{datetime.now():%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"
    if copies.rename(folder / RECORD, config, new_id):
        announce(f"{folder} is a copy; it continues as a separate sweep, {new_id}")
    with Record(folder / RECORD) as record:
        forget_stops(folder)
        history = record.history
        if history and not job.resumed:
            raise ValueError(f"{folder} contains another sweep by now; choose another --name")
        # A worker on which it is missing has not mounted the sweep's folder.
        (folder / "trials").mkdir(exist_ok=True)
        for line in changes.since(began(history)) if history else ():
            announce(line)
        yield record, history, began(history).sweep if history else new_id


def resources_of_cluster(planned: Plan, nodes: Sequence[Node], announce: Callable[[str], None]) -> Resources:
    """Return the resources on the nodes of the connected cluster. Raises ValueError."""
    from sweep.driver.nodes import gpus_of_nodes  # imports Ray, as above

    sizes: list[int] = []
    if planned.config.gpus_per_trial != 0 and any(gpus for _, gpus in nodes):
        announce("asking each node for the memory of its GPUs ...")  # one that does not answer takes minutes
        sizes = gpus_of_nodes()
    return Resources.of(planned.config, nodes, choose_share(planned, sizes, announce))


def prepare_metrics(
    planned: Plan, resources: Resources | None, announce: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Load the extractor and the reference of each data set once, so that a missing weights file is an error before the
    sweep begins, and workers find both in the cache. Announce and return, by data set, the resolution of the distance
    if there are few held-out images. Raises ValueError."""
    from trainables.evaluate import evaluator_for
    from trainables.metrics import to_be_trained

    config, resolutions = planned.config, {}
    device = "cuda" if resources and resources.gpus and torch.cuda.is_available() else "cpu"
    for name, splits in planned.splits.items():
        options: dict[str, Any] = {"samples": config.samples, "fid_weights": config.fid_weights, "device": device}
        judges = []
        for part in planned.parts_of(name).values():
            if (line := to_be_trained(planned.metric_of(name), part)) is not None:
                announce(line)
            judges.append(evaluator_for(part, planned.metric_of(name), split=planned.split, **options))
        judge, *others = judges
        if not others and (found := judge.resolution()) is not None:
            announce(f"{splits.name}: {found.words(judge.metric)}")
            resolutions[splits.name] = {"words": found.words(judge.metric), **found._asdict()}
    return resolutions


def _source(dataset: str, config: SweepConfig) -> str:
    return dataset if ":" in dataset else str(config.data_root / dataset)


def default_tracking(config: SweepConfig) -> str:
    """Return the configured tracking address, or MLFLOW_TRACKING_URI, or else sqlite in the folder of sweeps, or on a
    local disk if that folder is on a network share."""
    return config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{default_database(config.out)}"


def public(config: SweepConfig) -> dict[str, Any]:
    """Return the configuration without the credentials in its addresses."""
    shown = config.model_dump(mode="json")
    given = [name for name in ("tracking_uri", "address") if shown[name] is not None]
    return shown | {name: redact(shown[name]) for name in given}
