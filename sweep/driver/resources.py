"""Number of concurrent trials and resources per trial, with defaults that depend on the machine."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sweep.config import SweepConfig

# Shares of a GPU that a trial may take unless the configuration gives one, see `sweep.driver.shares`. The first is the
# default: the networks of these methods leave most of a modern GPU idle.
SHARES = (1 / 4, 1 / 2, 1.0)

Node = tuple[int, int]  # CPUs, GPUs


@dataclass(frozen=True)
class Resources:
    cpus: int  # per trial
    gpus: float  # per trial
    slots: int  # concurrent trials
    ahead: int  # maximum number of running and waiting trials
    total_gpus: int

    @classmethod
    def of(cls, config: SweepConfig, nodes: Sequence[Node], share: float = SHARES[0]) -> "Resources":
        """Return the resources on these nodes; a trial never spans two nodes.

        share: of a GPU per trial, where there are GPUs and the configuration gives none.

        Raises ValueError if a trial needs more than any node has. An autoscaling cluster may have no nodes at first;
        `concurrent` then limits its growth.
        """
        grows = config.address is not None and config.concurrent is not None
        total_gpus = sum(gpus for _, gpus in nodes)
        gpus = config.gpus_per_trial
        if gpus is None:
            gpus = share if total_gpus else 0.0
        if grows:
            return cls(config.cpus_per_trial or 1, gpus, 0, 0, total_gpus).on(nodes, config.concurrent)
        largest = max((cpus for cpus, _ in nodes), default=0)
        if largest == 0:
            raise ValueError(
                f"the cluster at {config.address} has no CPU for trials yet; if it is autoscaling, set its maximum "
                "number of concurrent trials with --concurrent N"
            )
        if gpus > total_gpus:
            raise ValueError(f"gpus_per_trial must be at most {total_gpus}, the number of GPUs, got {gpus:g}")
        cpus = config.cpus_per_trial or _share(nodes, gpus, config.concurrent)
        if cpus > largest:
            raise ValueError(f"cpus_per_trial must be at most {largest}, the CPU cores of a node, got {cpus}")
        found = cls(cpus, gpus, 0, 0, total_gpus).on(nodes, config.concurrent)
        if found.slots == 0:
            raise ValueError(
                f"no node has both {cpus} CPU cores and {gpus:g} GPUs for a trial; lower --cpus-per-trial or "
                "--gpus-per-trial"
            )
        # One more than the number of slots, so that no process idles between two trials.
        return replace(found, ahead=found.slots + 1)

    def on(self, nodes: Sequence[Node], concurrent: int | None) -> "Resources":
        """Return the same resources per trial with the number of slots of these nodes, at most `concurrent`.

        One more trial may wait, so that no process idles between two trials; but not beyond `concurrent`, because an
        autoscaling cluster would add a machine for it.
        """
        held = sum(_places(node, self.cpus, self.gpus) for node in nodes)
        most = concurrent or held + 1
        return replace(self, slots=min(held, most), ahead=min(held + 1, most) if held else 0)

    def fit_on(self, node: Node) -> bool:
        """Return whether a node has what a trial needs."""
        return _places(node, self.cpus, self.gpus) > 0

    def waiting(self, nodes: Sequence[Node]) -> str | None:
        """Return why these nodes cannot run any trial yet, or None; Ray would wait for nodes silently."""
        if any(map(self.fit_on, nodes)):
            return None
        has = ", ".join(f"{cpus} and {gpus}" for cpus, gpus in nodes) or "no node"
        return (
            f"waiting for nodes: a trial needs {self.cpus} CPUs and {self.gpus:g} GPUs of one node, but the nodes have "
            f"{has} so far (`ray status` on the cluster's head shows why)"
        )


def without_gpus(config: SweepConfig, nodes: Sequence[Node]) -> str | None:
    """Return that all trials will use CPUs only because no node of the cluster has a GPU, or None."""
    if config.address is None or config.gpus_per_trial is not None or any(gpus for _, gpus in nodes):
        return None
    return (
        "no node of the cluster has a GPU so far, so trials use CPUs only; if nodes with GPUs will join, set "
        f"--gpus-per-trial {SHARES[0]:g}"
    )


def _places(node: Node, cpus: int, gpus: float) -> int:
    """Return the number of trials that fit on a node."""
    by_cpus = node[0] // cpus
    return min(by_cpus, node[1] * int(1 / gpus)) if gpus else by_cpus  # a trial never spans two GPUs


def _share(nodes: Sequence[Node], gpus: float, concurrent: int | None) -> int:
    """Return the maximum CPUs per trial that still allow the possible, or requested, number of concurrent trials."""
    largest = max(cpus for cpus, _ in nodes)
    held = {cpus: sum(_places(node, cpus, gpus) for node in nodes) for cpus in range(1, largest + 1)}
    wanted = min(held[1], concurrent or held[1])
    return max(cpus for cpus, places in held.items() if places >= wanted)


def of_this_machine(config: SweepConfig, share: float = SHARES[0]) -> Resources:
    """Return the resources of a sweep on this machine, limited to the CPUs that this process may use."""
    return Resources.of(config, [(len(os.sched_getaffinity(0)), torch.cuda.device_count())], share)
