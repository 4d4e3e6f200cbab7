"""The training loop: a generator of reports, and the only interface between training and scheduling."""

import io
import resource
import sys
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables.config import Config
from trainables.evaluate import Evaluation
from trainables.method import Method
from trainables.training import Diverged, Training


class Damaged(Exception):
    """A checkpoint is truncated or damaged."""


@dataclass(frozen=True)
class Report:
    """The results of one epoch. `epoch` counts over all stages; `evaluation` is None if none was due."""

    epoch: int
    stage: str
    metrics: dict[str, float]
    evaluation: Evaluation | None
    training: Training = field(repr=False)

    @property
    def method(self) -> Method:
        return self.training.method

    def save(self, path: Path) -> None:
        """Writes the training state atomically; `fit(resume=saved_state(...))` continues from it bit for bit."""
        self.training.save(path)


def fit(
    config: Config,
    images: Tensor,
    evaluator: Callable[..., Evaluation] | None = None,
    evaluate_at: Collection[int] = (),
    looks: Collection[int] = (),
    resume: dict[str, Any] | None = None,
    device: torch.device | str | None = None,
    between: Callable[[Training], None] | None = None,
) -> Iterator[Report]:
    """Trains `config.method` on images, uint8 (N, C, H, W), and yields one report per epoch.

    images: on the device to train on, or on the host if `device` is given (see `trainables.feed`).
    evaluator: runs after the epochs in `evaluate_at` and `looks` and, with `final` set, after the last one. It draws by
        `config.seed` and not from the generators of the training, so the number of evaluations does not change the
        training. In a stage with judged=False it runs only after the epochs in `looks`, and scores only the density in
        `Stage.sampler`.
    resume: a state to continue from (`saved_state`).
    between: called before the first step of each epoch and after each step; it may save a checkpoint.

    Raises Diverged, and ValueError for an invalid configuration or the state of another one.
    """
    training = Training(config, images, device)
    reset_peak(training.device)
    if resume is not None:
        training.load_state_dict(resume)
        resume = None  # its tensors may be on the device
    while not training.finished:
        terms = training.run_epoch(between)
        metrics = {f"train/{name}": value for name, value in terms.items()}
        evaluation = None
        stage, looked = training.stage, training.epoch in looks
        due = training.finished or (stage.judged and (looked or training.epoch in evaluate_at))
        early = looked and not due and stage.sampler is not None
        if evaluator is not None and (due or early):
            busy = gpu_utilization(training.device)  # of the training, before the evaluation
            alone: dict[str, Any] = {"sampler": stage.sampler} if early else {}
            evaluation = evaluator(training.method, images, final=training.finished, seed=config.seed, **alone)
            if evaluation.broken:
                raise Diverged(training.stage.name, training.epoch, evaluation.broken, "not finite at evaluation")
            seconds = training.seconds
            seconds["evaluate"] += evaluation.seconds
            seconds["density_fit"] += evaluation.density_fit_seconds
            seen = training.steps * training.method.hyper.batch_size
            metrics |= evaluation.metrics | {
                **{f"time/{name}_seconds": value for name, value in seconds.items()},
                "speed/images_per_second": seen / seconds["train"],
                "model/parameters": float(sum(p.numel() for p in training.method.parameters())),
                "memory/peak_mb": peak_memory(training.device) / 2**20,
                **busy,
            }
        yield Report(training.epoch, training.stage.name, metrics, evaluation, training)


def saved_state(content: bytes, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Returns the training state in the content of a checkpoint. Raises Damaged.

    Takes the content and not a path, so that an error of the storage cannot be mistaken for a damaged file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if damaged := archive.testzip():  # torch.load does not check the checksums
                raise zipfile.BadZipFile(f"{damaged} has a wrong checksum")
        return torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch.load passes on errors of zip and pickle
        raise Damaged(f"the checkpoint is damaged ({type(error).__name__})") from error


def gpu_utilization(device: torch.device) -> dict[str, float]:
    """Returns the share of the last second in which a GPU was busy, with other processes', as a metric; none on a CPU,
    or if its driver does not tell."""
    if device.type != "cuda":
        return {}
    try:
        return {"speed/gpu_utilization_percent": float(torch.cuda.utilization(device))}
    except Exception:  # NVML has an error class of its own for each of its reasons
        return {}


def reset_peak(device: torch.device) -> None:
    """Forgets the peak memory of earlier trainings in this process; on a CPU only where Linux allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> float:
    """Returns the peak memory in bytes since `reset_peak`: of the device on a GPU, of the process on a CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
