"""Ray as the driver starts it, without starting it."""

import os
import subprocess
import sys

import ray

from sweep.driver import executor
from sweep.driver.resources import Resources

REPORT = """
import os, subprocess, sys
from sweep.driver.executor import _apart
child = [sys.executable, "-c", "import os; print(os.getpgrp())"]
with _apart():
    inside = int(subprocess.check_output(child))
print(os.getpgrp(), inside)
"""


def test_a_local_ray_is_started_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    asked = []
    monkeypatch.setattr(ray, "init", lambda *address, **settings: asked.append((address, settings)))
    monkeypatch.setattr(ray, "nodes", lambda: [])
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with executor.cluster(None, Resources(cpus=1, gpus=0.0, slots=2, ahead=3, total_gpus=0)) as nodes:
        assert nodes == []
    ((address, settings),) = asked
    assert address == ("local",) and settings["_node_ip_address"] == "127.0.0.1"


def test_a_signal_to_the_program_s_group_does_not_reach_what_is_started_apart():
    done = subprocess.run([sys.executable, "-c", REPORT], capture_output=True, text=True, check=True)
    own, inside = map(int, done.stdout.split())
    assert own == os.getpgrp() and inside != own
