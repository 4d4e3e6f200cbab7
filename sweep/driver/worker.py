"""The worker process: iterates over the reports of `trainables.fit` and passes them to Ray, for many trials in turn.

The state of a trial is stored in the sweep's folder (`trials/<trial>/`), not in Ray's checkpoints, so that any process
can continue the trial after a crash, a lost node or a resumed sweep.
"""

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import ray
import torch
from ray import tune
from ray.exceptions import RayError
from safetensors import SafetensorError

from sweep.driver import failure, signs
from sweep.driver.hang import HangTimer
from sweep.driver.nodes import draining
from sweep.driver.shares import KEPT_DATASETS, share_of_images
from sweep.record import CHECKPOINT, HUNG, REPORTED, TRACEBACK, Progress, Row, holder_of
from trainables import Config, Diverged, Evaluation, Evaluator, Report, evaluator_for, fit, save
from trainables.catalog import find
from trainables.evaluate import PointsEvaluator
from trainables.feed import placed
from trainables.fit import Damaged, saved_state
from trainables.global_state import settings
from trainables.saved import save_grid
from trainables.training import Training
from trainables.words import message, readable

QUIET_SECONDS = 5.0  # shorter epochs are reported together, because each report costs time in the driver
SAVE_SECONDS = 60.0
SECONDS_BETWEEN_LOOKS = 5.0  # at the state of the node
SECONDS_TO_READ_AGAIN = (1.0, 5.0, 20.0)  # after errors of the storage, which may pass, such as ESTALE of NFS
KEPT_SAMPLES = 16  # of each evaluation, for the report
OUT_OF_MEMORY = (  # messages of plain RuntimeErrors of PyTorch's CPU allocator, of CUDA, and of its libraries
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
)


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that a GPU or the machine is out of memory; not all such errors have a class."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in message(error) for words in OUT_OF_MEMORY)


class Leaving(Exception):
    """A trial leaves this process in the middle of an epoch of `training`."""

    def __init__(self, training: Training):
        super().__init__()
        self.training = training


class StorageError(Exception):
    """The sweep's folder, its data or the cache cannot be read or written on this machine."""


