"""Execution on Ray Tune: one Tune run executes all studies of a sweep without holding any state.

Ray schedules processes and resources. The studies choose and stop trials, and every event is written to the record
before it is used. Ray's own snapshots are therefore off: a resumed sweep replays the record into new studies and
starts a new Tune run.
"""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import cloudpickle, tune
from ray._private.node import Node as RayNode
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError
from ray.tune.execution import tune_controller
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util import register_serializer

from sweep.driver import local_ray, provenance
from sweep.driver.actors import LOST, ActorManager, Died, how_lost, killed_for_memory
from sweep.driver.conductor import Conductor
from sweep.driver.inbox import Inbox
from sweep.driver.nodes import NODE_ID, Pool, own_versions
from sweep.driver.resources import Node, Resources
from sweep.driver.signs import Signs
from sweep.driver.stop import Stop
from sweep.driver.worker import TrialWorker, epochs_alone
from sweep.record import Progress, Trial
from sweep.search.plan import Plan
from trainables.catalog import place
from trainables.credentials import redact
from trainables.maps import files_of, opened, sent
from trainables.replaced import replaced

SECONDS_BETWEEN_LOOKS = 0.5
SERVERS = ("gcs_server", "raylet")  # servers of Ray that it cannot run without


class _Asker(Searcher):
    """Searcher from which Ray requests trials."""

    def __init__(self, conductor: Conductor, watch: "_Watch | None", inbox: Inbox, stop: Stop):
        super().__init__()
        self.conductor, self.watch, self.inbox, self.stop = conductor, watch, inbox, stop

    def suggest(self, trial_id: str) -> Any:
        # Both here as well: while no trial runs, Ray calls nothing else for ten minutes.
        self.inbox.follow()
        if self.watch:
            self.watch.look()
        with self.stop.going_on():
            if self.conductor.done:
                return Searcher.FINISHED
            trial = self.conductor.next(trial_id)
        if trial is None:
            return None
        pool = self.watch.pool if self.watch else None
        return trial | {"excluded": sorted(pool.set_aside.keys() | pool.avoided(trial["trial"])) if pool else []}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the scheduler has ended the trial, or its process was lost."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the record holds the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the record holds the state."""


class _Judge(FIFOScheduler):
    """Scheduler to which Ray passes results and which stops trials."""

    def __init__(self, conductor: Conductor, pool: Pool | None, stop: Stop):
        super().__init__()
        self.conductor, self.pool, self.stop = conductor, pool, stop

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True  # each study has its own metric

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        with self.stop.going_on():
            ray_id = trial.trial_id
            continues = all(self.conductor.hear(ray_id, self._blamed(ray_id, sent)) for sent in result["progress"])
        return TrialScheduler.CONTINUE if continues else TrialScheduler.STOP

    def _blamed(self, ray_id: str, progress: Progress) -> Progress:
        """Return a worker's message, with the state changed to preempted if its node may be the cause."""
        if self.pool is None:
            return progress
        node, trial = progress.node, self.conductor.running[ray_id]
        if progress.epoch:
            self.pool.trained(trial, node, progress.epoch, stored=progress.value is not None)
        elif progress.state in ("failed", "out_of_memory") and self.pool.is_suspect(trial, node):
            self.pool.suspect(trial, node, 0, progress.reason)
            return progress.model_copy(update={"state": "preempted"})
        if progress.state == "preempted" and node:
            self.pool.spoilt(node, progress.reason)
        return progress


class _Stopper(tune.Callback):
    """Callback that Ray calls repeatedly; it raises Stopped in the thread of Tune."""

    def __init__(self, inbox: Inbox):
        self.inbox = inbox

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.inbox.follow()


