"""Ray's own servers die under a local sweep, alone or with all that belongs to it: the sweep ends in order."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sweep.record import RECORD, read

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "sweep" / "run.py"
FLAGS = ["--methods", "vae", "--trials", 2, "--epochs", 300, "--first-rung", 300]


@pytest.mark.parametrize("server", ["gcs_server", "raylet"])
def test_a_server_of_ray_is_killed(programs, server):
    sweep = programs.sweep(*FLAGS)
    folder = programs.folder / "sweeps" / "quick"
    sweep.until(lambda: started(folder))
    pid = min(programs.processes(f"/{server} "))  # a process that it forks has its name for a moment
    os.kill(pid, signal.SIGKILL)
    assert sweep.wait() == 1, sweep.output
    assert f"{server}, a server of Ray (process {pid}), has died (SIGKILL); stopping the sweep" in sweep.output
    ended_in_order(folder, sweep.output)
    programs.wait_for_processes()


def may_be_first() -> bool:
    """Whether programs can be started as process 1 of a namespace of their own, as in a container."""
    return subprocess.run(["unshare", "-pf", "--mount-proc", "true"], capture_output=True).returncode == 0


FIRST = f"""
import os, sys
os.execvp("unshare", ["unshare", "-pf", "--mount-proc", sys.executable, {str(SCRIPT)!r}, *sys.argv[1:]])
"""  # starts the sweep as process 1


def test_every_process_of_a_sweep_gets_sigterm(programs):
    """As from Slurm's scancel, and in a container, where the driver is process 1. The raylet gets it first: if it
    ended by it, Ray's library would exit the driver before its turn."""
    script = SCRIPT
    if may_be_first():
        script = programs.folder / "first.py"
        script.write_text(FIRST)
    sweep = programs.sweep(*FLAGS, script=script)
    folder = programs.folder / "sweeps" / "quick"
    sweep.until(lambda: started(folder))
    send_sigterm([min(programs.processes("/raylet "))])  # a process that it forks has its name for a moment
    time.sleep(1)
    send_sigterm(programs.processes("^(?!unshare )"))
    assert sweep.wait() == 130, sweep.output
    ended_in_order(folder, sweep.output)


def send_sigterm(processes: list[int]) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def started(folder: Path) -> bool:
    """Whether Ray was asked to run trials."""
    return (folder / RECORD).exists() and any(event.event == "start" for event in read(folder / RECORD))


def ended_in_order(folder: Path, output: str) -> None:
    events = read(folder / RECORD)
    assert (events[-1].event, events[-1].outcome) == ("finish", "interrupted")
    assert not [event for event in events if event.event in ("lost", "end")]
    assert (folder / "leaderboard.csv").exists() and (folder / "report.html").exists()
    assert f"Continue with:  python -m sweep resume {folder}" in output
    assert "Traceback" not in output
