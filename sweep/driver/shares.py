"""The share of a GPU that a trial takes, chosen from the memory that the studies of a sweep need.

One share holds for all trials of a sweep, because its slots are counted in it. A study that outgrows it goes on with
whole GPUs, see `sweep.driver.conductor`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sweep.driver.resources import SHARES
from trainables.feed import DEVICE_SHARE
from trainables.memory import Footprint, readable
from trainables.metrics.choice import OWN, choose

if TYPE_CHECKING:
    from sweep.search.plan import Plan

KEPT_DATASETS = 2  # per process; a fold of a data set counts as one

# Bytes of a GPU that a trial uses in addition to its training step.
CONTEXT = 500_000_000  # CUDA and its libraries
EVALUATION = 500_000_000  # samples, and the small networks that are trained for the distances
PRETRAINED = 4_000_000_000  # a batch of 250 images in Inception, counted as 3.7 GB, or in another large network


def share_of_images(gpus: float) -> float:
    """Return the fraction of a GPU's memory that one data set of a trial may use."""
    return DEVICE_SHARE * min(1.0, gpus) / KEPT_DATASETS


@dataclass(frozen=True)
class Need:
    """The memory of a GPU that trials of a study need, at the hand-tuned point; `beside` are allowances in bytes."""

    study: str
    training: Footprint
    beside: int

    @property
    def total(self) -> int:
        """Bytes without those of the images, which stay on the host if they do not fit."""
        return self.training.step + self.beside

    def fits(self, share: float, capacity: int) -> bool:
        """Return whether a trial fits a share of a GPU of `capacity` bytes, with its images if they lie there."""
        images = self.training.images
        placed = images if images <= share_of_images(share) * capacity else 0
        return self.total + placed <= share * capacity

    def __str__(self) -> str:
        return (
            f"a training step takes {self.training}; on a GPU a trial takes about {readable(self.total)}, with "
            f"{readable(self.beside)} for CUDA and evaluations"
        )


def needs_of(plan: "Plan") -> list[Need]:
    """Return the need of each study of a plan."""
    return [
        Need(study.name, plan.footprints[study.name], CONTEXT + evaluation(plan.metric_of(study.dataset)))
        for study in plan.studies
    ]


def evaluation(metric: str) -> int:
    """Return the bytes that evaluations by a metric take on a GPU."""
    return EVALUATION if choose(metric).extractor in ("", *OWN) else PRETRAINED


def own_gpus() -> list[int]:
    """Return the bytes of the smallest GPU of this machine, the only element; no element if it has no GPU.

    Raises ValueError if CUDA does not start.
    """
    try:
        sizes = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
    except RuntimeError as error:  # e.g. for a driver that is too old; counting does not need CUDA
        why = str(error).splitlines()[0]
        raise ValueError(
            f"torch cannot use the GPUs of this machine ({why}); correct their driver, or hide them to train on CPUs: "
            "export CUDA_VISIBLE_DEVICES="
        ) from error
    return [min(sizes)] if sizes else []


def choose_share(plan: "Plan", gpus: Sequence[int], announce: Callable[[str], None]) -> float:
    """Return the share of a GPU per trial: that of the configuration, or else the smallest of SHARES that fits every
    study. Announce why if it is not the default, and a configured share that is too small.

    gpus: bytes of the smallest GPU of each node. Nodes on which a training step does not fit are left out, because
    their check excludes them; raises ValueError, with figures, if no node remains.
    """
    given = plan.config.gpus_per_trial
    if not gpus or given == 0:
        return SHARES[0]
    needs = needs_of(plan)
    largest = max(needs, key=lambda need: need.training.step)
    capacity = min((size for size in gpus if size >= largest.training.step), default=max(gpus))
    if largest.training.step > capacity:
        raise ValueError(
            f"{largest.study}: a training step takes {largest.training}, and the GPU has {readable(capacity)}; choose "
            "a smaller network or batch_size"
        )
    if given is not None:
        for need in needs:
            if need.training.step > given * capacity:
                announce(
                    f"{need.study}: a training step takes {need.training}, more than {given:g} of a GPU of "
                    f"{readable(capacity)}; a larger --gpus-per-trial avoids running out of memory"
                )
        return given
    share = next((share for share in SHARES if all(need.fits(share, capacity) for need in needs)), SHARES[-1])
    if share != SHARES[0]:
        most = max(needs, key=lambda need: need.total)
        doubt = "" if most.fits(share, capacity) else ", and may run out of memory"
        announce(
            f"gpus_per_trial = {share:g} in place of {SHARES[0]:g}, because on a GPU of {readable(capacity)} a trial "
            f"of {most.study} takes about {readable(most.total)}, with {readable(most.beside)} for CUDA and "
            f"evaluations{doubt}"
        )
    return share