class _Watch(tune.Callback):
    """Callback that Ray calls repeatedly; it checks nodes that join and leave, and updates the conductor's slots."""

    def __init__(self, conductor: Conductor, pool: Pool, announce: Callable[[str], None]):
        self.conductor, self.pool, self.announce = conductor, pool, announce
        self.wanted = 0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.look()

    def look(self) -> None:
        if self.pool.look():
            self._count()

    def _count(self) -> None:
        before, concurrent = self.conductor.resources, self.conductor.plan.config.concurrent
        after = before.on(self.pool.holding(), concurrent)
        self.conductor.resources = after
        if before.slots and (waiting := after.waiting(self.pool.holding())):
            self.announce(waiting)
        # The search is asked only when a slot is free, so waiting trials cannot make a cluster grow.
        if concurrent and (wanted := min(concurrent, self.conductor.places)) != self.wanted:
            self.wanted = wanted
            request_resources(bundles=[{"CPU": after.cpus, "GPU": after.gpus}] * wanted)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        if self.wanted:
            request_resources(bundles=[])


def _pool(conductor: Conductor, announce: Callable[[str], None], inbox: Inbox) -> Pool | None:
    """Return the checked nodes of a cluster; None for a local Ray. Raises Stopped, and ValueError if no node can run
    trials."""
    if conductor.plan.config.address is None:
        return None
    record, opening = conductor.record.path.absolute(), conductor.trials.sweep
    methods = [path for study in conductor.plan.studies if (path := place(study.method))]
    resources = conductor.resources
    steps = {study: need.step for study, need in conductor.plan.footprints.items()} if resources.gpus else {}
    step = max(steps.items(), key=itemgetter(1), default=("", 0))
    expected = record, opening.sweep, provenance.code_hash(), own_versions(), methods, step
    pool = Pool(expected, announce, resources)
    pool.look(SECONDS_BETWEEN_LOOKS)
    first = set(pool.checking)
    while first & pool.checking:
        inbox.follow()
        pool.look(SECONDS_BETWEEN_LOOKS)
    concurrent = conductor.plan.config.concurrent
    conductor.resources = resources.on(pool.holding(), concurrent)
    if pool.set_aside and not conductor.resources.slots and concurrent is None:  # else the cluster may grow
        raise ValueError(f"no node can run trials; reason of the first: {next(iter(pool.set_aside.values()))}")
    return pool


class _Losses(tune.Callback):
    """Callback that Ray calls when a trial's process is gone; the conductor decides whether the trial runs again."""

    def __init__(self, conductor: Conductor, stop: Stop, pool: Pool | None):
        self.conductor, self.stop, self.pool = conductor, stop, pool
        self.killed = killed_for_memory()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = None
        if trial.pickled_error_file is not None:
            error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        how = how_lost(error)
        if how == LOST and self.pool is None and killed_for_memory() > self.killed:
            self.killed += 1  # another process may have been killed as well
            how = "out_of_memory", "the system killed its process because memory ran out"
        with self.stop.going_on():
            if isinstance(error, Died) and how[0] == "failed":
                self._died(trial.trial_id, error.node, *how)
            else:
                self.conductor.lost(trial.trial_id, *how)

    def _died(self, ray_id: str, node: str, state: str, reason: str) -> None:
        """Handle a process that ended by itself on a node, which may be the cause."""
        if self.pool is None or not node or (name := self.conductor.running.get(ray_id)) is None:
            self.conductor.lost(ray_id, state, reason)
            return
        epoch = self.conductor.trials.trials[name].epoch
        reason = self.conductor.lost(ray_id, "preempted" if self.pool.is_suspect(name, node) else state, reason)
        self.pool.suspect(name, node, epoch, f"processes end there whose trials train elsewhere ({reason})")


