"""The nodes of a Ray cluster: is its file sound, what do they say of themselves, and which of them run trials?"""

import json
import logging
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.driver import provenance

SECONDS_TO_ANSWER = 180  # a node may have to start a Python process and import torch first
SECONDS_BETWEEN_LOOKS = 2.0
STRIKES = 2  # trials that a node spoils before it is set aside
NODE_ID = "ray.io/node-id"  # the label that Ray gives every node
COUNT_GPUS = "import torch; print(torch.cuda.device_count())"


@dataclass(frozen=True)
class Node:
    name: str
    address: str
    gpus: int  # as Ray counts them
    answer: Any  # what the question returned there; an exception where it raised one or nothing came


def ask_all(question: Callable[..., Any], *arguments: Any) -> list[Node]:
    """Calls `question(*arguments)` on every node of the cluster that we are connected to, also on full ones."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    task = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(*arguments)
        for node in alive
    ]
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=SECONDS_TO_ANSWER)
    answers = [
        _answer(ref) if ref in answered else TimeoutError(f"no answer in {SECONDS_TO_ANSWER} s") for ref in asked
    ]
    return [
        Node(node["NodeManagerHostname"], node["NodeManagerAddress"], int(node["Resources"].get("GPU", 0)), answer)
        for node, answer in zip(alive, answers, strict=True)
    ]


def _answer(ref: ray.ObjectRef[Any]) -> Any:
    try:
        return ray.get(ref)
    except Exception as error:  # of the question, of the node, or of Ray
        return error


def read_cluster(path: Path) -> dict[str, Any]:
    """A cluster file as its author wrote it. Raises ValueError if it is none, or Ray would refuse it."""
    # Imported here: not a public name of Ray, and needed for cluster files only.
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)  # it tells what it fills in
    try:
        cluster = yaml.safe_load(path.read_text())
        if not isinstance(cluster, dict) or not isinstance(cluster.get("provider"), dict):
            raise ValueError("it has no provider; cluster.yaml and cluster.local.yaml are examples")
        validate_config(prepare_config(cluster))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # of YAML, of jsonschema, of Ray's own checks, bare ones too
        raise ValueError(f"{path}: Ray would refuse it ({getattr(error, 'message', error)})") from None
    return cluster


def gpus_seen() -> int:
    """How many GPUs torch sees on this machine.

    In a process of its own: to a task that asks for none, Ray shows none.
    """
    visible = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return int(subprocess.check_output([sys.executable, "-c", COUNT_GPUS], env=visible, text=True))


def own_versions() -> dict[str, str]:
    """The versions that have to be the same on all nodes."""
    versions = provenance.versions()
    return {name: versions[name] for name in ("python", "ray", "torch")}


def fault(record: Path, sweep: str, code: str, versions: Mapping[str, str], gpus: int, files: Iterable[Path]) -> str:
    """Why this machine cannot run the trials of a sweep, in one line; empty if it can.

    gpus and files: those that it must have. code and versions: the driver's.
    """
    try:
        with record.open("rb") as file:
            opening = json.loads(file.readline())
        if opening.get("sweep") != sweep:
            return f"its {record} is of another sweep; mount the driver's folder there"
        probe = record.parent / "trials" / f".{uuid.uuid4().hex}.part"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        return f"it cannot use {record.parent} ({error})"
    if (here := provenance.code_hash()) != code:
        return f"its code is {here}, the driver's {code}; bring the same code there"
    own = own_versions()
    if other := [f"{name} {own[name]} (driver: {versions[name]})" for name in own if own[name] != versions[name]]:
        return f"it has {', '.join(other)}"
    if missing := [str(file) for file in files if not file.exists()]:
        return f"it does not see {missing[0]}, in which the driver has its images"
    if gpus and (seen := gpus_seen()) < gpus:
        return f"torch sees {seen} of its {gpus} GPUs"
    return ""


class Pool:
    """The nodes of the cluster that we are connected to, each looked at before trials are asked for its places.

    A node that `fault` finds something with, or that spoils trials where other nodes do not, is set aside for the rest
    of the sweep, and `announce` says so. `expected` are fault's first arguments.
    """

    def __init__(self, expected: tuple[Path, str, str, Mapping[str, str]], announce: Callable[[str], None], gpus: bool):
        self._gpus = gpus  # whether trials use any
        self._files: set[Path] = set()
        self._task = ray.remote(num_cpus=0, max_retries=0)(fault)
        self._expected = expected
        self._announce = announce
        self._asked: dict[str, ray.ObjectRef[Any]] = {}
        self._looked_at = 0.0
        self._nodes: dict[str, dict[str, Any]] = {}  # of those alive, by their ids
        self._strikes: Counter[str] = Counter()
        self._proven: set[str] = set()  # where trials have trained
        self.passed: set[str] = set()
        self.set_aside: dict[str, str] = {}  # id -> why

    def look(self, seconds: float = 0.0) -> bool:
        """Asks nodes that have joined, and hears those that answer within `seconds`; returns whether it looked.

        It looks every few seconds only, unless it may wait.
        """
        if not seconds and time.monotonic() - self._looked_at < SECONDS_BETWEEN_LOOKS:
            return False
        self._looked_at = time.monotonic()
        self._nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        for gone in self._asked.keys() - self._nodes.keys():
            del self._asked[gone]
        for node in self._nodes.keys() - self._asked.keys() - self.passed - self.set_aside.keys():
            there = self._task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            gpus = self._holds(node)[1] if self._gpus else 0
            self._asked[node] = there.remote(*self._expected, gpus, self._files)
        refs = list(self._asked.values())
        answered, _ = ray.wait(refs, num_returns=len(refs), timeout=seconds) if refs else ([], [])
        for node in [node for node, ref in self._asked.items() if ref in answered]:
            answer = _answer(self._asked.pop(node))
            if not answer:
                self.passed.add(node)
            elif isinstance(answer, Exception):
                self._put_aside(node, f"it cannot run our code ({_last_line(answer)})")
            else:
                self._put_aside(node, answer)
        return True

    def share(self, files: set[Path]) -> bool:
        """Whether all nodes that trials may use see these files; those that join later must see them as well."""
        task = ray.remote(num_cpus=0, max_retries=0)(_all_exist)
        there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in self._used()]
        answers = [_answer(task.options(scheduling_strategy=node).remote(files)) for node in there]
        if all(answer is True for answer in answers):
            self._files = files
            return True
        return False

    def holding(self) -> list[tuple[int, int]]:
        """CPUs and GPUs of each node that trials may use."""
        return [self._holds(node) for node in self._nodes if node in self.passed]

    def selector(self) -> dict[str, str]:
        """Ray's label selector for the nodes that have not been set aside."""
        return {NODE_ID: f"!in({','.join(sorted(self.set_aside))})"} if self.set_aside else {}

    def trained(self, node: str, stored: bool) -> None:
        """A trial has got further on a node, and could or had not yet to store something."""
        self._proven.add(node)
        if stored:
            self._strikes[node] = 0

    def is_suspect(self, node: str) -> bool:
        """Whether a trial that fails on a node before its first epoch may fail because of it."""
        return bool(node) and node not in self._proven and bool(self._proven)

    def spoilt(self, node: str, reason: str) -> None:
        """A trial has failed on a node, and not by its own fault."""
        self._strikes[node] += 1
        if self._strikes[node] >= STRIKES and self._used() - {node}:
            self._put_aside(node, reason)

    def _put_aside(self, node: str, reason: str) -> None:
        if node in self.set_aside:
            return
        self.passed.discard(node)
        self.set_aside[node] = reason
        name = self._nodes.get(node, {}).get("NodeManagerHostname", "a node")
        self._announce(f"{name} ({node[:8]}) is set aside: {reason}")

    def _used(self) -> set[str]:
        """The nodes that trials may use, without a head that has no CPUs for them."""
        return {node for node in self.passed & self._nodes.keys() if self._holds(node)[0]}

    def _holds(self, node: str) -> tuple[int, int]:
        resources = self._nodes[node]["Resources"]
        return int(resources.get("CPU", 0)), int(resources.get("GPU", 0))


def _all_exist(files: set[Path]) -> bool:
    return all(file.exists() for file in files)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
