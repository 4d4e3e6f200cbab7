"""The nodes of a Ray cluster: validation of cluster files, checks of nodes, and the pool that runs trials."""

import json
import logging
import os
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.driver import provenance
from sweep.driver.resources import Resources
from trainables.catalog import find
from trainables.memory import readable

SECONDS_TO_ANSWER = 180  # a node may have to start a Python process and import torch
SECONDS_TO_NAME = 30  # a node that has not answered yet
SECONDS_BETWEEN_LOOKS = 2.0
STRIKES = 2  # consecutive trials that fail because of a node before it is excluded
DRAINED = "Ray is draining it"
NODE_ID = "ray.io/node-id"  # the label that Ray sets on every node
USE_GPUS = """
import torch
for i in range(torch.cuda.device_count()):
    torch.ones(2, device=i).sum().item()
    print(torch.cuda.get_device_properties(i).total_memory)
"""


@dataclass(frozen=True)
class Node:
    name: str
    address: str
    gpus: int  # according to Ray
    answer: Any  # the result of the question there; an exception if it raised one or timed out


def ask_all(question: Callable[..., Any], *arguments: Any) -> list[Node]:
    """Call `question(*arguments)` on every node of the connected cluster, also on fully used nodes."""
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
    except Exception as error:  # raised by the question, the node or Ray
        return error


def read_cluster(path: Path) -> dict[str, Any]:
    """Read a cluster file. Raises ValueError if it is invalid or Ray would reject it."""
    # Imported here: a private module of Ray, needed for cluster files only.
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)  # it logs the defaults it fills in
    try:
        cluster = yaml.safe_load(path.read_text())
        if not isinstance(cluster, dict) or not isinstance(cluster.get("provider"), dict):
            raise ValueError("no provider; cluster.yaml and cluster.local.yaml are examples")
        validate_config(prepare_config(cluster))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # raised by YAML, jsonschema or Ray's checks, which also raise Exception
        raise ValueError(f"{path}: Ray would reject it ({getattr(error, 'message', error)})") from None
    return cluster


def gpus_seen() -> list[int]:
    """Return the bytes of each GPU that torch sees on this machine. Raises RuntimeError if it cannot compute on one.

    Uses a separate process, because Ray hides all GPUs from a task that requests none.
    """
    visible = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run([sys.executable, "-c", USE_GPUS], env=visible, text=True, capture_output=True)
    if done.returncode:
        *_, why = done.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"torch cannot compute on its GPUs ({why})")
    return [int(size) for size in done.stdout.split()]


def gpus_of_nodes() -> list[int]:
    """Return the bytes of the smallest GPU of each node of the connected cluster that has GPUs. Nodes that do not
    answer or cannot compute on theirs are left out, because their check excludes them."""
    answers = [node.answer for node in ask_all(gpus_seen) if node.gpus]
    return [min(answer) for answer in answers if isinstance(answer, list) and answer]


def own_versions() -> dict[str, str]:
    """Return the versions that must be the same on all nodes."""
    versions = provenance.versions()
    return {name: versions[name] for name in ("python", "ray", "torch")}


def fault(
    record: Path,
    sweep: str,
    code: str,
    versions: Mapping[str, str],
    methods: Iterable[str],
    step: tuple[str, int],
    gpus: int,
    files: Iterable[Path],
) -> str:
    """Return why this machine cannot run the trials of a sweep, in one line; empty if it can.

    methods, gpus and files: those that the machine must have. code and versions: the driver's. step: the study with the
    largest training step, and its bytes.
    """
    try:
        with record.open("rb") as file:
            opening = json.loads(file.readline())
        if opening.get("sweep") != sweep:
            return f"its {record} belongs to another sweep; mount the driver's folder there"
        probe = record.parent / "trials" / f".{uuid.uuid4().hex}.part"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        return f"it cannot use {record.parent} ({error})"
    if (here := provenance.code_hash()) != code:
        return f"its code is {here}, but the driver's is {code}; install the same code there"
    own = own_versions()
    if other := [f"{name} {own[name]} (driver: {versions[name]})" for name in own if own[name] != versions[name]]:
        return f"it has {', '.join(other)}"
    for method in methods:
        try:
            find(method)
        except Exception as error:  # of the method's module, which may raise anything
            return f"it cannot import {method} ({_last_line(error)})"
    if missing := [str(file) for file in files if not file.exists()]:
        return f"it lacks {missing[0]}, from which the driver reads images"
    try:
        seen = gpus_seen() if gpus else []
    except RuntimeError as error:
        return str(error)
    if len(seen) < gpus:
        return f"torch sees {len(seen)} of its {gpus} GPUs"
    study, needed = step
    if seen and needed > min(seen):
        return f"a training step of {study} takes {readable(needed)}, and its smallest GPU has {readable(min(seen))}"
    return ""