def room(trial: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """Return the resource request of a described trial. A trial that ran out of memory gets a GPU exclusively if
    trials share GPUs; else it gets more than half of the CPUs of the largest node, so that fewer trials run with it.
    No trial runs on an excluded node, and those of an outside method share their processes with no other method."""
    cpus, excluded = trial["cpus"], trial["excluded"]
    if trial["wants_room"] and trial["gpus"] != 1:
        usable = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in excluded]
        largest = max((int(node["Resources"].get("CPU", 0)) for node in usable), default=0)
        cpus = min(max(cpus, largest // 2 + 1), max(largest, cpus))
    # Processes are reused for the same request only, so no trial gets one on an excluded node, or one in which an
    # outside method may have left a hook or a changed function of PyTorch.
    others = [*excluded, trial["outside"]] if trial["outside"] else excluded
    nodes: dict[str, Any] = {"bundle_label_selector": [outside(others)]} if others else {}
    return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": trial["gpus"]}], **nodes)


def outside(nodes: Collection[str]) -> dict[str, str]:
    """Return the labels of a node other than these."""
    return {NODE_ID: f"!in({','.join(nodes)})"} if nodes else {}


def run(conductor: Conductor, announce: Callable[[str], None], stop: Stop, inbox: Inbox) -> Pool | None:
    """Run the conductor's trials until it is exhausted, and return the nodes of a cluster. Ray must be initialised.

    `announce` receives messages for the user. Raises Stopped, and ValueError if no node can run trials.
    """
    plan = conductor.plan
    conductor.settle()
    pool = _pool(conductor, announce, inbox)
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the record holds the results
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the record holds the state
        "TUNE_MAX_PENDING_TRIALS_PG": "10000",  # the conductor limits the number
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # otherwise Tune would restart such trials itself
    }
    watch = _Watch(conductor, pool, announce) if pool else None
    ActorManager.pool = pool
    tune_controller.RayActorManager = ActorManager  # type: ignore[attr-defined]  # where Tune looks it up
    refs = _put(plan, pool)
    trainable = tune.with_resources(tune.with_parameters(TrialWorker, data=refs), room)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the record and the screen show errors
    tune.run(
        trainable,
        name="ray",
        storage_path=str(conductor.folder.absolute()),
        search_alg=_Asker(conductor, watch, inbox, stop),
        scheduler=_Judge(conductor, pool, stop),
        callbacks=[
            _Stopper(inbox),
            _Losses(conductor, stop, pool),
            *([watch] if watch else []),
        ],
        num_samples=-1,
        max_failures=0,
        raise_on_failed_trial=False,
        reuse_actors=True,
        progress_reporter=_Silence(),
        verbose=0,
        trial_dirname_creator=lambda trial: trial.trial_id,
    )
    return pool


def _put(plan: Plan, pool: Pool | None) -> dict[str, ray.ObjectRef[Any]]:
    """Put the images that trials train on and the splits of each part of a data set into Ray's object store.

    Memory-mapped arrays are sent by file name if all nodes have the files.
    """
    parts = {name: part for dataset in plan.splits for name, part in plan.parts_of(dataset).items()}
    data = {name: (plan.trained_on(splits), splits) for name, splits in parts.items()}
    arrays = [
        array
        for trained, splits in data.values()
        for array in (trained, *(split.images for split in (splits.train, splits.valid, splits.test)))
    ]
    if pool is None or pool.share(files_of(arrays)):
        register_serializer(np.memmap, serializer=sent, deserializer=opened)
    else:
        register_serializer(np.memmap, serializer=np.array, deserializer=opened)
    return {name: ray.put(images) for name, images in data.items()}


def train_alone(
    conductor: Conductor, trials: Iterable[Trial], epochs: int, pool: Pool | None, inbox: Inbox
) -> Iterator[tuple[Trial, list[tuple[str, float]]]]:
    """Train the values of each trial for a few epochs with a trial's resources, no other trial of this sweep and on no
    excluded node, and yield the trial with stage and seconds of each epoch; an empty list if it fails. Call it when the
    conductor is done. Raises Stopped."""
    plan, resources = conductor.plan, conductor.resources
    watch = _Watch(conductor, pool, inbox.announce) if pool else None
    # A process of its own for each: one keeps its limit of GPU memory, and what an outside method leaves behind.
    task = ray.remote(num_cpus=resources.cpus, max_retries=0, max_calls=1)(epochs_alone)
    refs: dict[str, ray.ObjectRef[Any]] = {}
    signs = Signs()
    for trial in trials:
        planned = conductor.planned[trial.study]
        part = plan.part_of(planned, trial.number)
        if part not in refs:
            refs[part] = ray.put(plan.trained_on(plan.parts_of(planned.dataset)[part]))
        fitted = plan.fit_config(planned, trial.values, trial.seed).model_copy(update={"epochs": epochs})
        gpus = conductor.gpus_of(trial)
        there = task.options(num_gpus=gpus, label_selector=outside(pool.set_aside) if pool else {})
        training = there.remote(fitted.model_dump(mode="json"), refs[part], resources.cpus, gpus)
        while not ray.wait([training], timeout=SECONDS_BETWEEN_LOOKS)[0]:
            inbox.follow()
            if watch:
                watch.look()
            if signs.silent([training.task_id().hex()], started=False):
                ray.cancel(training, force=True)
        try:
            yield trial, ray.get(training)
        except RayError:
            yield trial, []


class _Silence(tune.ProgressReporter):
    """Reporter that prints nothing: `sweep.driver.screen` shows the sweep."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: Any) -> None:
        """Never called."""


@contextmanager
def cluster(address: str | None, resources: Resources | None, stop: Stop) -> Iterator[list[Node]]:
    """Context manager that starts a local Ray, or connects to a cluster, and yields CPUs and GPUs of each node.

    If a server of the local Ray dies, it calls `stop.ask` with the reason. Raises ValueError if Ray does not start or
    cannot be reached.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    started: list[subprocess.Popen[bytes]] = []
    try:
        if address is None:
            assert resources is not None  # known of this machine
            with _apart(started), _lean():
                ray.init(
                    "local",  # regardless of RAY_ADDRESS and an earlier `ray start`
                    num_cpus=resources.slots * resources.cpus, num_gpus=resources.total_gpus, include_dashboard=False,
                    _node_ip_address="127.0.0.1", _system_config={"prestart_worker_first_driver": False}, **quiet,
                )  # fmt: skip
        else:
            local_ray.knock((local_ray.last_head() if address == "auto" else None) or address)
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray also raises Exception
        where = f"at {address} does not answer" if address else "does not start on this machine"
        raise ValueError(redact(f"Ray {where} ({type(error).__name__}: {error})")) from error
    try:
        with _watched(started, stop):
            alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            yield [(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in alive]
    finally:
        ray.shutdown()


@contextmanager
def _apart(started: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Context manager in which every program is started out of reach of the signals that end a sweep, and appended to
    `started`. The driver alone ends the sweep, and then these programs.

    It is in a new process group, because shells and `timeout` send SIGTERM to this program's group; and SIGTERM and
    SIGHUP are blocked, as Ray blocks SIGINT, because Slurm and systemd send them to every process. A raylet that got
    SIGTERM would report to Ray that this node is lost, on which Ray's library exits the driver at once.
    """
    start = subprocess.Popen.__init__

    def begin(process: subprocess.Popen[bytes], *command: Any, **settings: Any) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
        try:
            start(process, *command, **settings, process_group=0)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        process.terminate = process.kill  # type: ignore[method-assign]  # otherwise Ray would wait for it to end
        started.append(process)

    with replaced(subprocess.Popen, "__init__", begin):
        yield


@contextmanager
def _lean() -> Iterator[None]:
    """Context manager in which Ray starts none of the programs that a local sweep does not use: the autoscaler, the
    sender of logs to the driver, and the server of the dashboard. Ray has no setting for them."""
    with ExitStack() as stack:
        for unused in ("start_monitor", "start_log_monitor", "start_api_server"):
            stack.enter_context(replaced(RayNode, unused, lambda *_, **__: None))
        yield


@contextmanager
def _watched(started: list[subprocess.Popen[bytes]], stop: Stop) -> Iterator[None]:
    """Context manager that calls `stop.ask` and kills the other programs if a server of Ray dies. Otherwise Ray's
    library would end this process seconds after one server notices the loss of another."""
    leaving = threading.Event()

    def watch(server: subprocess.Popen[bytes], name: str) -> None:
        code = server.wait()
        if not leaving.is_set():
            leaving.set()
            for other in started:
                other.kill()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            stop.ask(f"{name}, a server of Ray (process {server.pid}), has died ({how})")

    for server in started:
        command = server.args
        if isinstance(command, list) and (name := Path(os.fsdecode(command[0])).name) in SERVERS:
            threading.Thread(target=watch, args=(server, name), name=name, daemon=True).start()
    try:
        yield
    finally:
        leaving.set()
