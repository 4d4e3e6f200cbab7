"""Ray as the driver starts it, without starting it."""

import ipaddress
import signal
import subprocess
import sys
from threading import Event
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import ray

from sweep.driver import executor
from sweep.driver.resources import Resources
from sweep.driver.stop import Stop, Stopped
from sweep.record import RECORD, read


def test_a_local_ray_is_started_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    asked = []
    monkeypatch.setattr(ray, "init", lambda *address, **settings: asked.append((address, settings)))
    monkeypatch.setattr(ray, "nodes", lambda: [])
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with executor.cluster(None, Resources(cpus=1, gpus=0.0, slots=2, ahead=3, total_gpus=0), Stop()) as nodes:
        assert nodes == []
    ((address, settings),) = asked
    assert address == ("local",) and settings["_node_ip_address"] == "127.0.0.1"


def test_what_is_started_apart_leads_a_process_group_of_its_own():
    group = [sys.executable, "-c", "import os; print(os.getpgrp() == os.getpid())"]
    started = []
    with executor._apart(started):
        assert subprocess.check_output(group) == b"True\n"
    assert subprocess.check_output(group) == b"False\n"
    assert [process.args for process in started] == [group]


def test_the_death_of_a_server_asks_to_stop_and_ends_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("sweep.driver.stop.SECONDS_TO_HEAR", 0)
    sleeps = "#!/bin/sh\nexec sleep 1000\n"
    for name in ("raylet", "monitor"):
        (tmp_path / name).write_text(sleeps)
        (tmp_path / name).chmod(0o755)
    raylet, monitor = (subprocess.Popen([tmp_path / name]) for name in ("raylet", "monitor"))
    stop = Stop()
    with executor._watched([raylet, monitor], stop), pytest.raises(Stopped):
        raylet.terminate()
        stop.attend(Event().wait)
    assert stop.reason == f"raylet, a server of Ray (process {raylet.pid}), has died (SIGTERM)"
    assert monitor.wait() == -signal.SIGKILL


@pytest.mark.parametrize("cluster, shared, by_name", [(False, False, True), (True, True, True), (True, False, False)])
def test_images_are_sent_by_file_name_if_all_nodes_have_the_files(tmp_path, monkeypatch, cluster, shared, by_name):
    """Otherwise by value. A local Ray always has them."""
    np.save(tmp_path / "images.npy", np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    train, valid, test = (SimpleNamespace(images=part) for part in np.split(mapped, 3))
    splits = SimpleNamespace(train=train, valid=valid, test=test)
    trained_on, parts_of = lambda splits: splits.train.images, lambda dataset: {dataset: splits}
    plan = SimpleNamespace(splits={"set": splits}, parts_of=parts_of, trained_on=trained_on)
    asked, serializers = [], []
    pool = SimpleNamespace(share=lambda files: asked.append(files) or shared)
    monkeypatch.setattr(executor, "register_serializer", lambda kind, **given: serializers.append(given))
    monkeypatch.setattr(ray, "put", lambda value: value)
    assert executor._put(plan, pool if cluster else None) == {"set": (train.images, splits)}
    assert asked == ([{tmp_path / "images.npy"}] if cluster else [])
    (sent,) = [given["serializer"](valid.images) for given in serializers]
    assert isinstance(sent, np.ndarray) is not by_name
    received = serializers[0]["deserializer"](sent)
    assert isinstance(received, np.memmap) is by_name and np.array_equal(received, valid.images)


@pytest.mark.slow
def test_a_local_sweep_listens_on_the_loopback_interface_alone_and_ends_in_order_by_sigterm(programs):
    """Ray's servers run whatever they are asked to, so nobody else may reach them. The signal goes to the group that
    the driver leads, as Slurm and shells send it, so to Ray's servers too, were they in that group."""
    sweep = programs.sweep("--methods", "vae", "--epochs", "300", "--first-rung", "300")
    folder = programs.folder / "sweeps" / "quick"
    sweep.until(lambda: (folder / RECORD).exists() and any(event.event == "report" for event in read(folder / RECORD)))
    heard = set()
    for process in [psutil.Process(sweep.process.pid), *map(psutil.Process, programs.processes("ray"))]:
        heard |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert heard and all(ipaddress.ip_address(ip.removeprefix("::ffff:")).is_loopback for ip in heard), heard
    sweep.interrupt(signal.SIGTERM)
    assert sweep.wait() == 130
    assert "Continue with" in sweep.output and "Traceback" not in sweep.output
    assert read(folder / RECORD)[-1].outcome == "interrupted"
    assert (folder / "leaderboard.csv").exists()
