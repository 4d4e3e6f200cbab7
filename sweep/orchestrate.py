"""Ray Tune as our executor: one Tune run drives all studies of a sweep, and owns nothing.

Ray schedules processes and resources. What to try, whom to stop and what happened is decided by the studies and
written to the record before anyone else hears of it; so Ray's own snapshots are off, and a sweep is resumed by
replaying the record into fresh studies and starting a fresh Tune run.
"""

import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayError
from ray.tune.execution import tune_controller
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweep.checkpoints import CHECKPOINT
from sweep.plan import Plan, Planned
from sweep.record import Event, Record, Trial, Trials
from sweep.resources import Resources
from sweep.study import Study
from sweep.worker import TrialWorker, epochs_alone, epochs_saved

SECONDS_TO_ANSWER = 5

Listener = Callable[[Event, Trials], None]


class Conductor:
    """Decides for all studies: what runs next, who stops. Every decision and outcome is in the record first."""

    def __init__(
        self,
        plan: Plan,
        studies: Mapping[str, Study],
        record: Record,
        history: list[Event],
        folder: Path,
        resources: Resources,
        listener: Listener,
    ):
        self.plan, self.studies, self.record = plan, studies, record
        self.folder, self.resources, self.listener = folder, resources, listener
        self.planned: dict[str, Planned] = {study.name: study for study in plan.studies}
        self.trials = Trials.from_events(history)
        self.waiting = deque(trial for trial in self.trials.trials.values() if trial.state == "running")
        self.asked = {name: len(self.trials.of(name)) for name in studies}
        self.running: dict[str, str] = {}  # Ray's trial id -> our trial

    @property
    def exhausted(self) -> bool:
        """True once no study asks for another trial; a running one may still have to run again."""
        return not self.waiting and all(self._share(name) >= 1 for name in self.studies)

    @property
    def done(self) -> bool:
        """True once all that was asked for has ended, and nothing more will be."""
        return self.exhausted and all(trial.state != "running" for trial in self.trials.trials.values())

    def retry(self, names: Iterable[str]) -> None:
        """Trials that have ended are to run once more, from their beginning."""
        self.waiting.extend(self.trials.trials[name] for name in names)

    def add(self, trial: Trial, metrics: Mapping[str, float]) -> None:
        """Takes down what was measured of a trial beside its training, as its epoch 0."""
        row = {"epoch": 0, "stage": "alone", "time": time.time(), "metrics": dict(metrics)}
        self._tell("report", trial=trial.name, rows=[row])

    def settle(self) -> None:
        """What a driver that died had left between two lines of the record: trials that had reached their end get
        it now, and are not run again; checkpoints that know more epochs than the record are dropped, or those
        epochs would never be told."""
        for trial in [trial for trial in self.waiting if trial.state == "running"]:
            if trial.epoch >= self.plan.config.epochs:
                self._end(trial, "complete", "", trial.epoch, None)
            elif not self.studies[trial.study].goes_on(trial.number):
                self._end(trial, "pruned", self._behind(trial.epoch), trial.epoch, None)
            elif epochs_saved(self._checkpoint(trial)) > trial.epoch:
                self._checkpoint(trial).unlink()
            if trial.state != "running":
                self.waiting.remove(trial)

    def next(self, ray_id: str) -> dict[str, Any] | None:
        """The next trial for Ray to run, or None while enough are under way."""
        if len(self.running) >= self.resources.ahead:
            return None
        if self.waiting:
            trial = self.waiting.popleft()
            event = {"trial": trial.name, "study": trial.study, "number": trial.number, "values": trial.values}
            event |= {"origin": trial.origin, "attempt": trial.attempt + 1}
            self.studies[trial.study].reopen(trial.number)
        elif self.exhausted:
            return None
        else:
            # Fair: the study that has had the smallest share of its budget comes next.
            study = min(self.studies, key=self._share)
            asked = self.studies[study].ask()
            self.asked[study] += 1
            event = {"trial": asked.trial, "study": study, "number": asked.number, "values": asked.values}
            event |= {"origin": asked.origin, "attempt": 1}
        self._tell("start", seed=self.plan.seed_of(event["study"], event["number"]), **event)
        self.running[ray_id] = event["trial"]
        return self._describe(event)

    def hear(self, ray_id: str, told: dict[str, Any]) -> bool:
        """Takes in what a worker tells; returns whether its trial goes on."""
        trial = self._trial(ray_id)
        study = self.studies[trial.study]
        rows = [row for row in told["rows"] if row["epoch"] not in trial.rows]  # others were trained again
        if rows:
            self._tell("report", trial=trial.name, rows=rows)
        state, reason = told["state"], told["reason"]
        goes_on = True
        if told["value"] is not None:
            metrics = next((row["metrics"] for row in told["rows"] if row["epoch"] == told["epoch"]), {})
            goes_on = study.report(trial.number, told["epoch"], told["value"], metrics)
        if state is None and not goes_on:
            state, reason = "pruned", self._behind(told["epoch"])
        if state is None:
            return True
        del self.running[ray_id]
        if state == "out_of_memory" and not _wants_room(trial):
            self._again(trial, state, reason, told["worker"])
        else:
            self._end(trial, state, reason, max(told["epoch"], trial.epoch), told["worker"])
        return False

    def lost(self, ray_id: str, state: str, reason: str) -> None:
        """Ray has lost the process of a trial. It runs again, from its own checkpoint, unless it has run out of
        memory before, or was lost too often since it last got further: then it ends as `state`."""
        if ray_id not in self.running:
            return
        trial = self._trial(ray_id)
        del self.running[ray_id]
        if state == "out_of_memory":
            if _wants_room(trial):
                self._end(trial, state, reason, trial.epoch, None)
            else:
                self._again(trial, state, reason, None)
        elif trial.stalled < self.plan.config.retries:
            self._again(trial, "preempted", reason, None)
        else:
            self._end(trial, state, f"{reason} {trial.stalled + 1} times", trial.epoch, None)

    def _trial(self, ray_id: str) -> Trial:
        return self.trials.trials[self.running[ray_id]]

    def _checkpoint(self, trial: Trial) -> Path:
        return self.folder / "trials" / trial.name / CHECKPOINT

    def _behind(self, epoch: int) -> str:
        return f"behind the best 1/{self.plan.config.factor} at epoch {epoch}"

    def _end(self, trial: Trial, state: str, reason: str, epoch: int, worker: dict[str, Any] | None) -> None:
        self.studies[trial.study].end(trial.number, state)
        self._tell("end", trial=trial.name, state=state, epoch=epoch, reason=reason, worker=worker)
        self._checkpoint(trial).unlink(missing_ok=True)

    def _again(self, trial: Trial, state: str, reason: str, worker: dict[str, Any] | None) -> None:
        """An attempt has come to `state`, but the trial has not ended: it runs next."""
        self._tell("lost", trial=trial.name, state=state, epoch=trial.epoch, reason=reason, worker=worker)
        self.waiting.append(trial)

    def _tell(self, event: str, **fields: Any) -> None:
        told = self.record.append(event, **fields)
        self.trials.tell(told)
        self.listener(told, self.trials)

    def _share(self, study: str) -> float:
        """Of its budget, how much a study has had: of its trials those asked for, or, if that is more, of its seconds
        those that the record tells of. No clock of this process counts, so a resumed sweep decides alike."""
        asked, seconds = self.asked[study] / self.studies[study].budget, self.plan.config.seconds_per_study
        if seconds is None:
            return asked
        return max(asked, sum(trial.seconds for trial in self.trials.of(study)) / seconds)

    def _describe(self, event: Mapping[str, Any]) -> dict[str, Any]:
        planned, config = self.planned[event["study"]], self.plan.config
        seed = self.plan.seed_of(event["study"], event["number"])
        evaluate = {"metric": config.metric, "split": self.plan.split, "samples": config.samples, "seed": seed}
        if config.fid_weights is not None:
            evaluate["fid_weights"] = str(config.fid_weights.absolute())
        wants_room = _wants_room(self.trials.trials[event["trial"]])
        gpus = self.resources.gpus
        return {
            "trial": event["trial"],
            "folder": str(self.folder.absolute() / "trials" / event["trial"]),
            "fit": self.plan.fit_config(planned, event["values"], seed).model_dump(mode="json"),
            "metric": self.plan.metric,
            "rungs": self.plan.rungs,
            "evaluate": evaluate,
            "cpus": self.resources.cpus,
            "gpus": 1.0 if wants_room and 0 < gpus < 1 else gpus,
            "wants_room": wants_room,
        }


