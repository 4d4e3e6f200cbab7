"""Ray Tune as our executor: one Tune run drives all studies of a sweep, and owns nothing.

Ray schedules processes and resources. What to try, whom to stop and what happened is decided by the studies and
written to the record before anyone else hears of it; so Ray's own snapshots are off, and a sweep is resumed by
replaying the record into fresh studies and starting a fresh Tune run.
"""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import cloudpickle, tune
from ray.air.execution._internal import RayActorManager
from ray.autoscaler.sdk import request_resources
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util import register_serializer

from sweep.driver import local_ray, provenance
from sweep.driver.conductor import Conductor
from sweep.driver.maps import files_of, opened, sent
from sweep.driver.nodes import SECONDS_TO_ANSWER, Pool, own_versions
from sweep.driver.resources import Node, Resources
from sweep.driver.stop import Stop
from sweep.driver.worker import TrialWorker, epochs_alone
from sweep.record import Progress, Trial
from sweep.search.plan import Plan
from trainables.replaced import replaced

SECONDS_BETWEEN_LOOKS = 0.5
SERVERS = ("gcs_server", "raylet")  # of Ray; without one of them nothing goes on


class _Asker(Searcher):
    """Ray asks for trials here."""

    def __init__(self, conductor: Conductor, pool: Pool | None, stop: Stop):
        super().__init__()
        self.conductor, self.pool, self.stop = conductor, pool, stop

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        with self.stop.going_on():
            if self.conductor.done:
                return Searcher.FINISHED
            trial = self.conductor.next(trial_id)
        return trial and trial | {"nodes": self.pool.selector() if self.pool else {}}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the judge has ended it, or its process was lost."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the record has it all."""


class _Judge(FIFOScheduler):
    """Ray hands over results here and learns who stops."""

    def __init__(self, conductor: Conductor, pool: Pool | None, stop: Stop):
        super().__init__()
        self.conductor, self.pool, self.stop = conductor, pool, stop

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True  # each study has its own metric

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        with self.stop.going_on():
            goes_on = all(self.conductor.hear(trial.trial_id, self._blamed(sent)) for sent in result["progress"])
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def _blamed(self, progress: Progress) -> Progress:
        """What a worker sent, set right where its node is to blame."""
        if self.pool is None:
            return progress
        node = progress.node
        if progress.epoch:
            self.pool.trained(node, stored=progress.value is not None)
        elif progress.state in ("failed", "out_of_memory") and self.pool.is_suspect(node):
            progress = progress.model_copy(update={"state": "preempted"})
        if progress.state == "preempted":
            self.pool.spoilt(node, progress.reason)
        return progress


class _Stopper(tune.Callback):
    """Ray calls this again and again."""

    def __init__(self, stop: Stop):
        self.stop = stop

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        with self.stop.going_on():
            pass


class _Watch(tune.Callback):
    """Ray calls this again and again: nodes that come and go are looked at, and the conductor learns their places."""

    def __init__(self, conductor: Conductor, pool: Pool, announce: Callable[[str], None]):
        self.conductor, self.pool, self.announce = conductor, pool, announce
        self.wanted = 0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.pool.look():
            self._count()

    def _count(self) -> None:
        before, concurrent = self.conductor.resources, self.conductor.plan.config.concurrent
        after = before.on(self.pool.holding(), concurrent)
        self.conductor.resources = after
        if before.slots and not after.slots:
            self.announce(after.waiting(self.pool.holding()))
        # The search is asked when there is a place, so it is not trials that make a cluster grow.
        if concurrent and (wanted := min(concurrent, self.conductor.places)) != self.wanted:
            self.wanted = wanted
            request_resources(bundles=[{"CPU": after.cpus, "GPU": after.gpus}] * wanted)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        if self.wanted:
            request_resources(bundles=[])