@dataclass
class _Check:
    answer: ray.ObjectRef[Any]
    begun: float
    named: bool = False  # to the user


@dataclass(frozen=True)
class _Suspicion:
    epoch: int  # of the trial when it failed
    reason: str


class Pool:
    """The nodes of the connected cluster. Each node is checked before it runs trials.

    A node is excluded for the rest of the sweep, which is announced by `announce`, if `fault` finds a problem there or
    does not answer; if trials fail on it before their first epoch, or their processes end there, that train on other
    nodes; or if it cannot store what other nodes store.

    expected: the first arguments of `fault`. resources: those of a trial.
    """

    def __init__(
        self,
        expected: tuple[Path, str, str, Mapping[str, str], Sequence[str], tuple[str, int]],
        announce: Callable[[str], None],
        resources: Resources,
    ):
        self._resources = resources
        self._files: set[Path] = set()
        self._task = ray.remote(num_cpus=0, max_retries=0)(fault)
        self._expected = expected
        self._announce = announce
        self._checks: dict[str, _Check] = {}
        self._looked_at = 0.0
        self._nodes: dict[str, dict[str, Any]] = {}  # alive nodes by id
        self._strikes: dict[str, list[str]] = defaultdict(list)  # reasons of consecutive faults of a node
        self._suspected: dict[str, dict[str, _Suspicion]] = defaultdict(dict)  # by trial and node on which it failed
        self._proven: set[str] = set()  # nodes on which trials have trained
        self._storing: set[str] = set()  # nodes that have stored results
        self.passed: set[str] = set()
        self.set_aside: dict[str, str] = {}  # id -> reason
        self.silent: set[str] = set()  # those set aside on which processes may hang

    @property
    def checking(self) -> Set[str]:
        """The nodes that have not answered their check yet."""
        return self._checks.keys()

    def look(self, seconds: float = 0.0) -> bool:
        """Start checks of new nodes and collect those that finish within `seconds`; return whether it looked.

        Without `seconds`, calls within a few seconds of the last look return False.
        """
        if not seconds and time.monotonic() - self._looked_at < SECONDS_BETWEEN_LOOKS:
            return False
        self._looked_at = time.monotonic()
        self._nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        for gone in self._checks.keys() - self._nodes.keys():
            del self._checks[gone]
        for node in self._nodes.keys() - self._checks.keys() - self.passed - self.set_aside.keys():
            there = self._task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            gpus = self._holds(node)[1] if self._resources.gpus else 0
            self._checks[node] = _Check(there.remote(*self._expected, gpus, self._files), time.monotonic())
        for node in draining() & self._nodes.keys():
            self._put_aside(node, DRAINED)
        refs = [check.answer for check in self._checks.values()]
        answered, _ = ray.wait(refs, num_returns=len(refs), timeout=seconds) if refs else ([], [])
        for node, check in list(self._checks.items()):
            if check.answer in answered:
                self._judge(node, _answer(check.answer))
            else:
                self._wait_for(node, check)
        return True

    def _judge(self, node: str, answer: Any) -> None:
        if not answer:
            del self._checks[node]
            self.passed.add(node)
        elif isinstance(answer, Exception):
            self._put_aside(node, f"it cannot run our code ({_last_line(answer)})")
        else:
            self._put_aside(node, answer)

    def _wait_for(self, node: str, check: "_Check") -> None:
        """Name a node that takes long to answer, and exclude it after `SECONDS_TO_ANSWER`."""
        seconds = time.monotonic() - check.begun
        if seconds > SECONDS_TO_ANSWER:
            self._put_silent_aside(node)
        elif seconds > SECONDS_TO_NAME and not check.named:
            check.named = True
            self._announce(f"waiting up to {SECONDS_TO_ANSWER} s for the check of {self._name(node)}")

    def share(self, files: set[Path]) -> bool:
        """Return whether all usable nodes have these files; nodes that join later must have them too. Nodes that do not
        answer are excluded."""
        task = ray.remote(num_cpus=0, max_retries=0)(_all_exist)
        asked = {
            task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(files): node
            for node in self._used()
        }
        answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=SECONDS_TO_ANSWER)
        for ref in silent:
            self._put_silent_aside(asked[ref])
        if all(_answer(ref) is True for ref in answered):
            self._files = files
            return True
        return False

    def holding(self) -> list[tuple[int, int]]:
        """Return CPUs and GPUs of each usable node."""
        return [self._holds(node) for node in self._nodes if node in self.passed]

    def trained(self, trial: str, node: str, epoch: int, stored: bool) -> None:
        """Note that a trial has trained `epoch` on a node; `stored` if it also wrote a file. A node on which it failed
        before this epoch was the cause."""
        self._proven.add(node)
        if stored:
            self._storing.add(node)
            self._strikes.pop(node, None)
        suspected = self._suspected.get(trial, {})
        for other in [other for other, suspicion in suspected.items() if suspicion.epoch < epoch]:
            reason = suspected.pop(other).reason
            if other != node:
                self._strikes[other].append(reason)
        for other in list(self._strikes):
            self._exclude_if_alone(other)

    def is_suspect(self, trial: str, node: str) -> bool:
        """Return whether the node may be the cause if a trial fails on it before its first epoch: it has trained
        nothing yet, and there is another on which this trial has not failed."""
        untried = self._used() - {node} - self._suspected.get(trial, {}).keys()
        return bool(node) and node not in self._proven and bool(untried)

    def suspect(self, trial: str, node: str, epoch: int, reason: str) -> None:
        """Note that a trial failed after `epoch` on a node that may be the cause, which shows where it runs again."""
        self._suspected[trial][node] = _Suspicion(epoch, reason)

    def avoided(self, trial: str) -> set[str]:
        """Return the nodes on which a trial must not run again: those on which it failed, if there are others."""
        failed = self._suspected.get(trial, {}).keys()
        return set(failed) if self._used() - failed else set()

    def strands(self, needs: Mapping[str, float], excluded: Collection[str]) -> bool:
        """Return whether a trial that was placed on none of the excluded nodes waits without end: no other has what it
        needs. False if trials fit on no node at all, because one may join."""
        others = self._nodes.keys() - self.set_aside.keys() - set(excluded)
        offers = [self._nodes[node]["Resources"] for node in others]
        return bool(self._used()) and not any(all(has.get(name, 0) >= n for name, n in needs.items()) for has in offers)

    def spoilt(self, node: str, reason: str) -> None:
        """Note that a trial failed on a node for a reason outside the trial."""
        self._strikes[node].append(reason)
        if node in draining():
            self._put_aside(node, DRAINED)
        else:
            self._exclude_if_alone(node)

    def _exclude_if_alone(self, node: str) -> None:
        """Exclude a node with too many strikes, unless the others have the same fault, e.g. a full disk."""
        sound = {other for other in self._used() - {node} if other in self._storing and not self._strikes.get(other)}
        if len(self._strikes.get(node, ())) >= STRIKES and sound:
            self._put_aside(node, self._strikes[node][-1])

    def _put_silent_aside(self, node: str) -> None:
        if node not in self._proven:
            self.silent.add(node)
        self._put_aside(node, f"it has not answered in {SECONDS_TO_ANSWER} s")

    def _put_aside(self, node: str, reason: str) -> None:
        if node in self.set_aside:
            return
        self._checks.pop(node, None)
        self.passed.discard(node)
        self.set_aside[node] = reason
        self._announce(f"{self._name(node)} is excluded: {reason}")

    def _name(self, node: str) -> str:
        return f"{self._nodes.get(node, {}).get('NodeManagerHostname', 'a node')} ({node[:8]})"

    def _used(self) -> set[str]:
        """Return the usable nodes that trials fit on; a head node may have no CPU for them, or no GPU."""
        return {node for node in self.passed & self._nodes.keys() if self._resources.fit_on(self._holds(node))}

    def _holds(self, node: str) -> tuple[int, int]:
        resources = self._nodes[node]["Resources"]
        return int(resources.get("CPU", 0)), int(resources.get("GPU", 0))


def draining() -> set[str]:
    """Return the ids of the nodes that Ray is about to lose, e.g. after a spot warning."""
    from ray._private.state import state  # no public function returns them

    return set(state.get_draining_nodes())


def _all_exist(files: set[Path]) -> bool:
    return all(file.exists() for file in files)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
