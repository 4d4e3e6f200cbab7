"""A node of a Ray cluster dies in the middle of a sweep: its trial goes on elsewhere, nothing is lost or doubled.

The nodes are real ones, raylets with workers of their own, but share this machine's disk and address; machines with
their own are rehearsed in tests/cluster.
"""

import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.record import Trials, read

pytestmark = pytest.mark.slow

TRIALS, EPOCHS = 4, 150


class Cluster:
    """A head that trains nothing, and nodes of one CPU."""

    def __init__(self, programs):
        self._programs = programs
        self.secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self._start("head", "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")

    def add(self, name: str) -> None:
        self._start(name, f"--address={self.address}", "--num-cpus=1")

    def kill(self, name: str) -> None:
        """All processes of a node at once, as when its power fails."""
        for pid in self._processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self, name: str, *flags: str) -> None:
        start = ["-m", "ray.scripts.scripts", "start", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        self._programs.start(*start, *flags, NODE=name, **self.secret).ends_well()

    def _processes(self, name: str) -> Iterator[int]:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (process / "environ").read_bytes().split(b"\0")
                if f"NODE={name}".encode() in variables and self._programs.mark.encode() in variables:
                    yield int(process.name)


def test_a_killed_node(programs):
    cluster = Cluster(programs)
    cluster.add("one")
    cluster.add("two")
    flags = ["--methods", "vae", "--trials", TRIALS, "--epochs", EPOCHS, "--first-rung", 50, "--set", "network=mlp_8"]
    sweep = programs.sweep(*flags, "latent_dim=2", "--address", cluster.address, "--concurrent", 2, **cluster.secret)
    record = programs.folder / "sweeps" / "quick" / "record.jsonl"

    def running() -> set[str]:
        trials = Trials.from_events(read(record)).trials.values() if record.exists() else ()
        return {trial.name for trial in trials if trial.state == "running" and trial.rows}

    sweep.until(lambda: len(running()) == 2)
    cluster.kill("two")
    output = sweep.ends_well()

    events = read(record)
    trials = Trials.from_events(events).trials
    (lost,) = (event for event in events if event["event"] == "lost")
    assert (lost["state"], lost["reason"]) == ("preempted", "its node was lost")
    assert f"{lost['trial']}" in output and "runs again" in output
    assert {name: trial.attempt for name, trial in trials.items() if trial.attempt > 1} == {lost["trial"]: 2}
    assert trials.keys() == {f"vae-digits-{number:04d}" for number in range(TRIALS)}
    assert {trial.state for trial in trials.values()} <= {"complete", "pruned"}
    assert trials["vae-digits-0000"].state == "complete"

    told = [(e["trial"], row["epoch"]) for e in events if e["event"] == "report" for row in e["rows"]]
    assert sorted(told) == sorted((name, epoch + 1) for name, trial in trials.items() for epoch in range(trial.epoch))
    tracked = programs.rows(events[0]["sweep"])
    assert len(tracked) == len(set(tracked))
    assert {(trial, epoch) for trial, epoch, _ in tracked} == set(told)
    runs = {trial: outcome for trial, _, outcome in programs.runs(events[0]["sweep"])}
    assert runs == {None: "done"} | {name: trial.state for name, trial in trials.items()}