def _pool(conductor: Conductor, announce: Callable[[str], None]) -> Pool | None:
    """The nodes of a cluster, all of them looked at; None on this machine alone. Raises ValueError if none is fit."""
    if conductor.plan.config.address is None:
        return None
    record, opening = conductor.record.path.absolute(), conductor.trials.sweep
    expected = record, opening.sweep, provenance.code_hash(), own_versions()
    pool = Pool(expected, announce, gpus=conductor.resources.gpus > 0)
    pool.look(SECONDS_TO_ANSWER)
    concurrent = conductor.plan.config.concurrent
    conductor.resources = conductor.resources.on(pool.holding(), concurrent)
    if pool.set_aside and not conductor.resources.slots and concurrent is None:  # else it may grow
        raise ValueError(f"no node can run trials; the first one: {next(iter(pool.set_aside.values()))}")
    return pool


class _Losses(tune.Callback):
    """Ray tells here that the process of a trial is gone; whether the trial runs again is not Ray's to decide."""

    def __init__(self, conductor: Conductor, stop: Stop):
        self.conductor, self.stop = conductor, stop

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = None
        if trial.pickled_error_file is not None:
            error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        with self.stop.going_on():
            self.conductor.lost(trial.trial_id, *how_lost(error))


def how_lost(error: Exception | None) -> tuple[str, str]:
    """The state of a trial whose process is gone for good, and the reason, by what Ray says of it."""
    if isinstance(error, _Killed):
        return "out_of_memory", "Ray killed its process, for its node ran low on memory"
    if isinstance(error, ActorUnavailableError) or (
        isinstance(error, RayActorError) and (error.preempted or "its node" in str(error))
    ):
        return "preempted", "its node was lost"
    if "creation task" in str(error):  # it never came to its first step
        return "failed", f"its process could not begin ({str(error).strip().splitlines()[-1].strip()})"
    if isinstance(error, RayTaskError):  # an error of our own, outside the training
        return "failed", f"its process failed ({type(error.cause).__name__}: {error.cause})"
    return "failed", "its process was lost"


class _Killed(RayActorError):
    """Ray has killed an actor because its node ran low on memory."""