def in_main_thread() -> bool:
    """Return whether this is the main thread, the only one in which Python handles signals."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Context manager that converts errors of the storage under `folder` to StorageError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{socket.gethostname()} cannot use {folder} ({error})") from error


def read_patiently(file: Path) -> bytes | None:
    """Return the content of a file; None if it does not exist. Raises OSError if its storage fails repeatedly."""
    waits = iter(SECONDS_TO_READ_AGAIN)
    while True:
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            if (seconds := next(waits, None)) is None:
                raise
            time.sleep(seconds)


def epochs_alone(fitted: dict[str, Any], images: np.ndarray, cpus: float, gpus: float) -> list[tuple[str, float]]:
    """Train `fitted` once on images, uint8 (N, C, H, W), and return stage and training seconds of each epoch.

    Nothing is evaluated. Raises Diverged.
    """
    process = ray.get_runtime_context().get_task_id() if ray.is_initialized() else None
    epochs, before = [], 0.0
    with signs.giving(process or ""), HangTimer() as timer:
        device = limit(cpus, gpus)
        images_there = placed(images, device, share_of_images(gpus))
        for report in fit(Config(**fitted), images_there, device=device, between=lambda _: timer.step()):
            timer.begin()
            seconds = report.training.seconds["train"]
            epochs.append((report.stage, seconds - before))
            before = seconds
    return epochs


def limit(cpus: float, gpus: float) -> torch.device:
    """Limit this process to its share of the machine; return the device to train on."""
    torch.set_num_threads(max(1, int(cpus)))
    torch.set_flush_denormal(True)
    if 0 < gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus)
    return torch.device("cuda" if torch.cuda.is_available() and gpus > 0 else "cpu")


class TrialWorker(tune.Trainable):
    """Class trainable of Ray Tune. `config` is a trial as described by the conductor; `data` maps parts to refs."""

    def setup(self, config: dict[str, Any], data: dict[str, ray.ObjectRef[Any]]) -> None:  # type: ignore[override]  # see `tune.with_parameters`
        self.refs = data
        self.loaded: dict[str, tuple[torch.Tensor, Evaluator | PointsEvaluator]] = {}
        self.device = limit(config["cpus"], config["gpus"])
        self.asked_to_end = self.drained = False
        self.before = signal.signal(signal.SIGTERM, self._end) if in_main_thread() else None
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # blocked in Ray's own processes
        self.reset_settings = settings()  # which include the handler
        self.node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        if self.node:
            threading.Thread(target=self._watch_node, name="node", daemon=True).start()
        self._begin(config)

    def _watch_node(self) -> None:
        """Notice that Ray is draining this node, and give signs of life."""
        process = ray.get_runtime_context().get_actor_id() or ""
        while True:
            with suppress(Exception):  # of Ray, e.g. if its head is not reachable
                signs.give(process)
                self.drained = self.drained or self.node in draining()
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        """Set up a trial. Must not raise an error of the trial, which the first step returns as its result."""
        self.trial = config
        self.reports: Iterator[Report] | None = None
        self.reported: Report | None = None
        self.left: Training | None = None
        self.unreported: list[Row] = []
        self.timer = HangTimer()
        self.hung: TextIO | None = None
        self.folder = Path(config["folder"])

    def step(self) -> dict[str, Any]:
        """Train until the next evaluation, or for a few seconds; the driver decides when the trial is done."""
        progress, node = Progress(), self.node
        start = time.monotonic()
        try:
            # A method may have left the inference mode on, and no function turns it off.
            with self.timer, torch.inference_mode(False):
                self._advance(progress, start)
        except Leaving as leaving:
            self.left = leaving.training
            if not progress.rows:  # else it is saved at the next step, when the record has these rows
                self._leave(progress)
        except Diverged as divergence:
            progress.state, progress.reason = "diverged", message(divergence)
            progress.epoch = min(max(progress.epoch, divergence.epoch), self.trial["fit"]["epochs"])
        except StorageError as error:  # not caused by the trial; the unsaved results of this step are dropped
            progress = Progress(state="preempted", reason=str(error))
        except Damaged as error:
            with suppress(OSError):
                self.checkpoint.unlink(missing_ok=True)
            progress.state, progress.reason = "preempted", f"{error}; the trial starts from the beginning"
            node = ""  # which read the file well
        except Exception as error:  # an error of the method: a result of this trial, not of its process
            if ran_out_of_memory(error):
                progress.state = "out_of_memory"
                progress.reason = (message(error) or type(error).__name__).splitlines()[0]
            else:
                progress.state = "failed"
                progress.reason = f"{type(error).__name__}: {message(error)} ({failure.place(error)})"
            failure.keep(error, self.folder)
        if progress.state is not None:
            self._release()
        progress.reason, progress.node = readable(progress.reason), node
        progress.worker = {"host": socket.gethostname(), "pid": os.getpid(), **self._device_facts()}
        return {"progress": [progress]}  # in a list, because Ray flattens dicts and keeps statistics of every number

    def _leave(self, progress: Progress) -> None:
        """Save the trial that left; end the process if it was asked to end."""
        assert self.left is not None
        try:
            with self.timer, self._storing():
                self.left.save(self.checkpoint)
            progress.state, progress.reason = "preempted", "its node is being drained"
        except StorageError as error:
            progress.state, progress.reason = "preempted", str(error)
        if self.asked_to_end:
            raise SystemExit(f"process {os.getpid()} was asked to end")

    def _advance(self, progress: Progress, start: float) -> None:
        if self.left is not None:
            raise Leaving(self.left)
        self.unreported = progress.rows
        if self.reports is None:
            self.reports = self._fit()
            self.saved_at = start
        self._save_reported()
        for report in self.reports:
            self.timer.begin()
            progress.rows.append(self._row(report))
            self.reported, progress.epoch = report, report.epoch
            last = report.epoch == self.trial["fit"]["epochs"]
            if report.evaluation is not None:
                if report.epoch not in self.trial["looks"] or self.trial["metric"] in report.metrics:
                    progress.value = self._value(report)  # a look at a first stage may lack the metric
                self._keep_pictures(report.evaluation, report.epoch)
                if not last:  # the trial may be paused here
                    with self._storing():
                        report.save(self.folder / REPORTED)
            if last:
                with self._storing():
                    save(report.method, Config(**self.trial["fit"]), self.folder)
                progress.state = "complete"
            if last or report.evaluation is not None or time.monotonic() - start > QUIET_SECONDS:
                break

    def _between(self, training: Training) -> None:
        """Before and after each training step: reset the hang timer, and save a checkpoint within a long epoch, unless
        the driver has not received the previous epochs yet. Raises Leaving if this process or its node is to end."""
        now = time.monotonic()
        self.timer.step()
        if self.asked_to_end or self.drained:
            raise Leaving(training)
        if not self.unreported and now - self.saved_at > SAVE_SECONDS:
            with self._storing():
                training.save(self.checkpoint)
            self.saved_at = now

    def _end(self, number: int, frame: Any) -> None:
        """Handle SIGTERM, e.g. of a preempted node: a running training is saved first."""
        if self.timer.in_steps:
            self.asked_to_end = True
        elif callable(self.before):
            self.before(number, frame)
        else:
            raise SystemExit(1)

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    def _fit(self) -> Iterator[Report]:
        with storing(self.folder):
            self.folder.mkdir(exist_ok=True)  # without parents: if they are missing, the sweep's folder is not mounted
            old = [self.folder / name for name in (REPORTED, TRACEBACK, HUNG)]
            for unused in (*self.folder.glob("*.part"), *old):  # of a previous attempt
                unused.unlink(missing_ok=True)
            self.hung = (self.folder / HUNG).open("w")
        self.timer.file = self.hung
        self.timer.begin()
        resume = self._saved()
        config = Config(**self.trial["fit"])
        find(config.method)  # import its module before restoring global settings, which it may change
        self.reset_settings(config.seed)
        images, evaluator = self._data(self.trial["part"])
        return fit(
            config, images, self._watched(evaluator), evaluate_at=self.trial["rungs"],
            looks=self.trial["looks"], resume=resume, device=self.device, between=self._between,
        )  # fmt: skip

    def _saved(self) -> dict[str, Any] | None:
        """Return the state to continue from; None if the trial starts from the beginning.

        A checkpoint that has more epochs than the record, whose last lines were lost with the driver's machine, is
        deleted, or those epochs would never be reported. Raises Damaged, and StorageError if the file cannot be read,
        which says nothing about its content.
        """
        with storing(self.folder):
            if (content := read_patiently(self.checkpoint)) is None:
                return None
            state = saved_state(content, self.device)
            if state["position"]["epoch"] <= self.trial["epoch"]:
                return state
            self.checkpoint.unlink()
            return None

    def _watched(self, evaluator: Evaluator | PointsEvaluator) -> Callable[..., Evaluation]:
        """Wrap the evaluator so that the hang timer knows of its evaluations."""

        def evaluate(*arguments: Any, **named: Any) -> Evaluation:
            self.timer.evaluation()
            start = time.monotonic()
            found = evaluator(*arguments, **named)
            if self.trial["metric"] in found.metrics:
                self.timer.evaluated(time.monotonic() - start)
            return found

        return evaluate

    def _data(self, part: str) -> tuple[torch.Tensor, Evaluator | PointsEvaluator]:
        """Return training images, on the device or the host, and the evaluator; both are kept between trials."""
        if part not in self.loaded:
            while len(self.loaded) >= KEPT_DATASETS:
                self.loaded.pop(next(iter(self.loaded)))
            try:
                images, splits = ray.get(self.refs[part])
            except RayError as error:  # a file of images, or a node that held them, is gone
                raise StorageError(f"{socket.gethostname()} cannot get {part} ({error})") from error
            try:
                evaluator = evaluator_for(splits, device=self.device, **self.trial["evaluate"])
            except (OSError, ValueError) as error:  # the driver has made the same one: weights or cache fail here
                raise StorageError(f"{socket.gethostname()} cannot evaluate {part} ({error})") from error
            self.loaded[part] = placed(images, self.device, share_of_images(self.trial["gpus"])), evaluator
        return self.loaded[part]

    def _row(self, report: Report) -> Row:
        metrics = {readable(name): float(value) for name, value in report.metrics.items()}  # from any number type
        row = Row(epoch=report.epoch, stage=readable(report.stage), time=time.time(), metrics=metrics)
        if report.evaluation is not None:
            vectors = report.evaluation.vectors.items()
            row.vectors = {readable(name): values for name, values in vectors if all(map(math.isfinite, values))}
            row.recipes = {name: recipe.model_dump() for name, recipe in report.evaluation.recipes.items()}
        return row

    def _value(self, report: Report) -> float:
        metric = self.trial["metric"]
        value = float(report.metrics[metric])
        if not math.isfinite(value):
            raise Diverged(report.stage, report.epoch, metric, "not finite")
        return value

    def _keep_pictures(self, evaluation: Evaluation, epoch: int) -> None:
        """Save the grids of an evaluation over those of the previous one, and a small grid of samples for its epoch."""
        with storing(self.folder):
            for name, picture in evaluation.pictures.items():
                save_grid(picture, self.folder / f"{name}.png")
            if (samples := evaluation.pictures.get("samples")) is not None:
                few = samples[:KEPT_SAMPLES] if samples.ndim == 4 else samples  # points are one picture
                save_grid(few, self.folder / f"samples-{epoch:04d}.png", columns=4)

    def _save_reported(self) -> None:
        """Make the state at the end of the last step the checkpoint. Not earlier: only when Ray asks for another step,
        the record has the results of the last one. If a checkpoint were ahead of the record, epochs would be lost."""
        if self.reported is None:
            return
        evaluated, due = self.reported.evaluation is not None, time.monotonic() - self.saved_at > SAVE_SECONDS
        if evaluated or due:
            with self._storing():
                if evaluated:
                    (self.folder / REPORTED).replace(self.checkpoint)
                else:
                    self.reported.save(self.checkpoint)
            self.saved_at = time.monotonic()

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """Like `storing`; ends the process if another driver continues the sweep because this trial's was cut off."""
        with storing(self.folder):
            if holder_of(Path(self.trial["record"])) != self.trial["holder"]:
                raise SystemExit("another driver continues the sweep")
            yield

    def _release(self) -> None:
        if self.hung is not None:
            with suppress(OSError):  # a failed disk is already the trial's outcome
                self.hung.close()
                (self.folder / HUNG).unlink(missing_ok=True)
        self.reports = self.reported = self.left = self.hung = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _device_facts(self) -> dict[str, Any]:
        """Return the device; of a GPU also the trial's share, and the most memory that PyTorch has reserved for the
        trial, which its share limits."""
        if self.device.type != "cuda":
            return {"device": "cpu"}
        peak = torch.cuda.max_memory_reserved(self.device) / 2**20
        return {"device": torch.cuda.get_device_name(), "gpus": self.trial["gpus"], "peak_mb": round(peak)}

    def cleanup(self) -> None:
        self._release()
