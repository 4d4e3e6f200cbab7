"""Tracking while things die: drivers, servers, databases. Nothing may be lost, nothing doubled.

Real processes are killed, and what is left is counted in the tables of the database itself. The moments are
drawn from seeds; FAULT_SEEDS=20 in the environment tries as many.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from sweep.record import Record, Trials, read
from sweep.tracking import Tracker, check, reconcile, track

pytestmark = pytest.mark.slow

STUDY = {"study": "vae-mnist", "method": "vae", "dataset": "mnist", "trials": 30, "epochs": 10, "metric": "valid/fcd"}
METRICS = 5
PATIENCE = 300  # seconds, which no busy machine takes


def run_sweep(record, trials, epochs, pause, first=0, waits=None):
    """The part of a driver that matters here: it appends events, and notes how long each one kept it."""

    def append(*args, **fields):
        began = time.perf_counter()
        record.append(*args, **fields)
        if waits is not None:
            waits.append(time.perf_counter() - began)

    append("sweep", sweep="s1", config={}, versions={}, machine={}, code="c", studies=[STUDY])
    for number in range(first, trials):
        trial = f"vae-mnist-{number:04d}"
        shown = {"values": {"beta": 0.1 * number}, "origin": "search", "seed": 0, "attempt": 1 + (first > 0)}
        append("start", trial=trial, study="vae-mnist", number=number, **shown)
        for epoch in range(1, epochs + 1):
            metrics = {f"train/term_{n}": epoch + n / 3 for n in range(METRICS)}
            append("report", trial=trial, rows=[{"epoch": epoch, "time": time.time(), "metrics": metrics}])
            time.sleep(pause)
        append("end", trial=trial, state="complete", epoch=epochs, reason="")
    append("finish", outcome="done")


DRIVER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_tracking_faults import Record, Tracker, run_sweep
folder, uri, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with Record(folder / "record.jsonl") as record:
    tracker = Tracker(folder, uri)
    run_sweep(record, trials=100_000, epochs=5, pause=0.03, first=first)  # until it is killed
"""


def driver(folder, uri, first=0):
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(folder), uri, str(first)])


def count(select, folder, label=""):
    """Compares the database behind `select` with the record; returns (lost, doubled) rows and runs."""
    trials = trials_of(folder)
    expected = {
        (trial.name, epoch, key)
        for trial in trials.values()
        for epoch, row in trial.rows.items()
        for key in row.metrics
    }
    trial_of = "select run_uuid, value as trial from tags where key = 'trial_id'"
    rows = select(f"select trial, step, key from metrics join ({trial_of}) as t using (run_uuid)")
    runs = select("select value, count(*) from tags where key = 'trial_id' group by value")
    lost = len(expected - set(rows)) + len(trials.keys() - {name for name, _ in runs})
    doubled = len(rows) - len(set(rows)) + sum(n - 1 for _, n in runs)
    print(f"{label}: {len(runs)} runs, {len(rows)} rows; lost {lost}, doubled {doubled}")
    assert set(rows) <= expected
    return lost, doubled


def select_from(file):
    def select(question):
        with contextlib.closing(sqlite3.connect(file)) as database:
            return database.execute(question).fetchall()

    return select


def no_run_is_open(select):
    return select("select count(*) from runs where status = 'RUNNING'") == [(0,)]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    from sweep.tracking.server import Server

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    Server(f"sqlite:///{file}", "made once", "none")
    return file


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "quick"
    folder.mkdir()
    return folder


def test_sweeps_that_begin_together_share_a_new_store(tmp_path):
    program = "import sys; from sweep.tracking.server import Server; Server(sys.argv[1], 'together', sys.argv[2])"
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    started = [
        subprocess.Popen([sys.executable, "-c", program, uri, f"s{n}"], env=os.environ | path, stderr=subprocess.PIPE)
        for n in range(3)
    ]
    assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0)] * 3
    with contextlib.closing(sqlite3.connect(tmp_path / "new" / "mlflow.db")) as database:
        named = database.execute("select count(*) from experiments where name = 'together'").fetchone()
    assert named == (1,)


