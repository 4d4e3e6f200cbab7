"""Rows per second into MLflow, and what an event costs the driver, beside Ray's stock callback.

    python tests/benchmarks/tracking.py [--server] [--trials 40] [--rounds 2]

The same trials (8 results of 17 metrics, 8 parameters) go into fresh experiments of one store, in turns.
Ray's MLflowLoggerCallback is called as Tune calls it, in the thread of the driver; ours only appends to the
record there, and a second thread writes. Without --server the store is a sqlite file, with it a real
`mlflow server` on the loopback interface in front of one.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

sys.path.pop(0)  # the file beside this one that is called sweep.py must not hide the package

from ray.air.integrations.mlflow import MLflowLoggerCallback

from sweep.record import Record
from sweep.tracking import Tracker
from sweep.tracking.server import Server

RESULTS, METRICS = 8, 17
STUDY = {"study": "vae-mnist", "method": "vae", "dataset": "mnist", "trials": 1, "epochs": RESULTS}
STUDY |= {"metric": "metric_0"}
VALUES = {f"hyper_{n}": 0.1 * n for n in range(8)}


class StockTrial:
    """As much of a Tune trial as the stock callback looks at."""

    config = VALUES

    def __init__(self, number: int):
        self._name = f"trial_{number:05d}"

    def __str__(self) -> str:
        return self._name


def metrics(epoch: int) -> dict[str, float]:
    return {f"metric_{n}": epoch + n / 3 for n in range(METRICS)}


def stock(uri: str, trials: int, name: str) -> tuple[float, list[float]]:
    """Seconds until all is written, and seconds of the driver for each event."""
    callback = MLflowLoggerCallback(tracking_uri=uri, experiment_name=name)
    callback.setup()
    events: list[float] = []
    began = time.perf_counter()
    for number in range(trials):
        trial = StockTrial(number)
        with timed(events):
            callback.log_trial_start(trial)
        for epoch in range(1, RESULTS + 1):
            with timed(events):
                callback.log_trial_result(epoch, trial, {"training_iteration": epoch, **metrics(epoch)})
        with timed(events):
            callback.log_trial_end(trial)
    return time.perf_counter() - began, events


def ours(uri: str, trials: int, name: str) -> tuple[float, list[float]]:
    """The same for a record with a tracker behind it."""
    events: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Record(Path(folder) / "record.jsonl") as record:
        began = time.perf_counter()
        tracker = Tracker(folder, uri, experiment=name)
        record.append("sweep", sweep=name, config={}, versions={}, machine={}, code="", studies=[STUDY])
        for number in range(trials):
            found = {"study": "vae-mnist", "number": number, "values": VALUES, "origin": "search", "seed": 0}
            trial = f"vae-mnist-{number:04d}"
            with timed(events):
                record.append("start", trial=trial, attempt=1, **found)
            for epoch in range(1, RESULTS + 1):
                row = {"epoch": epoch, "stage": "train", "time": time.time(), "metrics": metrics(epoch)}
                with timed(events):
                    record.append("report", trial=trial, rows=[row])
            with timed(events):
                record.append("end", trial=trial, state="complete", epoch=RESULTS, reason="")
        if missing := tracker.close(timeout=600):
            sys.exit(missing)
        return time.perf_counter() - began, events


@contextlib.contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - began)


@contextlib.contextmanager
def store(folder: Path, behind_server: bool) -> Iterator[str]:
    """The address of an empty store, made before anything is timed."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    Server(uri, "warm-up", "none")
    if not behind_server:
        yield uri
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", port, "--artifacts-destination", str(folder / "artifacts")]
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(address: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=2).close()
            return
        time.sleep(0.2)
    sys.exit(f"{address} does not answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", action="store_true", help="over HTTP, to a real mlflow server")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()

    rows = chosen.trials * RESULTS * METRICS
    seconds: dict[str, list[float]] = {"stock": [], "ours": []}
    per_event: dict[str, list[float]] = {"stock": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder, store(Path(folder), chosen.server) as uri:
        for turn in range(chosen.rounds):
            for name, write in (("stock", stock), ("ours", ours)):
                took, events = write(uri, chosen.trials, f"{name}-{turn}")
                seconds[name].append(took)
                per_event[name] += events
                print(f"round {turn + 1} {name:5}: {rows} rows in {took:6.2f} s, {rows / took:7.0f} rows/s")
    print(f"\n{'':5} {'rows/s':>8} {'driver, ms per event: median':>30} {'mean':>8} {'longest':>8}")
    for name, events in per_event.items():
        milliseconds = [1000 * event for event in events]
        mean = sum(milliseconds) / len(milliseconds)
        print(
            f"{name:5} {rows / median(seconds[name]):8.0f} {median(milliseconds):30.2f} {mean:8.2f} "
            f"{max(milliseconds):8.1f}"
        )
    faster = median(seconds["stock"]) / median(seconds["ours"])
    cheaper = sum(per_event["stock"]) / sum(per_event["ours"])
    print(f"ours: {faster:.1f} x the rows per second, {cheaper:.0f} x less of the driver's time")


if __name__ == "__main__":
    main()