def _wants_room(trial: Trial) -> bool:
    """A trial that has run out of memory runs again with fewer neighbours, once."""
    return trial.setbacks["out_of_memory"] > 0


class _Asker(Searcher):
    """Ray asks for trials here."""

    def __init__(self, conductor: Conductor):
        super().__init__()
        self.conductor = conductor

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.conductor.done:
            return Searcher.FINISHED
        return self.conductor.next(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Nothing: the judge has ended it, or its process was lost."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the record has it all."""


class _Judge(FIFOScheduler):
    """Ray hands over results here and learns who stops."""

    def __init__(self, conductor: Conductor):
        super().__init__()
        self.conductor = conductor

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True  # each study has its own metric

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        goes_on = all(self.conductor.hear(trial.trial_id, told) for told in result["told"])
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP


class _Losses(tune.Callback):
    """Ray tells here that the process of a trial is gone; whether the trial runs again is not Ray's to decide."""

    def __init__(self, conductor: Conductor):
        self.conductor = conductor

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        error = None
        if trial.pickled_error_file is not None:
            error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        self.conductor.lost(trial.trial_id, *how_lost(error))


def how_lost(error: Exception | None) -> tuple[str, str]:
    """The state of a trial whose process is gone for good, and the reason, by what Ray says of it."""
    if isinstance(error, _Killed):
        return "out_of_memory", "Ray killed its process, for its node ran low on memory"
    if isinstance(error, ActorUnavailableError) or (
        isinstance(error, RayActorError) and (error.preempted or "its node" in str(error))
    ):
        return "preempted", "its node was lost"
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
    return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": trial["gpus"]}])


def run(conductor: Conductor) -> None:
    """Runs what the conductor asks for, until it is exhausted or the sweep is interrupted. Ray must be up."""
    plan, resources = conductor.plan, conductor.resources
    conductor.settle()
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the record has it all
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # likewise
        "TUNE_MAX_PENDING_TRIALS_PG": str(resources.ahead),
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours asks Tune to stop as well
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # or Tune would start such trials again by itself
    }
    tune_controller.RayActorManager = _ActorManager
    refs = {name: ray.put((plan.trained_on(name), splits)) for name, splits in plan.splits.items()}
    trainable = tune.with_resources(tune.with_parameters(TrialWorker, data=refs), room)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is in the record and on our screen
    tune.run(
        trainable,
        name="ray",
        storage_path=str(conductor.folder.absolute()),
        search_alg=_Asker(conductor),
        scheduler=_Judge(conductor),
        callbacks=[_Losses(conductor)],
        num_samples=-1,
        max_failures=0,
        raise_on_failed_trial=False,
        reuse_actors=True,
        progress_reporter=_Silence(),
        verbose=0,
        trial_dirname_creator=lambda trial: trial.trial_id,
    )


