"""How many trials run at a time and what each may use; sensible defaults found from the machine."""

import os
from dataclasses import dataclass

import torch

from sweep.config import SweepConfig

TRIALS_PER_GPU = 4  # the networks of this field leave most of a modern GPU idle


@dataclass(frozen=True)
class Resources:
    cpus: int  # per trial
    gpus: float  # per trial
    slots: int  # trials at a time
    ahead: int  # trials that may be under way or waiting
    total_gpus: int

    @classmethod
    def of(cls, config: SweepConfig, total_cpus: int, total_gpus: int) -> "Resources":
        """Raises ValueError when a trial wants more than there is.

        A cluster that grows with demand shows nothing at first: `concurrent` then says how far it may grow.
        """
        if config.address is not None and config.concurrent is not None:
            slots = config.concurrent
            return cls(config.cpus_per_trial or 1, config.gpus_per_trial or 0.0, slots, slots, total_gpus)
        if total_cpus == 0:
            raise ValueError(
                f"the cluster at {config.address} has no CPU for trials yet; if it grows with demand, say with "
                "--concurrent N how many trials at a time it may grow to"
            )
        gpus = config.gpus_per_trial
        if gpus is None:
            gpus = 1 / TRIALS_PER_GPU if total_gpus else 0.0
        if gpus > total_gpus:
            raise ValueError(
                f"gpus_per_trial = {gpus:g}, but there are {total_gpus} GPUs; ask for at most that, or 0 for CPU only"
            )
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"gpus_per_trial = {gpus:g}; allowed: a fraction up to 1, or whole GPUs")
        on_gpus = total_cpus
        if gpus:
            on_gpus = total_gpus * int(1 / gpus) if gpus < 1 else int(total_gpus / gpus)  # none spans two GPUs
        cpus = config.cpus_per_trial or max(1, total_cpus // (config.concurrent or on_gpus))
        if cpus > total_cpus:
            raise ValueError(f"cpus_per_trial = {cpus}, but there are {total_cpus} CPU cores; ask for fewer")
        slots = min(on_gpus, total_cpus // cpus)
        if config.concurrent:
            slots = min(slots, config.concurrent)
        # One more than there is room for, so that no process idles between two trials.
        return cls(cpus, gpus, slots, slots + 1, total_gpus)

    def waiting(self, total_cpus: int, total_gpus: int) -> str | None:
        """Why a cluster of so many cannot run a single trial yet; Ray would wait for nodes without a word."""
        if total_cpus >= self.cpus and total_gpus >= self.gpus:
            return None
        return (
            f"waiting for nodes: a trial takes {self.cpus} CPUs and {self.gpus:g} GPUs, the cluster has {total_cpus} "
            f"and {total_gpus} so far (`ray status` on its head says why)"
        )


def of_this_machine(config: SweepConfig) -> Resources:
    """The resources of a sweep on the machine at hand, as far as this process may use it."""
    return Resources.of(config, len(os.sched_getaffinity(0)), torch.cuda.device_count())
