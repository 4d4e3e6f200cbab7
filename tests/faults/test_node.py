"""Nodes of a Ray cluster die, join late, or cannot run trials: these run elsewhere, nothing is lost or doubled.

The nodes are real ones, raylets with workers of their own, but share this machine's address; machines with their own
are rehearsed in tests/cluster. What a node sees of the disk is changed in a mount namespace, which takes root.
"""

import contextlib
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
from mischief import SURROUNDINGS as MISCHIEF

from sweep.driver.worker import SECONDS_BETWEEN_LOOKS
from sweep.record import Trials, read

pytestmark = pytest.mark.slow

DEFAULT_WORKER = Path(ray.__file__).parent / "_private" / "workers" / "default_worker.py"
TRIALS = 3
HELD = ["--methods", "mischief:Mischief", "--set", "network=mlp_8", "latent_dim=2", "mischief=none"]


DRAIN = """
import sys
import ray
from ray.scripts.scripts import cli
address, name = sys.argv[1:]
ray.init(address, log_to_driver=False)
(node,) = (node["NodeID"] for node in ray.nodes() if node["Labels"].get("name") == name)
reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "600"]
cli(["drain-node", "--address", address, "--node-id", node, *reason])
"""


class Cluster:
    """A head that trains nothing, and nodes of one CPU, on which trials of HELD stop at epoch 5 until `let_go`."""

    def __init__(self, programs):
        self._programs = programs
        self._hold = programs.folder / "hold"
        self._hold.touch()
        self.secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.secret |= MISCHIEF | {"MISCHIEF_HOLD": str(self._hold)}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self._start("head", "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")

    def add(self, name: str, before: str = "", cpus: int = 1) -> None:
        """A node; `before` is a shell command that changes what it sees of the disk."""
        labels = f"--labels=name={name}"
        self._start(name, f"--address={self.address}", f"--num-cpus={cpus}", labels, before=before)

    def drain(self, name: str) -> None:
        """As the autoscaler does after a spot warning."""
        self._programs.start("-c", DRAIN, self.address, name, **self.secret).ends_well()

    def change(self, name: str, command: str) -> None:
        """Runs a shell command in what a node sees of the disk."""
        raylet = next(pid for pid in self._processes(name) if self._is_raylet(pid))
        subprocess.run(["nsenter", "-t", str(raylet), "-m", "sh", "-c", command], check=True)

    def training(self, name: str) -> psutil.Process:
        """The process of the trial on a node."""
        raylet = next(pid for pid in self._processes(name) if self._is_raylet(pid))
        (training,) = (child for child in psutil.Process(raylet).children() if "Trainable" in child.cmdline()[0])
        return training

    @staticmethod
    def _is_raylet(pid: int) -> bool:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "raylet"

    def let_go(self) -> None:
        self._hold.unlink()

    def kill(self, name: str) -> None:
        """All processes of a node at once, as when its power fails."""
        for pid in self._processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self, name: str, *flags: str, before: str = "") -> None:
        start = ["-m", "ray.scripts.scripts", "start", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        if before:
            command = shlex.join([sys.executable, *start, *flags])
            start = [
                "-c",
                f"import os; os.execvp('unshare', ['unshare', '-m', 'sh', '-c', {f'{before} && {command}'!r}])",
            ]
            flags = ()
        self._programs.start(*start, *flags, NODE=name, **self.secret).ends_well()

    def _processes(self, name: str) -> Iterator[int]:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (process / "environ").read_bytes().split(b"\0")
                if f"NODE={name}".encode() in variables and self._programs.mark.encode() in variables:
                    yield int(process.name)


def held_on_two_nodes(programs) -> tuple:
    """A sweep, and its record, whose two trials wait on the nodes "one" and "two"."""
    cluster = Cluster(programs)
    cluster.add("one")
    cluster.add("two")
    flags = [*HELD, "--trials", TRIALS, "--concurrent", 2, "--address", cluster.address]
    sweep = programs.sweep(*flags, **cluster.secret)
    record = programs.folder / "sweeps" / "quick" / "record.jsonl"
    sweep.until(lambda: len(running(record)) == 2)
    return cluster, sweep, record


def test_a_killed_node(programs):
    cluster, sweep, record = held_on_two_nodes(programs)
    cluster.kill("two")
    cluster.let_go()
    output = sweep.ends_well()

    events = read(record)
    trials = Trials.from_events(events).trials
    (lost,) = (event for event in events if event.event == "lost")
    assert (lost.state, lost.reason) == ("preempted", "its node was lost")
    assert f"{lost.trial}" in output and "will run again" in output
    assert lost.trial in began_again(events) and began_again(events) - {lost.trial} <= promotable(events)
    assert len(trials) >= TRIALS  # more where one is stopped: what it saves pays for another
    assert trials.keys() == {f"Mischief-digits-{number:04d}" for number in range(len(trials))}
    assert {trial.state for trial in trials.values()} <= {"complete", "pruned"}
    assert trials["Mischief-digits-0000"].state == "complete"

    found = [(e.trial, row.epoch) for e in events if e.event == "report" for row in e.rows]
    assert sorted(found) == sorted((name, epoch + 1) for name, trial in trials.items() for epoch in range(trial.epoch))
    tracked = programs.rows(events[0].sweep)
    assert len(tracked) == len(set(tracked))
    assert {(trial, epoch) for trial, epoch, _ in tracked} == set(found)
    runs = {trial: outcome for trial, _, outcome in programs.runs(events[0].sweep)}
    assert runs == {None: "done"} | {name: trial.state for name, trial in trials.items()}


def test_a_trial_that_waits_for_a_node_that_is_lost(programs):
    """Its process died on the other one, where it runs again now that there is no other."""
    cluster, sweep, record = held_on_two_nodes(programs)
    cluster.training("one").kill()
    sweep.until(lambda: "its process was lost" in sweep.output)
    cluster.kill("two")
    sweep.until(lambda: "the nodes that it waited for are gone" in sweep.output)
    cluster.let_go()
    sweep.ends_well()
    assert {trial.state for trial in Trials.from_events(read(record)).trials.values()} <= {"complete", "pruned"}


def test_a_drained_node(programs):
    """Its trial saves, leaves it and continues elsewhere; no epoch is trained twice, and no process was killed."""
    cluster, sweep, record = held_on_two_nodes(programs)
    cluster.drain("two")
    sweep.until(lambda: "is excluded: Ray is draining it" in sweep.output)
    time.sleep(2 * SECONDS_BETWEEN_LOOKS)  # until the worker has noticed; the rest of a training takes no second
    cluster.let_go()
    sweep.ends_well()

    events = read(record)
    trials = Trials.from_events(events).trials
    lost = [event for event in events if event.event == "lost"]
    assert {(event.state, event.reason) for event in lost} <= {("preempted", "its node is being drained")}
    assert {trial.state for trial in trials.values()} <= {"complete", "pruned"}
    gone = {event.trial for event in lost}
    assert gone <= began_again(events) and began_again(events) - gone <= promotable(events)
    found = [(e.trial, row.epoch) for e in events if e.event == "report" for row in e.rows]
    assert len(found) == len(set(found)) and len(lost) == 1


def can_mount() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="may not make mount namespaces")
def test_nodes_that_cannot_run_trials(programs):
    """The sweep's folder is not mounted on one, cannot be written on one that joins late, and fails midway on another:
    all trials are complete, none counts as failed, each of the three is excluded, with the cause."""
    sweeps = programs.folder / "sweeps"
    sweeps.mkdir()
    cluster = Cluster(programs)
    cluster.add("good")
    cluster.add("unmounted", f"mount -t tmpfs none {sweeps}")
    sweep = programs.sweep(
        *HELD, "--trials", 5, "--keep", 5, "--concurrent", 4, "--address", cluster.address, **cluster.secret
    )
    record = sweeps / "quick" / "record.jsonl"

    def events(kind: str) -> list[dict]:
        return [event for event in read(record) if event.event == kind] if record.exists() else []

    sweep.until(lambda: events("report"))
    cluster.add("read-only", f"mount --bind {sweeps} {sweeps} && mount -o remount,bind,ro {sweeps}")
    cluster.add("late", f"mount --bind {sweeps} {sweeps}", cpus=2)
    sweep.until(lambda: are_held(record, 3))  # the late node brings two places
    # A mount over the other, which trainings hold open for writing: that one could not be made read-only.
    # It is busy, too, while a file is open for writing that was opened in between.
    read_only = f"until mount -o remount,bind,ro {sweeps} 2>/dev/null; do sleep 0.1; done"
    cluster.change("late", f"mount --bind {sweeps} {sweeps} && {read_only}")
    cluster.let_go()
    output = sweep.ends_well()

    said = [line for line in output.splitlines() if "is excluded" in line]
    assert len(said) == 3, output
    assert "cannot use" in said[0] and "No such file" in said[0]
    assert "Read-only file system" in said[1] and "Read-only file system" in said[2]
    ended = Trials.from_events(read(record)).trials
    assert {trial.state for trial in ended.values()} <= {"complete", "pruned"} and len(ended) >= 5
    assert events("lost") and all("Read-only file system" in event.reason for event in events("lost"))
    for trial in ended.values():
        if trial.state == "complete":
            assert (sweeps / "quick" / "trials" / trial.name / "model.safetensors").exists()