def train_alone(
    conductor: Conductor, trials: Iterable[Trial], epochs: int
) -> Iterator[tuple[Trial, list[tuple[str, float]]]]:
    """Each trial with stage and seconds of the epochs of a short training of its values, on a worker with what a trial
    gets and no other trial of this sweep beside it; none if it fails. To be called when the conductor is done."""
    signal.signal(signal.SIGUSR1, signal.default_int_handler)  # Tune has left its own there, which stops nothing now
    plan, resources = conductor.plan, conductor.resources
    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)(epochs_alone)
    refs: dict[str, ray.ObjectRef] = {}
    for trial in trials:
        planned = conductor.planned[trial.study]
        if planned.dataset not in refs:
            refs[planned.dataset] = ray.put(plan.trained_on(planned.dataset))
        fitted = plan.fit_config(planned, trial.values, trial.seed).model_copy(update={"epochs": epochs})
        training = task.remote(fitted.model_dump(mode="json"), refs[planned.dataset], resources.cpus, resources.gpus)
        try:
            yield trial, ray.get(training)
        except RayError:
            yield trial, []


class _Silence(tune.ProgressReporter):
    """The screen is ours."""

    def should_report(self, trials: list, done: bool = False) -> bool:
        return False

    def report(self, trials: list, done: bool, *sys_info: Any) -> None:
        """Never called."""


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM (preemption, `docker stop`) end the sweep cleanly; a second Ctrl-C ends it at once.

    Both wait until the function that this gives is called; then they raise KeyboardInterrupt, or stop Tune.
    """

    # Not by masks: Ray's threads would still take a signal, and Python then runs its handler in ours.
    listening = asked = False

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    def interrupt(*_: Any) -> None:
        nonlocal asked
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked = True
        if listening:
            stop()

    def listen() -> None:
        nonlocal listening
        listening = True
        if asked:
            stop()

    handlers = {
        signal.SIGINT: interrupt,
        signal.SIGTERM: interrupt,
        signal.SIGUSR1: signal.default_int_handler,  # until Tune puts its own here, which stops it
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield listen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def cluster(address: str | None, resources: Resources | None) -> Iterator[tuple[int, int]]:
    """Ray, started here on the loopback interface only, or an existing cluster; gives its CPUs and GPUs.

    Raises ValueError when it does not start or cannot be reached.
    """
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        if address is None:
            ray.init(
                num_cpus=resources.slots * resources.cpus, num_gpus=resources.total_gpus, include_dashboard=False,
                _node_ip_address="127.0.0.1", **quiet,
            )  # fmt: skip
        else:
            _knock(address)
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises bare ones, too
        where = f"at {address} does not answer" if address else "does not start on this machine"
        raise ValueError(f"Ray {where} ({type(error).__name__}: {error})") from error
    try:
        total = ray.cluster_resources()
        yield int(total.get("CPU", 0)), int(total.get("GPU", 0))
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError within seconds if nobody listens at HOST:PORT, which takes Ray itself minutes to find out."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()