class _ActorManager(RayActorManager):
    """Tune's own. That takes what Ray 2.60 raises for an actor killed for lack of memory for a bug of its own, and
    would end the sweep."""

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = _Killed(error_msg=str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


def room(trial: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """What a described trial asks of Ray. One that wants room has its GPU for itself, where it shares them; else it
    takes more than half of the largest node's CPUs, so that at most half as many run beside it."""
    cpus = trial["cpus"]
    if trial["wants_room"] and trial["gpus"] != 1:
        largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        cpus = min(max(cpus, largest // 2 + 1), max(largest, cpus))
    # Processes are used again for the same request only: no trial gets one on a node that has been set aside.
    nodes = {"bundle_label_selector": [trial["nodes"]]} if trial.get("nodes") else {}
    return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": trial["gpus"]}], **nodes)


def run(conductor: Conductor, announce: Callable[[str], None], stop: Stop) -> None:
    """Runs what the conductor asks for, until it is exhausted. Ray must be up.

    `announce` hears what people should know beside the record. Raises Stopped, and ValueError if no node can run
    trials.
    """
    plan = conductor.plan
    conductor.settle()
    pool = _pool(conductor, announce)
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the record has it all
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # likewise
        "TUNE_MAX_PENDING_TRIALS_PG": "10000",  # the conductor says how many
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # or Tune would start such trials again by itself
    }
    tune_controller.RayActorManager = _ActorManager
    refs = _put(plan, pool)
    trainable = tune.with_resources(tune.with_parameters(TrialWorker, data=refs), room)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is in the record and on our screen
    tune.run(
        trainable,
        name="ray",
        storage_path=str(conductor.folder.absolute()),
        search_alg=_Asker(conductor, pool, stop),
        scheduler=_Judge(conductor, pool, stop),
        callbacks=[_Stopper(stop), _Losses(conductor, stop), *([_Watch(conductor, pool, announce)] if pool else [])],
        num_samples=-1,
        max_failures=0,
        raise_on_failed_trial=False,
        reuse_actors=True,
        progress_reporter=_Silence(),
        verbose=0,
        trial_dirname_creator=lambda trial: trial.trial_id,
    )


def _put(plan: Plan, pool: Pool | None) -> dict[str, ray.ObjectRef[Any]]:
    """For each data set what its trials are trained on, and its splits.

    Arrays that lie in mapped files go by the files' names, if all nodes see them. Else Ray's object store has them.
    """
    data = {name: (plan.trained_on(name), splits) for name, splits in plan.splits.items()}
    parts = [
        array
        for trained, splits in data.values()
        for array in (trained, *(split.images for split in (splits.train, splits.valid, splits.test)))
    ]
    if pool is None or pool.share(files_of(parts)):
        register_serializer(np.memmap, serializer=sent, deserializer=opened)
    else:
        register_serializer(np.memmap, serializer=np.array, deserializer=opened)
    return {name: ray.put(parts) for name, parts in data.items()}


def train_alone(
    conductor: Conductor, trials: Iterable[Trial], epochs: int, stop: Stop
) -> Iterator[tuple[Trial, list[tuple[str, float]]]]:
    """Each trial with stage and seconds of the epochs of a short training of its values, on a worker with what a trial
    gets and no other trial of this sweep beside it; none if it fails. To be called when the conductor is done.
    Raises Stopped."""
    plan, resources = conductor.plan, conductor.resources
    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)(epochs_alone)
    refs: dict[str, ray.ObjectRef[Any]] = {}
    for trial in trials:
        planned = conductor.planned[trial.study]
        if planned.dataset not in refs:
            refs[planned.dataset] = ray.put(plan.trained_on(planned.dataset))
        fitted = plan.fit_config(planned, trial.values, trial.seed).model_copy(update={"epochs": epochs})
        training = task.remote(fitted.model_dump(mode="json"), refs[planned.dataset], resources.cpus, resources.gpus)
        while not ray.wait([training], timeout=SECONDS_BETWEEN_LOOKS)[0]:
            with stop.going_on():
                pass
        try:
            yield trial, ray.get(training)
        except RayError:
            yield trial, []


class _Silence(tune.ProgressReporter):
    """The screen is ours."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: Any) -> None:
        """Never called."""


@contextmanager
def cluster(address: str | None, resources: Resources | None, stop: Stop) -> Iterator[list[Node]]:
    """Ray, started here for this machine alone, or an existing cluster; gives CPUs and GPUs of each node.

    If a server of Ray that was started here dies, `stop` is asked, with the reason. Raises ValueError when Ray does not
    start or cannot be reached.
    """
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    started: list[subprocess.Popen] = []
    try:
        if address is None:
            with _apart(started):
                ray.init(
                    "local",  # whatever RAY_ADDRESS says, or an earlier `ray start` has left behind
                    num_cpus=resources.slots * resources.cpus, num_gpus=resources.total_gpus, include_dashboard=False,
                    _node_ip_address="127.0.0.1", **quiet,
                )  # fmt: skip
        else:
            local_ray.knock((local_ray.last_head() if address == "auto" else None) or address)
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises bare ones, too
        where = f"at {address} does not answer" if address else "does not start on this machine"
        raise ValueError(f"Ray {where} ({type(error).__name__}: {error})") from error
    try:
        with _watched(started, stop):
            alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            yield [(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in alive]
    finally:
        ray.shutdown()


@contextmanager
def _apart(started: list[subprocess.Popen]) -> Iterator[None]:
    """Every program started in here leads a process group of its own; adds them to `started`.

    A SIGTERM to this program's group, as `timeout`, Slurm and shells send it, would end Ray's servers before the
    driver could end the sweep.
    """
    start = subprocess.Popen.__init__

    def begin(process: subprocess.Popen, *command: Any, **settings: Any) -> None:
        start(process, *command, **settings, process_group=0)
        started.append(process)

    with replaced(subprocess.Popen, "__init__", begin):
        yield


@contextmanager
def _watched(started: list[subprocess.Popen], stop: Stop) -> Iterator[None]:
    """While in here, the death of a server of Ray among the programs started asks `stop`, and ends the others: Ray's
    library would end this process seconds after one of them has found another one gone."""
    leaving = threading.Event()

    def watch(server: subprocess.Popen, name: str) -> None:
        code = server.wait()
        if not leaving.is_set():
            leaving.set()
            for other in started:
                other.kill()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            stop.ask(f"{name}, a server of Ray (process {server.pid}), has died ({how})")

    for server in started:
        if (name := Path(server.args[0]).name) in SERVERS:
            threading.Thread(target=watch, args=(server, name), name=name, daemon=True).start()
    try:
        yield
    finally:
        leaving.set()
