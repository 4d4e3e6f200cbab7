"""How many trials run at a time and what each may use; sensible defaults found from the machine."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sweep.config import SweepConfig

TRIALS_PER_GPU = 4  # the networks of this field leave most of a modern GPU idle


Node = tuple[int, int]  # its CPUs and GPUs


@dataclass(frozen=True)
class Resources:
    cpus: int  # per trial
    gpus: float  # per trial
    slots: int  # trials at a time
    ahead: int  # trials that may be under way or waiting
    total_gpus: int

    @classmethod
    def of(cls, config: SweepConfig, nodes: Sequence[Node]) -> "Resources":
        """What a trial gets on these nodes, of which none shares a trial with another.

        Raises ValueError when a trial wants more than there is. A cluster that grows with demand shows nothing at
        first: `concurrent` then says how far it may grow.
        """
        grows = config.address is not None and config.concurrent is not None
        total_gpus = sum(gpus for _, gpus in nodes)
        if grows:
            cpus, gpus = config.cpus_per_trial or 1, config.gpus_per_trial or 0.0
            return cls(cpus, gpus, 0, 0, total_gpus).on(nodes, config.concurrent)
        largest = max((cpus for cpus, _ in nodes), default=0)
        if largest == 0:
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
        cpus = config.cpus_per_trial or _share(nodes, gpus, config.concurrent)
        if cpus > largest:
            raise ValueError(f"cpus_per_trial = {cpus}, but there are {largest} CPU cores on a node; ask for fewer")
        found = cls(cpus, gpus, 0, 0, total_gpus).on(nodes, config.concurrent)
        if found.slots == 0:
            raise ValueError(
                f"no node has both {cpus} CPU cores and {gpus:g} GPUs for a trial; ask for fewer with "
                "--cpus-per-trial or --gpus-per-trial"
            )
        # One more than there is room for, so that no process idles between two trials.
        return replace(found, ahead=found.slots + 1)

    def on(self, nodes: Sequence[Node], concurrent: int | None) -> "Resources":
        """The same for a trial, and as many trials as these nodes hold, or `concurrent` if that is less.

        One trial more may wait, so that no process idles between two; but not beyond `concurrent`, for a cluster that
        grows with demand would grow by a machine.
        """
        held = sum(_places(node, self.cpus, self.gpus) for node in nodes)
        most = concurrent or held + 1
        return replace(self, slots=min(held, most), ahead=min(held + 1, most) if held else 0)

    def waiting(self, nodes: Sequence[Node]) -> str | None:
        """Why a cluster of such nodes cannot run a single trial yet; Ray would wait for nodes without a word."""
        if any(_places(node, self.cpus, self.gpus) for node in nodes):
            return None
        has = ", ".join(f"{cpus} and {gpus}" for cpus, gpus in nodes) or "no node"
        return (
            f"waiting for nodes: a trial takes {self.cpus} CPUs and {self.gpus:g} GPUs of one node, and the nodes have "
            f"{has} so far (`ray status` on the cluster's head says why)"
        )


def _places(node: Node, cpus: int, gpus: float) -> int:
    """How many trials a node holds."""
    by_cpus = node[0] // cpus
    return min(by_cpus, node[1] * int(1 / gpus)) if gpus else by_cpus  # none spans two GPUs


def _share(nodes: Sequence[Node], gpus: float, concurrent: int | None) -> int:
    """The most CPUs that a trial can have without fewer trials at a time than there could be, or are asked for."""
    largest = max(cpus for cpus, _ in nodes)
    held = {cpus: sum(_places(node, cpus, gpus) for node in nodes) for cpus in range(1, largest + 1)}
    wanted = min(held[1], concurrent or held[1])
    return max(cpus for cpus, places in held.items() if places >= wanted)


def of_this_machine(config: SweepConfig) -> Resources:
    """The resources of a sweep on the machine at hand, as far as this process may use it."""
    return Resources.of(config, [(len(os.sched_getaffinity(0)), torch.cuda.device_count())])