HASTY = """
from sweep.driver import actors, nodes, signs
nodes.SECONDS_TO_ANSWER, nodes.SECONDS_TO_NAME = 30, 5
actors.SILENT_SECONDS = signs.SILENT_SECONDS = 42
from sweep.commands.run import front_door
front_door("")
"""


@pytest.mark.skipif(not can_mount(), reason="may not make mount namespaces")
def test_a_node_on_which_no_process_starts_and_a_process_that_is_stopped(programs):
    """It joins late and Ray gives it the trial that waits: it is named and excluded, and the trial runs elsewhere.
    The process, on the other node, gives no sign of life, so it is ended, and its trial runs again."""
    script, worker = programs.folder / "hasty.py", programs.folder / "worker.py"
    script.write_text(HASTY)
    worker.write_text("import time; time.sleep(10**6)")
    cluster = Cluster(programs)
    cluster.add("good")
    flags = [*HELD, "--trials", 2, "--concurrent", 2, "--address", cluster.address]
    sweep = programs.sweep(*flags, script=script, **cluster.secret)
    record = programs.folder / "sweeps" / "quick" / "record.jsonl"
    sweep.until(lambda: running(record) and len(Trials.from_events(read(record)).trials) == 2)
    cluster.add("stuck", f"mount --bind {worker} {DEFAULT_WORKER}")
    cluster.training("good").suspend()
    sweep.until(lambda: "it has not answered in 30 s" in sweep.output and "it hung" in sweep.output)
    cluster.let_go()
    output = sweep.ends_well()

    assert "waiting up to 30 s for the check of " in output
    events = read(record)
    lost = sorted((event.state, event.reason) for event in events if event.event == "lost")
    assert lost == [
        ("preempted", "it hung: its process gave no sign of life in 0.7 minutes"),
        ("preempted", "its node does not answer"),
    ]
    assert {trial.state for trial in Trials.from_events(events).trials.values()} <= {"complete", "pruned"}


def began_again(events: list) -> set[str]:
    """The trials with more than one attempt."""
    return {name for name, trial in Trials.from_events(events).trials.items() if trial.attempt > 1}


def promotable(events: list) -> set[str]:
    """The trials that a rung has paused."""
    return {event.trial for event in events if event.event == "end" and event.state == "paused"}


def are_held(record: Path, number: int) -> bool:
    """Whether so many trials wait: one that a rung is about to stop has reported, too, and leaves its place to another,
    which opens files."""
    before = running(record)
    time.sleep(2)
    return len(before) == number and running(record) == before


def running(record: Path) -> list[str]:
    """The trials that have reported an epoch and have not ended."""
    trials = Trials.from_events(read(record)).trials.values() if record.exists() else ()
    return [trial.name for trial in trials if trial.state == "running" and trial.rows]