@pytest.mark.parametrize("seed", range(int(os.environ.get("FAULT_SEEDS", "1"))))
def test_a_killed_driver(tmp_path, folder, empty_store, seed):
    """Killed at a random moment while it appends and tracks, resumed and killed again, then tracked by hand."""
    file = shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri, select = f"sqlite:///{file}", select_from(file)
    chance = random.Random(seed)
    for _ in range(2):
        known = Trials.from_events(read(folder / "record.jsonl")) if (folder / "record.jsonl").exists() else None
        process = driver(folder, uri, first=max(len(known.trials) - 1, 0) if known else 0)
        runs_before = len(select("select 1 from runs"))
        until(lambda: len(select("select 1 from runs")) > runs_before, process)  # noqa: B023
        time.sleep(chance.uniform(0, 3))
        process.kill()
        process.wait()
    track(folder, uri)
    assert count(select, folder, f"driver killed twice, seed {seed}") == (0, 0)
    assert no_run_is_open(select)


def trials_of(folder):
    file = folder / "record.jsonl"
    return Trials.from_events(read(file) if file.exists() else []).trials


def wait_for_more_runs(select, process):
    question = "select count(*) from runs"
    before = select(question)
    until(lambda: select(question) > before, process)


def until(condition, process=None):
    while not condition():
        assert process is None or process.poll() is None, "the process ended early"
        time.sleep(0.02)


class MlflowServer:
    """A real server on the loopback interface, which can be killed and started again."""

    def __init__(self, folder, backend):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder, self._backend, self._process = folder, backend, None

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self._backend]
        command += ["--artifacts-destination", str(self._folder / "artifacts"), "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(self._folder / "server.log", "a") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True
            )
        until(self._answers, self._process)

    def kill(self):
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # it and its workers
            self._process.wait()
            self._process = None

    def freeze(self):
        os.killpg(self._process.pid, signal.SIGSTOP)

    def _answers(self):
        with contextlib.suppress(ValueError):
            check(self.uri)
            return True
        return False


@pytest.fixture
def server(tmp_path, empty_store):
    file = shutil.copy(empty_store, tmp_path / "mlflow.db")
    server = MlflowServer(tmp_path, f"sqlite:///{file}")
    server.select = select_from(file)
    yield server
    server.kill()


def test_a_server_killed_and_restarted_in_the_middle(folder, server, capfd):
    server.start()
    with Record(folder / "record.jsonl") as record:
        tracker = Tracker(folder, server.uri)
        sweep = threading.Thread(target=run_sweep, args=(record, 30, 10, 0.05))
        sweep.start()
        until(lambda: server.select("select count(*) from runs") > [(2,)])
        server.kill()
        until(lambda: tracker.trouble)
        until(lambda: tracker.behind > 10)  # the sweep goes on without it
        server.start()
        sweep.join()
        assert tracker.close(PATIENCE) is None
    assert capfd.readouterr() == ("", "")
    assert count(server.select, folder, "server killed and restarted") == (0, 0)
    assert no_run_is_open(server.select)


def test_a_server_that_dies_for_good(folder, server):
    """The sweep ends without it; its record is sent to the server once, when it is back."""
    server.start()
    with Record(folder / "record.jsonl") as record:
        tracker = Tracker(folder, server.uri)
        run_sweep(record, trials=2, epochs=3, pause=0)
        until(lambda: not tracker.behind)
        server.kill()
        run_sweep(record, trials=10, epochs=3, pause=0, first=2)
        message = tracker.close(timeout=2)
    assert message.startswith("42 events are not yet in MLflow"), message
    with pytest.raises(ValueError, match="does not answer"):
        track(folder, server.uri)
    server.start()
    assert track(folder, server.uri).trials == 10
    assert count(server.select, folder, "server away until the end") == (0, 0)
    assert reconcile(folder, server.uri) == 0 and no_run_is_open(server.select)


def test_a_server_that_hangs_does_not_block(folder, server, monkeypatch):
    """Stopped, not killed: it takes connections and never answers."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE))
    server.start()
    with Record(folder / "record.jsonl") as record:
        tracker = Tracker(folder, server.uri)
        run_sweep(record, trials=2, epochs=3, pause=0)
        until(lambda: not tracker.behind)
        server.freeze()
        waits = []
        run_sweep(record, trials=10, epochs=3, pause=0.1, first=2, waits=waits)
        began = time.monotonic()
        message = tracker.close(timeout=2)
        waits.append(time.monotonic() - began)
    assert "not yet in MLflow" in message
    assert max(waits) < PATIENCE / 2, "the sweep has waited for the server"


def test_a_full_disk_for_the_position(tmp_path, folder, empty_store, monkeypatch):
    """The position cannot be written: the next follower starts from the beginning and doubles nothing."""
    file = shutil.copy(empty_store, tmp_path / "mlflow.db")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, Record(folder / "record.jsonl") as record:
        patch.setattr(Path, "write_text", full)
        tracker = Tracker(folder, f"sqlite:///{file}")
        run_sweep(record, trials=3, epochs=3, pause=0)
        assert tracker.close() is None
    assert not list(folder.glob("tracking-*.json"))
    assert reconcile(folder, f"sqlite:///{file}") == 0
    assert count(select_from(file), folder, "no space for the position") == (0, 0)


class Postgres:
    """A private PostgreSQL on a free loopback port, owned by the user `postgres` where we are root."""

    def __init__(self, programs):
        self._programs = programs
        self._user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if self._user:
            shutil.chown(self._folder, "postgres", "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._call("initdb", "-D", self._data, "-U", "sweep", "--auth", "trust", "--no-sync")
        self.uri = f"postgresql+psycopg2://sweep@127.0.0.1:{self._port}/postgres"

    def start(self):
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1"
        self._call("pg_ctl", "-D", self._data, "-w", "-l", self._folder / "log", "-o", options, "start")

    def kill(self):
        self._call("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def remove(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.kill()
        shutil.rmtree(self._folder)

    def select(self, question):
        import psycopg2

        with (
            contextlib.closing(
                psycopg2.connect(host="127.0.0.1", port=self._port, user="sweep", dbname="postgres")
            ) as database,
            database.cursor() as cursor,
        ):
            cursor.execute(question)
            return cursor.fetchall()

    @property
    def _data(self):
        return self._folder / "data"

    def _call(self, program, *args):
        command = [str(self._programs / program), *map(str, args)]
        subprocess.run(command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL, **self._user)


@pytest.fixture
def postgres():
    pytest.importorskip("psycopg2", reason="needs psycopg2-binary, which the sweep itself does not")
    found = [shutil.which("initdb"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    programs = [Path(program).resolve().parent for program in found if program]
    if not programs:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    database = Postgres(programs[0])
    database.start()
    yield database
    database.remove()


def test_postgresql_killed_in_the_middle(folder, postgres, capfd):
    with Record(folder / "record.jsonl") as record:
        tracker = Tracker(folder, postgres.uri)
        sweep = threading.Thread(target=run_sweep, args=(record, 20, 10, 0.05))
        sweep.start()
        until(lambda: has_tables(postgres) and postgres.select("select count(*) from runs") > [(1,)])
        postgres.kill()
        until(lambda: tracker.trouble)
        postgres.start()
        sweep.join()
        assert tracker.close(PATIENCE) is None
    track(folder, postgres.uri)
    assert capfd.readouterr() == ("", "")
    assert count(postgres.select, folder, "PostgreSQL killed in the middle") == (0, 0)
    assert no_run_is_open(postgres.select)


def has_tables(postgres):
    return postgres.select("select 1 from information_schema.tables where table_name = 'runs'")
